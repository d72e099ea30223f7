"""The handshake, in front of headsets in software that behave as real ones were seen to."""

from typing import Any

import msgspec
import pytest
from tests.unit.headsets.desk import Desk
from tests.unit.headsets.items import (
    NO_PREFERRED,
    RELATIVE,
    VARIABLE,
    count,
    headset,
    input_,
    logical,
    output,
    report_id,
    size,
    usage,
    usage_page,
)

from mutebridge.core.contract import Action, CallState, CommandError, Outcome
from mutebridge.core.events import (
    Event,
    HookChanged,
    MuteAsked,
    MutePressed,
    MuteReleased,
    MuteSwitched,
    MuteToggled,
    RejectPressed,
)
from mutebridge.core.handshake import CONFIRM_TIMEOUT_S, HeadsetSession
from mutebridge.core.headset_profile import GENERIC, ControlKind, HeadsetProfile
from mutebridge.core.lights import DARK, Lights, MicLight
from mutebridge.core.report_descriptor import parse
from mutebridge.core.telephony import Telephony
from mutebridge.virtual_headset import ECHOING, ECHOING_ALWAYS, JABRA, MAINTAINED, PLAIN, PLANTRONICS, Firmware

LIKE_JABRA = HeadsetProfile(host_must_ack_mute=True, repeats_until_answered_ms=860, boom_arm_refusal_ms=700)
WITH_ARM = HeadsetProfile(boom_arm_refusal_ms=700)
DOUBLES = HeadsetProfile(duplicate_within_ms=5)
ECHOES = HeadsetProfile(mute_echo_ms=200)

IN_CALL = Lights(mic=MicLight.LIVE, off_hook=True)
MUTED = Lights(mic=MicLight.MUTED, off_hook=True)
RINGING = Lights(ring=True)
REFUSED = Lights(mic=MicLight.LIVE, off_hook=True, rejected=True)

TOGGLED = MuteToggled("h")
ASKS_MUTE = MuteAsked("h", muted=True)

# One report for each lamp; the buttons of all kinds in input report 1: mute, hook, reject.
BUTTONS = (
    report_id(1)
    + usage(0x2F)
    + input_(VARIABLE | RELATIVE)
    + usage(0x20)
    + input_(VARIABLE | NO_PREFERRED)
    + usage(0x07)
    + input_(VARIABLE)
)
LAMPS = usage_page(0x08) + b"".join(report_id(led) + usage(led) + output(VARIABLE) for led in (0x09, 0x17, 0x18, 0x20))
PRESS, NOTHING, HOOK, REJECT = b"\x01\x01", b"\x01\x00", b"\x01\x02", b"\x01\x04"
MUTE_OFF, MUTE_ON, OFF_HOOK_OFF, OFF_HOOK_ON = b"\x09\x00", b"\x09\x01", b"\x17\x00", b"\x17\x01"
RING_OFF, RING_ON, HOLD_OFF, HOLD_ON = b"\x18\x00", b"\x18\x01", b"\x20\x00", b"\x20\x01"
ALL_OFF = [OFF_HOOK_OFF, RING_OFF, HOLD_OFF, MUTE_OFF]


def session(
    profile: HeadsetProfile = GENERIC, content: bytes = BUTTONS + LAMPS, lights: Lights | None = IN_CALL
) -> HeadsetSession:
    """Return a session that has shown these lights, long ago."""
    made = HeadsetSession(Telephony.from_descriptor(parse(headset(content)), profile), profile, "h")
    if lights is not None:
        made.show(DARK, -100)
        made.show(lights, -50)
    return made


def events(of: HeadsetSession, *reports: tuple[float, bytes]) -> list[Event]:
    return [event for now, report in reports for event in of.report(report, now)[0]]


# --- what is written when


