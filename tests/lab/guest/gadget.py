"""True USB devices: the kernel's gadget side and host side in one machine, joined by dummy_hcd.

The host side enumerates them over a bus with vendor, product, serial number and interfaces, so that usbhid, cdc-acm and
udev do what they do with a real device. Made as the kernel's Documentation/usb/gadget_configfs.rst describes.
"""

import itertools
import os
import select
import subprocess
from pathlib import Path
from typing import Self

from tests.lab.guest.firmware import Identity
from tests.lab.guest.udev import UdevWatch
from tests.lab.guest.waiting import wait_until

_GADGETS = Path("/sys/kernel/config/usb_gadget")
_CONTROLLERS = 4  # USB devices that can be plugged in at the same time
_SEND_S = 10.0

_names = (f"lab{number}" for number in itertools.count(1))


class UsbDevice:
    """A USB device with a HID interface, a CDC-ACM serial port, or both.

    With HID it is a connection for `VirtualHeadset`. A context manager, at the end of which it is unplugged and gone.
    `report_length` is that of the longest input report.
    """

    def __init__(
        self, identity: Identity, *, hid_descriptor: bytes | None = None, report_length: int = 64, acm: bool = False
    ) -> None:
        self.identity = identity
        self._hid_descriptor = hid_descriptor
        self._report_length = report_length
        self._folder = _GADGETS / next(_names)
        self._functions = (["hid.0"] if hid_descriptor is not None else []) + (["acm.0"] if acm else [])
        self._wire: _GadgetWire | None = None

    def __enter__(self) -> Self:
        _load_modules()
        self._describe()
        for function in self._functions:
            (self._folder / "functions" / function).mkdir()
        if self._hid_descriptor is not None:
            hid = self._folder / "functions/hid.0"
            _fill(hid, protocol="0", subclass="0", report_length=str(self._report_length))
            (hid / "report_desc").write_bytes(self._hid_descriptor)
        for function in self._functions:
            (self._folder / "configs/c.1" / function).symlink_to(self._folder / "functions" / function)
        return self

    def __exit__(self, *_: object) -> None:
        if self._plugged():
            self.unplug()
        for function in self._functions:
            (self._folder / "configs/c.1" / function).unlink()
        # Configfs wants its folders removed one by one, what is used last first.
        folders = ("configs/c.1", *(f"functions/{function}" for function in self._functions), "strings/0x409", "")
        for folder in folders:
            (self._folder / folder).rmdir()

    @property
    def serial_node(self) -> str:
        """The device's own end of its serial port."""
        return f"/dev/ttyGS{(self._folder / 'functions/acm.0/port_num').read_text().strip()}"

    def plug(self) -> "_GadgetWire":
        """Plug the device in; returns the device's end of the HID interface."""
        self.connect()
        major_minor = (self._folder / "functions/hid.0/dev").read_text().strip()
        node = f"/dev/hidg{major_minor.split(':')[1]}"
        wait_until(Path(node).exists, node)
        self._wire = _GadgetWire(node)
        return self._wire

    def plug_serial(self) -> str:
        """Plug the device in; returns the host's node of the serial port when udev has made it."""
        watch = UdevWatch("tty")
        self.connect()
        serial = self.identity.serial
        return str(
            watch.wait(
                "add", lambda tty: tty.properties.get("ID_SERIAL_SHORT") == serial, f"tty of {serial}"
            ).device_node
        )

    def connect(self) -> None:
        """Plug the device in and wait for nothing."""
        (self._folder / "UDC").write_text(_free_controller())

    def unplug(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        (self._folder / "UDC").write_text("\n")

    def _plugged(self) -> bool:
        return (self._folder / "UDC").read_text().strip() != ""

    def _describe(self) -> None:
        its = self.identity
        self._folder.mkdir()
        numbers = {"idVendor": its.vendor, "idProduct": its.product, "bcdDevice": its.version, "bcdUSB": 0x0200}
        # "Look at the interfaces": the class of a device with an interface association (USB ECN, 2003).
        numbers |= {"bDeviceClass": 0xEF, "bDeviceSubClass": 2, "bDeviceProtocol": 1}
        _fill(self._folder, **{name: f"{number:#06x}" for name, number in numbers.items()})
        strings = self._folder / "strings/0x409"
        strings.mkdir()
        _fill(strings, serialnumber=its.serial, manufacturer="mutebridge lab", product=its.name)
        (self._folder / "configs/c.1").mkdir()


class _GadgetWire:
    def __init__(self, node: str) -> None:
        self._fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        return self._fd

    def receive(self) -> bytes | None:
        return os.read(self._fd, 4096)

    def send(self, report: bytes) -> None:
        """Wait until the host has fetched the report before; it fetches only while a program has the device open."""
        if not select.select([], [self._fd], [], _SEND_S)[1]:
            raise TimeoutError("the host does not fetch input reports: does anything have the device open?")
        os.write(self._fd, report)

    def close(self) -> None:
        os.close(self._fd)


def _load_modules() -> None:
    subprocess.run(["modprobe", "dummy_hcd", f"num={_CONTROLLERS}"], check=True)
    subprocess.run(["modprobe", "--all", "libcomposite", "usb_f_hid", "usb_f_acm"], check=True)


def _free_controller() -> str:
    taken = {(gadget / "UDC").read_text().strip() for gadget in _GADGETS.iterdir()}
    return next(udc.name for udc in sorted(Path("/sys/class/udc").iterdir()) if udc.name not in taken)


def _fill(folder: Path, **values: str) -> None:
    for name, value in values.items():
        (folder / name).write_text(value)
