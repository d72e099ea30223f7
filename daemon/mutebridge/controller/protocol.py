"""The controller's side of the MQTT contract, as a pure state machine.

Nothing here reads a clock, opens a socket or starts a thread: messages, the softphone's events and the time go in, what
to publish and whether to call the softphone come out. `SessionController` is its glue; whoever writes a controller
in another language can read this file as the rules.

Theory of operation
-------------------
*Truth.* `mic_changed` is the only source of what the microphone does. It counts for the call in which it was said: it
is forgotten when that call ends or another one takes the microphone, and a softphone says it anew for each call.
While it is not known, the retained `C/mic` is deleted.

*One command at a time.* A command that passes the gate becomes the *next* one; a newer one takes its place and the
older is answered `failed`. When the softphone is free, `begin` checks the gate once more, at that very moment, and
hands the command out as `Perform`; it is then *in flight* until the microphone says that it did what was asked, the
softphone refuses, or the confirm timeout has passed. A callback that hangs therefore costs the bridge an answer
(`failed`, after that timeout) and every later command its own (`expired`, at its expiry), but never a heartbeat.

*When in doubt, not muted is not claimed.* An unmute that the softphone neither confirmed nor refused leaves the
microphone unknown until the next `mic_changed`; while one is in flight, "muted" is not repeated either.

*Whose change it was.* The first change to what the command in flight asks for is its own and carries its request_id.
Any other is a hand's, and an unmute that had not seen it is `stale`: the hand wins.

*Once.* Answers are kept by request_id. One that was acted on is never forgotten before its expiry, and no expiry lies
further ahead than `MAX_EXPIRY_AHEAD_S`; when that leaves no room, new commands are refused.
"""

from collections import OrderedDict
from collections.abc import Iterator

import msgspec

from mutebridge.core.contract import (
    MAX_PAYLOAD_BYTES,
    Action,
    Call,
    CallState,
    Command,
    CommandError,
    Id,
    Mic,
    PayloadError,
    Result,
    Topics,
    decode,
    decode_availability,
    encode,
    valid_name,
)

CONFIRM_TIMEOUT_S = 1.0
"""How long a command in flight may wait for the microphone to say that it changed."""
MAX_EXPIRY_AHEAD_S = 60.0
"""A command that would stay valid for longer is refused: the contract says two seconds."""
MAX_REMEMBERED = 256
"""How many answers are kept."""
MAX_CALLS = 16
"""How many calls are followed at once; an older one beyond that was never reported as ended."""
MAX_DETAIL = 1024

# Which of several calls uses the microphone: the connected one, else the one on hold, else the one being set up.
_CLAIM = {CallState.CONNECTED: 4, CallState.HELD: 3, CallState.DIALING: 2, CallState.RINGING: 1, CallState.OTHER: 0}
_NO_CALL = Call(state=CallState.DISCONNECTED)


class Publish(msgspec.Struct, frozen=True, kw_only=True):
    """Publish at QoS 1. An empty retained payload deletes."""

    topic: str
    payload: bytes
    retain: bool = True


class Perform(msgspec.Struct, frozen=True):
    """Ask the softphone, then report with `performed`."""

    command: Command


Effect = Publish | Perform


class Clock(msgspec.Struct, frozen=True):
    """Milliseconds since the Unix epoch that never step: the wall clock once, then a monotonic one in seconds."""

    wall_ms: float
    monotonic_s: float

    def at(self, now: float) -> float:
        return round(self.wall_ms + (now - self.monotonic_s) * 1000, 3)


class _Refusal(msgspec.Struct, frozen=True):
    error: CommandError
    detail: str


class _Answer(msgspec.Struct):
    """`result` is None until there is one. `acted`: the softphone was, or is about to be, asked."""

    expires_at: float
    result: Result | None = None
    acted: bool = False


class _InFlight(msgspec.Struct, frozen=True):
    command: Command
    call_id: str | None
    deadline: float

    @property
    def unmutes(self) -> bool:
        return self.command.action is Action.SET_MUTE and self.command.muted is False


class _Named(msgspec.Struct, frozen=True):
    """All that is needed of an unreadable command to answer it."""

    request_id: Id


