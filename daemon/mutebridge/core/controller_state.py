"""What is known of one session controller: its availability, its call, its microphone.

States may arrive in any order, twice, late, or left over from an earlier life of the controller, so each one is held
against what is known already:

* `epoch` names a life of the controller. Once `C/call` carries one, states without one are ignored. A new epoch forgets
  the old, and an epoch that was left never comes back.
* `seq` grows within an epoch and is compared per topic; an older one is dropped.
* A mic state counts only with the epoch and `call_id` of the current call; one that arrives first waits for its call.
* Each change of the call makes the microphone unknown until the next mic state, except one stamped after the change.
* `offline`, a lost broker and a payload that cannot be read make things unknown, never a reason to keep the old one.
* Heartbeat: in a connected call of a controller that announces `heartbeat_s`, a mic state is good for two and a half
  intervals after its `at`, or after its arrival, should that be earlier.
"""

from collections import deque

import msgspec

from mutebridge.core.contract import Call, CallState, Mic
from mutebridge.core.controller_clock import ControllerClock

HEARTBEATS_MISSED = 2.5
NEVER_HEARD_LIVE = float("-inf")
_RETIRED_EPOCHS = 64


class _Arrived(msgspec.Struct, frozen=True):
    mic: Mic
    now: float
    retained: bool


class ControllerState:
    """The last known state of the controller `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.clock = ControllerClock()
        self.epoch: str | None = None
        self.call: Call | None = None
        self.call_unreadable = False
        self.mic: Mic | None = None
        self.call_since = 0.0  # the moment of its last change
        self._online: bool | None = None
        self._mic_arrived = 0.0
        self._mic_retained = False
        self._waiting: _Arrived | None = None
        self._call_seq = -1
        self._mic_seq = -1
        self._retired: deque[str] = deque(maxlen=_RETIRED_EPOCHS)

    # --- what is known

    @property
    def online(self) -> bool:
        """One that never published an availability counts as online."""
        return self._online is not False

    @property
    def call_state(self) -> CallState | None:
        """None: offline, or nothing known."""
        return self.call.state if self.call is not None and self.online else None

    @property
    def connected(self) -> bool:
        return self.call is not None and self.call.state is CallState.CONNECTED and self._online is not False

    @property
    def call_id(self) -> str | None:
        return self.call.call_id if self.call is not None else None

    def muted(self, now: float) -> bool | None:
        """What the microphone of the connected call does; None when unknown."""
        if self.mic is None or not self.connected:
            return None
        good_until = self.mic_good_until(now)
        return self.mic.muted if good_until is None or now < good_until else None

    def mic_good_until(self, now: float) -> float | None:
        """The moment at which the mic state becomes unknown without a newer one; None: never."""
        if self.mic is None or not self.connected or self.call is None or self.call.heartbeat_s is None:
            return None
        if self.mic.at is None:
            said = NEVER_HEARD_LIVE if self._mic_retained else self._mic_arrived
        else:
            offset_ms = self.clock.offset_ms(now)
            # None: only retained states so far, and nobody knows how old they are
            said = NEVER_HEARD_LIVE if offset_ms is None else (self.mic.at + offset_ms) / 1000
            said = min(said, self._mic_arrived)  # whatever a clock that was set back makes of it
        return said + HEARTBEATS_MISSED * self.call.heartbeat_s

    # --- what arrives; each returns whether it was taken

    def take_online(self, online: bool | None) -> None:
        self._online = online
        if online is False:
            self.forget()

    def broker_lost(self) -> None:
        """Nothing is known any more; epoch, sequences and clock stay, so that late ones are still told apart."""
        self._online = None
        self.forget()

    def forget(self) -> None:
        self.call = None
        self.call_unreadable = False
        self.forget_mic()

    def call_cannot_be_read(self) -> None:
        """Know nothing of the call, not even that there is none or that it is the same one when it is said again."""
        self.call = self.mic = None
        self.call_unreadable = True

    def forget_mic(self) -> None:
        self.mic = None
        self._waiting = None

    def delete_call(self) -> None:
        """Forget the call and its epoch, which may come again: whoever deletes it starts anew."""
        self._enter_epoch(None)

    def take_call(self, call: Call, now: float, *, retained: bool) -> bool:
        if self._left_over(call.epoch, retained):
            return False
        if call.epoch != self.epoch:
            if self.epoch is not None:
                self._retired.append(self.epoch)
            self._enter_epoch(call.epoch)
        if call.seq is not None and call.seq < self._call_seq:
            return False
        self._call_seq = max(self._call_seq, call.seq or 0)
        self.clock.arrived(call.at, now, retained=retained)
        before, self.call = self.call, call
        self.call_unreadable = False
        if before is None or _changed(before, call):
            self.call_since = now
        if before is not None and _changed(before, call) and not self._mic_is_newer_than(call):
            self.mic = None
        self._promote_waiting()
        return True

    def take_mic(self, mic: Mic, now: float, *, retained: bool) -> bool:
        """Whether it is the mic state of the current call; one that waits for its call is not yet."""
        if self._left_over(mic.epoch, retained):
            return False
        if mic.epoch == self.epoch:
            if mic.seq is not None and mic.seq < self._mic_seq:
                return False
            self._mic_seq = max(self._mic_seq, mic.seq or 0)
        arrived = _Arrived(mic, now, retained)
        if self._is_of_current_call(mic):
            self._take(arrived)
            if not _is_older(mic, self._waiting):  # it is where the waiting one came before its epoch was known
                self._waiting = None
            return True
        if not _is_older(mic, self._waiting):
            self._waiting = arrived
        return False

    # --- how

    def _left_over(self, epoch: str | None, retained: bool) -> bool:
        if epoch is None:
            if self.epoch is not None:
                return True
        elif epoch in self._retired:
            return True
        return retained and not self.online

    def _enter_epoch(self, new: str | None) -> None:
        self.epoch = new
        self.call_unreadable = False
        self.clock = ControllerClock()
        self._call_seq = self._mic_seq = -1
        self.call = self.mic = None

    def _is_of_current_call(self, mic: Mic) -> bool:
        return self.call is not None and mic.epoch == self.epoch and mic.call_id == self.call.call_id

    def _mic_is_newer_than(self, call: Call) -> bool:
        return (
            self.mic is not None
            and self._is_of_current_call(self.mic)
            and self.mic.at is not None
            and call.at is not None
            and self.mic.at > call.at
        )

    def _promote_waiting(self) -> None:
        waiting = self._waiting
        if waiting is not None and self._is_of_current_call(waiting.mic):
            self._waiting = None
            self._take(waiting)

    def _take(self, arrived: _Arrived) -> None:
        self.clock.arrived(arrived.mic.at, arrived.now, retained=arrived.retained)
        self._mic_seq = max(self._mic_seq, arrived.mic.seq or 0)
        self.mic = arrived.mic
        self._mic_arrived = arrived.now
        self._mic_retained = arrived.retained


def _is_older(mic: Mic, waiting: _Arrived | None) -> bool:
    if waiting is None or mic.epoch != waiting.mic.epoch or mic.seq is None or waiting.mic.seq is None:
        return False
    return mic.seq < waiting.mic.seq


def _changed(before: Call, call: Call) -> bool:
    return before.call_id != call.call_id or before.state is not call.state
