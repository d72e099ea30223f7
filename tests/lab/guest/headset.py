"""A virtual headset: some firmware on a wire to the host, plugged in and out.

identity = Identity(vendor=0x0B0E, product=0x24C9, serial="ONE")
with VirtualHeadset(Uhid(identity, descriptor), firmware) as headset:
    headset.plug()                             # udev has made headset.node
    headset.act(firmware.press_mute)           # whatever the model offers: it gets the time, returns reports
    assert headset.next_output() == b"..."     # what the host wrote
    headset.unplug()

with UsbDevice(identity, hid_descriptor=descriptor) as device, VirtualHeadset(device, firmware) as headset:
    ...                                        # the same, over USB
"""

import os
import queue
import select
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol, Self

from tests.lab.guest.firmware import Firmware, Identity, Silent
from tests.lab.guest.udev import UdevWatch, hid_serial, removed
from tests.lab.guest.waiting import DEADLINE_S


class Wire(Protocol):
    """The device's end of a connection that exists while it is plugged in."""

    def fileno(self) -> int:
        """Readable when there is something to receive."""

    def receive(self) -> bytes | None:
        """The next output report; None if what came was something else."""

    def send(self, report: bytes) -> None: ...


class Connection(Protocol):
    """How a device is connected: by /dev/uhid, or as a USB device."""

    identity: Identity

    def plug(self) -> Wire: ...
    def unplug(self) -> None: ...


class VirtualHeadset:
    """Usable as a context manager, which unplugs it at the end if it still is plugged in.

    `outputs` holds the output reports that the host wrote, from the moment that it was plugged in.
    """

    def __init__(self, connection: Connection, firmware: Firmware | None = None) -> None:
        self._connection = connection
        self._firmware: Firmware = firmware or Silent()
        self._lock = threading.RLock()  # over the firmware, and the order of what it sends
        self._plugged: tuple[Wire, str] | None = None
        self._stop: int | None = None
        self.outputs: queue.Queue[bytes] = queue.Queue()

    @property
    def node(self) -> str:
        """The path of the hidraw node."""
        assert self._plugged, "the headset is not plugged in"
        return self._plugged[1]

    def plug(self) -> Self:
        """Plug it in and wait until udev has made the hidraw node."""
        watch = UdevWatch("hidraw")
        self.outputs = queue.Queue()
        wire = self._connection.plug()
        listen, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._work, args=(wire, listen), name="headset")
        self._thread.start()
        serial = self._connection.identity.serial
        device = watch.wait("add", lambda node: hid_serial(node) == serial, f"hidraw node of {serial}")
        self._plugged = (wire, device.device_node)
        return self

    def unplug(self) -> None:
        """Pull it out and wait until udev has removed the hidraw node."""
        with removed(self.node, "hidraw"):
            self._pull()

    def act(self, act: Callable[[float], Iterable[bytes]]) -> None:
        """Do something to the device, as a person would; `act` gets the time and returns the reports that it sends."""
        assert self._plugged, "the headset is not plugged in"
        with self._lock:
            self._send(self._plugged[0], act(time.monotonic()))
        self._wake()

    def send(self, *reports: bytes) -> None:
        """Send input reports."""
        self.act(lambda _now: reports)

    def next_output(self, deadline_s: float = DEADLINE_S) -> bytes:
        """The next output report that the host wrote; raises `queue.Empty`."""
        return self.outputs.get(timeout=deadline_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stop is not None:
            self._pull()

    def _pull(self) -> None:
        assert self._stop is not None
        os.close(self._stop)
        self._stop = None
        self._thread.join()
        self._connection.unplug()
        self._plugged = None

    def _wake(self) -> None:
        if self._stop is not None:
            os.write(self._stop, b"w")

    def _work(self, wire: Wire, woken: int) -> None:
        """The device's own life, until its `_stop` is closed."""
        while True:
            with self._lock:
                reports, again = self._firmware.on_time(time.monotonic())
                self._send(wire, reports)
            wait_s = None if again is None else max(0.0, again - time.monotonic())
            readable, _, _ = select.select([wire.fileno(), woken], [], [], wait_s)
            if woken in readable and not os.read(woken, 64):
                os.close(woken)
                return
            if wire.fileno() in readable:
                self._take(wire.receive(), wire)

    def _take(self, report: bytes | None, wire: Wire) -> None:
        if report is None:
            return
        self.outputs.put(report)
        with self._lock:
            self._send(wire, self._firmware.on_output(report, time.monotonic()))

    def _send(self, wire: Wire, reports: Iterable[bytes]) -> None:
        for report in reports:
            wire.send(report)
