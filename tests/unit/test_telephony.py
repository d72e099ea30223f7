"""What a device can do, how its reports become signals and its lamps become reports."""

import pytest
from tests.unit.headsets.items import (
    APPLICATION,
    ARRAY,
    CONSTANT,
    LOGICAL,
    NO_PREFERRED,
    NULL_STATE,
    RELATIVE,
    VARIABLE,
    collection,
    count,
    headset,
    input_,
    logical,
    output,
    report_id,
    size,
    usage,
    usage_page,
    usages,
)

from mutebridge.core.events import PressMode
from mutebridge.core.headset_profile import GENERIC, ControlKind, HeadsetProfile
from mutebridge.core.report_descriptor import parse
from mutebridge.core.telephony import Act, Decoder, Key, LampName, Signal, Telephony

TOGGLED = Signal(Key.MUTE, Act.TOGGLED)
PRESSED = Signal(Key.MUTE, Act.PRESSED)
RELEASED = Signal(Key.MUTE, Act.RELEASED)
ON = Signal(Key.MUTE, Act.ON)
OFF = Signal(Key.MUTE, Act.OFF)


def telephony(*content: bytes, profile: HeadsetProfile = GENERIC) -> Telephony:
    return Telephony.from_descriptor(parse(headset(*content)), profile)


def consumer_control(*content: bytes) -> bytes:
    return usage_page(0x0C) + usage(0x01) + collection(APPLICATION, logical(0, 1) + size(1) + count(1), *content)


def kind_of(*content: bytes) -> ControlKind:
    button = telephony(*content).mute_button
    assert button is not None
    return button.kind


def decoded(found: Telephony, *reports: str) -> list[Signal]:
    decoder = Decoder(found)
    return [signal for report in reports for signal in decoder.decode(bytes.fromhex(report))]


# --- buttons


@pytest.mark.parametrize(
    ("button", "kind"),
    [
        (usage(0x2F) + input_(VARIABLE | RELATIVE), ControlKind.TOGGLE_BUTTON),
        (usage(0x2F) + input_(VARIABLE | RELATIVE | CONSTANT), ControlKind.TOGGLE_BUTTON),
        (usage(0x2F) + input_(VARIABLE | NO_PREFERRED), ControlKind.TOGGLE_SWITCH),
        (usage(0x2F) + input_(VARIABLE), ControlKind.MOMENTARY),
        (usage(0x2F) + logical(-1, 1) + size(2) + input_(VARIABLE | RELATIVE), ControlKind.ON_OFF_BUTTONS),
        (usage(0x2F) + logical(-1, 1) + input_(VARIABLE | RELATIVE), ControlKind.TOGGLE_BUTTON),
        (usage(0x20, 0x2F) + logical(1, 2) + size(2) + input_(ARRAY), ControlKind.SELECTOR),
    ],
)
def test_kind_follows_from_the_flags(button: bytes, kind: ControlKind) -> None:
    assert kind_of(button) is kind


def test_profile_wins_over_the_flags() -> None:
    button = telephony(usage(0x2F), input_(VARIABLE), profile=HeadsetProfile(mute_kind=ControlKind.TOGGLE_SWITCH))
    assert button.described()["mute_button"] == {"report_id": 0, "bit": 0, "kind": "toggle_switch"}
    assert "by the profile" in button.why["mute_button"]
    assert button.press_mode is PressMode.STATE


def test_phone_mute_of_a_telephony_collection_wins_over_an_earlier_one() -> None:
    elsewhere = consumer_control(report_id(1) + usage_page(0x0B) + usage(0x2F) + input_(VARIABLE | RELATIVE))
    found = Telephony.from_descriptor(
        parse(elsewhere + headset(report_id(2) + usage(0x2F) + input_(VARIABLE | RELATIVE)))
    )
    assert found.mute_button is not None
    assert found.mute_button.report_id == 2


