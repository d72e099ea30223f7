"""One workstation with everything real: the daemon as a child process, a button on a pty, a softphone, and an onlooker.

    with Station(tmp_path, mosquitto.port) as station:
        station.connect()
        station.press()
        station.wait_lamp("MUTED")

Whatever happens is written down with its moment, so that a test waits for the thing itself.
"""

import functools
import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.integration.daemon_button import Button, Shown
from tests.integration.daemon_process import Daemon
from tests.integration.daemon_record import DEADLINE_S, Record
from tests.integration.daemon_softphone import Said, Softphone

from mutebridge.edges.broker import Broker, BrokerSettings, Retained

DARK = ("OFF", "UNKNOWN", "LIVE")


class Onlooker:
    """Writes down all that is published below `mutebridge/v1`, through a connection of its own."""

    def __init__(self, port: int, name: str = "onlooker") -> None:
        self.seen: Record[Said] = Record("what was published")
        self._connection: Record[str] = Record("the onlooker's connection")
        self.broker = Broker(
            BrokerSettings(host="127.0.0.1", port=port, retry_first_s=0.1, retry_max_s=0.2),
            client_id=name,
            will=Retained(f"onlookers/{name}", b""),
            subscriptions=[("mutebridge/v1/#", 1)],
            on_up=lambda: self._connection.add("up"),
            on_lost=self._connection.add,
            on_message=lambda topic, payload, retained: self.seen.add(
                Said(time.monotonic(), topic, payload.decode(errors="replace"), retained)
            ),
            on_fatal=lambda problem: self.seen.add(Said(time.monotonic(), "fatal", problem.message)),
        )

    def wait(self, leaf: str, matches: Callable[[Said], bool], *, since: int = 0) -> Said:
        """Wait for a message whose topic ends in `leaf`."""
        return self.seen.wait(lambda said: said.topic.endswith(leaf) and matches(said), since=since)

    def wait_up(self) -> None:
        self._connection.wait_last(lambda state: state == "up")

    def __enter__(self) -> Self:
        self.broker.start()
        self.wait_up()
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self.broker.stop()


