"""What the payloads of the contract are read as, what is refused, with which words."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from mutebridge.core import contract
from mutebridge.core.contract import (
    MAX_PAYLOAD_BYTES,
    Action,
    Call,
    CallState,
    Command,
    CommandError,
    Mic,
    PayloadError,
    Result,
    Topics,
)

TOPIC = "mutebridge/v1/desk/controller/phone/call"
COMMAND = {"request_id": "r", "action": "set_mute", "expires_at": 5, "muted": True}
READERS: list[Callable[[str, bytes], object]] = [
    contract.decode_availability,
    contract.decode_call,
    contract.decode_mic,
    contract.decode_result,
]


def refused(read: Callable[[str, bytes], object], payload: bytes) -> str:
    """Why a payload is refused."""
    with pytest.raises(PayloadError) as caught:
        read(TOPIC, payload)
    assert str(caught.value).startswith(f"{TOPIC}: ")
    return str(caught.value)


# --- calls


@pytest.mark.parametrize("word", ["ringing", "dialing", "connected", "held", "disconnected"])
def test_a_bare_word_is_a_call(word: str) -> None:
    assert contract.decode_call(TOPIC, word.encode()) == Call(state=CallState(word))


def test_what_a_shell_adds_to_a_word_does_not_matter() -> None:
    assert contract.decode_call(TOPIC, b" connected\r\n") == Call(state=CallState.CONNECTED)
    assert contract.decode_mic(TOPIC, b"unmuted\n") == Mic(muted=False)
    assert contract.decode_availability(TOPIC, b"offline\n") is False


@pytest.mark.parametrize("payload", [b"wrap-up", b"alerting_2", b'{"state": "wrap-up"}', b"Connected"])
def test_an_unknown_state_is_not_connected(payload: bytes) -> None:
    assert contract.decode_call(TOPIC, payload) == Call(state=CallState.OTHER)


def test_a_whole_call() -> None:
    payload = b'{"state": "connected", "call_id": "c", "epoch": "e", "seq": 7, "at": 12.5, "heartbeat_s": 5}'
    expected = Call(state=CallState.CONNECTED, call_id="c", epoch="e", seq=7, at=12.5, heartbeat_s=5)
    assert contract.decode_call(TOPIC, payload) == expected


def test_null_means_absent() -> None:
    payload = b'{"state": "held", "call_id": null, "epoch": null, "seq": null, "at": null, "heartbeat_s": null}'
    assert contract.decode_call(TOPIC, payload) == Call(state=CallState.HELD)


def test_unknown_fields_are_ignored() -> None:
    payload = b'{"state": "held", "direction": {"of": ["the", "call"]}, "seq": 1}'
    assert contract.decode_call(TOPIC, payload) == Call(state=CallState.HELD, seq=1)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"state": None}, r"$.state"),
        ({"state": 1}, r"$.state"),
        ({"call_id": ""}, "length >= 1 - at `$.call_id`"),
        ({"call_id": "x" * 257}, "length <= 256 - at `$.call_id`"),
        ({"epoch": 5}, "Expected `str | null`, got `int` - at `$.epoch`"),
        ({"seq": -1}, ">= 0 - at `$.seq`"),
        ({"seq": 1.5}, "Expected `int | null`, got `float` - at `$.seq`"),
        ({"seq": 2**60}, "<= 9007199254740992 - at `$.seq`"),
        ({"at": "now"}, "Expected `float | null`, got `str` - at `$.at`"),
        ({"at": -0.5}, ">= 0.0 - at `$.at`"),
        ({"heartbeat_s": 0}, "> 0.0 - at `$.heartbeat_s`"),
        ({"heartbeat_s": 3601}, "<= 3600.0 - at `$.heartbeat_s`"),
    ],
)
def test_a_refused_call_says_where_and_what_is_allowed(fields: dict[str, Any], complaint: str) -> None:
    said = refused(contract.decode_call, json.dumps({"state": "connected"} | fields).encode())
    assert complaint in said


@pytest.mark.parametrize("payload", [b'["connected"]', b'"connected"', b"on the phone", b"\xff\xfe", b"x" * 65, b" "])
def test_what_is_no_call_names_the_words_that_are(payload: bytes) -> None:
    allowed = "a JSON object or one of ringing, dialing, connected, held, disconnected is allowed"
    assert allowed in refused(contract.decode_call, payload)


def test_an_empty_payload_deletes() -> None:
    assert contract.decode_call(TOPIC, b"") is None
    assert contract.decode_mic(TOPIC, b"") is None
    assert contract.decode_availability(TOPIC, b"") is None


# --- microphone, availability


def test_a_whole_mic_state() -> None:
    payload = b'{"muted": true, "call_id": "c", "epoch": "e", "seq": 8, "at": 3, "request_id": "r"}'
    expected = Mic(muted=True, call_id="c", epoch="e", seq=8, at=3, request_id="r")
    assert contract.decode_mic(TOPIC, payload) == expected


def test_bare_words_of_the_microphone() -> None:
    assert contract.decode_mic(TOPIC, b"muted") == Mic(muted=True)
    assert contract.decode_mic(TOPIC, b"unmuted") == Mic(muted=False)


@pytest.mark.parametrize("payload", [b"mute", b"live", b"true", b"1", b"[]"])
def test_an_unknown_word_is_no_mic_state(payload: bytes) -> None:
    """A call may be in any state; a microphone is muted, live, or not known."""
    assert "one of muted, unmuted is allowed" in refused(contract.decode_mic, payload)


@pytest.mark.parametrize("muted", [None, 1, 0, "true", "muted", []])
def test_muted_is_true_or_false(muted: object) -> None:
    said = refused(contract.decode_mic, json.dumps({"muted": muted}).encode())
    assert "Expected `bool`" in said
    assert "$.muted" in said


def test_a_mic_state_without_its_word_is_refused() -> None:
    assert "missing required field `muted`" in refused(contract.decode_mic, b'{"call_id": "c"}')


def test_availability_is_one_of_two_words() -> None:
    assert contract.decode_availability(TOPIC, b"online") is True
    assert "b'away'; 'online' or 'offline' is allowed" in refused(contract.decode_availability, b"away")


# --- results, commands


def test_an_unknown_error_is_a_failure() -> None:
    result = contract.decode_result(TOPIC, b'{"request_id": "r", "ok": false, "error": "on_fire", "detail": "hot"}')
    assert result == Result(request_id="r", ok=False, error=CommandError.FAILED, detail="hot")


def test_a_result_is_no_bare_word() -> None:
    assert "malformed" in refused(contract.decode_result, b"ok")


def test_a_command_is_read_as_it_was_written() -> None:
    command = Command(request_id="r", action=Action.SET_MUTE, expires_at=5, muted=False, call_id="c", mic_seq=8)
    assert contract.decode(Command, TOPIC, contract.encode(command)) == command


def test_what_is_absent_is_not_written() -> None:
    assert json.loads(contract.encode(Mic(muted=True, seq=1))) == {"muted": True, "seq": 1}


@pytest.mark.parametrize("missing", ["request_id", "action", "expires_at"])
def test_a_command_without_a_part_that_it_needs_is_refused(missing: str) -> None:
    payload = json.dumps({key: value for key, value in COMMAND.items() if key != missing}).encode()
    assert f"missing required field `{missing}`" in refused(lambda t, p: contract.decode(Command, t, p), payload)


def test_an_action_that_nobody_knows_is_refused() -> None:
    payload = json.dumps(COMMAND | {"action": "toggle"}).encode()
    assert "Invalid enum value 'toggle'" in refused(lambda t, p: contract.decode(Command, t, p), payload)


# --- what holds for all


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "payload", [b"connected" + b" " * MAX_PAYLOAD_BYTES, b'{"state": "' + b"x" * MAX_PAYLOAD_BYTES + b'"}']
)
def test_at_most_4_kib_are_read(read: Callable[[str, bytes], object], payload: bytes) -> None:
    assert f"{len(payload)} bytes; at most 4096 are allowed" in refused(read, payload)


def test_4_kib_are_read() -> None:
    payload = b'{"state": "held", "more": "' + b"x" * (MAX_PAYLOAD_BYTES - 29) + b'"}'
    assert len(payload) == MAX_PAYLOAD_BYTES
    assert contract.decode_call(TOPIC, payload) == Call(state=CallState.HELD)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "payload",
    [
        b'{"state": "\xff"}',
        b'{"more": ' + b"[" * 4000,
        b"{" * 4000,
        b'{"state": "connected", "state"',
        b"{'muted': true}",
        b'{"muted": true} {"muted": false}',
        b"\0",
        b"{\0}",
    ],
    ids=["not UTF-8", "deep", "deeper", "cut off", "Python", "two", "nothing", "nothing inside"],
)
def test_garbage_is_refused_in_a_short_line(read: Callable[[str, bytes], object], payload: bytes) -> None:
    said = refused(read, payload)
    assert len(said) < 600
    assert "\n" not in said
    assert "\0" not in said


# --- topics


def test_topics() -> None:
    topics = Topics("desk", "a/b")
    assert topics.root == "a/b/desk"
    assert topics.bridge_availability == "a/b/desk/bridge/availability"
    assert topics.bridge_event == "a/b/desk/bridge/event"
    assert topics.bridge_device("button") == "a/b/desk/bridge/device/button"
    assert topics.controller("phone", "command") == "a/b/desk/controller/phone/command"


@pytest.mark.parametrize("prefix", ["", "/a", "a/", "a//b", "a/+", "#", "a b", "a\0", "a\1", "a\ufffe"])
def test_a_prefix_that_is_no_topic_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="levels separated by single slashes"):
        Topics("desk", prefix)


def test_a_prefix_leaves_room_for_the_rest_of_a_topic() -> None:
    assert Topics("desk", "ä" * 128).prefix == "ä" * 128
    with pytest.raises(ValueError, match="prefix: 258 bytes; at most 256 are allowed"):
        Topics("desk", "ä" * 129)


@pytest.mark.parametrize("name", ["", "a/b", "desk 1", "+", "x" * 65, "büro"])
def test_a_name_that_is_no_topic_level_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"1 to 64 of the letters a-z, digits, '.', '_' and '-'"):
        contract.valid_name("station", name)


def test_names_are_lower_cased() -> None:
    assert contract.valid_name("station", "Desk-17.Office_2") == "desk-17.office_2"
