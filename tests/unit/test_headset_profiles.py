"""The profiles of headsets: each file is sound, and each key reaches the device that it is for."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import mutebridge
from mutebridge.core.headset_profile import GENERIC, BytePatterns, ControlKind, HeadsetProfile, Means, Shown
from mutebridge.core.profiles import (
    DeviceNode,
    Profile,
    headset_layers,
    profile_from_dict,
    profiles_from_dict,
    resolve_headset,
)

DEVICES = Path(mutebridge.__file__).parent / "devices"
FILES = [path for path in sorted(DEVICES.glob("*.yaml")) if "headset:" in path.read_text(encoding="utf-8")]
ALL = [
    profile
    for path in FILES
    for profile in profiles_from_dict(yaml.safe_load(path.read_text(encoding="utf-8")), path.name)
]


def node(usb: str, product: str = "") -> DeviceNode:
    vendor, model = usb.split(":")
    return DeviceNode(path="/dev/hidraw0", subsystem="hidraw", vendor_id=vendor, product_id=model, product=product)


def resolved(usb: str, product: str = "") -> HeadsetProfile:
    return resolve_headset(headset_layers(ALL, node(usb, product)))


def profile(name: str, match: Any, **headset: Any) -> Profile:
    raw = {"id": name, "name": name, "source": "this test", "match": match, "headset": headset}
    return profile_from_dict(raw, name)


def test_the_makers_of_the_first_release_have_a_file() -> None:
    assert {"jabra", "poly", "epos", "yealink", "logitech", "muteme", "luxafor"} <= {path.stem for path in FILES}


def test_every_profile_is_of_a_model_or_a_vendor_and_says_who_saw_it() -> None:
    for found in ALL:
        assert found.headset is not None
        assert found.source
        assert found.match, "nobody names a headset's profile by hand"


def test_unknown_model_is_used_as_its_descriptor_says() -> None:
    assert resolved("1234:5678") == GENERIC


def test_vendors() -> None:
    jabra = resolved("0b0e:24c9")
    assert jabra.host_must_ack_mute
    assert jabra.repeats_until_answered_ms == 860
    assert resolved("047f:c056").duplicate_within_ms == 5
    assert resolved("1395:0001").boom_arm_refusal_ms == 700
    assert [p.id for p in headset_layers(ALL, node("6993:b001"))] == ["yealink"]


def test_models() -> None:
    assert resolved("046d:0a37").consumer_mute_is_microphone
    assert not resolved("046d:0944").consumer_mute_is_microphone
    assert resolved("16c0:27d9").mute_kind is ControlKind.TOGGLE_SWITCH
    assert resolved("cafe:ba11").sends_wished_state
    adapter = resolved("047f:faa9")
    assert adapter.byte_patterns is not None
    assert adapter.duplicate_within_ms == 5


def test_luxafor_is_told_by_its_product_string() -> None:
    assert resolved("04d8:f372", "Mute").byte_patterns is not None
    assert resolved("04d8:f372", "Flag").byte_patterns is None


@pytest.mark.parametrize(("usb", "product"), [("20a0:42db", ""), ("3603:0004", ""), ("04d8:f372", "Mute")])
def test_coloured_buttons_have_a_colour_for_everything(usb: str, product: str) -> None:
    patterns = resolved(usb, product).byte_patterns
    assert isinstance(patterns, BytePatterns)
    assert set(patterns.outputs) == set(Shown)
    assert len(set(patterns.outputs.values())) == len(Shown)
    assert {p.means for p in patterns.inputs} >= {Means.PRESS, Means.RELEASE}


def test_closer_profile_is_laid_over_the_vendors_and_the_users_settings_over_all() -> None:
    layers = [
        profile("model", {"vendor_id": "0b0e", "product_id": "0001"}, mute_echo_ms=2),
        profile("vendor", {"vendor_id": "0b0e"}, mute_echo_ms=1, duplicate_within_ms=5, hook_echo_ms=9),
        profile("some", {"vendor_id": "0b0e", "product_id": "00*"}, duplicate_within_ms=4),
        profile("named", {"vendor_id": "0b0e", "product_id": "0001", "product": "X"}, mute_echo_ms=3),
    ]
    other = resolve_headset(headset_layers(layers, node("0b0e:1002")))
    assert (other.mute_echo_ms, other.duplicate_within_ms) == (1, 5)
    model = resolve_headset(headset_layers(layers, node("0b0e:0001", "Y")))
    assert (model.mute_echo_ms, model.duplicate_within_ms, model.hook_echo_ms) == (2, 4, 9)
    named = headset_layers(layers, node("0b0e:0001", "x"))
    assert [p.id for p in named] == ["vendor", "some", "model", "named"]
    mine = resolve_headset(named, {"hook_echo_ms": 0})
    assert (mine.mute_echo_ms, mine.hook_echo_ms) == (3, 0)


def test_headset_profile_is_not_for_a_serial_port_of_the_same_vendor() -> None:
    port = DeviceNode(path="/dev/ttyACM0", subsystem="tty", vendor_id="0b0e", product_id="0001")
    assert not headset_layers(ALL, port)


@pytest.mark.parametrize(
    ("headset", "said"),
    [
        ({"ech": 1}, "headset: Object contains unknown field `ech`.*; allowed are mute_kind, hook_kind, "),
        ({"mute_echo_ms": -1}, r"headset: Expected `int` >= 0 - at `\$.mute_echo_ms`"),
        ({"mute_kind": "switch"}, "headset: Invalid enum value 'switch' .*allowed are toggle_button, toggle_switch"),
        (
            {"byte_patterns": {"inputs": [{"means": "toggle", "bytes": "01"}], "outputs": {"muted": "00 01"}}},
            "headset: outputs: 'off' is missing, so the light could never go dark again",
        ),
        ({"byte_patterns": {"inputs": []}}, r"headset: Expected `array` of length >= 1 - at `\$.byte_patterns.inputs`"),
        (
            {"byte_patterns": {"inputs": [{"means": "press", "bytes": "01 02", "mask": "ff"}]}},
            "the mask 'ff' is not as long as the bytes '01 02'",
        ),
        (
            {"byte_patterns": {"inputs": [{"means": "press", "bytes": "01", "ask": "ff"}]}},
            r"unknown field `ask` - at `\$.byte_patterns.inputs\[0\]`; allowed are means, bytes, at, mask",
        ),
    ],
)
def test_wrong_key_is_refused_with_its_name_and_what_is_allowed(headset: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        profile("wrong", {"vendor_id": "0b0e"}, **headset)
    with pytest.raises(ValueError, match=said):
        resolve_headset([], headset)


def test_profile_is_of_a_headset_or_of_a_serial_button() -> None:
    with pytest.raises(ValueError, match="'serial' and 'headset' are two ways to speak: give one"):
        profile_from_dict({"id": "x", "name": "x", "source": "x", "headset": {}, "serial": {"toggle": "t"}}, "x")
