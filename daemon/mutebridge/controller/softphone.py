"""A softphone without audio, with the state machine that the Genesys Cloud Embeddable Client SDK shows (1.2.40).

It is as awkward as the real one on purpose: `mute_mic` raises the same bare "Operation Not Allowed" whether no call is
connected, a scope is missing or somebody else owns the call, and a session exists while it only rings. Telling them
apart is the adapter's work. What a person does on the softphone's own page (`hand`) needs no scope.
"""

import secrets
import threading
from collections.abc import Callable

import msgspec

MUTE_SCOPE = "client:call:write"
"""What `mute_mic` needs; `interaction:write` is not enough."""

_NEXT_STATE = {
    ("disconnected", "ring"): "ringing",
    ("disconnected", "dial"): "dialing",
    ("ringing", "connect"): "connected",
    ("dialing", "connect"): "connected",
    ("connected", "hold"): "held",
    ("held", "resume"): "connected",
    ("ringing", "end"): "disconnected",
    ("dialing", "end"): "disconnected",
    ("connected", "end"): "disconnected",
    ("held", "end"): "disconnected",
}


class OperationNotAllowed(Exception):  # noqa: N818 - the SDK's words
    """The SDK's refusal, which gives no reason."""

    def __init__(self) -> None:
        super().__init__("Operation Not Allowed")


class NotNowError(Exception):
    """The person asked for something that this state does not have; the message says what it has."""


class Session(msgspec.Struct, frozen=True):
    """A call from its first ring on, which is why it proves no connected call."""

    call_id: str
    type: str = "voice"


def _ignore(*_: object) -> None:
    pass


class SimulatedSoftphone:
    """One line. The two callbacks are called, in order, from whichever thread caused the change.

    `on_state_change` gets the state and the call_id, `on_mic_state_change` True for muted: when a call connects, then
    at each change. `scopes`, `owned_by_other` and `deaf` (it accepts `mute_mic`, and does nothing) may be set any time.
    """

    def __init__(self) -> None:
        self.on_state_change: Callable[[str, str], None] = _ignore
        self.on_mic_state_change: Callable[[bool], None] = _ignore
        self.scopes = {MUTE_SCOPE, "interaction:write"}
        self.owned_by_other = False
        self.deaf = False
        self._state = "disconnected"
        self._muted = False
        self._session: Session | None = None
        self._lock = threading.RLock()

    # --- the SDK -----------------------------------------------------------------------------------------------------

    def get_state(self) -> str:
        return self._state

    def get_session_by_type(self, kind: str) -> Session | None:
        session = self._session
        return session if session and session.type == kind else None

    def mute_mic(self, muted: bool) -> None:
        """OperationNotAllowed unless connected, with `MUTE_SCOPE`, one's own call."""
        with self._lock:
            if self._state != "connected" or MUTE_SCOPE not in self.scopes or self.owned_by_other:
                raise OperationNotAllowed
            if not self.deaf:
                self._set_mic(muted)

    # --- the person --------------------------------------------------------------------------------------------------

    def do(self, verb: str) -> None:
        """`ring`, `dial`, `connect`, `hold`, `resume` or `end`; NotNowError when the call cannot."""
        with self._lock:
            state = _NEXT_STATE.get((self._state, verb))
            if state is None:
                can = ", ".join(each for was, each in _NEXT_STATE if was == self._state)
                raise NotNowError(f"cannot {verb} while {self._state}; now it can: {can}")
            starts, self._state = verb == "connect", state
            session = self._session = self._session or Session(secrets.token_hex(6))
            if state == "disconnected":
                self._session = None
            self.on_state_change(state, session.call_id)
            if starts:
                self._muted = False
                self.on_mic_state_change(False)

    def hand(self, muted: bool) -> None:
        """Mute or unmute on the softphone's own page; NotNowError unless connected."""
        with self._lock:
            if self._state != "connected":
                raise NotNowError(f"cannot {'mute' if muted else 'unmute'} while {self._state}; connect a call first")
            self._set_mic(muted)

    @property
    def mic(self) -> bool | None:
        """True when muted, None without a connected call."""
        return self._muted if self._state == "connected" else None

    def can(self) -> list[str]:
        """What the person can do now."""
        hand = ["unmute" if self._muted else "mute"] if self._state == "connected" else []
        return [verb for was, verb in _NEXT_STATE if was == self._state] + hand

    def _set_mic(self, muted: bool) -> None:
        if muted != self._muted:
            self._muted = muted
            self.on_mic_state_change(muted)
