"""Which hidraw node becomes which device, and how it is spoken with."""

from typing import Any

import msgspec
import pytest

from mutebridge.config import load_profiles
from mutebridge.core import hwdb
from mutebridge.core.assignment import Assignment, DeviceConfig, KeepMuteKey, Verdict, assign, check
from mutebridge.core.byte_patterns import BytePatternSession
from mutebridge.core.events import PressMode
from mutebridge.core.handshake import HeadsetSession
from mutebridge.core.headset_profile import ControlKind
from mutebridge.core.headset_protocol import HeadsetProtocol
from mutebridge.core.profiles import DeviceNode
from mutebridge.virtual_headset import MAINTAINED, descriptor

PROFILES = {profile.id: profile for profile in load_profiles()}
PHONES = descriptor()
VOLUME_KEYS = bytes.fromhex("05 0c 09 01 a1 01 15 00 25 01 75 01 95 02 09 e9 09 ea 81 02 95 06 81 03 c0")
# Num Lock, Caps Lock and the mute lamp in one report.
KEYBOARD = bytes.fromhex(
    "05 01 09 06 a1 01 05 07 19 e0 29 e7 15 00 25 01 75 01 95 08 81 02"
    "05 08 95 03 09 01 09 02 09 09 91 02 95 05 91 03 c0"
)


def node(
    number: int = 0, usb: str = "1209:0001", serial: str | None = None, said: bytes = PHONES, **more: Any
) -> DeviceNode:
    vendor, product = usb.split(":")
    return DeviceNode(
        path=f"/dev/hidraw{number}",
        subsystem="hidraw",
        vendor_id=vendor,
        product_id=product,
        product=more.pop("product", "Phones"),
        serial_number=serial,
        report_descriptor=said,
        **more,
    )


def device(**keys: Any) -> DeviceConfig:
    config = msgspec.convert(keys, DeviceConfig)
    check(config, PROFILES)
    return config


def plan(
    configs: list[DeviceConfig], nodes: list[DeviceNode], in_use: dict[str, str] | None = None, **more: Any
) -> tuple[dict[str, Assignment], list[Verdict]]:
    made, verdicts = assign(configs, PROFILES, nodes, more.pop("real_paths", {}), in_use or {}, **more)
    assert len({a.port for a in made}) == len(made), "one node, one device"
    return {a.device.id: a for a in made}, verdicts


def spoken(assignment: Assignment) -> HeadsetProtocol:
    assert isinstance(assignment.protocol, HeadsetProtocol)
    return assignment.protocol


def test_an_unknown_headset_is_used_as_its_descriptor_says() -> None:
    made, (verdict,) = plan([], [node(serial="A 1")])
    found = made["phones-a-1"].device
    assert (found.name, found.kind, found.press_mode) == ("Phones", "hid", PressMode.TOGGLE)
    assert found.can[:2] == ("mute button", "hook switch")
    assert made["phones-a-1"].profile_id is None
    assert verdict.why["mute_button"] == "Phone Mute (0x0B:0x2F) is in input report 2, bit 1; Relative: toggle button"
    assert isinstance(spoken(made["phones-a-1"]).session("x"), HeadsetSession)


def test_a_state_button_says_its_state() -> None:
    made, _ = plan([], [node(said=descriptor(MAINTAINED), serial="1")])
    assert made["phones-1"].device.press_mode is PressMode.STATE


def test_a_vendor_profile_is_laid_over_it_and_the_configuration_over_that() -> None:
    config = device(
        id="mine", match={"vendor_id": "0b0e"}, headset={"boom_arm_refusal_ms": 0, "mute_kind": "momentary"}
    )
    made, _ = plan([config], [node(usb="0b0e:24c9")])
    profile = spoken(made["mine"]).profile
    assert made["mine"].profile_id == "jabra"
    assert profile.host_must_ack_mute
    assert (profile.boom_arm_refusal_ms, profile.mute_kind) == (0, ControlKind.MOMENTARY)
    button = spoken(made["mine"]).telephony.mute_button
    assert button is not None
    assert button.kind is ControlKind.MOMENTARY


def test_a_byte_pattern_device_is_known_by_its_profile() -> None:
    made, (verdict,) = plan([], [node(usb="20a0:42db", said=VOLUME_KEYS, serial="7", product="MuteMe")])
    assert made["muteme-7"].device.can == ("mute button", "mute light")
    assert verdict.why == {"mute_button": "by the bytes in the profile muteme"}
    assert isinstance(spoken(made["muteme-7"]).session("x"), BytePatternSession)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (VOLUME_KEYS, "there is no Phone Mute"),
        (KEYBOARD, "there is no Phone Mute"),
        (b"\x05", "byte 0 of the report descriptor"),
        (b"", "cannot be read"),
    ],
    ids=["volume keys", "a keyboard's mute lamp", "garbled", "unreadable"],
)
def test_what_is_no_mute_button_is_left_alone_with_the_reason(said: bytes, reason: str) -> None:
    made, (verdict,) = plan([], [node(said=said)])
    assert not made
    assert verdict.device_id is None
    assert reason in verdict.reason


def test_known_devices_can_be_switched_off() -> None:
    made, (verdict,) = plan([], [node()], known_devices=False)
    assert not made
    assert "switched off" in verdict.reason


