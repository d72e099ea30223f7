"""What a message from the broker means to the bridge."""

import pytest

from mutebridge.core import messages
from mutebridge.core.contract import Call, CallState, CommandError, Mic, Result, Topics
from mutebridge.core.events import (
    AvailabilityChanged,
    CallStateChanged,
    CommandAnswered,
    Event,
    MicStateChanged,
    OwnAvailabilitySeen,
    OwnDeviceSeen,
    Unreadable,
)

TOPICS = Topics("desk")


def heard(below: str, payload: bytes, *, retained: bool = False) -> Event | None:
    return messages.event_of(TOPICS, f"mutebridge/v1/desk/{below}", payload, retained=retained)


@pytest.mark.parametrize("retained", [False, True])
def test_what_a_controller_says(retained: bool) -> None:
    call = Call(state=CallState.CONNECTED)
    assert heard("controller/phone/call", b"connected", retained=retained) == CallStateChanged("phone", call, retained)
    mic = Mic(muted=True)
    assert heard("controller/phone/mic", b"muted", retained=retained) == MicStateChanged("phone", mic, retained)


def test_availability() -> None:
    assert heard("controller/phone/availability", b"online") == AvailabilityChanged("phone", True)
    assert heard("controller/phone/availability", b"offline") == AvailabilityChanged("phone", False)
    assert heard("controller/phone/availability", b"") == AvailabilityChanged("phone", None)


def test_a_result() -> None:
    payload = b'{"request_id": "r", "ok": false, "error": "stale"}'
    answer = Result(request_id="r", ok=False, error=CommandError.STALE)
    assert heard("controller/phone/result", payload) == CommandAnswered("phone", answer)


def test_what_cannot_be_read_is_told_with_its_topic() -> None:
    event = heard("controller/phone/mic", b"perhaps")
    assert isinstance(event, MicStateChanged)
    assert isinstance(event.mic, Unreadable)
    assert event.mic.problem.startswith("mutebridge/v1/desk/controller/phone/mic: b'perhaps'; ")


def test_deleted_states() -> None:
    assert heard("controller/phone/call", b"") == CallStateChanged("phone", None)
    assert heard("controller/phone/mic", b"") == MicStateChanged("phone", None)


def test_the_bridge_sees_its_own_availability() -> None:
    assert heard("bridge/availability", b"offline") == OwnAvailabilitySeen(online=False)
    assert heard("bridge/availability", b"online\n") == OwnAvailabilitySeen(online=True)
    assert heard("bridge/availability", b"") is None


def test_left_over_devices_are_those_that_were_retained() -> None:
    assert heard("bridge/device/button", b"{}", retained=True) == OwnDeviceSeen("button")
    assert heard("bridge/device/button", b"{}") is None, "what the bridge itself has just said"
    assert heard("bridge/device/button", b"", retained=True) is None


@pytest.mark.parametrize(
    "below",
    [
        "controller/phone/command",
        "controller/phone/shoe-size",
        "controller/a name/call",
        "controller//call",
        "controller/phone/call/more",
        "bridge/event",
        "elsewhere",
    ],
)
def test_other_topics_say_nothing(below: str) -> None:
    assert heard(below, b"connected", retained=True) is None


def test_calls_come_before_any_mic_state() -> None:
    """So that no light comes on for one muted call before another, live one is known."""
    filters = [topic for topic, _ in messages.subscriptions(TOPICS)]
    leaves = [topic.rpartition("/")[2] for topic in filters if "/controller/" in topic]
    assert leaves[:3] == ["availability", "call", "mic"]
    assert "mutebridge/v1/desk/bridge/device/+" in filters
