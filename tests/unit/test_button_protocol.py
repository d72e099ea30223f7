"""What a serial button says is understood, whatever way it arrives."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutebridge.core.button_protocol import MAX_WORD_BYTES, ButtonDecoder, SerialProtocol
from mutebridge.core.events import Event, MuteAsked, MutePressed, MuteReleased, MuteSwitched, MuteToggled, PressMode
from mutebridge.core.lights import Lights, MicLight

DOWN, UP, FLIP = MutePressed("b"), MuteReleased("b"), MuteToggled("b")


def protocol(**keys: Any) -> SerialProtocol:
    return msgspec.convert(keys, SerialProtocol)


def decoder(**keys: Any) -> ButtonDecoder:
    return ButtonDecoder(protocol(**keys), "b")


TALK = {"press": "PTT pressed", "release": "PTT released"}


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_in_any_way(end: bytes) -> None:
    assert decoder(**TALK).feed(b"PTT pressed" + end + b"PTT released" + end, 0) == [DOWN, UP]


def test_a_line_counts_when_it_is_complete() -> None:
    button = decoder(**TALK)
    assert button.feed(b"PTT pre", 0) == []
    assert button.feed(b"ssed", 0) == []
    assert button.feed(b"\r", 0) == [DOWN]
    assert button.feed(b"\nPTT released\r\n", 0) == [UP]


@given(st.lists(st.integers(1, 7)))
def test_pieces_of_any_size_say_the_same(sizes: list[int]) -> None:
    data = b"PTT pressed\r\nnoise\nPTT released\rPTT pressed\n\n" * 3
    button = decoder(**TALK)
    events: list[Event] = []
    at = 0
    for size in [*sizes, len(data)]:
        events += button.feed(data[at : at + size], 0)
        at += size
    assert events == [DOWN, UP] * 3 + [DOWN]
    assert button.unknown == 3


@given(st.binary(max_size=3000))
def test_any_bytes_give_events_or_nothing(data: bytes) -> None:
    for framing in ("lines", "bytes"):
        button = decoder(framing=framing, toggle={"hex": "00 01"}, muted="m", live="l")
        button.feed(data, 0)
        assert button.feed(b"\nm\n", 1)[-1:] in ([MuteSwitched("b", muted=True)], [MuteSwitched("b", True, True)], [])


def test_an_overlong_line_is_dropped_to_its_end_and_counted_once() -> None:
    button = decoder(toggle="T")
    for _ in range(10):
        assert button.feed(b"x" * MAX_WORD_BYTES, 0) == []
    assert button.feed(b"T\nT\n", 0) == [FLIP]
    assert button.overlong == 1


def test_an_overlong_line_in_one_piece_is_counted_too() -> None:
    button = decoder(toggle="T")
    assert button.feed(b"x" * (MAX_WORD_BYTES + 1) + b"\nT\n", 0) == [FLIP]
    assert button.overlong == 1


def test_the_rest_of_a_line_begun_before_listening_is_dropped() -> None:
    button = decoder(live="muted-not", muted="not")
    button.start_mid_line()
    assert button.feed(b"not\nnot\n", 0) == [MuteSwitched("b", muted=True, baseline=True)]


def test_words_without_meaning_are_counted_and_those_to_ignore_are_not() -> None:
    button = decoder(toggle="T", ignore=["Device enabled", "ACK"])
    assert button.feed(b"Device enabled\nhello\nACK\nT\n", 0) == [FLIP]
    assert (button.unknown, button.last_unknown) == (1, b"hello")


def test_several_words_may_mean_the_same() -> None:
    assert decoder(toggle=["a", {"hex": "62"}]).feed(b"a\nb\n", 0) == [FLIP, FLIP]


def test_a_repeated_press_or_a_release_out_of_nowhere_is_nothing() -> None:
    button = decoder(**TALK)
    assert button.feed(b"PTT released\nPTT pressed\nPTT pressed\nPTT released\nPTT released\n", 0) == [DOWN, UP]


def test_bytes_are_found_anywhere_in_the_stream() -> None:
    button = decoder(framing="bytes", press={"hex": "aa 01"}, release={"hex": "AA00"}, toggle="t")
    assert button.feed(bytes.fromhex("ff aa"), 0) == []
    assert button.feed(bytes.fromhex("aa 01 74 aa 00"), 0) == [DOWN, FLIP, UP]
    assert button.unknown == 2


def test_line_ends_between_bytes_are_no_noise() -> None:
    button = decoder(framing="bytes", muted="0", live="1")
    button.start_mid_line()
    assert [e.muted for e in button.feed(b"0\r\n1\r\n", 0) if isinstance(e, MuteSwitched)] == [True, False]
    assert button.unknown == 0


def test_the_first_state_is_a_baseline_and_a_repeated_one_is_nothing() -> None:
    button = decoder(muted="0", live="1")
    assert button.feed(b"0\n0\n1\n1\n", 0) == [
        MuteSwitched("b", muted=True, baseline=True),
        MuteSwitched("b", muted=False),
    ]


def test_where_words_are_presses_each_of_them_counts() -> None:
    button = decoder(muted="0", live="1", words_are_presses=True)
    assert button.feed(b"1\n1\n0\n", 0) == [
        MuteAsked("b", muted=False),
        MuteAsked("b", muted=False),
        MuteAsked("b", muted=True),
    ]


# --- bounces ---------------------------------------------------------------------------------------------------------


def test_a_bounce_adds_no_press() -> None:
    button = decoder(**TALK, debounce_ms=20)
    assert button.feed(b"PTT pressed\nPTT released\nPTT pressed\n", 1.000) == [DOWN]
    assert button.wake_at is None
    assert button.feed(b"PTT released\nPTT pressed\nPTT released\n", 2.000) == [UP]
    assert button.wake_at is None


def test_a_release_within_the_window_is_told_at_its_end() -> None:
    button = decoder(**TALK, debounce_ms=20)
    assert button.feed(b"PTT pressed\n", 1.000) == [DOWN]
    assert button.feed(b"PTT released\n", 1.010) == []
    assert button.wake_at == pytest.approx(1.020)
    assert button.timed(1.015) == []
    assert button.timed(1.020) == [UP]
    assert button.wake_at is None


def test_a_toggle_within_the_window_is_a_bounce() -> None:
    button = decoder(toggle="T", debounce_ms=50)
    assert button.feed(b"T\nT\n", 1.00) == [FLIP]
    assert button.feed(b"T\n", 1.04) == []
    assert button.feed(b"T\n", 1.06) == [FLIP]


def test_a_switch_that_bounces_ends_where_it_stands() -> None:
    button = decoder(muted="0", live="1", debounce_ms=20)
    button.feed(b"0\n", 0)
    assert button.feed(b"1\n0\n1\n0\n", 1.0) == [MuteSwitched("b", muted=False)]
    assert button.timed(1.02) == [MuteSwitched("b", muted=True)]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 0.1))))
def test_the_last_word_always_wins(changes: list[tuple[bool, float]]) -> None:
    """Whatever a contact does, once it is quiet the last thing told is how it stands."""
    button = decoder(**TALK, debounce_ms=20)
    now = 0.0
    told: list[Event] = []
    for down, pause in changes:
        now += pause
        if button.wake_at is not None and button.wake_at <= now:
            told += button.timed(button.wake_at)
        told += button.feed(b"PTT pressed\n" if down else b"PTT released\n", now)
    if button.wake_at is not None:
        told += button.timed(button.wake_at)
    assert told == [DOWN, UP] * (len(told) // 2) + [DOWN] * (len(told) % 2)
    assert button.held == bool(told and told[-1] == DOWN) == bool(changes and changes[-1][0])


# --- modem lines -----------------------------------------------------------------------------------------------------


def test_a_contact_on_a_modem_line() -> None:
    button = decoder(modem={"line": "cts"})
    assert button.level(False, 0) == []
    assert button.level(True, 1) == [DOWN]
    assert button.level(True, 1.001) == []
    assert button.level(False, 1.005) == []
    assert button.wake_at == pytest.approx(1.020)
    assert button.timed(1.020) == [UP]


def test_a_contact_that_is_active_low() -> None:
    button = decoder(modem={"line": "dsr", "active": "low"})
    assert button.level(True, 0) == []
    assert button.level(False, 1) == [DOWN]


def test_a_contact_held_down_since_before_opening_is_neither_pressed_nor_released() -> None:
    button = decoder(modem={"line": "cts"})
    assert button.level(True, 0) == []
    assert button.wake_at is None
    assert button.level(False, 1) == []
    assert button.level(True, 2) == [DOWN]
    assert button.level(False, 3) == [UP]


def test_a_switch_on_a_modem_line() -> None:
    button = decoder(modem={"line": "cts", "means": "muted"})
    assert button.level(True, 0) == [MuteSwitched("b", muted=True, baseline=True)]
    assert button.level(False, 1) == [MuteSwitched("b", muted=False)]
    other = decoder(modem={"line": "cts", "means": "live"})
    assert other.level(True, 0) == [MuteSwitched("b", muted=False, baseline=True)]


# --- what is sent ----------------------------------------------------------------------------------------------------

ALL = {"muted": "M", "live": "L", "unknown": "U", "pending": "P", "rejected": "R", "off": "O"}


@pytest.mark.parametrize(
    ("lights", "sent"),
    [
        (Lights(mic=MicLight.MUTED), b"M\n"),
        (Lights(mic=MicLight.LIVE), b"L\n"),
        (Lights(mic=MicLight.UNKNOWN), b"U\n"),
        (Lights(mic=MicLight.OFF), b"O\n"),
        (Lights(mic=MicLight.LIVE, pending=True), b"P\n"),
        (Lights(mic=MicLight.UNKNOWN, pending=False), b"P\n"),
        (Lights(mic=MicLight.LIVE, pending=True, rejected=True), b"R\n"),
    ],
)
def test_each_light_has_its_word(lights: Lights, sent: bytes) -> None:
    assert protocol(send=ALL).encode(lights) == sent


@pytest.mark.parametrize(
    ("lights", "sent"),
    [
        (Lights(mic=MicLight.MUTED), b"M\r\n"),
        (Lights(mic=MicLight.UNKNOWN), b"L\r\n"),
        (Lights(mic=MicLight.OFF), b"L\r\n"),
        (Lights(mic=MicLight.MUTED, rejected=True), b"M\r\n"),
        (Lights(mic=MicLight.LIVE, pending=True), b"L\r\n"),
    ],
)
def test_a_lamp_with_two_words_is_dark_unless_muted(lights: Lights, sent: bytes) -> None:
    assert protocol(send={"muted": "M", "live": "L"}, line_end="crlf").encode(lights) == sent


def test_off_is_shown_as_unknown_when_it_has_no_word() -> None:
    assert protocol(send={"live": "L", "unknown": "U"}).encode(Lights()) == b"U\n"
    assert protocol(send={"live": "L", "unknown": "U"}).encode(Lights(mic=MicLight.MUTED)) == b"L\n"


def test_bytes_are_sent_as_they_are() -> None:
    lamp = protocol(framing="bytes", send={"muted": {"hex": "41 ff0000"}, "live": "A"})
    assert lamp.encode(Lights(mic=MicLight.MUTED)) == b"A\xff\0\0"
    assert lamp.encode(Lights()) == b"A"
    assert protocol(send={"live": {"hex": "00"}}).encode(Lights()) == b"\0"


def test_a_button_without_a_lamp_is_sent_nothing() -> None:
    assert protocol(toggle="T").encode(Lights(mic=MicLight.MUTED)) == b""


def test_a_lamp_on_a_modem_line_is_lit_exactly_when_muted() -> None:
    high = protocol(modem={"lamp": "dtr"})
    low = protocol(modem={"lamp": "rts", "lamp_active": "low"})
    for mic in MicLight:
        for lights in (Lights(mic=mic), Lights(mic=mic, rejected=True)):
            assert high.lamp_level(lights) == (mic is MicLight.MUTED)
            assert low.lamp_level(lights) == (mic is not MicLight.MUTED)


# --- what it is ------------------------------------------------------------------------------------------------------


def test_what_a_button_can_do() -> None:
    assert protocol(**TALK, send=ALL).can == (
        "mute_button",
        "release",
        "mute_light",
        "pending_light",
        "rejected_light",
    )
    assert protocol(muted="0", live="1").can == ("mute_switch",)
    assert protocol(modem={"line": "cts", "lamp": "dtr"}).can == ("mute_button", "release", "mute_light")
    assert protocol(modem={"line": "cts", "means": "muted"}).can == ("mute_switch",)
    assert not protocol().does_something


def test_boot_noise_and_bounces_are_those_of_its_kind() -> None:
    words, contact = protocol(toggle="T"), protocol(modem={"line": "cts"})
    assert (words.settle_time_s, words.debounce_s) == (1.6, 0)
    assert (contact.settle_time_s, contact.debounce_s) == (0, 0.02)
    own = protocol(toggle="T", settle_s=0, debounce_ms=5)
    assert (own.settle_time_s, own.debounce_s) == (0, 0.005)


@pytest.mark.parametrize(
    ("keys", "natural"),
    [
        (TALK, PressMode.TOGGLE),
        ({"toggle": "T"}, PressMode.TOGGLE),
        ({"muted": "0", "live": "1"}, PressMode.STATE),
        ({"modem": {"line": "cts", "means": "live"}}, PressMode.STATE),
        ({"send": ALL}, PressMode.TOGGLE),
    ],
)
def test_the_natural_press_mode(keys: dict[str, Any], natural: PressMode) -> None:
    assert protocol(**keys).natural_press_mode is natural
    protocol(**keys).check_press_mode(natural)


@pytest.mark.parametrize(
    ("keys", "mode", "needs"),
    [
        ({"toggle": "T"}, PressMode.PUSH_TO_TALK, "tells its release"),
        ({"muted": "0", "live": "1"}, PressMode.PUSH_TO_MUTE, "tells its release"),
        (TALK, PressMode.STATE, "says its state"),
        ({"muted": "0", "live": "1"}, PressMode.TOGGLE, "press_mode state"),
    ],
)
def test_a_press_mode_that_the_button_cannot_serve(keys: dict[str, Any], mode: PressMode, needs: str) -> None:
    with pytest.raises(ValueError, match=needs):
        protocol(**keys).check_press_mode(mode)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"press": "x"}, "belong together"),
        ({"release": "x"}, "belong together"),
        ({"toggle": ""}, "1 to 256 bytes"),
        ({"toggle": "  "}, "1 to 256 bytes"),
        ({"toggle": "x" * 257}, "1 to 256 bytes"),
        ({"toggle": "a\nb"}, "line end"),
        ({"toggle": {"hex": "0"}}, "hexadecimal"),
        ({"toggle": {"hex": ""}}, "hexadecimal"),
        ({"muted": "x", "live": "x"}, "means both muted and live"),
        ({"framing": "bytes", "muted": "m", "live": "mm"}, "beginning of"),
        ({"send": {"muted": "M"}}, "'live' is missing"),
        ({"modem": {}}, "neither"),
        ({"modem": {"line": "cts"}, "toggle": "T"}, "replaces"),
        ({"presss": "x"}, "unknown field"),
        ({"settle_s": -1}, "0"),
        ({"baud": 1}, "50"),
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=complaint):
        protocol(**keys)
