"""What the bridge is told (events, in the past tense) and what it asks for (actions, in the imperative).

Events come from edges, which translate; no event knows a report, a topic or a serial line. Actions are carried out by
the app in the order in which the bridge returned them. Trouble is an event too: a lost device or broker is a fact that
the core handles.
"""

import enum

import msgspec

from mutebridge.core.contract import Call, Command, DeviceState, Mic, PressEvent, Result
from mutebridge.core.lights import Lights


class PressMode(enum.Enum):
    """What the gestures of a button ask for."""

    TOGGLE = "toggle"  # a press inverts
    PUSH_TO_TALK = "push_to_talk"  # live while held
    PUSH_TO_MUTE = "push_to_mute"  # muted while held: a cough button
    STATE = "state"  # the button says muted or live


class Event(msgspec.Struct, frozen=True):
    pass


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device as the bridge sees it.

    `id` matches `[a-z0-9._-]{1,64}`, stays the same over unplug and replug, and is unique among attached devices.
    `kind` is the kind of its connection (`serial`, `hid`). `can` names what it can do, in the field's words, for people
    and for `P/bridge/device/{id}`. `hook_switch`: what its hook switch and reject button say is forwarded.
    """

    id: str
    name: str
    kind: str
    press_mode: PressMode = PressMode.TOGGLE
    can: tuple[str, ...] = ()
    hook_switch: bool = False


# --- devices ---------------------------------------------------------------------------------------------------------


class DeviceAttached(Event, frozen=True):
    """A device is open and ready; also after a change of its configuration. Its lights are written at once."""

    device: Device


class DeviceDetached(Event, frozen=True):
    """It is gone: unplugged, closed or failed. What was held down on it counts as let go."""

    device_id: str
    reason: str = ""


class MutePressed(Event, frozen=True):
    """The button went down; `MuteReleased` follows."""

    device_id: str


class MuteReleased(Event, frozen=True):
    device_id: str


class MuteToggled(Event, frozen=True):
    """One press of a button that does not tell when it is let go."""

    device_id: str


class MuteSwitched(Event, frozen=True):
    """The device says which state it is in. A `baseline`, the first word after opening, is not a press."""

    device_id: str
    muted: bool
    baseline: bool = False


class MuteAsked(Event, frozen=True):
    """One press that says what it asks for, and the same again when pressed again: no state of the device."""

    device_id: str
    muted: bool


class HookChanged(Event, frozen=True):
    """A person answered (`off_hook`) or ended the call at the device; what only echoes our own lamps is left out."""

    device_id: str
    off_hook: bool


class RejectPressed(Event, frozen=True):
    """A person refused the ringing call at the device."""

    device_id: str


# --- broker and controllers ------------------------------------------------------------------------------------------


class BrokerUp(Event, frozen=True):
    """Connected and subscribed; retained states follow."""


class BrokerLost(Event, frozen=True):
    reason: str = ""


class Unreadable(msgspec.Struct, frozen=True):
    """Stands for a payload that could not be read: `problem` says where and what."""

    problem: str


class AvailabilityChanged(Event, frozen=True):
    """`online` is None when the retained availability was deleted, which counts as never published."""

    controller: str
    online: bool | Unreadable | None


class CallStateChanged(Event, frozen=True):
    """`C/call` arrived; None when it was deleted."""

    controller: str
    call: Call | Unreadable | None
    retained: bool = False


class MicStateChanged(Event, frozen=True):
    """`C/mic` arrived; None when it was deleted."""

    controller: str
    mic: Mic | Unreadable | None
    retained: bool = False


class CommandAnswered(Event, frozen=True):
    """`C/result` arrived."""

    controller: str
    result: Result | Unreadable


class OwnAvailabilitySeen(Event, frozen=True):
    """`P/bridge/availability` as the broker has it; a foreign `offline` is answered."""

    online: bool


class OwnDeviceSeen(Event, frozen=True):
    """A retained `P/bridge/device/{id}` exists; one of no attached device is left over and is deleted."""

    device_id: str


class TimeCame(Event, frozen=True):
    """The moment of `Bridge.wake_at` has come."""


# --- actions ---------------------------------------------------------------------------------------------------------


class BridgeAction(msgspec.Struct, frozen=True):
    pass


class PublishCommand(BridgeAction, frozen=True):
    """Publish at QoS 0, never retained; on MQTT 5 with the message expiry, whole seconds, at least 1."""

    controller: str
    command: Command
    message_expiry_s: int


class PublishPressEvent(BridgeAction, frozen=True):
    event: PressEvent


class PublishDevice(BridgeAction, frozen=True):
    """Publish the retained device state; None deletes it."""

    device_id: str
    state: DeviceState | None


class PublishAvailability(BridgeAction, frozen=True):
    """Publish the retained `online`."""


class WriteLights(BridgeAction, frozen=True):
    """Tell a device what to show. The latest wins; an edge never queues old ones."""

    device_id: str
    lights: Lights


class Level(enum.Enum):
    """How loud: the journal's words."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    DEBUG = "debug"


class Log(BridgeAction, frozen=True):
    level: Level
    message: str
