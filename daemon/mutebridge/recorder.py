"""`mutebridge record`: writes down what a headset and a person do, for a profile to be made from.

The device is found as the daemon would find it, with its configuration and profiles, and opened without the daemon.
What the person is asked goes to standard error, so that the recording itself may go to standard output.

Another program that holds the device would write to its lamps meanwhile, so one that is known to do so is named and
nothing is recorded. The kernel lets any number of programs open it: those of other users are seen only by root.
"""

import argparse
import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from mutebridge import record
from mutebridge.attached_device import DeviceError
from mutebridge.core.assignment import HIDRAW, DeviceConfig, assign
from mutebridge.core.events import Device, DeviceAttached, DeviceDetached, Event
from mutebridge.core.headset_protocol import HeadsetProtocol, Session, headset_protocol
from mutebridge.core.profiles import DeviceNode, Profile
from mutebridge.core.recording import RecordedDevice
from mutebridge.edges import hotplug
from mutebridge.edges.desktop_key import DesktopKey
from mutebridge.edges.headset import Headset, check_openable
from mutebridge.edges.processes import holders

OPEN_TIMEOUT_S = 10.0
_MAX_TYPED_BYTES = 4096


class RecorderError(Exception):
    """The recording cannot begin, or could not go on: the message is for people, `status` one of sysexits."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `main` reads."""
    parser.add_argument("device", metavar="DEVICE", help="/dev/hidrawN, or an id that `mutebridge devices` shows")
    parser.add_argument("file", metavar="FILE", help="where the recording goes; it must not exist yet; - is stdout")
    parser.add_argument("--config", type=Path, metavar="FILE", help="by default /etc/mutebridge/mutebridge.yaml")


def main(args: argparse.Namespace) -> int:
    """Record; return the exit status."""
    from mutebridge import config as configuration  # noqa: PLC0415 - with it comes the broker's library

    try:
        config = configuration.load(args.config)
        nodes = hotplug.list_nodes([HIDRAW])
        node, protocol = find(args.device, nodes, config.devices, configuration.load_profiles())
        _record(node, protocol, args.file)
    except configuration.ConfigError as error:
        return _ended(str(error), os.EX_CONFIG)
    except RecorderError as error:
        return _ended(str(error), error.status)
    return os.EX_OK


def find(
    wanted: str, nodes: Sequence[DeviceNode], configs: Sequence[DeviceConfig], profiles: Sequence[Profile]
) -> tuple[DeviceNode, HeadsetProtocol]:
    """Return the device that is meant, a path or an id, and how to speak with it. RecorderError."""
    by_id = {profile.id: profile for profile in profiles}
    fixed = {c.fixed_port: os.path.realpath(c.fixed_port) for c in configs if c.fixed_port is not None}
    made, _ = assign(configs, by_id, nodes, fixed, {})
    planned = {a.device.id: a for a in made if isinstance(a.protocol, HeadsetProtocol)}
    path = os.path.realpath(planned[wanted].port if wanted in planned else wanted)
    node = next((node for node in nodes if node.path == path), None)
    if node is None:
        there = ", ".join([node.path for node in nodes] + sorted(planned)) or "no HID device is plugged in"
        raise RecorderError(f"{wanted}: no such HID device; there is: {there}", os.EX_NOINPUT)
    mine = next((a.protocol for a in planned.values() if os.path.realpath(a.port) == path), None)
    try:
        protocol = mine if isinstance(mine, HeadsetProtocol) else headset_protocol(node, profiles)
    except ValueError as error:
        raise RecorderError(f"{path}: {error}", os.EX_DATAERR) from None
    if not protocol.does_something:
        raise RecorderError(f"{path}: nothing to record: {protocol.why['mute_button']}", os.EX_DATAERR)
    return node, protocol


def status_of(error: DeviceError) -> int:
    """Return the exit status that says why a device does not open."""
    if error.absent:
        return os.EX_NOINPUT
    return os.EX_NOPERM if error.forbidden else os.EX_UNAVAILABLE


