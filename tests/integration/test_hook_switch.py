"""A hook switch at one end of a real broker, a softphone at the other."""

import itertools
import queue
import threading
import time

import pytest
from tests.integration.mosquitto import Mosquitto

from mutebridge.controller import SessionController
from mutebridge.core import contract, messages
from mutebridge.core.bridge import Bridge
from mutebridge.core.contract import PressEvent, Topics
from mutebridge.core.events import (
    BrokerLost,
    BrokerUp,
    Device,
    DeviceAttached,
    Event,
    HookChanged,
    PublishCommand,
    PublishPressEvent,
    WriteLights,
)
from mutebridge.core.lights import Lights
from mutebridge.edges.broker import Broker, BrokerSettings, Retained

pytestmark = pytest.mark.broker
DEADLINE_S = 20.0
TOPICS = Topics("desk")


def now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Workstation:
    """The bridge, connected as the daemon connects it, with a headset whose hook switch is forwarded."""

    def __init__(self, settings: BrokerSettings) -> None:
        ids = itertools.count()
        self.told: queue.Queue[PressEvent] = queue.Queue()
        self.shown: queue.Queue[Lights] = queue.Queue()
        self.up = threading.Event()
        self._bridge = Bridge(lambda: f"r{next(ids)}")
        self._lock = threading.RLock()
        online = Retained(TOPICS.bridge_availability, b"online")
        self.broker = Broker(
            settings,
            client_id="bridge",
            will=Retained(TOPICS.bridge_availability, b"offline"),
            births=[online],
            subscriptions=messages.subscriptions(TOPICS),
            on_up=self._came_up,
            on_lost=lambda reason: self.feed(BrokerLost(reason)),
            on_message=self._arrived,
            on_fatal=lambda problem: pytest.fail(str(problem)),
        )
        self.feed(DeviceAttached(Device(id="headset", name="headset", kind="hid", hook_switch=True)))

    def feed(self, event: Event) -> None:
        with self._lock:
            for action in self._bridge.handle(event, now_s(), time.time() * 1000):
                match action:
                    case PublishCommand():
                        topic = TOPICS.controller(action.controller, "command")
                        payload = contract.encode(action.command)
                        self.broker.publish(topic, payload, qos=0, expiry_s=action.message_expiry_s)
                    case PublishPressEvent():
                        self.told.put(action.event)
                    case WriteLights():
                        self.shown.put(action.lights)

    def _came_up(self) -> None:
        self.feed(BrokerUp())
        self.up.set()

    def _arrived(self, topic: str, payload: bytes, retained: bool) -> None:
        event = messages.event_of(TOPICS, topic, payload, retained=retained)
        if event is not None:
            self.feed(event)

    def wait_shown(self, wanted: Lights) -> None:
        while self.shown.get(timeout=DEADLINE_S) != wanted:
            pass

    def said(self) -> tuple[str, str]:
        event = self.told.get(timeout=DEADLINE_S)
        return event.gesture, event.outcome.value


def test_a_headset_answers_and_ends_a_call_of_the_softphone(mosquitto: Mosquitto) -> None:
    settings = BrokerSettings(host="127.0.0.1", port=mosquitto.port, retry_first_s=0.05, retry_max_s=0.05)
    phone = SessionController(
        "desk",
        "phone",
        set_mute=lambda _muted: None,
        answer=lambda call_id: phone.call_changed("connected", call_id),
        hang_up=lambda call_id: phone.call_changed("disconnected", call_id),
        broker=settings,
    )
    desk = Workstation(settings)
    desk.broker.start()
    try:
        assert desk.up.wait(DEADLINE_S)
        with phone:  # what it says from now on is live, so its clock is known
            phone.call_changed("ringing", "c7")
            desk.wait_shown(Lights(ring=True))
            desk.feed(HookChanged("headset", off_hook=True))
            assert [desk.said(), desk.said()] == [("answer", "sent"), ("answer", "confirmed")]
            desk.feed(HookChanged("headset", off_hook=False))
            assert [desk.said(), desk.said()] == [("hang_up", "sent"), ("hang_up", "confirmed")]
            desk.wait_shown(Lights())
    finally:
        desk.broker.stop(farewell=[], timeout_s=2)
