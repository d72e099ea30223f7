"""The browser's state machine beside the Python one: whatever one is told, the other is, and they must say the same.

So every test of the rules, run with a `Twin` in the place of a `ControllerProtocol`, is a test of both.
"""

import base64
import functools
import itertools
import json
import shutil
import subprocess
import weakref
from pathlib import Path
from typing import Any

import pytest

from mutebridge.controller.protocol import ControllerProtocol, Effect, Perform
from mutebridge.core.contract import Action, CallState, CommandError, PayloadError

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="needs node; type: sudo apt install nodejs npm")
_ids = itertools.count()


class Node:
    """One process for all of them."""

    def __init__(self) -> None:
        assert NODE
        script = Path(__file__).with_suffix(".mjs")
        self._process = subprocess.Popen([NODE, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        weakref.finalize(self, _end, self._process)

    def ask(self, protocol: int, method: str, *given: object) -> Any:
        """Return what the protocol of that number says to a call of that method."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"id": protocol, "method": method, "given": given}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    assert process.stdout
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


@functools.cache
def node() -> Node:
    return Node()


class JavaScript:
    """One protocol there."""

    def __init__(self, **settings: object) -> None:
        self._id = next(_ids)
        self.state = self._ask("new", settings)
        weakref.finalize(self, node().ask, self._id, "forget")

    def do(self, method: str, *given: object) -> list[dict[str, Any]]:
        """Return what is to be published or performed, as plain data; PayloadError or ValueError as in Python."""
        self.state = self._ask(method, *given)
        return [effect for effect in self.state.get("effects") or [] if effect["kind"] != "settled"]

    def settled(self) -> list[dict[str, Any]]:
        """Return what the last call said became of commands."""
        return [effect for effect in self.state.get("effects") or [] if effect["kind"] == "settled"]

    def _ask(self, method: str, *given: object) -> Any:
        said = node().ask(self._id, method, *given)
        if "error" in said:
            raise {"PayloadError": PayloadError, "RangeError": ValueError}[said["error"]](said["message"])
        return said


class Twin(ControllerProtocol):
    """Answers as the Python one, once it is sure that the other one does too."""

    def __init__(self, station: str, name: str, **settings: Any) -> None:
        super().__init__(station, name, **settings)
        clock, can = settings["clock"], settings.get("can", frozenset({Action.SET_MUTE}))
        self._other = JavaScript(
            station=station,
            name=name,
            epoch=settings["epoch"],
            prefix=settings["prefix"],
            clock={"wallMs": clock.wall_ms, "monotonicS": clock.monotonic_s},
            heartbeatS=settings.get("heartbeat_s", 5),
            confirmTimeoutS=settings.get("confirm_timeout_s"),
            can=[action.value for action in can],
        )
        self._compare([], [])

    def connected(self, now: float) -> list[Effect]:
        return self._compare(super().connected(now), self._other.do("connected", now))

    def lost(self) -> None:
        super().lost()
        self._compare([], self._other.do("lost"))

    def received(self, topic: str, payload: bytes, now: float) -> list[Effect]:
        other = functools.partial(self._other.do, "received", topic, base64.b64encode(payload).decode(), now)
        try:
            effects = super().received(topic, payload, now)
        except PayloadError:
            with pytest.raises(PayloadError, match=topic):
                other()
            raise
        return self._compare(effects, other())

    def call_changed(self, state: CallState, call_id: str | None, now: float) -> list[Effect]:
        other = functools.partial(self._other.do, "callChanged", state.value, call_id, now)
        try:
            effects = super().call_changed(state, call_id, now)
        except ValueError as error:
            with pytest.raises(ValueError, match=str(error)):
                other()
            raise
        return self._compare(effects, other())

    def mic_changed(self, muted: bool | None, now: float) -> list[Effect]:
        return self._compare(super().mic_changed(muted, now), self._other.do("micChanged", muted, now))

    def begin(self, now: float) -> list[Effect]:
        return self._compare(super().begin(now), self._other.do("begin", now))

    def performed(self, now: float, error: CommandError | None = None, detail: str = "") -> list[Effect]:
        refusal = {"error": error.value, "detail": detail} if error else None
        return self._compare(super().performed(now, error, detail), self._other.do("performed", now, refusal))

    def time_came(self, now: float) -> list[Effect]:
        return self._compare(super().time_came(now), self._other.do("timeCame", now))

    def _compare(self, effects: list[Effect], others: list[dict[str, Any]]) -> list[Effect]:
        assert [_plain(effect) for effect in effects] == [_read(effect) for effect in others]
        state = self._other.state
        assert (state["up"], state["seq"], state["mic"]) == (self.up, self.seq, self.mic)
        assert state["call"] == {"state": self.call_state.value, "callId": self.call_id}
        assert state["ready"] == self.ready
        assert state["wakeAt"] == (None if self.wake_at() is None else pytest.approx(self.wake_at(), abs=1e-6))
        assert state["sizes"] == {"calls": len(self._calls), "answers": len(self._answers)}
        return effects


def _plain(effect: Effect) -> dict[str, Any]:
    if isinstance(effect, Perform):
        return {"kind": "perform", "request_id": effect.command.request_id}
    said = {"topic": effect.topic, "retain": effect.retain, "payload": effect.payload.decode()}
    return _read({"kind": "publish", **said})


def _read(effect: dict[str, Any]) -> dict[str, Any]:
    if effect["kind"] == "perform":
        return {"kind": "perform", "request_id": effect["command"]["request_id"]}
    payload = effect["payload"]
    if payload.startswith("{"):
        payload = json.loads(payload)
        if "at" in payload:
            payload["at"] = pytest.approx(payload["at"], abs=0.002)
        if str(payload.get("detail")).startswith("mutebridge/"):
            payload["detail"] = "where, and what is wrong with it"  # each in the words of its JSON library
    return {**effect, "payload": payload}