def test_phone_mute_in_a_consumer_collection_is_found() -> None:
    found = Telephony.from_descriptor(parse(consumer_control(usage_page(0x0B) + usage(0x2F) + input_(VARIABLE))))
    assert found.mute_button is not None
    assert found.usable


def test_phone_mute_without_a_bit_is_none() -> None:
    assert telephony(usage(0x2F), size(0), input_(VARIABLE)).mute_button is None


def test_mirror_on_a_vendor_page_is_told_and_not_read() -> None:
    mirror = usage_page(0xFF30) + usage(0x2F) + report_id(4) + input_(VARIABLE | RELATIVE)
    found = telephony(report_id(2) + usage(0x2F) + input_(VARIABLE | RELATIVE), mirror)
    assert "vendor page 0xFF30 is not read" in found.why["mute_button"]
    assert decoded(found, "02 01", "04 01", "02 00", "04 00") == [TOGGLED]


def test_consumer_mute_counts_only_where_a_profile_names_the_model() -> None:
    descriptor = parse(consumer_control(usage(0xE2) + input_(VARIABLE | RELATIVE)))
    unnamed = Telephony.from_descriptor(descriptor)
    assert unnamed.described()["mute_button"] is None
    assert unnamed.described()["consumer_mute"] is None
    assert not unnamed.usable
    assert "only where a profile names the model" in unnamed.why["mute_button"]
    named = Telephony.from_descriptor(descriptor, HeadsetProfile(consumer_mute_is_microphone=True))
    assert named.described()["mute_button"] == {"report_id": 0, "bit": 0, "kind": "toggle_button"}


def test_system_microphone_mute_counts_only_where_a_profile_names_the_model() -> None:
    descriptor = parse(
        usage_page(0x01) + usage(0x80) + collection(APPLICATION, size(1) + count(1) + usage(0xA9) + input_(VARIABLE))
    )
    unnamed = Telephony.from_descriptor(descriptor)
    assert unnamed.mute_button is None
    assert unnamed.described()["system_microphone_mute"] == {"report_id": 0, "bit": 0, "kind": "momentary"}
    assert "is a keyboard's" in unnamed.why["mute_button"]
    assert Telephony.from_descriptor(descriptor, HeadsetProfile(system_mute_is_microphone=True)).mute_button


def test_phone_mute_is_preferred_to_what_the_profile_allows() -> None:
    profile = HeadsetProfile(consumer_mute_is_microphone=True)
    found = telephony(
        usage_page(0x0C) + usage(0xE2) + input_(VARIABLE) + usage_page(0x0B) + usage(0x2F) + input_(VARIABLE),
        profile=profile,
    )
    assert found.described()["mute_button"]["bit"] == 1


def test_selector_that_no_value_can_name_is_not_offered() -> None:
    found = telephony(usages(0x01, 0x3F), count(128), input_(ARRAY))
    assert found.mute_button is None
    assert "listed where no value can name it" in found.why["mute_button"]


@pytest.mark.parametrize(
    ("flags", "kind"),
    [(VARIABLE | NO_PREFERRED, "toggle_switch"), (VARIABLE, "toggle_switch"), (VARIABLE | RELATIVE, "toggle_button")],
)
def test_absolute_hook_switch_is_a_state_whatever_its_preference(flags: int, kind: str) -> None:
    assert telephony(usage(0x20), input_(flags)).described()["hook_switch"]["kind"] == kind


def test_profile_can_say_that_the_hook_switch_is_momentary() -> None:
    profile = HeadsetProfile(hook_kind=ControlKind.MOMENTARY)
    assert telephony(usage(0x20), input_(VARIABLE), profile=profile).described()["hook_switch"]["kind"] == "momentary"


@pytest.mark.parametrize(
    "key",
    [
        usage(0x07) + usage_page(0x09) + input_(VARIABLE),
        usage(0x07) + input_(VARIABLE),
        usage_page(0x09) + usage(0x07) + input_(VARIABLE),
    ],
)
def test_reject_key_is_found_by_either_reading_of_the_page(key: bytes) -> None:
    assert telephony(key).described()["reject"] == {"report_id": 0, "bit": 0, "kind": "momentary"}


