"""The words and bytes of a serial button, as data.

No common protocol exists, so everything is configuration: which words mean press, release, toggle, muted or live, what
to send for each light, how often. `SerialProtocol` is read from YAML as it stands; `ButtonDecoder` turns the bytes of
one opening of a port into events.

A pattern is a text (`PTT pressed`) or `{hex: "01 ff"}`. With `framing: lines` a pattern is one whole line, whatever its
line end, without the blanks around it; with `framing: bytes` it is found anywhere in the stream, so no pattern may be
the beginning of another. What comes in is untrusted: an over-long line is dropped up to its end, unknown words are
counted, and neither is an event.

Contacts bounce. Within `debounce_ms` after a change was told, further changes wait for the end of that window, and then
only what is true by then is told: a bounce adds no press and can never hide the final release.
"""

import enum
import itertools
import re
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from mutebridge.core.events import Event, MuteAsked, MutePressed, MuteReleased, MuteSwitched, MuteToggled, PressMode
from mutebridge.core.lights import Lights, MicLight

MAX_WORD_BYTES = 256

# Opening a port raises DTR, which resets many boards; what they send while they boot is noise.
BOOT_NOISE_S = 1.6
# Firmware that speaks in words has debounced its button; a bare contact on a modem line has not.
MODEM_DEBOUNCE_MS = 20.0

_BLANKS = b" \t\0"


