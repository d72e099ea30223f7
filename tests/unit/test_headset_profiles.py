"""The vendors' profiles: each file is read, and each key reaches the device that it is for."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import mutebridge
from mutebridge.core.headset_profile import (
    GENERIC,
    BytePatterns,
    ControlKind,
    Means,
    Profile,
    ProfileError,
    Shown,
    UsbIdentity,
    read_profiles,
    resolve,
)

DEVICES = Path(mutebridge.__file__).parent / "devices"
FILES = ("jabra", "poly", "epos", "yealink", "logitech", "generic", "muteme", "luxafor")


def _file(name: str) -> tuple[Profile, ...]:
    path = DEVICES / f"{name}.yaml"
    return read_profiles(yaml.safe_load(path.read_text(encoding="utf-8")), path.name)


ALL = tuple(profile for name in FILES for profile in _file(name))


def device(usb: str, product: str = "") -> UsbIdentity:
    vendor, model = usb.split(":")
    return UsbIdentity(vendor_id=int(vendor, 16), product_id=int(model, 16), product=product)


def profiles(*entries: Any) -> tuple[Profile, ...]:
    return read_profiles({"profiles": list(entries)}, "test.yaml")


@pytest.mark.parametrize("name", FILES)
def test_file_is_read_and_says_whose_it_is(name: str) -> None:
    assert all(profile.name for profile in _file(name))


def test_no_two_profiles_say_the_same_key_for_the_same_model() -> None:
    said = [(usb, p.match.product, key) for p in ALL for usb in p.match.usb for key in p.keys]
    assert len(said) == len(set(said))


def test_unknown_model_is_used_as_its_descriptor_says() -> None:
    resolved = resolve(ALL, device("1234:5678"))
    assert resolved.profile == GENERIC
    assert resolved.names == ("generic",)


def test_vendors() -> None:
    jabra = resolve(ALL, device("0b0e:24c9")).profile
    assert jabra.host_must_ack_mute
    assert jabra.repeats_until_answered_ms == 860
    assert resolve(ALL, device("047f:c056")).profile.duplicate_within_ms == 5
    assert resolve(ALL, device("1395:0001")).profile.boom_arm_refusal_ms == 700
    assert resolve(ALL, device("6993:b001")).names == ("Yealink",)


def test_models() -> None:
    assert resolve(ALL, device("046d:0a37")).profile.consumer_mute_is_microphone
    assert not resolve(ALL, device("046d:0944")).profile.consumer_mute_is_microphone
    assert resolve(ALL, device("16c0:27d9")).profile.mute_kind is ControlKind.TOGGLE_SWITCH
    assert resolve(ALL, device("cafe:ba11")).profile.sends_wished_state


def test_luxafor_is_told_by_its_product_string() -> None:
    assert resolve(ALL, device("04d8:f372", "Mute")).profile.byte_patterns is not None
    assert resolve(ALL, device("04d8:f372", "Flag")).profile.byte_patterns is None


def test_patterns_of_all_colours() -> None:
    for usb, product in (("20a0:42db", ""), ("04d8:f372", " mute ")):
        patterns = resolve(ALL, device(usb, product)).profile.byte_patterns
        assert isinstance(patterns, BytePatterns)
        assert set(patterns.outputs) == set(Shown)
        assert len(set(patterns.outputs.values())) == len(Shown)
        assert {p.means for p in patterns.inputs} >= {Means.PRESS, Means.RELEASE}


def test_closer_profile_is_laid_over_the_vendors_and_the_users_settings_over_all() -> None:
    layers = profiles(
        {"name": "model", "match": {"usb": ["0b0e:0001"]}, "mute_echo_ms": 2},
        {
            "name": "vendor",
            "match": {"usb": ["0b0e:*"]},
            "mute_echo_ms": 1,
            "duplicate_within_ms": 5,
            "hook_echo_ms": 9,
        },
        {"name": "named", "match": {"usb": ["0b0e:0001"], "product": "X"}, "mute_echo_ms": 3},
    )
    vendor = resolve(layers, device("0b0e:0002"))
    assert (vendor.profile.mute_echo_ms, vendor.names) == (1, ("vendor",))
    model = resolve(layers, device("0b0e:0001", "Y"))
    assert (model.profile.mute_echo_ms, model.profile.duplicate_within_ms) == (2, 5)
    named = resolve(layers, device("0b0e:0001", "x"), {"hook_echo_ms": 0})
    assert (named.profile.mute_echo_ms, named.profile.hook_echo_ms) == (3, 0)
    assert named.names == ("vendor", "model", "named", "configuration")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "test.yaml: `profiles:` and a list"),
        ({"profiles": 3}, "test.yaml: `profiles:` and a list"),
        ({"profiles": ["x"]}, "profile 1: a mapping is wanted"),
        ({"profiles": [{"name": "n"}]}, "profile 1 \\(n\\): Expected `object`, got `null`"),
        ({"profiles": [{"match": {"usb": ["0b0e:*"]}}]}, "profile 1 \\(None\\): Expected `str`"),
        ({"profiles": [{"name": "n", "match": {"usb": ["0B0E:*"]}}]}, "`usb\\[0\\]`: Expected `str` matching"),
        (
            {"profiles": [{"name": "n", "match": {"usb": ["0b0e:*"]}, "ech": 1}]},
            "no key `ech` here; a profile has mute_kind",
        ),
        (
            {"profiles": [{"name": "n", "match": {"usb": ["0b0e:*"]}, "mute_echo_ms": -1}]},
            "`mute_echo_ms`: Expected `int` >= 0",
        ),
        (
            {
                "profiles": [
                    {
                        "name": "n",
                        "match": {"usb": ["0b0e:*"]},
                        "byte_patterns": {"inputs": [{"means": "press", "bytes": "01 02", "mask": "ff"}]},
                    }
                ]
            },
            "the mask 'ff' is not as long as the bytes '01 02'",
        ),
    ],
)
def test_wrong_profile_is_refused_with_file_entry_and_key(document: Any, said: str) -> None:
    with pytest.raises(ProfileError, match=said):
        read_profiles(document, "test.yaml")


def test_wrong_settings_of_the_user_are_refused() -> None:
    with pytest.raises(ProfileError, match="the settings of this device: `mute_kind`: Invalid enum value 'switch'"):
        resolve(ALL, device("1234:5678"), {"mute_kind": "switch"})
