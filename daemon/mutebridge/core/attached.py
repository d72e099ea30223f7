"""One attached device as the bridge keeps it: what it was told, whether its button is down, where its switch stands."""

import msgspec

from mutebridge.core.commands import Press
from mutebridge.core.contract import DeviceState
from mutebridge.core.events import Device, MuteSwitched
from mutebridge.core.lights import Lights
from mutebridge.core.press_modes import Gesture, Wish


class Hold(msgspec.Struct):
    """A button that is down; `calls` are those that its press acted on: the call_id, by controller."""

    press: Press
    wish: Wish
    calls: dict[str, str | None]


class Attached(msgspec.Struct):
    """`told` is what it shows, None before it was told; `rejected_until` a moment."""

    device: Device
    told: Lights | None = None
    hold: Hold | None = None
    switched: bool | None = None
    rejected_until: float = 0.0

    def says_nothing_new(self, gesture: Gesture) -> bool:
        """Whether a switch repeats where it stands, as some do every second."""
        if not isinstance(gesture, MuteSwitched):
            return False
        before, self.switched = self.switched, gesture.muted
        return before is gesture.muted

    def described(self) -> DeviceState:
        """What is published of it."""
        device, told = self.device, self.told or Lights()
        return DeviceState(
            name=device.name,
            kind=device.kind,
            press_mode=device.press_mode.value,
            can=list(device.can),
            lights={
                "mic": told.mic.value,
                "pending": None if told.pending is None else ("mute" if told.pending else "unmute"),
                "rejected": told.rejected,
                "off_hook": told.off_hook,
                "ring": told.ring,
                "hold": told.hold,
            },
        )
