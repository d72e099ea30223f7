"""A serial board on a pty, and ears that wait for what is heard."""

import contextlib
import os
import queue
import select
import termios
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mutebridge.core.events import Device, Event, PressMode

DEADLINE_S = 20.0
UNOPENED_VMIN = 7


class Board:
    """A board behind a link, as udev makes one; `unplug` and `plug` as often as you like."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.master = -1
        self.plug()

    def plug(self) -> None:
        self.master, slave = os.openpty()
        # A board that has not been opened yet must not be echoed at; the odd VMIN shows whether it has been.
        tty.setraw(slave)
        attributes = termios.tcgetattr(slave)
        attributes[6][termios.VMIN] = UNOPENED_VMIN
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        waiting = self.link.with_name(self.link.name + ".new")
        waiting.symlink_to(os.ttyname(slave))
        # The far end stays open until somebody else has it: closing it before would look like an unplug.
        self._slave = slave
        waiting.rename(self.link)

    def unplug(self) -> None:
        for fd in (self.master, self._slave):
            if fd >= 0:
                os.close(fd)
        self.master = self._slave = -1
        with contextlib.suppress(FileNotFoundError):
            self.link.unlink()

    def wait_until_open(self) -> None:
        """Wait until the port is open and will not drop its input for that any more."""
        deadline = time.monotonic() + DEADLINE_S
        while termios.tcgetattr(self._slave)[6][termios.VMIN] != 1:
            assert time.monotonic() < deadline, "nobody opens it"
            os.sched_yield()

    def says(self, data: bytes) -> None:
        os.write(self.master, data)

    def shows(self, expected: bytes) -> bytes:
        """Read until `expected` has come; return everything that came."""
        seen = b""
        deadline = time.monotonic() + DEADLINE_S
        while expected not in seen:
            ready, _, _ = select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{expected!r} did not come, only {seen!r}"
            seen += os.read(self.master, 65536)
        return seen

    def is_silent(self) -> bool:
        return not select.select([self.master], [], [], 0)[0]


_E = TypeVar("_E", bound=Event)


class Ears:
    """Takes events as a bridge does, from any thread."""

    def __init__(self) -> None:
        self._heard: queue.Queue[Event] = queue.Queue()
        self.react: Callable[[Event], None] = lambda _event: None

    def __call__(self, event: Event) -> None:
        self.react(event)
        self._heard.put(event)

    def next(self) -> Event:
        return self._heard.get(timeout=DEADLINE_S)

    def wait_for(self, kind: type[_E]) -> _E:
        """Return the next event of this kind; what comes before it is dropped."""
        while True:
            event = self.next()
            if isinstance(event, kind):
                return event

    def wait_a_while(self, seconds: float) -> bool:
        """Return whether anything was heard meanwhile, and drop it."""
        try:
            self._heard.get(timeout=seconds)
        except queue.Empty:
            return False
        return True

    def heard_nothing(self) -> bool:
        return self._heard.empty()


def a_device(device_id: str = "desk", mode: PressMode = PressMode.TOGGLE) -> Device:
    return Device(id=device_id, name=device_id.title(), kind="serial", press_mode=mode)
