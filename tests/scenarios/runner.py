"""Plays a scenario file against the bridge: timed input, a blank line, the expected output.

Every line starts with its second. What a line can say is told in `README` beside this file; whatever the
bridge wants to be woken for between two lines happens at its own moment. Request ids are r1, r2, ... in the order of
the commands.
"""

from collections.abc import Iterator
from pathlib import Path

from mutebridge.core import contract
from mutebridge.core.bridge import Bridge
from mutebridge.core.contract import Action, Call, CallState, CommandError, Mic, Result
from mutebridge.core.events import (
    AvailabilityChanged,
    BridgeAction,
    BrokerLost,
    BrokerUp,
    CallStateChanged,
    CommandAnswered,
    Device,
    DeviceAttached,
    DeviceDetached,
    Event,
    HookChanged,
    Level,
    Log,
    MicStateChanged,
    MuteAsked,
    MutePressed,
    MuteReleased,
    MuteSwitched,
    MuteToggled,
    OwnAvailabilitySeen,
    OwnDeviceSeen,
    PressMode,
    PublishAvailability,
    PublishCommand,
    PublishDevice,
    PublishPressEvent,
    RejectPressed,
    TimeCame,
    Unreadable,
    WriteLights,
)

FOLDER = Path(__file__).parent


def files() -> list[Path]:
    return sorted(FOLDER.glob("*.txt"))


def split(text: str) -> tuple[list[str], list[str]]:
    """The input lines and the expected output lines, without comments."""
    parts = [[line for line in part.splitlines() if not line.startswith("#")] for part in text.split("\n\n")]
    said = [part for part in parts if part]
    if len(said) != 2:
        raise ValueError(f"a scenario has two parts, input and output; this one has {len(said)}")
    return said[0], said[1]


def play(lines: list[str]) -> list[str]:
    """The output lines that the input lines lead to."""
    ids = iter(range(1000))
    bridge = Bridge(lambda: f"r{next(ids)}")
    shown: list[str] = []
    for line in lines:
        at, words = line.split(maxsplit=1)
        moment = float(at)
        while bridge.wake_at is not None and bridge.wake_at < moment:
            shown += _shown(wake := bridge.wake_at, bridge.handle(TimeCame(), wake, wake * 1000))
        shown += _shown(moment, bridge.handle(_event(words.split()), moment, moment * 1000))
    return shown


def _event(words: list[str]) -> Event:  # noqa: PLR0911 -- the table of the language
    match words:
        case ["end"]:
            return TimeCame()
        case ["broker", "up"]:
            return BrokerUp()
        case ["broker", "lost"]:
            return BrokerLost()
        case ["attach", name, mode]:
            return DeviceAttached(Device(id=name, name=name, kind="serial", press_mode=PressMode(mode)))
        case ["attach", name, mode, "hook-switch"]:
            mode_ = PressMode(mode)
            return DeviceAttached(Device(id=name, name=name, kind="hid", press_mode=mode_, hook_switch=True))
        case ["detach", name]:
            return DeviceDetached(name)
        case ["left-over", "device", name]:
            return OwnDeviceSeen(name)
        case ["bridge", ("online" | "offline") as word]:
            return OwnAvailabilitySeen(word == "online")
        case [subject, *rest] if subject.endswith(":"):
            return _said_by(subject[:-1], rest)
    raise ValueError(f"not understood: {' '.join(words)}")