class Hex(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes written as hexadecimal digits, blanks allowed."""

    hex: str

    def __post_init__(self) -> None:
        try:
            data = bytes.fromhex(self.hex)
        except ValueError:
            data = b""
        if not data:
            raise ValueError(f'hex {self.hex!r}: pairs of hexadecimal digits such as "01 ff" are allowed')


Pattern = str | Hex
Patterns = Pattern | tuple[Pattern, ...]


class Send(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to write for each light; text is ended by the protocol's `line_end` when it is framed in lines.

    `live` is what makes the lamp dark; `unknown` falls back to it, `off` to `unknown`. Without `pending` or `rejected`
    the light goes on showing what is known of the microphone.
    """

    muted: Pattern | None = None
    live: Pattern | None = None
    unknown: Pattern | None = None
    pending: Pattern | None = None
    rejected: Pattern | None = None
    off: Pattern | None = None

    def __post_init__(self) -> None:
        if any(pattern is not None for pattern in msgspec.structs.astuple(self)) and self.live is None:
            raise ValueError("send: 'live' is missing, so the lamp could never go dark again")


class Modem(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A bare contact on a modem line, a lamp on another, or both.

    While the line is `active` the button is pressed, or, a switch that stays, the microphone is to be muted or live.
    """

    line: Literal["cts", "dsr", "dcd", "ri"] | None = None
    active: Literal["high", "low"] = "high"
    means: Literal["press", "muted", "live"] = "press"
    lamp: Literal["dtr", "rts", "none"] = "none"
    lamp_active: Literal["high", "low"] = "high"

    def __post_init__(self) -> None:
        if self.line is None and self.lamp == "none":
            raise ValueError("modem: neither 'line' nor 'lamp' is given")


class _Meaning(enum.Enum):
    PRESS = "press"
    RELEASE = "release"
    TOGGLE = "toggle"
    MUTED = "muted"
    LIVE = "live"
    IGNORE = "ignore"


class SerialProtocol(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How one kind of serial button speaks; the keys are those of the YAML files.

    `words_are_presses`: the button says `muted` or `live` only when a person acts, so neither the first word nor one
    that repeats the last is dropped. `ignore`: what it also says. `dtr`, `rts`: their levels from opening on.
    `settle_s`: what arrives so soon after opening is dropped; 1.6 by default, 0 for a bare contact. `debounce_ms`: 0 by
    default, 20 for a bare contact. `refresh_s`: the light is written again so often, for boards that need it.
    """

    framing: Literal["lines", "bytes"] = "lines"
    press: Patterns | None = None
    release: Patterns | None = None
    toggle: Patterns | None = None
    muted: Patterns | None = None
    live: Patterns | None = None
    ignore: Patterns | None = None
    words_are_presses: bool = False
    send: Send = Send()
    line_end: Literal["lf", "crlf", "cr"] = "lf"
    refresh_s: Annotated[float, msgspec.Meta(ge=0.05, le=3600)] | None = None
    baud: Annotated[int, msgspec.Meta(ge=50, le=4_000_000)] = 115200
    settle_s: Annotated[float, msgspec.Meta(ge=0, le=60)] | None = None
    dtr: bool = True
    rts: bool = True
    debounce_ms: Annotated[float, msgspec.Meta(ge=0, le=1000)] | None = None
    modem: Modem | None = None

    def __post_init__(self) -> None:
        words = self.words()
        if (self.press is None) != (self.release is None):
            raise ValueError(
                "'press' and 'release' belong together; a button that tells only one of them says 'toggle'"
            )
        if self.modem is not None and self.modem.line is not None and self._hears_words:
            raise ValueError("'modem.line' replaces 'press', 'release', 'toggle', 'muted' and 'live'")
        if self.framing == "bytes":
            _reject_prefixes(words)

    @property
    def _hears_words(self) -> bool:
        return any(spec is not None for spec in (self.press, self.toggle, self.muted, self.live))

    @property
    def does_something(self) -> bool:
        return self._hears_words or self.send.live is not None or self.modem is not None

    @property
    def settle_time_s(self) -> float:
        if self.settle_s is not None:
            return self.settle_s
        return 0.0 if self.modem is not None and self.modem.line is not None else BOOT_NOISE_S

    @property
    def debounce_s(self) -> float:
        if self.debounce_ms is not None:
            return self.debounce_ms / 1000
        return MODEM_DEBOUNCE_MS / 1000 if self.modem is not None and self.modem.line is not None else 0.0

    @property
    def tells_release(self) -> bool:
        return self.press is not None or (
            self.modem is not None and self.modem.line is not None and not self.tells_state
        )

    @property
    def tells_state(self) -> bool:
        by_line = self.modem is not None and self.modem.line is not None and self.modem.means != "press"
        return by_line or self.muted is not None or self.live is not None

    @property
    def can(self) -> tuple[str, ...]:
        """What such a button can do, for people."""
        lamp = self.send.muted is not None or (self.modem is not None and self.modem.lamp != "none")
        found = {
            "mute_button": self.tells_release or self.toggle is not None,
            "release": self.tells_release,
            "mute_switch": self.tells_state,
            "mute_light": lamp,
            "pending_light": self.send.pending is not None,
            "rejected_light": self.send.rejected is not None,
        }
        return tuple(word for word, there in found.items() if there)

    @property
    def natural_press_mode(self) -> PressMode:
        """The press mode of a button about which nobody said more."""
        only_state = self.tells_state and not self.tells_release and self.toggle is None
        return PressMode.STATE if only_state else PressMode.TOGGLE

    def check_press_mode(self, mode: PressMode) -> None:
        """ValueError when the button cannot tell what `mode` needs."""
        if mode in (PressMode.PUSH_TO_TALK, PressMode.PUSH_TO_MUTE) and not self.tells_release:
            raise ValueError(
                f"press_mode {mode.value} needs a button that tells its release: give 'press' and 'release'"
            )
        if mode is PressMode.STATE and not self.tells_state:
            raise ValueError("press_mode state needs a button that says its state: give 'muted' and 'live'")
        if mode is PressMode.TOGGLE and self.natural_press_mode is PressMode.STATE:
            raise ValueError("press_mode toggle needs presses, but this button says its state: use press_mode state")

    def words(self) -> dict[bytes, _Meaning]:
        """Every word as bytes, with what it means; ValueError for one that is empty, too long or has two meanings."""
        found: dict[bytes, _Meaning] = {}
        for meaning in _Meaning:
            for word in self._bytes_of(meaning):
                if not 0 < len(word) <= MAX_WORD_BYTES:
                    raise ValueError(f"{meaning.value}: {word!r}: 1 to {MAX_WORD_BYTES} bytes are allowed")
                if self.framing == "lines" and re.search(rb"[\r\n]", word):
                    raise ValueError(f"{meaning.value}: {word!r}: a line end cannot be inside a line")
                if found.setdefault(word, meaning) is not meaning:
                    raise ValueError(f"{word!r} means both {found[word].value} and {meaning.value}")
        return found

    def _bytes_of(self, meaning: _Meaning) -> Iterator[bytes]:
        patterns: Patterns | None = getattr(self, meaning.value)
        if patterns is None:
            return
        for pattern in patterns if isinstance(patterns, tuple) else (patterns,):
            raw = _raw(pattern)
            yield raw.strip(_BLANKS) if self.framing == "lines" else raw

    def encode(self, lights: Lights) -> bytes:
        """Return what to write so that the device shows `lights`; empty when it has no words for it."""
        pattern = _choose(self.send, lights)
        if pattern is None:
            return b""
        if isinstance(pattern, str) and self.framing == "lines":
            return pattern.encode() + _LINE_ENDS[self.line_end]
        return _raw(pattern)

    def lamp_level(self, lights: Lights) -> bool:
        """Return the level of the modem lamp's line, True for high: lit exactly when the microphone is known muted."""
        lit = lights.mic is MicLight.MUTED
        return lit == (self.modem is None or self.modem.lamp_active == "high")


_LINE_ENDS = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}


def _raw(pattern: Pattern) -> bytes:
    return pattern.encode() if isinstance(pattern, str) else bytes.fromhex(pattern.hex)


def _choose(send: Send, lights: Lights) -> Pattern | None:
    if lights.rejected and send.rejected is not None:
        return send.rejected
    if lights.pending is not None and send.pending is not None:
        return send.pending
    unknown = send.live if send.unknown is None else send.unknown
    return {
        MicLight.MUTED: send.live if send.muted is None else send.muted,
        MicLight.LIVE: send.live,
        MicLight.UNKNOWN: unknown,
        MicLight.OFF: unknown if send.off is None else send.off,
    }[lights.mic]


def _reject_prefixes(words: dict[bytes, _Meaning]) -> None:
    ordered = sorted(words)
    for shorter, longer in itertools.pairwise(ordered):
        if longer.startswith(shorter):
            raise ValueError(f"{shorter!r} is the beginning of {longer!r}: without lines they cannot be told apart")


class ButtonDecoder:
    """Turns what arrives on one opening of a port into events; make a new one for each opening.

    `wake_at` is the moment, in the clock of `now`, at which `timed` has something to tell, or None. `unknown` and
    `overlong` count what was dropped, `last_unknown` is an example of it.
    """

    def __init__(self, protocol: SerialProtocol, device_id: str) -> None:
        self._id = device_id
        self._modem = protocol.modem
        self._words = protocol.words()
        self._framer = _Lines() if protocol.framing == "lines" else _Stream(self._words)
        self._words_are_presses = protocol.words_are_presses
        self._button = _Contact(protocol.debounce_s, told=False)
        self._switch = _Contact(protocol.debounce_s, told=None)
        self._debounce_s = protocol.debounce_s
        self._toggle_after = float("-inf")
        self._silent_release = False
        self.unknown = 0
        self.last_unknown = b""

    @property
    def overlong(self) -> int:
        return self._framer.overlong

    @property
    def held(self) -> bool:
        """Whether the button was last told to be held down."""
        return bool(self._button.told)

    @property
    def wake_at(self) -> float | None:
        return min((w for w in (self._button.wake_at, self._switch.wake_at) if w is not None), default=None)

    def start_mid_line(self) -> None:
        """What comes next is the rest of a line whose beginning was dropped: drop it too."""
        self._framer.start_mid_line()

    def feed(self, data: bytes, now: float) -> list[Event]:
        """Take bytes in pieces of any size; return the events that they complete."""
        events: list[Event] = []
        for word in self._framer.feed(data):
            meaning = self._words.get(word)
            if meaning is None:
                self.unknown += 1
                self.last_unknown = word
            elif meaning is not _Meaning.IGNORE:
                events += self._hear(meaning, now)
        return events

    def level(self, high: bool, now: float) -> list[Event]:
        """Take the level of the modem line; the first is what the contact rests at, not a press."""
        assert self._modem is not None
        active = high == (self._modem.active == "high")
        if self._modem.means != "press":
            return self._hear(_Meaning.MUTED if active == (self._modem.means == "muted") else _Meaning.LIVE, now)
        if not self._button.seen:
            self._button.rest_at(active)
            # Held down since before opening: nobody was told, so its release tells nothing either.
            self._silent_release = active
            return []
        return self._hear(_Meaning.PRESS if active else _Meaning.RELEASE, now)

    def timed(self, now: float) -> list[Event]:
        """Tell what waited for the end of a debounce window."""
        events: list[Event] = []
        if self._button.is_due(now):
            events += self._tell_button(now)
        if self._switch.is_due(now):
            events += self._tell_switch(now)
        return events

    def _hear(self, meaning: _Meaning, now: float) -> list[Event]:
        if meaning is _Meaning.TOGGLE:
            if now < self._toggle_after:
                return []
            self._toggle_after = now + self._debounce_s
            return [MuteToggled(self._id)]
        if meaning in (_Meaning.PRESS, _Meaning.RELEASE):
            return self._tell_button(now) if self._button.hear(meaning is _Meaning.PRESS, now) else []
        again = self._words_are_presses
        return self._tell_switch(now) if self._switch.hear(meaning is _Meaning.MUTED, now, again=again) else []

    def _tell_button(self, now: float) -> list[Event]:
        self._button.tell(now)
        if self._button.told:
            return [MutePressed(self._id)]
        silent, self._silent_release = self._silent_release, False
        return [] if silent else [MuteReleased(self._id)]

    def _tell_switch(self, now: float) -> list[Event]:
        baseline = self._switch.told is None
        self._switch.tell(now)
        muted = bool(self._switch.told)
        if self._words_are_presses:
            return [MuteAsked(self._id, muted)]
        return [MuteSwitched(self._id, muted, baseline=baseline)]


class _Contact:
    """What a contact says, what of it was told, and until when it may still be bouncing."""

    def __init__(self, debounce_s: float, *, told: bool | None) -> None:
        self.told = told
        self.seen = False
        self._true = told
        self._debounce_s = debounce_s
        self._quiet_until = float("-inf")

    @property
    def wake_at(self) -> float | None:
        return self._quiet_until if self._true != self.told else None

    def rest_at(self, value: bool) -> None:
        self.seen = True
        self._true = self.told = value

    def hear(self, value: bool, now: float, *, again: bool = False) -> bool:
        """Return whether to tell it now; `again`: even when it repeats what was told."""
        self.seen = True
        self._true = value
        return now >= self._quiet_until and (again or value != self.told)

    def is_due(self, now: float) -> bool:
        return self._true != self.told and now >= self._quiet_until

    def tell(self, now: float) -> None:
        self.told = self._true
        self._quiet_until = now + self._debounce_s


class _Lines:
    """Cuts the stream at CR, LF or both; empty lines are nothing."""

    def __init__(self) -> None:
        self.overlong = 0
        self._rest = b""
        self._dropping = False

    def start_mid_line(self) -> None:
        self._dropping = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        *ended, rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        self._rest = rest
        for line in ended:
            if self._dropping:
                self._dropping = False
            elif len(line) > MAX_WORD_BYTES:
                self.overlong += 1
            elif word := line.strip(_BLANKS):
                yield word
        if len(rest) > MAX_WORD_BYTES:
            self.overlong += not self._dropping
            self._dropping = True
            self._rest = b""


class _Stream:
    """Finds words anywhere in the stream; a byte that begins none is handed on alone."""

    overlong = 0

    def __init__(self, words: dict[bytes, _Meaning]) -> None:
        self._words = words
        self._beginnings = {word[:size] for word in words for size in range(1, len(word))}
        self._rest = b""

    def start_mid_line(self) -> None:
        """There are no lines."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        data = self._rest + data
        at = 0
        while at < len(data):
            size = 1
            while data[at : at + size] in self._beginnings and at + size < len(data):
                size += 1
            word = data[at : at + size]
            if word in self._beginnings:
                break
            size = size if word in self._words else 1
            if (piece := data[at : at + size]) not in (b"\r", b"\n") or piece in self._words:
                yield piece
            at += size
        self._rest = data[at:]
