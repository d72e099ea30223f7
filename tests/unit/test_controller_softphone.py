"""The simulated softphone is as awkward as the SDK, and the adapter tells its refusals apart."""

import itertools

import pytest

from mutebridge.controller.session_controller import Refused
from mutebridge.controller.simulator import ScriptError, SdkAdapter, parse_script
from mutebridge.controller.softphone import MUTE_SCOPE, NotNowError, OperationNotAllowed, SimulatedSoftphone
from mutebridge.core.contract import CommandError

WAY_TO = {
    "disconnected": [],
    "ringing": ["ring"],
    "dialing": ["dial"],
    "connected": ["ring", "connect"],
    "held": ["ring", "connect", "hold"],
}
NEXT = {
    "disconnected": {"ring": "ringing", "dial": "dialing"},
    "ringing": {"connect": "connected", "end": "disconnected"},
    "dialing": {"connect": "connected", "end": "disconnected"},
    "connected": {"hold": "held", "end": "disconnected"},
    "held": {"resume": "connected", "end": "disconnected"},
}
VERBS = ["ring", "dial", "connect", "hold", "resume", "end"]


class Phone(SimulatedSoftphone):
    """In a state, with a record of its events."""

    def __init__(self, state: str) -> None:
        super().__init__()
        for verb in WAY_TO[state]:
            self.do(verb)
        self.events: list[object] = []
        self.on_state_change = lambda state, _: self.events.append(state)
        self.on_mic_state_change = self.events.append


@pytest.mark.parametrize(("state", "verb"), list(itertools.product(WAY_TO, VERBS)))
def test_each_state_has_its_ways_out_and_no_others(state: str, verb: str) -> None:
    phone = Phone(state)
    if verb in NEXT[state]:
        phone.do(verb)
        assert phone.get_state() == NEXT[state][verb]
        assert phone.events[0] == NEXT[state][verb]
    else:
        with pytest.raises(NotNowError, match=f"while {state}; now it can: {', '.join(NEXT[state])}"):
            phone.do(verb)
        assert phone.events == []


def test_the_microphone_is_live_and_says_so_when_a_call_connects() -> None:
    phone = Phone("ringing")
    phone.do("connect")
    assert phone.events == ["connected", False]
    phone.mute_mic(True)
    phone.mute_mic(True)
    assert phone.events[2:] == [True]
    for verb in ("hold", "resume"):
        phone.do(verb)
    assert phone.mic is True
    assert phone.events[3:] == ["held", "connected"]
    for verb in ("end", "dial", "connect"):
        phone.do(verb)
    assert phone.events[-2:] == ["connected", False]


def test_a_session_is_there_while_it_rings_and_proves_nothing() -> None:
    assert Phone("disconnected").get_session_by_type("voice") is None
    for state in ("ringing", "dialing", "connected", "held"):
        assert Phone(state).get_session_by_type("voice")
        assert Phone(state).get_session_by_type("chat") is None


def test_a_call_keeps_its_id_and_the_next_one_has_another() -> None:
    phone = Phone("disconnected")
    ids: list[str] = []
    phone.on_state_change = lambda _, call_id: ids.append(call_id)
    for verb in 2 * ["ring", "connect", "end"]:
        phone.do(verb)
    assert [len(set(ids[:3])), len(set(ids[3:])), len(set(ids))] == [1, 1, 2]


@pytest.mark.parametrize("muted", [True, False])
@pytest.mark.parametrize("state", ["disconnected", "ringing", "dialing", "held"])
def test_outside_of_a_connected_call_the_sdk_gives_no_reason_and_the_adapter_does(state: str, muted: bool) -> None:
    phone = Phone(state)
    with pytest.raises(OperationNotAllowed, match=r"^Operation Not Allowed$"):
        phone.mute_mic(muted)
    with pytest.raises(NotNowError, match=state):
        phone.hand(muted)
    phone.mute_mic = pytest.fail  # type: ignore[method-assign, assignment]  # the adapter is not to try
    with pytest.raises(Refused, match=state) as refused:
        SdkAdapter(phone).set_mute(muted)
    assert refused.value.error is CommandError.NOT_CONNECTED


def test_a_missing_scope_is_named_and_the_hand_needs_none() -> None:
    phone = Phone("connected")
    phone.scopes.discard(MUTE_SCOPE)
    assert "interaction:write" in phone.scopes
    with pytest.raises(OperationNotAllowed, match=r"^Operation Not Allowed$"):
        phone.mute_mic(True)
    with pytest.raises(Refused, match="client:call:write") as refused:
        SdkAdapter(phone).set_mute(True)
    assert refused.value.error is CommandError.MISSING_SCOPE
    phone.hand(True)
    assert phone.events == [True]


def test_another_owner_is_told_apart() -> None:
    phone = Phone("connected")
    phone.owned_by_other = True
    with pytest.raises(OperationNotAllowed, match=r"^Operation Not Allowed$"):
        phone.mute_mic(True)
    with pytest.raises(Refused, match="somebody else owns") as refused:
        SdkAdapter(phone).set_mute(True)
    assert refused.value.error is CommandError.NOT_ALLOWED


def test_a_call_that_ends_while_it_is_asked_is_not_a_permission() -> None:
    class Ending(Phone):
        def mute_mic(self, muted: bool) -> None:
            self.do("end")
            super().mute_mic(muted)

    with pytest.raises(Refused) as refused:
        SdkAdapter(Ending("connected")).set_mute(True)
    assert refused.value.error is CommandError.NOT_CONNECTED


def test_a_deaf_softphone_accepts_and_does_nothing() -> None:
    phone = Phone("connected")
    phone.deaf = True
    SdkAdapter(phone).set_mute(True)
    assert (phone.mic, phone.events) == (False, [])


def test_the_hook_goes_through_the_adapter() -> None:
    phone = Phone("ringing")
    adapter = SdkAdapter(phone)
    adapter.answer("any")
    assert phone.get_state() == "connected"
    adapter.hang_up("any")
    with pytest.raises(Refused, match="now it can: ring, dial"):
        adapter.hang_up("any")


def test_what_can_be_done_now_is_what_can_be_typed_now() -> None:
    for state, verbs in NEXT.items():
        hand = ["mute"] if state == "connected" else []
        assert Phone(state).can() == [*verbs, *hand]


def test_a_script_is_words() -> None:
    assert parse_script("ring; wait 0.5;connect\n scope off ;; quit") == [
        ["ring"],
        ["wait", "0.5"],
        ["connect"],
        ["scope", "off"],
        ["quit"],
    ]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("ring; dance", "'dance' is none of: connect, dial"),
        ("wait", "number of seconds"),
        ("wait -1", "number of seconds"),
        ("wait nan", "number of seconds"),
        ("wait a while", "number of seconds"),
        ("scope", r"it is 'scope on\|off'"),
        ("scope maybe", r"it is 'scope on\|off'"),
        ("ring twice", "ring stands alone"),
    ],
)
def test_a_wrong_script_says_what_is_allowed(script: str, says: str) -> None:
    with pytest.raises(ScriptError, match=says):
        parse_script(script)
