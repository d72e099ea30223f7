"""One HID device: a node that is opened, listened to, and told what to show.

The counterpart of `serial_button` for headsets and for buttons that are HID; whoever holds several devices need not
tell them apart. What a report means, and what is to be written, is the session's business (`core.handshake`).

Decisions
    Waiting. hidapi names no file descriptor, and its `close` does not wake a blocked `read`: a thread in `read` could
    only be left behind. So the descriptor that hidapi opened is looked up among the process's own, by the device number
    of the node, and the device's thread blocks in poll(2) on it and on an eventfd: no polling, and woken at once by a
    report, an unplug, `stop`, or a new deadline. `read` is called only when there is something to read.
    Opening. The node is opened once by hand before hidapi does it: that gives the errno that hidapi keeps to itself,
    and it waits for a device that is slow to wake without holding the interpreter's lock, as hidapi's `open_path` does.
    Writing. On USB a write is a transfer that may take up to five seconds, so each open device has a second thread that
    writes. It is handed reports, one for each report id, the newest; so a device that takes nothing delays neither
    itself nor another. hidapi allows one `read` beside other calls, but no `close`: the writing thread closes, last.
    A device that is stuck in a write when it should close is left to its thread.
    Acknowledgements are handed to that thread before the press is told to anybody; they leave first because whatever
    follows from the press is handed over later.
    Other programs. A write of somebody else to the node is heard of by inotify (`node_watch`), a lamp that is switched
    through the input layer by the event nodes; then all lamps are written again, boundedly (`core.rewrites`).
    Floods. Reports beyond REPORTS_PER_SECOND are left in the kernel, which keeps 63 and drops the rest.
"""

import contextlib
import errno
import logging
import os
import select
import stat
import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Protocol

from mutebridge.attached_device import AttachedDevice, DeviceError, PressLimit, group_of, remedy_by_group
from mutebridge.core.events import Device, Event
from mutebridge.core.headset_protocol import HeadsetProtocol, Session
from mutebridge.core.lights import Lights, MicLight
from mutebridge.node_watch import NodeWatch

MAX_REPORT_BYTES = 4096  # what is longer is cut: no button lies beyond
# More than any headset sends; at full speed USB carries 1000 reports a second.
REPORTS_PER_SECOND = 1000.0
REPORTS_AT_ONCE = 200.0
REPORTS_QUEUED = 64  # as many as the kernel keeps
FLOOD_PAUSE_S = 0.05
# Far beyond what fingers do.
EVENTS_PER_SECOND = 100
# How long a lost device may take to end its last write before it is left to its thread.
CLOSE_LOST_S = 0.5

_log = logging.getLogger(__name__)
_opening = threading.Lock()


class InputNodes(Protocol):
    """The device's other face, which the desktop sees; used from the threads of the device only.

    `fds` are to be waited for; `lamps_changed` reads one of them and returns whether somebody switched a lamp of the
    device, and false for good when it is gone. `keep` takes the mute key from the desktop, or gives it back.
    """

    @property
    def fds(self) -> Sequence[int]: ...
    def open(self) -> None: ...
    def lamps_changed(self, fd: int) -> bool: ...
    def keep(self, kept: bool) -> None: ...
    def close(self) -> None: ...


