"""How one HID device is spoken with: what its descriptor offers, as its profiles have it.

What `SerialProtocol` is for a serial button. Made of a device node, before anything is opened, so that what a device
can do is known, and shown, even where it may not be opened. Equal protocols need no reopening.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from mutebridge.core import byte_patterns
from mutebridge.core.byte_patterns import BytePatternSession
from mutebridge.core.events import Event, PressMode
from mutebridge.core.handshake import HeadsetSession
from mutebridge.core.headset_profile import ControlKind, HeadsetProfile, Means
from mutebridge.core.lights import Lights
from mutebridge.core.profiles import DeviceNode, Profile, headset_layers, resolve_headset
from mutebridge.core.report_descriptor import DescriptorError, parse
from mutebridge.core.telephony import Telephony


class Session(Protocol):
    """The mind of one open device, whichever kind it is: `core.handshake` says what each method is for."""

    @property
    def wake_at(self) -> float | None: ...
    def report(self, data: bytes, now: float) -> tuple[list[Event], list[bytes]]: ...
    def show(self, lights: Lights, now: float) -> list[bytes]: ...
    def timed(self, now: float) -> tuple[list[Event], list[bytes]]: ...
    def written(self, report: bytes, now: float, *, ok: bool) -> None: ...
    def disturbed(self, now: float) -> list[bytes]: ...


_CAN_BE_HELD = (ControlKind.MOMENTARY, ControlKind.SELECTOR)


class HeadsetProtocol(msgspec.Struct, frozen=True, kw_only=True):
    """`descriptor` is what it was read from. `layers` are the ids of the profiles, the closest last."""

    descriptor: bytes
    telephony: Telephony
    profile: HeadsetProfile
    layers: tuple[str, ...] = ()

    @property
    def does_something(self) -> bool:
        """Whether the device has anything that a mute button needs."""
        return self.profile.byte_patterns is not None or self.telephony.usable

    @property
    def why(self) -> dict[str, str]:
        """How each item was found, or why it is not offered."""
        if self.profile.byte_patterns is not None:
            return {"mute_button": f"by the bytes in the profile {self.layers[-1] if self.layers else 'configured'}"}
        return self.telephony.why

    @property
    def natural_press_mode(self) -> PressMode:
        patterns = self.profile.byte_patterns
        return self.telephony.press_mode if patterns is None else byte_patterns.press_mode(patterns)

    @property
    def can(self) -> tuple[str, ...]:
        patterns = self.profile.byte_patterns
        return self.telephony.can if patterns is None else byte_patterns.can(patterns)

    def check_press_mode(self, mode: PressMode) -> None:
        """ValueError when the button cannot say what the mode needs."""
        if mode in (PressMode.PUSH_TO_TALK, PressMode.PUSH_TO_MUTE) and not self._tells_release:
            raise ValueError(f"press_mode {mode.value}: this button does not tell when it is let go")
        if mode is PressMode.STATE and self.natural_press_mode is not PressMode.STATE and not self._tells_release:
            raise ValueError("press_mode state: this button does not say which state it is in")

    def session(self, device_id: str) -> Session:
        """Return a new mind for the device, from its opening on."""
        patterns = self.profile.byte_patterns
        if patterns is None:
            return HeadsetSession(self.telephony, self.profile, device_id)
        return BytePatternSession(patterns, device_id, duplicate_within_s=self.profile.duplicate_within_ms / 1000)

    @property
    def _tells_release(self) -> bool:
        patterns = self.profile.byte_patterns
        if patterns is not None:
            return any(pattern.means is Means.RELEASE for pattern in patterns.inputs)
        button = self.telephony.mute_button
        return button is not None and button.kind in _CAN_BE_HELD


def headset_protocol(
    node: DeviceNode,
    profiles: Iterable[Profile],
    named: Profile | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> HeadsetProtocol:
    """Return how to speak with the device behind a hidraw node; ValueError says why nobody can.

    `named` is the profile that the configuration names, `overrides` its `headset` section.
    """
    layers = [profile for profile in headset_layers(profiles, node) if profile is not named]
    layers += [named] if named is not None else []
    profile = resolve_headset(layers, overrides)
    return HeadsetProtocol(
        descriptor=node.report_descriptor,
        telephony=_telephony(node.report_descriptor, msgspec.json.encode(profile)),
        profile=profile,
        layers=tuple(layer.id for layer in layers),
    )


# What is plugged in is looked at anew after every change; a descriptor costs up to a millisecond.
@lru_cache(maxsize=32)
def _telephony(descriptor: bytes, profile: bytes) -> Telephony:
    if not descriptor:
        raise ValueError("its report descriptor cannot be read")
    try:
        return Telephony.from_descriptor(parse(descriptor), msgspec.json.decode(profile, type=HeadsetProfile))
    except DescriptorError as error:
        raise ValueError(str(error)) from None
