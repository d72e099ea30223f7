"""The controller's rules, one test each, on the pure state machine: no broker, no clock, no thread.

Each is held against the Python one, and against the browser's beside it.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tests.unit.javascript_protocol import Twin, needs_node

from mutebridge.controller.protocol import (
    CONFIRM_TIMEOUT_S,
    MAX_REMEMBERED,
    Clock,
    ControllerProtocol,
    Effect,
    Perform,
    Publish,
)
from mutebridge.core.contract import Action, CallState, Command, CommandError, PayloadError

CONTRACT = Path(__file__).parents[2] / "config" / "contract"
SCHEMAS = {
    leaf: Draft202012Validator(json.loads((CONTRACT / f"{leaf}.schema.json").read_text()))
    for leaf in ("call", "mic", "result")
}
START_MS = 1_700_000_000_000.0
C = "mutebridge/v1/desk/controller/phone"
P = "mutebridge/v1/desk"


class Phone:
    """The state machine with a clock of its own, a record of the wire, and nobody behind the callbacks."""

    kind: type[ControllerProtocol] = ControllerProtocol

    def __init__(self, *, can: frozenset[Action] = frozenset(Action), **settings: Any) -> None:
        self.now = 100.0
        self.protocol = self.kind(
            "desk",
            "phone",
            epoch="e1",
            clock=Clock(wall_ms=START_MS, monotonic_s=100.0),
            prefix="mutebridge/v1",
            can=can,
            **settings,
        )
        self.wire: list[tuple[str, Any]] = []
        self.retained: dict[str, Any] = {}
        self.performed: list[Command] = []
        self._requests = 0

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Perform):
                self.performed.append(effect.command)
                continue
            assert isinstance(effect, Publish)
            leaf = effect.topic.removeprefix(f"{C}/")
            text = effect.payload.decode()
            payload: Any = json.loads(text) if text.startswith("{") else text
            if leaf in SCHEMAS and payload and payload.get("state") != "other":  # the schema names the known words only
                SCHEMAS[leaf].validate(payload)
            self.wire.append((leaf, payload))
            assert effect.retain == (leaf != "result")
            if effect.retain:
                self.retained[leaf] = payload

    def connect(self) -> "Phone":
        self.carry_out(self.protocol.connected(self.now))
        return self

    def call(self, state: CallState, call_id: str | None = "c1") -> "Phone":
        self.carry_out(self.protocol.call_changed(state, call_id, self.now))
        return self

    def mic(self, muted: bool | None) -> "Phone":
        self.carry_out(self.protocol.mic_changed(muted, self.now))
        return self

    def receive(self, topic: str, payload: bytes) -> None:
        self.carry_out(self.protocol.received(topic, payload, self.now))

    def command(self, **fields: Any) -> str:
        """Send a command as a bridge that has seen everything would, unless `fields` say otherwise."""
        self._requests += 1
        message = {
            "request_id": f"r{self._requests}",
            "action": "set_mute",
            "call_id": self.protocol.call_id,
            "epoch": "e1",
            "mic_seq": self.protocol.seq,
            "expires_at": self.protocol._clock.at(self.now) + 2000,
        } | fields
        self.receive(f"{C}/command", json.dumps(message).encode())
        return str(message["request_id"])

    def begin(self) -> "Phone":
        self.carry_out(self.protocol.begin(self.now))
        return self

    def returned(self, error: CommandError | None = None, detail: str = "") -> "Phone":
        self.carry_out(self.protocol.performed(self.now, error, detail))
        return self

    def sleep(self, seconds: float) -> "Phone":
        self.now += seconds
        self.carry_out(self.protocol.time_came(self.now))
        return self

    def results(self) -> dict[str, str]:
        """What became of each request."""
        return {
            payload["request_id"]: "ok" if payload["ok"] else payload["error"]
            for leaf, payload in self.wire
            if leaf == "result"
        }

    def detail(self) -> str:
        return str([payload for leaf, payload in self.wire if leaf == "result"][-1]["detail"])

    def heard(self) -> list[tuple[str, Any]]:
        """What went out since this was last asked."""
        heard, self.wire = self.wire, []
        return heard


@pytest.fixture(autouse=True, params=["python", pytest.param("browser", marks=needs_node)])
def language(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Phone, "kind", {"python": ControllerProtocol, "browser": Twin}[request.param])


@pytest.fixture
def phone() -> Phone:
    """In a connected call, unmuted, at the broker, with everything said so far forgotten."""
    phone = Phone().connect().call(CallState.CONNECTED).mic(False)
    phone.heard()
    return phone


# --- what is said, and when


def test_it_says_mic_then_call_then_online_at_every_connect() -> None:
    phone = Phone().call(CallState.CONNECTED).mic(True)
    assert phone.heard() == []  # nobody listens yet
    phone.connect()
    assert [leaf for leaf, _ in phone.heard()] == ["mic", "call", "availability"]
    phone.protocol.lost()
    phone.connect()
    (_, mic), (_, call), (_, availability) = phone.heard()
    assert mic["muted"] is True
    assert mic["call_id"] == call["call_id"] == "c1"
    assert mic["epoch"] == call["epoch"] == "e1"
    assert call["state"] == "connected"
    assert call["heartbeat_s"] == 5
    assert availability == "online"


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (f"{P}/bridge/availability", b"online"),  # a bridge came: what it forgot is said again
        (f"{C}/availability", b"offline"),  # the late will of our own dead connection
        (f"{C}/availability", b""),  # somebody tidied up
    ],
)
def test_it_says_everything_again_when(phone: Phone, topic: str, payload: bytes) -> None:
    phone.receive(topic, payload)
    assert [leaf for leaf, _ in phone.heard()] == ["mic", "call", "availability"]


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (f"{P}/bridge/availability", b"offline"),
        (f"{P}/bridge/availability", b""),
        (f"{C}/availability", b"online"),
        (f"{C}/command", b""),
        (f"{P}/bridge/event", b"{}"),
    ],
)
def test_it_says_nothing_when(phone: Phone, topic: str, payload: bytes) -> None:
    phone.receive(topic, payload)
    assert phone.heard() == []


def test_the_microphone_is_said_again_after_each_change_of_the_call(phone: Phone) -> None:
    for state in (CallState.HELD, CallState.CONNECTED):
        phone.call(state)
        (first, call), (second, mic) = phone.heard()
        assert (first, call["state"], second, mic["muted"]) == ("call", state.value, "mic", False)
    phone.call(CallState.CONNECTED)
    assert phone.heard() == []  # not a change


def test_seq_and_at_grow_with_every_publication(phone: Phone) -> None:
    seen = []
    for step in (phone.connect, lambda: phone.mic(True), lambda: phone.call(CallState.HELD), phone.connect):
        phone.now += 0.25
        step()
        seen += [(payload["seq"], payload["at"]) for leaf, payload in phone.heard() if leaf in {"mic", "call"}]
    assert [seq for seq, _ in seen] == sorted({seq for seq, _ in seen})
    assert [at - START_MS for _, at in seen] == [250, 250, 500, 750, 750, 1000, 1000]


def test_a_heartbeat_repeats_the_microphone_while_connected(phone: Phone) -> None:
    assert phone.protocol.wake_at() == 105
    phone.sleep(4.9)
    assert phone.heard() == []
    phone.sleep(0.1)
    ((leaf, mic),) = phone.heard()
    assert (leaf, mic["muted"], mic["at"]) == ("mic", False, START_MS + 5000)
    assert "request_id" not in mic
    assert phone.protocol.wake_at() == 110


@pytest.mark.parametrize("quiet", ["held", "lost", "unknown"])
def test_nothing_wakes_outside_of_a_connected_call(quiet: str) -> None:
    phone = Phone().connect().call(CallState.CONNECTED)
    if quiet != "unknown":
        phone.mic(True)
    if quiet == "held":
        phone.call(CallState.HELD)
    if quiet == "lost":
        phone.protocol.lost()
    assert phone.protocol.wake_at() is None
    assert phone.sleep(60).wire[-1][1] != "online" or quiet == "lost"


# --- whose microphone


def test_a_new_call_does_not_inherit_the_microphone(phone: Phone) -> None:
    phone.mic(True)
    phone.call(CallState.DISCONNECTED)
    assert phone.retained["mic"] == ""
    phone.call(CallState.RINGING, "c2").call(CallState.CONNECTED, "c2")
    assert phone.retained["mic"] == ""
    phone.mic(False)
    assert phone.retained["mic"]["call_id"] == "c2"


def test_a_call_that_takes_over_does_not_inherit_the_microphone(phone: Phone) -> None:
    phone.mic(True).call(CallState.CONNECTED, "c2")
    assert phone.retained["call"]["call_id"] == "c2"
    assert phone.retained["mic"] == ""


def test_a_microphone_said_before_its_call_counts(phone: Phone) -> None:
    phone.call(CallState.DISCONNECTED).mic(True).call(CallState.CONNECTED, "c2")
    assert (phone.retained["mic"]["muted"], phone.retained["mic"]["call_id"]) == (True, "c2")


def test_calls_without_an_id_get_one_each() -> None:
    phone = Phone().connect()
    states = (CallState.RINGING, CallState.CONNECTED, CallState.HELD, CallState.DISCONNECTED)
    ids = [phone.call(state, None).retained["call"]["call_id"] for state in 2 * states]
    assert ids[0:4] == [ids[0]] * 4
    assert ids[4:8] == [ids[4]] * 4
    assert ids[0] != ids[4]
    assert Phone().call(CallState.RINGING, None).protocol.call_id == ids[0]  # unique by its epoch, not by luck
    assert ids[0].startswith("e1-")


def test_a_second_call_ringing_neither_hides_nor_shows(phone: Phone) -> None:
    phone.call(CallState.RINGING, "c2").call(CallState.DISCONNECTED, "c2")
    assert phone.heard() == []


def test_when_the_second_call_ends_the_first_one_is_back() -> None:
    phone = Phone().connect()
    for state, call_id, current in [
        (CallState.CONNECTED, "c1", "c1"),
        (CallState.RINGING, "c2", "c1"),
        (CallState.HELD, "c1", "c1"),
        (CallState.CONNECTED, "c2", "c2"),
        (CallState.DISCONNECTED, "c2", "c1"),
        (CallState.CONNECTED, "c1", "c1"),
        (CallState.CONNECTED, "c3", "c3"),
        (CallState.CONNECTED, "c1", "c3"),  # said once more, which is no change
    ]:
        assert phone.call(state, call_id).protocol.call_id == current


def test_of_two_that_ring_the_first_one_stays() -> None:
    phone = Phone().connect().call(CallState.RINGING, "c1").call(CallState.RINGING, "c2")
    assert phone.protocol.call_id == "c1"


def test_calls_that_never_end_are_not_kept_for_ever(phone: Phone) -> None:
    for number in range(1000):
        phone.call(CallState.RINGING, f"x{number}")
    assert len(phone.protocol._calls) <= 16
    assert phone.protocol.call_id == "c1"


def test_an_unknown_word_is_a_call_that_is_not_connected(phone: Phone) -> None:
    phone.call(CallState("wrapping_up"))
    phone.command(muted=True)
    assert list(phone.results().values()) == ["not_connected"]


@pytest.mark.parametrize("call_id", ["", "x" * 257])
def test_an_impossible_call_id_is_told_to_the_developer(phone: Phone, call_id: str) -> None:
    with pytest.raises(ValueError, match="1 to 256"):
        phone.call(CallState.RINGING, call_id)


@pytest.mark.parametrize("heartbeat_s", [0, -1, 3601])
def test_an_impossible_heartbeat_is_told_to_the_developer(heartbeat_s: float) -> None:
    with pytest.raises(ValueError, match="heartbeat_s"):
        Phone(heartbeat_s=heartbeat_s)


# --- commands


def test_a_mute_asks_the_softphone_and_answers_when_the_microphone_says_so(phone: Phone) -> None:
    request_id = phone.command(muted=True)
    assert phone.heard() == []
    phone.begin()
    assert phone.performed[-1].muted is True
    phone.returned()
    assert phone.heard() == []  # the callback's return proves nothing
    phone.mic(True)
    (first, mic), (second, result) = phone.heard()
    assert (first, mic["muted"], mic["request_id"]) == ("mic", True, request_id)
    assert (second, result) == ("result", {"request_id": request_id, "ok": True})


def test_the_microphone_may_speak_from_inside_the_callback(phone: Phone) -> None:
    phone.command(muted=True)
    phone.begin().mic(True)
    assert [leaf for leaf, _ in phone.heard()] == ["mic", "result"]
    phone.returned()
    assert phone.heard() == []


def test_a_mute_that_changes_nothing_is_said_again_with_its_request_id(phone: Phone) -> None:
    phone.mic(True).heard()
    request_id = phone.command(muted=True)
    phone.begin().returned()
    assert phone.performed[-1].muted is True  # asked all the same: muting once too often costs nothing
    (_, mic), (_, result) = phone.heard()
    assert (mic["muted"], mic["request_id"], result["ok"]) == (True, request_id, True)


def test_an_unmute_that_would_change_nothing_does_not_touch_the_softphone(phone: Phone) -> None:
    phone.command(muted=False)
    phone.begin()
    assert phone.performed == []
    assert list(phone.results().values()) == ["ok"]
    assert phone.protocol.wake_at() == 105


@pytest.mark.parametrize("end", ["returns", "hangs"])
def test_a_softphone_that_does_not_follow_is_a_failure(phone: Phone, end: str) -> None:
    request_id = phone.command(muted=True)
    phone.begin()
    if end == "returns":
        phone.returned()
    assert phone.protocol.wake_at() == phone.now + CONFIRM_TIMEOUT_S
    phone.sleep(CONFIRM_TIMEOUT_S)
    assert phone.results() == {request_id: "failed"}
    assert ("did not return" if end == "hangs" else "no change") in phone.detail()
    assert phone.retained["mic"]["muted"] is False


def test_an_unmute_that_may_have_happened_leaves_the_microphone_unknown(phone: Phone) -> None:
    phone.mic(True)
    phone.command(muted=False)
    phone.begin().returned().heard()
    phone.sleep(CONFIRM_TIMEOUT_S)
    assert [leaf for leaf, _ in phone.heard()] == ["mic", "result"]
    assert phone.retained["mic"] == ""
    assert phone.protocol.wake_at() is None  # and no heartbeat claims otherwise
    phone.mic(False)
    assert phone.retained["mic"]["muted"] is False


def test_muted_is_not_claimed_while_an_unmute_is_in_flight() -> None:
    phone = Phone(heartbeat_s=0.5).connect().call(CallState.CONNECTED).mic(True)
    phone.command(muted=False)
    phone.begin().heard()
    phone.sleep(0.9)
    assert phone.heard() == []
    phone.connect()
    assert phone.retained["mic"] == ""
    phone.returned(CommandError.NOT_ALLOWED, "no")
    assert phone.retained["mic"]["muted"] is True  # it was refused, so it still is


def test_a_refusal_is_passed_on_with_its_detail_and_confirms_nothing(phone: Phone) -> None:
    request_id = phone.command(muted=True)
    phone.begin().returned(CommandError.MISSING_SCOPE, "grant client:call:write")
    (_, mic), (_, result) = phone.heard()
    assert "request_id" not in mic
    assert result == {
        "request_id": request_id,
        "ok": False,
        "error": "missing_scope",
        "detail": "grant client:call:write",
    }


def test_a_change_after_the_answer_is_said_without_request_id(phone: Phone) -> None:
    phone.command(muted=True)
    phone.begin().returned().sleep(CONFIRM_TIMEOUT_S)
    phone.heard()
    phone.mic(True)
    ((leaf, mic),) = phone.heard()
    assert (leaf, mic["muted"], "request_id" in mic) == ("mic", True, False)


@pytest.mark.parametrize(
    "state", [CallState.RINGING, CallState.DIALING, CallState.HELD, CallState.DISCONNECTED, CallState.OTHER]
)
def test_the_microphone_is_never_touched_unless_connected(phone: Phone, state: CallState) -> None:
    phone.call(state)
    for muted in (True, False):
        request_id = phone.command(muted=muted)
        assert phone.begin().results()[request_id] == "not_connected"
        assert state.value in phone.detail()
    assert phone.performed == []


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"muted": True, "expires_at": START_MS}, "expired"),
        ({"muted": True, "expires_at": START_MS - 10_000, "call_id": "other"}, "expired"),
        ({"muted": True, "expires_at": START_MS + 61_000}, "failed"),
        ({"muted": True, "epoch": "e0"}, "stale"),
        ({"muted": True, "call_id": "c0"}, "stale"),
        ({"muted": False, "call_id": None}, "stale"),
        ({"muted": False, "epoch": None}, "stale"),
        ({"muted": False, "mic_seq": None}, "stale"),
        ({"muted": None}, "failed"),
        ({"action": "hang_up", "call_id": None}, "stale"),
        ({"action": "answer"}, "not_connected"),  # it is answered already
        ({"action": "dance"}, "failed"),
        ({"action": "set_mute", "muted": "yes"}, "failed"),
        ({"expires_at": -1}, "failed"),
    ],
)
def test_refused(phone: Phone, fields: dict[str, Any], error: str) -> None:
    request_id = phone.command(**fields)
    phone.begin()
    assert phone.performed == []
    assert phone.results() == {request_id: error}
    assert phone.detail()


@pytest.mark.parametrize("fields", [{"epoch": None}, {"call_id": None}, {"mic_seq": None}, {"mic_seq": 0}])
def test_a_mute_is_taken_from_whoever_knows_less(phone: Phone, fields: dict[str, Any]) -> None:
    phone.command(muted=True, **fields)
    assert phone.begin().performed


def test_what_cannot_be_answered_is_a_problem_with_its_topic(phone: Phone) -> None:
    for payload in (b"muted", b"{}", b"\xff", b"[" * 4000, b'{"request_id": "' + b"x" * 5000 + b'"}'):
        with pytest.raises(PayloadError, match=f"{C}/command"):
            phone.receive(f"{C}/command", payload)
    with pytest.raises(PayloadError, match="bridge/availability"):
        phone.receive(f"{P}/bridge/availability", b"perhaps")
    assert phone.heard() == []


def test_the_hand_on_the_page_wins_over_an_older_unmute(phone: Phone) -> None:
    phone.mic(True)
    seen = phone.protocol.seq
    phone.mic(False).mic(True)  # by hand, and the bridge has not seen it
    phone.command(muted=False, mic_seq=seen)
    assert list(phone.begin().results().values()) == ["stale"]
    phone.command(muted=False)
    assert phone.begin().performed


def test_a_change_that_a_command_caused_makes_nothing_stale(phone: Phone) -> None:
    seen = phone.protocol.seq
    phone.command(muted=True)
    phone.begin().mic(True).returned()
    phone.sleep(5)  # a heartbeat is not a change either
    phone.mic(True)  # nor is the same once more
    phone.command(muted=False, mic_seq=seen)
    assert phone.begin().performed[-1].muted is False


def test_an_unmute_needs_to_have_seen_only_what_was_said_in_this_call(phone: Phone) -> None:
    phone.call(CallState.CONNECTED, "c2")
    phone.command(muted=False, mic_seq=None)  # push-to-talk, and nobody knows what the microphone does
    assert phone.begin().performed
    phone.mic(True)
    phone.sleep(CONFIRM_TIMEOUT_S).returned()
    assert phone.retained["mic"] == ""
    phone.command(muted=False, mic_seq=None)
    assert list(phone.begin().results().values()) == ["failed", "stale"]  # by hand, while it was under way


def test_an_unmute_that_was_lost_in_the_softphone_can_be_tried_again(phone: Phone) -> None:
    phone.mic(True)
    phone.command(muted=False)
    phone.begin().returned().sleep(CONFIRM_TIMEOUT_S)
    phone.command(muted=False, mic_seq=None)  # the bridge knows of no mic state any more
    assert len(phone.begin().performed) == 2


def test_a_hand_that_acts_while_a_command_waits_wins_too(phone: Phone) -> None:
    phone.command(muted=True)
    phone.begin()
    phone.command(muted=False)  # waits for the first one
    phone.mic(True).mic(False).mic(True).returned()
    assert list(phone.begin().results().values()) == ["ok", "stale"]
    assert len(phone.performed) == 1


def test_a_hand_that_mutes_without_a_broker_still_wins(phone: Phone) -> None:
    phone.mic(True)
    seen = phone.protocol.seq
    phone.protocol.lost()
    phone.mic(False).mic(True).connect()
    phone.command(muted=False, mic_seq=seen)
    assert list(phone.begin().results().values()) == ["stale"]


def test_a_command_twice_acts_once_and_answers_the_same(phone: Phone) -> None:
    phone.command(request_id="r", muted=True)
    phone.command(request_id="r", muted=True)  # while it waits
    phone.begin()
    phone.command(request_id="r", muted=True)  # while it is in flight
    phone.mic(True).returned()
    first = phone.heard()
    phone.command(request_id="r", muted=True)
    again = phone.begin().heard()
    assert len(phone.performed) == 1
    assert [leaf for leaf, _ in first] == [leaf for leaf, _ in again] == ["mic", "result"]
    assert again[0][1]["request_id"] == "r"
    assert again[1] == first[1]


def test_an_old_answer_does_not_dress_up_as_the_present(phone: Phone) -> None:
    phone.command(request_id="r", muted=True)
    phone.begin().mic(True).returned().mic(False).heard()
    phone.command(request_id="r", muted=True)
    (_, mic), (_, result) = phone.heard()
    assert (mic["muted"], "request_id" in mic, result["ok"]) == (False, False, True)


def test_a_refusal_twice_is_the_same_refusal(phone: Phone) -> None:
    phone.call(CallState.HELD)
    phone.command(request_id="r", muted=True)
    phone.call(CallState.CONNECTED).heard()
    phone.command(request_id="r", muted=True)
    assert phone.begin().heard()[0][1]["error"] == "not_connected"
    assert phone.performed == []


def test_an_answer_given_while_the_broker_was_away_is_there_for_the_repeat(phone: Phone) -> None:
    phone.command(request_id="r", muted=True)
    phone.begin()
    phone.protocol.lost()
    phone.mic(True).returned().connect().heard()
    phone.command(request_id="r", muted=True)
    assert phone.results() == {"r": "ok"}


def test_a_newer_command_takes_the_place_of_the_waiting_one(phone: Phone) -> None:
    first = phone.command(muted=True)
    phone.begin()
    second = phone.command(muted=False)
    third = phone.command(muted=True)
    assert not phone.protocol.ready
    phone.mic(True)
    assert not phone.protocol.ready  # the callback is still running
    phone.returned().begin().returned()
    assert phone.results() == {second: "failed", first: "ok", third: "ok"}
    assert [command.request_id for command in phone.performed] == [first, third]


def test_a_softphone_that_hangs_lets_later_commands_expire(phone: Phone) -> None:
    first = phone.command(muted=True)
    phone.begin().sleep(CONFIRM_TIMEOUT_S)
    second = phone.command(muted=True)
    assert not phone.protocol.ready
    assert phone.protocol.wake_at() == pytest.approx(phone.now + 2)
    phone.sleep(2)
    assert phone.results() == {first: "failed", second: "expired"}
    phone.sleep(10)
    assert phone.heard()[-1][0] == "mic"  # the heart still beats
    phone.returned()
    assert phone.heard() == []
    third = phone.command(muted=True)
    phone.begin().mic(True)
    assert phone.results()[third] == "ok"


def test_a_command_that_waited_is_checked_again_when_its_turn_comes(phone: Phone) -> None:
    request_id = phone.command(muted=True)
    phone.call(CallState.HELD)
    assert phone.begin().results() == {request_id: "not_connected"}
    phone.call(CallState.CONNECTED)
    request_id = phone.command(muted=True)
    phone.now += 2
    assert phone.begin().results()[request_id] == "expired"
    assert phone.performed == []


@pytest.mark.parametrize(("state", "call_id"), [(CallState.HELD, "c1"), (CallState.CONNECTED, "c2")])
def test_a_call_that_changes_under_a_command_ends_it(phone: Phone, state: CallState, call_id: str) -> None:
    phone.mic(True)
    request_id = phone.command(muted=False)
    phone.begin().call(state, call_id)
    assert phone.results() == {request_id: "not_connected"}
    assert phone.retained["mic"] == ""  # it may have been unmuted first
    phone.returned()
    assert list(phone.results()) == [request_id]


def test_a_microphone_that_says_the_opposite_settles_nothing() -> None:
    phone = Phone().connect().call(CallState.CONNECTED)
    phone.command(muted=True)
    phone.begin().mic(False).returned()
    assert phone.results() == {}
    assert "request_id" not in phone.retained["mic"]


def test_a_command_waits_until_the_one_before_is_settled(phone: Phone) -> None:
    phone.command(muted=True)
    phone.begin().returned()
    phone.command(muted=False)
    assert not phone.protocol.ready
    assert len(phone.begin().performed) == 1
    phone.mic(True)
    assert len(phone.begin().performed) == 2


def test_an_answer_that_mentions_the_microphone_does_not_touch_it() -> None:
    phone = Phone().connect().call(CallState.RINGING).mic(True)
    phone.command(action="answer", muted=False)
    phone.begin().call(CallState.CONNECTED).mic(False)
    assert phone.results() == {}
    phone.mic(True).heard()
    phone.sleep(CONFIRM_TIMEOUT_S)
    assert phone.retained["mic"]["muted"] is True


def test_answering_says_nothing_of_an_unknown_microphone() -> None:
    phone = Phone().connect().call(CallState.RINGING)
    phone.heard()
    phone.command(action="answer", request_id="r")
    phone.begin().returned()
    assert [leaf for leaf, _ in phone.heard()] == ["result"]
    phone.call(CallState.CONNECTED).mic(False).heard()
    phone.command(action="answer", request_id="r")
    assert [(leaf, payload.get("request_id")) for leaf, payload in phone.heard()] == [("mic", "r"), ("result", "r")]


def test_answer_and_hang_up_are_done_when_the_callback_returns() -> None:
    phone = Phone().connect().call(CallState.RINGING)
    answer = phone.command(action="answer")
    phone.begin().call(CallState.CONNECTED).mic(False).returned()
    hang_up = phone.command(action="hang_up")
    phone.begin().returned()
    assert phone.results() == {answer: "ok", hang_up: "ok"}
    assert [(command.action, command.call_id) for command in phone.performed] == [
        (Action.ANSWER, "c1"),
        (Action.HANG_UP, "c1"),
    ]


@pytest.mark.parametrize("state", [CallState.RINGING, CallState.DIALING, CallState.CONNECTED, CallState.HELD])
def test_hang_up_in_any_live_state(state: CallState) -> None:
    phone = Phone().connect().call(state)
    phone.command(action="hang_up")
    assert phone.begin().performed


def test_a_refused_hang_up_says_nothing_of_the_microphone(phone: Phone) -> None:
    phone.command(action="hang_up")
    phone.begin().returned(CommandError.FAILED, "no")
    assert [leaf for leaf, _ in phone.heard()] == ["result"]


def test_what_the_softphone_cannot_do_is_refused() -> None:
    phone = Phone(can=frozenset({Action.SET_MUTE}))
    phone.connect().call(CallState.RINGING)
    phone.command(action="answer")
    assert list(phone.results().values()) == ["failed"]
    assert "cannot do answer" in phone.detail()


def test_its_memory_is_bounded_and_never_forgets_what_may_still_act(phone: Phone) -> None:
    for _ in range(MAX_REMEMBERED):
        phone.command(muted=True)
        phone.begin().mic(True).returned()
    acted = len(phone.performed)
    assert acted == MAX_REMEMBERED
    refused = phone.command(muted=True)
    assert phone.results()[refused] == "failed"
    assert "too many" in phone.detail()
    phone.command(request_id="r1", muted=True)
    assert len(phone.begin().performed) == acted  # still remembered
    phone.sleep(3)
    phone.command(muted=True)
    assert len(phone.begin().performed) == acted + 1
    assert len(phone.protocol._answers) == MAX_REMEMBERED


def test_refusals_do_not_crowd_out_commands(phone: Phone) -> None:
    for _ in range(2 * MAX_REMEMBERED):
        phone.command(muted=True, call_id="other")
    phone.command(muted=True)
    assert phone.begin().performed
    assert len(phone.protocol._answers) == MAX_REMEMBERED


def test_a_long_detail_is_cut_to_what_the_contract_allows(phone: Phone) -> None:
    phone.command(muted=True)
    phone.begin().returned(CommandError.FAILED, "x" * 5000)
    assert len(phone.detail()) == 1024


def test_the_farewell_is_the_will(phone: Phone) -> None:
    farewell = phone.protocol.farewell()
    assert (farewell.topic, farewell.payload, farewell.retain) == (f"{C}/availability", b"offline", True)
    assert phone.protocol.subscriptions == [
        (f"{C}/command", 0),
        (f"{P}/bridge/availability", 1),
        (f"{C}/availability", 1),
    ]


# --- a softphone that is far away


def test_a_microphone_that_is_not_known_any_more_is_deleted_and_said_again_when_it_is() -> None:
    phone = Phone().connect().call(CallState.CONNECTED).mic(True)
    phone.mic(None)
    assert phone.retained["mic"] == ""
    assert phone.protocol.wake_at() is None, "no heartbeat claims what nobody knows"
    phone.mic(True)
    assert phone.retained["mic"]["muted"] is True


def test_a_softphone_may_take_longer_to_confirm() -> None:
    phone = Phone(confirm_timeout_s=1.8).connect().call(CallState.CONNECTED).mic(False)
    request = phone.command(muted=True)
    phone.begin().returned().sleep(1.7)
    assert request not in phone.results()
    phone.mic(True)
    assert phone.results()[request] == "ok"


def test_forgetting_the_microphone_is_nobodys_hand() -> None:
    phone = Phone().connect().call(CallState.CONNECTED).mic(True)
    seen = phone.protocol.seq
    request = phone.mic(None).command(muted=False, mic_seq=seen)
    assert request not in phone.results(), "it is not stale"
    assert [command.muted for command in phone.begin().performed] == [False]