def test_everything_is_written_when_opened_and_when_a_call_connects_and_then_only_changes() -> None:
    plain = session(lights=None)
    assert plain.show(DARK, 0) == ALL_OFF
    assert plain.show(RINGING, 1) == [RING_ON]
    assert plain.show(IN_CALL, 2) == [OFF_HOOK_ON, RING_OFF, HOLD_OFF, MUTE_OFF]
    assert plain.show(MUTED, 3) == [MUTE_ON]
    assert plain.show(MUTED, 4) == []
    assert plain.show(Lights(off_hook=True, hold=True), 5) == [HOLD_ON, MUTE_OFF]
    assert plain.show(MUTED, 6) == [OFF_HOOK_ON, RING_OFF, HOLD_OFF, MUTE_ON]
    assert plain.show(DARK, 7) == [OFF_HOOK_OFF, MUTE_OFF]


@pytest.mark.parametrize("mic", [MicLight.OFF, MicLight.LIVE, MicLight.UNKNOWN])
def test_mute_lamp_is_lit_only_when_the_microphone_is_known_to_be_muted(mic: MicLight) -> None:
    lit = session(lights=MUTED)
    assert lit.show(Lights(mic=mic, off_hook=True, pending=True, rejected=True), 0) == [MUTE_OFF]


def test_call_lamps_can_be_left_alone_and_the_ringer_added() -> None:
    alone = session(HeadsetProfile(follows_call=False))
    assert alone.show(msgspec.structs.replace(MUTED, ring=True, hold=True), 0) == [MUTE_ON]
    ringer = BUTTONS + LAMPS + usage_page(0x0B) + report_id(0x21) + usage(0x9E) + output(VARIABLE)
    assert b"\x21\x01" not in session(content=ringer, lights=DARK).show(RINGING, 0)
    assert b"\x21\x01" in session(HeadsetProfile(rings_with_lamp=True), ringer, DARK).show(RINGING, 0)


def test_device_without_lamps_is_written_nothing() -> None:
    bare = session(content=BUTTONS, lights=None)
    assert bare.show(MUTED, 0) == []
    assert events(bare, (1, PRESS), (1, NOTHING)) == [TOGGLED]
    assert bare.wake_at == 2
    assert bare.timed(2) == ([], [])
    assert bare.wake_at is None


def test_press_that_changed_nothing_makes_the_lamp_be_written_again() -> None:
    ignored = session()
    assert ignored.report(PRESS, 0) == ([TOGGLED], [])
    assert ignored.show(REFUSED, 0) == [MUTE_OFF]
    assert ignored.show(IN_CALL, 1) == []
    assert ignored.wake_at is None


def test_press_that_the_bridge_ignores_silently_is_settled_after_a_second() -> None:
    silent = session()
    silent.report(PRESS, 0)
    assert silent.wake_at == CONFIRM_TIMEOUT_S
    assert silent.timed(1) == ([], [MUTE_OFF])
    assert silent.wake_at is None


def test_press_under_way_is_not_settled_before_its_end() -> None:
    slow = session()
    slow.report(PRESS, 0)
    assert slow.show(msgspec.structs.replace(IN_CALL, pending=True), 0) == []
    assert slow.timed(1) == ([], [])
    assert slow.wake_at is None
    assert slow.show(REFUSED, 2) == [MUTE_OFF]


def test_press_that_was_confirmed_is_not_written_twice() -> None:
    confirmed = session()
    confirmed.report(PRESS, 0)
    confirmed.show(msgspec.structs.replace(IN_CALL, pending=True), 0)
    assert confirmed.show(MUTED, 0.1) == [MUTE_ON]


def test_device_that_answers_three_rewrites_in_a_row_gets_no_more_of_them() -> None:
    answering = session()
    for turn in range(3):
        answering.report(PRESS, turn)
        assert answering.show(REFUSED, turn) == [MUTE_OFF]
        answering.report(PRESS, turn + 0.01)
    assert answering.show(REFUSED, 3) == []
    assert answering.timed(4) == ([], [])


