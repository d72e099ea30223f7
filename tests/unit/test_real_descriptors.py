"""The parser and what is found with it, against descriptors of real devices and what others found in them.

They lie beside the repository and are not part of it; where they are missing, `conftest.py` leaves this file out.
"""

from typing import Any

import pytest
from tests.unit.headsets import shared_descriptors
from tests.unit.headsets.fields import usage_at
from tests.unit.test_descriptor_text import hid_recorder, usbhid_dump

from mutebridge.config import load_profiles
from mutebridge.core.descriptor_explanation import explain
from mutebridge.core.descriptor_text import find_descriptors
from mutebridge.core.device_rights import is_given
from mutebridge.core.profiles import DeviceNode
from mutebridge.core.report_descriptor import DescriptorError, Direction, Field, ReportDescriptor, parse
from mutebridge.core.telephony import Act, Decoder, Key, LampName, Telephony
from mutebridge.core.usages import usage_name

# --- fields


def _wanted(device: dict[str, Any], direction: Direction) -> list[dict[str, Any]]:
    wanted = [*device["expected"], *device.get("vendor_expected", [])]
    return [field for field in wanted if field["dir"] == direction.value]


def _agrees(field: Field, bit: int, expected: dict[str, Any]) -> bool:
    application = field.application
    return (
        (field.report_id, bit, field.size) == (expected["id"], expected["bit"], expected["size"])
        and field.relative is expected["relative"]
        and field.constant is expected.get("constant", False)
        and field.no_preferred is expected.get("no_preferred", False)
        and field.null_state is expected.get("null_state", False)
        and application is not None
        and f"0x{application[0]:04x}{application[1]:04x}" == expected["app"]
    )


def _has_array(rd: ReportDescriptor, direction: Direction, expected: dict[str, Any]) -> bool:
    selectors = [(s["page"], s["usage"]) for s in expected.get("selectors", [])]
    first, last = expected.get("selector_range", [None, None])
    for field in rd.fields:
        if field.direction is not direction or not field.array or not _agrees(field, field.bit, expected):
            continue
        if (field.count, field.logical_min, field.logical_max) != (
            expected["count"],
            expected["logical_min"],
            expected["logical_max"],
        ):
            continue
        if selectors:
            return [usage_at(field, n) for n in range(len(selectors) + 1)] == [*selectors, None]
        whole = field.usages[0]
        return (whole.page, whole.first, whole.last) == (first["page"], first["usage"], last["usage"])
    return False


@pytest.mark.parametrize("device", shared_descriptors.devices())
@pytest.mark.parametrize("direction", Direction)
def test_real_device_has_the_fields_that_others_found(device: dict[str, Any], direction: Direction) -> None:
    rd = parse(bytes.fromhex(device["descriptor"]))
    for expected in _wanted(device, direction):
        if expected.get("array"):
            assert _has_array(rd, direction, expected)
            continue
        usage_ = (expected["page"], expected["usage"])
        at = [
            field
            for field in rd.fields
            if field.direction is direction and not field.array
            for position in range(field.count)
            if usage_at(field, position) == usage_ and _agrees(field, field.bit + position * field.size, expected)
        ]
        assert at, expected


@pytest.mark.parametrize("device", shared_descriptors.devices())
def test_real_device_has_the_report_lengths_that_others_found(device: dict[str, Any]) -> None:
    rd = parse(bytes.fromhex(device["descriptor"]))
    assert {(d.value, n): bits for (d, n), bits in rd.report_bits.items()} == {
        (report["dir"], report["id"]): report["bits"] for report in device["report_bits"]
    }


@pytest.mark.parametrize("case", shared_descriptors.edge_cases())
def test_edge_case(case: dict[str, Any]) -> None:
    descriptor = shared_descriptors.edge_case_bytes(case)
    try:
        parse(descriptor)
    except DescriptorError:
        assert case["expect"] in ("error", "either")
    else:
        assert case["expect"] in ("ok", "either")


@pytest.mark.parametrize("device", shared_descriptors.devices())
def test_second_opinion_agrees(device: dict[str, Any]) -> None:
    hidtools = pytest.importorskip("hidtools.hid", reason="hid-tools needs libevdev", exc_type=ImportError)
    descriptor = bytes.fromhex(device["descriptor"])
    theirs = hidtools.ReportDescriptor.from_bytes(descriptor)
    reports = {
        Direction.INPUT: theirs.input_reports,
        Direction.OUTPUT: theirs.output_reports,
        Direction.FEATURE: theirs.feature_reports,
    }
    ours = parse(descriptor)
    for field in ours.fields:
        report = reports[field.direction][field.report_id or -1]
        starts = 8 if field.report_id else 0
        at = {f.start - starts: f for f in report if f.usage or f.usages}
        for position in range(1 if field.array else field.count):
            usage_ = usage_at(field, position)
            assert usage_ is not None
            if not field.size or usage_[1] == 0:
                continue
            their = at[field.bit + position * field.size]
            their_usage = their.usages[0] if field.array else their.usage
            by_either_page = {(usage_[0] << 16) + usage_[1], (field.usages[0].page_at_usage << 16) + usage_[1]}
            assert their_usage in by_either_page, usage_name(usage_)
            assert (their.size, bool(their.is_const)) == (field.size, field.constant)


