"""A small world around the bridge: softphones that keep the contract, a broker, a network that loses and delays, time.

Everything that the promises speak of is watched from outside, by the truth of the softphones and not by what the bridge
believes. Whoever plays with it may do anything at any time; `World` raises AssertionError when a promise is broken.
"""

import itertools
from collections import deque

from mutebridge.core.bridge import EXPIRES_AFTER_S, Bridge
from mutebridge.core.contract import Action, Call, CallState, Command, CommandError, Mic, Outcome, Result
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
    MicStateChanged,
    MutePressed,
    MuteReleased,
    MuteSwitched,
    MuteToggled,
    OwnAvailabilitySeen,
    PressMode,
    PublishCommand,
    PublishPressEvent,
    RejectPressed,
    TimeCame,
    WriteLights,
)
from mutebridge.core.lights import Lights, MicLight

HEARTBEAT_S = 5.0
CUT_OFF_S = 2.5 * HEARTBEAT_S
GESTURES = (MutePressed, MuteReleased, MuteToggled, MuteSwitched)
# What a hook gesture may lead to, and in which call states.
HOOK_GESTURES = {
    "off-hook": (Action.ANSWER, {CallState.RINGING}),
    "on-hook": (Action.HANG_UP, {CallState.CONNECTED, CallState.DIALING}),
    "reject": (Action.HANG_UP, {CallState.RINGING}),
}
LIVE_CALL = {CallState.RINGING, CallState.DIALING, CallState.CONNECTED, CallState.HELD}