def test_press_that_happens_to_follow_a_rewrite_at_once_is_no_answer_to_it() -> None:
    quick = session()
    for turn in range(9):
        quick.report(PRESS, turn)
        assert quick.show(REFUSED, turn) == [MUTE_OFF]
        if turn % 3:
            quick.report(PRESS, turn + 0.01)
            assert quick.show(REFUSED, turn + 0.02) == [MUTE_OFF]


def test_one_that_echoes_is_written_anew_when_its_person_has_let_go() -> None:
    echoing = session(ECHOES)
    assert events(echoing, (1, PRESS), (1.1, PRESS)) == [TOGGLED] * 2
    assert echoing.show(REFUSED, 1.2) == []
    assert echoing.wake_at == 1.85
    assert echoing.timed(1.85) == ([], [MUTE_OFF])
    assert events(echoing, (1.9, PRESS)) == [TOGGLED], "after more than 30 ms it is a press"
    assert echoing.show(REFUSED, 1.91) == []
    assert echoing.timed(2.65) == ([], [MUTE_OFF])
    assert events(echoing, (2.66, PRESS)) == [], "the echo of a lamp that was written as it was"
    assert events(echoing, (4, PRESS)) == [TOGGLED]
    assert echoing.show(REFUSED, 4.01) == []
    assert echoing.timed(4.75) == ([], [MUTE_OFF])
    assert events(echoing, (4.85, PRESS)) == [], "now it is known to come in the whole window"
    assert events(echoing, (6, PRESS)) == [TOGGLED]
    echoing.show(REFUSED, 6.01)
    assert echoing.show(DARK, 6.02) != []
    assert echoing.wake_at is None, "the call is over"


# --- failures and other hands


def test_write_that_failed_is_tried_again_a_few_times() -> None:
    failing = session(lights=None)
    failing.show(DARK, 0)
    now = 0.0
    for after_s in (0.25, 1.0, 4.0):
        failing.written(MUTE_OFF, now, ok=False)
        now += after_s
        assert failing.wake_at == now
        assert failing.timed(now) == ([], [MUTE_OFF])
    failing.written(MUTE_OFF, now, ok=False)
    assert failing.wake_at is None
    assert MUTE_OFF in failing.show(RINGING, now)
    failing.written(RING_OFF, now, ok=True)
    failing.written(MUTE_OFF, now, ok=False)
    assert failing.wake_at == now + 0.25


def test_old_write_that_failed_is_not_tried_again() -> None:
    newer = session()
    newer.show(MUTED, 0)
    newer.written(MUTE_OFF, 0, ok=False)
    assert newer.wake_at is None


def test_lamps_that_somebody_else_wrote_are_written_again_boundedly() -> None:
    contested = session(lights=DARK)
    assert contested.disturbed(0) == ALL_OFF
    assert contested.disturbed(0.1) == []
    assert contested.disturbed(0.2) == []
    assert contested.wake_at == 1
    assert contested.timed(1) == ([], ALL_OFF)
    written = [contested.disturbed(now) for now in range(3, 30)]
    assert [bool(w) for w in written[:4]] == [True, True, True, False]
    assert not any(written[4:])
    assert [contested.wake_at] == [60], "in the end the lamps are right all the same"
    assert contested.timed(60) == ([], ALL_OFF)
    assert contested.disturbed(62) == ALL_OFF


def test_timed_before_its_time_does_nothing() -> None:
    early = session()
    assert early.timed(0) == ([], [])
    early.report(PRESS, 0)
    early.disturbed(0)
    early.disturbed(0.1)
    early.written(MUTE_OFF, 0.1, ok=False)
    assert early.timed(0.2) == ([], [MUTE_OFF])


# --- what is a press


def test_doubles_count_once_and_a_persons_quick_double_press_counts_twice() -> None:
    doubling = session(DOUBLES)
    pair = [(0.0, PRESS), (0.001, NOTHING), (0.003, PRESS), (0.004, NOTHING)]
    assert events(doubling, *pair) == [TOGGLED]
    assert events(doubling, (0.1, PRESS), (0.12, PRESS)) == [TOGGLED] * 2
    assert events(session(), (0.0, PRESS), (0.003, PRESS)) == [TOGGLED] * 2


