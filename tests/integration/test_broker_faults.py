"""The broker edge when the network or the broker misbehaves: nothing acts late, nothing hangs, all is noticed."""

import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.broker_fake import PINGREQ, FakeBroker, Session, publish
from tests.integration.broker_probe import Fatal, Lost, Message, Probe, Up
from tests.integration.certificates import Certificates
from tests.integration.mosquitto import Mosquitto
from tests.integration.proxy import Proxy, Way

from mutebridge.edges.broker import ProblemKind, Retained

pytestmark = pytest.mark.broker


def test_nothing_published_during_an_outage_arrives_after_it(mosquitto: Mosquitto) -> None:
    with Probe(mosquitto.port, "reader", subscriptions=[("a", 1)]) as reader, Probe(mosquitto.port, "writer") as writer:
        reader.wait_up()
        writer.wait_up()
        mosquitto.kill()
        writer.wait_lost()
        assert not writer.publish("a", b"late, QoS 0")
        assert not writer.publish("a", b"late, QoS 1", qos=1)
        mosquitto.start()
        writer.wait_up()
        reader.wait_up()
        assert writer.publish("a", b"new", qos=1)
        assert reader.wait_message().payload == b"new"
        assert [message.payload for message in reader.messages()] == [b"new"]


def test_what_was_never_acknowledged_is_not_sent_again(mosquitto: Mosquitto, proxy: Proxy) -> None:
    """More than may be in flight, so that some wait inside the client too."""
    with Probe(mosquitto.port, "reader", subscriptions=[("a", 1)]) as reader, Probe(proxy.port, "writer") as writer:
        reader.wait_up()
        writer.wait_up()
        proxy.lose(Way.UP)
        for index in range(30):
            assert writer.publish("a", b"swallowed %d" % index, qos=1)
        writer.wait_lost()
        proxy.find(Way.UP)
        writer.wait_up()
        assert writer.publish("a", b"new", qos=1)
        assert reader.wait_message().payload == b"new"


def test_a_lost_acknowledgement_causes_no_duplicate(mosquitto: Mosquitto, proxy: Proxy) -> None:
    with Probe(mosquitto.port, "reader", subscriptions=[("a", 1)]) as reader, Probe(proxy.port, "writer") as writer:
        reader.wait_up()
        writer.wait_up()
        proxy.lose(Way.DOWN)
        assert writer.publish("a", b"once", qos=1)
        writer.wait_lost()
        proxy.find(Way.DOWN)
        writer.wait_up()
        assert writer.publish("a", b"new", qos=1)
        assert reader.wait_message().payload == b"once"
        assert reader.wait_message().payload == b"new"


@pytest.mark.parametrize("how", ["frozen broker", "frozen network", "lost packets"])
def test_a_press_finds_a_dead_broker_within_seconds(mosquitto: Mosquitto, proxy: Proxy, how: str) -> None:
    """The keep-alive is long, so that only the ping after a publish can tell."""
    with Probe(proxy.port, keepalive_s=60) as probe:
        probe.wait_up()
        if how == "frozen broker":
            mosquitto.freeze()
        elif how == "frozen network":
            proxy.freeze()
        else:
            proxy.lose(Way.UP)
        started = time.monotonic()
        assert probe.publish("press", b"x")  # gone to the kernel: cannot be called back
        assert "has not answered for" in probe.wait_lost()
        assert time.monotonic() - started < 5
        assert not probe.publish("press", b"late")
        assert not probe.broker.up
        assert probe.wait_problem().kind in (ProblemKind.FROZEN, ProblemKind.SILENT)


def test_after_the_thaw_only_what_was_accepted_can_arrive(mosquitto: Mosquitto) -> None:
    with Probe(mosquitto.port, "writer") as writer, Probe(mosquitto.port, "reader", subscriptions=[("a", 1)]) as reader:
        reader.wait_up()
        writer.wait_up()
        mosquitto.freeze()
        assert writer.publish("a", b"accepted")
        writer.wait_lost()
        assert not writer.publish("a", b"late")
        assert not writer.publish("a", b"late", qos=1)
        mosquitto.thaw()
        writer.wait_up()
        while not (reader.broker.up and writer.publish("a", b"end", qos=1)):
            reader.wait_up()
        while reader.wait_message().payload != b"end":
            pass
        assert b"late" not in [message.payload for message in reader.messages()]