def _record(node: DeviceNode, protocol: HeadsetProtocol, file: str) -> None:
    try:
        check_openable(node.path)
    except DeviceError as error:
        raise RecorderError(str(error), status_of(error)) from None
    if others := holders([node.path])[node.path]:
        raise RecorderError(f"{node.path}: in use by {', '.join(map(str, others))}: end that first", os.EX_TEMPFAIL)
    device = RecordedDevice.of(
        node.label[:200],
        node.report_descriptor,
        protocol.profile,
        vendor_id=node.vendor_id,
        product_id=node.product_id,
    )
    with _opened(file) as to, _Desk(node, protocol, to) as desk:
        record.lead(device, desk.connect, record.Talk(desk.lines(), _say), desk.write, time.monotonic)
        if desk.trouble is not None:
            raise desk.trouble
    _say(f"Thank you. {node.label} is recorded{'' if file == '-' else f' in {file}'}.\n")


class _OneSession(HeadsetProtocol, frozen=True, kw_only=True):
    """Speaks with the session that is given, once: a device that comes back would be another recording."""

    given: Session

    def session(self, device_id: str) -> Session:  # noqa: ARG002 - the session has its name
        return self.given


class _Desk:
    """The device, the file and the person's keyboard; whichever of them fails ends what the person types."""

    def __init__(self, node: DeviceNode, protocol: HeadsetProtocol, to: BinaryIO) -> None:
        self.trouble: RecorderError | None = None
        self._node = node
        self._protocol = protocol
        self._to = to
        self._ready = threading.Event()
        self._end_read, self._end_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> "_Desk":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._end_read)
        os.close(self._end_write)

    def connect(self, session: Session, feed: record.Feed) -> Headset:
        """Open the device; RecorderError when it does not open."""
        fields = {name: getattr(self._protocol, name) for name in HeadsetProtocol.__struct_fields__}
        protocol = _OneSession(**fields, given=session)
        device = Device(id=self._node.path, name=self._node.label, kind="hid", can=protocol.can)

        def heard(event: Event) -> None:
            match event:
                case DeviceAttached():
                    self._ready.set()
                case DeviceDetached():
                    self._fail(event.reason, os.EX_UNAVAILABLE)
                case _:
                    feed(event)

        key = DesktopKey(self._node.path)
        headset = Headset(device, self._node.path, protocol, heard, time.monotonic, key)
        headset.start()
        if not self._ready.wait(OPEN_TIMEOUT_S):
            headset.stop(0)
            raise RecorderError(headset.problem or f"{self._node.path}: does not open", os.EX_UNAVAILABLE)
        return headset

    def write(self, data: bytes) -> None:
        """Take a part of the file; a full disk ends the recording."""
        try:
            self._to.write(data)
            self._to.flush()
        except OSError as error:
            self._fail(f"the recording cannot be written: {error.strerror}", os.EX_CANTCREAT)

    def lines(self) -> Iterator[str]:
        """What the person types, until the end of the input or until something fails."""
        rest = b""
        keyboard = sys.stdin.fileno()
        while self.trouble is None:
            readable, _, _ = select.select([keyboard, self._end_read], [], [])
            if self._end_read in readable:
                return
            typed = os.read(keyboard, _MAX_TYPED_BYTES)
            if not typed:
                self.trouble = RecorderError("the recording ends early: nothing more is typed", os.EX_OK)
                return
            *lines, rest = (rest + typed)[-_MAX_TYPED_BYTES:].split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)

    def _fail(self, message: str, status: int) -> None:
        if self.trouble is None and message != "stopped":
            self.trouble = RecorderError(f"the recording ends early: {message}", status)
        with contextlib.suppress(OSError):
            os.write(self._end_write, b".")


@contextlib.contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdout.buffer
        return
    try:
        opened = open(file, "xb")  # noqa: PTH123, SIM115 - a path may be anything here
    except OSError as error:
        raise RecorderError(f"{file}: cannot be written: {error.strerror}", os.EX_CANTCREAT) from None
    with opened:
        yield opened


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _ended(message: str, status: int) -> int:
    _say(f"mutebridge record: {message}\n")
    return status