def test_a_press_that_counts_as_a_double_has_the_lamp_written_once_more() -> None:
    """It has moved the headset's own mute state, and the lamp brings that back."""
    doubling = session(DOUBLES)
    assert events(doubling, (0.0, PRESS), (0.003, PRESS)) == [TOGGLED]
    doubling.show(MUTED, 0.02)
    assert doubling.wake_at is None
    assert events(doubling, (1.0, PRESS)) == [TOGGLED]
    assert doubling.show(IN_CALL, 1.002) == [MUTE_OFF]
    assert events(doubling, (1.003, PRESS), (1.004, PRESS), (1.007, PRESS)) == []
    assert doubling.wake_at == pytest.approx(1.757)
    assert doubling.timed(1.76) == ([], [MUTE_OFF])
    assert doubling.wake_at is None


def test_echo_takes_one_report_for_each_change_of_the_lamp_within_its_window() -> None:
    echoing = session(ECHOES)
    echoing.show(MUTED, 0)
    assert events(echoing, (0.01, PRESS), (0.02, PRESS)) == [TOGGLED]
    echoing.show(IN_CALL, 1)
    assert events(echoing, (1.3, PRESS)) == [TOGGLED]
    echoing.show(REFUSED, 2)
    assert events(echoing, (2.01, PRESS)) == [TOGGLED]


def test_echo_of_the_last_call_is_not_expected_in_the_next() -> None:
    echoing = session(ECHOES, lights=MUTED)
    echoing.show(DARK, 0)
    assert events(echoing, (0.01, PRESS)) == []
    echoing.show(MUTED, 1)
    echoing.show(DARK, 1.01)
    echoing.show(msgspec.structs.replace(IN_CALL, mic=MicLight.UNKNOWN), 1.02)
    assert events(echoing, (1.06, PRESS)) == [TOGGLED]


def test_first_refusal_of_mute_off_asks_for_mute_and_the_next_report_inverts() -> None:
    arm = session(WITH_ARM, lights=MUTED)
    arm.show(IN_CALL, 0)
    assert events(arm, (0.3, PRESS), (0.31, NOTHING), (0.4, PRESS)) == [ASKS_MUTE, TOGGLED]
    late = session(WITH_ARM, lights=MUTED)
    late.show(IN_CALL, 0)
    assert events(late, (0.8, PRESS)) == [TOGGLED]


def test_mute_off_that_is_written_when_a_call_connects_can_be_refused_too() -> None:
    arm = session(WITH_ARM, lights=DARK)
    arm.show(IN_CALL, 0)
    assert events(arm, (0.3, PRESS)) == [ASKS_MUTE]


def test_refusal_when_no_call_is_there_says_nothing() -> None:
    arm = session(WITH_ARM, lights=MUTED)
    arm.show(IN_CALL, -1)
    arm.show(MUTED, -0.5)
    arm.show(DARK, 0)
    assert events(arm, (0.3, PRESS)) == []


def test_refusal_that_comes_after_the_unmute_was_refused_does_not_unmute() -> None:
    arm = session(WITH_ARM, lights=MUTED)
    arm.show(msgspec.structs.replace(IN_CALL, pending=False), 0)
    arm.show(msgspec.structs.replace(MUTED, rejected=True), 0.02)
    assert events(arm, (0.3, PRESS)) == [ASKS_MUTE]


