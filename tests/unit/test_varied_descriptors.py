"""Descriptors in all the ways in which headsets write them, and what a person finds in them by reading.

Each is made up here, of traits that descriptors of real devices and the HID specification have; the expectation was
worked out by hand, from the specification.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from tests.unit.headsets.items import (
    APPLICATION,
    ARRAY,
    CONSTANT,
    LOGICAL,
    NO_PREFERRED,
    NULL_STATE,
    PHYSICAL,
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

from mutebridge.core.report_descriptor import parse
from mutebridge.core.telephony import Telephony


class Reading(NamedTuple):
    """What a person reads: (report id, bit, kind) of the buttons, (report id, bit) of the LEDs."""

    mute: tuple[int, int, str] | None = None
    hook: tuple[int, int, str] | None = None
    leds: Mapping[str, tuple[int, int]] = MappingProxyType({})
    reject: tuple[int, int, str] | None = None
    ringer: tuple[int, int] | None = None


def application(page: int, kind: int, *content: bytes) -> bytes:
    return usage_page(page) + usage(kind) + collection(APPLICATION, logical(0, 1), size(1), count(1), *content)


def padding(bits: int, main: bytes | None = None) -> bytes:
    return count(bits) + (main or input_(CONSTANT)) + count(1)


def out_padding(bits: int) -> bytes:
    return padding(bits, output(CONSTANT))


TOGGLE, STATE, HELD = VARIABLE | RELATIVE, VARIABLE | NO_PREFERRED, VARIABLE
VENDOR = 0xFF99

DESCRIPTORS: dict[str, tuple[bytes, Reading]] = {
    # Volume keys first, telephony second, a vendor's collection that repeats everything, one report id each.
    "three collections, mirrored": (
        application(0x0C, 0x01, report_id(1), usage(0xEA, 0xE9, 0xE2), count(3), input_(VARIABLE), padding(5))
        + application(
            0xFF30, 0x01, report_id(4), usage(0x20, 0x2F), count(2), input_(TOGGLE), padding(6),
            usage(0x17, 0x09), count(2), output(STATE), out_padding(6),
        )
        + headset(
            report_id(2), usage(0x20), input_(STATE), usage(0x97, 0x2A), count(2), input_(STATE),
            usage(0x2F, 0x21, 0x24, 0x50), count(4), input_(TOGGLE), padding(9),
            usage_page(0x08), usage(0x17, 0x1E, 0x09, 0x18, 0x20, 0x21, 0x2A), count(7), output(STATE),
            usage_page(0x0B), usage(0x9E), count(1), output(STATE), out_padding(8),
        ),
        Reading(
            mute=(2, 3, "toggle_button"),
            hook=(2, 0, "toggle_switch"),
            leds={"off_hook": (2, 0), "speaker": (2, 1), "mute": (2, 2), "ring": (2, 3), "hold": (2, 4),
                  "microphone": (2, 5), "on_line": (2, 6)},
            ringer=(2, 7),
        ),
    ),
    # Push saves the page, the size, the count, the report id; Pop brings all of it back.
    "globals pushed and popped": (
        headset(
            report_id(5), push(), usage_page(0x08), report_id(6), size(4), count(2), output(CONSTANT), pop(),
            usage(0x20), input_(STATE), usage(0x2F), input_(TOGGLE), padding(6),
            push(), report_id(6), usage_page(0x08), usage(0x09), output(STATE), usage(0x17), output(STATE),
            out_padding(6), pop(), usage(0x21), input_(TOGGLE),
        ),
        Reading(mute=(5, 1, "toggle_button"), hook=(5, 0, "toggle_switch"), leds={"mute": (6, 8), "off_hook": (6, 9)}),
    ),
    # LEDs and keys as ranges, of which most are of no interest: 0x20 to 0x2F are sixteen bits.
    "ranges": (
        headset(
            report_id(3), usages(0x20, 0x2F), count(16), input_(STATE),
            usage_page(0x08), usages(0x09, 0x21), count(25), output(STATE), out_padding(7),
        ),
        Reading(
            mute=(3, 15, "toggle_switch"),
            hook=(3, 0, "toggle_switch"),
            leds={"mute": (3, 0), "off_hook": (3, 14), "ring": (3, 15), "speaker": (3, 21), "hold": (3, 23),
                  "microphone": (3, 24)},
        ),
    ),
    # The maximum before the minimum: the order of the two is not prescribed.
    "range written backwards": (
        headset(
            report_id(3), item(0x28, 0x2F) + item(0x18, 0x2E), count(2), input_(TOGGLE),
            usage_page(0x08), item(0x28, 0x18) + item(0x18, 0x17), count(2), output(STATE),
        ),
        Reading(mute=(3, 1, "toggle_button"), leds={"off_hook": (3, 0), "ring": (3, 1)}),
    ),
    # Call keys named in the slots of an array: the values count from the logical minimum.
    "selectors in an array": (
        headset(
            report_id(8), logical(1, 5), size(3), count(2), usage(0x20, 0x2F, 0x21, 0x26, 0x24), input_(ARRAY),
            size(1), padding(2), logical(0, 1), usage_page(0x08), usage(0x09), output(STATE), out_padding(7),
        ),
        Reading(mute=(8, 0, "selector"), hook=(8, 0, "selector"), leds={"mute": (8, 0)}),
    ),
    # A dial pad in a 4-bit array with a null state, which puts what follows across the byte.
    "dial pad before the mute key": (
        headset(
            report_id(2), usage(0x20), input_(STATE), usage(0x21, 0x24), count(2), input_(TOGGLE), count(1),
            usage(0x06), collection(LOGICAL, usages(0xB0, 0xBB), logical(0, 12), size(4), input_(NULL_STATE)),
            logical(0, 1), size(1), usage(0x07) + usage_page(0x09) + input_(VARIABLE),
            usage_page(0x0B), usage(0x2F), input_(TOGGLE | CONSTANT), padding(7),
        ),
        Reading(mute=(2, 8, "toggle_button"), hook=(2, 0, "toggle_switch"), reject=(2, 7, "momentary")),
    ),
    # No report ids at all; an LED page inside a vendor's collection is still the LED page.
    "no report ids, LEDs in a vendor collection": (
        application(0x0B, 0x05, padding(3), usage(0x2F), input_(TOGGLE), padding(4))
        + application(VENDOR, 0x01, usage_page(0x08), out_padding(8), usage(0x09), output(STATE), usage(0x17),
                      output(STATE), out_padding(6)),
        Reading(mute=(0, 3, "toggle_button"), leds={"mute": (0, 8), "off_hook": (0, 9)}),
    ),
    # The telephony keys among the consumer keys, as 4-byte usages that bring their own page.
    "extended usages in a consumer collection": (
        application(
            0x0C, 0x01, report_id(1), usage(0xE9, 0xEA, 0x000B002F, 0xCD, 0x000B0020), count(5), input_(VARIABLE),
            padding(3), usage(0x00080009, 0x00080021), count(2), output(VARIABLE), out_padding(6),
        ),
        Reading(mute=(1, 2, "momentary"), hook=(1, 4, "toggle_switch"), leds={"mute": (1, 0), "microphone": (1, 1)}),
    ),
    # The same usage page in two collections of one report: the bits go on.
    "one report in two collections": (
        application(0x0C, 0x01, report_id(2), usage(0xE9, 0xEA), count(2), input_(VARIABLE))
        + headset(usage(0x2F), input_(TOGGLE), usage(0x20), input_(TOGGLE), padding(4)),
        Reading(mute=(2, 2, "toggle_button"), hook=(2, 3, "toggle_button")),
    ),
    # A phone, not a headset, with everything in a physical and a logical collection; Phone Mute takes a byte.
    "phone with nested collections": (
        application(
            0x0B, 0x01, report_id(0x20), usage(0x01),
            collection(PHYSICAL, usage(0x02), collection(LOGICAL, size(8), usage(0x20), input_(VARIABLE),
                                                         usage(0x2F), input_(VARIABLE))),
            size(1), usage_page(0x08), usage(0x18, 0x17, 0x09), count(3), output(VARIABLE), size(5), out_padding(1),
        ),
        Reading(
            mute=(0x20, 8, "momentary"), hook=(0x20, 0, "toggle_switch"),
            leds={"ring": (0x20, 0), "off_hook": (0x20, 1), "mute": (0x20, 2)},
        ),
    ),
    # On and off keys: -1, 0, +1 in two bits.
    "on and off keys": (
        headset(report_id(1), logical(-1, 1), size(2), usage(0x2F), input_(TOGGLE | NO_PREFERRED), size(6),
                input_(CONSTANT)),
        Reading(mute=(1, 0, "on_off_buttons")),
    ),
    # One report for each LED, the id that of the usage; a feature report that also says Mute is no LED to write.
    "one report for each LED": (
        headset(
            report_id(8), usage(0x2F), input_(TOGGLE), usage(0x20, 0x21), count(2), input_(STATE), padding(5),
            usage_page(0x08),
            *[report_id(led) + usage(led) + output(STATE) + out_padding(7) for led in (0x09, 0x17, 0x18, 0x1E)],
            report_id(0x30), usage(0x09), feature(STATE), padding(7, feature(CONSTANT)),
        ),
        Reading(
            mute=(8, 0, "toggle_button"), hook=(8, 1, "toggle_switch"),
            leds={"mute": (9, 0), "off_hook": (0x17, 0), "ring": (0x18, 0), "speaker": (0x1E, 0)},
        ),
    ),
    # A delimited set offers the same bit under two names; the second is as good.
    "delimited usages": (
        headset(report_id(1), delimited(0x21, 0x2F), input_(TOGGLE), delimited(0x20, 0x26), input_(STATE)),
        Reading(mute=(1, 0, "toggle_button"), hook=(1, 1, "toggle_switch")),
    ),
    # More usages than bits: what is over is void. Fewer: the last one is repeated, and the first of them counts.
    "too many usages, and too few": (
        headset(
            report_id(2), usage(0x20, 0x2F), count(1), input_(STATE), usage(0x21, 0x2F), count(3), input_(TOGGLE),
            usage_page(0x08), usage(0x17, 0x09), count(6), output(STATE), out_padding(2),
        ),
        Reading(mute=(2, 2, "toggle_button"), hook=(2, 0, "toggle_switch"), leds={"off_hook": (2, 0), "mute": (2, 1)}),
    ),
    # A vendor's Teams button and a call state, with a keyboard's LEDs: nothing here mutes.
    "keyboard with a Teams key": (
        application(0x01, 0x06, report_id(1), usage_page(0x07), usages(0xE0, 0xE7), count(8), input_(VARIABLE),
                    usage_page(0x08), usages(0x01, 0x20), count(32), output(VARIABLE))
        + application(VENDOR, 0x01, report_id(0x9B), usage(0x01, 0x2F, 0x20), count(3), input_(TOGGLE), padding(5)),
        Reading(),
    ),
    # A microphone with a consumer mute key and a mute LED: the key is the loudspeaker's, as far as can be read.
    "consumer mute beside a mute LED": (
        application(0x0C, 0x01, report_id(1), usage(0xE2, 0xE9, 0xEA), count(3), input_(TOGGLE), padding(5),
                    usage_page(0x08), usage(0x09), output(STATE), out_padding(7)),
        Reading(leds={"mute": (1, 0)}),
    ),
    # 0x20 is Hold on the LED page and Hook Switch on the telephony page; 0x09 is Mute only on the LED page.
    "ids that mean something else on other pages": (
        headset(
            report_id(2), usage(0x23), input_(TOGGLE), usage_page(0x09), usages(0x01, 0x03), count(3),
            input_(VARIABLE), padding(4), usage_page(0x08), usage(0x20), output(STATE),
            usage_page(0x09), usage(0x09, 0x17, 0x18), count(3), output(VARIABLE), out_padding(4),
        ),
        Reading(leds={"hold": (2, 0)}),
    ),
    # Lamps whose size is a byte, an application collection within another, sizes written in more bytes than needed.
    "nested applications and wide items": (
        usage_page(0x0C, 4) + usage(0x01, width=2) + item(0xA0, APPLICATION, 2)
        + item(0x14, 0, 0) + item(0x24, 1, 4) + item(0x74, 1, 2) + item(0x94, 1, 4) + report_id(0x11, 2)
        + headset(usage(0x2F, width=2), item(0x80, TOGGLE, 4), padding(7), item(0x74, 8, 4),
                  usage_page(0x08, 2), usage(0x09, 0x17, width=2), count(2), output(VARIABLE))
        + item(0xC0, 0, 0),
        Reading(mute=(0x11, 0, "toggle_button"), leds={"mute": (0x11, 0), "off_hook": (0x11, 8)}),
    ),
}  # fmt: skip


def as_json(reading: Reading) -> dict[str, Any]:
    def control(place: tuple[int, int, str] | None) -> dict[str, Any] | None:
        return place and dict(zip(("report_id", "bit", "kind"), place, strict=True))

    def lamp(place: tuple[int, int]) -> dict[str, Any]:
        return dict(zip(("report_id", "bit"), place, strict=True))

    return {
        "mute_button": control(reading.mute),
        "hook_switch": control(reading.hook),
        "leds": {name: lamp(place) for name, place in reading.leds.items()},
        "reject": control(reading.reject),
        "ringer": reading.ringer and lamp(reading.ringer),
    }


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_what_is_found_is_what_a_person_reads(name: str) -> None:
    data, reading = DESCRIPTORS[name]
    described = Telephony.from_descriptor(parse(data)).described()
    wanted = as_json(reading)
    assert {key: described[key] for key in wanted} == wanted