class ControllerProtocol:
    """One session controller, `C = P/controller/{name}`.

    `now` is always a monotonic time in seconds, the one of `clock`. Every method that returns effects wants them
    carried out in order. `ready` says that `begin` has something to do, `wake_at` when `time_came` is wanted.
    """

    def __init__(  # noqa: PLR0913 - keywords, and each one is a setting
        self,
        station: str,
        name: str,
        *,
        epoch: str,
        clock: Clock,
        prefix: str,
        heartbeat_s: float = 5.0,
        can: frozenset[Action] = frozenset({Action.SET_MUTE}),
        confirm_timeout_s: float = CONFIRM_TIMEOUT_S,
    ) -> None:
        topics = Topics(valid_name("station", station), prefix)
        name = valid_name("controller", name)
        if not 0 < heartbeat_s <= 3600:
            raise ValueError(f"heartbeat_s {heartbeat_s!r}: seconds, more than 0 and at most 3600")
        self.availability_topic = topics.controller(name, "availability")
        self.call_topic = topics.controller(name, "call")
        self.mic_topic = topics.controller(name, "mic")
        self.command_topic = topics.controller(name, "command")
        self.result_topic = topics.controller(name, "result")
        self.bridge_topic = topics.bridge_availability
        self.epoch = epoch
        self.up = False
        self.seq = 0
        self.mic: bool | None = None
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._can = can
        self._confirm_timeout_s = confirm_timeout_s
        self._calls: dict[str, CallState] = {}
        self._call = _NO_CALL
        self._unnamed_calls = 0
        self._hand_seq = 0
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._next: Command | None = None
        self._in_flight: _InFlight | None = None
        self._softphone_busy = False
        self._mic_said_at: float | None = None

    # --- what can be asked at any time --------------------------------------------------------------------------------

    @property
    def call_state(self) -> CallState:
        return self._call.state

    @property
    def call_id(self) -> str | None:
        return self._call.call_id

    def time_left_s(self, now: float) -> float:
        """Return how long the command in flight is still wanted, 0 when there is none."""
        flight = self._in_flight
        if flight is None:
            return 0.0
        return max(0.0, min(flight.deadline, self._moment(flight.command.expires_at)) - now)

    @property
    def ready(self) -> bool:
        """A command waits, and the softphone is free for it."""
        return self._next is not None and self._in_flight is None and not self._softphone_busy

    @property
    def subscriptions(self) -> list[tuple[str, int]]:
        """Topic and QoS. Its own availability is read to find a late will of its own dead connection."""
        return [(self.command_topic, 0), (self.bridge_topic, 1), (self.availability_topic, 1)]

    def wake_at(self) -> float | None:
        """Return when `time_came` is wanted, None for never: at rest and outside of calls nothing wakes."""
        moments = []
        if self._in_flight:
            moments.append(self._in_flight.deadline)
        if self._next and not self.ready:
            moments.append(self._moment(self._next.expires_at))
        heartbeat = self._heartbeat_at()
        if heartbeat is not None:
            moments.append(heartbeat)
        return min(moments, default=None)

    # --- the broker ---------------------------------------------------------------------------------------------------

    def connected(self, now: float) -> list[Effect]:
        """The broker connection is up, subscribed."""
        self.up = True
        return list(self._announce(now))

    def lost(self) -> None:
        """The broker connection is gone. Commands that were accepted keep their time."""
        self.up = False

    def farewell(self) -> Publish:
        """What an orderly end publishes, and the will."""
        return Publish(topic=self.availability_topic, payload=b"offline")

    def received(self, topic: str, payload: bytes, now: float) -> list[Effect]:
        """A message of one of `subscriptions`. PayloadError for one that cannot be read nor answered."""
        if topic == self.command_topic:
            return list(self._command(payload, now)) if payload else []
        if topic == self.bridge_topic and self.up and decode_availability(topic, payload):
            return list(self._announce(now))
        if topic == self.availability_topic and self.up and not decode_availability(topic, payload):
            return list(self._announce(now))
        return []

    # --- the softphone ------------------------------------------------------------------------------------------------

    def call_changed(self, state: CallState, call_id: str | None, now: float) -> list[Effect]:
        """A call of the softphone changed; without `call_id`, its only one. ValueError for an impossible id."""
        if call_id is not None and not 1 <= len(call_id) <= 256:
            raise ValueError(f"call_id of {len(call_id)} characters; 1 to 256 are allowed")
        self._follow(state, call_id or self._unnamed_call())
        before, self._call = self._call, self._current_call(before_id=self._call.call_id)
        if self._call == before:
            return []
        another = before.state is not CallState.DISCONNECTED and self._call.call_id != before.call_id
        if another or self._call.state is CallState.DISCONNECTED:
            self.mic = None  # what is said between two calls is about the next one
            self._hand_seq = 0
        effects = list(self._give_up_without_call())
        return [*effects, *self._publish_call(now), *self._publish_mic(now)]

    def mic_changed(self, muted: bool | None, now: float) -> list[Effect]:
        """The softphone says what the microphone does; None: it does not know any more."""
        changed, self.mic = muted != self.mic, muted
        command = self._in_flight.command if self._in_flight else None
        if command and command.action is Action.SET_MUTE and command.muted == muted:
            return list(self._succeed(command, now))
        effects = list(self._publish_mic(now))
        if changed and muted is not None:
            self._hand_seq = self.seq
        return effects

    def begin(self, now: float) -> list[Effect]:
        """Take the next command when `ready`: at most one `Perform`, after a last look at the gate."""
        if not self.ready or self._next is None:
            return []
        command, self._next = self._next, None
        refusal = self._gate(command, now)
        if refusal:
            return list(self._answer(command, refusal))
        self._answers[command.request_id].acted = True
        if command.action is Action.SET_MUTE and command.muted is False and self.mic is False:
            # Nothing to do, and not doing it cannot undo a mute by hand that is still on its way to us.
            return list(self._succeed(command, now))
        self._softphone_busy = True
        self._in_flight = _InFlight(command, self._call.call_id, now + self._confirm_timeout_s)
        return [Perform(command)]

    def performed(self, now: float, error: CommandError | None = None, detail: str = "") -> list[Effect]:
        """The callback returned; `error` when the softphone refused, which leaves the microphone as it was."""
        self._softphone_busy = False
        if self._in_flight is None:  # answered meanwhile
            return []
        command = self._in_flight.command
        if error:
            self._in_flight = None
            # Said again: the bridge went dark when it sent an unmute.
            again = self._publish_mic(now) if command.action is Action.SET_MUTE else ()
            return [*again, *self._answer(command, _Refusal(error, detail))]
        if command.action is not Action.SET_MUTE or self.mic == command.muted:
            return list(self._succeed(command, now))
        return []

    def time_came(self, now: float) -> list[Effect]:
        """Whatever is due at `now`: a heartbeat, a command in flight without answer, one that waited too long."""
        effects: list[Effect] = []
        if self._in_flight and now >= self._in_flight.deadline:
            what = "did not return" if self._softphone_busy else "returned, but the softphone reported no change"
            detail = f"the softphone's callback {what} within {self._confirm_timeout_s:g} s"
            effects += self._give_up(_Refusal(CommandError.FAILED, detail))
        if self._next and not self.ready and self._clock.at(now) >= self._next.expires_at:
            command, self._next = self._next, None
            effects += self._answer(command, _Refusal(CommandError.EXPIRED, "an earlier command held up the softphone"))
        heartbeat = self._heartbeat_at()
        if heartbeat is not None and now >= heartbeat:
            effects += self._publish_mic(now)
        return effects

    # --- calls --------------------------------------------------------------------------------------------------------

    def _unnamed_call(self) -> str:
        if self._call.call_id in self._calls and self._call.call_id:
            return self._call.call_id
        self._unnamed_calls += 1
        return f"{self.epoch}-{self._unnamed_calls}"

    def _follow(self, state: CallState, call_id: str) -> None:
        if state is CallState.DISCONNECTED:
            self._calls.pop(call_id, None)
        elif self._calls.get(call_id) is not state:
            self._calls.pop(call_id, None)  # the latest change stands last
            self._calls[call_id] = state
        while len(self._calls) > MAX_CALLS:
            self._calls.pop(next(each for each in self._calls if each != self._call.call_id))

    def _current_call(self, before_id: str | None) -> Call:
        if not self._calls:
            return Call(state=CallState.DISCONNECTED, call_id=before_id)
        preferred = list(reversed(self._calls))
        if CallState.CONNECTED not in self._calls.values():
            # The latest connected call wins, but one that rings or waits does not take the place of its equal.
            preferred.sort(key=lambda each: each != before_id)
        call_id = max(preferred, key=lambda each: _CLAIM[self._calls[each]])
        return Call(state=self._calls[call_id], call_id=call_id)

    def _give_up_without_call(self) -> Iterator[Effect]:
        flight = self._in_flight
        if flight is None or flight.command.action is not Action.SET_MUTE:
            return
        if self._call.state is not CallState.CONNECTED or self._call.call_id != flight.call_id:
            yield from self._give_up(_Refusal(CommandError.NOT_CONNECTED, "the call changed before the microphone did"))

    # --- what is said -------------------------------------------------------------------------------------------------

    def _announce(self, now: float) -> Iterator[Effect]:
        yield from self._publish_mic(now)
        yield from self._publish_call(now)
        yield Publish(topic=self.availability_topic, payload=b"online")

    def _publish_call(self, now: float) -> Iterator[Effect]:
        self.seq += 1
        if self.up:
            call = msgspec.structs.replace(
                self._call, epoch=self.epoch, seq=self.seq, at=self._clock.at(now), heartbeat_s=self._heartbeat_s
            )
            yield Publish(topic=self.call_topic, payload=encode(call))

    def _publish_mic(self, now: float, request_id: str | None = None) -> Iterator[Effect]:
        self.seq += 1
        self._mic_said_at = now
        if not self.up:
            return
        if self.mic is None or (self.mic and self._unmuting()):
            yield Publish(topic=self.mic_topic, payload=b"")
            return
        mic = Mic(
            muted=self.mic,
            call_id=self._call.call_id,
            epoch=self.epoch,
            seq=self.seq,
            at=self._clock.at(now),
            request_id=request_id,
        )
        yield Publish(topic=self.mic_topic, payload=encode(mic))

    def _unmuting(self) -> bool:
        return self._in_flight is not None and self._in_flight.unmutes

    def _heartbeat_at(self) -> float | None:
        connected = self.up and self._call.state is CallState.CONNECTED
        if not connected or self.mic is None or self._unmuting() or self._mic_said_at is None:
            return None
        return self._mic_said_at + self._heartbeat_s

    def _moment(self, at_ms: float) -> float:
        return self._clock.monotonic_s + (at_ms - self._clock.wall_ms) / 1000

    # --- commands -----------------------------------------------------------------------------------------------------

    def _command(self, payload: bytes, now: float) -> Iterator[Effect]:
        try:
            command = decode(Command, self.command_topic, payload)
        except PayloadError as problem:
            yield from self._unreadable(payload, problem)
            return
        known = self._answers.get(command.request_id)
        if known:
            yield from self._repeat(command, known, now)
            return
        self._make_room(now)
        if len(self._answers) >= MAX_REMEMBERED:
            refusal: _Refusal | None = _Refusal(CommandError.FAILED, "too many commands at once")
        else:
            self._answers[command.request_id] = _Answer(command.expires_at)
            refusal = self._gate(command, now)
        if refusal:
            yield from self._answer(command, refusal)
            return
        if self._next:
            yield from self._answer(self._next, _Refusal(CommandError.FAILED, "superseded by a newer command"))
        self._next = command

    def _unreadable(self, payload: bytes, problem: PayloadError) -> Iterator[Effect]:
        try:
            request_id = msgspec.json.decode(payload[:MAX_PAYLOAD_BYTES], type=_Named).request_id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise problem from None
        yield from self._publish_result(
            Result(request_id=request_id, ok=False, error=CommandError.FAILED, detail=str(problem)[:MAX_DETAIL])
        )

    def _repeat(self, command: Command, known: _Answer, now: float) -> Iterator[Effect]:
        if known.result is None:  # its answer is still to come
            return
        if known.result.ok:
            true_still = command.action is not Action.SET_MUTE or command.muted == self.mic
            if self.mic is not None:
                yield from self._publish_mic(now, command.request_id if true_still else None)
        yield from self._publish_result(known.result)

    def _gate(self, command: Command, now: float) -> _Refusal | None:  # noqa: PLR0911 - one line per rule
        """Return why `command` must not be acted on at `now`, None when it may."""
        ahead_ms = command.expires_at - self._clock.at(now)
        if ahead_ms <= 0:
            return _Refusal(CommandError.EXPIRED, f"it expired {abs(ahead_ms):.0f} ms ago")
        if ahead_ms > MAX_EXPIRY_AHEAD_S * 1000:
            return _Refusal(CommandError.FAILED, f"expires_at lies more than {MAX_EXPIRY_AHEAD_S:g} s ahead")
        if command.action not in self._can:
            return _Refusal(CommandError.FAILED, f"this softphone cannot do {command.action.value} by command")
        if command.action is Action.SET_MUTE and command.muted is None:
            return _Refusal(CommandError.FAILED, "set_mute without 'muted'")
        if command.epoch not in {None, self.epoch}:
            return _Refusal(CommandError.STALE, "it was meant for an earlier start of this controller")
        if command.call_id not in {None, self._call.call_id}:
            return _Refusal(CommandError.STALE, "it was meant for another call")
        if command.action is Action.SET_MUTE:
            return self._gate_set_mute(command)
        return self._gate_hook(command)

    def _gate_set_mute(self, command: Command) -> _Refusal | None:
        if self._call.state is not CallState.CONNECTED:
            detail = f"the call is {self._call.state.value}; a microphone can be muted only in a connected call"
            return _Refusal(CommandError.NOT_CONNECTED, detail)
        if command.muted:  # never too old to mute
            return None
        if command.call_id is None or command.epoch is None:
            return _Refusal(CommandError.STALE, "an unmute says which call_id and epoch it means")
        if (command.mic_seq or 0) < self._hand_seq:  # none: no mic state was seen
            return _Refusal(CommandError.STALE, "the microphone was changed by hand in the meantime")
        return None

    def _gate_hook(self, command: Command) -> _Refusal | None:
        if command.call_id is None:
            return _Refusal(CommandError.STALE, f"{command.action.value} says which call_id it means")
        answer = command.action is Action.ANSWER
        live = {CallState.RINGING, CallState.DIALING, CallState.CONNECTED, CallState.HELD}
        if self._call.state not in ({CallState.RINGING} if answer else live):
            detail = f"the call is {self._call.state.value}, so there is nothing to {'answer' if answer else 'hang up'}"
            return _Refusal(CommandError.NOT_CONNECTED, detail)
        return None

    def _succeed(self, command: Command, now: float) -> Iterator[Effect]:
        self._in_flight = None
        if self.mic is not None:
            yield from self._publish_mic(now, command.request_id)
        yield from self._settle(Result(request_id=command.request_id, ok=True))

    def _give_up(self, refusal: _Refusal) -> Iterator[Effect]:
        """The command in flight got no answer from the softphone."""
        assert self._in_flight
        flight, self._in_flight = self._in_flight, None
        if flight.unmutes and self.mic:
            self.mic = None  # it may be live by now
            if self._hand_seq <= (flight.command.mic_seq or 0):
                self._hand_seq = 0  # the bridge has seen that hand, and has nothing left to say it with
            if self.up:
                yield Publish(topic=self.mic_topic, payload=b"")
        yield from self._answer(flight.command, refusal)

    def _answer(self, command: Command, refusal: _Refusal) -> Iterator[Effect]:
        detail = refusal.detail[:MAX_DETAIL] or None
        yield from self._settle(Result(request_id=command.request_id, ok=False, error=refusal.error, detail=detail))

    def _settle(self, result: Result) -> Iterator[Effect]:
        known = self._answers.get(result.request_id)
        if known:
            known.result = result
        yield from self._publish_result(result)

    def _publish_result(self, result: Result) -> Iterator[Effect]:
        if self.up:
            yield Publish(topic=self.result_topic, payload=encode(result), retain=False)

    def _make_room(self, now: float) -> None:
        """Forget the oldest answer that may be forgotten: it never acted, or its command is past its expiry."""
        if len(self._answers) < MAX_REMEMBERED:
            return
        at = self._clock.at(now)
        for request_id, known in self._answers.items():
            if known.result and (not known.acted or known.expires_at <= at):
                del self._answers[request_id]
                return
