"""Whatever a person does at a headset, however slow the softphone: in the end microphone, lamp and headset agree."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.headsets.desk import Desk

from mutebridge.core.contract import CallState, CommandError
from mutebridge.core.handshake import HeadsetSession
from mutebridge.core.headset_profile import GENERIC, HeadsetProfile
from mutebridge.core.lights import Lights, MicLight
from mutebridge.core.report_descriptor import parse
from mutebridge.core.telephony import Telephony
from mutebridge.virtual_headset import (
    ECHOING,
    HOLD_LED,
    JABRA,
    MAINTAINED,
    MUTE_LED,
    OFF_HOOK_LED,
    PLAIN,
    PLANTRONICS,
    RING_LED,
    Firmware,
    descriptor,
)


@dataclass(frozen=True)
class Model:
    firmware: Firmware
    profile: HeadsetProfile
    fastest_s: float = 0.004  # two presses of a model that doubles must be further apart than its doubles


MODELS = {
    "plain": Model(PLAIN, GENERIC),
    "jabra": Model(
        JABRA, HeadsetProfile(host_must_ack_mute=True, repeats_until_answered_ms=860, boom_arm_refusal_ms=700)
    ),
    "plantronics": Model(PLANTRONICS, HeadsetProfile(duplicate_within_ms=5, boom_arm_refusal_ms=700), 0.01),
    "boom arm": Model(PLAIN, HeadsetProfile(boom_arm_refusal_ms=700)),
    "echoing": Model(ECHOING, HeadsetProfile(mute_echo_ms=200)),
    "maintained": Model(MAINTAINED, GENERIC),
}

# Faster than any person, as fast as one can, at leisure.
gaps = st.sampled_from([0.004, 0.01, 0.09, 0.2, 0.5, 0.86, 1.0, 2.5])
latencies = st.sampled_from([0.002, 0.05, 0.3, 0.9])


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=60, deadline=None)
@given(presses=st.lists(gaps, max_size=8), latency_s=latencies)
def test_presses_in_a_call_are_counted_and_all_agree(name: str, presses: list[float], latency_s: float) -> None:
    model = MODELS[name]
    desk = Desk(model.firmware, model.profile, latency_s=latency_s)
    desk.connect()
    told = [desk.press(max(gap_s, model.fastest_s)) for gap_s in presses]
    desk.run(6)
    assert all(told)
    assert desk.presses == len(presses)
    assert desk.muted() is (len(presses) % 2 == 1)
    assert desk.agrees()


steps = st.one_of(
    st.tuples(st.just("press"), gaps),
    st.tuples(st.just("arm"), st.booleans()),
    st.tuples(st.just("click"), st.booleans()),
    st.tuples(st.just("refuse"), st.booleans()),
    st.tuples(st.just("fail"), st.booleans()),
    st.tuples(st.just("call"), st.sampled_from([CallState.CONNECTED, CallState.HELD, CallState.DISCONNECTED])),
    st.tuples(st.just("wait"), gaps),
)


@pytest.mark.parametrize("name", ["plain", "jabra", "plantronics", "boom arm"])
@settings(max_examples=60, deadline=None)
@given(story=st.lists(steps, max_size=14), latency_s=latencies)
def test_any_story_ends_with_lamp_and_headset_as_the_microphone(
    name: str, story: list[tuple[str, object]], latency_s: float
) -> None:
    model = MODELS[name]
    desk = Desk(model.firmware, model.profile, latency_s=latency_s)
    desk.connect()
    for what, value in story:
        match what, value:
            case "press", float():
                desk.press(max(value, model.fastest_s))
            case "arm", bool():
                # A refusal is recognised where the profile says so, and one that swings is seen where it is told.
                if model.profile.boom_arm_refusal_ms:
                    desk.headset.arm(desk.now, up=value)
            case "click", bool():
                desk.click(muted=value)
            case "refuse", bool():
                desk.refuses = CommandError.NOT_ALLOWED if value else None
            case "fail", bool():
                desk.writes_fail = value
            case "call", CallState():
                desk.call(value)
            case _, float():
                desk.run(value)
    desk.refuses, desk.writes_fail = None, False
    desk.headset.arm(desk.now, up=False)
    desk.run(8)
    desk.call(CallState.DISCONNECTED)
    desk.run(1)
    assert not desk.lamp()
    desk.connect("b")
    desk.run(8)
    assert desk.agrees()
    before = desk.muted()
    desk.press(1)
    desk.run(8)
    assert desk.muted() is not before
    assert desk.agrees()


all_lights = st.builds(
    Lights,
    mic=st.sampled_from(MicLight),
    pending=st.sampled_from([None, True, False]),
    rejected=st.booleans(),
    off_hook=st.booleans(),
    ring=st.booleans(),
    hold=st.booleans(),
)
inputs = st.one_of(
    st.tuples(st.just("show"), all_lights),
    st.tuples(st.just("report"), st.binary(max_size=4) | st.sampled_from([b"\x02\x02", b"\x02\x00", b"\x02\x01"])),
    st.tuples(st.just("time"), st.none()),
    st.tuples(st.just("disturbed"), st.none()),
    st.tuples(st.just("failed"), st.none()),
)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=100, deadline=None)
@given(story=st.lists(st.tuples(inputs, gaps), max_size=40))
def test_at_rest_the_lamps_are_a_function_of_the_lights(
    name: str, story: list[tuple[tuple[str, object], float]]
) -> None:
    """Also: writes are bounded by what happens, and waiting ends."""
    model = MODELS[name]
    telephony = Telephony.from_descriptor(parse(descriptor(model.firmware)), model.profile)
    session = HeadsetSession(telephony, model.profile, "h")
    now, lamps, writes = 0.0, 0, 0
    shown = Lights()
    for (what, value), gap_s in [*story, (("show", shown), 1.0)]:
        now += gap_s
        made: list[bytes] = []
        match what, value:
            case "show", Lights():
                shown = value
                made = session.show(value, now)
            case "report", bytes():
                _, made = session.report(value, now)
            case "time", _:
                _, made = session.timed(now)
            case "disturbed", _:
                made = session.disturbed(now)
            case _:
                session.written(bytes([2, lamps]), now, ok=False)
        for report in made:
            assert len(report) == 2
            lamps = report[1]
            writes += 1
    for _ in range(20):
        if session.wake_at is None:
            break
        assert session.wake_at <= now + 10
        now = max(now, session.wake_at)
        for report in session.timed(now)[1]:
            lamps = report[1]
            writes += 1
    assert session.wake_at is None
    assert writes <= 2 * len(story) + 10
    assert lamps == (
        (OFF_HOOK_LED if shown.off_hook else 0)
        | (MUTE_LED if shown.mic is MicLight.MUTED else 0)
        | (RING_LED if shown.ring else 0)
        | (HOLD_LED if shown.hold else 0)
    )
