"""The life of one device: opened, served, opened again after trouble, stopped.

What a serial button and a headset have in common, so that whoever holds several devices need not tell them apart. Each
has one thread, blocked in the kernel. A device that is not there is no error: the thread waits, for good, until `retry`
says that something was plugged in. What fails although it is there is tried again at growing intervals.
"""

import contextlib
import grp
import logging
import os
import select
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from mutebridge.core.events import Device, DeviceAttached, DeviceDetached, Event
from mutebridge.core.lights import DARK, Lights

RETRY_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# A device that worked for so long is tried again as if for the first time.
STEADY_S = 10.0
# After so many tries a device that is not there is waited for without a clock.
RETRIES_WHILE_ABSENT = 4
# A new node belongs to root until udev's rules have run.
RETRIES_WHILE_FORBIDDEN = 2


class DeviceError(Exception):
    """A device cannot be used; the message is for people.

    `absent`: nothing is there. `forbidden`: there is no permission yet; told only if that lasts. `hopeless`: waiting
    will not mend it.
    """

    def __init__(self, message: str, *, absent: bool = False, forbidden: bool = False, hopeless: bool = False) -> None:
        super().__init__(message)
        self.absent = absent
        self.forbidden = forbidden
        self.hopeless = hopeless


class Stoppable(Protocol):
    def wait_stopped(self, timeout_s: float) -> bool: ...


Opened = TypeVar("Opened")


