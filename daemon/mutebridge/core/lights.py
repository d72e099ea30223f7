"""What every lamp shows, as a pure function of the last known state.

Nothing here is remembered: at rest every attached device shows the same lights, and a device is written when what it
was last told differs. A lamp that can only be on or off is on exactly when `mic` is `MUTED`; everything else (off,
live, unknown) is dark, so that a lit lamp never lies.
"""

import enum
from collections.abc import Sequence

import msgspec

from mutebridge.core.contract import CallState


class MicLight(enum.Enum):
    """What is known of the microphone: `OFF`: no call is connected; `UNKNOWN`: one is, but not its microphone."""

    OFF = "off"
    UNKNOWN = "unknown"
    LIVE = "live"
    MUTED = "muted"


class Lights(msgspec.Struct, frozen=True, kw_only=True):
    """All that one device shows.

    `pending` is the wish of a command that is not answered yet (True: mute). `rejected` is true for a moment on the
    device whose press was ignored or refused. Both are shown only by lights that have a colour or word of their own
    for them. `off_hook`, `ring` and `hold` are the lamps of a headset: in a call, one rings, one is held.
    """

    mic: MicLight = MicLight.OFF
    pending: bool | None = None
    rejected: bool = False
    off_hook: bool = False
    ring: bool = False
    hold: bool = False


DARK = Lights()


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One controller as the lights see it; `muted` is None when unknown, `pending` the wish that is under way.

    A call that cannot be read may be a connected one, whose microphone is not known. `may_be_live`: so may a call that
    is not connected as last known, because an answer or an unmute is under way that may be carried out meanwhile.
    """

    call: CallState | None
    call_unreadable: bool = False
    muted: bool | None = None
    pending: bool | None = None
    may_be_live: bool = False


_OFF_HOOK = {CallState.CONNECTED, CallState.HELD, CallState.DIALING}


def lights(lines: Sequence[Line]) -> Lights:
    """What every attached device shows, the latest wish last in `lines`.

    The mute light is on only if all connected calls are known to be muted.
    """
    connected = [line for line in lines if line.call is CallState.CONNECTED or line.call_unreadable]
    pending = [line.pending for line in connected if line.pending is not None]
    calls = {line.call for line in lines}
    muted = {line.muted for line in connected}
    if connected and any(line.may_be_live for line in lines):
        muted.add(None)
    return Lights(
        mic=_mic_light(muted),
        pending=pending[-1] if pending else None,
        off_hook=not calls.isdisjoint(_OFF_HOOK),
        ring=CallState.RINGING in calls,
        hold=CallState.HELD in calls,
    )


def _mic_light(muted: set[bool | None]) -> MicLight:
    if not muted:
        return MicLight.OFF
    if False in muted:
        return MicLight.LIVE
    return MicLight.UNKNOWN if None in muted else MicLight.MUTED
