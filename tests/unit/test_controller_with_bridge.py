"""The bridge's side and the controller's side, each as it is, understand each other.

Between them lies a network that keeps the order, delays, and loses commands (QoS 0). Nobody else touches the
microphone, so what the light shows can be held against the truth at every moment.
"""

import itertools
from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutebridge.controller.protocol import Clock, ControllerProtocol, Effect, Perform
from mutebridge.core.bridge import Bridge
from mutebridge.core.contract import Action, CallState, Command, Topics, encode
from mutebridge.core.events import (
    BrokerLost,
    BrokerUp,
    Device,
    DeviceAttached,
    Event,
    MuteToggled,
    PublishCommand,
    PublishPressEvent,
    TimeCame,
    WriteLights,
)
from mutebridge.core.lights import MicLight
from mutebridge.core.messages import event_of

TOPICS = Topics("desk")
STEP_S = 0.01


class World:
    """Two clocks that have nothing to do with each other, a softphone that takes its time, one button."""

    def __init__(self, delay_s: float, softphone_s: float) -> None:
        self.now = 1000.0
        self.delay_s = delay_s
        self.softphone_s = softphone_s
        ids = itertools.count()
        self.bridge = Bridge(lambda: f"r{next(ids)}")
        self.controller = ControllerProtocol(
            "desk", "phone", epoch="e", clock=Clock(wall_ms=5e11, monotonic_s=0.0), prefix=TOPICS.prefix
        )
        self.to_bridge: deque[tuple[float, str, bytes]] = deque()
        self.to_controller: deque[tuple[float, str, bytes]] = deque()
        self.doing: deque[tuple[float, Command]] = deque()
        self.lose = 0
        self.up = True
        self.muted = False
        self.light = MicLight.OFF
        self.outcomes: list[tuple[str, bool | None]] = []
        self.acted: list[bool] = []
        self.tell(DeviceAttached(Device(id="button", name="Button", kind="serial")))
        self.tell(BrokerUp())
        self.said(self.controller.connected(self.now))
        self.said(self.controller.call_changed(CallState.CONNECTED, "c", self.now))
        self.said(self.controller.mic_changed(False, self.now))
        self.sleep(1)

    def tell(self, event: Event) -> None:
        for action in self.bridge.handle(event, self.now, 1e12 + self.now * 1000):
            if isinstance(action, PublishCommand):
                if self.lose:
                    self.lose -= 1
                else:
                    topic = TOPICS.controller(action.controller, "command")
                    self.to_controller.append((self.now + self.delay_s, topic, encode(action.command)))
            elif isinstance(action, PublishPressEvent):
                self.outcomes.append((action.event.outcome.value, action.event.muted))
            elif isinstance(action, WriteLights):
                self.light = action.lights.mic

    def said(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Perform):
                self.doing.append((self.now + self.softphone_s, effect.command))
            else:
                self.to_bridge.append((self.now + self.delay_s, effect.topic, effect.payload))

    def step(self) -> None:
        self.now += STEP_S
        while self.to_bridge and self.to_bridge[0][0] <= self.now:
            _, topic, payload = self.to_bridge.popleft()
            event = event_of(TOPICS, topic, payload, retained=False)
            if event:
                self.tell(event)
        while self.to_controller and self.to_controller[0][0] <= self.now:
            _, topic, payload = self.to_controller.popleft()
            self.said(self.controller.received(topic, payload, self.now))
        if self.controller.ready:
            self.said(self.controller.begin(self.now))
        while self.doing and self.doing[0][0] <= self.now:
            self.obey(self.doing.popleft()[1])
        self.said(self.controller.time_came(self.now))
        self.tell(TimeCame())
        # No hand is on the page: there is no moment at which a lit lamp may be wrong.
        assert self.light is not MicLight.MUTED or self.muted

    def obey(self, command: Command) -> None:
        assert command.action is Action.SET_MUTE
        assert command.muted is not None
        if self.controller.call_state is CallState.CONNECTED and command.muted != self.muted:
            self.muted = command.muted
            self.acted.append(self.muted)
            self.said(self.controller.mic_changed(self.muted, self.now))
        self.said(self.controller.performed(self.now))

    def sleep(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP_S)):
            self.step()

    def press(self) -> None:
        self.tell(MuteToggled("button"))

    def do(self, step: str) -> None:
        match step:
            case "press":
                self.press()
            case "lose":
                self.lose += 1
            case "wait":
                self.sleep(0.13)
            case "long":
                self.sleep(2.1)
            case "hold" | "resume":
                state = CallState.HELD if step == "hold" else CallState.CONNECTED
                self.said(self.controller.call_changed(state, "c", self.now))
            case "down" | "up" if self.up != (step == "up"):
                self.up = not self.up
                self.tell(BrokerUp() if self.up else BrokerLost())

    def confirmed(self) -> list[bool | None]:
        return [muted for outcome, muted in self.outcomes if outcome == "confirmed"]


@pytest.mark.parametrize("presses", range(1, 6))
def test_each_press_turns_the_microphone(presses: int) -> None:
    world = World(delay_s=0.01, softphone_s=0.01)
    for _ in range(presses):
        world.press()
        world.sleep(1)
    assert world.confirmed() == world.acted == [number % 2 == 0 for number in range(presses)]
    assert world.light is (MicLight.MUTED if world.muted else MicLight.LIVE)


def test_push_and_pull_faster_than_the_softphone_ends_where_the_last_press_put_it() -> None:
    world = World(delay_s=0.03, softphone_s=0.3)
    for _ in range(5):
        world.press()
        world.sleep(0.05)
    world.sleep(3)
    assert world.muted is True
    assert world.light is MicLight.MUTED
    assert world.confirmed()[-1] is True


def test_a_lost_mute_is_repeated_and_a_lost_unmute_is_not() -> None:
    world = World(delay_s=0.01, softphone_s=0.01)
    world.lose = 1
    world.press()
    world.sleep(1.5)
    assert (world.acted, world.light) == ([True], MicLight.MUTED)
    world.lose = 1
    world.press()
    world.sleep(3)
    assert world.acted == [True]
    assert world.light is MicLight.UNKNOWN  # until the softphone speaks again, as it does with its next heartbeat
    world.press()
    world.sleep(1)
    assert world.confirmed()[-1] is True


@settings(max_examples=60, deadline=None)
@given(
    delay_s=st.sampled_from([0.0, 0.02, 0.2, 0.7]),
    softphone_s=st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.5]),
    steps=st.lists(
        st.sampled_from(["press", "press", "press", "lose", "wait", "wait", "long", "hold", "resume", "down", "up"]),
        max_size=25,
    ),
)
def test_the_light_never_lies_and_the_last_confirmed_press_counts(
    delay_s: float, softphone_s: float, steps: list[str]
) -> None:
    world = World(delay_s, softphone_s)
    for step in steps:
        world.do(step)
    world.do("up")
    world.lose = 0
    world.said(world.controller.call_changed(CallState.CONNECTED, "c", world.now))
    world.said(world.controller.received(TOPICS.bridge_availability, b"online", world.now))
    world.sleep(15)
    acted = len(world.acted)
    world.press()
    world.sleep(5)
    if softphone_s < 1 and 2 * delay_s + softphone_s < 2:
        assert world.confirmed()[-1] == world.muted
        assert world.light is (MicLight.MUTED if world.muted else MicLight.LIVE)
    assert len(world.acted) <= acted + 1