def test_seventh_button_of_a_mouse_is_no_reject_key() -> None:
    mouse = usage_page(0x01) + usage(0x02)
    buttons = usage_page(0x09) + usages(1, 8) + size(1) + count(8) + input_(VARIABLE)
    assert Telephony.from_descriptor(parse(mouse + collection(APPLICATION, buttons))).reject is None


# --- lamps

JABRA_LIKE = (
    report_id(2)
    + usage_page(0x08)
    + usage(0x17, 0x1E, 0x09, 0x18, 0x20)
    + count(5)
    + output(VARIABLE)
    + count(11)
    + output(CONSTANT)
)


def test_lamps_that_share_a_report_are_written_together_at_full_length() -> None:
    found = telephony(JABRA_LIKE)
    assert found.encode(set()) == {2: bytes.fromhex("02 00 00")}
    assert found.encode({LampName.OFF_HOOK, LampName.MUTE}) == {2: bytes.fromhex("02 05 00")}


def test_each_report_with_a_lamp_is_written_mute_last() -> None:
    lamps = [
        report_id(led) + usage(led) + output(VARIABLE) + count(7) + output(CONSTANT) + count(1)
        for led in (0x09, 0x17, 0x18)
    ]
    found = telephony(usage_page(0x08), *lamps)
    encoded = found.encode({LampName.RING})
    assert list(encoded.values()) == [b"\x17\x00", b"\x18\x01", b"\x09\x00"]


def test_without_report_ids_a_zero_byte_leads() -> None:
    found = telephony(usage_page(0x08), count(9), output(CONSTANT), count(1), usage(0x09), output(VARIABLE))
    assert found.encode({LampName.MUTE}) == {0: b"\x00\x00\x02"}


def test_lamps_of_a_keyboard_and_of_arrays_are_not_call_lamps() -> None:
    keyboard = (
        usage_page(0x01)
        + usage(0x06)
        + collection(APPLICATION, size(1) + count(32) + usage_page(0x08) + usages(1, 0x20) + output(VARIABLE))
    )
    assert not Telephony.from_descriptor(parse(keyboard)).lamps
    assert not telephony(usage_page(0x08), usages(1, 16), size(8), count(2), logical(1, 16), output(ARRAY)).lamps


def test_description_for_machines() -> None:
    found = telephony(
        JABRA_LIKE,
        usage_page(0x0B) + usage(0x9E) + count(1) + output(VARIABLE) + usage(0x2F) + input_(VARIABLE | RELATIVE),
    )
    described = found.described()
    assert described["leds"] == {
        "off_hook": {"report_id": 2, "bit": 0},
        "speaker": {"report_id": 2, "bit": 1},
        "mute": {"report_id": 2, "bit": 2},
        "ring": {"report_id": 2, "bit": 3},
        "hold": {"report_id": 2, "bit": 4},
    }
    assert described["ringer"] == {"report_id": 2, "bit": 16}
    assert described["hook_switch"] is None
    assert described["why"]["hook_switch"] == "there is no Hook Switch (0x0B:0x20)"
    assert described["why"]["mute_led"] == "LED Mute (0x08:0x09) is in output report 2, bit 2"
    assert found.can == ("mute button", "off-hook LED", "ring LED", "hold LED", "speaker LED", "ringer", "mute LED")


# --- reports to signals


def test_toggle_button_acts_on_every_1_from_the_first_and_never_on_0() -> None:
    button = telephony(report_id(2) + usage(0x20, 0x2F) + count(2) + input_(VARIABLE | RELATIVE))
    assert decoded(button, "02 00", "02 02", "02 00", "02 02", "02 02", "02 00") == [TOGGLED] * 3