def test_two_with_one_serial_number_are_two_and_keep_their_ids() -> None:
    pair = [node(0, serial="1", physical_path="usb-1/input3"), node(1, serial="1", physical_path="usb-2/input3")]
    made, _ = plan([], pair)
    assert {a.device.id: a.port for a in made.values()} == {
        "phones-1": "/dev/hidraw0",
        "phones-usb-2-input3": "/dev/hidraw1",
    }
    in_use = {a.device.id: a.port for a in made.values()}
    assert list(plan([], pair[1:], in_use)[0]) == ["phones-usb-2-input3"]
    again = [node(4, serial="1", physical_path="usb-1/input3"), pair[1]]
    kept = {"phones-usb-2-input3": "/dev/hidraw1"}
    assert {a.device.id: a.port for a in plan([], again, kept)[0].values()} == {
        "phones-1": "/dev/hidraw4",
        "phones-usb-2-input3": "/dev/hidraw1",
    }


def test_without_a_serial_number_the_socket_counts() -> None:
    assert list(plan([], [node(0, physical_path="usb-1/input3")])[0]) == ["phones-usb-1-input3"]
    assert list(plan([], [node(7, physical_path="usb-1/input3")])[0]) == ["phones-usb-1-input3"]
    assert list(plan([], [node(7)])[0]) == ["phones-hidraw7"]


def test_of_the_nodes_of_one_headset_the_one_with_the_button_is_meant() -> None:
    config = device(id="mine", match={"vendor_id": "1209"})
    made, verdicts = plan([config], [node(0, said=VOLUME_KEYS), node(1)])
    assert made["mine"].port == "/dev/hidraw1"
    assert "there is no Phone Mute" in verdicts[-1].reason


def test_a_node_may_be_named_by_its_path_or_a_link() -> None:
    config = device(id="mine", port="/dev/my-headset", headset={})
    made, _ = plan([config], [node(3)], real_paths={"/dev/my-headset": "/dev/hidraw3"})
    assert made["mine"].port == "/dev/my-headset"
    _, (verdict,) = plan([config], [])
    assert verdict.reason == "there is no HID device at /dev/my-headset"


def test_ids_alone_recognise_a_headset_but_no_serial_board() -> None:
    config = device(id="mine", match={"vendor_id": "1209"})
    board = DeviceNode(path="/dev/ttyACM0", subsystem="tty", vendor_id="1209")
    assert plan([config], [board, node()])[0]["mine"].port == "/dev/hidraw0"
    made, verdicts = plan([config], [board])
    assert not made
    assert "ids alone recognise a HID device" in verdicts[0].reason


def test_a_serial_device_takes_no_hidraw_node() -> None:
    config = device(id="board", match={"product": "Phones"}, serial={"toggle": "T"})
    made, _ = plan([config], [node(serial="1")])
    assert "board" not in made


def test_a_press_mode_that_the_button_cannot_do_is_told() -> None:
    config = device(id="mine", match={"vendor_id": "1209"}, press_mode="push_to_talk")
    made, (verdict,) = plan([config], [node()])
    assert not made
    assert "does not tell when it is let go" in verdict.reason
    held = msgspec.structs.replace(config, headset={"mute_kind": "momentary"})
    assert plan([held], [node()])[0]["mine"].device.press_mode is PressMode.PUSH_TO_TALK


def test_the_press_mode_for_all_is_that_of_those_that_can() -> None:
    made, _ = plan([], [node(serial="1")], press_mode=PressMode.PUSH_TO_TALK)
    assert made["phones-1"].device.press_mode is PressMode.TOGGLE


def test_the_desktops_key_is_the_devices_own_affair() -> None:
    config = device(id="mine", match={"vendor_id": "1209"}, keep_mute_key_from_desktop="off")
    assert plan([config], [node()])[0]["mine"].keep_mute_key is KeepMuteKey.OFF
    assert plan([], [node(serial="1")])[0]["phones-1"].keep_mute_key is None


def test_hwdb_entries_name_a_model_and_hold_one_line_each() -> None:
    text = hwdb.entries([("Phones\n KEYBOARD_KEY_1=esc", "0b0e", "24c9"), ("Phones", "0b0e", "24c9")])
    assert text.count("evdev:input:b*v0B0Ep24C9*\n KEYBOARD_KEY_b002f=reserved\n") == 1
    assert "\n KEYBOARD_KEY_1" not in hwdb.entries([("Phones\n KEYBOARD_KEY_1=esc", "0b0e", "24c9")])


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        (PressMode.PUSH_TO_TALK, "does not tell when it is let go"),
        (PressMode.STATE, "does not say which state it is in"),
    ],
)
def test_a_toggle_button_cannot_do_every_press_mode(mode: PressMode, why: str) -> None:
    made, verdicts = plan([device(id="desk", match={"product": "Phones"}, press_mode=mode.value)], [node()])
    assert made == {}
    assert any(why in verdict.reason for verdict in verdicts)


def test_a_node_whose_descriptor_cannot_be_read_is_not_taken_for_the_headset() -> None:
    broken = node(1, said=b"\x06")
    made, _ = plan([device(id="desk", match={"product": "Phones"})], [broken, node(2)])
    assert made["desk"].port == "/dev/hidraw2"


def test_a_button_of_byte_patterns_that_tells_its_release_can_be_held() -> None:
    made, _ = plan(
        [device(id="touch", match={"vendor_id": "20a0", "product_id": "42da"}, press_mode="push_to_talk")],
        [node(usb="20a0:42da", said=VOLUME_KEYS)],
    )
    assert made["touch"].device.press_mode is PressMode.PUSH_TO_TALK


def test_a_configured_node_that_has_neither_button_nor_lamp_says_so() -> None:
    config = device(id="desk", port="/dev/hidraw0")
    made, verdicts = plan([config], [node(said=VOLUME_KEYS)], real_paths={"/dev/hidraw0": "/dev/hidraw0"})
    assert made == {}
    assert [v.device_id for v in verdicts if "mute" in v.reason.lower()] == ["desk"]
