"""The lab's own proof for serial buttons: a CDC-ACM device is a real port to the kernel, udev and pyserial."""

from collections.abc import Iterator

import hidraw
import pytest
import serial
from tests.lab.guest.firmware import PHONE_MUTE, PLAIN_HEADSET, Identity
from tests.lab.guest.gadget import UsbDevice
from tests.lab.guest.headset import VirtualHeadset
from tests.lab.guest.udev import removed

READ_S = 30


@pytest.fixture
def button() -> Iterator[UsbDevice]:
    with UsbDevice(Identity(product=0x0008, name="Virtual Button", serial="BUTTON"), acm=True) as device:
        yield device


def exchange(port_node: str, device_node: str) -> None:
    with serial.Serial(port_node, timeout=READ_S) as port, serial.Serial(device_node, timeout=READ_S) as device:
        device.write(b"press\n")
        assert port.readline() == b"press\n"
        port.write(b"muted\n")
        assert device.readline() == b"muted\n"


def test_lines_go_both_ways(button: UsbDevice) -> None:
    exchange(button.plug_serial(), button.serial_node)


def test_unplug_is_an_error_and_replug_works(button: UsbDevice) -> None:
    node = button.plug_serial()
    with serial.Serial(node, timeout=READ_S) as port, removed(node, "tty"):
        button.unplug()
        with pytest.raises(serial.SerialException):
            port.read(1)
    exchange(button.plug_serial(), button.serial_node)


def test_a_headset_and_a_button_side_by_side(button: UsbDevice) -> None:
    with (
        UsbDevice(Identity(serial="BESIDE"), hid_descriptor=PLAIN_HEADSET) as device,
        VirtualHeadset(device) as headset,
    ):
        headset.plug()
        hear_a_press(headset)
        exchange(button.plug_serial(), button.serial_node)


def test_one_composite_device_is_both() -> None:
    identity = Identity(product=0x0009, serial="BOTH")
    with UsbDevice(identity, hid_descriptor=PLAIN_HEADSET, acm=True) as device, VirtualHeadset(device) as headset:
        headset.plug()
        hear_a_press(headset)
        exchange("/dev/serial/by-id/usb-mutebridge_lab_Virtual_Headset_BOTH-if01", device.serial_node)


def hear_a_press(headset: VirtualHeadset) -> None:
    opened = hidraw.device()
    opened.open_path(headset.node.encode())
    headset.send(bytes([1, PHONE_MUTE]))
    assert opened.read(64, READ_S * 1000) == [1, PHONE_MUTE]
    opened.close()
