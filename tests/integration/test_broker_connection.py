"""The broker edge with a broker that does what it should."""

import queue
import threading
import time
from collections.abc import Callable

import pytest
from tests.integration.broker_fake import CONNECT, PUBLISH, SUBSCRIBE, FakeBroker, Session, connack, publish, suback
from tests.integration.broker_probe import Lost, Message, Probe, Up
from tests.integration.mosquitto import Mosquitto
from tests.integration.proxy import Proxy

from mutebridge.edges.broker import Retained

pytestmark = pytest.mark.broker


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_message_comes_back(mosquitto: Mosquitto, protocol: str) -> None:
    with Probe(mosquitto.port, subscriptions=[("a/#", 1)], protocol=protocol) as probe:
        probe.wait_up()
        assert probe.broker.up
        assert f"MQTT {protocol}" in probe.broker.describe()
        for qos in (0, 1):
            assert probe.publish("a/b", b"%d" % qos, qos=qos)
            assert probe.wait_message() == Message("a/b", b"%d" % qos, False)


def test_up_comes_before_the_retained_messages_and_after_the_births(mosquitto: Mosquitto) -> None:
    births = [Retained("state/one", b"1"), Retained("state/two", b"2")]
    with Probe(mosquitto.port, "first", births=births) as first:
        first.wait_up()
        mosquitto.wait_for_log(r"Sending PUBACK to first \(m\d+.*")
        with Probe(mosquitto.port, "second", subscriptions=[("state/#", 1)]) as second:
            second.wait_message("state/two")
    assert second.seen == [Up(), Message("state/one", b"1", True), Message("state/two", b"2", True)]


def test_messages_before_the_suback_wait_for_up() -> None:
    def script(session: Session) -> None:
        level = session.read_until(CONNECT).level
        session.send(connack(0, level))
        subscribe = session.read_until(SUBSCRIBE)
        session.send(publish("early", b"1", level), suback(subscribe, 0, level), publish("late", b"2", level))
        session.wait_end()

    with FakeBroker(script) as server, Probe(server.port, subscriptions=[("#", 0)]) as probe:
        probe.wait_message("late")
        assert probe.seen == [Up(), Message("early", b"1", False), Message("late", b"2", False)]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_packets_are_told_apart_however_they_arrive(protocol: str) -> None:
    sent = [("one", b"1"), ("two", b"\0two"), ("empty", b""), ("long", b"x" * 9000), ("last", b"")]

    def script(session: Session) -> None:
        session.welcome()
        level = 5 if protocol == "5" else 4
        packets = [publish(topic, payload, level) for topic, payload in sent]
        session.send(*packets)  # in one write
        for byte in b"".join(packets):
            session.send(bytes((byte,)))
        session.wait_end()

    with FakeBroker(script) as server, Probe(server.port, subscriptions=[("#", 0)], protocol=protocol) as probe:
        probe.wait_up()
        for topic, payload in sent * 2:
            assert probe.wait_message() == Message(topic, payload, False)


def test_a_message_with_properties_comes_as_one_without() -> None:
    expiry, user = b"\x02\0\0\0\x09", b"\x26\0\x01k\0\x01v"

    def script(session: Session) -> None:
        session.welcome()
        session.send(publish("a", b"plain"), publish("a", b"rich", properties=expiry + user), publish("b", b"after"))
        session.wait_end()

    with FakeBroker(script) as server, Probe(server.port, subscriptions=[("#", 0)]) as probe:
        probe.wait_up()
        assert [probe.wait_message().payload for _ in range(3)] == [b"plain", b"rich", b"after"]


def test_the_will_speaks_when_the_process_dies_and_the_farewell_when_it_ends(
    mosquitto: Mosquitto, make_proxy: Callable[[int], Proxy]
) -> None:
    proxy = make_proxy(mosquitto.port)
    with Probe(mosquitto.port, "watcher", subscriptions=[("will/#", 1), ("bye", 1)]) as watcher:
        watcher.wait_up()
        with Probe(proxy.port, "victim", births=[Retained("will/victim", b"online")]) as victim:
            assert watcher.wait_message().payload == b"online"
            proxy.refuse()
            proxy.cut()
            assert watcher.wait_message().payload == b"offline"
            proxy.admit()
            assert watcher.wait_message().payload == b"online"
            victim.broker.stop(farewell=[Retained("bye", b"farewell")])
            assert watcher.wait_message() == Message("bye", b"farewell", False)
            # An orderly end: the will is void, which the next message proves.
            assert watcher.publish("bye", b"end", qos=1)
            assert watcher.wait_message() == Message("bye", b"end", False)


def test_after_a_restart_it_is_up_again_with_subscriptions_and_births(mosquitto: Mosquitto) -> None:
    with Probe(mosquitto.port, subscriptions=[("#", 1)], births=[Retained("born", b"1")]) as probe:
        probe.wait_message("born")
        mosquitto.kill()
        probe.wait_lost()
        assert not probe.broker.up
        mosquitto.start()
        probe.wait_message("born")
        assert [type(report) for report in probe.seen] == [Up, Message, Lost, Up, Message]