class Headset(AttachedDevice["_Node"]):
    """A HID device at `port`, the path of its hidraw node. `input_nodes`: None leaves the desktop alone."""

    def __init__(
        self,
        device: Device,
        port: str,
        protocol: HeadsetProtocol,
        feed: Callable[[Event], None],
        now: Callable[[], float],
        input_nodes: InputNodes | None = None,
    ) -> None:
        super().__init__(device, port, feed, now, _log)
        self.protocol = protocol
        self._input_nodes = input_nodes
        self._said_written = False
        # The session and its writer change together, under the lock; None: not open.
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._writer: _Writer | None = None
        self._last_writer: _Writer | None = None

    def show(self, lights: Lights) -> None:
        with self._lock:
            if self._session is not None and self._writer is not None and self._stop_by is None:
                self._show(self._session, self._writer, lights)

    def wait_stopped(self, timeout_s: float) -> bool:
        until = self._now() + timeout_s
        stopped = super().wait_stopped(timeout_s)
        last = self._last_writer
        return stopped and (last is None or last.finish(max(0.0, until - self._now())))

    # --- the device's thread ------------------------------------------------------------------------------------------

    def _open(self) -> "_Node":
        return _Node(self.port, self.protocol.descriptor)

    def _serve(self, node: "_Node") -> str:
        """Attach, listen, show the last lights; return why that ended."""
        self._last_writer = writer = _Writer(node, self._written, self._input_nodes, self.device.id)
        session = self.protocol.session(self.device.id)
        try:
            if self._input_nodes is not None:
                self._input_nodes.open()
            with self._lock:
                self._session, self._writer = session, writer
            self._attach()
            self._listen(node, session, writer)
        except DeviceError as error:
            lost = str(error)
        else:
            lost = "stopped"
        with self._lock:
            self._session = self._writer = None
            if self._stop_by is not None:
                self._show(session, writer, self._final)
        until = self._now() + CLOSE_LOST_S if self._stop_by is None else self._stop_by
        if not writer.finish(max(0.0, until - self._now())):
            _log.warning("%s: it takes nothing and cannot be closed", self.device.name)
        return lost

    def _listen(self, node: "_Node", session: Session, writer: "_Writer") -> None:
        flood = _Flood(self.device.name)
        noticed = False
        while self._stop_by is None:
            with self._lock:
                wake_at = session.wake_at
            now = self._now()
            paused = flood.paused_until > now
            due = [at for at in (wake_at, flood.paused_until if paused else None) if at is not None]
            inputs = self._input_nodes.fds if self._input_nodes is not None else ()
            listened = (fd for fd in (*inputs, node.watch.fd) if fd >= 0)
            fds = dict.fromkeys(listened, select.POLLIN) | {node.fd: 0 if paused else select.POLLIN}
            ready = self._bell.wait(max(0.0, min(due) - now) if due else None, fds)
            if ready.get(node.fd, 0) & (select.POLLHUP | select.POLLERR):
                raise DeviceError("unplugged")
            now = self._now()
            if wake_at is not None and now >= wake_at:
                self._deal(session.timed, writer, flood, now)
            if node.fd in ready and not paused:
                self._read(node, session, writer, flood)
            self._hear_of_lamps(ready, node, session, writer)
            self._take_new_name()
            if not noticed and (notice := getattr(session, "notice", None)) is not None:
                noticed = True
                _log.info("%s", notice)

    def _read(self, node: "_Node", session: Session, writer: "_Writer", flood: "_Flood") -> None:
        """Read what is there, and what comes while it is dealt with, of which nobody tells when it came.

        It counts as having come at once. Otherwise a busy moment here would make two presses of one that the device
        sends twice, a few ms apart.
        """
        came_at = self._now()
        while self._stop_by is None and (reports := node.read_all()):
            empty_at = self._now()
            flood.note_reports(len(reports), empty_at)
            for report in reports:
                self._deal(partial(session.report, report), writer, flood, came_at)
            if flood.paused_until > empty_at:
                return
            came_at = empty_at

    def _deal(
        self,
        ask: Callable[[float], tuple[list[Event], list[bytes]]],
        writer: "_Writer",
        flood: "_Flood",
        now: float,
    ) -> None:
        """Ask the session, hand over what it wants written, then tell what happened."""
        with self._lock:
            events, writes = ask(now)
            writer.put(writes)
        flood.note_events(len(events), now)
        for event in events:
            self._feed(event)

    def _hear_of_lamps(self, ready: Collection[int], node: "_Node", session: Session, writer: "_Writer") -> None:
        """Somebody else switched a lamp of the device: what we wrote may be gone."""
        nodes = self._input_nodes
        written = node.watch.fd in ready and node.watch.heard()
        if written:
            node.watch.deafen()  # until the lamps were written again: one that never stops writing costs no more
            if not self._said_written:
                self._said_written = True
                _log.warning(
                    "%s: another program writes to it, so its lights are written again: 'mutebridge doctor', as root,"
                    " names it",
                    self.device.name,
                )
        switched = nodes is not None and any(nodes.lamps_changed(fd) for fd in nodes.fds if fd in ready)
        if written or switched:
            with self._lock:
                writer.put(session.disturbed(self._now()))

    def _show(self, session: Session, writer: "_Writer", lights: Lights) -> None:
        before = session.wake_at
        writer.put(session.show(lights, self._now()))
        writer.keep(lights.off_hook and lights.mic is not MicLight.OFF)
        if session.wake_at != before and threading.current_thread() is not self._thread:
            self._bell.ring()

    def _written(self, report: bytes, ok: bool) -> None:
        """Hear from the writing thread what became of a report."""
        with self._lock:
            if self._session is not None:
                self._session.written(report, self._now(), ok=ok)
                if not ok and self._session.wake_at is not None:
                    self._bell.ring()


