"""Leads a person through the recording of one device.

The person reads what to do, does it, and presses Enter; the device is open meanwhile, and all that passes is noted
(`core.recording` tells the file). Whoever opens the device gives a `connect` that takes the session to speak with.
"""

import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import msgspec

from mutebridge.core.events import Event
from mutebridge.core.headset_protocol import Session
from mutebridge.core.lights import Lights
from mutebridge.core.recording import Did, Entry, RecordedDevice, line
from mutebridge.core.recording_script import Script, WordsError

_CLOSE_S = 2.0

Feed = Callable[[Event], None]


class Connection(Protocol):
    """An open device. `show` never blocks; `stop` returns whether the device was closed in time."""

    def show(self, lights: Lights) -> None: ...
    def stop(self, timeout_s: float) -> bool: ...


Connect = Callable[[Session, Feed], Connection]


class Talk(NamedTuple):
    """The person: `lines` are what was typed, each when it was, and `say` shows text."""

    lines: Iterable[str]
    say: Callable[[str], object]


def lead(
    device: RecordedDevice, connect: Connect, talk: Talk, write: Callable[[bytes], object], now: Callable[[], float]
) -> None:
    """Record until the script, or what the person types, ends.

    `connect` opens the device; it feeds what the session hears, from a thread of its own. `write` takes the lines of
    the file. `now` is the clock by which `connect` tells the session the time, in seconds.
    """
    begin = now()
    script = Script(device.protocol.can)
    notes = _Notes(write)
    lock = threading.Lock()  # of the script; never held while the connection is called, which has locks of its own
    connection: Connection | None = None

    def heard(event: Event) -> None:
        with lock:
            lights = script.heard(event)
        if connection is not None:
            connection.show(lights)

    write(line(device))
    connection = connect(device.session(notes.note, begin), heard)
    try:
        connection.show(script.lights)
        _ask(script, talk)
        for typed in talk.lines:
            at = now() - begin
            with lock:
                step = script.step
                assert step is not None
                try:
                    acts = script.done(typed)
                except WordsError as error:
                    talk.say(f"{error}\n")
                    continue
                lights = script.lights
            notes.note(Did(at=round(max(0.0, at), 6), acts=acts, remark=step.ask))
            connection.show(lights)
            if script.step is None:
                return
            _ask(script, talk)
    finally:
        connection.stop(_CLOSE_S)


class _Notes:
    """The lines of the file, whichever thread they come from."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._last_at = 0.0

    def note(self, entry: Entry) -> None:
        with self._lock:
            # Of two threads that looked at the clock, the later one may come first.
            self._last_at = max(self._last_at, entry.at)
            self._write(line(msgspec.structs.replace(entry, at=self._last_at)))


def _ask(script: Script, talk: Talk) -> None:
    if script.step is not None:
        talk.say(f"{script.step.ask} Then press Enter, or type what you did instead.\n")