def test_a_silent_broker_is_noticed_without_a_press(mosquitto: Mosquitto) -> None:
    with Probe(mosquitto.port, keepalive_s=3) as probe:
        probe.wait_up()
        mosquitto.wait_for_log("Received PINGREQ")
        mosquitto.freeze()
        started = time.monotonic()
        probe.wait_lost()
        assert time.monotonic() - started < 3 + 2 + 1  # keep-alive + 2 s, and some slack


@pytest.mark.parametrize("security", ["plain", "TLS"])
def test_at_rest_one_wake_up_per_keepalive(
    make_mosquitto: Callable[..., Mosquitto], certificates: Certificates, security: str
) -> None:
    """The answer to a ping wakes nobody; a message does, at once."""
    cert, key = certificates.server()
    listener, keys = "", dict[str, Any]()
    if security == "TLS":
        listener = f"certfile {cert}\nkeyfile {key}"
        keys = {"host": "localhost", "tls": {"ca_file": certificates.ca_file}}
    mosquitto = make_mosquitto(listener=listener)
    with Probe(mosquitto.port, keepalive_s=2, subscriptions=[("a", 1)], **keys) as probe:
        probe.wait_up()
        since = _after_pings(mosquitto, _PINGS_TO_REST, since=0)
        for _ in range(4):
            before = _switches("broker")
            since = _after_pings(mosquitto, 3, since=since)
            # Three pings in three wake-ups; as many again where their answers woke us. The interpreter's lock may be
            # waited for, too, though not each time.
            if _switches("broker") - before <= 4:
                break
        else:
            pytest.fail("more than four wake-ups in each three pings")
        with Probe(mosquitto.port, "writer", **keys) as writer:
            writer.wait_up()
            writer.publish("a", b"x")
            started = time.monotonic()
            assert probe.wait_message().payload == b"x"
            assert time.monotonic() - started < 0.5


def test_a_broker_that_freezes_at_rest_is_noticed(mosquitto: Mosquitto) -> None:
    with Probe(mosquitto.port, keepalive_s=2) as probe:
        probe.wait_up()
        _after_pings(mosquitto, _PINGS_TO_REST, since=0)
        mosquitto.freeze()
        started = time.monotonic()
        assert "has not answered" in probe.wait_lost()
        assert time.monotonic() - started < 2 * 2 + 1  # two keep-alives, and some slack


_PINGS_TO_REST = 6  # at 1, 2, ... 5 s after coming up, and the first one at rest, at 7 s


def _after_pings(mosquitto: Mosquitto, count: int, since: int) -> int:
    """Wait for so many pings of the probe; return the number of log lines then."""
    for _ in range(count):
        mosquitto.wait_for_log("Received PINGREQ from probe", since=since)
        since = 1 + max(n for n, line in enumerate(mosquitto.log) if "Received PINGREQ from probe" in line)
    return since


def _switches(thread_name: str) -> int:
    """Return how often the thread of this name went to sleep so far."""
    for thread in threading.enumerate():
        if thread.name == thread_name:
            status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
            return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    raise AssertionError(thread_name)


@pytest.mark.parametrize("way", list(Way))
def test_a_connection_cut_in_the_middle_of_a_packet(mosquitto: Mosquitto, proxy: Proxy, way: Way) -> None:
    with (
        Probe(proxy.port, subscriptions=[("a", 0)], keepalive_s=2) as probe,
        Probe(mosquitto.port, "direct") as direct,
    ):
        probe.wait_up()
        direct.wait_up()
        mosquitto.wait_for_log("Sending PINGRESP to probe")  # nothing else is under way
        proxy.cut_after(20, way)
        assert (probe if way is Way.UP else direct).publish("a", b"half a message, and not more of it")
        probe.wait_lost()
        probe.wait_up()
        direct.publish("a", b"whole")
        assert probe.wait_message().payload == b"whole"
        assert len(probe.messages()) == 1