class _Writer:
    """Writes to one open device in a thread of its own, and closes it: for each report id the newest report."""

    def __init__(
        self, node: "_Node", written: Callable[[bytes, bool], None], inputs: InputNodes | None, name: str
    ) -> None:
        self._node = node
        self._written = written
        self._inputs = inputs
        self._wanted = threading.Condition()
        self._reports: dict[int, bytes] = {}
        self._keep: bool | None = None
        self._finishing = False
        self._thread = threading.Thread(target=self._run, name=f"hid lamps {name}", daemon=True)
        self._thread.start()

    def put(self, reports: Sequence[bytes]) -> None:
        """Have these written soon, in their order."""
        if reports:
            with self._wanted:
                self._reports |= {report[0]: report for report in reports}
                self._wanted.notify()

    def keep(self, kept: bool) -> None:
        """Have the mute key kept from the desktop, or given back, soon."""
        with self._wanted:
            self._keep = kept
            self._wanted.notify()

    def finish(self, timeout_s: float) -> bool:
        """Write what is left, give back the mute key and close; return whether that took no longer than `timeout_s`."""
        with self._wanted:
            self._finishing = True
            self._wanted.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while (work := self._next()) is not None:
                report, keep = work
                if report is not None:
                    self._written(report, self._node.write(report))
                if keep is not None and self._inputs is not None:
                    self._inputs.keep(keep)
        finally:
            if self._inputs is not None:
                self._inputs.close()
            self._node.close()
            # The device holds this writer: without its way back both go at once, not when garbage is collected one day.
            self._written = _nobody

    def _next(self) -> tuple[bytes | None, bool | None] | None:
        with self._wanted:
            while not self._reports and self._keep is None:
                if self._finishing:
                    return None
                self._wanted.wait()
            keep, self._keep = self._keep, None
            report_id = next(iter(self._reports), None)
            return (None if report_id is None else self._reports.pop(report_id)), keep


def _nobody(_report: bytes, _ok: bool) -> None:
    pass


class _Node:
    """An open hidraw node; DeviceError for everything that can be wrong with it."""

    def __init__(self, path: str, descriptor: bytes) -> None:
        self._device, self.fd = _open(path)
        self.watch = NodeWatch(self.fd)
        try:
            there = bytes(self._device.get_report_descriptor())
        except OSError:
            there = b""
        if there != descriptor:
            self.close()
            raise DeviceError(f"{path}: unplugged, or another device came in its place")

    def read_all(self) -> list[bytes]:
        """Return the reports that are there, in their order."""
        reports: list[bytes] = []
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        while len(reports) < REPORTS_QUEUED and poller.poll(0):
            try:
                reports.append(bytes(self._device.read(MAX_REPORT_BYTES, 1)))
            except OSError:
                raise DeviceError("unplugged") from None
        return reports

    def write(self, report: bytes) -> bool:
        """Return whether the device took it."""
        self.watch.deafen()
        try:
            return bool(self._device.write(report) == len(report))
        except (OSError, ValueError):
            return False
        finally:
            self.watch.listen()

    def close(self) -> None:
        self.watch.close()
        self._device.close()