class Station:
    """`port` is the broker's; the daemon reaches it through `daemon_port`, where a proxy may stand.

    Entering starts all of it and waits until the daemon is connected, the softphone online, the lamp told to be dark.
    """

    def __init__(
        self,
        directory: Path,
        port: int,
        *,
        daemon_port: int | None = None,
        name: str = "desk",
        heartbeat_s: float = 5.0,
        broker: dict[str, Any] | None = None,
        softphone: bool = True,
    ) -> None:
        """`broker` is more of the configuration's section; attempts to reconnect are quick unless it says otherwise.

        Without `softphone` the place at the other end is left to another controller.
        """
        self._with_softphone = softphone
        directory.mkdir(exist_ok=True)
        self.name = name
        self.directory = directory
        self.config = directory / "mutebridge.yaml"
        self._make_softphone = functools.partial(Softphone, port, station=name, heartbeat_s=heartbeat_s)
        self.softphone = self._make_softphone()
        self.onlooker = Onlooker(port, f"onlooker-{name}")
        self._stack = ExitStack()
        self.button = self.make_button("button")
        quick: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": daemon_port or port,
            "retry_first_s": 0.2,
            "retry_max_s": 0.5,
        }
        self.broker = quick | (broker or {})
        self.configure(self.button.config())

    @property
    def root(self) -> str:
        return f"mutebridge/v1/{self.name}"

    # --- setting up

    def make_button(self, name: str, *, deaf: bool = False) -> Button:
        """Plug one in; the daemon uses it once it is configured."""
        button = Button(self.directory / name, deaf=deaf)
        self._stack.callback(button.close)
        return button

    def configure(self, *devices: Mapping[str, Any], **keys: Any) -> None:
        """Write the configuration file."""
        config = {"station": self.name, "known_devices": False, "broker": self.broker, "devices": devices} | keys
        self.config.write_text(json.dumps(config, indent=1))

    def start_daemon(self, *options: str) -> Daemon:
        """Start one more; `daemon` is the newest."""
        self.daemon = self._stack.enter_context(Daemon(self.config, *options))
        return self.daemon

    def restart_softphone(self) -> None:
        """A new one in the place of the old, without a call."""
        self.softphone.stop()
        self.softphone = self._stack.enter_context(self._make_softphone())

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._stack.close)
            self._stack.enter_context(self.onlooker)
            self.start_daemon()
            self.wait_up()
            self.wait_lamp("OFF")
            if self._with_softphone:
                self._stack.enter_context(self.softphone)
                self.onlooker.wait("controller/phone/availability", lambda said: said.payload == "online")
            undo.pop_all()
        return self

    def __exit__(self, _t: type[BaseException] | None, error: BaseException | None, _tb: TracebackType | None) -> None:
        if error is not None:
            self._explain(error)
        self._stack.close()

    def _explain(self, error: BaseException) -> None:
        """Let a failed test tell what everybody saw."""
        error.add_note(f"the daemon {'runs' if self.daemon.runs else 'has ended'}; it said:")
        for record in (self.daemon.log, self.onlooker.seen, self.button.lamp):
            error.add_note("\n".join(map(str, record.all()[-40:])))

    def close(self) -> None:
        """Only for a station that was not entered."""
        self._stack.close()

    # --- what a person does and sees

    def connect(self) -> None:
        """A connected call whose microphone is live, as the lamp knows."""
        self.softphone.connect()
        self.wait_lamp("LIVE")
        self.wait_told("live")

    def connect_muted(self) -> None:
        """A connected call, muted by a press."""
        self.connect()
        self.press()
        self.wait_lamp("MUTED")
        self.wait_event("confirmed")
        self.softphone.acts.wait(lambda act: act.muted)
        self.wait_told("muted")

    def connect_muted_by_hand(self) -> None:
        self.connect()
        self.softphone.phone.hand(True)
        self.wait_lamp("MUTED")

    def press(self, word: str = "toggle") -> float:
        """Return the moment of the press."""
        return self.button.press(word)

    def wait_lamp(self, *words: str, timeout_s: float = DEADLINE_S, button: Button | None = None) -> Shown:
        """Wait until the lamp shows one of `words`; returns at once if it does so already."""
        return (button or self.button).lamp.wait_last(lambda shown: shown.word in words, timeout_s=timeout_s)

    def wait_event(self, outcome: str, *, since: int = 0) -> Said:
        """Wait for what is told of a press."""
        return self.onlooker.wait("bridge/event", lambda said: said.get("outcome") == outcome, since=since)

    def wait_told(self, mic: str) -> None:
        """Wait until the daemon has told that the button shows this, and nothing else is under way."""

        def fits(said: Said) -> bool:
            lights = said.get("lights") or {}
            return lights.get("mic") == mic and lights.get("pending") is None

        self.onlooker.wait("device/button", fits)

    def wait_outcome(self, *, since: int) -> str:
        """Return what became of the press that was made since then."""

        def ends(said: Said) -> bool:
            return bool(said.get("outcome") != "sent")

        return str(self.onlooker.wait("bridge/event", ends, since=since).get("outcome"))

    def wait_up(self, *, since: int = 0) -> None:
        self.daemon.wait_log(": up, MQTT", since=since)

    def is_muted(self) -> bool | None:
        """What the microphone does in truth; None without a connected call."""
        return self.softphone.phone.mic

    def check_nothing_acted_late(self, presses: list[float]) -> None:
        """Every act of the softphone came within two seconds of a press, and no press made it act twice."""
        left = sorted(presses)
        for act in self.softphone.acts.all():
            before = [press for press in left if press <= act.at]
            assert before, f"it acted without a press: {act}, {presses}"
            assert act.at - before[-1] <= 2.0, f"it acted {act.at - before[-1]:.1f} s after the press"
            left.remove(before[-1])
