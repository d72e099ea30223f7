"""Plays one and the same call to any session controller; what it writes down must be the same for all of them.

`controller_timeline.txt` says what a person does and what is then true. The broker, the daemon and the button are real;
the controller is a `Far`, with a softphone behind it that does as the person says. A run returns the lines of the file
as they came true, so that a controller that behaves differently shows where.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.integration.daemon_record import DEADLINE_S
from tests.integration.daemon_softphone import Said
from tests.integration.daemon_station import Station

SCENARIO = Path(__file__).with_suffix(".txt")
_LIGHTS = {"off": "OFF", "live": "LIVE", "muted": "MUTED", "unknown": "UNKNOWN"}
_MUTED = {"muted": True, "live": False}


class Far(Protocol):
    """A session controller with its softphone, connected to the broker and without a call.

    `do` takes what a person does there: ring, connect, hold, resume, end; mute and unmute by hand on the softphone's
    own page; take_scope and give_scope, the permission that muting through the SDK or API needs. It may return before
    the effect. `is_muted` is the microphone's truth, as the softphone has it; None outside a call.
    """

    name: str

    def do(self, step: str) -> None: ...

    def is_muted(self) -> bool | None: ...


class Step(NamedTuple):
    """A line of the file."""

    does: str
    call: str
    mic: str
    light: str
    press: tuple[str, ...]

    def __str__(self) -> str:
        line = f"  {self.does:<10}  {self.call:<13}  {self.mic:<10}  {self.light:<5}  {' '.join(self.press)}"
        return line.rstrip()


def read(path: Path = SCENARIO) -> list[Step]:
    """Return the steps of the file."""
    lines = (line.partition("#")[0].split() for line in path.read_text().splitlines())
    return [Step(does, call, mic, light, tuple(press)) for does, call, mic, light, *press in filter(None, lines)]


def play(station: Station, far: Far) -> list[str]:
    """Do all steps; return what came true, a line each. AssertionError where something did not within its deadline."""
    return list(_play(station, far, read()))


def _play(station: Station, far: Far, steps: list[Step]) -> Iterator[str]:
    seen = station.onlooker.seen
    station.onlooker.wait(f"controller/{far.name}/availability", lambda said: said.payload == "online")
    call = "disconnected"
    for number, step in enumerate(steps):
        try:
            since = seen.mark()
            press = _press(station, since) if step.does == "press" else ()
            if step.does != "press":
                far.do(step.does)
            if step.call != call:
                call = _wait_call(station, far, step.call, since)
            _wait_rest(station, step.mic if step.mic in _MUTED else "off")
            shown = station.wait_lamp(_LIGHTS[step.light]).word
            assert _last_call(station, far, since, call) == call, "the call went on by itself"
            if step.mic in _MUTED:
                assert far.is_muted() is _MUTED[step.mic], "the microphone is not what the light says"
        except AssertionError as error:
            error.add_note(f"{far.name}, step {number}:\n{step}")
            raise
        yield str(step._replace(call=call, light=shown.lower(), press=press))


def _press(station: Station, since: int) -> tuple[str, ...]:
    """Press; return what became of it, with the reason."""
    station.press()

    def ends(said: Said) -> bool:
        return said.get("outcome") not in (None, "sent")

    told = station.onlooker.seen.wait(
        lambda said: said.topic.endswith("bridge/event") and ends(said), since=since, timeout_s=DEADLINE_S
    )
    return tuple(str(word) for word in (told.get("outcome"), told.get("reason")) if word)


def _wait_call(station: Station, far: Far, state: str, since: int) -> str:
    topic = f"controller/{far.name}/call"
    return str(station.onlooker.wait(topic, lambda said: said.get("state") == state, since=since).get("state"))


def _wait_rest(station: Station, mic: str) -> None:
    """Wait until the newest that the daemon has told of the button is this, with nothing under way."""

    def rests() -> bool:
        told = [said for said in station.onlooker.seen.all() if said.topic.endswith("device/button")]
        lights = (told[-1].get("lights") or {}) if told else {}
        return lights.get("mic") == mic and lights.get("pending") is None

    station.onlooker.seen.wait(lambda _: rests())


def _last_call(station: Station, far: Far, since: int, before: str) -> str:
    """Return the last call state that was published since then, else the one before."""
    topic = f"controller/{far.name}/call"
    states = [said.get("state") for said in station.onlooker.seen.all(since) if said.topic.endswith(topic)]
    return str(states[-1]) if states else before
