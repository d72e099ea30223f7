"""A headset in software that the kernel takes for a real one: to the daemon a headset like any other."""

import os
import select
import threading
import time
from collections.abc import Callable

from mutebridge.demo.uhid import UhidDevice, UhidIdentity
from mutebridge.virtual_headset import MUTE_LED, VirtualHeadset, descriptor

# Of the block that pid.codes keeps for tests.
_VENDOR, _PRODUCT = 0x1209, 0x0001


class PluggedHeadset:
    """Plugged in until `close`. OSError when this machine or this user cannot have one.

    `on_light` is called from a thread of the headset with whether its mute light is lit, whenever that changes.
    """

    def __init__(self, name: str, serial: str, on_light: Callable[[bool], None]) -> None:
        self._on_light = on_light
        self._headset = VirtualHeadset()
        self._lock = threading.Lock()  # of the headset, and of the order in which it sends
        identity = UhidIdentity(
            vendor=_VENDOR, product=_PRODUCT, version=1, name=name, physical=f"demo/{serial}", serial=serial
        )
        self._device = UhidDevice(identity, descriptor())
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._ended = False
        self._thread = threading.Thread(target=self._live, name="virtual headset", daemon=True)
        self._thread.start()

    def press(self) -> None:
        """Press the mute button."""
        with self._lock:
            self._headset.press(time.monotonic())
        self._wake()

    def close(self) -> None:
        """Unplug it, after it has shown what was written to it so far."""
        self._ended = True
        self._wake()
        self._thread.join()
        self._device.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _wake(self) -> None:
        os.write(self._wake_write, b".")

    def _live(self) -> None:
        while True:
            wait_s = self._send_due()
            readable, _, _ = select.select([self._device.fileno(), self._wake_read], [], [], wait_s)
            if self._wake_read in readable:
                os.read(self._wake_read, 4096)
            if self._device.fileno() in readable:
                self._take(self._device.receive())
            elif self._ended:
                return

    def _send_due(self) -> float | None:
        """Send what is to be sent by now; return in how many seconds there is more."""
        with self._lock:
            for report in self._headset.due(time.monotonic()):
                self._device.send(report)
            wake_at = self._headset.wake_at
        return None if wake_at is None else max(0.0, wake_at - time.monotonic())

    def _take(self, report: bytes | None) -> None:
        if report is None:
            return
        with self._lock:
            before = self._headset.lamps
            self._headset.write(report, time.monotonic())
            changed = (before ^ self._headset.lamps) & MUTE_LED
            lit = self._headset.host_muted
        if changed:
            self._on_light(lit)
