"""The `set_mute` commands that one controller has been sent, from the press to what became of it.

At most one command is *pending*: a newer one supersedes it. It ends confirmed, rejected, superseded or timed out, once.
Confirmed is: a mic state with its request_id; or `ok` while the mic state equals the wish; or, from a controller that
sends no request_ids, a change of the mic state to the wish (from unknown to muted too).

*Doubt* is kept beside it: an unmute that was sent and is not accounted for may be carried out at any moment until it
expires, whatever was sent after it. While there is doubt, a mic state `muted` proves nothing, and the lights stay dark.
An answer to it or to a later command ends the doubt, because commands are carried out in order; so does a mic state
that is newer than its expiry.
"""

from collections import deque

import msgspec

from mutebridge.core.contract import Command, Mic, Result

REPEAT_AFTER_S = 1.0
_REMEMBERED = 64


class Press(msgspec.Struct, frozen=True):
    """What a person did on a device: `id` tells presses apart, `at` is its moment, `gesture` its name."""

    id: str
    device_id: str
    gesture: str
    at: float


class Pending(msgspec.Struct, kw_only=True):
    """A command that is not answered yet. `expires` and `repeat_at` are moments of the bridge's clock."""

    command: Command
    press: Press
    expires: float
    repeat_at: float | None
    standing: bool = False
    ok: bool = False

    @property
    def request_id(self) -> str:
        return self.command.request_id

    @property
    def wish(self) -> bool:
        assert self.command.muted is not None
        return self.command.muted

    def is_for(self, epoch: str | None, call_id: str | None) -> bool:
        return (self.command.epoch, self.command.call_id) == (epoch, call_id)


class _Doubt(msgspec.Struct, frozen=True):
    number: int
    expires: float
    expires_at_ms: float


class Commands:
    """What was sent to one controller."""

    def __init__(self) -> None:
        self.pending: Pending | None = None
        self.sends_request_ids = False
        self._doubt: _Doubt | None = None
        self._count = 0
        self._numbers: dict[str, int] = {}
        self._order: deque[str] = deque()

    @property
    def in_doubt(self) -> bool:
        """Whether an unmute may still be carried out, or may have been without our knowing."""
        return self._doubt is not None

    @property
    def unmute_expires(self) -> float | None:
        """Until when the unmute in doubt may still be carried out, whatever the call does meanwhile."""
        return self._doubt.expires if self._doubt is not None else None

    def new_epoch(self) -> None:
        """The controller started anew: it refuses every command of its earlier life."""
        self._doubt = None
        self.sends_request_ids = False

    def sent(self, pending: Pending) -> Pending | None:
        """Note a command as sent; returns the one that it supersedes."""
        superseded, self.pending = self.pending, pending
        self._count += 1
        self._numbers[pending.request_id] = self._count
        self._order.append(pending.request_id)
        if len(self._order) > _REMEMBERED:
            del self._numbers[self._order.popleft()]
        if not pending.wish:
            self._doubt = _Doubt(self._count, pending.expires, pending.command.expires_at)
        return superseded

    def is_ours(self, request_id: str | None) -> bool:
        return request_id in self._numbers

    def mic_arrived(self, mic: Mic, before: bool | None, now: float) -> Pending | None:
        """Take a mic state of the current call, `before` being the state known until now; returns what it ends."""
        pending = self.pending
        if mic.request_id is not None:
            self.sends_request_ids = True
            self._answered(mic.request_id)
        if pending is not None and self._ends(pending, mic, before):
            self._answered(pending.request_id)
            self.pending = None
        else:
            pending = None
        if self._doubt is not None and _is_after(mic, self._doubt, now):
            self._doubt = None
        return pending

    def result_arrived(self, result: Result, muted: bool | None) -> Pending | None:
        """Take a result, `muted` being the last mic state; returns the command that it ends."""
        self.sends_request_ids = True
        pending = self.pending
        if pending is None or pending.request_id != result.request_id:
            if not result.ok:
                self._answered(result.request_id)
            return None
        if result.ok and pending.wish != muted:
            pending.ok = True
            pending.repeat_at = None
            return None
        self._answered(result.request_id)
        self.pending = None
        return pending

    def time_out(self, now: float) -> Pending | None:
        """End the pending command if it has expired."""
        pending = self.pending
        if pending is None or now < pending.expires:
            return None
        self.pending = None
        return pending

    def _ends(self, pending: Pending, mic: Mic, before: bool | None) -> bool:
        if mic.request_id == pending.request_id:
            return True
        if mic.muted != pending.wish:
            return False
        changed = before != mic.muted if before is not None else mic.muted
        return pending.ok or (changed and not self.sends_request_ids)

    def _answered(self, request_id: str) -> None:
        number = self._numbers.get(request_id, 0)
        if self._doubt is not None and number >= self._doubt.number:
            self._doubt = None


def _is_after(mic: Mic, doubt: _Doubt, now: float) -> bool:
    return mic.at > doubt.expires_at_ms if mic.at is not None else now >= doubt.expires