def test_acknowledgement_is_written_at_once_and_ends_with_the_truth() -> None:
    jabra = session(LIKE_JABRA)
    assert jabra.report(PRESS, 0) == ([TOGGLED], [MUTE_ON])
    assert jabra.show(msgspec.structs.replace(IN_CALL, pending=True), 0) == []
    assert jabra.show(MUTED, 0.1) == []
    assert jabra.report(PRESS, 5) == ([TOGGLED], [MUTE_OFF])
    assert jabra.show(msgspec.structs.replace(IN_CALL, pending=False), 5) == []
    assert jabra.show(msgspec.structs.replace(MUTED, rejected=True), 5.1) == [MUTE_ON]


def test_acknowledgement_stands_a_second_at_most() -> None:
    jabra = session(LIKE_JABRA)
    jabra.report(PRESS, 0)
    jabra.show(msgspec.structs.replace(IN_CALL, pending=True), 0)
    assert jabra.wake_at == CONFIRM_TIMEOUT_S
    assert jabra.timed(1) == ([], [MUTE_OFF])
    assert jabra.show(MUTED, 1.5) == [MUTE_ON]


def test_acknowledgement_ends_with_the_call() -> None:
    jabra = session(LIKE_JABRA)
    assert jabra.report(PRESS, 0)[1] == [MUTE_ON]
    assert jabra.show(DARK, 0.5) == [OFF_HOOK_OFF, MUTE_OFF]
    assert jabra.wake_at is None
    assert jabra.report(PRESS, 1.6) == ([TOGGLED], [])


def test_unanswered_press_that_is_repeated_counts_once_and_is_answered_again() -> None:
    jabra = session(LIKE_JABRA)
    assert jabra.report(PRESS, 0) == ([TOGGLED], [MUTE_ON])
    assert jabra.report(PRESS, 0.86) == ([], [MUTE_ON])
    jabra.written(MUTE_ON, 0.87, ok=True)
    assert events(jabra, (1.72, PRESS)) == [TOGGLED]


def test_press_beside_the_rhythm_of_repeats_counts() -> None:
    jabra = session(LIKE_JABRA)
    assert events(jabra, (0, PRESS), (0.3, PRESS)) == [TOGGLED] * 2


def test_unknown_device_that_answers_every_change_at_once_is_found_out() -> None:
    unknown = session()
    told = []
    for turn in range(9):
        unknown.show(MUTED if turn % 2 == 0 else IN_CALL, turn)
        told.append(len(events(unknown, (turn + 0.01, PRESS))))
    assert told == [1] * 8 + [0]
    assert unknown.notice is not None
    assert "mute_echo_ms" in unknown.notice
    unknown.notice = "said"
    unknown.show(IN_CALL, 10)
    assert events(unknown, (10.01, PRESS), (10.2, PRESS)) == [TOGGLED]
    unknown.show(MUTED, 20)
    unknown.show(IN_CALL, 21)  # the change before was not answered: it does not echo after all
    assert events(unknown, (21.1, PRESS)) == [TOGGLED]
    assert unknown.notice == "said"


def test_momentary_button_tells_press_and_release() -> None:
    held = session(content=report_id(1) + usage(0x2F) + input_(VARIABLE))
    assert events(held, (0, PRESS), (1, PRESS), (2, NOTHING)) == [MutePressed("h"), MuteReleased("h")]
    doubled = session(HeadsetProfile(duplicate_within_ms=5), report_id(1) + usage(0x2F) + input_(VARIABLE))
    bounce = [(0.0, PRESS), (0.001, NOTHING), (0.002, PRESS), (0.003, NOTHING)]
    assert events(doubled, *bounce) == [MutePressed("h"), MuteReleased("h")]


def test_maintained_switch_tells_where_it_stands_then_its_changes() -> None:
    switch = report_id(1) + usage(0x2F) + input_(VARIABLE | NO_PREFERRED)
    assert events(session(content=switch + LAMPS), (0, PRESS), (1, NOTHING)) == [
        MuteSwitched("h", muted=True, baseline=True),
        MuteSwitched("h", muted=False),
    ]
    echoing = session(ECHOES, switch + LAMPS)
    assert events(echoing, (0, NOTHING)) == [MuteSwitched("h", muted=False, baseline=True)]
    echoing.show(MUTED, 1)
    assert events(echoing, (1.01, PRESS), (2, NOTHING)) == [
        MuteSwitched("h", muted=True, baseline=True),
        MuteSwitched("h", muted=False),
    ]


