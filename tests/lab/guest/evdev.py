"""Reads and writes the event node of a virtual device, as a desktop would."""

import os
import select
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.lab.guest.waiting import DEADLINE_S, wait_until

# include/uapi/linux/input-event-codes.h
EV_KEY, EV_LED = 0x01, 0x11
KEY_MICMUTE, KEY_VOLUMEUP = 248, 115
LED_MUTE = 0x07

_EVENT = struct.Struct("=qqHHi")  # struct input_event of a 64-bit kernel


class InputEvent(NamedTuple):
    kind: int
    code: int
    value: int


class EventNode:
    """An open event node that is a sibling of a hidraw node."""

    def __init__(self, hidraw_node: str) -> None:
        device = Path("/sys/class/hidraw", Path(hidraw_node).name, "device")
        found = wait_until(lambda: sorted(device.glob("input/input*/event*")), f"an event node beside {hidraw_node}")
        self.path = f"/dev/input/{found[0].name}"
        wait_until(Path(self.path).exists, self.path)
        self._fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def next_key(self, deadline_s: float = DEADLINE_S) -> InputEvent:
        """The next key event; others are passed over."""
        overdue = time.monotonic() + deadline_s
        while select.select([self._fd], [], [], max(0.0, overdue - time.monotonic()))[0]:
            _, _, kind, code, value = _EVENT.unpack(os.read(self._fd, _EVENT.size))
            if kind == EV_KEY:
                return InputEvent(kind, code, value)
        raise TimeoutError(f"no key event on {self.path} within {deadline_s:g} s")

    def light(self, led: int, *, on: bool) -> None:
        """Set one of the device's LEDs by the kernel's input layer."""
        os.write(self._fd, _EVENT.pack(0, 0, EV_LED, led, int(on)) + _EVENT.pack(0, 0, 0, 0, 0))
