"""The other end: the project's own controller, before a softphone without audio that tells when it was made to act."""

import json
import time
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.integration.daemon_record import Record

from mutebridge.controller import BrokerSettings, SessionController
from mutebridge.controller.session_controller import Happening
from mutebridge.controller.simulator import SdkAdapter
from mutebridge.controller.softphone import SimulatedSoftphone


class Act(NamedTuple):
    """The softphone was told to mute or unmute, and did."""

    at: float
    muted: bool


class Said(NamedTuple):
    """A message, with the moment at which it was seen."""

    at: float
    topic: str
    payload: str
    retained: bool = False

    @property
    def leaf(self) -> str:
        return self.topic.rpartition("/")[2]

    def get(self, key: str) -> Any:
        """What its JSON says under `key`."""
        return json.loads(self.payload).get(key) if self.payload.startswith("{") else None


class Softphone:
    """`phone` is the softphone as a person has it; `acts`, `commands` and `results` are what came of presses."""

    def __init__(
        self,
        port: int,
        *,
        station: str = "desk",
        name: str = "phone",
        heartbeat_s: float = 5.0,
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        self.phone = SimulatedSoftphone()
        self.acts: Record[Act] = Record("what the softphone was told to do")
        self.commands: Record[Said] = Record("the commands that came")
        self.results: Record[Said] = Record("the answers to commands")
        self.ups: Record[str] = Record("the controller's connections")
        self._adapter = SdkAdapter(self.phone)
        self._controller = SessionController(
            station,
            name,
            set_mute=self._set_mute,
            broker=BrokerSettings(
                host="127.0.0.1", port=port, username=username, password=password, retry_first_s=0.2, retry_max_s=0.5
            ),
            heartbeat_s=heartbeat_s,
            observe=self._observe,
        )
        self._adapter.listen(self._controller)

    def connect(self) -> None:
        """A call rings, a person takes it: it is live."""
        self.phone.do("ring")
        self.phone.do("connect")

    def stop(self) -> None:
        self._controller.stop()

    def __enter__(self) -> Self:
        self._controller.start()
        self.ups.wait(lambda _: True)
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self.stop()

    def _set_mute(self, muted: bool) -> None:
        self._adapter.set_mute(muted)
        self.acts.add(Act(time.monotonic(), muted))

    def _observe(self, happening: Happening) -> None:
        said = Said(time.monotonic(), happening.topic, happening.payload.decode(errors="replace"))
        if happening.what == "up":
            self.ups.add(happening.reason)
        elif happening.what == "received" and said.leaf == "command":
            self.commands.add(said)
        elif happening.what == "sent" and said.leaf == "result":
            self.results.add(said)