def test_buttons_that_say_what_they_want_ask_each_time() -> None:
    wish = HeadsetProfile(sends_wished_state=True, mute_kind=ControlKind.TOGGLE_SWITCH)
    asks = [ASKS_MUTE, ASKS_MUTE, MuteAsked("h", muted=False)]
    assert (
        events(session(wish, report_id(1) + usage(0x2F) + input_(VARIABLE)), (0, PRESS), (1, PRESS), (2, NOTHING))
        == asks
    )
    pair = report_id(1) + usage(0x2F) + logical(-1, 1) + size(2) + input_(VARIABLE | RELATIVE)
    assert events(session(content=pair), (0, PRESS), (1, PRESS), (1, NOTHING), (2, b"\x01\x03")) == asks


# --- hook switch and reject

ANSWERED, ENDED = HookChanged("h", off_hook=True), HookChanged("h", off_hook=False)


def test_hook_answers_while_it_rings_and_ends_in_a_call() -> None:
    phone = session(lights=RINGING)
    assert events(phone, (0, HOOK)) == [ANSWERED]
    phone.show(IN_CALL, 1)
    assert events(phone, (10, NOTHING)) == [ENDED]


def test_hook_echo_is_no_press() -> None:
    phone = session(lights=DARK)
    phone.show(IN_CALL, 0)
    assert events(phone, (0.5, HOOK), (1.9, NOTHING), (2.1, HOOK), (2.2, NOTHING)) == [ENDED]


def test_hook_means_nothing_without_a_call_or_while_it_is_held() -> None:
    phone = session(lights=DARK)
    assert events(phone, (0, HOOK), (1, NOTHING)) == []
    held = session(lights=Lights(off_hook=True, hold=True))
    assert events(held, (0, HOOK), (1, NOTHING)) == []
    ringing = session(lights=RINGING)
    assert events(ringing, (0, HOOK), (2, NOTHING)) == [ANSWERED]


def test_hook_key_that_only_pulses_answers_and_ends() -> None:
    pulse = report_id(1) + count(1) + usage(0x20) + input_(VARIABLE | RELATIVE)
    assert events(session(content=pulse, lights=RINGING), (0, PRESS), (0, NOTHING)) == [ANSWERED]
    assert events(session(content=pulse), (0, PRESS), (0, NOTHING)) == [ENDED]
    momentary = HeadsetProfile(hook_kind=ControlKind.MOMENTARY)
    held = report_id(1) + usage(0x20) + input_(VARIABLE)
    assert events(session(momentary, held), (0, PRESS), (1, NOTHING)) == [ENDED]


def test_hook_that_follows_its_lamp_in_silence_is_heard_when_it_moves_back() -> None:
    follows = session(lights=DARK)
    follows.show(IN_CALL, 0)  # answered on the page
    assert events(follows, (5, b"\x01\x03"), (5, HOOK)) == [TOGGLED], "a mute press that shows where the hook switch is"
    follows.show(DARK, 10)  # ended on the page
    follows.show(RINGING, 20)
    assert events(follows, (25, HOOK)) == [ANSWERED]
    follows.show(IN_CALL, 26)
    assert events(follows, (30, NOTHING)) == [ENDED]
    follows.show(DARK, 31)
    follows.show(IN_CALL, 40)
    assert events(follows, (45, NOTHING)) == [ENDED], "nothing was sent since the lamp was lit"


def test_hook_that_does_not_follow_its_lamp_ends_no_call_by_a_mute_press() -> None:
    stays = session(lights=DARK)
    for begin in (0, 100):
        stays.show(IN_CALL, begin)
        assert events(stays, (begin + 5, PRESS), (begin + 5, NOTHING)) == [TOGGLED]
        stays.show(DARK, begin + 10)


