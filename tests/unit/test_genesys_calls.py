"""What Genesys Cloud's events and listings say of the user's own calls."""

from typing import Any

import pytest

from mutebridge.controller.genesys_cloud.calls import (
    MAX_ENDED,
    CallTable,
    Event,
    OwnCall,
    read_event,
    read_listing,
)
from mutebridge.core.contract import CallState

ME = "user-1"


def event(*participants: dict[str, Any], conversation: str = "conv-1") -> dict[str, Any]:
    return {"id": conversation, "participants": list(participants), "recordingState": "none"}


def agent(*calls: dict[str, Any], user: str = ME, participant: str = "part-1") -> dict[str, Any]:
    return {"id": participant, "userId": user, "purpose": "agent", "calls": list(calls)}


def own(state: CallState = CallState.CONNECTED, *, muted: bool = False, call: str = "1") -> OwnCall:
    return OwnCall(conversation_id=f"conv-{call}", participant_id=f"part-{call}", state=state, muted=muted)


@pytest.mark.parametrize(
    ("call", "state"),
    [
        ({"state": "alerting"}, CallState.RINGING),
        ({"state": "offering"}, CallState.RINGING),
        ({"state": "dialing"}, CallState.DIALING),
        ({"state": "contacting"}, CallState.DIALING),
        ({"state": "connected"}, CallState.CONNECTED),
        ({"state": "CONNECTED", "held": False}, CallState.CONNECTED),
        ({"state": "connected", "held": True}, CallState.HELD),
        ({"state": "parked"}, CallState.HELD),
        ({"state": "terminated", "held": True}, CallState.DISCONNECTED),
        ({"state": "disconnected"}, CallState.DISCONNECTED),
        ({"state": "transmitting"}, CallState.OTHER),
        ({"state": "a state of tomorrow"}, CallState.OTHER),
        ({"state": None}, CallState.OTHER),
        ({}, CallState.OTHER),
    ],
)
def test_the_states_of_a_call(call: dict[str, Any], state: CallState) -> None:
    assert [each.state for each in read_event(ME, event(agent(call))).calls] == [state]
    listed = {"entities": [{"id": "conv-1", "participants": [{"id": "part-1", "user": {"id": ME}, **call}]}]}
    assert [each.state for each in read_listing(ME, listed)] == [state]


def test_only_the_users_own_calls_count() -> None:
    read = read_event(
        ME,
        event(
            {"id": "customer", "purpose": "customer", "calls": [{"state": "connected", "muted": True}]},
            agent({"state": "connected", "muted": True}, user="user-2", participant="other"),
            {"id": "me-in-a-chat", "userId": ME, "chats": [{"state": "connected"}]},
            {"id": "me-without", "userId": ME, "calls": []},
            agent({"state": "connected", "muted": True}),
        ),
    )
    assert read == Event("conv-1", [own(muted=True)])
    assert read.calls[0].path == "/api/v2/conversations/calls/conv-1/participants/part-1"


@pytest.mark.parametrize("muted", [None, False])
def test_what_is_not_said_to_be_muted_is_live(muted: bool | None) -> None:
    assert read_event(ME, event(agent({"state": "connected", "muted": muted}))).calls[0].muted is False
    assert read_event(ME, event(agent({"state": "connected"}))).calls[0].muted is False


def test_of_several_attempts_the_one_that_lives_is_the_call() -> None:
    dead, alive = {"state": "terminated", "muted": True}, {"state": "connected", "muted": False}
    for calls in ([dead, alive], [alive, dead]):
        assert read_event(ME, event(agent(*calls))).calls == [own()]
    assert read_event(ME, event(agent(dead, dead))).calls[0].state is CallState.DISCONNECTED


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {"participants": []},
        {"id": "../../users", "participants": []},
        {"id": "a?b", "participants": []},
        {"id": "", "participants": []},
        event({"id": "x/y", "userId": ME, "calls": [{"state": "connected"}]}),
        event(agent({"state": 5})),
        event(agent({"state": "connected", "muted": "yes"})),
        {"id": "c", "participants": 5},
    ],
)
def test_what_is_no_event_is_refused(body: object) -> None:
    with pytest.raises(ValueError, match=r"Expected|missing"):
        read_event(ME, body)


@pytest.mark.parametrize("body", [None, [], {"entities": 5}, {"entities": [{"id": "a b"}]}])
def test_what_is_no_listing_is_refused(body: object) -> None:
    with pytest.raises(ValueError, match="Expected"):
        read_listing(ME, body)


def test_an_empty_listing_is_no_call() -> None:
    assert read_listing(ME, {}) == read_listing(ME, {"entities": None}) == read_listing(ME, {"entities": []}) == []


# --- what may be old news


def table(*calls: OwnCall) -> CallTable:
    made = CallTable()
    made.replace(calls)
    return made


def told(*calls: OwnCall) -> Event:
    return Event(calls[0].conversation_id, list(calls))


@pytest.mark.parametrize(
    ("before", "news", "asked", "doubtful"),
    [
        ([], own(), False, False),
        ([], own(muted=True), False, True),
        ([own()], own(muted=True), False, True),
        ([own()], own(muted=True), True, False),
        ([own(muted=True)], own(muted=True), False, False),
        ([own(muted=True)], own(), False, False),
        ([own()], own(CallState.DISCONNECTED, muted=True), False, False),
    ],
)
def test_a_mute_that_nobody_here_asked_for_is_looked_up(
    before: list[OwnCall], news: OwnCall, asked: bool, doubtful: bool
) -> None:
    assert table(*before).doubtful(told(news), asked_to_mute=asked) is doubtful


def test_a_call_that_ended_and_lives_is_looked_up() -> None:
    calls = table(own())
    calls.update(told(own(CallState.DISCONNECTED)))
    assert calls.live == {}
    assert calls.doubtful(told(own()), asked_to_mute=False)
    calls.replace([own()])  # the listing says that it does live
    assert not calls.doubtful(told(own()), asked_to_mute=False)


def test_an_end_that_comes_before_the_beginning_counts() -> None:
    calls = table()
    calls.update(told(own(CallState.DISCONNECTED)))
    assert calls.doubtful(told(own(CallState.RINGING)), asked_to_mute=False)


def test_an_event_is_about_its_own_conversation() -> None:
    calls = table(own(call="1"), own(call="2"))
    calls.update(told(own(CallState.HELD, call="1")))
    assert {call.participant_id: call.state for call in calls.live.values()} == {
        "part-1": CallState.HELD,
        "part-2": CallState.CONNECTED,
    }
    assert calls.connected == [own(call="2")]
    calls.update(Event("conv-2", []))  # no longer in it
    assert calls.connected == []


def test_not_every_ended_call_is_remembered() -> None:
    calls = table()
    for number in range(MAX_ENDED + 1):
        calls.update(told(own(CallState.DISCONNECTED, call=str(number))))
    assert not calls.doubtful(told(own(call="0")), asked_to_mute=False)
    assert calls.doubtful(told(own(call="1")), asked_to_mute=False)
