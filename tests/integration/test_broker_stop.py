"""`stop()` returns in time, whatever the broker, the network or a callback does."""

import queue
import threading
import time

import pytest
from tests.integration.broker_fake import (
    CONNECT,
    DISCONNECT,
    PUBLISH_RETAINED_QOS_1,
    SUBSCRIBE,
    FakeBroker,
    Session,
    connack,
    publish,
    suback,
)
from tests.integration.broker_probe import Lost, Message, Probe
from tests.integration.mosquitto import Mosquitto
from tests.integration.proxy import Proxy, Way

from mutebridge.edges.broker import Broker, BrokerSettings, Retained

pytestmark = pytest.mark.broker


def test_a_hung_broker_with_unacknowledged_messages(mosquitto: Mosquitto) -> None:
    with Probe(mosquitto.port) as probe:
        probe.wait_up()
        mosquitto.freeze()
        for _ in range(50):
            assert probe.publish("a", b"x", qos=1)
        started = time.monotonic()
        probe.broker.stop(farewell=[Retained("bye", b"")], timeout_s=1)
        assert time.monotonic() - started < 1.5
        assert not any(thread.name == "broker" for thread in threading.enumerate())


def test_the_will_speaks_where_the_farewell_was_not_acknowledged(mosquitto: Mosquitto, proxy: Proxy) -> None:
    with Probe(mosquitto.port, "watcher", subscriptions=[("will/#", 1)]) as watcher, Probe(proxy.port) as probe:
        watcher.wait_up()
        probe.wait_up()
        proxy.lose(Way.UP)
        probe.broker.stop(farewell=[Retained("will/probe", b"farewell")], timeout_s=0.5)
        assert watcher.wait_message() == Message("will/probe", b"offline", False)


def test_the_farewell_is_acknowledged_before_the_disconnect() -> None:
    """A client that hangs up with an answer unread sends a reset, which can overtake what it said last."""
    told: queue.SimpleQueue[object] = queue.SimpleQueue()

    def script(session: Session) -> None:
        session.welcome()
        publish = session.read_until(PUBLISH_RETAINED_QOS_1)
        told.put(session.is_silent_for(0.2))
        packet_id = publish.body[5:7]
        session.send(b"\x40\x02" + packet_id)
        told.put(session.read().header)

    with FakeBroker(script) as server, Probe(server.port, subscriptions=[("#", 0)]) as probe:
        probe.wait_up()
        probe.broker.stop(farewell=[Retained("bye", b"")])
        assert told.get(timeout=20) is True
        assert told.get(timeout=20) == DISCONNECT


def test_messages_that_wait_for_up_are_dropped_when_up_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def script(session: Session) -> None:
        session.send(connack(0, session.read_until(CONNECT).level))
        subscribe = session.read_until(SUBSCRIBE)
        session.send(publish("early", b"1"), suback(subscribe, 0, 5))
        session.wait_end()

    with FakeBroker(script) as server:
        probe = Probe(server.port, subscriptions=[("#", 0)])
        monkeypatch.setattr(probe.broker, "_on_up", probe.broker.stop)
        with probe:
            _join("broker")
            assert not probe.seen


def test_between_two_attempts() -> None:
    with Probe(1, retry_first_s=3600, retry_max_s=3600) as probe:
        probe.wait_problem()
        started = time.monotonic()
        probe.broker.stop()
        assert time.monotonic() - started < 1


def test_while_waiting_for_an_answer(proxy: Proxy) -> None:
    proxy.mute()
    with Probe(proxy.port) as probe:
        proxy.wait_for_accepted(1)
        started = time.monotonic()
        probe.broker.stop()
        assert time.monotonic() - started < 1


def test_while_a_callback_hangs(mosquitto: Mosquitto) -> None:
    release = threading.Event()
    entered = threading.Event()

    def hang(_message: Message) -> None:
        entered.set()
        release.wait(20)

    with Probe(mosquitto.port, subscriptions=[("a", 0)], on_message=hang) as probe:
        probe.wait_up()
        probe.publish("a", b"1")
        probe.publish("a", b"2")
        assert entered.wait(20)
        started = time.monotonic()
        probe.broker.stop(timeout_s=0.5)
        assert time.monotonic() - started < 1
        release.set()
        _join("broker")
        # No callback starts after stop() has returned.
        assert len(probe.messages()) == 1


def test_from_a_callback_twice_and_without_a_start(mosquitto: Mosquitto) -> None:
    def stop(_message: Message) -> None:
        probe.broker.stop(farewell=[Retained("will/probe", b"bye")])

    with Probe(mosquitto.port, "watcher", subscriptions=[("will/#", 1)]) as watcher:
        watcher.wait_up()
        with Probe(mosquitto.port, subscriptions=[("a", 0)], on_message=stop) as probe:
            probe.wait_up()
            probe.publish("a", b"x")
            assert watcher.wait_message().payload == b"bye"
        assert not probe.count(Lost)
    nowhere = Probe(1)
    nowhere.broker.stop()


def test_a_stopped_broker_publishes_nothing(mosquitto: Mosquitto) -> None:
    with Probe(mosquitto.port) as probe:
        probe.wait_up()
    assert not probe.broker.up
    assert not probe.publish("a", b"x")


def test_start_never_raises_for_trouble() -> None:
    broker = Broker(
        BrokerSettings(host="\u00e4" * 100, allow_plaintext=True),
        client_id="x",
        will=Retained("w", b""),
        on_up=lambda: None,
        on_lost=lambda _reason: None,
        on_message=lambda _topic, _payload, _retained: None,
        on_fatal=lambda _problem: None,
    )
    broker.start()
    broker.stop()


def _join(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(20)
            assert not thread.is_alive()