def test_toggle_switch_begins_with_a_baseline_and_then_tells_changes() -> None:
    switch = telephony(usage(0x2F) + input_(VARIABLE | NO_PREFERRED))
    assert decoded(switch, "01", "01", "00", "00", "01") == [Signal(Key.MUTE, Act.ON, first=True), OFF, ON]
    assert decoded(switch, "00", "01") == [Signal(Key.MUTE, Act.OFF, first=True), ON]


def test_wished_state_is_told_by_every_report_that_is_about_it() -> None:
    profile = HeadsetProfile(sends_wished_state=True, mute_kind=ControlKind.TOGGLE_SWITCH)
    button = telephony(usage(0x2F, 0x20) + count(2) + input_(VARIABLE), profile=profile)
    hook = [Signal(Key.HOOK, Act.ON), Signal(Key.HOOK, Act.OFF)]
    assert decoded(button, "01", "01", "00", "00") == [ON, ON, OFF, OFF]
    assert decoded(button, "01", "02", "00", "00") == [ON, *hook, OFF]


def test_momentary_button_tells_both_edges_and_loses_no_first_press() -> None:
    button = telephony(usage(0x2F) + input_(VARIABLE))
    assert decoded(button, "01", "01", "00", "00", "01") == [PRESSED, RELEASED, PRESSED]
    assert decoded(button, "00", "01") == [PRESSED]


def test_on_off_buttons_say_which_was_pressed() -> None:
    buttons = telephony(usage(0x2F) + logical(-1, 1) + size(2) + input_(VARIABLE | RELATIVE))
    assert buttons.press_mode is PressMode.STATE
    assert decoded(buttons, "01", "00", "01", "00", "03") == [ON, ON, OFF]


def test_selector_is_pressed_while_any_slot_names_it() -> None:
    keys = telephony(usage(0x21, 0x23, 0x2F) + logical(1, 3) + size(2) + count(3) + input_(ARRAY | NULL_STATE))
    assert keys.press_mode is PressMode.TOGGLE
    assert decoded(keys, "00", "03", "13", "1c", "10", "00") == [PRESSED, RELEASED]


def test_array_may_cross_a_byte_and_start_below_zero() -> None:
    keys = telephony(
        count(6) + input_(CONSTANT) + usage(0x20, 0x2F) + logical(-1, 0) + size(4) + count(1) + input_(ARRAY)
    )
    hook_only, mute = "c0 03", "00 00"
    assert decoded(keys, hook_only, mute) == [Signal(Key.HOOK, Act.PRESSED), PRESSED, Signal(Key.HOOK, Act.RELEASED)]


def test_null_state_is_no_news() -> None:
    button = telephony(usage(0x2F) + size(8) + input_(VARIABLE | NULL_STATE))
    assert decoded(button, "01", "ff", "01", "00") == [PRESSED, RELEASED]


def test_short_long_unknown_and_empty_reports_are_no_error() -> None:
    button = telephony(report_id(2) + count(8) + input_(CONSTANT) + count(1) + usage(0x2F) + input_(VARIABLE))
    assert decoded(button, "02 00 01", "02 00", "02", "", "03 00 00", "02 00 01 ff ff") == [PRESSED]


def test_hook_and_reject_are_told_beside_the_mute_button() -> None:
    keys = telephony(
        usage(0x20) + input_(VARIABLE | NO_PREFERRED),
        usage(0x2F) + input_(VARIABLE | RELATIVE),
        usage(0x07) + usage_page(0x09) + input_(VARIABLE),
    )
    assert decoded(keys, "00", "01", "03", "04", "00") == [
        Signal(Key.HOOK, Act.ON),
        TOGGLED,
        Signal(Key.HOOK, Act.OFF),
        Signal(Key.REJECT, Act.PRESSED),
        Signal(Key.REJECT, Act.RELEASED),
    ]


def test_collections_inside_do_not_hide_a_control() -> None:
    found = telephony(usage(0x06), collection(LOGICAL, collection(LOGICAL, usage(0x2F), input_(VARIABLE | RELATIVE))))
    assert found.mute_button is not None