def _said_by(name: str, words: list[str]) -> Event:  # noqa: PLR0911, C901, PLR0912
    keys = dict(word.split("=", 1) for word in words if "=" in word)
    retained = "retained" in words
    match [word for word in words if "=" not in word and word != "retained"]:
        case ["press"]:
            return MutePressed(name)
        case ["release"]:
            return MuteReleased(name)
        case ["toggle"]:
            return MuteToggled(name)
        case ["stands", ("muted" | "live") as word]:
            return MuteSwitched(name, word == "muted", baseline=True)
        case ["switch", ("muted" | "live") as word]:
            return MuteSwitched(name, word == "muted")
        case ["asks", ("mute" | "unmute") as word]:
            return MuteAsked(name, word == "mute")
        case [("off-hook" | "on-hook") as word]:
            return HookChanged(name, word == "off-hook")
        case ["reject"]:
            return RejectPressed(name)
        case [("online" | "offline") as word]:
            return AvailabilityChanged(name, word == "online")
        case ["availability", "deleted"]:
            return AvailabilityChanged(name, None)
        case ["availability", "garbled"]:
            return AvailabilityChanged(name, Unreadable("availability: garbled"))
        case ["call", "deleted"]:
            return CallStateChanged(name, None)
        case ["mic", "deleted"]:
            return MicStateChanged(name, None)
        case ["call", "garbled"]:
            return CallStateChanged(name, Unreadable("call: garbled"), retained)
        case ["mic", "garbled"]:
            return MicStateChanged(name, Unreadable("mic: garbled"), retained)
        case ["result", "garbled"]:
            return CommandAnswered(name, Unreadable("result: garbled"))
        case ["call", state]:
            call = Call(
                state=CallState(state),
                call_id=keys.get("id"),
                epoch=keys.get("epoch"),
                seq=_seq(keys),
                at=_at_ms(keys),
                heartbeat_s=float(keys["heartbeat"]) if "heartbeat" in keys else None,
            )
            return CallStateChanged(name, call, retained)
        case ["mic", ("muted" | "live") as word]:
            mic = Mic(
                muted=word == "muted",
                call_id=keys.get("id"),
                epoch=keys.get("epoch"),
                seq=_seq(keys),
                at=_at_ms(keys),
                request_id=keys.get("for"),
            )
            return MicStateChanged(name, mic, retained)
        case ["result", request, "ok"]:
            return CommandAnswered(name, Result(request_id=request, ok=True))
        case ["result", request, error, *detail]:
            said = " ".join(detail) or None
            return CommandAnswered(name, Result(request_id=request, ok=False, error=CommandError(error), detail=said))
    raise ValueError(f"not understood: {name}: {' '.join(words)}")


def _seq(keys: dict[str, str]) -> int | None:
    return int(keys["seq"]) if "seq" in keys else None


def _at_ms(keys: dict[str, str]) -> float | None:
    """`at` is written in seconds of the controller's clock."""
    return float(keys["at"]) * 1000 if "at" in keys else None


def _shown(now: float, actions: list[BridgeAction]) -> Iterator[str]:
    for action in actions:
        said = _said(action)
        if said is not None:
            yield f"{now:.3f} {said}"


def _said(action: BridgeAction) -> str | None:  # noqa: PLR0911
    match action:
        case PublishCommand():
            return f"to {action.controller}: {_command(action.command)}"
        case WriteLights():
            return f"light of {action.device_id}: {_lights(action)}"
        case PublishPressEvent():
            event = action.event
            reason = f", {event.reason}" if event.reason else ""
            number = f" {event.request_id}" if event.request_id else ""
            return f"{event.gesture} on {event.device}: {event.outcome.value}{number}{reason}"
        case PublishAvailability():
            return "bridge says online"
        case PublishDevice() if action.state is None:
            return f"device {action.device_id} deleted"
        case Log() if action.level in (Level.WARNING, Level.ERROR):
            return f"{action.level.value}: {action.message}"
    return None


def _command(command: contract.Command) -> str:
    seq = f" mic_seq={command.mic_seq}" if command.mic_seq is not None else ""
    call = f" call={command.call_id}" if command.call_id else ""
    wish = "mute" if command.muted else "unmute"
    if command.action is not Action.SET_MUTE:
        wish = command.action.value
    return f"{wish} {command.request_id}{call}{seq} expires {command.expires_at / 1000:.3f}"


def _lights(action: WriteLights) -> str:
    lights = action.lights
    pending = {True: ["muting"], False: ["unmuting"], None: []}[lights.pending]
    lamps = [name for name in ("off_hook", "ring", "hold", "rejected") if getattr(lights, name)]
    return ", ".join([lights.mic.value, *pending, *lamps])


__all__ = ["FOLDER", "files", "play", "split"]
