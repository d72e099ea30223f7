"""The report descriptor parser, against descriptors written here and, where they are at hand, those of real devices."""

import time

import pytest
from tests.unit.headsets.fields import usage_at
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
    delimited,
    feature,
    headset,
    input_,
    item,
    logical,
    output,
    pop,
    push,
    report_id,
    size,
    usage,
    usage_page,
    usages,
)

from mutebridge.core import usages as names
from mutebridge.core.report_descriptor import (
    MAX_DESCRIPTOR_BYTES,
    DescriptorError,
    Direction,
    Place,
    ReportDescriptor,
    parse,
)
from mutebridge.core.usages import usage_name


def only(rd: ReportDescriptor, what: names.Usage, direction: Direction = Direction.INPUT) -> Place:
    (place,) = rd.find(what, direction)
    return place


def test_field_is_found_with_all_that_the_descriptor_says_of_it() -> None:
    rd = parse(
        headset(report_id(2), usage(0x20), input_(VARIABLE | NO_PREFERRED), usage(0x2F), input_(VARIABLE | RELATIVE))
    )
    place = only(rd, names.PHONE_MUTE)
    field = place.field
    assert (field.direction, field.report_id, place.bit, field.size) == (Direction.INPUT, 2, 1, 1)
    assert (field.logical_min, field.logical_max) == (0, 1)
    assert field.relative
    assert not field.no_preferred
    assert not field.constant
    assert not field.array
    assert not field.null_state
    assert field.application == field.top_level == names.HEADSET
    assert only(rd, names.HOOK_SWITCH).field.no_preferred


def test_bits_are_counted_for_each_report_and_direction() -> None:
    rd = parse(
        headset(
            report_id(1) + count(5) + input_(CONSTANT) + count(1) + usage(0x20) + input_(VARIABLE),
            report_id(2) + usage(0x2F) + input_(VARIABLE),
            report_id(1) + usage(0x21) + input_(VARIABLE),
            usage_page(0x08) + usage(0x09) + output(VARIABLE) + count(9) + output(CONSTANT),
            usage(0x17) + feature(VARIABLE),
        )
    )
    assert only(rd, names.HOOK_SWITCH).bit == 5
    assert only(rd, (0x0B, 0x21)).bit == 6
    assert only(rd, names.PHONE_MUTE).bit == 0
    assert only(rd, names.LED_MUTE, Direction.OUTPUT).bit == 0
    assert only(rd, names.LED_OFF_HOOK, Direction.FEATURE).bit == 0
    assert rd.report_bits == {
        (Direction.INPUT, 1): 7,
        (Direction.INPUT, 2): 1,
        (Direction.OUTPUT, 1): 10,
        (Direction.FEATURE, 1): 9,
    }
    assert rd.report_bytes(Direction.OUTPUT, 1) == 2
    assert rd.report_bytes(Direction.OUTPUT, 7) == 0
    assert rd.numbered(Direction.INPUT)


def test_without_report_ids_no_report_is_numbered() -> None:
    rd = parse(headset(usage(0x2F), input_(VARIABLE)))
    assert not rd.numbered(Direction.INPUT)
    assert only(rd, names.PHONE_MUTE).field.report_id == 0


def test_ids_are_looked_up_with_their_page() -> None:
    rd = parse(
        headset(usage_page(0x08), usage(0x20), output(VARIABLE), usage_page(0x0B), usage(0x20), input_(VARIABLE))
    )
    assert only(rd, names.LED_HOLD, Direction.OUTPUT)
    assert only(rd, names.HOOK_SWITCH, Direction.INPUT)
    assert not list(rd.find(names.LED_HOLD, Direction.INPUT))


def test_constant_field_with_a_usage_is_live_and_one_without_is_padding() -> None:
    rd = parse(headset(usage(0x2F), input_(CONSTANT | VARIABLE | RELATIVE), count(7), input_(CONSTANT)))
    assert only(rd, names.PHONE_MUTE).field.constant
    assert len(rd.fields) == 1
    assert rd.report_bits[Direction.INPUT, 0] == 8


def test_constant_without_the_variable_bit_is_no_array() -> None:
    rd = parse(headset(usage(0x20, 0x2F), count(2), input_(CONSTANT)))
    assert only(rd, names.PHONE_MUTE).bit == 1


def test_usage_page_binds_at_the_main_item_and_the_other_reading_is_kept() -> None:
    rd = parse(headset(usage(0x07), usage_page(0x09), input_(VARIABLE)))
    assert not list(rd.find(names.PROGRAMMABLE_BUTTON, Direction.INPUT))
    assert list(rd.find(names.PROGRAMMABLE_BUTTON, Direction.INPUT, either_page=True))
    assert usage_at(only(rd, names.BUTTON_7).field, 0) == names.BUTTON_7


def test_usage_of_four_bytes_brings_its_page() -> None:
    rd = parse(
        headset(
            usage_page(0x09), usage(0x0B002F, width=4), usages(0x080017, 0x080018, width=4), count(3), input_(VARIABLE)
        )
    )
    assert only(rd, names.PHONE_MUTE).bit == 0
    assert only(rd, names.LED_RING).bit == 2
    assert not list(rd.find((0x09, 0x2F), Direction.INPUT, either_page=True))