def _open(path: str) -> tuple[Any, int]:
    """Return hidapi's device and the file descriptor it waits on."""
    import hidraw  # noqa: PLC0415 - only those who have a HID device pay for it

    first, number = _open_by_hand(path)
    try:
        with _opening:
            before = _descriptors(number)
            device = hidraw.device()
            try:
                device.open_path(os.fsencode(path))
            except OSError:
                raise DeviceError(f"{path}: unplugged, or not a HID device") from None
            new = _descriptors(number) - before
    finally:
        os.close(first)
    if len(new) != 1:
        device.close()
        raise DeviceError(f"{path}: hidapi hides its file descriptor")
    return device, new.pop()


def _open_by_hand(path: str) -> tuple[int, int]:
    """Return a file descriptor of the node and its device number; DeviceError."""
    try:
        opened = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise _explained(path, error) from None
    number = os.fstat(opened)
    if not stat.S_ISCHR(number.st_mode):
        os.close(opened)
        raise DeviceError(f"{path}: this is not a HID device", hopeless=True)
    return opened, number.st_rdev


def backend_version() -> str:
    """Return the version of hidapi, as its hidraw backend says it; ImportError says why it cannot be used."""
    import hidraw  # noqa: PLC0415

    return str(hidraw.version_str())


def check_openable(path: str) -> None:
    """DeviceError when the node cannot be opened now."""
    os.close(_open_by_hand(path)[0])


def _descriptors(device_number: int) -> set[int]:
    """Return this process's file descriptors of a device."""
    found = set()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are all that is wanted
        with contextlib.suppress(OSError):
            if os.fstat(int(name)).st_rdev == device_number:
                found.add(int(name))
    return found


def _explained(path: str, error: OSError) -> DeviceError:
    if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.ENOTDIR):
        return DeviceError(f"{path}: not plugged in", absent=True)
    if error.errno in (errno.EACCES, errno.EPERM):
        return DeviceError(f"{path}: permission denied: {remedy(path)}", forbidden=True)
    return DeviceError(f"{path}: {error.strerror}")


def remedy(path: str) -> str:
    """Say how the person gives this program the right to open `path`."""
    group = group_of(path, otherwise="root")
    if group == "root":
        return "install the udev rule for headsets, then plug the device in again"
    return remedy_by_group(group)


class _Flood:
    """Bounds what a device that never stops sending can cost."""

    def __init__(self, name: str) -> None:
        self.paused_until = float("-inf")
        self._name = name
        self._said = False
        self._left = REPORTS_AT_ONCE
        self._at = float("-inf")
        self._presses = PressLimit(EVENTS_PER_SECOND)

    def note_reports(self, count: int, now: float) -> None:
        """After too many, pause."""
        self._left = min(REPORTS_AT_ONCE, self._left + max(0.0, now - self._at) * REPORTS_PER_SECOND)
        self._at = now
        self._left -= count
        if self._left < 1:
            self.paused_until = now + FLOOD_PAUSE_S
            if not self._said:
                self._said = True
                many = f"{REPORTS_PER_SECOND:g} reports a second"
                _log.warning("%s: sends more than %s; the rest is dropped", self._name, many)

    def note_events(self, count: int, now: float) -> None:
        """DeviceError when there are more presses than any person makes."""
        if count:
            self._presses.note(count, now)