# --- what a device can do

_BY_USAGE = {(0x0B, 0x2F): "mute_button", (0x0B, 0x20): "hook_switch"}
_LEDS = {
    0x09: "mute",
    0x17: "off_hook",
    0x18: "ring",
    0x1E: "speaker",
    0x20: "hold",
    0x21: "microphone",
    0x2A: "on_line",
}


def _kind(field: dict[str, Any]) -> str:
    if field["relative"]:
        return "toggle_button"
    return "toggle_switch" if field.get("no_preferred") else "momentary"


def _found(device: dict[str, Any]) -> Telephony:
    return Telephony.from_descriptor(parse(bytes.fromhex(device["descriptor"])))


@pytest.mark.parametrize("device", shared_descriptors.devices())
def test_real_device_offers_what_others_found_and_nothing_else(device: dict[str, Any]) -> None:
    expected: dict[str, Any] = {"mute_button": None, "hook_switch": None, "leds": {}, "ringer": None}
    for field in device["expected"]:
        place = {"report_id": field["id"], "bit": field["bit"]}
        if field.get("array"):
            hook = [s["usage"] for s in field.get("selectors", []) if s["page"] == 0x0B].count(0x20)
            if hook and field["dir"] == "input":
                expected["hook_switch"] = {**place, "kind": "selector"}
        elif (field["page"], field["usage"]) == (0x0B, 0x9E):
            expected["ringer"] = place
        elif field["page"] == 0x08 and field["usage"] in _LEDS:
            expected["leds"][_LEDS[field["usage"]]] = place
        elif (name := _BY_USAGE.get((field["page"], field["usage"]))) and field["dir"] == "input":
            hook_state = name == "hook_switch" and not field["relative"]
            expected[name] = {**place, "kind": "toggle_switch" if hook_state else _kind(field)}
    described = _found(device).described()
    assert {key: described[key] for key in expected} == expected
    assert described["consumer_mute"] is None


@pytest.mark.parametrize("device", shared_descriptors.devices())
def test_real_device_decodes_and_encodes_the_bytes_of_others(device: dict[str, Any]) -> None:
    found = _found(device)
    lamps = {
        "Off-Hook": LampName.OFF_HOOK,
        "Mute": LampName.MUTE,
        "Ring": LampName.RING,
        "Microphone": LampName.MICROPHONE,
    }
    for sample in device.get("derived", []):
        data = bytes.fromhex(sample["bytes"])
        if sample["dir"] == "input":
            decoder = Decoder(found)
            (signal,) = decoder.decode(data)
            assert signal.key is Key.MUTE
            assert signal.act in (Act.TOGGLED, Act.PRESSED, Act.ON)
        else:
            name = sample["meaning"].removeprefix("LED ").split(" on")[0]
            assert found.encode({lamps[name]})[data[0]] == data


@pytest.mark.parametrize("device", shared_descriptors.devices())
def test_real_device_is_found_and_explained_in_every_form(device: dict[str, Any]) -> None:
    data = bytes.fromhex(device["descriptor"])
    parsed = parse(data)
    told = explain(parsed, _found(device))
    for content in (data, data.hex().encode(), hid_recorder(data).encode(), usbhid_dump(data).encode()):
        assert [found.descriptor for found in find_descriptors(content)] == [data]
    assert told.startswith(
        "It has a mute button" if _found(device).mute_button else ("It has a mute LED", "It has noth")
    )


# --- who may open it


def test_the_service_is_given_those_that_a_person_calls_with() -> None:
    """The Rockchip speakerphone has a keyboard behind the same node: it has to be named in the configuration."""
    withheld = set()
    for parameter in shared_descriptors.devices():
        (device,) = parameter.values
        vendor, product = parameter.id.split("_")[-2:]
        said = bytes.fromhex(device["descriptor"])
        node = DeviceNode(path="x", subsystem="hidraw", vendor_id=vendor, product_id=product, report_descriptor=said)
        if not is_given(node, (), {profile.id: profile for profile in load_profiles()}, {}):
            withheld.add(parameter.id.split("_")[0] + ":" + product)
    not_buttons = {"apple:none", "logitech:c548", "microsoft:003b", "razer:0511", "usbif:none", "yealink:b001"}
    assert withheld == not_buttons | {"rockchip:none"}
