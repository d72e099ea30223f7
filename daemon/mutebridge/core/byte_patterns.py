"""Buttons that are HID without a usage that says so: which bytes mean what, as the profile lists it.

The counterpart of `handshake` for such devices; it has the same methods, so that whoever owns the device need not tell
them apart. Such a button keeps no state that could part from the lights, so no press has to be answered.
"""

from mutebridge.core.events import Event, MutePressed, MuteReleased, MuteSwitched, MuteToggled, PressMode
from mutebridge.core.headset_profile import BytePattern, BytePatterns, Means, Shown
from mutebridge.core.lights import Lights, MicLight
from mutebridge.core.rewrites import Rewrites

_STATES = (Means.MUTED, Means.LIVE)


def press_mode(patterns: BytePatterns) -> PressMode:
    """What the gestures of the button ask for, when the user says nothing else."""
    return PressMode.STATE if any(p.means in _STATES for p in patterns.inputs) else PressMode.TOGGLE


def can(patterns: BytePatterns) -> tuple[str, ...]:
    """What it can do, in the field's words."""
    return ("mute button", "mute light") if patterns.outputs else ("mute button",)


class BytePatternSession:
    """One such device since it was opened."""

    def __init__(self, patterns: BytePatterns, device_id: str, *, duplicate_within_s: float = 0.0) -> None:
        self._patterns = [_Compiled(p) for p in patterns.inputs]
        self._outputs = {shown: bytes.fromhex(output) for shown, output in patterns.outputs.items()}
        self._device_id = device_id
        self._duplicate_within_s = duplicate_within_s
        self._down = False
        self._last: tuple[bytes, float] | None = None
        self._switched: bool | None = None
        self._written: bytes | None = None
        self._rewrites = Rewrites()

    @property
    def wake_at(self) -> float | None:
        """The moment at which `timed` is wanted; None: no moment."""
        return self._rewrites.at

    def report(self, data: bytes, now: float) -> tuple[list[Event], list[bytes]]:
        """Read one report; returns what the person did, and nothing to write."""
        if self._is_duplicate(data, now):
            return [], []
        means = next((p.means for p in self._patterns if p.matches(data)), None)
        return ([] if means is None else self._events(means)), []

    def show(self, lights: Lights, now: float) -> list[bytes]:  # noqa: ARG002 -- as a headset, which needs the time
        """Return the report that shows this, unless it is shown already."""
        output = self._output_for(lights)
        if output is None or output == self._written:
            return []
        self._written = output
        return [output]

    def timed(self, now: float) -> tuple[list[Event], list[bytes]]:
        """Do what `wake_at` was for."""
        return [], self._again() if self._rewrites.has_come(now) else []

    def written(self, report: bytes, now: float, *, ok: bool) -> None:  # noqa: ARG002 -- as a headset
        """Hear what became of a write: what failed is not shown."""
        if not ok and report == self._written:
            self._written = None

    def disturbed(self, now: float) -> list[bytes]:
        """Somebody else may have written the light; returns it once more, now or in a while, boundedly."""
        return self._again() if self._written is not None and self._rewrites.now_due(now) else []

    def _again(self) -> list[bytes]:
        return [] if self._written is None else [self._written]

    def _is_duplicate(self, data: bytes, now: float) -> bool:
        last, self._last = self._last, (data, now)
        return last is not None and last[0] == data and now - last[1] < self._duplicate_within_s

    def _events(self, means: Means) -> list[Event]:
        match means:
            case Means.TOGGLE:
                return [MuteToggled(self._device_id)]
            case Means.MUTED | Means.LIVE:
                return self._stands(muted=means is Means.MUTED)
            case Means.PRESS:
                # While it is down, the release was lost. What that would have asked for, it does not ask for late.
                self._down = True
                return [MutePressed(self._device_id)]
            case Means.HELD:
                return self._push()
        return self._let_go()

    def _push(self) -> list[Event]:
        was, self._down = self._down, True
        return [] if was else [MutePressed(self._device_id)]

    def _let_go(self) -> list[Event]:
        was, self._down = self._down, False
        return [MuteReleased(self._device_id)] if was else []

    def _stands(self, *, muted: bool) -> list[Event]:
        before, self._switched = self._switched, muted
        return [] if before is muted else [MuteSwitched(self._device_id, muted, baseline=before is None)]

    def _output_for(self, lights: Lights) -> bytes | None:
        mic = {MicLight.MUTED: Shown.MUTED, MicLight.LIVE: Shown.LIVE, MicLight.UNKNOWN: Shown.UNKNOWN}
        wanted = [
            *([Shown.REJECTED] if lights.rejected else []),
            *([Shown.PENDING] if lights.pending is not None else []),
            mic.get(lights.mic, Shown.OFF),
            Shown.OFF,
        ]
        return next((self._outputs[shown] for shown in wanted if shown in self._outputs), None)


class _Compiled:
    def __init__(self, pattern: BytePattern) -> None:
        self.means = pattern.means
        wanted = bytes.fromhex(pattern.bytes)
        mask = bytes.fromhex(pattern.mask) if pattern.mask is not None else b"\xff" * len(wanted)
        self._part = slice(pattern.at, pattern.at + len(wanted))
        self._length = len(wanted)
        self._mask = int.from_bytes(mask, "little")
        self._wanted = int.from_bytes(wanted, "little") & self._mask

    def matches(self, data: bytes) -> bool:
        part = data[self._part]
        return len(part) == self._length and int.from_bytes(part, "little") & self._mask == self._wanted