def test_last_usage_is_repeated_when_there_are_too_few() -> None:
    rd = parse(headset(usage(0x20, 0x2F), count(4), input_(VARIABLE)))
    assert [usage_at(rd.fields[0], n) for n in range(4)] == [names.HOOK_SWITCH, *[names.PHONE_MUTE] * 3]
    assert only(rd, names.PHONE_MUTE).bit == 1


def test_usages_beyond_the_report_count_are_void() -> None:
    rd = parse(headset(usage(0x20), usages(0x2E, 0x30), usage(0x26), count(2), input_(VARIABLE)))
    assert only(rd, (0x0B, 0x2E)).bit == 1
    assert not list(rd.find(names.PHONE_MUTE, Direction.INPUT))
    assert not list(rd.find((0x0B, 0x26), Direction.INPUT))


def test_locals_are_forgotten_after_every_main_item() -> None:
    rd = parse(headset(usage(0x2F), collection(LOGICAL, usage(0x20), input_(VARIABLE), input_(VARIABLE))))
    assert len(rd.fields) == 1
    assert not list(rd.find(names.PHONE_MUTE, Direction.INPUT))


def test_range_is_found_from_its_first_to_its_last_usage() -> None:
    rd = parse(headset(usage_page(0x08), usages(0x17, 0x1E), count(8), output(VARIABLE)))
    assert only(rd, names.LED_OFF_HOOK, Direction.OUTPUT).bit == 0
    assert only(rd, names.LED_SPEAKER, Direction.OUTPUT).bit == 7
    assert not list(rd.find(names.LED_HOLD, Direction.OUTPUT))


def test_range_that_ends_before_it_begins_has_no_usage() -> None:
    assert parse(headset(usages(0x2F, 0x20), input_(VARIABLE))).fields == ()


def test_array_value_counts_from_the_logical_minimum() -> None:
    rd = parse(headset(usage(0x20, 0x23, 0x2F), logical(1, 3), size(2), input_(ARRAY | NULL_STATE)))
    place = only(rd, names.PHONE_MUTE)
    assert place.field.array
    assert place.field.null_state
    assert (place.bit, place.value, place.field.size) == (0, 3, 2)
    assert usage_at(place.field, 2) == names.PHONE_MUTE
    assert usage_at(place.field, 3) is None


@pytest.mark.parametrize(
    ("minimum", "maximum", "bits", "room"),
    [(0, 1, 1, 2), (1, 2, 8, 2), (0, 255, 2, 4), (-1, 1, 8, 3), (-1, 3, 2, 3), (3, 2, 8, 0), (0, 5, 0, 1)],
)
def test_array_reaches_only_values_that_are_allowed_and_fit(minimum: int, maximum: int, bits: int, room: int) -> None:
    field = parse(headset(usages(1, 63), logical(minimum, maximum), size(bits), input_(ARRAY))).fields[0]
    assert field.positions() == room
    assert field.position_of((0x0B, room)) == (room - 1 if room else None)
    assert field.position_of((0x0B, room + 1)) is None


def test_array_without_slots_reaches_nothing() -> None:
    assert parse(headset(usages(1, 63), size(8), count(0), input_(ARRAY))).fields[0].positions() == 0


@pytest.mark.parametrize(
    ("coded", "meant"),
    [
        (item(0x14, 0, 1) + item(0x24, 0xFF, 1), (0, 255)),
        (item(0x24, 0xFF, 1) + item(0x14, 0, 1), (0, 255)),
        (item(0x14, 0, 1) + item(0x24, 0xFFFF, 2), (0, 65535)),
        (item(0x14, 0, 1) + item(0x24, 0x80000000, 4), (0, 0x80000000)),
        (item(0x14, -1, 1) + item(0x24, 0xFF, 1), (-1, -1)),
        (item(0x14, -127, 1) + item(0x24, 127, 1), (-127, 127)),
        (item(0x14, 0, 0) + item(0x24, 0, 0), (0, 0)),
        (item(0x14, 5, 1) + item(0x24, 3, 1), (5, 3)),
    ],
)
def test_logical_maximum_below_the_minimum_was_coded_unsigned(coded: bytes, meant: tuple[int, int]) -> None:
    field = parse(headset(coded, usage(1), input_(VARIABLE))).fields[0]
    assert (field.logical_min, field.logical_max) == meant


def test_size_code_3_is_four_bytes() -> None:
    # Read as three bytes, the rest would be a Report ID.
    rd = parse(headset(item(0x24, 0x85000000, 4), usage(0x2F), input_(VARIABLE)))
    assert only(rd, names.PHONE_MUTE).field.report_id == 0


