"""A session controller: what a softphone developer puts between a softphone and the mute buttons.

    controller = SessionController("desk-12", "myphone", set_mute=phone.set_mute)
    phone.on_call_state(controller.call_changed)    # "ringing", "connected", "held", "disconnected", ...
    phone.on_mic_state(controller.mic_changed)      # True: muted
    with controller:
        phone.run()

Say the microphone's state anew in every call; it is what the lights show, and nothing else is. `set_mute` gets what the
button asks for. It is called from a thread of the controller, one call at a time, only while a call is connected, and
it need not wait for the effect: within a second `mic_changed` must say that the microphone did as it was told, from
inside `set_mute` or from any other thread. To refuse, raise `Refused`; the person at the button reads its detail. Any
other exception counts as `failed` and is logged: an exception means that the microphone was left as it was.

Every rule of the contract is kept by `protocol`; this module gives it a broker, a clock and two threads. One asks the
softphone, so that a `set_mute` that hangs stops neither the heartbeat nor anything else: its command is answered
`failed` after a second, later ones expire until it returns. The other one sleeps until the next heartbeat or timeout is
due, for ever outside of calls.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Literal, Self

import msgspec

from mutebridge.controller.protocol import CONFIRM_TIMEOUT_S, Clock, ControllerProtocol, Effect, Perform
from mutebridge.core.contract import DEFAULT_PREFIX, Action, CallState, Command, CommandError, PayloadError
from mutebridge.edges.broker import Broker, BrokerSettings, Problem, Retained

_log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 2.0

_REFUSED_BECAUSE = {
    CommandError.NOT_CONNECTED: "no call is connected",
    CommandError.NOT_ALLOWED: "the softphone does not allow it",
    CommandError.MISSING_SCOPE: "a permission of the softphone is missing",
    CommandError.EXPIRED: "it came too late",
    CommandError.STALE: "it was meant for another moment",
    CommandError.FAILED: "the softphone failed",
}


class Refused(Exception):  # noqa: N818 - it reads as what the softphone did
    """Raise it in a callback to refuse a command. `detail` is for the person: what is missing, what to do."""

    def __init__(self, error: CommandError, detail: str = "") -> None:
        super().__init__(error, detail)
        self.error = error
        self.detail = detail or _REFUSED_BECAUSE[error]


class Happening(msgspec.Struct, frozen=True):
    """What an observer is told. `up`, `lost`, `fatal` carry a reason; `sent`, `received` a topic and a payload."""

    what: Literal["up", "lost", "fatal", "sent", "received"]
    topic: str = ""
    payload: bytes = b""
    reason: str = ""


class SessionController:
    """One softphone's microphone at one station; all methods are for any thread and return at once.

    `station` is the one that the bridge is configured for, by default its host name. `answer` and `hang_up` get the
    call_id of the call that they are about, and are done when they return. ValueError for a station, name, prefix or
    heartbeat that cannot be.
    """

    def __init__(  # noqa: PLR0913 - keywords, and all of them optional but one
        self,
        station: str,
        name: str = "softphone",
        *,
        set_mute: Callable[[bool], None],
        answer: Callable[[str], None] | None = None,
        hang_up: Callable[[str], None] | None = None,
        broker: BrokerSettings | None = None,
        prefix: str = DEFAULT_PREFIX,
        heartbeat_s: float = 5.0,
        confirm_timeout_s: float = CONFIRM_TIMEOUT_S,
        observe: Callable[[Happening], None] | None = None,
    ) -> None:
        """`observe` is told, in order, all that passes; it must be quick and must not call back.

        `confirm_timeout_s` is for a softphone that needs more than a second to report what it did; a press expires
        after two.
        """
        self._set_mute = set_mute
        self._hook = {Action.ANSWER: answer, Action.HANG_UP: hang_up}
        self._observe = observe
        self._protocol = ControllerProtocol(
            station,
            name,
            epoch=secrets.token_hex(8),
            clock=Clock(wall_ms=time.time() * 1000, monotonic_s=_now()),
            prefix=prefix,
            heartbeat_s=heartbeat_s,
            confirm_timeout_s=confirm_timeout_s,
            can=frozenset({Action.SET_MUTE} | {action for action, callback in self._hook.items() if callback}),
        )
        farewell = self._protocol.farewell()
        self._farewell = Retained(farewell.topic, farewell.payload)
        self._broker = Broker(
            broker or BrokerSettings(),
            client_id=f"mutebridge-controller:{station.lower()}:{name.lower()}",
            will=self._farewell,
            subscriptions=self._protocol.subscriptions,
            on_up=self._on_up,
            on_lost=self._on_lost,
            on_message=self._on_message,
            on_fatal=self._on_fatal,
        )
        # One lock for the protocol and for the order in which its publications leave.
        self._lock = threading.RLock()
        self._work_waits = threading.Condition(self._lock)
        self._earlier_deadline = threading.Condition(self._lock)
        self._sleeps_until: float | None = None
        self._stopping = False
        self._last_problem = ""
        self._threads = [
            threading.Thread(target=self._work, name="controller-work", daemon=True),
            threading.Thread(target=self._keep_time, name="controller-time", daemon=True),
        ]

    # --- for the softphone -------------------------------------------------------------------------------------------

    def call_changed(self, state: CallState | str, call_id: str | None = None) -> None:
        """Say what a call does: `ringing`, `dialing`, `connected`, `held`, `disconnected`; other words: not connected.

        With several calls, give each an id that is never used again; the one that uses the microphone is told to the
        bridge. Without an id it is about the only one. ValueError for an id that is empty or over 256 characters.
        """
        with self._lock:
            self._carry_out(self._protocol.call_changed(CallState(state), call_id, _now()))

    def mic_changed(self, muted: bool | None) -> None:
        """Say what the microphone does: whenever it changes, and once in every new call. None: it is not known now.

        TypeError for what is none of these three, which no bridge could read.
        """
        if not isinstance(muted, bool | None):
            raise TypeError(f"mic_changed({muted!r}): True for muted, False, or None for unknown")
        with self._lock:
            self._carry_out(self._protocol.mic_changed(muted, _now()))

    @property
    def call_id(self) -> str | None:
        """The call that uses the microphone: the one that commands and `mic_changed` are about."""
        with self._lock:
            return self._protocol.call_id

    def time_left_s(self) -> float:
        """For a callback that takes time: return how long what it was asked for is still wanted, 0 for no more."""
        with self._lock:
            return self._protocol.time_left_s(_now())

    def start(self) -> None:
        """Connect to the broker in the background, for as long as it takes. Once; RuntimeError the second time."""
        self._broker.start()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Say `offline` and disconnect, within a few seconds even when broker or softphone hang."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            self._protocol.lost()
            self._work_waits.notify_all()
            self._earlier_deadline.notify_all()
        self._broker.stop(farewell=[self._farewell], timeout_s=STOP_TIMEOUT_S)
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(STOP_TIMEOUT_S / 2)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    # --- what the broker says, in its thread -------------------------------------------------------------------------

    def _on_up(self) -> None:
        with self._lock:
            self._tell(Happening("up", reason=self._broker.describe()))
            if not self._stopping:
                self._carry_out(self._protocol.connected(_now()))

    def _on_lost(self, reason: str) -> None:
        with self._lock:
            self._protocol.lost()
            self._tell(Happening("lost", reason=reason))

    def _on_fatal(self, problem: Problem) -> None:
        _log.error("%s", problem.message, exc_info=problem.cause)
        with self._lock:
            self._protocol.lost()
            self._tell(Happening("fatal", reason=problem.message))

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        del retained  # a retained command would be past its expiry, and the others are states
        with self._lock:
            self._tell(Happening("received", topic, payload))
            try:
                self._carry_out(self._protocol.received(topic, payload, _now()))
            except PayloadError as problem:
                if str(problem) != self._last_problem:
                    _log.warning("%s", problem)
                self._last_problem = str(problem)

    # --- the two threads ---------------------------------------------------------------------------------------------

    def _work(self) -> None:
        """Ask the softphone for one thing after the other."""
        while True:
            with self._lock:
                self._work_waits.wait_for(lambda: self._stopping or self._protocol.ready)
                if self._stopping:
                    return
                command = self._carry_out(self._protocol.begin(_now()))
            if command is None:
                continue
            refused = self._ask_softphone(command)
            with self._lock:
                error, detail = (refused.error, refused.detail) if refused else (None, "")
                self._carry_out(self._protocol.performed(_now(), error, detail))

    def _ask_softphone(self, command: Command) -> Refused | None:
        """Call back without the lock: the softphone may call us from inside, or hang."""
        hook = self._hook.get(command.action)
        try:
            if hook:
                hook(command.call_id or "")
            else:
                self._set_mute(bool(command.muted))
        except Refused as refused:
            return refused
        except BaseException as error:
            _log.exception("the softphone's callback for %s raised", command.action.value)
            return Refused(CommandError.FAILED, f"{type(error).__name__}: {error}")
        return None

    def _keep_time(self) -> None:
        with self._lock:
            while not self._stopping:
                self._sleeps_until = self._protocol.wake_at()
                timeout_s = None if self._sleeps_until is None else max(0.0, self._sleeps_until - _now())
                self._earlier_deadline.wait(timeout_s)
                if not self._stopping:
                    self._carry_out(self._protocol.time_came(_now()))

    def _carry_out(self, effects: Iterable[Effect]) -> Command | None:
        """Publish in order, wake whom it concerns, return what the softphone is to be asked. Holds the lock."""
        command = None
        for effect in effects:
            if isinstance(effect, Perform):
                command = effect.command
            else:
                self._tell(Happening("sent", effect.topic, effect.payload))
                self._broker.publish(effect.topic, effect.payload, qos=1, retain=effect.retain)
        if self._protocol.ready:
            self._work_waits.notify()
        wake_at = self._protocol.wake_at()
        if wake_at is not None and (self._sleeps_until is None or wake_at < self._sleeps_until):
            self._earlier_deadline.notify()
        return command

    def _tell(self, happening: Happening) -> None:
        if self._observe:
            self._observe(happening)


def _now() -> float:
    # The clock that never steps and, unlike CLOCK_MONOTONIC, counts the time asleep: a command that a suspended
    # machine finds on waking up has expired.
    return time.clock_gettime(time.CLOCK_BOOTTIME)