class AttachedDevice(ABC, Generic[Opened]):
    """A device at `port`, a path. Every public method may be called from any thread.

    `feed` is called from the device's thread with `DeviceAttached` once it is ready, its presses, and `DeviceDetached`
    when it is lost or stopped. `now` is a monotonic clock in seconds. `problem` says for people why it is not open,
    `absent` whether nothing is there. `wanted` is what `device` is to be: while the device opens, they differ.
    """

    def __init__(
        self, device: Device, port: str, feed: Callable[[Event], None], now: Callable[[], float], log: logging.Logger
    ) -> None:
        self.device = self.wanted = device
        self.port = port
        self.problem: str | None = None
        self.absent = False
        self.ready = False
        self._feed = feed
        self._now = now
        self._log = log
        self._bell = Bell()
        self._thread = threading.Thread(target=self._run, name=f"{device.kind} {device.id}", daemon=True)
        self._after: Sequence[Stoppable] = ()
        self._retry = False
        self._ready_at = 0.0
        self._stop_by: float | None = None
        self._final = DARK

    def start(self, after: Sequence[Stoppable] = ()) -> None:
        """Open the device, once those in `after`, which had the port or the name before, have let go of it."""
        self._after = after
        self._thread.start()

    @abstractmethod
    def show(self, lights: Lights) -> None:
        """Show `lights` as soon as the device takes them; never blocks. The latest call wins."""

    def update(self, device: Device) -> None:
        """Take a new name or press mode without touching the device."""
        self.wanted = device
        self._bell.ring()

    def retry(self) -> None:
        """Try now what would be tried later: something was plugged in."""
        self._retry = True
        self._bell.ring()

    def ask_to_stop(self, timeout_s: float, final: Lights = DARK) -> None:
        """Write `final`, as far as the device takes it in `timeout_s`, then close."""
        self._final = final
        self._stop_by = self._now() + timeout_s
        self._bell.ring()

    def wait_stopped(self, timeout_s: float) -> bool:
        """Return whether the device is closed; one that hangs in the kernel is left behind."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def stop(self, timeout_s: float, final: Lights = DARK) -> bool:
        """Do both; return whether the device was closed in time."""
        self.ask_to_stop(timeout_s * 0.8, final)
        return self.wait_stopped(timeout_s)

    # --- what a kind of device does, in the device's thread

    @abstractmethod
    def _open(self) -> Opened:
        """Open the port; DeviceError."""

    @abstractmethod
    def _serve(self, opened: Opened) -> str:
        """Call `_attach`, listen until `_stop_by` is set, show the last lights, close; return why that ended."""

    # --- what it may use

    def _attach(self) -> None:
        self._log.info("%s: open at %s", self.device.name, self.port)
        self.problem, self.absent = None, False
        self.ready = True
        self._ready_at = self._now()
        self._take_new_name(tell=False)
        self._feed(DeviceAttached(self.device))

    def _take_new_name(self, *, tell: bool = True) -> None:
        if (device := self.wanted) is not self.device:
            self.device = device
            if tell and self.ready:
                self._feed(DeviceAttached(device))

    # --- the thread

    def _run(self) -> None:
        try:
            self._live()
        finally:
            self._bell.close()

    def _live(self) -> None:
        for rival in self._after:
            rival.wait_stopped(RETRY_S[-1])
        self._after = ()
        failures = 0
        while self._stop_by is None:
            self._retry = False
            try:
                opened = self._open()
            except DeviceError as error:
                if not error.forbidden or failures >= RETRIES_WHILE_FORBIDDEN:
                    self._report(str(error), quietly=error.absent)
                self._wait(failures, error)
                failures += 1
                continue
            lost = self._serve(opened)
            failures = 0 if self.ready and self._now() - self._ready_at > STEADY_S else failures + 1
            if self.ready:
                self.ready = False
                self._feed(DeviceDetached(self.device.id, lost))
            if self._stop_by is None:
                self._report(lost)
                self._wait(failures, None)

    def _wait(self, failures: int, error: DeviceError | None) -> None:
        """Wait for the next try: a while, or, when only a change outside can help, for `retry`."""
        for_good = error is not None and (error.hopeless or (error.absent and failures >= RETRIES_WHILE_ABSENT))
        until = None if for_good else self._now() + RETRY_S[min(failures, len(RETRY_S) - 1)]
        while self._stop_by is None and not self._retry:
            self._take_new_name()
            left = None if until is None else until - self._now()
            if left is not None and left <= 0:
                return
            self._bell.wait(left)

    def _report(self, problem: str, *, quietly: bool = False) -> None:
        self.absent = quietly
        if problem != self.problem:
            self.problem = problem
            self._log.log(logging.INFO if quietly else logging.WARNING, "%s: %s", self.device.name, problem)


class Bell:
    """Wakes a thread that waits for file descriptors."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()  # or the number may be another file's when it is rung

    def __del__(self) -> None:
        self.close()

    def ring(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        """Nobody waits any more; ringing does nothing."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def wait(self, timeout_s: float | None, fds: Mapping[int, int] | None = None) -> dict[int, int]:
        """Return when rung, when one of `fds` is ready, or after `timeout_s`.

        `fds` has what to wait for as poll(2) has it, and so has what is returned; a hang-up is always told.
        """
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        for fd, events in (fds or {}).items():
            poller.register(fd, events)
        # Rounded up: a moment too early would only be waited for again.
        ready = dict(poller.poll(None if timeout_s is None else int(timeout_s * 1000) + 1))
        if ready.pop(self._fd, 0):
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._fd)
        return ready


class PressLimit:
    """Bounds what a device that never stops pressing can cost."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._second = float("-inf")
        self._count = 0

    def note(self, count: int, now: float) -> None:
        """DeviceError when there are more presses than any button makes."""
        if now - self._second >= 1.0:
            self._second, self._count = now, 0
        self._count += count
        if self._count > self._per_s:
            raise DeviceError(f"more than {self._per_s} presses a second: not a button, or a broken one")


def group_of(path: str, otherwise: str) -> str:
    """Return the group that a device node belongs to."""
    try:
        return grp.getgrgid(os.stat(path).st_gid).gr_name  # noqa: PTH116
    except (OSError, KeyError):
        return otherwise


def remedy_by_group(group: str) -> str:
    """Say how the person gives this program the right to open what belongs to `group`."""
    user = os.environ.get("USER") or "USER"
    return f"add the user to its group (sudo usermod -aG {group} {user}, then log in again) or install the udev rule"