def test_push_and_pop_restore_every_global_the_report_id_too() -> None:
    rd = parse(
        headset(
            report_id(4) + push(),
            report_id(5) + usage_page(0x08) + size(8) + count(2) + logical(0, 9) + usage(0x09) + output(VARIABLE),
            pop() + usage(0x2F) + input_(VARIABLE),
        )
    )
    field = only(rd, names.PHONE_MUTE).field
    assert (field.report_id, field.size, field.count, field.logical_max) == (4, 1, 1, 1)
    assert only(rd, names.LED_MUTE, Direction.OUTPUT).field.report_id == 5


def test_long_items_and_reserved_items_are_skipped() -> None:
    long_item = bytes([0xFE, 3, 0x10, 0xA1, 0x01, 0xC0])
    reserved = item(0x0C, 1) + item(0xF0, 1) + item(0xC4, 1) + item(0xB8, 1)
    rd = parse(headset(long_item, reserved, usage(0x2F), long_item, input_(VARIABLE)))
    assert only(rd, names.PHONE_MUTE).bit == 0


def test_delimited_usages_are_alternatives_for_one_control() -> None:
    rd = parse(headset(delimited(0x2F, 0x23), usage(0x20), count(2), input_(VARIABLE)))
    assert only(rd, names.PHONE_MUTE).bit == only(rd, (0x0B, 0x23)).bit == 0
    assert only(rd, names.HOOK_SWITCH).bit == 1


def test_void_alternative_is_not_found() -> None:
    rd = parse(headset(usage(0x20), delimited(0x2F, 0x23), input_(VARIABLE)))
    assert not list(rd.find((0x0B, 0x23), Direction.INPUT))


def test_application_is_the_innermost_and_top_level_the_outermost() -> None:
    nested = usage_page(0x0B) + usage(0x05) + collection(APPLICATION, usage(0x2F), input_(VARIABLE))
    rd = parse(
        usage_page(0x0C)
        + usage(0x01)
        + collection(APPLICATION, size(1), count(1), logical(0, 1), nested, usage(0x20), input_(VARIABLE))
    )
    muted = only(rd, names.PHONE_MUTE).field
    assert (muted.application, muted.top_level) == (names.HEADSET, (0x0C, 0x01))
    assert only(rd, names.HOOK_SWITCH).field.application == (0x0C, 0x01)


def test_field_outside_of_any_collection_has_no_application() -> None:
    field = parse(
        usage_page(0x0B) + usage(0x2F) + size(1) + count(1) + input_(VARIABLE) + collection(APPLICATION)
    ).fields[0]
    assert field.application is None
    assert field.top_level is None


@pytest.mark.parametrize(
    ("descriptor", "offset", "said"),
    [
        (usage_page(0x0B) + b"\x0a\x2f", 2, "needs 2 bytes of data and 1 are left"),
        (b"\xfe\x05\x10\x00", 0, "runs past the end"),
        (b"\xfe\x05", 0, "runs past the end"),
        (size(1) + pop(), 2, "Pop without a Push"),
        (size(1) + item(0xC0, 0, 0), 2, "no collection open"),
        (usage(1) + item(0xA0, 1), 2, "never closed"),
        (report_id(0), 0, "report id 0"),
        (size(1) + report_id(256), 2, "report id 256"),
        (item(0xA8, 1) * 2, 2, "inside another"),
        (item(0xA8, 0), 0, "never began"),
        (size(65535) + count(255) + output(VARIABLE), 5, "longer than 16384 bytes"),
        (size(8) + count(0xFFFFFFFF) + usage(0x2F) + input_(ARRAY), 9, "longer than 16384 bytes"),
        (bytes(MAX_DESCRIPTOR_BYTES + 1), MAX_DESCRIPTOR_BYTES, "4097 bytes long"),
    ],
)
def test_broken_descriptor_is_refused_with_the_byte_and_the_reason(descriptor: bytes, offset: int, said: str) -> None:
    with pytest.raises(DescriptorError, match=rf"^byte {offset} of the report descriptor: .*{said}") as raised:
        parse(descriptor)
    assert raised.value.offset == offset


def test_longest_descriptor_takes_no_time_whatever_it_says() -> None:
    hungry = size(1) + count(60000) + usages(0, 0xFFFFFFFF, width=4) + input_(VARIABLE)
    many = usage_page(0x0B) + size(0) + count(0xFFFFFFFF) + (usages(0, 0xFFFF) + input_(VARIABLE)) * 500
    deep = b"\xa1\x01" * 1300 + b"\xc0" * 1300
    vast = (usages(1, 63) + size(0x77777777) + count(0) + input_(ARRAY)) * 30  # found by the fuzzer
    for descriptor in (hungry, many, deep, vast, push() * MAX_DESCRIPTOR_BYTES):
        start = time.process_time()
        rd = parse(descriptor)
        list(rd.find(names.PHONE_MUTE, Direction.INPUT))
        assert time.process_time() - start < 1


def test_names_tell_page_and_id() -> None:
    assert usage_name(names.PHONE_MUTE) == "Phone Mute (0x0B:0x2F)"
    assert usage_name(names.BUTTON_7) == "Button 7 (0x09:0x07)"
    assert usage_name((0xFF30, 0x2F)) == "0xFF30:0x2F"
