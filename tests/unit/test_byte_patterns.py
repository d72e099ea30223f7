"""Buttons whose bytes a profile lists."""

from typing import Any

import msgspec
import pytest

from mutebridge.core.byte_patterns import BytePatternSession, can, press_mode
from mutebridge.core.events import Event, MutePressed, MuteReleased, MuteSwitched, MuteToggled, PressMode
from mutebridge.core.headset_profile import BytePatterns
from mutebridge.core.lights import DARK, Lights, MicLight

TOUCH: Any = {
    "inputs": [
        {"means": "press", "at": 1, "bytes": "04"},
        {"means": "held", "at": 1, "bytes": "01"},
        {"means": "release", "at": 1, "bytes": "02"},
    ],
    "outputs": {
        "muted": "00 01",
        "live": "00 02",
        "unknown": "00 03",
        "pending": "00 04",
        "rejected": "00 05",
        "off": "00 00",
    },
}
STATE: Any = {
    "inputs": [
        {"means": "muted", "bytes": "52 01", "mask": "ff 0f"},
        {"means": "live", "bytes": "52 00", "mask": "ff 0f"},
    ]
}
TOGGLE: Any = {"inputs": [{"means": "toggle", "bytes": "07"}], "outputs": {"muted": "01 ff", "off": "01 00"}}

PRESSED, RELEASED, TOGGLED = MutePressed("d"), MuteReleased("d"), MuteToggled("d")


def patterns(data: Any) -> BytePatterns:
    return msgspec.convert(data, BytePatterns)


def session(data: Any, **options: float) -> BytePatternSession:
    return BytePatternSession(patterns(data), "d", **options)


def events(of: BytePatternSession, *reports: str) -> list[Event]:
    told = []
    for moment, report in enumerate(reports):
        happened, writes = of.report(bytes.fromhex(report), moment)
        assert not writes
        told += happened
    return told


def test_press_held_and_release() -> None:
    assert events(session(TOUCH), "0004", "0001", "0001", "0002", "0000", "0002") == [PRESSED, RELEASED]


def test_no_first_press_is_lost() -> None:
    assert events(session(TOUCH), "0001", "0002") == [PRESSED, RELEASED]


def test_press_while_down_means_that_the_release_was_lost() -> None:
    """It is no fault's to ask for what the release of a cough button does: an unmute."""
    assert events(session(TOUCH), "0004", "0001", "0004", "0002") == [PRESSED, PRESSED, RELEASED]


def test_toggle_counts_every_report_but_duplicates() -> None:
    assert events(session(TOGGLE), "07", "07", "08") == [TOGGLED] * 2
    assert events(session(TOGGLE, duplicate_within_s=1.5), "07", "07", "08", "07") == [TOGGLED] * 2


def test_state_begins_with_a_baseline() -> None:
    assert events(session(STATE), "5201", "52f1", "5200", "5201") == [
        MuteSwitched("d", muted=True, baseline=True),
        MuteSwitched("d", muted=False),
        MuteSwitched("d", muted=True),
    ]
    assert press_mode(patterns(STATE)) is PressMode.STATE
    assert press_mode(patterns(TOUCH)) is PressMode.TOGGLE


def test_short_and_foreign_reports_are_no_error() -> None:
    assert events(session(STATE), "", "52", "99", "99 00 00 00") == []


@pytest.mark.parametrize(
    ("lights", "written"),
    [
        (DARK, "00 00"),
        (Lights(mic=MicLight.MUTED), "00 01"),
        (Lights(mic=MicLight.LIVE), "00 02"),
        (Lights(mic=MicLight.UNKNOWN), "00 03"),
        (Lights(mic=MicLight.LIVE, pending=True), "00 04"),
        (Lights(mic=MicLight.LIVE, pending=True, rejected=True), "00 05"),
    ],
)
def test_every_state_has_its_colour(lights: Lights, written: str) -> None:
    assert session(TOUCH).show(lights, 0) == [bytes.fromhex(written)]


def test_what_has_no_output_shows_as_less() -> None:
    plain = session(TOGGLE)
    assert plain.show(Lights(mic=MicLight.MUTED, pending=False), 0) == [b"\x01\xff"]
    assert plain.show(Lights(mic=MicLight.LIVE, rejected=True), 0) == [b"\x01\x00"]
    assert session(STATE).show(Lights(mic=MicLight.MUTED), 0) == []


def test_light_is_written_once_and_again_after_a_failure_or_a_foreign_hand() -> None:
    light = session(TOUCH)
    assert light.disturbed(0) == []
    assert light.show(DARK, 0) == [b"\0\0"]
    assert light.show(DARK, 0) == []
    light.written(b"\0\0", 0, ok=True)
    assert light.show(DARK, 0) == []
    light.written(b"\0\0", 0, ok=False)
    assert light.show(DARK, 0) == [b"\0\0"]
    assert light.disturbed(0) == [b"\0\0"]
    assert light.timed(1) == ([], [])
    assert light.wake_at is None
    assert light.disturbed(0.5) == []
    assert [light.wake_at] == [1]
    assert light.timed(1) == ([], [b"\0\0"])
    written = [light.disturbed(now) for now in range(2, 60)]
    assert len([w for w in written if w]) == 3
    assert light.timed(60) == ([], [b"\0\0"])


def test_what_it_can_do() -> None:
    assert can(patterns(TOUCH)) == ("mute button", "mute light")
    assert can(patterns(STATE)) == ("mute button",)
