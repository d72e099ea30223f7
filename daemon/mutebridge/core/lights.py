"""What every lamp shows, as a pure function of the last known state.

Nothing here is remembered: at rest every attached device shows the same lights, and a device is written when what it
was last told differs. A lamp that can only be on or off is on exactly when `mic` is `MUTED`; everything else (off,
live, unknown) is dark, so that a lit lamp never lies.
"""

import enum

import msgspec


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
