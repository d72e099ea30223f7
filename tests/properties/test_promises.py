"""The promises of the contract, for any sequence of events at any times (`world` says how they are watched)."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.properties.world import World

from mutebridge.core.contract import CallState, Outcome
from mutebridge.core.events import (
    CallStateChanged,
    CommandAnswered,
    HookChanged,
    MicStateChanged,
    MutePressed,
    MuteReleased,
    MuteSwitched,
    MuteToggled,
    PressMode,
    RejectPressed,
    Unreadable,
)

DEVICES = st.sampled_from(["button", "pedal", "cough", "switch"])
SOFTPHONES = st.sampled_from(["page", "page", "page", "desk"])
MOMENTS = st.sampled_from([0.001, 0.05, 0.3, 0.5, 0.999, 1.0, 1.9, 2.0, 2.1, 4.0, 12.0, 13.0])
MODES = {
    "button": PressMode.TOGGLE,
    "pedal": PressMode.PUSH_TO_TALK,
    "cough": PressMode.PUSH_TO_MUTE,
    "switch": PressMode.STATE,
}


class Promises(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.forwarding = {"button", "switch"}
        for name, mode in MODES.items():
            self.world.attach(name, mode)
        self.world.connect()
        self.world.softphones["page"].change_call(CallState.CONNECTED, new=True)
        self.world.deliver_all()

    @invariant()
    def at_rest_all_lights_are_the_same(self) -> None:
        self.world.check_at_rest()

    # --- persons

    @rule(name=DEVICES)
    def press(self, name: str) -> None:
        self.world.feed(MutePressed(name))

    @rule(name=DEVICES)
    def release(self, name: str) -> None:
        self.world.feed(MuteReleased(name))

    @rule()
    def toggle(self) -> None:
        self.world.feed(MuteToggled("button"))

    @rule(muted=st.booleans(), baseline=st.booleans())
    def switch(self, muted: bool, baseline: bool) -> None:
        self.world.feed(MuteSwitched("switch", muted, baseline))

    @rule(name=DEVICES, off_hook=st.booleans())
    def hook(self, name: str, off_hook: bool) -> None:
        self.world.feed(HookChanged(name, off_hook))

    @rule(name=DEVICES)
    def reject(self, name: str) -> None:
        self.world.feed(RejectPressed(name))

    @rule(name=SOFTPHONES, muted=st.booleans())
    def hand_on_the_page(self, name: str, muted: bool) -> None:
        self.world.softphones[name].change_by_hand(muted=muted)

    @rule(name=SOFTPHONES)
    def hand_on_the_page_twice(self, name: str) -> None:
        softphone = self.world.softphones[name]
        for muted in (True, False):
            softphone.change_by_hand(muted=muted)
            self.world.deliver_all()

    # --- devices

    @rule(name=DEVICES)
    def plug(self, name: str) -> None:
        if name in self.world.devices:
            self.world.detach(name)
        else:
            self.world.attach(name, MODES[name])

    @rule(name=DEVICES, mode=st.sampled_from(list(PressMode)))
    def reload(self, name: str, mode: PressMode) -> None:
        if name in self.world.devices:
            self.world.attach(name, mode)

    # --- calls

    @rule(name=SOFTPHONES)
    def new_connected_call(self, name: str) -> None:
        self.world.softphones[name].change_call(CallState.CONNECTED, new=True)

    @rule(name=SOFTPHONES)
    def new_ringing_call(self, name: str) -> None:
        self.world.softphones[name].change_call(CallState.RINGING, new=True)

    @rule(name=SOFTPHONES, state=st.sampled_from(list(CallState)))
    def change_call(self, name: str, state: CallState) -> None:
        self.world.softphones[name].change_call(state)

    # --- time and network

    @rule(seconds=MOMENTS)
    def time(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule()
    def deliver_everything(self) -> None:
        self.world.deliver_all()

    @rule(name=SOFTPHONES)
    def deliver_one(self, name: str) -> None:
        self.world.deliver_one(self.world.softphones[name])

    @rule(name=SOFTPHONES, which=st.integers(0, 1000))
    def deliver_again(self, name: str, which: int) -> None:
        self.world.deliver_again(self.world.softphones[name], which)

    @precondition(lambda self: any(s.commands for s in self.world.softphones.values()))
    @rule(name=SOFTPHONES, twice=st.booleans())
    def command_arrives(self, name: str, twice: bool) -> None:
        softphone = self.world.softphones[name]
        if softphone.commands:
            command = softphone.commands.pop(0)
            softphone.take(command)
            if twice:
                softphone.take(command)

    @precondition(lambda self: any(s.commands for s in self.world.softphones.values()))
    @rule(name=SOFTPHONES)
    def command_is_lost(self, name: str) -> None:
        self.world.softphones[name].commands[:1] = []

    @rule()
    def broker(self) -> None:
        if self.world.broker_up:
            self.world.disconnect()
        else:
            self.world.connect()

    @rule(name=SOFTPHONES)
    def cut_softphone_off(self, name: str) -> None:
        softphone = self.world.softphones[name]
        if softphone.reachable:
            softphone.reachable = False
            return
        softphone.reachable = True
        softphone.reconnect()

    @rule(name=SOFTPHONES)
    def restart_softphone(self, name: str) -> None:
        self.world.softphones[name].crash()
        self.world.softphones[name].start()

    @rule(name=SOFTPHONES, leaf=st.sampled_from(["call", "mic", "result"]))
    def garbage(self, name: str, leaf: str) -> None:
        said = Unreadable("garbage")
        events = {"call": CallStateChanged, "mic": MicStateChanged, "result": CommandAnswered}
        if leaf == "call":
            self.world.last_call.pop(name, None)
        self.world.feed(events[leaf](name, said))

    @rule()
    def foreign_offline(self) -> None:
        self.world.foreign_offline()

    def teardown(self) -> None:
        """Heal the network and let everything come to rest: what is let go must be muted, no command is open."""
        world = self.world
        for softphone in world.softphones.values():
            if not softphone.reachable:
                softphone.reachable = True
                softphone.reconnect()
        if not world.broker_up:
            world.connect()
        for _ in range(30):
            world.deliver_all()
            world.advance(0.5)
        lines = {light.pending for light in world.told.values()}
        assert lines <= {None}, "a command is open for ever"


TestPromises = pytest.mark.timeout(900)(Promises.TestCase)  # when it fails, it looks for a short example
TestPromises.settings = settings(
    max_examples=300, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@given(gaps=st.lists(st.sampled_from([0.0, 0.01, 0.1, 0.4, 1.2]), min_size=1, max_size=25), data=st.data())
@settings(max_examples=200, deadline=None)
def test_the_microphone_ends_where_the_confirmed_presses_put_it(gaps: list[float], data: st.DataObject) -> None:
    """Promise 7: one call, request ids, no other hand, however fast; nothing is lost, but all may be late."""
    world = World()
    world.attach("button", PressMode.TOGGLE)
    world.connect()
    page = world.softphones["page"]
    page.change_call(CallState.CONNECTED, new=True)
    world.deliver_all()
    for gap in gaps:
        world.feed(MuteToggled("button"))
        world.advance(gap)
        for _ in range(data.draw(st.integers(0, 3))):
            if page.commands:
                page.take(page.commands.pop(0))
            world.deliver_one(page)
    while page.commands or page.to_bridge:
        world.deliver_all()
    world.advance(3)
    if world.confirmed:
        assert page.muted is world.confirmed[-1]
    if all(outcome is not Outcome.TIMED_OUT for _, outcome in world.outcomes):
        assert page.muted is bool(len(gaps) % 2), "an even number of presses changes nothing, an odd one mutes"


@given(lost=st.integers(0, 12), held_s=st.sampled_from([0.0, 0.05, 0.7, 3.0]))
@settings(max_examples=60, deadline=None)
def test_letting_go_mutes_however_many_commands_are_lost(lost: int, held_s: float) -> None:
    world = World()
    world.attach("pedal", PressMode.PUSH_TO_TALK)
    world.connect()
    page = world.softphones["page"]
    page.change_call(CallState.CONNECTED, new=True)
    page.change_by_hand(muted=True)
    world.deliver_all()
    world.feed(MutePressed("pedal"))
    page.take(page.commands.pop(0))
    world.advance(held_s)
    world.feed(MuteReleased("pedal"))
    for _ in range(lost):
        page.commands.clear()
        world.advance(0.5)
    assert page.is_live
    world.advance(0.6)
    world.deliver_all()
    assert page.muted
    world.advance(0.6)
    world.deliver_all()
    assert not page.commands, "it stands no longer"
