"""HID devices by the kernel's /dev/uhid: any descriptor and any bus number, without USB behind it.

The layout of the events is that of the kernel's include/uapi/linux/uhid.h (packed, native byte order).
"""

import enum
import itertools
import os
import struct
import subprocess

from tests.lab.guest.firmware import Identity

BUS_USB = 3
_DATA_MAX = 4096
_EVENT_MAX = 4380
_EIO = 5
_CREATE2 = struct.Struct(f"=I128s64s64sHHIIII{_DATA_MAX}s")
_OUTPUT = struct.Struct(f"=I{_DATA_MAX}sHB")
_GET_REPORT = struct.Struct("=IIBB")
_SET_REPORT = struct.Struct(f"=IIBBH{_DATA_MAX}s")

_ports = itertools.count(1)


class _Kind(enum.IntEnum):
    DESTROY = 1
    OUTPUT = 6
    GET_REPORT = 9
    GET_REPORT_REPLY = 10
    CREATE2 = 11
    INPUT2 = 12
    SET_REPORT = 13
    SET_REPORT_REPLY = 14


class Uhid:
    """A connection through /dev/uhid. The kernel sees a device of `bus` with this report descriptor."""

    def __init__(self, identity: Identity, descriptor: bytes, bus: int = BUS_USB) -> None:
        self.identity = identity
        self._descriptor = descriptor
        self._bus = bus
        self._wire: _UhidWire | None = None

    def plug(self) -> "_UhidWire":
        subprocess.run(["modprobe", "uhid"], check=True)
        its = self.identity
        # A fixed string is cut or filled with zeros by `struct`, as the kernel wants it.
        strings = (its.name.encode(), f"lab/{next(_ports)}".encode(), its.serial.encode())
        numbers = (len(self._descriptor), self._bus, its.vendor, its.product, its.version, 0)
        self._wire = _UhidWire(_CREATE2.pack(_Kind.CREATE2, *strings, *numbers, self._descriptor))
        return self._wire

    def unplug(self) -> None:
        assert self._wire
        self._wire.close()
        self._wire = None


class _UhidWire:
    def __init__(self, create: bytes) -> None:
        self._fd = os.open("/dev/uhid", os.O_RDWR | os.O_CLOEXEC)
        os.write(self._fd, create)

    def fileno(self) -> int:
        return self._fd

    def receive(self) -> bytes | None:
        """Both ways in which the host writes are one to a device: a write to hidraw, and an LED event of its own."""
        event = os.read(self._fd, _EVENT_MAX)
        kind = int.from_bytes(event[:4], "little")
        if kind == _Kind.OUTPUT:
            _, data, size, _ = _OUTPUT.unpack_from(event)
            return bytes(data[:size])
        if kind == _Kind.SET_REPORT:
            _, request, _, _, size, data = _SET_REPORT.unpack_from(event)
            os.write(self._fd, struct.pack("=IIH", _Kind.SET_REPORT_REPLY, request, 0))
            return bytes(data[:size])
        if kind == _Kind.GET_REPORT:
            request = _GET_REPORT.unpack_from(event)[1]
            os.write(self._fd, struct.pack("=IIHH", _Kind.GET_REPORT_REPLY, request, _EIO, 0))
        return None

    def send(self, report: bytes) -> None:
        os.write(self._fd, struct.pack("=IH", _Kind.INPUT2, len(report)) + report)

    def close(self) -> None:
        os.write(self._fd, struct.pack("=I", _Kind.DESTROY))
        os.close(self._fd)
