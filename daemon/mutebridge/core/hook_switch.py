"""What a hook switch asks for, and what became of it.

A hook switch is forwarded only from devices whose configuration says so. What a gesture asks for, by the calls as they
are last known, and of which call, if there is one:

    the person          asks to      the call that
    goes off-hook       answer       has been ringing longest
    goes on-hook        hang up      was connected last, else the one dialled last
    rejects             hang up      has been ringing longest

An edge that agrees with the calls acts on nothing: off-hook while none rings, on-hook while none is connected or
dialled. So an echo of the off-hook lamp never acts. A held call is ended by no edge, because holding it can bring one.

Each gesture sends one command, never repeated; a newer one to the same controller supersedes it. It is confirmed by its
result, or by a call state that is what was asked for, and is apart from all `set_mute` commands.

*Doubt* is kept beside it: an answer that was sent, and not refused, may be carried out until it expires, and may have
been while the call is last known to ring. A call that is answered may be heard, so no mute light is on meanwhile.
"""

import enum
from collections.abc import Iterable

import msgspec

from mutebridge.core.commands import Press
from mutebridge.core.contract import Action, Call, CallState, Command, Result
from mutebridge.core.controller_state import ControllerState
from mutebridge.core.events import HookChanged, RejectPressed

HookGesture = HookChanged | RejectPressed


class HookSwitch(enum.Enum):
    """What becomes of what a hook switch says: the words of the configuration."""

    IGNORE = "ignore"
    FORWARD = "forward"


_ANSWER_RINGING = (Action.ANSWER, (CallState.RINGING,))
_END_CURRENT = (Action.HANG_UP, (CallState.CONNECTED, CallState.DIALING))
_END_RINGING = (Action.HANG_UP, (CallState.RINGING,))


def asks_for(gesture: HookGesture, lines: Iterable[ControllerState]) -> tuple[Action, ControllerState | None]:
    """Return what the gesture asks for, and of which controller; None: of none."""
    action, states = _asks(gesture)
    known = list(lines)
    for state in states:
        fitting = [line for line in known if line.call_state is state]
        if fitting:
            first = min if state is CallState.RINGING else max
            return action, first(fitting, key=lambda line: line.call_since)
    return action, None


def _asks(gesture: HookGesture) -> tuple[Action, tuple[CallState, ...]]:
    if isinstance(gesture, RejectPressed):
        return _END_RINGING
    return _ANSWER_RINGING if gesture.off_hook else _END_CURRENT


class HookPending(msgspec.Struct, frozen=True, kw_only=True):
    """A command that is not answered yet; `expires` is a moment of the bridge's clock."""

    command: Command
    press: Press
    expires: float


class _Doubt(msgspec.Struct):
    sent: HookPending
    carried_out: bool = False


class HookCommands:
    """The `answer` and `hang_up` commands that one controller was sent."""

    def __init__(self) -> None:
        self.pending: HookPending | None = None
        self._doubt: _Doubt | None = None

    def sent(self, pending: HookPending) -> HookPending | None:
        """Note a command as sent; returns the one that it supersedes."""
        superseded, self.pending = self.pending, pending
        if pending.command.action is Action.ANSWER:
            self._doubt = _Doubt(pending)
        return superseded

    def new_epoch(self) -> None:
        """The controller started anew: it refuses every command of its earlier life."""
        self._doubt = None

    def result_arrived(self, result: Result) -> HookPending | None:
        """Take a result; returns the command that it ends."""
        if self._doubt is not None and self._doubt.sent.command.request_id == result.request_id:
            self._doubt.carried_out = True
            if not result.ok:
                self._doubt = None
        if self.pending is None or self.pending.command.request_id != result.request_id:
            return None
        return self._end()

    def call_arrived(self, call: Call | None) -> HookPending | None:
        """Take the call as it is now known; returns the command that it shows to be carried out."""
        if self.pending is None or not _is_done(self.pending.command, call):
            return None
        return self._end()

    def time_out(self, now: float) -> HookPending | None:
        """End the pending command if it has expired."""
        if self.pending is None or now < self.pending.expires:
            return None
        return self._end()

    def may_have_answered(self, call: Call | None, now: float) -> bool:
        """Whether a call may be answered by now, though it is not known to be."""
        if self._doubt is None:
            return False
        if _rings(self._doubt.sent.command, call):
            return True
        return not self._doubt.carried_out and now < self._doubt.sent.expires

    def moments(self) -> Iterable[float]:
        """Yield the moments at which something ends by itself."""
        if self.pending is not None:
            yield self.pending.expires
        if self._doubt is not None:
            yield self._doubt.sent.expires

    def _end(self) -> HookPending | None:
        pending, self.pending = self.pending, None
        return pending


def _rings(command: Command, call: Call | None) -> bool:
    return call is not None and call.state is CallState.RINGING and call.call_id == command.call_id


def _is_done(command: Command, call: Call | None) -> bool:
    if command.action is Action.HANG_UP:
        return call is not None and call.state is CallState.DISCONNECTED
    return call is not None and call.state is CallState.CONNECTED and call.call_id == command.call_id
