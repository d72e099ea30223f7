"""Whatever a person does at a headset, however slow the softphone: in the end microphone, lamp and headset agree."""

from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.headsets.desk import Desk

from mutebridge.config import load_profiles
from mutebridge.core.contract import CallState, CommandError
from mutebridge.core.events import MuteAsked, MuteToggled
from mutebridge.core.handshake import HeadsetSession
from mutebridge.core.headset_profile import GENERIC, HeadsetProfile
from mutebridge.core.lights import Lights, MicLight
from mutebridge.core.profiles import DeviceNode, headset_layers, resolve_headset
from mutebridge.core.report_descriptor import parse
from mutebridge.core.rewrites import REWRITES_WITHIN_S
from mutebridge.core.telephony import Telephony
from mutebridge.virtual_headset import (
    ECHOING,
    ECHOING_ALWAYS,
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

PROFILES = load_profiles()


def shipped(vendor_id: str) -> HeadsetProfile:
    """What the shipped files say of a maker's headset of which no model is named."""
    node = DeviceNode(path="", subsystem="hidraw", vendor_id=vendor_id, product_id="ffff")
    return resolve_headset(headset_layers(PROFILES, node))


@dataclass(frozen=True)
class Model:
    firmware: Firmware
    profile: HeadsetProfile
    fastest_s: float = 0.0  # two presses of a model that doubles must be further apart than its doubles


# Whether the makers other than Jabra wait for Off-Hook is not known, so theirs do and do not.
MODELS = {
    "plain": Model(PLAIN, GENERIC),
    "jabra": Model(JABRA, shipped("0b0e")),
    "plantronics": Model(PLANTRONICS, shipped("047f"), 0.01),
    "epos": Model(PLAIN, shipped("1395")),
    "epos, off-hook": Model(Firmware(needs_off_hook=True, hook_echoes_s=0.5), shipped("1395")),
    "yealink": Model(PLAIN, shipped("6993")),
    "yealink, off-hook": Model(Firmware(needs_off_hook=True, hook_echoes_s=1.5), shipped("6993")),
    "echoing": Model(ECHOING, HeadsetProfile(mute_echo_ms=200)),
    "echoing always": Model(ECHOING_ALWAYS, HeadsetProfile(mute_echo_ms=200)),
    "maintained": Model(MAINTAINED, GENERIC),
}

# At once, faster than any person, as fast as one can, at leisure.
gaps = st.sampled_from([0.0, 0.0005, 0.004, 0.01, 0.09, 0.2, 0.5, 0.86, 1.0, 2.5])
by_hand = st.sampled_from([0.09, 0.2, 0.5, 0.86, 1.0, 2.5])
latencies = st.sampled_from([0.002, 0.05, 0.3, 0.9, 1.6])
writes = st.sampled_from([0.0002, 0.001, 0.008, 0.03])


SWING_S = 0.25  # an arm has a way to go
REFUSAL_S = 0.7  # a press that comes so soon after the lamp went dark asks to mute, whatever it meant


def test_the_makers_have_what_their_headsets_were_seen_to_do() -> None:
    assert shipped("0b0e").host_must_ack_mute
    assert shipped("047f").duplicate_within_ms
    assert shipped("1395").boom_arm_refusal_ms
    assert shipped("6993") == GENERIC


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=60, deadline=None)
@given(presses=st.lists(gaps, max_size=8), latency_s=latencies, write_s=writes)
def test_presses_in_a_call_are_counted_and_all_agree(
    name: str, presses: list[float], latency_s: float, write_s: float
) -> None:
    model = MODELS[name]
    desk = Desk(model.firmware, model.profile, latency_s=latency_s, write_s=write_s)
    desk.connect()
    told = [desk.press(max(gap_s, model.fastest_s)) for gap_s in presses]
    desk.run(8)
    # One that waits for the answer keeps to itself what is pressed before that has come.
    assert all(told) or model.firmware.needs_same_mute
    assert desk.presses == sum(told)
    assert desk.agrees()
    if latency_s < 1:  # else commands time out, and the microphone is where the last one put it
        assert desk.muted() is (sum(told) % 2 == 1)


@settings(max_examples=60, deadline=None)
@given(presses=st.lists(gaps, max_size=8), latency_s=latencies, write_s=writes)
@example(presses=[2.5, 0.004], latency_s=0.002, write_s=0.0002)
def test_a_press_that_is_taken_for_a_double_leaves_all_agreed(
    presses: list[float], latency_s: float, write_s: float
) -> None:
    """No person is so fast, but reports bear no time, and a busy machine reads them in bunches."""
    model = MODELS["plantronics"]
    desk = Desk(model.firmware, model.profile, latency_s=latency_s, write_s=write_s)
    desk.connect()
    for gap_s in presses:
        desk.press(gap_s)
    desk.run(8)
    assert desk.agrees()


@pytest.mark.parametrize("name", ["jabra", "plantronics", "epos", "epos, off-hook"])
@settings(max_examples=60, deadline=None)
@given(story=st.lists(st.tuples(st.sampled_from(["arm", "press", "page"]), by_hand), max_size=8), latency_s=latencies)
@example(story=[("page", 0.09), *[("press", 0.09)] * 3, ("page", 0.09), ("press", 0.5), ("arm", 0.86)], latency_s=1.6)
def test_a_refusing_boom_arm_is_never_taken_for_a_press(
    name: str, story: list[tuple[str, float]], latency_s: float
) -> None:
    """Presses while it is up are told by nobody; an unmute while it is up is refused, which asks to mute."""
    model = MODELS[name]
    desk = Desk(model.firmware, model.profile, latency_s=latency_s)
    desk.connect()
    desk.run(REFUSAL_S)
    for what, gap_s in story:
        desk.run(gap_s)
        match what:
            case "arm":
                desk.run(SWING_S)
                desk.swing(up=not desk.headset.arm_up)
            case "press":
                desk.press()
            case _:
                desk.click(muted=not desk.muted())
                desk.run(REFUSAL_S)
    desk.run(8)
    assert desk.lamp() is desk.muted()
    if latency_s < 1:  # else an answer may come after the next press, and move the headset back
        assert desk.agrees()
        assert desk.muted() or not desk.headset.arm_up
    toggles = [event for event in desk.events if isinstance(event, MuteToggled)]
    asks = [event for event in desk.events if isinstance(event, MuteAsked)]
    assert all(ask.muted for ask in asks)
    if not model.firmware.repeats_s or latency_s < 0.5:  # else a press and the repeat of one may look alike
        assert len(toggles) + len(asks) == desk.told + desk.refused
    assert len(asks) >= desk.refused - desk.told


steps = st.one_of(
    st.tuples(st.just("press"), gaps),
    st.tuples(st.just("arm"), st.booleans()),
    st.tuples(st.just("click"), st.booleans()),
    st.tuples(st.just("refuse"), st.booleans()),
    st.tuples(st.just("fail"), st.booleans()),
    st.tuples(st.just("call"), st.sampled_from([CallState.CONNECTED, CallState.HELD, CallState.DISCONNECTED])),
    st.tuples(st.just("wait"), gaps),
)


@pytest.mark.parametrize(
    "name", ["plain", "jabra", "plantronics", "epos", "yealink", "epos, off-hook", "yealink, off-hook"]
)
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
        assert session.wake_at <= now + REWRITES_WITHIN_S
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
