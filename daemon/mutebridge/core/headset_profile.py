"""How a model deviates from what its report descriptor says.

The `headset` section of a profile in `devices/` has these keys, each named after what the device does, so that a file
reads like a report of its behaviour. The default of every key is right for a device that behaves as its descriptor
says; an unknown model therefore has the default profile, `GENERIC`.

Profiles are layers. For one device, all that match apply, the less specific first (a vendor's, then a model's), and
last what the user's configuration overrides.

Some buttons are HID without any usage that says so. For them a profile tells which bytes mean what (`BytePatterns`).
"""

import enum
from typing import Annotated

import msgspec

MAX_PATTERNS = 32  # far beyond the few bytes of a button; bounds the work for one report
MAX_PATTERN_BYTES = 64  # a full-speed interrupt report

Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=10_000)]


class ControlKind(enum.Enum):
    """What the values of a button mean (HID Usage Tables 3.4.1.2; `SELECTOR`: one of an array)."""

    TOGGLE_BUTTON = "toggle_button"  # 1 is a press; 0 says nothing
    TOGGLE_SWITCH = "toggle_switch"  # the value is the state
    MOMENTARY = "momentary"  # 1 while held
    ON_OFF_BUTTONS = "on_off_buttons"  # +1 on, -1 off
    SELECTOR = "selector"  # named in an array while held


class Means(enum.Enum):
    """What a byte pattern says. `HELD` is repeated while the button is down, and is a press if none was seen."""

    PRESS = "press"
    HELD = "held"
    RELEASE = "release"
    TOGGLE = "toggle"
    MUTED = "muted"
    LIVE = "live"


class Shown(enum.Enum):
    """What a button with a light of its own can be told to show."""

    MUTED = "muted"
    LIVE = "live"
    UNKNOWN = "unknown"
    PENDING = "pending"
    REJECTED = "rejected"
    OFF = "off"


Hex = Annotated[str, msgspec.Meta(pattern=r"^\s*(?:[0-9a-fA-F]{2}\s*)+$", max_length=3 * MAX_PATTERN_BYTES)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class BytePattern(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The report as it is read has `bytes` from the byte `at` on, compared in the bits of `mask`; it `means` this."""

    means: Means
    bytes: Hex
    at: Annotated[int, msgspec.Meta(ge=0, lt=MAX_PATTERN_BYTES)] = 0
    mask: Hex | None = None

    def __post_init__(self) -> None:
        if self.mask is not None and len(bytes.fromhex(self.mask)) != len(bytes.fromhex(self.bytes)):
            raise ValueError(f"the mask {self.mask!r} is not as long as the bytes {self.bytes!r}")


class BytePatterns(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the bytes of a button mean, and what to write to its light.

    Each of `outputs` is a whole report as it is written: the report id byte first, `00` where there are none. What is
    not listed shows as less: `pending` and `rejected` as the state of the microphone, `live` and `unknown` as `off`.
    """

    inputs: Annotated[tuple[BytePattern, ...], msgspec.Meta(min_length=1, max_length=MAX_PATTERNS)]
    outputs: dict[Shown, Hex] = {}

    def __post_init__(self) -> None:
        if self.outputs and Shown.OFF not in self.outputs:
            raise ValueError("outputs: 'off' is missing, so the light could never go dark again")


class HeadsetProfile(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device's deviations; times are lengths in milliseconds, 0 for never."""

    # What its controls are, where the descriptor does not tell.
    mute_kind: ControlKind | None = None
    hook_kind: ControlKind | None = None
    consumer_mute_is_microphone: bool = False
    system_mute_is_microphone: bool = False
    sends_wished_state: bool = False
    """Has no state of its own: a press sends the opposite of its mute lamp, and the same again if that did not help."""

    # What it expects of the host.
    host_must_ack_mute: bool = False
    """Takes a press as answered only when the host writes the mute LED that matches its own, new state."""
    repeats_until_answered_ms: Milliseconds = 0
    """Sends an unanswered press again after this time."""
    follows_call: bool = True
    """Has its off-hook, ring and hold lamps show the call."""
    rings_with_lamp: bool = False
    """Has its audible ringer switched together with its ring lamp."""

    # What it sends although nobody pressed.
    duplicate_within_ms: Milliseconds = 0
    """Sends a press twice, this close together."""
    mute_echo_ms: Milliseconds = 0
    """Answers a change of the mute LED with a mute report, within this time."""
    boom_arm_refusal_ms: Milliseconds = 0
    """Answers mute LED off with a mute report, within this time, while its boom arm is up."""
    hook_echo_ms: Milliseconds = 2000
    """Answers a change of the off-hook or hold LED with a hook report, within this time."""

    byte_patterns: BytePatterns | None = None


GENERIC = HeadsetProfile()
