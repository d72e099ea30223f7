"""Every profile is sound, and what is wrong in one is said clearly."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import mutebridge
from mutebridge.core.events import PressMode
from mutebridge.core.lights import Lights, MicLight
from mutebridge.core.profiles import DeviceNode, Match, Profile, each_match, profile_from_dict, profiles_from_dict

FILES = sorted(path for path in (Path(mutebridge.__file__).parent / "devices").glob("*.yaml"))
SERIAL_FILES = [path for path in FILES if "serial:" in path.read_text()]

# What the usual USB-serial chips call themselves; no profile may take one of them.
BARE_CHIPS = [
    DeviceNode(path="/dev/ttyUSB0", subsystem="tty", manufacturer=maker, product=product, vendor_id=vid, product_id=pid)
    for maker, product, vid, pid in [
        ("Silicon Labs", "CP2102 USB to UART Bridge Controller", "10c4", "ea60"),
        (None, "USB Serial", "1a86", "7523"),
        ("FTDI", "FT232R USB UART", "0403", "6001"),
        ("Prolific Technology Inc.", "USB-Serial Controller", "067b", "2303"),
        ("Arduino (www.arduino.cc)", None, "2341", "0043"),
        ("Raspberry Pi", "Pico", "2e8a", "000a"),
    ]
]


def load(path: Path) -> tuple[Profile, ...]:
    return profiles_from_dict(yaml.safe_load(path.read_text()), path.name)


def every_profile() -> dict[str, Profile]:
    return {profile.id: profile for path in SERIAL_FILES for profile in load(path)}


@pytest.mark.parametrize("path", SERIAL_FILES, ids=lambda path: path.name)
def test_each_file_is_sound(path: Path) -> None:
    assert "# Source:" in path.read_text(), "a comment has to say who saw that the board behaves so"
    for profile in load(path):
        assert profile.source
        assert profile.serial is not None
        assert profile.serial.can
        assert not any(profile.fits(chip) for chip in BARE_CHIPS), "it would take boards that are something else"
        dark, lit = (profile.serial.encode(Lights(mic=mic)) for mic in (MicLight.LIVE, MicLight.MUTED))
        assert dark != lit or "mute_light" not in profile.serial.can or profile.serial.modem is not None


def test_ids_are_unique() -> None:
    ids = [profile.id for path in SERIAL_FILES for profile in load(path)]
    assert len(ids) == len(set(ids))


def test_the_boards_of_the_first_release() -> None:
    profiles = every_profile()
    talk = profiles["picotalkbutton"]
    assert talk.serial is not None
    assert talk.press_mode is PressMode.PUSH_TO_TALK
    assert talk.serial.dtr
    assert talk.serial.refresh_s == 1
    assert talk.serial.encode(Lights(mic=MicLight.MUTED)) == b"MUTE\n"
    assert talk.serial.encode(Lights()) == b"UNMUTE\n"
    lamp = profiles["obs-mute-indicator"].serial
    assert lamp is not None
    assert [lamp.encode(Lights(mic=mic)) for mic in (MicLight.MUTED, MicLight.LIVE)] == [b"muted\n", b"unmuted\n"]
    rgb = profiles["mutesync"].serial
    assert rgb is not None
    shown = {rgb.encode(lights) for lights in [Lights(mic=mic) for mic in MicLight] + [Lights(pending=True)]}
    assert {len(message) for message in shown} == {13}
    assert {message[:1] for message in shown} == {b"A"}
    assert len(shown) == 5


def test_boards_are_recognised_by_their_names() -> None:
    profiles = every_profile()
    pico = DeviceNode(path="/dev/ttyACM0", subsystem="tty", manufacturer="Storvik IT", product="PicoTalkButton")
    light = DeviceNode(
        path="/dev/ttyUSB0", subsystem="tty", product="mutesync button", vendor_id="10c4", product_id="ea60"
    )
    assert [profile.id for profile in profiles.values() if profile.fits(pico)] == ["picotalkbutton"]
    assert [profile.id for profile in profiles.values() if profile.fits(light)] == ["mutesync"]


NODE = DeviceNode(
    path="/dev/ttyUSB3",
    subsystem="tty",
    links=("/dev/serial/by-id/usb-ACME_Knob_42-if00-port0", "/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0"),
    manufacturer="ACME",
    product="Knob",
    serial_number="42",
    vendor_id="10c4",
    product_id="ea60",
)


@pytest.mark.parametrize(
    "match",
    [
        Match(product="knob"),
        Match(manufacturer="ac*", product=("x", "K?ob")),
        Match(by_id="usb-ACME_Knob_*"),
        Match(by_id="/dev/serial/by-id/usb-acme*"),
        Match(by_path="*-usb-0:2:1.0-port0"),
        Match(serial_number="42", vendor_id="10C4", product_id="ea60"),
    ],
)
def test_a_match_that_fits(match: Match) -> None:
    assert match.fits(NODE)
    assert match.tells_more_than_ids


@pytest.mark.parametrize(
    "match",
    [
        Match(product="kno"),
        Match(product="Knob", manufacturer="Other"),
        Match(by_id="*-usb-0:2:1.0-port0"),
        Match(by_path="usb-ACME*"),
        Match(product="Knob", vendor_id="1a86"),
    ],
)
def test_a_match_that_does_not_fit(match: Match) -> None:
    assert not match.fits(NODE)


def test_a_node_without_strings_fits_nothing_that_asks_for_them() -> None:
    bare = DeviceNode(path="/dev/ttyS0", subsystem="tty")
    assert not Match(product="?*").fits(bare)
    assert not Match(by_id="usb*").fits(bare)
    assert bare.label == "/dev/ttyS0"
    assert NODE.label == "ACME Knob"


def test_several_rules_are_alternatives() -> None:
    rules = {"id": "x", "name": "x", "source": "x", "serial": {"toggle": "T"}}
    profile = profile_from_dict({**rules, "match": [{"product": "a"}, {"product": "knob"}]}, "x.yaml")
    assert len(each_match(profile.match)) == 2
    assert profile.fits(NODE)
    assert not profile_from_dict(rules, "x.yaml").fits(NODE)


GOOD: dict[str, Any] = {"name": "x", "source": "x", "serial": {"toggle": "T"}}


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ([], "mapping of profile ids"),
        ({}, "mapping of profile ids"),
        ({"X Y": GOOD}, "a profile id has 1 to 64"),
        ({"x": "y"}, "Expected `object`"),
        ({"x": {**GOOD, "serial": None}}, "'serial' is missing"),
        ({"x": {**GOOD, "serial": {}}}, "neither says what the button sends"),
        ({"x": {**GOOD, "serial": {"togle": "T"}}}, "unknown field `togle`.*allowed are framing, press,.* toggle"),
        ({"x": {**GOOD, "serial": {"send": {"mutd": "T"}}}}, "allowed are muted, live, unknown"),
        ({"x": {**GOOD, "srial": {}}}, "allowed are id, name, source"),
        ({"x": {**GOOD, "serial": {"toggle": 1}}}, "has to stand in quotes"),
        ({"x": {**GOOD, "serial": {"toggle": "T", "framing": "x"}}}, "allowed are lines, bytes"),
        ({"x": {**GOOD, "press_mode": "x"}}, "allowed are toggle, push_to_talk, push_to_mute, state"),
        ({"x": {**GOOD, "press_mode": "push_to_talk"}}, "tells its release"),
        ({"x": {**GOOD, "match": {}}}, "at least one of"),
        ({"x": {**GOOD, "match": {"vendor_id": "10c4", "product_id": "ea60"}}}, "which USB-serial chip"),
        ({"x": {**GOOD, "match": {"vendor_id": "10c4", "product": "*"}}}, "which USB-serial chip"),
        ({"x": {**GOOD, "match": {"vendor_id": "12345", "product": "a"}}}, "four hexadecimal digits"),
        ({"x": {**GOOD, "match": {"vendor_id": 1027, "product": "a"}}}, "has to stand in quotes"),
    ],
)
def test_what_is_wrong_is_said_with_the_place(raw: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^x.yaml: .*{complaint}"):
        profiles_from_dict(raw, "x.yaml")


def test_off_needs_no_quotes_as_a_key() -> None:
    (profile,) = profiles_from_dict(yaml.safe_load("x: {name: x, source: x, serial: {send: {live: a, off: b}}}"), "x")
    assert profile.serial is not None
    assert profile.serial.encode(Lights()) == b"b\n"
