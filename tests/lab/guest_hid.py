"""The lab's own proof for HID: what the rest is tested with is a real device to the kernel, udev and hidapi."""

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import hidraw
import pytest
from tests.lab.guest.evdev import KEY_MICMUTE, LED_MUTE, EventNode
from tests.lab.guest.firmware import LED_MUTE as LED_MUTE_BIT
from tests.lab.guest.firmware import LED_OFF_HOOK, PHONE_MUTE, PLAIN_HEADSET, Identity
from tests.lab.guest.gadget import UsbDevice
from tests.lab.guest.headset import VirtualHeadset
from tests.lab.guest.uhid import Uhid

BLOCKED_READ_MS = 60_000


@pytest.fixture(scope="module", params=["uhid", "usb"])
def headset(request: pytest.FixtureRequest) -> Iterator[VirtualHeadset]:
    """The same headset over both connections; every test leaves it plugged in."""
    identity = Identity(serial=f"PROOF-{request.param}", product=0x0007)
    if request.param == "uhid":
        with VirtualHeadset(Uhid(identity, PLAIN_HEADSET)) as headset:
            yield headset.plug()
    else:
        with UsbDevice(identity, hid_descriptor=PLAIN_HEADSET) as device, VirtualHeadset(device) as headset:
            yield headset.plug()


@pytest.fixture
def opened(headset: VirtualHeadset) -> Iterator[hidraw.device]:
    device = hidraw.device()
    device.open_path(headset.node.encode())
    yield device
    device.close()


def test_hidapi_reads_the_exact_descriptor(opened: hidraw.device) -> None:
    assert bytes(opened.get_report_descriptor()) == PLAIN_HEADSET


def test_hidapi_finds_it_with_its_identity(headset: VirtualHeadset) -> None:
    found = hidraw.enumerate(0x1209, 0x0007)
    assert {entry["path"] for entry in found} == {headset.node.encode()}
    assert [(entry["usage_page"], entry["usage"]) for entry in found] == [(0x0B, 0x05), (0x0C, 0x01)]
    assert found[0]["serial_number"].startswith("PROOF-")
    assert found[0]["product_string"] == "Virtual Headset"


def test_a_press_arrives(headset: VirtualHeadset, opened: hidraw.device) -> None:
    headset.send(bytes([1, PHONE_MUTE]))
    assert opened.read(64, BLOCKED_READ_MS) == [1, PHONE_MUTE]


def test_lights_arrive(headset: VirtualHeadset, opened: hidraw.device) -> None:
    assert opened.write([1, LED_OFF_HOOK | LED_MUTE_BIT]) == 2
    assert headset.next_output() == bytes([1, LED_OFF_HOOK | LED_MUTE_BIT])


def test_unplug_ends_a_blocked_read(headset: VirtualHeadset, opened: hidraw.device) -> None:
    about_to_read = threading.Event()
    ended: list[str] = []

    def read() -> None:
        about_to_read.set()
        try:
            opened.read(64, BLOCKED_READ_MS)
        except OSError as error:
            ended.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    about_to_read.wait()
    headset.unplug()
    reader.join(BLOCKED_READ_MS / 1000)
    assert ended == ["read error"]
    assert opened.write([1, 0]) == -1
    headset.plug()


def test_replugged_it_works_again(headset: VirtualHeadset) -> None:
    for _ in range(3):
        headset.unplug()
        assert not hidraw.enumerate(0x1209, 0x0007)
        headset.plug()
        device = hidraw.device()
        device.open_path(headset.node.encode())
        headset.send(bytes([1, PHONE_MUTE]))
        assert device.read(64, BLOCKED_READ_MS) == [1, PHONE_MUTE]
        device.close()


def test_the_desktop_sees_the_mute_key(headset: VirtualHeadset) -> None:
    with EventNode(headset.node) as desktop:
        headset.send(bytes([1, PHONE_MUTE]), bytes([1, 0]))
        presses = [desktop.next_key() for _ in range(2)]
    assert [(event.code, event.value) for event in presses] == [(KEY_MICMUTE, 1), (KEY_MICMUTE, 0)]


def test_the_desktop_can_light_the_mute_led(headset: VirtualHeadset) -> None:
    """The lights have a second writer, whose report carries only what the kernel knows."""
    with EventNode(headset.node) as desktop:
        desktop.light(LED_MUTE, on=True)
        assert headset.next_output() == bytes([1, LED_MUTE_BIT])


class _Restless:
    """Turns its volume up a moment after it was plugged in, and presses mute whenever it is written to."""

    def __init__(self) -> None:
        self._plugged_at: float | None = None
        self._has_spoken = False

    def on_output(self, report: bytes, now: float) -> Iterable[bytes]:  # noqa: ARG002
        return [bytes([1, PHONE_MUTE]), bytes([1, 0])]

    def on_time(self, now: float) -> tuple[Iterable[bytes], float | None]:
        if self._plugged_at is None:
            self._plugged_at = now
        speaks_at = self._plugged_at + 3.0
        if self._has_spoken or now < speaks_at:
            return [], None if self._has_spoken else speaks_at
        self._has_spoken = True
        return [bytes([2, 1])], None


def test_firmware_speaks_by_itself_and_when_written_to() -> None:
    with VirtualHeadset(Uhid(Identity(serial="PROOF-firmware"), PLAIN_HEADSET), _Restless()) as headset:
        headset.plug()
        device = hidraw.device()
        device.open_path(headset.node.encode())
        assert device.read(64, BLOCKED_READ_MS) == [2, 1]
        device.write([1, LED_OFF_HOOK])
        assert [device.read(64, BLOCKED_READ_MS) for _ in range(2)] == [[1, PHONE_MUTE], [1, 0]]
        device.close()


def test_a_vendor_driver_is_bound() -> None:
    """hid-jabra takes the devices of its vendor, as on a desktop."""
    jabra = Identity(vendor=0x0B0E, product=0x24C9, serial="PROOF-jabra")
    with UsbDevice(jabra, hid_descriptor=PLAIN_HEADSET) as device, VirtualHeadset(device) as headset:
        headset.plug()
        driver = Path("/sys/class/hidraw", Path(headset.node).name, "device/driver")
        assert driver.resolve().name == "jabra"
