"""The one place of decision: every event, wherever it comes from, becomes actions here.

`Bridge.handle(event, now, unix_ms)` takes an event and the time and returns what is to be done, in order; `wake_at`
says when it wants `TimeCame`. It knows no report, topic or serial line.

A press goes through the *gate*: broker up, controller online, its call connected. What it asks for (`press_modes`)
becomes absolute commands to the controllers concerned (`commands`); their mic-state events (`controller_state`) are the
only truth, from which the lights are derived (`lights`). Commands leave before anything else, except that the lights go
dark before an unmute or an answer leaves.

A *hold* is a button that is down. A *standing wish* follows when one is let go, or lost while down, that made a
microphone live: a fresh mute every half second until the microphone is known to be muted, the call ends, or a person
presses again. No fault ever asks for an unmute.

What a hook switch says, where it is forwarded, goes to one controller (`hook_switch`) by the same gate.
"""

from collections.abc import Callable, Iterable

import msgspec

from mutebridge.core.attached import Attached, Hold
from mutebridge.core.commands import REPEAT_AFTER_S, Pending, Press
from mutebridge.core.contract import (
    Action,
    Command,
    Mic,
    Outcome,
    PressEvent,
    Result,
    Source,
)
from mutebridge.core.controller_clock import ControllerClock
from mutebridge.core.controller_state import NEVER_HEARD_LIVE
from mutebridge.core.controllers import Controller, Standing, goes_on, to_mute, to_unmute, why_none_is_connected
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
    PublishAvailability,
    PublishCommand,
    PublishDevice,
    PublishPressEvent,
    RejectPressed,
    Unreadable,
    WriteLights,
)
from mutebridge.core.hook_switch import HookGesture, HookPending, asks_for
from mutebridge.core.lights import Line, lights
from mutebridge.core.press_modes import Gesture, Wish, gesture_name, wish
from mutebridge.core.refusals import HOOK_ADVICE, MUTE_ADVICE, refusal

EXPIRES_AFTER_S = 2.0
STANDING_EVERY_S = 0.5
STANDING_REFUSED_EVERY_S = 5.0
REJECTED_SHOWN_S = 1.0
MAX_CONTROLLERS = 64

_ALREADY = ("already_muted", "already_live")
_BROKER_DOWN = ("broker_down", "the connection to the broker is down")

_HOOK_WORDS = {Action.ANSWER: "answering", Action.HANG_UP: "hanging up"}


