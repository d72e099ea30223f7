"""How much of what comes from outside the bridge keeps."""

from mutebridge.core.bridge import MAX_CONTROLLERS, Bridge
from mutebridge.core.contract import Call, CallState, CommandError, Mic, Result
from mutebridge.core.events import (
    AvailabilityChanged,
    BridgeAction,
    BrokerUp,
    CallStateChanged,
    CommandAnswered,
    Device,
    DeviceAttached,
    Event,
    Level,
    Log,
    MicStateChanged,
    MuteToggled,
    PublishCommand,
)

CONNECTED = Call(state=CallState.CONNECTED)
ONE_TOO_MANY = "one-too-many"


def full_bridge() -> Bridge:
    """A bridge that knows as many controllers as it can."""
    ids = iter(range(1_000_000))
    bridge = Bridge(lambda: f"id{next(ids)}")
    bridge.handle(BrokerUp(), 0, 0)
    for number in range(MAX_CONTROLLERS):
        bridge.handle(CallStateChanged(f"c{number}", CONNECTED), 0, 0)
    return bridge


def complaints(actions: list[BridgeAction]) -> list[str]:
    return [a.message for a in actions if isinstance(a, Log) and a.level is Level.ERROR]


def test_one_controller_too_many_is_not_heard_which_is_said_once() -> None:
    bridge = full_bridge()
    said = complaints(bridge.handle(CallStateChanged(ONE_TOO_MANY, CONNECTED), 1, 1000))
    assert said == ["more than 64 controllers for one station; one-too-many is not heard"]
    refused = Result(request_id="r", ok=False, error=CommandError.FAILED)
    more: list[Event] = [
        AvailabilityChanged(ONE_TOO_MANY, True),
        MicStateChanged(ONE_TOO_MANY, Mic(muted=False)),
        CommandAnswered(ONE_TOO_MANY, refused),
        CallStateChanged("two-too-many", CONNECTED),
    ]
    assert [complaints(bridge.handle(event, 2, 2000)) for event in more] == [[]] * 4
    bridge.handle(DeviceAttached(Device(id="button", name="button", kind="serial")), 3, 3000)
    commanded = {a.controller for a in bridge.handle(MuteToggled("button"), 4, 4000) if isinstance(a, PublishCommand)}
    assert len(commanded) == MAX_CONTROLLERS
    assert ONE_TOO_MANY not in commanded


def test_a_wall_clock_that_is_set_dates_the_next_command() -> None:
    """Of a softphone without `at`, which looks at the wall clock: it is set right just after a machine starts."""
    bridge = Bridge(lambda: "id")
    bridge.handle(BrokerUp(), 0, 1e12)
    bridge.handle(DeviceAttached(Device(id="button", name="button", kind="serial")), 0, 1e12)
    bridge.handle(CallStateChanged("shell", CONNECTED), 0, 1e12)
    pressed = bridge.handle(MuteToggled("button"), 1, 1e12 + 3_600_000)
    (command,) = [a.command for a in pressed if isinstance(a, PublishCommand)]
    assert command.expires_at == 1e12 + 3_600_000 + 2000


def test_it_tells_which_devices_are_attached() -> None:
    bridge = Bridge(lambda: "id")
    device = Device(id="button", name="Button", kind="serial")
    bridge.handle(DeviceAttached(device), 0, 0)
    assert bridge.devices == [device]