def test_a_clogged_connection_takes_no_more_and_blocks_nobody(proxy: Proxy) -> None:
    with Probe(proxy.port, keepalive_s=60) as probe:
        probe.wait_up()
        proxy.freeze()
        taken, longest_s = 0, 0.0
        while True:
            started = time.monotonic()
            accepted = probe.publish("bulk", bytes(60_000))
            longest_s = max(longest_s, time.monotonic() - started)
            if not accepted:
                break
            taken += 1
            assert taken < 1000
        assert longest_s < 1
        assert probe.broker.up or probe.count(Lost) == 1


def test_a_broker_that_accepts_and_says_nothing(proxy: Proxy) -> None:
    proxy.mute()
    with Probe(proxy.port) as probe:
        assert "accepts the connection but has not answered" in probe.wait_problem(ProblemKind.SILENT).message
        assert not probe.seen
        proxy.unmute()
        probe.wait_up()


def test_a_broker_that_never_grants_the_subscription() -> None:
    def script(session: Session) -> None:
        session.read()
        session.send(b"\x20\x03\0\0\0")
        session.wait_end()

    with FakeBroker(script) as server, Probe(server.port, subscriptions=[("#", 0)]) as probe:
        assert "has not answered the subscription" in probe.wait_problem(ProblemKind.SILENT).message
        assert not probe.count(Up)


def test_lost_comes_once_per_up(proxy: Proxy) -> None:
    with Probe(proxy.port) as probe:
        for _ in range(5):
            probe.wait_up()
            proxy.cut()
            probe.wait_lost()
        probe.wait_up()
    assert [type(report) for report in probe.seen] == [Up, Lost] * 5 + [Up]


@pytest.mark.parametrize("callback", ["on_message", "on_up", "on_lost"])
def test_a_callback_that_raises_is_fatal_and_the_will_speaks(
    mosquitto: Mosquitto, proxy: Proxy, callback: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def boom(*_: object) -> None:
        raise RuntimeError("a bug")

    births = [Retained("will/probe", b"online")]
    with Probe(mosquitto.port, "watcher", subscriptions=[("will/#", 1)]) as watcher:
        watcher.wait_up()
        probe = Probe(proxy.port, subscriptions=[("a", 0)], births=births)
        monkeypatch.setattr(probe.broker, f"_{callback}", boom)
        with probe:
            assert watcher.wait_message().payload == b"online"
            watcher.publish("a", b"x")
            if callback == "on_lost":
                probe.wait_message()
                proxy.cut()
            problem = probe.wait_fatal()
            assert problem.kind is ProblemKind.BUG
            assert "RuntimeError('a bug')" in problem.message
            assert isinstance(problem.cause, RuntimeError)
            assert watcher.wait_message().payload == b"offline"
            assert not probe.broker.up
            assert not probe.publish("a", b"x")
            assert probe.broker.problem == problem
        assert probe.count(Fatal) == 1


def test_packets_in_one_tls_record_arrive_together(certificates: Certificates) -> None:
    """The second would lie unread, decrypted, until something else comes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.server())

    def script(session: Session) -> None:
        session.welcome()
        session.read_until(PINGREQ)
        session.send(b"\xd0\x00", *(publish("a", b"%d" % index) for index in range(5)))
        session.wait_end()

    tls = {"ca_file": certificates.ca_file}
    births = [Retained("b", b"")]  # a publish, hence a ping
    with (
        FakeBroker(script, context) as server,
        Probe(server.port, host="localhost", tls=tls, subscriptions=[("a", 0)], births=births) as probe,
    ):
        probe.wait_up()
        started = time.monotonic()
        for index in range(5):
            assert probe.wait_message() == Message("a", b"%d" % index, False)
        assert time.monotonic() - started < 1
