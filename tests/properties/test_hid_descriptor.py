"""Report descriptors, lamps and reports of any content: fields or the one error, within bounds; lamps come back."""

import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.headsets.items import (
    APPLICATION,
    CONSTANT,
    VARIABLE,
    collection,
    count,
    item,
    output,
    report_id,
    size,
    usage,
    usage_page,
)

from mutebridge.core import usages as names
from mutebridge.core.report_descriptor import MAX_DESCRIPTOR_BYTES, MAX_REPORT_BYTES, DescriptorError, Direction, parse
from mutebridge.core.telephony import Decoder, LampName, Telephony

LAMP_USAGES = {
    LampName.OFF_HOOK: names.LED_OFF_HOOK,
    LampName.RING: names.LED_RING,
    LampName.HOLD: names.LED_HOLD,
    LampName.MICROPHONE: names.LED_MICROPHONE,
    LampName.ON_LINE: names.LED_ON_LINE,
    LampName.SPEAKER: names.LED_SPEAKER,
    LampName.RINGER: names.RINGER,
    LampName.MUTE: names.LED_MUTE,
}

# Prefixes of every item there is, so that random ones are often meant; data of any size and value follows.
_PREFIXES = [0x04, 0x14, 0x24, 0x74, 0x84, 0x94, 0xA4, 0xB4, 0x08, 0x18, 0x28, 0xA8, 0x80, 0x90, 0xB0, 0xA0, 0xC0]
_items = st.builds(
    item, st.sampled_from(_PREFIXES), st.integers(0, 2**32 - 1) | st.integers(0, 48), st.just(4) | st.none()
)
_short_items = st.builds(
    item,
    st.sampled_from(_PREFIXES),
    st.sampled_from([0, 1, 2, 3, 5, 7, 8, 9, 0x0B, 0x17, 0x18, 0x20, 0x2F, 0x9E, 0xFF]),
    st.sampled_from([1, 2]),
)
hostile = st.binary(max_size=300) | st.lists(_items | _short_items | st.binary(max_size=3), max_size=200).map(b"".join)


def read(descriptor: bytes) -> Telephony | None:
    try:
        found = Telephony.from_descriptor(parse(descriptor))
    except DescriptorError as error:
        offset = error.offset
    else:
        return found
    assert 0 <= offset <= len(descriptor)
    return None


@settings(max_examples=400, deadline=None)
@given(descriptor=hostile, reports=st.lists(st.binary(max_size=70), max_size=5))
def test_any_bytes_give_fields_or_the_one_error_within_bounds(descriptor: bytes, reports: list[bytes]) -> None:
    start = time.process_time()
    found = read(descriptor)
    if found is not None:
        decoder = Decoder(found)
        for report in reports:
            decoder.decode(report)
        for written in found.encode(set(LampName)).values():
            assert len(written) <= MAX_REPORT_BYTES + 1
        assert sum(len(usages) for usages in found.why.values()) < 10_000
    assert time.process_time() - start < 1


@settings(max_examples=50, deadline=None)
@given(part=st.lists(_short_items | _items, min_size=1, max_size=8).map(b"".join))
def test_time_stays_bounded_up_to_the_longest_descriptor(part: bytes) -> None:
    descriptor = (part * (MAX_DESCRIPTOR_BYTES // len(part)))[:MAX_DESCRIPTOR_BYTES]
    start = time.process_time()
    read(descriptor)
    assert time.process_time() - start < 1


class Layout:
    """Lamps at random places of random reports, and the descriptor that says so."""

    def __init__(self, draw: Any) -> None:
        numbered = draw(st.booleans())
        ids = draw(st.lists(st.integers(1, 255), min_size=1, max_size=4, unique=True)) if numbered else [0]
        self.at: dict[LampName, tuple[int, int]] = {}
        self.bits = dict.fromkeys(ids, 0)
        parts = []
        for lamp in draw(st.lists(st.sampled_from(LampName), min_size=1, unique=True)):
            number = draw(st.sampled_from(ids))
            gap = draw(st.integers(0, 20))
            self.at[lamp] = (number, self.bits[number] + gap)
            self.bits[number] += gap + 1
            page, usage_id = LAMP_USAGES[lamp]
            head = report_id(number) if number else b""
            parts.append(
                head + count(gap) + output(CONSTANT) + count(1) + usage_page(page) + usage(usage_id) + output(VARIABLE)
            )
        self.descriptor = usage_page(0x0B) + usage(0x05) + collection(APPLICATION, size(1), *parts)


def lit(report: bytes, bit: int) -> bool:
    """Read one bit from the report as written, the slow way: by the digits of each byte."""
    digits = "".join(f"{byte:08b}"[::-1] for byte in report[1:])
    return digits[bit] == "1"


@given(data=st.data())
def test_any_set_of_lamps_comes_back_from_the_reports(data: st.DataObject) -> None:
    layout = Layout(data.draw)
    found = Telephony.from_descriptor(parse(layout.descriptor))
    on = data.draw(st.sets(st.sampled_from(LampName)))
    reports = found.encode(on)
    assert {lamp for lamp, (number, bit) in layout.at.items() if lit(reports[number], bit)} == on & set(layout.at)
    for number, report in reports.items():
        assert report[0] == number
        assert len(report) == 1 + (layout.bits[number] + 7) // 8
        assert sum(byte.bit_count() for byte in report[1:]) == len(
            [x for x in on if layout.at.get(x, (None,))[0] == number]
        )
    assert set(reports) == {number for number, _bit in layout.at.values()}


@given(data=st.data())
def test_every_lamp_is_found_where_it_was_put(data: st.DataObject) -> None:
    layout = Layout(data.draw)
    rd = parse(layout.descriptor)
    for lamp, (number, bit) in layout.at.items():
        (place,) = rd.find(LAMP_USAGES[lamp], Direction.OUTPUT)
        assert (place.field.report_id, place.bit) == (number, bit)