def test_reject_counts_while_it_rings() -> None:
    assert events(session(lights=RINGING), (0, REJECT), (1, NOTHING)) == [RejectPressed("h")]
    assert events(session(), (0, REJECT), (1, NOTHING)) == []


# --- whole desks: headset, session, bridge, softphone


HOOK_ANSWERED, HOOK_ENDED = (Action.ANSWER, CallState.RINGING), (Action.HANG_UP, CallState.CONNECTED)

DESKS: list[Any] = [
    pytest.param(PLAIN, GENERIC, id="plain"),
    pytest.param(JABRA, LIKE_JABRA, id="jabra"),
    pytest.param(PLANTRONICS, DOUBLES, id="plantronics"),
    pytest.param(ECHOING, ECHOES, id="echoing"),
    pytest.param(ECHOING_ALWAYS, ECHOES, id="echoing always"),
    pytest.param(PLAIN, WITH_ARM, id="with a boom arm"),
    pytest.param(JABRA, msgspec.structs.replace(LIKE_JABRA, mute_echo_ms=0), id="jabra, slow"),
    pytest.param(MAINTAINED, GENERIC, id="maintained"),
]


@pytest.mark.parametrize(("firmware", "profile"), DESKS)
@pytest.mark.parametrize("gap_s", [0.004, 0.1, 0.5, 2.5])
def test_any_number_of_presses_ends_in_agreement(firmware: Firmware, profile: HeadsetProfile, gap_s: float) -> None:
    if firmware.doubles_s:
        gap_s = max(gap_s, 0.01)
    desk = Desk(firmware, profile)
    desk.connect()
    for number in range(1, 8):
        told = sum(desk.press(gap_s) for _ in range(number))
        desk.run(4)
        assert desk.agrees(), number
        assert told == number
    assert desk.presses == sum(range(1, 8))
    assert desk.muted() is (sum(range(1, 8)) % 2 == 1)


def test_jabra_is_silent_outside_of_a_call_and_never_repeats_in_one() -> None:
    desk = Desk(JABRA, LIKE_JABRA)
    assert not desk.press()
    desk.connect()
    desk.press()
    desk.run(10)
    assert desk.presses == 1
    assert desk.muted()
    assert desk.agrees()


def test_jabra_with_a_slow_softphone_agrees_in_the_end() -> None:
    desk = Desk(JABRA, LIKE_JABRA, latency_s=1.6)
    desk.connect()
    desk.press()
    desk.run(0.5)
    assert desk.lamp(), "answered at once"
    desk.run(0.8)
    assert not desk.lamp(), "the truth again after a second"
    desk.run(5)
    assert desk.muted()
    assert desk.agrees()


@pytest.mark.parametrize(("firmware", "profile"), DESKS[:-1])
def test_refused_press_leaves_the_headset_as_the_microphone_is(firmware: Firmware, profile: HeadsetProfile) -> None:
    desk = Desk(firmware, profile)
    desk.connect()
    desk.refuses = CommandError.MISSING_SCOPE
    desk.press()
    desk.run(3)
    assert desk.outcomes[-1] is Outcome.REJECTED
    assert not desk.muted()
    assert desk.agrees()


def test_lost_writes_make_a_jabra_repeat_and_the_repeats_are_not_counted() -> None:
    desk = Desk(JABRA, LIKE_JABRA)
    desk.connect()
    desk.writes_fail = True
    desk.press()
    desk.run(0.9)
    desk.writes_fail = False
    desk.run(5)
    assert desk.presses == 1
    assert desk.muted()
    assert desk.agrees()


def test_raised_boom_arm_wins_over_the_page() -> None:
    desk = Desk(PLAIN, WITH_ARM)
    desk.connect()
    desk.headset.arm(desk.now, up=True)
    desk.run(1)
    assert desk.muted()
    desk.click(muted=False)
    desk.run(3)
    assert desk.muted(), "the headset refused, and its microphone is what counts"
    assert desk.agrees()
    desk.headset.arm(desk.now, up=False)
    desk.run(3)
    assert not desk.muted()
    assert desk.agrees()


