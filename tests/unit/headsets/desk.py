"""A desk in software: a headset, its session, the real bridge, a softphone; one simulated clock, no sleeping.

Time passes only in `run`. Writes reach the headset `write_s` after they were returned, one after another, as through a
device node; the softphone answers each command after `latency_s`.
"""

import heapq
import itertools
from collections.abc import Callable

from mutebridge.core.bridge import Bridge
from mutebridge.core.contract import Action, Call, CallState, Command, CommandError, Mic, Outcome, Result
from mutebridge.core.events import (
    BridgeAction,
    BrokerUp,
    CallStateChanged,
    CommandAnswered,
    Device,
    DeviceAttached,
    Event,
    MicStateChanged,
    PublishCommand,
    PublishPressEvent,
    TimeCame,
    WriteLights,
)
from mutebridge.core.handshake import HeadsetSession
from mutebridge.core.headset_profile import GENERIC, HeadsetProfile
from mutebridge.core.report_descriptor import parse
from mutebridge.core.telephony import Telephony
from mutebridge.virtual_headset import PLAIN, Firmware, VirtualHeadset, descriptor

WRITE_S = 0.001
ID = "headset"


class Desk:
    """`microphone` is the softphone's: True muted. `refuses` makes it refuse; `latency_s` is how slow it is."""

    def __init__(
        self,
        firmware: Firmware = PLAIN,
        profile: HeadsetProfile = GENERIC,
        *,
        latency_s: float = 0.02,
        write_s: float = WRITE_S,
    ) -> None:
        self.now = 0.0
        self._write_s = write_s
        self.headset = VirtualHeadset(firmware)
        telephony = Telephony.from_descriptor(parse(descriptor(firmware)), profile)
        self.session = HeadsetSession(telephony, profile, ID)
        self.latency_s = latency_s
        self.microphone = False
        self.refuses: CommandError | None = None
        self.writes_fail = False
        self.told = 0  # presses and swings of which the headset told the host
        self.events: list[Event] = []
        self.outcomes: list[Outcome] = []
        self.written: list[bytes] = []
        self.hook_commands: list[tuple[Action, CallState]] = []  # and what the call was doing as they arrived
        ids = itertools.count(1)
        self._bridge = Bridge(lambda: f"r{next(ids)}")
        self._call = Call(state=CallState.DISCONNECTED)
        self._todo: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.headset.opened(self.now)
        self._feed(BrokerUp())
        device = Device(
            id=ID, name=ID, kind="hid", press_mode=telephony.press_mode, can=telephony.can, hook_switch=True
        )
        self._feed(DeviceAttached(device))
        self.run(0.05 + write_s)

    # --- what happens at the desk

    def call(self, state: CallState, call_id: str = "a") -> None:
        self._call = Call(state=state, call_id=call_id)
        self._feed(CallStateChanged("softphone", self._call))
        self._say_mic(None)

    def connect(self, call_id: str = "a") -> None:
        """A call connects with the microphone live; nobody presses at the very moment."""
        self.microphone = False
        self.call(CallState.CONNECTED, call_id)
        self.run(0.05 + self._write_s)

    def click(self, *, muted: bool) -> None:
        """The person mutes or unmutes on the softphone's page."""
        self.microphone = muted
        self._say_mic(None)

    def press(self, after_s: float = 0.0) -> bool:
        """Press the headset's button; returns whether the headset told of it."""
        self.run(after_s)
        told = self.headset.press(self.now)
        self.told += told
        self._sent()
        return told

    def swing(self, *, up: bool) -> None:
        """Swing the boom arm."""
        self.told += self.headset.arm(self.now, up=up)
        self._sent()

    @property
    def refused(self) -> int:
        """How often the boom arm has refused to be unmuted."""
        return self.headset.refused

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while (moment := self._next()) <= end:
            self.now = max(self.now, moment)
            self._due()
        self.now = end

    # --- what was seen

    @property
    def presses(self) -> int:
        """How many presses the bridge has been told of, by what became of them first."""
        return len([outcome for outcome in self.outcomes if outcome in (Outcome.SENT, Outcome.IGNORED)])

    def muted(self) -> bool:
        return self.microphone

    def lamp(self) -> bool:
        return self.headset.host_muted

    def agrees(self) -> bool:
        """Whether microphone, lamp and the headset's own state say the same."""
        return self.microphone is self.headset.host_muted is self.headset.muted

    # --- how

    def _next(self) -> float:
        moments = [self.headset.wake_at, self.session.wake_at, self._bridge.wake_at]
        if self._todo:
            moments.append(self._todo[0][0])
        return min((moment for moment in moments if moment is not None), default=float("inf"))

    def _due(self) -> None:
        self._sent()
        if self.session.wake_at is not None and self.session.wake_at <= self.now:
            events, writes = self.session.timed(self.now)
            self._write(writes)
            for event in events:
                self._feed(event)
        if self._bridge.wake_at is not None and self._bridge.wake_at <= self.now:
            self._feed(TimeCame())
        while self._todo and self._todo[0][0] <= self.now:
            heapq.heappop(self._todo)[2]()

    def _sent(self) -> None:
        for report in self.headset.due(self.now):
            events, writes = self.session.report(report, self.now)
            self._write(writes)
            for event in events:
                self.events.append(event)
                self._feed(event)

    def _later(self, after_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._todo, (self.now + after_s, next(self._order), do))

    def _write(self, reports: list[bytes]) -> None:
        for report in reports:
            self._later(self._write_s, lambda report=report: self._arrive(report))  # type: ignore[misc]

    def _arrive(self, report: bytes) -> None:
        if not self.writes_fail:
            self.written.append(report)
            self.headset.write(report, self.now)
        self.session.written(report, self.now, ok=not self.writes_fail)

    def _feed(self, event: Event) -> None:
        for action in self._bridge.handle(event, self.now, self.now * 1000):
            self._carry_out(action)

    def _carry_out(self, action: BridgeAction) -> None:
        match action:
            case WriteLights():
                self._write(self.session.show(action.lights, self.now))
            case PublishCommand():
                self._later(self.latency_s, lambda: self._command(action.command))
            case PublishPressEvent():
                self.outcomes.append(action.event.outcome)

    def _hook_command(self, command: Command) -> None:
        self.hook_commands.append((command.action, self._call.state))
        assert command.call_id == self._call.call_id
        self.call(CallState.CONNECTED if command.action is Action.ANSWER else CallState.DISCONNECTED)
        self._feed(CommandAnswered("softphone", Result(request_id=command.request_id, ok=True)))

    def _command(self, command: Command) -> None:
        if command.action is not Action.SET_MUTE:
            self._hook_command(command)
            return
        error = self.refuses
        if self._call.state is not CallState.CONNECTED:
            error = CommandError.NOT_CONNECTED
        elif command.call_id != self._call.call_id:
            error = CommandError.STALE
        if error is not None:
            self._feed(CommandAnswered("softphone", Result(request_id=command.request_id, ok=False, error=error)))
            return
        assert command.muted is not None
        self.microphone = command.muted
        self._say_mic(command.request_id)

    def _say_mic(self, request_id: str | None) -> None:
        mic = Mic(muted=self.microphone, call_id=self._call.call_id, request_id=request_id)
        self._feed(MicStateChanged("softphone", mic))