class Softphone:
    """A session controller that keeps the contract, its microphone, and what of it is under way to the bridge."""

    def __init__(self, world: "World", name: str, ahead_ms: float) -> None:
        self.world = world
        self.name = name
        self.ahead_ms = ahead_ms
        self.lives = 0
        self.calls = 0
        self.state = CallState.DISCONNECTED
        self.muted = False
        self.online = False
        self.reachable = True
        self.retained: dict[str, Event] = {}
        self.to_bridge: deque[Event] = deque()
        self.commands: list[Command] = []
        self.delivered: list[Event] = []
        self.start()

    # --- what happens to it

    def start(self) -> None:
        self.lives += 1
        self.epoch = f"{self.name}-{self.lives}"
        self.seq = 0
        self.hand_seq = self.last_mic_seq = self.last_call_seq = 0
        self.heard_mic: int | None = None
        self.heard_call: int | None = None
        self.heard_online = True
        self.answers: dict[str, Result] = {}
        self.not_heard_of = (self.world.now, "start") if self.is_live else None
        self.next_heartbeat = self.world.now
        self.say_everything()

    def crash(self) -> None:
        """Its will is published by the broker; the call ends with it."""
        self.state = CallState.DISCONNECTED
        self.publish("availability", AvailabilityChanged(self.name, online=False))

    def reconnect(self) -> None:
        """Come back after a cut: the late will of the dead connection, then all that there is to say."""
        self.publish("availability", AvailabilityChanged(self.name, online=False))
        self.say_everything()

    @property
    def is_live(self) -> bool:
        return self.state is CallState.CONNECTED and not self.muted

    def change_call(self, state: CallState, *, new: bool = False) -> None:
        self.calls += new
        was_live = self.is_live
        self.state = state
        if new:
            self.muted = False
        self.changed(was_live, "call")
        self.say_call()
        self.say_mic()

    def change_by_hand(self, *, muted: bool) -> None:
        was_live, changed = self.is_live, self.muted != muted
        self.muted = muted
        self.changed(was_live, "hand")
        self.say_mic()
        if changed:
            self.hand_seq = self.seq

    def changed(self, was_live: bool, why: str) -> None:
        if self.is_live and not was_live:
            self.not_heard_of = (self.world.now, why)
        elif not self.is_live:
            self.not_heard_of = None

    def take(self, command: Command) -> None:
        """Act on a command as the contract asks: gate, idempotence, expiry, results."""
        result = self.answers.get(command.request_id)
        if result is None:
            error = self.why_not(command)
            result = Result(request_id=command.request_id, ok=error is None, error=error)
            self.answers[command.request_id] = result
            if error is None:
                self.act(command)
        self.publish("result", CommandAnswered(self.name, result))

    def act(self, command: Command) -> None:
        late_s = self.world.now - self.world.pressed_at[command.request_id]
        assert late_s <= EXPIRES_AFTER_S + 0.001, f"promise 4: {command.request_id} acts {late_s} s late"
        if command.action is Action.SET_MUTE:
            self.set_mute(command)
            return
        was_live = self.is_live
        self.state = CallState.CONNECTED if command.action is Action.ANSWER else CallState.DISCONNECTED
        self.changed(was_live, "command")
        self.say_call()
        self.say_mic(command.request_id)

    def set_mute(self, command: Command) -> None:
        assert command.muted is not None
        if not command.muted:
            known = self.world.known_mic[command.request_id]
            assert known is not None, "an unmute of a microphone that was never heard of"
            assert known >= self.hand_seq, "the person's own hand on the page was newer"
        was_live = self.is_live
        self.muted = command.muted
        # In a call of which the bridge has not heard yet, that is what it cannot know.
        self.changed(was_live, "command" if self.heard_call == self.last_call_seq else "call")
        self.say_mic(command.request_id)

    def why_not(self, command: Command) -> CommandError | None:
        if self.clock_ms() > command.expires_at:
            return CommandError.EXPIRED
        if (command.epoch, command.call_id) != (self.epoch, self.call_id):
            return CommandError.STALE
        if command.action is not Action.SET_MUTE:
            states = {CallState.RINGING} if command.action is Action.ANSWER else LIVE_CALL
            return None if self.state in states else CommandError.NOT_CONNECTED
        if self.state is not CallState.CONNECTED:
            return CommandError.NOT_CONNECTED
        if not command.muted and (command.mic_seq is None or command.mic_seq < self.hand_seq):
            return CommandError.STALE
        return None

    # --- what it says

    @property
    def call_id(self) -> str:
        return f"call-{self.calls}"

    def clock_ms(self) -> float:
        return self.world.now * 1000 + self.ahead_ms

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def say_call(self) -> None:
        call = Call(
            state=self.state,
            call_id=self.call_id,
            epoch=self.epoch,
            seq=self.next_seq(),
            at=self.clock_ms(),
            heartbeat_s=HEARTBEAT_S,
        )
        self.last_call_seq = self.seq
        self.publish("call", CallStateChanged(self.name, call))

    def say_mic(self, request_id: str | None = None) -> None:
        mic = Mic(
            muted=self.muted,
            call_id=self.call_id,
            epoch=self.epoch,
            seq=self.next_seq(),
            at=self.clock_ms(),
            request_id=request_id,
        )
        self.last_mic_seq = self.seq
        self.next_heartbeat = self.world.now + HEARTBEAT_S
        self.publish("mic", MicStateChanged(self.name, mic))

    def say_everything(self) -> None:
        self.say_mic()
        self.say_call()
        self.publish("availability", AvailabilityChanged(self.name, online=True))

    def publish(self, leaf: str, event: Event) -> None:
        """Hand over to the broker, which keeps the last of each but results and passes it on when it can."""
        if not self.reachable:
            return
        if leaf != "result":
            self.retained[leaf] = event
        if self.world.broker_up:
            self.to_bridge.append(event)

    def heard(self, event: Event) -> None:
        """Note what the bridge has heard; `offline` makes it forget, as the contract says."""
        match event:
            case MicStateChanged(mic=Mic(epoch=self.epoch, seq=seq)):
                self.heard_mic = seq
            case CallStateChanged(call=Call(epoch=self.epoch, seq=seq)):
                self.heard_call = seq
            case AvailabilityChanged():
                self.heard_online = event.online is not False
                if event.online is False:
                    self.bridge_forgot()

    def bridge_forgot(self) -> None:
        self.heard_mic = self.heard_call = None
        if self.not_heard_of is not None:
            self.not_heard_of = (self.world.now, "forgotten")

    @property
    def is_heard(self) -> bool:
        """Whether the last that it said of its call and its microphone has arrived."""
        latest = (self.heard_mic, self.heard_call) == (self.last_mic_seq, self.last_call_seq)
        return self.heard_online and latest


