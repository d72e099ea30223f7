"""The lab's HID devices without USB behind them: those of the demo, with an identity of the lab."""

import itertools
import subprocess

from tests.lab.guest.firmware import Identity

from mutebridge.demo.uhid import BUS_USB, UhidDevice, UhidIdentity

_ports = itertools.count(1)


class Uhid:
    """A connection through /dev/uhid. The kernel sees a device of `bus` with this report descriptor."""

    def __init__(self, identity: Identity, descriptor: bytes, bus: int = BUS_USB) -> None:
        self.identity = identity
        self._descriptor = descriptor
        self._bus = bus
        self._wire: UhidDevice | None = None

    def plug(self) -> UhidDevice:
        subprocess.run(["modprobe", "uhid"], check=True)
        identity = UhidIdentity(**self.identity._asdict(), physical=f"lab/{next(_ports)}", bus=self._bus)
        self._wire = UhidDevice(identity, self._descriptor)
        return self._wire

    def unplug(self) -> None:
        assert self._wire
        self._wire.close()
        self._wire = None