@pytest.mark.parametrize(("protocol", "header"), [("5", b"\0\x01a\x05\x02\0\0\0\x07"), ("3.1.1", b"\0\x01a")])
def test_the_message_expiry_goes_along_on_mqtt_5(protocol: str, header: bytes) -> None:
    bodies: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def script(session: Session) -> None:
        session.welcome()
        bodies.put(session.read_until(PUBLISH).body)
        session.wait_end()

    with FakeBroker(script) as server, Probe(server.port, subscriptions=[("#", 0)], protocol=protocol) as probe:
        probe.wait_up()
        assert probe.broker.publish("a", b"x", expiry_s=7)
        assert bodies.get(timeout=20) == header + b"x"


@pytest.mark.parametrize("refusal", [0x84, 0x01])
def test_it_falls_back_to_3_1_1_at_once_and_remembers(refusal: int, caplog: pytest.LogCaptureFixture) -> None:
    levels: list[int] = []

    def script(session: Session) -> None:
        level = session.read().level
        levels.append(level)
        if level == 5:
            session.send(connack(refusal, level))
            return
        session.send(connack(0, level))
        session.send(suback(session.read_until(SUBSCRIBE), 0, level))
        if levels.count(4) == 1:
            return
        session.wait_end()

    with FakeBroker(script) as server, Probe(server.port, subscriptions=[("#", 0)]) as probe:
        probe.wait_up()
        probe.wait_lost()
        probe.wait_up()
        assert "MQTT 3.1.1" in probe.broker.describe()
    assert levels == [5, 4, 4]
    assert not [record for record in caplog.records if "refuses this version" in record.message]


def test_it_tries_3_1_1_where_a_server_hangs_up_on_mqtt_5_and_5_again_later() -> None:
    levels: list[int] = []

    def script(session: Session) -> None:
        level = session.read().level
        levels.append(level)
        if levels == [5]:
            return
        session.send(connack(0, level))
        session.send(suback(session.read_until(SUBSCRIBE), 0, level))
        if len(levels) == 2:
            return
        session.wait_end()

    with FakeBroker(script) as server, Probe(server.port, subscriptions=[("#", 0)]) as probe:
        probe.wait_up()
        probe.wait_lost()
        probe.wait_up()
        assert "MQTT 5" in probe.broker.describe()
    assert levels == [5, 4, 5]


def test_many_threads_publish_whole_messages_in_order(mosquitto: Mosquitto, proxy: Proxy) -> None:
    """Packets of several threads must not mix, where the kernel takes them in pieces because the broker is slow."""
    each, threads, filling = 40, 4, b"x" * 100_000
    clogged, flowing = threading.Event(), threading.Event()
    with (
        Probe(mosquitto.port, "reader", subscriptions=[("bulk/#", 0)]) as reader,
        Probe(proxy.port, "writer", keepalive_s=60) as writer,
    ):
        reader.wait_up()
        writer.wait_up()

        def write(number: int) -> None:
            for index in range(each):
                while not writer.publish(f"bulk/{number}", b"%d %d " % (number, index) + filling):
                    clogged.set()
                    assert flowing.wait(20)

        proxy.freeze()
        workers = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        assert clogged.wait(20)
        proxy.thaw()
        flowing.set()
        for worker in workers:
            worker.join()
        reader.wait_until(lambda: len(reader.messages()) == each * threads)
        for number in range(threads):
            payloads = [message.payload for message in reader.messages(f"bulk/{number}")]
            assert payloads == [b"%d %d " % (number, index) + filling for index in range(each)]
        assert not writer.count(Lost)


def test_a_callback_may_publish_while_another_thread_publishes_under_the_same_lock(mosquitto: Mosquitto) -> None:
    """The application decides under a lock of its own, in callbacks and in threads of devices alike."""
    decision = threading.Lock()
    echoed = threading.Semaphore(0)

    def answer(message: Message) -> None:
        with decision:
            if message.topic == "ask":
                probe.publish("answer", message.payload)
            else:
                echoed.release()

    probe = Probe(mosquitto.port, subscriptions=[("ask", 1), ("answer", 1)], on_message=answer)
    with probe:
        probe.wait_up()
        for _ in range(200):
            with decision:
                assert probe.publish("ask", b"x", qos=1)
        for _ in range(200):
            assert echoed.acquire(timeout=20)


@pytest.mark.parametrize("qos", [0, 1])
def test_a_broker_that_leaves_nagle_on_costs_no_40_ms(make_mosquitto: Callable[..., Mosquitto], qos: int) -> None:
    """Neither for the answer to a message, nor for several that come in a row after one of ours."""
    mosquitto = make_mosquitto(nodelay=False)
    with (
        Probe(mosquitto.port, "bridge", subscriptions=[("state/#", qos)]) as bridge,
        Probe(mosquitto.port, "controller", subscriptions=[("command", qos)]) as controller,
    ):
        bridge.wait_up()
        controller.wait_up()
        took = []
        for _ in range(21):
            started = time.monotonic()
            bridge.publish("command", b"x", qos=qos)
            controller.wait_message("command")
            for topic in ("state/mic", "state/call", "state/result"):
                controller.publish(topic, b"x", qos=qos)
            bridge.wait_message("state/result")
            took.append(time.monotonic() - started)
    assert sorted(took)[10] < 0.02, took
