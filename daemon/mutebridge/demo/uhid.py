"""A HID device that the kernel takes for a real one, by /dev/uhid: any report descriptor, no hardware behind it.

The layout of the events is that of the kernel's include/uapi/linux/uhid.h (packed, native byte order). It needs the
module uhid and the right to open /dev/uhid, which is root's.
"""

import enum
import errno
import os
import struct
import sys

import msgspec

PATH = "/dev/uhid"
BUS_USB = 3
_DATA_MAX = 4096
_EVENT_MAX = 4380
_CREATE2 = struct.Struct(f"=I128s64s64sHHIIII{_DATA_MAX}s")
_OUTPUT = struct.Struct(f"=I{_DATA_MAX}sHB")
_GET_REPORT = struct.Struct("=IIBB")
_SET_REPORT = struct.Struct(f"=IIBBH{_DATA_MAX}s")


class _Kind(enum.IntEnum):
    DESTROY = 1
    OUTPUT = 6
    GET_REPORT = 9
    GET_REPORT_REPLY = 10
    CREATE2 = 11
    INPUT2 = 12
    SET_REPORT = 13
    SET_REPORT_REPLY = 14


class UhidIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """What the device says it is; `physical` is where it is plugged in, in the kernel's words."""

    vendor: int
    product: int
    version: int
    name: str
    physical: str
    serial: str
    bus: int = BUS_USB


class UhidDevice:
    """One device, there from now on until `close`. OSError when the kernel does not let it be."""

    def __init__(self, identity: UhidIdentity, descriptor: bytes) -> None:
        # A fixed string is cut or filled with zeros by `struct`, as the kernel wants it.
        strings = (identity.name.encode(), identity.physical.encode(), identity.serial.encode())
        numbers = (len(descriptor), identity.bus, identity.vendor, identity.product, identity.version, 0)
        self._fd = os.open(PATH, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(self._fd, _CREATE2.pack(_Kind.CREATE2, *strings, *numbers, descriptor))
        except OSError:
            os.close(self._fd)
            raise

    def fileno(self) -> int:
        """Readable when there is something to receive."""
        return self._fd

    def receive(self) -> bytes | None:
        """Return the next output report, with its id if there are ids; None if what came was something else.

        Both ways in which the host writes are one to a device: a write to hidraw, and an LED event of its own.
        """
        event = os.read(self._fd, _EVENT_MAX)
        kind = int.from_bytes(event[:4], sys.byteorder)
        if kind == _Kind.OUTPUT:
            _, data, size, _ = _OUTPUT.unpack_from(event)
            return bytes(data[:size])
        if kind == _Kind.SET_REPORT:
            _, request, _, _, size, data = _SET_REPORT.unpack_from(event)
            os.write(self._fd, struct.pack("=IIH", _Kind.SET_REPORT_REPLY, request, 0))
            return bytes(data[:size])
        if kind == _Kind.GET_REPORT:
            request = _GET_REPORT.unpack_from(event)[1]
            os.write(self._fd, struct.pack("=IIHH", _Kind.GET_REPORT_REPLY, request, errno.EIO, 0))
        return None

    def send(self, report: bytes) -> None:
        """Send an input report, with its id if there are ids."""
        os.write(self._fd, struct.pack("=IH", _Kind.INPUT2, len(report)) + report)

    def close(self) -> None:
        """Unplug it."""
        os.write(self._fd, struct.pack("=I", _Kind.DESTROY))
        os.close(self._fd)
