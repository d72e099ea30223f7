"""From a pristine system to buttons at work: the service as the README installs it, with USB devices and their drivers.

One installation serves all tests, since it takes a minute under emulation.
"""

import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial
from tests.lab.guest.desk import Desk, Model, begin_call, wait_until_agreed, wait_until_lit
from tests.lab.guest.evdev import KEY_MICMUTE, EventNode
from tests.lab.guest.firmware import Identity
from tests.lab.guest.gadget import UsbDevice
from tests.lab.guest.headset import VirtualHeadset
from tests.lab.guest.machine import administer, configure, install
from tests.lab.guest.replugging import replug
from tests.lab.guest.service_unit import said
from tests.lab.guest.waiting import wait_until

from mutebridge import virtual_headset
from mutebridge.virtual_headset import JABRA, OFF_HOOK_LED, PLAIN, PLANTRONICS, RING_LED, Firmware

pytestmark = pytest.mark.timeout(600)

# Under emulation the 3 ms between Plantronics' doubles take longer, over USB more so.
CONFIG = """
devices:
  - {id: pedal, port: /dev/serial/by-id/*Button*, profile: lines, serial: {settle_s: 0}}
  - {id: doubling, match: {vendor_id: 047f, product_id: c056}, headset: {duplicate_within_ms: 150}}
"""
BUTTON = Identity(product=0x0008, name="Virtual Button", serial="BUTTON")
CYCLES = 10


class Phones:
    """A headset as the kernel's driver for its vendor takes it."""

    def __init__(self, driver: str, vendor: int, product: int, firmware: Firmware) -> None:
        self.driver = driver
        self.identity = Identity(vendor=vendor, product=product, name="Phones", serial=driver.upper())
        self.firmware = firmware

    @property
    def descriptor(self) -> bytes:
        """With the buttons in a collection in which the kernel looks for keys."""
        return bytes.fromhex("05 0c 09 01 a1 01 05 0b") + virtual_headset.descriptor(self.firmware)[6:]


ALL_PHONES = [
    Phones("hid-generic", 0x1209, 0x0001, PLAIN),
    Phones("jabra", 0x0B0E, 0x24C9, JABRA),
    Phones("plantronics", 0x047F, 0xC056, PLANTRONICS),
]


@pytest.fixture(scope="module")
def station() -> Iterator[Desk]:
    with tempfile.TemporaryDirectory() as folder, Desk(Path(folder)) as desk:
        configure(desk, CONFIG)
        install()
        yield desk
        administer("uninstall", "--purge")


@pytest.fixture
def desk(station: Desk) -> Iterator[Desk]:
    yield station
    if station.softphone.get_state() != "disconnected":
        station.softphone.do("end")
    print(said())


def pause(seconds: float) -> None:
    """A person does nothing for so long."""
    threading.Event().wait(seconds)


@pytest.mark.parametrize("phones", ALL_PHONES, ids=lambda phones: phones.driver)
def test_a_call_with_a_headset(phones: Phones, desk: Desk) -> None:
    model, asked, told = Model(phones.firmware), desk.commands, desk.presses
    with (
        UsbDevice(phones.identity, hid_descriptor=phones.descriptor) as usb,
        VirtualHeadset(usb, model) as headset,
    ):
        headset.plug()
        assert Path("/sys/class/hidraw", Path(headset.node).name, "device/driver").resolve().name == phones.driver
        desk.wait_for_devices(1)
        desk.softphone.do("ring")
        wait_until(lambda: model.headset.lamps == RING_LED, "ringing")
        pause(2)  # a press in the moment in which the lamps are written would be taken for their echo
        headset.act(model.press)
        # Some models do not tell it.
        wait_until(lambda: desk.presses >= told + model.told, "word of the press while it rings")
        desk.softphone.do("connect")
        wait_until_agreed(desk, model, muted=False)
        assert desk.commands == asked, "a press while it rings"
        for muted in (True, False, True):
            pause(1)  # no double of the last one
            headset.act(model.press)
            wait_until_agreed(desk, model, muted)
        assert desk.commands == asked + 3

        headset.unplug()
        desk.wait_for_devices(0)
        model.headset.lamps, model.headset.muted = 0, False
        headset.plug()
        wait_until_agreed(desk, model, muted=True)
        headset.act(model.press)
        wait_until_agreed(desk, model, muted=False)

        desk.softphone.do("end")
        wait_until(lambda: model.headset.lamps == 0, "dark lamps")
    desk.wait_for_devices(0)


