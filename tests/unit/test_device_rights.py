"""Which device nodes the service is given: those of buttons, and never what somebody types on."""

from typing import Any

import msgspec
import pytest

from mutebridge.config import load_profiles
from mutebridge.core.assignment import DeviceConfig
from mutebridge.core.device_rights import is_given
from mutebridge.core.profiles import DeviceNode
from mutebridge.virtual_headset import descriptor

PROFILES = {profile.id: profile for profile in load_profiles()}
PHONES = descriptor()
KEYS = bytes.fromhex("05 01 09 06 a1 01 05 07 19 00 29 65 15 00 25 65 75 08 95 06 81 00 c0")
# Kernels differ in which of the two pages holds for these.
KEYS_OF_TWO_PAGES = bytes.fromhex("05 01 09 06 a1 01 05 07 19 00 29 65 05 0c 15 00 25 65 75 08 95 06 81 00 c0")
KEY_AS_SECOND_CHOICE = bytes.fromhex(
    "05 01 09 06 a1 01 a9 01 0b e9 00 0c 00 0b 04 00 07 00 a9 00 15 00 25 01 75 01 95 08 81 02 c0"
)
MOUSE = bytes.fromhex("05 01 09 02 a1 01 09 30 09 31 15 81 25 7f 75 08 95 02 81 06 c0")
# A key with which laptops mute their microphone.
SYSTEM_MUTE = bytes.fromhex("05 01 09 80 a1 01 09 a9 15 00 25 01 75 01 95 01 81 06 95 07 81 03 c0")
MUTE_LAMP = bytes.fromhex("05 0b 09 05 a1 01 05 08 09 09 15 00 25 01 75 01 95 01 91 02 95 07 91 03 c0")
VOLUME_KEYS = bytes.fromhex("05 0c 09 01 a1 01 15 00 25 01 75 01 95 02 09 e9 09 ea 81 02 95 06 81 03 c0")


def hid(said: bytes, usb: str = "1209:0001") -> DeviceNode:
    vendor, product = usb.split(":")
    return DeviceNode(
        path="/dev/hidraw3", subsystem="hidraw", vendor_id=vendor, product_id=product, report_descriptor=said
    )


def tty(**usb: Any) -> DeviceNode:
    return DeviceNode(path="/dev/ttyACM0", subsystem="tty", links=("/dev/serial/by-id/usb-Maker_Knob-if00",), **usb)


def given(node: DeviceNode, *configured: dict[str, Any], known: bool = True, **real_paths: str) -> bool:
    configs = msgspec.convert([{"id": "mine", **keys} for keys in configured], list[DeviceConfig])
    ports = {f"/dev/{name}": path for name, path in real_paths.items()}
    return is_given(node, configs, PROFILES, ports, known_devices=known)


def test_a_headset_is_given() -> None:
    assert given(hid(PHONES))


@pytest.mark.parametrize("said", [KEYS, MOUSE, VOLUME_KEYS, SYSTEM_MUTE, MUTE_LAMP, b"", b"\x00", b"\xff" * 4096])
def test_what_is_no_button_for_calls_is_not(said: bytes) -> None:
    assert not given(hid(said))


@pytest.mark.parametrize(
    "said", [KEYS + PHONES, PHONES + MOUSE, KEYS_OF_TWO_PAGES + PHONES, KEY_AS_SECOND_CHOICE + PHONES]
)
def test_a_keyboard_or_mouse_is_not_whatever_else_it_says_it_is(said: bytes) -> None:
    assert not given(hid(said))


@pytest.mark.parametrize("usb", ["16c0:27db", "20a0:42db"])
def test_a_model_that_a_profile_names_is_given_unless_it_is_a_keyboard(usb: str) -> None:
    """Ids are lent out: those of the MuteMe are some keyboards' too."""
    assert given(hid(MUTE_LAMP, usb))
    assert not given(hid(KEYS, usb))


def test_the_vendor_of_a_profile_alone_gives_no_device_without_a_button() -> None:
    assert given(hid(PHONES, "0b0e:0001"))
    assert not given(hid(VOLUME_KEYS, "0b0e:0001"))


def test_what_the_configuration_names_is_given() -> None:
    pattern = {"byte_patterns": {"inputs": [{"means": "press", "bytes": "01"}]}}
    match = {"match": {"vendor_id": "1209"}, "headset": pattern}
    assert given(hid(KEYS), match)
    assert not given(hid(KEYS, "1210:0001"), match)
    assert given(hid(SYSTEM_MUTE), {"port": "/dev/hidraw3", "headset": {"system_mute_is_microphone": True}})


def test_with_known_devices_switched_off_only_that() -> None:
    assert not given(hid(PHONES), known=False)
    assert given(hid(PHONES), {"match": {"vendor_id": "1209"}}, known=False)
    assert not given(tty(product="MuteSync mutesync"), known=False)


def test_a_serial_port_is_given_only_where_it_is_named() -> None:
    assert not given(tty(product="Knob"))
    assert given(tty(product="mutesync"))
    assert given(tty(product="Knob"), {"match": {"product": "knob"}, "profile": "lines"})
    assert not given(tty(product="Modem"), {"match": {"product": "knob"}, "profile": "lines"})


@pytest.mark.parametrize("port", ["/dev/ttyACM0", "/dev/ttyACM*", "/dev/serial/by-id/usb-Maker_Knob-*", "/dev/knob"])
def test_a_port_may_be_named_by_any_of_its_names(port: str) -> None:
    assert given(tty(), {"port": port, "profile": "lines"}, knob="/dev/ttyACM0")


def test_another_port_is_not_given() -> None:
    assert not given(tty(), {"port": "/dev/ttyACM1", "profile": "lines"})
    assert not given(tty(), {"port": "/dev/knob", "profile": "lines"}, knob="/dev/ttyACM1")