class Bridge:
    """The state of one station. `new_id` returns a fresh unguessable id at each call."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._life = new_id()
        self._presses = 0
        self._now = 0.0
        self._unix_ms = 0.0
        self._broker_up = False
        self._controllers: dict[str, Controller] = {}
        self._too_many_said = False
        self._devices: dict[str, Attached] = {}
        self._muted_by_last_press: dict[str, str | None] = {}  # the call_id, by controller
        self._commands: list[BridgeAction] = []
        self._rest: list[BridgeAction] = []

    def handle(self, event: Event, now: float, unix_ms: float) -> list[BridgeAction]:
        """Take one event; returns what is to be done, in order.

        `now` is in seconds of a monotonic clock. `unix_ms` is the same moment as the wall clock says it, in
        milliseconds of Unix time: it dates commands to controllers whose own clock is not known, and may be set at
        any time, most often just after the start of a machine.
        """
        self._now, self._unix_ms = now, unix_ms
        self._commands, self._rest = [], []
        self._let_lapse()
        self._take(event)
        for controller in self._controllers.values():
            self._stand(controller)
        return self._in_order(self._write_lights())

    @property
    def wake_at(self) -> float | None:
        """The moment at which `TimeCame` is wanted; None: no moment."""
        moments = [moment for controller in self._controllers.values() for moment in self._moments(controller)]
        moments += [d.rejected_until for d in self._devices.values() if d.rejected_until > self._now]
        return min(moments, default=None)

    @property
    def devices(self) -> list[Device]:
        return [attached.device for attached in self._devices.values()]

    # --- time

    def _moments(self, controller: Controller) -> Iterable[float]:
        pending = controller.commands.pending
        if pending is not None:
            yield pending.expires
            if pending.repeat_at is not None:
                yield pending.repeat_at
        if controller.standing is not None and self._gate(controller) is None:
            yield controller.standing.next_at
        yield from (moment for moment in controller.hook.moments() if moment > self._now)
        for moment in (controller.state.mic_good_until(self._now), controller.commands.unmute_expires):
            if moment is not None and moment > self._now:
                yield moment

    def _let_lapse(self) -> None:
        for controller in self._controllers.values():
            self._listen_for_heartbeat(controller)
            pending = controller.commands.time_out(self._now)
            if pending is not None:
                self._ended(controller, pending, Outcome.TIMED_OUT, "no_answer")
            pending = controller.commands.pending
            if pending is not None and pending.repeat_at is not None and self._now >= pending.repeat_at:
                pending.repeat_at = None
                if pending is controller.pending and self._gate(controller) is None:
                    self._publish(controller, pending)
            hook = controller.hook.time_out(self._now)
            if hook is not None:
                self._hook_ended(controller, hook, Outcome.TIMED_OUT, "no_answer")

    def _listen_for_heartbeat(self, controller: Controller) -> None:
        good_until = controller.state.mic_good_until(self._now)
        was_silent = controller.silent
        controller.silent = good_until is not None and NEVER_HEARD_LIVE < good_until <= self._now
        if controller.silent and not was_silent:
            self._log(Level.WARNING, f"{controller.name}: no sign of life in a call; its microphone is unknown now")

    # --- events

    def _take(self, event: Event) -> None:  # noqa: C901, PLR0912 -- the table of events: one line each
        """Take in what `event` says; `TimeCame` says nothing more than its moment."""
        match event:
            case MutePressed() | MuteReleased() | MuteToggled() | MuteSwitched() | MuteAsked():
                self._gesture(event)
            case HookChanged() | RejectPressed():
                self._hook_gesture(event)
            case MicStateChanged():
                self._mic_state_changed(event)
            case CommandAnswered():
                self._command_answered(event)
            case CallStateChanged():
                self._call_state_changed(event)
            case AvailabilityChanged():
                self._availability_changed(event)
            case DeviceAttached():
                self._device_attached(event.device)
            case DeviceDetached():
                self._device_detached(event)
            case BrokerUp():
                self._broker_came_up()
            case BrokerLost():
                self._broker_lost()
            case OwnAvailabilitySeen():
                if not event.online and self._broker_up:
                    self._rest.append(PublishAvailability())
            case OwnDeviceSeen():
                if event.device_id not in self._devices:
                    self._rest.append(PublishDevice(event.device_id, None))

    # --- devices

    def _device_attached(self, device: Device) -> None:
        known = self._devices.get(device.id)
        if known is not None and known.device.press_mode is not device.press_mode:
            self._let_go(known, lost=True)
        self._devices[device.id] = (
            Attached(device, hold=known.hold, switched=known.switched) if known else Attached(device)
        )

    def _device_detached(self, event: DeviceDetached) -> None:
        attached = self._devices.pop(event.device_id, None)
        if attached is None:
            return
        self._let_go(attached, lost=True)
        if self._broker_up:
            self._rest.append(PublishDevice(event.device_id, None))

    def _gesture(self, gesture: Gesture) -> None:
        attached = self._devices.get(gesture.device_id)
        if attached is None or attached.says_nothing_new(gesture):
            return
        self._presses += 1
        press = Press(f"{self._life}.{self._presses}", gesture.device_id, gesture_name(gesture), self._now)
        match wish(attached.device.press_mode, gesture):
            case Wish.INVERT:
                self._wish(attached, press, self._inverted())
            case Wish.MUTE:
                self._wish(attached, press, muted=True)
            case Wish.LIVE:
                self._wish(attached, press, muted=False)
            case (Wish.HOLD_LIVE | Wish.HOLD_MUTE) as held:
                self._hold(attached, press, held)
            case Wish.LET_GO:
                self._let_go(attached)

    # --- presses

    def _gate(self, controller: Controller) -> str | None:
        """Why no `set_mute` may leave for this controller; None: it may."""
        if not self._broker_up:
            return "broker_down"
        if not controller.state.online:
            return "controller_offline"
        return None if controller.state.connected else "not_connected"

    def _connected(self) -> list[Controller]:
        return [c for c in self._controllers.values() if self._gate(c) is None]

    def _inverted(self) -> bool:
        """Mute, unless every connected microphone is muted, or on its way to be."""
        return not all(c.wished(self._now) for c in self._connected())

    def _wish(self, attached: Attached, press: Press, muted: bool, *, coughs: bool = False) -> list[Controller]:
        """Send what a press asks for; returns the controllers to which something was sent.

        Unless it is a cough button's, it decides anew: no cough button that is down undoes it when it is let go.
        """
        connected = self._connected()
        if not connected:
            self._ignored(attached, press, *self._why_not())
            return []
        if not coughs:
            for hold in self._coughs():
                hold.calls.clear()
        targets = to_mute(connected, self._now) if muted else self._to_unmute(connected)
        if not targets:
            self._ignored(attached, press, _ALREADY[0] if muted else _ALREADY[1])
            return []
        if not muted:
            targets = [c for c in targets if not c.clock_unknown(self._now)]
            if not targets:
                self._ignored(attached, press, "clock_unknown", "the softphone's clock is not known yet: press again")
                return []
        if muted:
            self._muted_by_last_press = {c.name: c.state.call_id for c in targets}
        attached.rejected_until = 0.0
        for controller in targets:
            self._end_standing(controller, Outcome.SUPERSEDED)
            self._send(controller, press, muted=muted)
        return targets

    def _why_not(self) -> tuple[str, str]:
        if not self._broker_up:
            return _BROKER_DOWN
        return why_none_is_connected(self._controllers.values())

    def _to_unmute(self, connected: list[Controller]) -> list[Controller]:
        muted_by_last_press = [c for c in connected if self._was_muted_by_last_press(c)]
        return to_unmute(connected, muted_by_last_press, self._now)

    def _was_muted_by_last_press(self, controller: Controller) -> bool:
        return self._muted_by_last_press.get(controller.name, ()) == controller.state.call_id

    def _hold(self, attached: Attached, press: Press, held: Wish) -> None:
        before = attached.hold.calls if attached.hold is not None else {}
        if held is Wish.HOLD_LIVE:
            targets = self._wish(attached, press, muted=False)
        else:
            for hold in self._coughs():
                before = before | hold.calls
            targets = self._wish(attached, press, muted=True, coughs=True)
        attached.hold = Hold(press, held, before | {c.name: c.state.call_id for c in targets})

    def _coughs(self) -> list[Hold]:
        """The cough buttons that are down."""
        holds = [attached.hold for attached in self._devices.values()]
        return [hold for hold in holds if hold is not None and hold.wish is Wish.HOLD_MUTE]

    def _let_go(self, attached: Attached, *, lost: bool = False) -> None:
        hold, attached.hold = attached.hold, None
        if hold is None:
            return
        press = Press(hold.press.id, attached.device.id, "lost" if lost else "release", self._now)
        if hold.wish is Wish.HOLD_LIVE:
            self._stand_up(hold, press)
        elif not lost:
            self._undo(hold, press)

    def _stand_up(self, hold: Hold, press: Press) -> None:
        """Make it a standing wish that everything be muted: what the press acted on, and what is connected now."""
        calls = hold.calls | {c.name: c.state.call_id for c in self._connected()}
        self._muted_by_last_press = calls
        for name, call_id in calls.items():
            controller = self._controllers[name]
            if controller.state.call is None or goes_on(controller.state, call_id):
                controller.standing = Standing(call_id, press, self._now)

    def _undo(self, hold: Hold, press: Press) -> None:
        """Make live again what the cough button muted, unless it is not muted any more, or another one is down."""
        still = [held for other in self._coughs() for held in other.calls.items()]
        for name, call_id in (held for held in hold.calls.items() if held not in still):
            controller = self._controllers[name]
            same = self._gate(controller) is None and controller.state.call_id == call_id
            if same and controller.wished(self._now) and not controller.clock_unknown(self._now):
                self._end_standing(controller, Outcome.SUPERSEDED)
                self._send(controller, press, muted=False)

    # --- commands

    def _send(self, controller: Controller, press: Press, *, muted: bool, standing: bool = False) -> None:
        state = controller.state
        mic_seq = state.mic.seq if state.mic is not None and not muted else None
        command = self._command(controller, press, Action.SET_MUTE, muted=muted, mic_seq=mic_seq)
        pending = Pending(
            command=command,
            press=press,
            expires=self._now + EXPIRES_AFTER_S,
            repeat_at=self._now + REPEAT_AFTER_S if muted and not standing else None,
            standing=standing,
        )
        superseded = controller.commands.sent(pending)
        self._publish(controller, pending)
        if superseded is not None:
            self._ended(controller, superseded, Outcome.SUPERSEDED)
        if not standing or not self._reported(controller):
            self._report(press, Outcome.SENT, controller=controller, command=command)

    def _command(
        self,
        controller: Controller,
        press: Press,
        action: Action,
        *,
        muted: bool | None = None,
        mic_seq: int | None = None,
    ) -> Command:
        state = controller.state
        device = self._devices.get(press.device_id)
        return Command(
            request_id=self._new_id(),
            action=action,
            muted=muted,
            call_id=state.call_id,
            epoch=state.epoch,
            mic_seq=mic_seq,
            expires_at=round(self._their_time_ms(state.clock) + EXPIRES_AFTER_S * 1000),
            source=Source(device=press.device_id, name=device.device.name if device else None),
        )

    def _their_time_ms(self, clock: ControllerClock) -> float:
        """What a controller's clock says now, rather too little than too much, so that nothing is carried out late."""
        offset_ms = clock.offset_ms(self._now)
        if offset_ms is not None:
            return self._now * 1000 - offset_ms
        if clock.newest_at_ms is not None:
            return clock.newest_at_ms
        return self._unix_ms

    def _reported(self, controller: Controller) -> bool:
        """Whether this standing wish was reported as sent already; it is from now on."""
        assert controller.standing is not None
        reported, controller.standing.reported = controller.standing.reported, True
        return reported

    def _publish(self, controller: Controller, pending: Pending | HookPending) -> None:
        expiry_s = max(1, int(pending.expires - self._now))
        self._commands.append(PublishCommand(controller.name, pending.command, expiry_s))

    def _ended(
        self,
        controller: Controller,
        pending: Pending,
        outcome: Outcome,
        reason: str | None = None,
        detail: str | None = None,
    ) -> None:
        """Tell what became of a command. Of the many commands of a standing wish only the end is told."""
        if pending.standing and controller.goes_untold(outcome):
            return
        self._report(pending.press, outcome, reason, detail, controller=controller, command=pending.command)
        if outcome in (Outcome.REJECTED, Outcome.TIMED_OUT):
            self._failed(controller, pending.press, "muting" if pending.wish else "unmuting", outcome, reason, detail)

    def _failed(
        self,
        controller: Controller,
        press: Press,
        what: str,
        outcome: Outcome,
        reason: str | None,
        detail: str | None,
    ) -> None:
        attached = self._devices.get(press.device_id)
        if attached is not None:
            attached.rejected_until = self._now + REJECTED_SHOWN_S
        said = f": {detail}" if detail else ""
        self._log(Level.WARNING, f"{controller.name}: {what} {outcome.value.replace('_', ' ')}, {reason}{said}")

    # --- the hook switch

    def _hook_gesture(self, gesture: HookGesture) -> None:
        attached = self._devices.get(gesture.device_id)
        if attached is None or not attached.device.hook_switch:
            return
        action, state = asks_for(gesture, [c.state for c in self._controllers.values()])
        if state is None and self._broker_up and isinstance(gesture, HookChanged):
            self._log(Level.DEBUG, f"{attached.device.name}: the hook switch agrees with the calls")
            return
        self._presses += 1
        press = Press(f"{self._life}.{self._presses}", gesture.device_id, action.value, self._now)
        if not self._broker_up:
            self._ignored(attached, press, *_BROKER_DOWN)
        elif state is None:
            self._ignored(attached, press, "not_ringing", "no call rings any more")
        elif state.call_id is None:
            self._ignored(attached, press, "no_call_id", "the softphone does not say which call it is")
        elif self._controllers[state.name].clock_unknown(self._now):
            self._ignored(attached, press, "clock_unknown", "the softphone's clock is not known yet: press again")
        else:
            attached.rejected_until = 0.0
            self._send_hook(self._controllers[state.name], press, action)

    def _send_hook(self, controller: Controller, press: Press, action: Action) -> None:
        command = self._command(controller, press, action)
        pending = HookPending(command=command, press=press, expires=self._now + EXPIRES_AFTER_S)
        superseded = controller.hook.sent(pending)
        self._publish(controller, pending)
        if superseded is not None:
            self._hook_ended(controller, superseded, Outcome.SUPERSEDED)
        self._report(press, Outcome.SENT, controller=controller, command=command)

    def _hook_ended(
        self,
        controller: Controller,
        pending: HookPending,
        outcome: Outcome,
        reason: str | None = None,
        detail: str | None = None,
    ) -> None:
        self._report(pending.press, outcome, reason, detail, controller=controller, command=pending.command)
        if outcome in (Outcome.REJECTED, Outcome.TIMED_OUT):
            self._failed(controller, pending.press, _HOOK_WORDS[pending.command.action], outcome, reason, detail)

    # --- standing wishes

    def _stand(self, controller: Controller) -> None:
        """Follow a standing wish: to its end, or with a fresh command when one is due and may leave."""
        standing = controller.standing
        if standing is None or self._gate(controller) is not None:
            return
        if controller.muted(self._now):
            self._end_standing(controller, None)
        elif self._now >= standing.next_at:
            standing.next_at = self._now + STANDING_EVERY_S
            self._send(controller, standing.press, muted=True, standing=True)

    def _end_standing(self, controller: Controller, outcome: Outcome | None, reason: str | None = None) -> None:
        standing, controller.standing = controller.standing, None
        if standing is not None and outcome is not None and standing.reported:
            self._report(standing.press, outcome, reason, controller=controller)

    # --- what controllers say

    def _controller(self, name: str) -> Controller | None:
        known = self._controllers.get(name)
        if known is not None:
            return known
        if len(self._controllers) < MAX_CONTROLLERS:
            return self._controllers.setdefault(name, Controller(name))
        if not self._too_many_said:
            self._too_many_said = True
            self._log(Level.ERROR, f"more than {MAX_CONTROLLERS} controllers for one station; {name} is not heard")
        return None

    def _availability_changed(self, event: AvailabilityChanged) -> None:
        controller = self._controller(event.controller)
        if controller is None or self._unreadable(controller, "availability", event.online):
            return
        assert not isinstance(event.online, Unreadable)
        before = controller.state.online
        controller.state.take_online(event.online)
        if controller.state.online is not before:
            self._log(Level.INFO, f"{controller.name}: {'online' if controller.state.online else 'offline'}")

    def _call_state_changed(self, event: CallStateChanged) -> None:
        controller = self._controller(event.controller)
        if controller is None:
            return
        state = controller.state
        if self._unreadable(controller, "call", event.call):
            state.call_cannot_be_read()
            return
        assert not isinstance(event.call, Unreadable)
        mic = state.mic
        if event.call is None:
            state.delete_call()
        elif not state.take_call(event.call, self._now, retained=event.retained):
            return
        elif state.epoch != controller.life:
            controller.life = state.epoch
            controller.commands.new_epoch()
            controller.hook.new_epoch()
        if state.mic is not None and state.mic is not mic:  # one that waited for this call
            self._mic_known(controller, state.mic, None)
        hook = controller.hook.call_arrived(state.call)
        if hook is not None:
            self._hook_ended(controller, hook, Outcome.CONFIRMED)
        standing = controller.standing
        if standing is not None and not standing.goes_on(state):
            self._end_standing(controller, Outcome.TIMED_OUT, "call_ended")

    def _mic_state_changed(self, event: MicStateChanged) -> None:
        controller = self._controller(event.controller)
        if controller is None:
            return
        if self._unreadable(controller, "mic", event.mic) or event.mic is None:
            controller.state.forget_mic()
            return
        assert not isinstance(event.mic, Unreadable)
        before = controller.state.mic
        if not controller.state.take_mic(event.mic, self._now, retained=event.retained):
            return
        self._mic_known(controller, event.mic, before)

    def _mic_known(self, controller: Controller, mic: Mic, before: Mic | None) -> None:
        """Take what the microphone of the current call does, `before` being what was known until now."""
        known = before.muted if before is not None else None
        if known and not mic.muted and not controller.wished(self._now):  # whatever mutes it next, that press did not
            self._muted_by_last_press.pop(controller.name, None)
        ended = controller.commands.mic_arrived(mic, known, self._now)
        if ended is not None:
            self._answered_by_mic(controller, ended, muted=mic.muted)
        elif known is not mic.muted and not controller.commands.is_ours(mic.request_id):
            self._changed_by_hand(controller)

    def _answered_by_mic(self, controller: Controller, ended: Pending, *, muted: bool) -> None:
        if ended.wish is muted:
            self._ended(controller, ended, Outcome.CONFIRMED)
        else:
            word = "muted" if muted else "live"
            self._ended(controller, ended, Outcome.REJECTED, "failed", f"the microphone is {word} after the command")

    def _changed_by_hand(self, controller: Controller) -> None:
        """Let the person's own hand on the page win over a cough button that is down."""
        for hold in self._coughs():
            hold.calls.pop(controller.name, None)

    def _command_answered(self, event: CommandAnswered) -> None:
        controller = self._controller(event.controller)
        if controller is None or self._unreadable(controller, "result", event.result):
            return
        assert not isinstance(event.result, Unreadable)
        result = event.result
        hook = controller.hook.result_arrived(result)
        if hook is not None:
            self._hook_answered(controller, hook, result)
            return
        mic = controller.state.mic
        ended = controller.commands.result_arrived(result, mic.muted if mic is not None else None)
        if ended is None:
            return
        if result.ok:
            self._ended(controller, ended, Outcome.CONFIRMED)
            return
        self._ended(controller, ended, Outcome.REJECTED, *refusal(result, MUTE_ADVICE))
        if controller.standing is not None and ended.standing:
            controller.standing.next_at = self._now + STANDING_REFUSED_EVERY_S
            controller.standing.refused = True

    def _hook_answered(self, controller: Controller, hook: HookPending, result: Result) -> None:
        if result.ok:
            self._hook_ended(controller, hook, Outcome.CONFIRMED)
        else:
            self._hook_ended(controller, hook, Outcome.REJECTED, *refusal(result, HOOK_ADVICE))

    def _unreadable(self, controller: Controller, leaf: str, said: object) -> bool:
        """Whether the payload could not be read: counted, logged once until one can be read again."""
        count = controller.unreadable.pop(leaf, 0)
        if isinstance(said, Unreadable):
            controller.unreadable[leaf] = count + 1
            if not count:
                self._log(Level.WARNING, said.problem)
            return True
        if count:
            self._log(Level.INFO, f"{controller.name}: {leaf} can be read again after {count} that could not")
        return False

    # --- the broker

    def _broker_came_up(self) -> None:
        self._broker_up = True
        for attached in self._devices.values():
            self._rest.append(PublishDevice(attached.device.id, attached.described()))

    def _broker_lost(self) -> None:
        self._broker_up = False
        for controller in self._controllers.values():
            controller.state.broker_lost()

    # --- what is shown and told

    def _write_lights(self) -> list[BridgeAction]:
        connected = [c for c in self._controllers.values() if self._broker_up]
        connected.sort(key=lambda c: c.pending.press.at if c.pending else 0.0)
        shown = lights(
            [
                Line(
                    call=c.state.call_state,
                    call_unreadable=c.state.call_unreadable,
                    muted=c.muted(self._now),
                    pending=c.pending.wish if c.pending else None,
                    may_be_live=c.may_be_live(self._now),
                )
                for c in connected
            ]
        )
        writes: list[BridgeAction] = []
        for attached in self._devices.values():
            rejected = attached.rejected_until > self._now
            wanted = msgspec.structs.replace(shown, rejected=True) if rejected else shown
            if wanted != attached.told:
                attached.told = wanted
                writes.append(WriteLights(attached.device.id, wanted))
                if self._broker_up:
                    self._rest.append(PublishDevice(attached.device.id, attached.described()))
        return writes

    def _in_order(self, writes: list[BridgeAction]) -> list[BridgeAction]:
        unmutes = any(isinstance(a, PublishCommand) and _may_unmute(a.command) for a in self._commands)
        first, second = (writes, self._commands) if unmutes else (self._commands, writes)
        return first + second + self._rest

    def _ignored(self, attached: Attached, press: Press, reason: str, detail: str | None = None) -> None:
        self._report(press, Outcome.IGNORED, reason, detail)
        if reason not in _ALREADY:
            attached.rejected_until = self._now + REJECTED_SHOWN_S
        self._log(Level.INFO, f"{attached.device.name}: press ignored, {reason}{f': {detail}' if detail else ''}")

    def _report(
        self,
        press: Press,
        outcome: Outcome,
        reason: str | None = None,
        detail: str | None = None,
        *,
        controller: Controller | None = None,
        command: Command | None = None,
    ) -> None:
        if not self._broker_up:
            return
        event = PressEvent(
            press=press.id,
            device=press.device_id,
            gesture=press.gesture,
            outcome=outcome,
            reason=reason,
            detail=detail,
            controller=controller.name if controller else None,
            request_id=command.request_id if command else None,
            muted=command.muted if command else None,
            latency_ms=round((self._now - press.at) * 1000, 3) if outcome is not Outcome.SENT else None,
        )
        self._rest.append(PublishPressEvent(event))

    def _log(self, level: Level, message: str) -> None:
        self._rest.append(Log(level, message))


def _may_unmute(command: Command) -> bool:
    """Whether a microphone may be live once it is carried out."""
    return command.muted is False or command.action is Action.ANSWER