def test_arm_that_was_up_before_the_call_mutes_it() -> None:
    desk = Desk(PLAIN, WITH_ARM)
    desk.headset.arm(desk.now, up=True)
    desk.run(2)
    desk.connect()
    desk.run(3)
    assert desk.muted()
    assert desk.agrees()


def test_unknown_device_that_echoes_ends_as_its_person_wanted() -> None:
    desk = Desk(ECHOING, GENERIC)
    desk.connect()
    desk.press()
    desk.run(5)
    assert desk.muted()
    assert desk.agrees()
    desk.press()
    desk.run(5)
    assert not desk.muted()
    assert desk.agrees()


def test_state_of_one_call_does_not_leak_into_the_next() -> None:
    desk = Desk(JABRA, LIKE_JABRA)
    desk.connect("a")
    desk.press()
    desk.run(0.005)  # answered, not confirmed
    desk.call(CallState.DISCONNECTED, "a")
    desk.run(0.005)
    assert desk.headset.lamps == 0
    desk.connect("b")
    desk.run(3)
    assert not desk.muted()
    assert desk.agrees()
    assert desk.press()
    desk.run(1)
    assert desk.muted()
    assert desk.agrees()


def test_page_is_followed() -> None:
    desk = Desk(JABRA, LIKE_JABRA)
    desk.connect()
    for muted in (True, False, True):
        desk.click(muted=muted)
        desk.run(1)
        assert desk.agrees()
    assert desk.presses == 0


@pytest.mark.parametrize("firmware", [PLAIN, JABRA, PLANTRONICS, ECHOING, MAINTAINED])
@pytest.mark.parametrize("latency_s", [0.01, 0.4, 1.5])
def test_each_press_of_the_call_button_answers_or_ends_once_and_no_echo_does(
    firmware: Firmware, latency_s: float
) -> None:
    at_desk = Desk(firmware, DOUBLES if firmware is PLANTRONICS else GENERIC, latency_s=latency_s)
    for _ in range(3):
        at_desk.call(CallState.RINGING)
        at_desk.run(3)
        at_desk.headset.press_hook(at_desk.now)
        at_desk.run(5)
        at_desk.press()
        at_desk.run(5)
        at_desk.call(CallState.HELD)
        at_desk.run(5)
        at_desk.call(CallState.CONNECTED)
        at_desk.run(5)
        at_desk.headset.press_hook(at_desk.now)
        at_desk.run(5)
    assert at_desk.hook_commands == [HOOK_ANSWERED, HOOK_ENDED] * 3


@pytest.mark.parametrize("firmware", [PLAIN, JABRA, PLANTRONICS, ECHOING])
def test_the_call_button_works_after_calls_that_the_page_answered_and_ended(firmware: Firmware) -> None:
    """Their hook switch follows the off-hook lamp; most say nothing when it does."""
    at_desk = Desk(firmware, DOUBLES if firmware is PLANTRONICS else GENERIC)
    at_desk.connect("a")
    at_desk.run(5)
    at_desk.press()
    at_desk.run(5)
    at_desk.call(CallState.DISCONNECTED, "a")
    at_desk.run(5)
    for turn in range(3):
        at_desk.call(CallState.RINGING, f"b{turn}")
        at_desk.run(5)
        at_desk.headset.press_hook(at_desk.now)
        at_desk.run(5)
        at_desk.call(CallState.DISCONNECTED, f"b{turn}")
        at_desk.run(5)
        at_desk.connect(f"c{turn}")
        at_desk.run(5)
        at_desk.headset.press_hook(at_desk.now)
        at_desk.run(5)
    assert at_desk.hook_commands == [HOOK_ANSWERED, HOOK_ENDED] * 3