class World:
    def __init__(self) -> None:
        ids = (f"id{n}" for n in itertools.count())
        self.now = 100.0
        self.bridge = Bridge(lambda: next(ids))
        self.broker_up = False
        self.devices: dict[str, PressMode] = {}
        self.forwarding: set[str] = set()  # the devices whose hook switch is
        self.told: dict[str, Lights] = {}
        self.pressed_at: dict[str, float] = {}
        self.known_mic: dict[str, int | None] = {}
        self.outcomes: list[tuple[str, Outcome]] = []
        self.confirmed: list[bool] = []
        self.commands: list[tuple[str, Command]] = []
        # What the bridge was told last, by softphone.
        self.last_online: dict[str, bool] = {}
        self.last_call: dict[str, CallState] = {}
        self.newest_call: dict[str, Event] = {}
        self.softphones = {name: Softphone(self, name, ahead) for name, ahead in (("desk", 5e6), ("page", -3e4))}

    # --- time

    def advance(self, seconds: float) -> None:
        """Let time pass: whatever is due happens at its own moment."""
        end = self.now + seconds
        while True:
            beats = [s.next_heartbeat for s in self.softphones.values() if s.state is CallState.CONNECTED]
            wake = [self.bridge.wake_at] if self.bridge.wake_at is not None else []
            due = min([*beats, *wake, end])
            self.now = max(self.now, due)
            if wake and wake[0] <= self.now:
                self.feed(TimeCame())
                assert self.bridge.wake_at is None or self.bridge.wake_at > self.now, "it would never sleep again"
            for softphone in self.softphones.values():
                if softphone.state is CallState.CONNECTED and softphone.next_heartbeat <= self.now:
                    softphone.say_mic()
            if due >= end:
                self.check_lights()
                return

    # --- the network

    def connect(self) -> None:
        self.broker_up = True
        self.feed(BrokerUp())
        self.deliver_retained()
        for softphone in self.softphones.values():
            softphone.say_everything()

    def deliver_retained(self) -> None:
        """In the order of the subscriptions, so that every call is known before any microphone."""
        for leaf in ("availability", "call", "mic"):
            for softphone in self.softphones.values():
                if leaf in softphone.retained:
                    event = _retained(softphone.retained[leaf])
                    softphone.heard(event)
                    self.note(softphone, event)
                    self.feed(event)

    def disconnect(self) -> None:
        self.broker_up = False
        for softphone in self.softphones.values():
            softphone.to_bridge.clear()
        self.feed(BrokerLost("test"))

    def deliver_one(self, softphone: Softphone) -> None:
        if softphone.to_bridge:
            event = softphone.to_bridge.popleft()
            if isinstance(event, CallStateChanged | MicStateChanged):
                softphone.delivered.append(event)
            softphone.heard(event)
            self.note(softphone, event)
            self.feed(event)

    def deliver_again(self, softphone: Softphone, which: int) -> None:
        """Something that it said before arrives once more: what it said last counts, what is older does not."""
        if not self.broker_up or not softphone.delivered:
            return
        event = softphone.delivered[which % len(softphone.delivered)]
        newest = self.newest_call.get(softphone.name)  # it may be the retained copy of the same message
        if isinstance(event, CallStateChanged) and isinstance(newest, CallStateChanged) and event.call == newest.call:
            self.note(softphone, event)
        self.feed(event)

    def deliver_all(self) -> None:
        for softphone in self.softphones.values():
            while softphone.commands or softphone.to_bridge:
                if softphone.commands:
                    softphone.take(softphone.commands.pop(0))
                self.deliver_one(softphone)

    def note(self, softphone: Softphone, event: Event) -> None:
        if isinstance(event, AvailabilityChanged):
            self.last_online[softphone.name] = event.online is not False
            if event.online is False:
                self.last_call.pop(softphone.name, None)
        elif isinstance(event, CallStateChanged) and isinstance(event.call, Call):
            self.last_call[softphone.name] = event.call.state
            self.newest_call[softphone.name] = event

    # --- the bridge

    def feed(self, event: Event) -> None:
        if isinstance(event, BrokerLost):
            self.last_online.clear()
            self.last_call.clear()
            for softphone in self.softphones.values():
                softphone.bridge_forgot()
                softphone.heard_online = True
        if isinstance(event, DeviceDetached):
            self.told.pop(event.device_id, None)
        actions = self.bridge.handle(event, self.now, self.now * 1000)
        self.check_hook(event, [action for action in actions if isinstance(action, PublishCommand)])
        for action in actions:
            self.carry_out(event, action)
        self.check_lights()

    def carry_out(self, event: Event, action: BridgeAction) -> None:
        match action:
            case PublishCommand():
                self.check_gate(action)
                self.check_cause(event, action.command)
                if action.command.muted is False or action.command.action is Action.ANSWER:
                    lit = [light for light in self.told.values() if light.mic is MicLight.MUTED]
                    assert not lit, "promise 2: a light is on while an unmute or an answer leaves"
                self.pressed_at.setdefault(action.command.request_id, self.now)
                self.known_mic.setdefault(action.command.request_id, self.softphones[action.controller].heard_mic)
                self.commands.append((action.controller, action.command))
                if self.softphones[action.controller].reachable:
                    self.softphones[action.controller].commands.append(action.command)
            case WriteLights():
                assert action.device_id in self.devices
                assert self.told.get(action.device_id) != action.lights, "written although it was told already"
                self.told[action.device_id] = action.lights
            case PublishPressEvent():
                self.note_outcome(action)

    def note_outcome(self, action: PublishPressEvent) -> None:
        event = action.event
        if event.request_id is None or event.outcome is Outcome.SENT:
            return
        ended = [outcome for request, outcome in self.outcomes if request == event.request_id]
        assert not ended, f"{event.request_id} ended twice: {ended}, {event.outcome}"
        self.outcomes.append((event.request_id, event.outcome))
        if event.outcome is Outcome.CONFIRMED and event.muted is not None:
            self.confirmed.append(event.muted)

    def check_gate(self, action: PublishCommand) -> None:
        name = action.controller
        assert self.broker_up, "promise 1: the broker is down"
        assert self.last_online.get(name, True), "promise 1: the softphone is offline"
        if action.command.action is Action.SET_MUTE:
            assert self.last_call.get(name) is CallState.CONNECTED, "promise 1: its call is not connected"

    def check_hook(self, event: Event, commands: list[PublishCommand]) -> None:
        """Nothing answers or hangs up but a hook gesture, once, where it is forwarded and in its call states."""
        hook = [sent for sent in commands if sent.command.action is not Action.SET_MUTE]
        if not hook:
            return
        assert isinstance(event, HookChanged | RejectPressed), f"{event} led to {hook}"
        assert event.device_id in self.forwarding & set(self.devices), f"{event} is not forwarded"
        (sent,) = hook
        name = "reject" if isinstance(event, RejectPressed) else "off-hook" if event.off_hook else "on-hook"
        action, states = HOOK_GESTURES[name]
        assert sent.command.action is action
        assert self.last_call.get(sent.controller) in states, f"{name} led to {sent}"
        assert sent.command.call_id is not None
        assert sent.command.request_id not in self.pressed_at, "it is never repeated"

    def check_cause(self, event: Event, command: Command) -> None:
        if command.action is not Action.SET_MUTE:
            return
        by_hand = isinstance(event, GESTURES) and not (isinstance(event, MuteSwitched) and event.baseline)
        assert command.muted or by_hand, f"promise 5: {event} led to an unmute"

    def check_lights(self) -> None:
        if not any(light.mic is MicLight.MUTED for light in self.told.values()):
            return
        for softphone in self.softphones.values():
            if not softphone.is_live or softphone.not_heard_of is None:
                continue
            since, why = softphone.not_heard_of
            assert why != "command", f"promise 2: {softphone.name} is live by our command"
            assert not softphone.is_heard, f"promise 2: {softphone.name} is live, by {why}"
            if self.bridge.wake_at is None or self.bridge.wake_at > self.now:
                # What was said just before counts as heard until its own two and a half heartbeats are over.
                assert self.now - since <= CUT_OFF_S + HEARTBEAT_S, f"promise 2: {softphone.name} is live since {since}"

    def check_at_rest(self) -> None:
        shown = {light for light in self.told.values() if not light.rejected}
        assert len(shown) <= 1, "promise 3: the lights differ"

    # --- the devices

    def attach(self, name: str, mode: PressMode) -> None:
        self.devices[name] = mode
        self.told.pop(name, None)
        device = Device(id=name, name=name, kind="test", press_mode=mode, hook_switch=name in self.forwarding)
        self.feed(DeviceAttached(device))
        assert name in self.told, "its lights are written at once"

    def detach(self, name: str) -> None:
        del self.devices[name]
        self.feed(DeviceDetached(name))

    def foreign_offline(self) -> None:
        self.feed(OwnAvailabilitySeen(online=False))


def _retained(event: Event) -> Event:
    if isinstance(event, CallStateChanged):
        return CallStateChanged(event.controller, event.call, retained=True)
    if isinstance(event, MicStateChanged):
        return MicStateChanged(event.controller, event.mic, retained=True)
    return event
