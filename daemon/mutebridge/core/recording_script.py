"""What a person is asked to do while a device is recorded.

The part of the bridge and the softphone is played as well: whatever the device says is carried out at once, so that the
lamps and the device's own state go on agreeing. A person who did something else than asked says so, in a line of the
words `press`, `answer`, `hang_up` and `reject`, or `nothing`.
"""

from collections.abc import Collection
from typing import get_args

import msgspec

from mutebridge.core.events import Event, HookChanged, MuteAsked, MutePressed, MuteSwitched, MuteToggled, RejectPressed
from mutebridge.core.lights import DARK, Lights, MicLight
from mutebridge.core.recording import Act

_LIVE = Lights(mic=MicLight.LIVE, off_hook=True)
_MUTED = Lights(mic=MicLight.MUTED, off_hook=True)
_RINGING = Lights(ring=True)
_HELD = Lights(off_hook=True, hold=True)

_WORDS = get_args(Act)
_MAX_WORDS = 64


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """`lights` are shown when it begins; None goes on with what is shown."""

    lights: Lights | None
    ask: str
    acts: tuple[Act, ...] = ()


_HANDS_OFF = "Touch nothing for about three seconds."
_MUTE = (
    Step(lights=_LIVE, ask=f"A call is connected. {_HANDS_OFF}"),
    Step(lights=None, ask="Press the mute button once.", acts=("press",)),
    Step(lights=None, ask="Press it once more.", acts=("press",)),
    Step(lights=None, ask="Press it twice, as fast as you can.", acts=("press", "press")),
    Step(lights=None, ask="Hold it down for two seconds, then let go.", acts=("press",)),
    Step(lights=None, ask="And once more, shortly.", acts=("press",)),
    Step(lights=_MUTED, ask=f"The softphone mutes. {_HANDS_OFF}"),
    Step(lights=_LIVE, ask=f"And unmutes. {_HANDS_OFF}"),
    Step(lights=_HELD, ask=f"The call is held. {_HANDS_OFF}"),
    Step(lights=_LIVE, ask=f"And resumed. {_HANDS_OFF}"),
)
_HOOK = (
    Step(lights=DARK, ask=f"The call is over. {_HANDS_OFF}"),
    Step(
        lights=_RINGING, ask="A call rings. Wait three seconds, then answer it with the call button.", acts=("answer",)
    ),
    Step(lights=None, ask="Wait three seconds, then end it with the call button.", acts=("hang_up",)),
)
_REJECT = (
    Step(
        lights=_RINGING,
        ask="A call rings. Refuse it: press the button for that, or hold the call button.",
        acts=("reject",),
    ),
)
_LAST = (Step(lights=DARK, ask=f"The call is over. {_HANDS_OFF}"),)


class WordsError(ValueError):
    """A line that is not understood; the message says what is."""


class Script:
    """The steps for one device, one after the other."""

    def __init__(self, can: Collection[str]) -> None:
        """`can`: what the device can do, in the words of `HeadsetProtocol.can`."""
        parts = {"mute button": _MUTE, "hook switch": _HOOK, "reject": _REJECT}
        self._steps = [step for word, steps in parts.items() if word in can for step in steps]
        self._steps += _LAST
        self.lights = self._steps[0].lights or DARK

    @property
    def step(self) -> Step | None:
        """What the person is asked now; None: it is over."""
        return self._steps[0] if self._steps else None

    def heard(self, event: Event) -> Lights:
        """Take what the device said; returns what is to be shown from now on."""
        self.lights = _after(event, self.lights)
        return self.lights

    def done(self, line: str) -> tuple[Act, ...]:
        """Take the person's line, empty when all was done as asked, and go on; returns what was done. WordsError."""
        step = self._steps[0]
        acts = _acts(line) if line.strip() else step.acts
        del self._steps[0]
        if self._steps:
            wanted = self._steps[0].lights
            self.lights = self.lights if wanted is None else wanted
        return acts


def _acts(line: str) -> tuple[Act, ...]:
    words = line.lower().replace(",", " ").split()
    if words == ["nothing"]:
        return ()
    if len(words) > _MAX_WORDS:
        raise WordsError(f"that is {len(words)} words, where {_MAX_WORDS} are the most")
    for word in words:
        if word not in _WORDS:
            raise WordsError(
                f"{word[:20]!r} is not understood; what you did is told in {', '.join(_WORDS)}, or nothing"
            )
    return msgspec.convert(words, tuple[Act, ...])


def _after(event: Event, lights: Lights) -> Lights:
    """What the bridge would show once a softphone has done as it was asked."""
    match event:
        case HookChanged(off_hook=True):
            return _LIVE
        case HookChanged() | RejectPressed():
            return DARK
        case _ if lights.mic is MicLight.OFF:
            return lights
        case MutePressed() | MuteToggled():
            return _LIVE if lights.mic is MicLight.MUTED else _MUTED
        case MuteAsked() | MuteSwitched(baseline=False):
            return _MUTED if event.muted else _LIVE
    return lights
