"""The session controllers of a station, and which of them a press is for."""

from collections.abc import Collection, Sequence

import msgspec

from mutebridge.core.commands import Commands, Pending, Press
from mutebridge.core.contract import CallState, Outcome
from mutebridge.core.controller_state import ControllerState
from mutebridge.core.hook_switch import HookCommands


class Standing(msgspec.Struct):
    """That everything be muted in the call `call_id`, since a button was let go by `press`."""

    call_id: str | None
    press: Press
    next_at: float
    reported: bool = False
    refused: bool = False

    def goes_on(self, state: ControllerState) -> bool:
        """Whether its call goes on, as far as is known."""
        return goes_on(state, self.call_id)


class Controller:
    """One controller: what is known of it and what it was sent."""

    def __init__(self, name: str) -> None:
        self.state = ControllerState(name)
        self.commands = Commands()
        self.hook = HookCommands()
        self.standing: Standing | None = None
        self.life: str | None = None  # the epoch of its last call; deleting a call does not end it
        self.unreadable: dict[str, int] = {}
        self.silent = False

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def pending(self) -> Pending | None:
        """The command that is under way for the call that is connected now."""
        pending = self.commands.pending
        if pending is None or not self.state.connected:
            return None
        return pending if pending.is_for(self.state.epoch, self.state.call_id) else None

    def muted(self, now: float) -> bool | None:
        """What the microphone is known to do: `muted` counts only without doubt."""
        muted = self.state.muted(now)
        return None if muted and self.commands.in_doubt else muted

    def may_be_live(self, now: float) -> bool:
        """Whether what is under way may make a microphone live, whatever is known of the call."""
        expires = self.commands.unmute_expires
        unmuting = expires is not None and now < expires
        return unmuting or self.hook.may_have_answered(self.state.call, now)

    def wished(self, now: float) -> bool | None:
        """What a further press inverts: the newest pending wish, else the microphone."""
        return self.pending.wish if self.pending else self.muted(now)

    def clock_unknown(self, now: float) -> bool:
        """Whether a command could not be dated, though the controller has a clock."""
        return self.state.clock.used and self.state.clock.offset_ms(now) is None

    def goes_untold(self, outcome: Outcome) -> bool:
        """Whether this end of one of a standing wish's many commands is not worth telling."""
        refused_before = self.standing is not None and self.standing.refused
        return outcome in (Outcome.SUPERSEDED, Outcome.TIMED_OUT) or (outcome is Outcome.REJECTED and refused_before)


def goes_on(state: ControllerState, call_id: str | None) -> bool:
    """Whether the call `call_id` goes on as far as is known: connected, held, or in a state that is not named."""
    call = state.call
    if call is None:
        return False
    return call.call_id == call_id and call.state in (CallState.CONNECTED, CallState.HELD, CallState.OTHER)


def to_mute(connected: Sequence[Controller], now: float) -> list[Controller]:
    """All that are not muted, nor on their way to be."""
    return [c for c in connected if c.wished(now) is not True]


def to_unmute(
    connected: Sequence[Controller], muted_by_last_press: Collection[Controller], now: float
) -> list[Controller]:
    """Exactly those that the last press muted, else the one connected last; none when one is live already."""
    if any(c.wished(now) is False for c in connected):
        return []
    return list(muted_by_last_press) or [max(connected, key=lambda c: c.state.call_since)]


def why_none_is_connected(controllers: Collection[Controller]) -> tuple[str, str]:
    """Why a press is for nobody, in a word and in words: of the controller that came nearest."""
    if not controllers:
        return "no_controller", "no softphone has connected to the broker for this station"
    online = [c for c in controllers if c.state.online]
    if not online:
        return "controller_offline", "the softphone is not running, or has lost its connection"
    states = [c.state.call_state for c in online]
    state = next((s for s in states if s not in (None, CallState.DISCONNECTED)), None)
    said = f"the call is {state.value}" if state is not None else "there is no call"
    return "not_connected", f"{said}; the button works once a call is connected"
