"""Plugs a headset in and out, and looks at what the service holds meanwhile.

    python3 tests/lab shell 'cd /repo && PYTHONPATH=$PYTHONPATH:daemon python3 -m tests.lab.guest.replugging 500'

installs the service in a fresh guest and does it for so many seconds. It prints what the service holds after the first
cycles, now and then, and at the end, and ends with a failure if there is more of it.

Seen once, with 1300 s: 553 cycles, 11 descriptors and 3 threads all the time. Of memory there were 18.4 MiB after 3
cycles, 0.3 MiB more after 100, the same until 420; then the allocator took 0.5 MiB at once, and nothing until the end.
"""

import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.lab.guest.desk import Desk, Model
from tests.lab.guest.firmware import Identity
from tests.lab.guest.gadget import UsbDevice
from tests.lab.guest.headset import VirtualHeadset
from tests.lab.guest.machine import configure, install
from tests.lab.guest.service_unit import main_pid
from tests.lab.guest.waiting import wait_until

from mutebridge import virtual_headset
from mutebridge.virtual_headset import PLAIN

# The first ones fill caches, and have the allocator find its size.
WARM_UP = 3
# What the allocator may still add; a cycle that kept one report descriptor would be above it in the long run.
SLACK_KIB = 1024
PRINT_EVERY = 50
LOOKS = 10


class Held(NamedTuple):
    """What a process holds: what its file descriptors are of, how many threads, and memory of its own in KiB."""

    opened: tuple[str, ...]
    threads: int
    memory_kib: int

    @classmethod
    def by(cls, pid: int) -> "Held":
        process = Path(f"/proc/{pid}")
        lines = (process / "smaps_rollup").read_text().splitlines()
        private = sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
        opened = []
        for link in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # it is closed meanwhile
                opened.append(str(link.readlink()))
        opened.sort()
        return cls(tuple(opened), len(list((process / "task").iterdir())), private)

    @classmethod
    def at_rest_by(cls, pid: int) -> "Held":
        """When the threads of the last device have ended: several looks agree."""
        seen = [cls.by(pid)]

        def agree() -> bool:
            seen.append(cls.by(pid))
            return len(seen) > LOOKS and len({(held.opened, held.threads) for held in seen[-LOOKS:]}) == 1

        wait_until(agree, "the service at rest")
        return seen[-1]

    def is_more_than(self, other: "Held") -> bool:
        return (
            len(self.opened) > len(other.opened)
            or self.threads > other.threads
            or self.memory_kib > other.memory_kib + SLACK_KIB
        )

    def __str__(self) -> str:
        return f"{len(self.opened)} descriptors, {self.threads} threads, {self.memory_kib} KiB"


def replug(desk: Desk, *, cycles: int = sys.maxsize, seconds: float = float("inf")) -> tuple[int, Held, Held]:
    """Do it so often, or for so long; returns how often, and what the service held after the warm-up and at the end."""
    pid, overdue = main_pid(), time.monotonic() + seconds
    identity, others = Identity(product=0x0004, name="Restless", serial="AGAIN"), len(desk.devices())
    done, first = 0, Held((), 0, 0)
    with (
        UsbDevice(identity, hid_descriptor=virtual_headset.descriptor(PLAIN)) as usb,
        VirtualHeadset(usb, Model(PLAIN)) as headset,
    ):
        while done < cycles and time.monotonic() < overdue:
            headset.plug()
            desk.wait_for_devices(others + 1)
            headset.unplug()
            desk.wait_for_devices(others)
            done += 1
            if done == WARM_UP:
                first = Held.at_rest_by(pid)
            if done % PRINT_EVERY == 0:
                print(f"{done}: {Held.at_rest_by(pid)}", flush=True)
    assert main_pid() == pid, "the service was restarted"
    return done, first, Held.at_rest_by(pid)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, Desk(Path(folder)) as desk:
        configure(desk)
        install()
        started = time.monotonic()
        done, first, last = replug(desk, seconds=float(sys.argv[1]))
        took_s = time.monotonic() - started
    print(f"{done} cycles in {took_s:.0f} s\nafter {WARM_UP}: {first}\nat the end: {last}")
    if last.is_more_than(first):
        print(*last.opened, sep="\n")
    return int(last.is_more_than(first))


if __name__ == "__main__":
    sys.exit(main())
