"""A broker on loopback: telling what listens there, bringing one up, taking it down; real sockets, real brokers."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from mutebridge.edges import local_broker
from mutebridge.edges.local_broker import Listening, LocalBroker, LocalBrokerError, inside, mosquitto

DEADLINE_S = 20
ACCEPTED, REFUSED = b"\x20\x02\x00\x00", b"\x20\x02\x00\x05"


@pytest.fixture
def anything() -> Iterator[Callable[[bytes], int]]:
    """Starts a server that greets every client with the same bytes, then says no more; returns its port."""
    with contextlib.ExitStack() as stack:

        def serve(greeting: bytes) -> int:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            thread = threading.Thread(target=greet_all, args=(server, greeting))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown, socket.SHUT_RDWR)
            port: int = server.getsockname()[1]
            return port

        yield serve


def greet_all(server: socket.socket, greeting: bytes) -> None:
    with contextlib.ExitStack() as clients, contextlib.suppress(OSError):
        while True:
            clients.enter_context(server.accept()[0]).sendall(greeting)


@pytest.fixture
def embedded() -> Iterator[LocalBroker]:
    with local_broker.embedded_broker(port=0, websocket_port=0) as broker:
        yield broker


def published(broker: LocalBroker, topic: str) -> str:
    """The first message on a topic, as `topic payload`."""
    return client(broker, "sub", "-t", topic, "-C", "1", "-v", "-W", str(DEADLINE_S)).strip()


def client(broker: LocalBroker, which: str, *args: str) -> str:
    command = [f"mosquitto_{which}", "-h", broker.host, "-p", str(broker.port), "-V", "311", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=2 * DEADLINE_S)
    return done.stdout


# --- what listens ----------------------------------------------------------------------------------------------------


def test_nothing_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert local_broker.probe(*bound.getsockname()) is Listening.NOTHING


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["talks", "silent"])
def test_something_else_listens(anything: Callable[[bytes], int], greeting: bytes) -> None:
    assert local_broker.probe("127.0.0.1", anything(greeting), timeout_s=0.2) is Listening.SOMETHING_ELSE


def test_a_broker_asks_for_a_password(anything: Callable[[bytes], int]) -> None:
    assert local_broker.probe("127.0.0.1", anything(REFUSED)) is Listening.CLOSED_BROKER


@pytest.mark.broker
def test_a_broker_that_listens_is_used() -> None:
    with local_broker.bring_up(prefer_existing=False) as first, local_broker.bring_up(port=first.port) as second:
        assert second.port == first.port
        assert "already listens" in second.what


@pytest.mark.broker
@pytest.mark.parametrize("greeting", [REFUSED, b"SSH-2.0-x\r\n"], ids=["closed broker", "no broker"])
def test_an_address_taken_otherwise_is_left_alone(anything: Callable[[bytes], int], greeting: bytes) -> None:
    port = anything(greeting)
    with local_broker.bring_up(port=port) as broker:
        assert broker.port != port
        assert local_broker.probe(broker.host, broker.port) is Listening.OPEN_BROKER


# --- mosquitto -------------------------------------------------------------------------------------------------------


@pytest.mark.broker
def test_mosquitto_serves_until_the_end_of_the_block() -> None:
    with local_broker.bring_up(prefer_existing=False) as broker:
        assert "mosquitto" in broker.what
        client(broker, "pub", "-t", "a/b", "-m", "kept", "-r")
        assert published(broker, "a/b") == "a/b kept"
    assert local_broker.probe(broker.host, broker.port) is Listening.NOTHING


@pytest.mark.broker
def test_mosquitto_ends_with_a_parent_that_is_killed() -> None:
    code = (
        "from mutebridge.edges.local_broker import bring_up\n"
        "with bring_up(prefer_existing=False) as broker:\n"
        "    print(broker.port, flush=True)\n"
        "    input()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=with_source()
    )
    assert parent.stdout is not None
    port = int(parent.stdout.readline())
    with parent, socket.create_connection(("127.0.0.1", port)) as connection:
        parent.send_signal(signal.SIGKILL)
        ended, _, _ = select.select([connection], [], [], DEADLINE_S)  # the broker's end ends the connection
        assert ended


def test_a_mosquitto_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "mosquitto"
    broken.write_text("#!/bin/sh\necho 'Error: no such luck' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(LocalBrokerError, match="no such luck"), local_broker.bring_up(prefer_existing=False):
        pass


@pytest.mark.broker
def test_mosquitto_takes_another_port_when_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], mosquitto._free_port()])
        monkeypatch.setattr(mosquitto, "_free_port", lambda: next(ports))
        with local_broker.bring_up(prefer_existing=False) as broker:
            assert local_broker.probe(broker.host, broker.port) is Listening.OPEN_BROKER


# --- amqtt -----------------------------------------------------------------------------------------------------------


def test_without_mosquitto_amqtt_serves_inside() -> None:
    with local_broker.bring_up(prefer_existing=False, prefer_mosquitto=False) as broker:
        assert "amqtt" in broker.what
        assert local_broker.probe(broker.host, broker.port) is Listening.OPEN_BROKER
    assert local_broker.probe(broker.host, broker.port) is Listening.NOTHING


@pytest.mark.broker
def test_amqtt_retains() -> None:
    with local_broker.embedded_broker(port=0, websocket_port=None) as broker:
        client(broker, "pub", "-t", "a/b", "-m", "kept", "-r")
        assert published(broker, "a/b") == "a/b kept"


@pytest.mark.broker
def test_amqtt_tells_the_will_of_a_client_that_is_gone() -> None:
    will = b"\x10\x1c\x00\x04MQTT\x04\x26\x00\x3c\x00\x02me\x00\x03a/w\x00\x07offline"
    with local_broker.embedded_broker(port=0, websocket_port=None) as broker:
        with socket.create_connection((broker.host, broker.port), DEADLINE_S) as dying:
            dying.sendall(will)
            assert dying.recv(4) == ACCEPTED
        assert published(broker, "a/w") == "a/w offline"


MQTT_5 = b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x02me"
TOO_NEW = b"\x20\x02\x00\x01"


def test_amqtt_has_a_client_of_mqtt_5_come_back_with_3_1_1(embedded: LocalBroker) -> None:
    with socket.create_connection((embedded.host, embedded.port), DEADLINE_S) as newer:
        newer.sendall(MQTT_5)
        assert newer.recv(4) == TOO_NEW
        assert newer.recv(1) == b""
    with page(embedded, MQTT_5) as websocket:
        assert websocket.recv(DEADLINE_S) == TOO_NEW


def test_amqtt_missing_names_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amqtt", None)
    with pytest.raises(LocalBrokerError, match=r"pip install 'mutebridge\[demo\]'"), local_broker.embedded_broker():
        pass


def test_a_port_that_is_taken_is_told(anything: Callable[[bytes], int]) -> None:
    port = anything(b"")
    with pytest.raises(LocalBrokerError, match=rf":{port}, where something"), local_broker.embedded_broker(port=port):
        pass


# --- its WebSocket port ----------------------------------------------------------------------------------------------


def page(broker: LocalBroker, packet: bytes) -> ClientConnection:
    """A web page that connects."""
    websocket = connect(
        f"ws://{broker.host}:{broker.websocket_port}", subprotocols=[Subprotocol("mqtt")], open_timeout=DEADLINE_S
    )
    websocket.send(packet)
    return websocket


def connect_packet(client_id: str, user: str | None = None, password: str | None = None) -> bytes:
    fields = [field.encode() for field in (client_id, user, password) if field is not None]
    flags = 0x02 | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    body = b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x3c"
    body += b"".join(len(field).to_bytes(2, "big") + field for field in fields)
    return b"\x10" + bytes([len(body)]) + body


def test_a_page_with_the_password_is_let_in(embedded: LocalBroker) -> None:
    with page(embedded, connect_packet("page", embedded.user, embedded.password)) as websocket:
        assert websocket.recv(DEADLINE_S) == ACCEPTED
        websocket.send(b"\x82\x08\x00\x01\x00\x03a/b\x00")  # subscribe
        assert websocket.recv(DEADLINE_S) == b"\x90\x03\x00\x01\x00"
        websocket.send(b"\x30\x09\x00\x03a/bhere")
        assert websocket.recv(DEADLINE_S) == b"\x30\x09\x00\x03a/bhere"


def test_a_page_whose_packet_comes_in_bits_is_let_in(embedded: LocalBroker) -> None:
    packet = connect_packet("page", embedded.user, embedded.password)
    with page(embedded, packet[:1]) as websocket:
        websocket.send(packet[1:13])
        websocket.send(packet[13:])
        assert websocket.recv(DEADLINE_S) == ACCEPTED


@pytest.mark.parametrize(
    ("user", "password"),
    [(None, None), ("mutebridge", None), ("mutebridge", "guess"), ("mutebridge", "")],
    ids=["anonymous", "no password", "wrong password", "empty password"],
)
def test_a_page_without_the_password_is_refused(embedded: LocalBroker, user: str | None, password: str | None) -> None:
    with page(embedded, connect_packet("page", user, password)) as websocket:
        assert websocket.recv(DEADLINE_S) == REFUSED
        with pytest.raises(ConnectionClosed):
            websocket.recv(DEADLINE_S)


def test_a_page_without_the_password_throws_nobody_out(embedded: LocalBroker) -> None:
    with socket.create_connection((embedded.host, embedded.port), DEADLINE_S) as bridge:
        bridge.sendall(connect_packet("bridge"))
        assert bridge.recv(4) == ACCEPTED
        with page(embedded, connect_packet("bridge", "mutebridge", "guess")) as websocket:
            assert websocket.recv(DEADLINE_S) == REFUSED
        bridge.sendall(b"\xc0\x00")  # ping
        assert bridge.recv(2) == b"\xd0\x00"


def test_a_page_that_talks_nonsense_is_closed(embedded: LocalBroker) -> None:
    with page(embedded, b"GET / HTTP/1.1\r\n\r\n") as websocket, pytest.raises(ConnectionClosed):
        websocket.recv(DEADLINE_S)
    assert local_broker.probe(embedded.host, embedded.port) is Listening.OPEN_BROKER


def test_a_page_that_says_nothing_is_closed(embedded: LocalBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "_CONNECT_TIMEOUT_S", 0.1)
    with page(embedded, b"") as websocket, pytest.raises(ConnectionClosed):
        websocket.recv(DEADLINE_S)


def test_the_password_is_new_for_each_broker_and_in_no_log(embedded: LocalBroker) -> None:
    with local_broker.embedded_broker(port=0, websocket_port=0) as other:
        assert other.password
        assert other.password != embedded.password
        assert other.password not in repr(other)


def with_source() -> dict[str, str]:
    """The environment for a child process that imports the project from its source."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "daemon")}
