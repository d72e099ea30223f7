"""Whatever happens in whatever order, a controller keeps its promises.

The machine plays a lossy, repeating, reordering bridge, a person with a hand on the page, a softphone that obeys,
refuses, hangs or forgets to say what it did, and a broker that comes and goes.
"""

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.javascript_protocol import Twin, needs_node

from mutebridge.controller.protocol import Clock, ControllerProtocol, Effect, Perform, Publish
from mutebridge.core.contract import Action, CallState, Command, CommandError

START_MS = 1_700_000_000_000.0
C = "mutebridge/v1/desk/controller/phone"
STATES = [state.value for state in CallState]


class Desk(RuleBasedStateMachine):
    kind: type[ControllerProtocol] = ControllerProtocol

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.protocol = self.kind(
            "desk",
            "phone",
            epoch="e",
            clock=Clock(wall_ms=START_MS, monotonic_s=0.0),
            prefix="mutebridge/v1",
            can=frozenset(Action),
        )
        self.sent: list[dict[str, Any]] = []
        self.acted: list[str] = []
        self.running: Command | None = None
        self.last_seq = -1
        self.last_at = -1.0
        # What the softphone last said in this call; None where it said nothing, or may have unmuted without saying so.
        self.said: bool | None = None
        self.hands: list[int] = []
        self.answers: dict[str, Any] = {}
        self.confirmed: set[str] = set()
        self.retained: dict[str, Any] = {}

    @initialize(muted=st.booleans())
    def in_a_call(self, *, muted: bool) -> None:
        self.carry_out(self.protocol.connected(self.now))
        self._call("connected", "a")
        self._mic(muted)

    # --- the promises, checked on everything that goes out

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Perform):
                self._perform(effect.command)
            else:
                self._published(effect)

    def _perform(self, command: Command) -> None:
        assert command.request_id not in self.acted, "acted twice"
        assert self.at() < command.expires_at, "acted late"
        assert self.running is None, "asked a softphone that was busy"
        assert command.call_id in {None, self.protocol.call_id}, "acted on another call"
        assert command.epoch == "e", "acted for an earlier start"
        if command.action is Action.SET_MUTE:
            assert self.protocol.call_state is CallState.CONNECTED, "touched the microphone outside of a connected call"
        if command.muted is False:
            assert all(seq <= (command.mic_seq or 0) for seq in self.hands), "overrode a newer hand"
        self.acted.append(command.request_id)
        self.running = command

    def _published(self, effect: Publish) -> None:
        assert self.protocol.up
        leaf = effect.topic.removeprefix(f"{C}/")
        message: Any = json.loads(effect.payload) if effect.payload.startswith(b"{") else effect.payload
        if leaf == "result":
            self._answered(message)
            return
        self.retained[leaf] = message
        if isinstance(message, dict):
            assert message["seq"] > self.last_seq
            assert message["at"] == self.at() >= self.last_at
            self.last_seq, self.last_at = message["seq"], message["at"]
        if leaf == "mic" and isinstance(message, dict):
            assert message["muted"] == self.said, "said what the softphone did not"
            assert message.get("call_id") == self.protocol.call_id
            if message.get("request_id"):
                wish = next(each for each in self.sent if each["request_id"] == message["request_id"])
                assert wish["muted"] in {None, message["muted"]}
                self.confirmed.add(message["request_id"])

    def _answered(self, result: dict[str, Any]) -> None:
        request_id = result["request_id"]
        assert self.answers.setdefault(request_id, result) == result, "answered differently"
        if not result["ok"]:
            assert result["detail"]
            assert request_id not in self.confirmed, "confirmed and refused"

    @invariant()
    def what_is_retained_is_the_truth(self) -> None:
        mic = self.retained.get("mic")
        if self.protocol.up and isinstance(mic, dict):
            assert mic["muted"] == self.said
        if self.protocol.up:
            assert self.retained["call"]["state"] == self.protocol.call_state.value
            assert self.retained["availability"] == b"online"

    def at(self) -> float:
        return round(START_MS + self.now * 1000, 3)

    # --- the bridge

    @rule(
        muted=st.sampled_from([True, False]),
        action=st.sampled_from(["set_mute", "set_mute", "set_mute", "answer", "hang_up"]),
        life_ms=st.sampled_from([2000, 2000, 1, 0, -500, 90_000]),
        seen=st.sampled_from([0, 0, 1, 5]),
        meant=st.sampled_from([("e", None), ("e", None), ("e", None), ("e", "b"), ("old", None)]),
        at_once=st.booleans(),
    )
    def press(
        self, *, muted: bool, action: str, life_ms: int, seen: int, meant: tuple[str, str | None], at_once: bool
    ) -> None:
        epoch, call_id = meant
        command = {
            "request_id": f"r{len(self.sent)}",
            "action": action,
            "muted": muted if action == "set_mute" else None,
            "call_id": call_id or self.protocol.call_id,
            "epoch": epoch,
            "mic_seq": max(0, self.protocol.seq - seen) if self.said is not None else None,
            "expires_at": self.at() + life_ms,
        }
        self.sent.append(command)
        self.deliver(command)
        if at_once:
            self.softphone_is_asked()

    @precondition(lambda self: self.sent)
    @rule(back=st.integers(0, 5))
    def deliver_again(self, back: int) -> None:
        self.deliver(self.sent[max(0, len(self.sent) - 1 - back)])

    def deliver(self, command: dict[str, Any]) -> None:
        self.carry_out(self.protocol.received(f"{C}/command", json.dumps(command).encode(), self.now))

    @rule()
    def bridge_comes(self) -> None:
        self.carry_out(self.protocol.received("mutebridge/v1/desk/bridge/availability", b"online", self.now))

    @rule()
    def late_will(self) -> None:
        if self.protocol.up:
            self.retained["availability"] = b"offline"
        self.carry_out(self.protocol.received(f"{C}/availability", b"offline", self.now))

    # --- the broker and time

    @rule(up=st.sampled_from([True, True, False]))
    def broker(self, *, up: bool) -> None:
        if up:
            self.carry_out(self.protocol.connected(self.now))
        else:
            self.protocol.lost()

    @rule(seconds=st.sampled_from([0.001, 0.1, 0.1, 0.5, 0.5, 1.0, 2.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        until = self.now + seconds
        while (wake_at := self.protocol.wake_at()) is not None and wake_at <= until:
            self.now = max(wake_at, self.now + 1e-6)
            self._time_came()
        self.now = max(until, self.now)

    def _time_came(self) -> None:
        flight = self.protocol._in_flight
        if flight and self.now >= flight.deadline and flight.unmutes and self.said:
            self._nobody_knows(flight.command)
        self.carry_out(self.protocol.time_came(self.now))

    def _nobody_knows(self, unmute: Command) -> None:
        self.said = None
        self.hands = [seq for seq in self.hands if seq > (unmute.mic_seq or 0)]

    # --- the softphone

    @rule(state=st.sampled_from(STATES), call_id=st.sampled_from([None, "a", "a", "b"]))
    def call(self, state: str, call_id: str | None) -> None:
        self._call(state, call_id)

    @rule()
    def call_connects(self) -> None:
        self._call("connected", None)

    def _call(self, state: str, call_id: str | None) -> None:
        before, before_state = self.protocol.call_id, self.protocol.call_state
        flight = self.protocol._in_flight
        effects = self.protocol.call_changed(CallState(state), call_id, self.now)
        after, after_state = self.protocol.call_id, self.protocol.call_state
        if (before, before_state) != (after, after_state):
            ended = after_state is CallState.DISCONNECTED
            if ended or (before != after and before_state is not CallState.DISCONNECTED):
                self.said = None
                self.hands.clear()
            if flight and flight.unmutes and self.said and (after_state.value != "connected" or before != after):
                self._nobody_knows(flight.command)
        self.carry_out(effects)

    @rule(muted=st.booleans())
    def hand(self, *, muted: bool) -> None:
        self._mic(muted)

    def _mic(self, muted: bool) -> None:
        flight = self.protocol._in_flight
        caused = flight and flight.command.action is Action.SET_MUTE and flight.command.muted == muted
        changed, self.said = self.said != muted, muted
        seq = self.protocol.seq + 1
        self.carry_out(self.protocol.mic_changed(muted, self.now))
        if changed and not caused:
            self.hands.append(seq)

    @rule()
    def softphone_is_asked(self) -> None:
        self.carry_out(self.protocol.begin(self.now))

    @precondition(lambda self: self.running is not None)
    @rule(how=st.sampled_from(["obeys", "obeys", "obeys", "refuses", "returns"]))
    def softphone_returns(self, how: str) -> None:
        assert self.running
        if how == "obeys" and self.running.muted is not None:
            self._mic(self.running.muted)
        self.running = None
        self.carry_out(self.protocol.performed(self.now, CommandError.FAILED if how == "refuses" else None, "no"))

    @invariant()
    def nothing_grows(self) -> None:
        assert len(self.protocol._answers) <= 256
        assert len(self.protocol._calls) <= 16


TestController = Desk.TestCase
TestController.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


class DeskOfBoth(Desk):
    kind = Twin


TestBrowsersController = needs_node(DeskOfBoth.TestCase)
TestBrowsersController.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
