"""A desk for tests of the controller's side: mosquitto's own clients in the bridge's place."""

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tests.integration.mosquitto import Mosquitto

DEADLINE_S = 20.0
STATION = "desk"
P = f"mutebridge/v1/{STATION}"
_GRANTED = "granted"


class Message:
    """One message as mosquitto_sub saw it; `data` is its JSON, else None."""

    def __init__(self, seen: dict[str, Any]) -> None:
        self.topic: str = seen["topic"]
        self.leaf = self.topic.rpartition("/")[2]
        self.payload: str = seen.get("payload") or ""
        self.qos: int = seen["qos"]
        self.retain = bool(seen["retain"])
        self.data: dict[str, Any] | None = None
        if self.payload.startswith('{"'):
            self.data = json.loads(self.payload)

    def __getitem__(self, key: str) -> Any:
        assert self.data is not None, self
        return self.data.get(key)

    def __repr__(self) -> str:
        return f"{self.topic} (QoS {self.qos}{', retained' if self.retain else ''}): {self.payload!r}"


class Desk:
    """Everything that is published is heard, in order."""

    def __init__(self, broker: Mosquitto) -> None:
        self.broker = broker
        self._sub: subprocess.Popen[str] | None = None
        self._heard: queue.Queue[Message] = queue.Queue()
        self.listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.deafen()

    def listen(self) -> None:
        """Subscribe to everything; returns once the broker has granted it."""
        self.publish(_GRANTED, "-", "-r")  # a retained message comes as soon as the subscription stands
        command = ["mosquitto_sub", "-p", str(self.broker.port), "-V", "mqttv5", "-q", "2", "-t", "#"]
        self._sub = subprocess.Popen([*command, "--retain-as-published", "-F", "%j"], stdout=subprocess.PIPE, text=True)
        granted = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self._sub, granted), daemon=True)
        self._reader.start()
        assert granted.wait(DEADLINE_S)

    def deafen(self) -> None:
        if self._sub:
            self._sub.kill()
            self._sub.wait(DEADLINE_S)
            self._reader.join(DEADLINE_S)

    def _read(self, sub: subprocess.Popen[str], granted: threading.Event) -> None:
        assert sub.stdout
        with sub.stdout:
            for line in sub.stdout:
                message = Message(json.loads(line))
                if message.topic == _GRANTED:
                    granted.set()
                else:
                    self._heard.put(message)

    def hear(self, leaf: str, matches: Callable[[Message], bool] = lambda _: True) -> Message:
        """Return the next message whose topic ends so, passing over others."""
        deadline = time.monotonic() + DEADLINE_S
        passed: list[Message] = []
        while True:
            try:
                message = self._heard.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {leaf} like that within {DEADLINE_S:g} s; there were {passed}") from None
            if message.leaf == leaf and matches(message):
                return message
            passed.append(message)

    def hear_next(self) -> Message:
        return self._heard.get(timeout=DEADLINE_S)

    def forget(self) -> None:
        """What was heard so far."""
        while not self._heard.empty():
            self._heard.get()

    def publish(self, topic: str, payload: str, *options: str) -> None:
        """With mosquitto_pub; `options` are its own, as "-r"."""
        subprocess.run(
            ["mosquitto_pub", "-p", str(self.broker.port), "-t", topic, "-m", payload, *options],
            check=True,
            timeout=DEADLINE_S,
        )


class Bridge:
    """The little that a bridge does: remember what a controller said, and send commands that refer to it."""

    def __init__(self, desk: Desk, name: str) -> None:
        self.desk = desk
        self.c = f"{P}/controller/{name}"
        self.call: Message | None = None
        self.mic: Message | None = None
        self.offset_ms = 0.0
        self._requests = 0

    def hear(self, leaf: str, matches: Callable[[Message], bool] = lambda _: True) -> Message:
        """Like Desk.hear, noting call and mic on the way."""

        def note(message: Message) -> bool:
            if message.topic == f"{self.c}/call":
                self.call = message
            if message.topic == f"{self.c}/mic":
                self.mic = message if message.payload else None
            if message.leaf in {"call", "mic"} and message.data and message["at"]:
                self.offset_ms = message["at"] - time.monotonic() * 1000
            return message.topic.startswith(self.c) and message.leaf == leaf and matches(message)

        deadline = time.monotonic() + DEADLINE_S
        passed: list[Message] = []
        while time.monotonic() < deadline:
            message = self.desk.hear_next()
            if note(message):
                return message
            passed.append(message)
        raise AssertionError(f"no {leaf} like that; there were {passed}")

    def hear_call(self, state: str) -> Message:
        return self.hear("call", lambda message: message["state"] == state)

    def hear_mic(self, muted: bool) -> Message:
        return self.hear("mic", lambda message: bool(message.payload) and message["muted"] is muted)

    def hear_result(self, request_id: str) -> Message:
        return self.hear("result", lambda message: message["request_id"] == request_id)

    def at(self) -> float:
        """Now, by the controller's clock."""
        return time.monotonic() * 1000 + self.offset_ms

    def command(self, *, retain: bool = False, life_ms: float = 2000, **fields: Any) -> str:
        """Send a command as the bridge does: QoS 0, about the call and mic heard last. Returns the request_id."""
        self._requests += 1
        message = {
            "request_id": f"r{self._requests}",
            "action": "set_mute",
            "call_id": self.call["call_id"] if self.call else None,
            "epoch": self.call["epoch"] if self.call else None,
            "mic_seq": self.mic["seq"] if self.mic else None,
            "expires_at": self.at() + life_ms,
            "source": {"device": "button", "name": "Red button"},
        } | fields
        self.desk.publish(f"{self.c}/command", json.dumps(message), *(["-r"] if retain else []))
        return str(message["request_id"])


def stop_process(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait(DEADLINE_S)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()