def test_a_serial_button_beside_a_headset_agrees(desk: Desk) -> None:
    phones = ALL_PHONES[0]
    model = Model(phones.firmware)
    with (
        UsbDevice(phones.identity, hid_descriptor=phones.descriptor) as usb,
        UsbDevice(BUTTON, acm=True) as button,
        VirtualHeadset(usb, model) as headset,
    ):
        headset.plug()
        button.plug_serial()
        with serial.Serial(button.serial_node, timeout=60) as board:
            assert "pedal" in desk.wait_for_devices(2)
            begin_call(desk)
            wait_until_agreed(desk, model, muted=False)
            board.write(b"toggle\n")
            wait_until_agreed(desk, model, muted=True)
            headset.act(model.press)
            wait_until_agreed(desk, model, muted=False)
            assert board.read_until(b"muted\n").endswith(b"muted\n")
            assert board.read_until(b"live\n").endswith(b"live\n")
    desk.wait_for_devices(0)


def test_the_desktop_sees_no_mute_key_in_a_call(desk: Desk) -> None:
    """With a vendor's driver; what the kernel makes of others by itself is in guest_headset."""
    phones = ALL_PHONES[1]
    model = Model(PLAIN)
    with (
        UsbDevice(phones.identity, hid_descriptor=phones.descriptor) as usb,
        VirtualHeadset(usb, model) as headset,
    ):
        headset.plug()
        with EventNode(headset.node) as desktop:
            desk.wait_for_devices(1)
            headset.act(model.press)
            assert [desktop.next_key().code for _ in range(2)] == [KEY_MICMUTE] * 2
            begin_call(desk)
            wait_until(lambda: model.headset.lamps == OFF_HOOK_LED, "a call that is live")
            with pytest.raises(TimeoutError):
                desktop.next_key(1.0)  # the key is taken after the lamps
            headset.act(model.press)
            wait_until_lit(model, muted=True)
            with pytest.raises(TimeoutError):
                desktop.next_key(1.0)
        headset.unplug()
        desk.wait_for_devices(0)
        model.headset.lamps, model.headset.muted = 0, False
        headset.plug()
        with EventNode(headset.node) as desktop:
            wait_until_lit(model, muted=True)
            with pytest.raises(TimeoutError):
                desktop.next_key(1.0)
            headset.act(model.press)
            wait_until_lit(model, muted=False)
            with pytest.raises(TimeoutError):
                desktop.next_key(1.0)
            desk.softphone.do("end")
            wait_until(lambda: model.headset.lamps == 0, "dark lamps")
            with pytest.raises(TimeoutError):
                desktop.next_key(1.0)
            headset.act(model.press)
            assert [desktop.next_key().code for _ in range(2)] == [KEY_MICMUTE] * 2
    desk.wait_for_devices(0)


def test_what_is_plugged_in_again_and_again_costs_nothing(desk: Desk) -> None:
    _, first, last = replug(desk, cycles=CYCLES)
    assert not last.is_more_than(first), (first, last)


def test_a_removal_takes_back_what_was_given(desk: Desk) -> None:
    phones = ALL_PHONES[0]
    with (
        UsbDevice(phones.identity, hid_descriptor=phones.descriptor) as usb,
        VirtualHeadset(usb, Model(PLAIN)) as headset,
    ):
        headset.plug()
        desk.wait_for_devices(1)
        assert os.listxattr(headset.node) == ["system.posix_acl_access"]
        administer("uninstall", "--purge")
        assert os.listxattr(headset.node) == []
    folders = ("/etc", "/opt", "/usr/local", "/var/lib", "/run/systemd")
    left = ["find", *folders, "-name", "*mutebridge*", "-not", "-name", "*-lab*"]
    assert subprocess.run(left, stdout=subprocess.PIPE, text=True, check=True).stdout == ""
