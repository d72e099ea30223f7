"""What attached devices cost: the daemon at rest with none of them, with serial buttons, with headsets, with both.

The headsets are HID devices to the kernel, hidraw and event nodes included, made through /dev/uhid; where this machine
has none, all of it runs in the tests' virtual machine. Times mean nothing there, but wake-ups count all the same.
"""

import contextlib
import os
import pty
import tempfile
import threading
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from tests.bench.idle_cost import IdleCost, cost_since, snapshot
from tests.bench.private_broker import BenchError
from tests.bench.table import aligned

UHID = Path("/dev/uhid")
_THREE = 3
_IN_GUEST_TIMEOUT_S = 1200.0
_IN_GUEST = """\
modprobe uhid && cd /repo && PYTHONPATH=/repo:/repo/daemon:$PYTHONPATH python3 -c '
import sys
from tests.bench.attached import measure_in_this_guest
measure_in_this_guest(sys.argv[1])
' '{plan}'
"""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How long nothing happens before it is measured, and how long it is measured."""

    settle_s: float
    settle_in_call_s: float
    idle_s: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The cost at rest, and in a call with a mic state every 5 s, with these devices attached."""

    title: str
    devices: int
    idle: IdleCost
    in_call: IdleCost


def measure(plan: Plan, say: Callable[[str], None]) -> list[Row]:
    """Measure here if this machine can have HID devices, else in the virtual machine; BenchError."""
    if os.access(UHID, os.R_OK | os.W_OK):
        return _measure_here(plan, say)
    return _measure_in_guest(plan, say)


def as_text(rows: Sequence[Row]) -> str:
    upper = ["", "", "idle", "idle", "in a call", "RSS", "PSS", ""]
    lower = ["mutebridge run with", "devices", "wake-ups/s", "CPU s/h", "wake-ups/s", "MiB", "MiB", "threads"]
    body = [
        [
            row.title,
            str(row.devices),
            f"{row.idle.wake_ups_per_s:.3f}",
            f"{row.idle.cpu_s_per_h:.2f}",
            f"{row.in_call.wake_ups_per_s:.2f}",
            f"{row.idle.rss_mib:.1f}",
            f"{row.idle.pss_mib:.1f}",
            str(row.idle.threads),
        ]
        for row in rows
    ]
    lines = aligned([upper, lower, *body])
    lines.insert(2, "-" * max(map(len, lines)))
    none, most = rows[0].idle.wake_ups_per_s, max(row.idle.wake_ups_per_s for row in rows)
    return "\n".join([*lines, "", f"attached devices add {max(0.0, most - none):.3f} wake-ups/s at rest"])


# --- here


def _measure_here(plan: Plan, say: Callable[[str], None]) -> list[Row]:
    rows = []
    for title, buttons, headsets in (
        ("no device", 0, 0),
        ("three headsets", 0, _THREE),
        ("three serial buttons more", _THREE, _THREE),
    ):
        say(f"{title}, twice {plan.idle_s:g} s ...")
        with tempfile.TemporaryDirectory(prefix="mutebridge-bench-") as folder:
            idle, in_call = _cost(Path(folder), buttons, headsets, plan)
        rows.append(Row(title=title, devices=buttons + headsets, idle=idle, in_call=in_call))
    return rows


def _cost(folder: Path, buttons: int, headsets: int, plan: Plan) -> tuple[IdleCost, IdleCost]:
    # Only there are the modules of the lab's guest whole: on a machine with udev.
    from tests.lab.guest.desk import Daemon, Desk  # noqa: PLC0415

    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(_pty()) for _ in range(buttons)]
        for number in range(headsets):
            stack.enter_context(_headset(number))
        devices = "".join(
            f"  - {{id: button-{number}, port: {port}, profile: lines}}\n" for number, port in enumerate(ports)
        )
        desk = stack.enter_context(Desk(folder))
        daemon = stack.enter_context(Daemon(desk, f"devices:\n{devices}" if devices else ""))
        daemon.wait_for_log("broker .*: up")
        desk.wait_for_devices(buttons + headsets)
        idle = _rest(daemon.process.pid, plan.settle_s, plan.idle_s)
        desk.softphone.do("ring")
        desk.softphone.do("connect")
        return idle, _rest(daemon.process.pid, plan.settle_in_call_s, plan.idle_s)


def _rest(pid: int, settle_s: float, idle_s: float) -> IdleCost:
    nothing = threading.Event()
    nothing.wait(settle_s)
    before = snapshot(pid)
    nothing.wait(idle_s)
    return cost_since(before, pid)


@contextlib.contextmanager
def _pty() -> Iterator[str]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        yield os.ttyname(slave)
    finally:
        os.close(master)
        os.close(slave)


@contextlib.contextmanager
def _headset(number: int) -> Iterator[None]:
    from tests.lab.guest.desk import Model  # noqa: PLC0415
    from tests.lab.guest.firmware import Identity  # noqa: PLC0415
    from tests.lab.guest.headset import VirtualHeadset  # noqa: PLC0415
    from tests.lab.guest.uhid import Uhid  # noqa: PLC0415

    from mutebridge.virtual_headset import JABRA, descriptor  # noqa: PLC0415

    identity = Identity(vendor=0x0B0E, product=0x1000 + number, name=f"Phones {number}", serial=f"BENCH-{number}")
    with VirtualHeadset(Uhid(identity, descriptor(JABRA)), Model(JABRA)) as headset:
        headset.plug()
        yield


# --- in the virtual machine


def _measure_in_guest(plan: Plan, say: Callable[[str], None]) -> list[Row]:
    from tests.lab import vm  # noqa: PLC0415
    from tests.lab.prerequisites import PrerequisiteError  # noqa: PLC0415

    say(f"{UHID} cannot be used here: measuring in the virtual machine of tests/lab ...")
    begun = time.monotonic()
    try:
        guest = vm.starter(say)(False)
    except PrerequisiteError as missing:
        raise BenchError(f"no {UHID} here, and the virtual machine cannot run: {missing}") from None
    try:
        given = msgspec.json.encode(plan).decode()
        status, written = guest.agent.shell(_IN_GUEST.format(plan=given), timeout_s=_IN_GUEST_TIMEOUT_S)
    finally:
        guest.close()
    if status:
        raise BenchError(f"in the virtual machine, after {time.monotonic() - begun:.0f} s:\n{written[-2000:]}")
    return msgspec.json.decode(written.splitlines()[-1], type=list[Row])


def measure_in_this_guest(plan: str) -> None:
    """Print the rows of a plan as JSON, in the last line."""
    rows = _measure_here(msgspec.json.decode(plan, type=Plan), print)
    print(msgspec.json.encode(rows).decode())
