"""A broker on loopback: telling what listens there, bringing one up, taking it down; real sockets, real brokers."""

import contextlib
import os
import queue
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from mutebridge.core.password_hash import SALT_BYTES, hash_of
from mutebridge.edges import local_broker
from mutebridge.edges.local_broker import (
    Credential,
    CredentialsFile,
    EmbeddedBrokerSettings,
    Listening,
    LocalBroker,
    LocalBrokerError,
    inside,
    mosquitto,
)

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
def credentials(tmp_path: Path) -> CredentialsFile:
    """The controllers that the embedded broker knows: one, of a page and of programs."""
    file = CredentialsFile(tmp_path / "state" / "controllers.json")
    file.put(credential("softphone@desk", "secret", PAGE))
    return file


PAGE, OTHER_PAGE = "https://softphone.example.com", "https://elsewhere.example.net"


def credential(user: str, password: str, *origins: str) -> Credential:
    hashed = hash_of(password, os.urandom(SALT_BYTES))
    return Credential(user=user, password_hash=hashed, prefix="mutebridge/v1", origins=origins)


def bring_embedded(
    credentials: CredentialsFile, *origins: str, anonymous: bool = False
) -> contextlib.AbstractContextManager[LocalBroker]:
    settings = EmbeddedBrokerSettings(origins=origins, credentials_file=str(credentials.path))
    return local_broker.embedded_broker(settings, port=0, user="desk", any_websocket_port=True, anonymous=anonymous)


@pytest.fixture
def embedded(credentials: CredentialsFile) -> Iterator[LocalBroker]:
    with bring_embedded(credentials) as broker:
        yield broker


@pytest.fixture
def open_amqtt() -> Iterator[LocalBroker]:
    with local_broker.bring_up(prefer_existing=False, prefer_mosquitto=False) as broker:
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
def test_mosquitto_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "from mutebridge.edges.local_broker import bring_up\n"
        "with bring_up(prefer_existing=False) as broker:\n"
        "    print(broker.port, flush=True)\n"
        "    input()\n"
    )
    env = with_source() | {"TMPDIR": str(tmp_path)}  # its folder stays behind
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
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
def test_amqtt_retains(open_amqtt: LocalBroker) -> None:
    client(open_amqtt, "pub", "-t", "a/b", "-m", "kept", "-r")
    assert published(open_amqtt, "a/b") == "a/b kept"


@pytest.mark.broker
def test_amqtt_tells_the_will_of_a_client_that_is_gone(open_amqtt: LocalBroker) -> None:
    will = b"\x10\x1c\x00\x04MQTT\x04\x26\x00\x3c\x00\x02me\x00\x03a/w\x00\x07offline"
    with socket.create_connection((open_amqtt.host, open_amqtt.port), DEADLINE_S) as dying:
        dying.sendall(will)
        assert dying.recv(4) == ACCEPTED
    assert published(open_amqtt, "a/w") == "a/w offline"


MQTT_5 = b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x02me"
TOO_NEW = b"\x20\x02\x00\x01"


def test_amqtt_has_a_client_of_mqtt_5_come_back_with_3_1_1(embedded: LocalBroker) -> None:
    with socket.create_connection((embedded.host, embedded.port), DEADLINE_S) as newer:
        newer.sendall(MQTT_5)
        assert newer.recv(4) == TOO_NEW
        assert newer.recv(1) == b""
    with page(embedded, MQTT_5) as websocket:
        assert websocket.recv(DEADLINE_S) == TOO_NEW


def test_amqtt_missing_names_what_to_type(monkeypatch: pytest.MonkeyPatch, credentials: CredentialsFile) -> None:
    monkeypatch.setitem(sys.modules, "amqtt", None)
    with pytest.raises(LocalBrokerError, match=r"pip install 'mutebridge\[demo\]'"), bring_embedded(credentials):
        pass


def test_a_port_that_is_taken_is_told(anything: Callable[[bytes], int]) -> None:
    port = anything(b"")
    settings = EmbeddedBrokerSettings(websocket_port=port)
    with (
        pytest.raises(LocalBrokerError, match=rf":{port}, where something"),
        local_broker.embedded_broker(settings, port=0, user="desk"),
    ):
        pass


# --- who gets in ------------------------------------------------------------------------------------------------------


def page(broker: LocalBroker, packet: bytes, origin: str | None = None) -> ClientConnection:
    """A client that comes by WebSocket: a web page says its origin, another program none."""
    websocket = connect(
        f"ws://{broker.host}:{broker.websocket_port}",
        origin=Origin(origin) if origin else None,
        subprotocols=[Subprotocol("mqtt")],
        open_timeout=DEADLINE_S,
    )
    websocket.send(packet)
    return websocket


def program(broker: LocalBroker, packet: bytes) -> socket.socket:
    """A client that comes by TCP."""
    connection = socket.create_connection((broker.host, broker.port), DEADLINE_S)
    connection.sendall(packet)
    return connection


def text(words: str) -> bytes:
    return len(words.encode()).to_bytes(2, "big") + words.encode()


def connect_packet(
    client_id: str, user: str | None = None, password: str | None = None, *, will: str | None = None
) -> bytes:
    flags = 0x02 | (0x80 if user is not None else 0) | (0x40 if password is not None else 0)
    body = text("MQTT") + bytes([4, flags | (0x24 if will is not None else 0)]) + b"\x00\x3c" + text(client_id)
    body += b"" if will is None else text(will) + text("offline")
    body += b"".join(text(field) for field in (user, password) if field is not None)
    return b"\x10" + bytes([len(body)]) + body


def publish(topic: str, payload: str, *, retain: bool = False) -> bytes:
    body = text(topic) + payload.encode()
    return bytes([0x31 if retain else 0x30, len(body)]) + body


def subscribe(topic_filter: str) -> bytes:
    body = b"\x00\x01" + text(topic_filter) + b"\x00"
    return bytes([0x82, len(body)]) + body


PAIRED = connect_packet("page", "softphone@desk", "secret")
C = "mutebridge/v1/desk/controller/softphone"
BRIDGE = "mutebridge/v1/desk/bridge/availability"
PING, PONG = b"\xc0\x00", b"\xd0\x00"


@pytest.mark.parametrize("origin", [None, PAGE], ids=["program", "page"])
def test_a_controller_that_was_paired_is_let_in(embedded: LocalBroker, origin: str | None) -> None:
    with page(embedded, PAIRED, origin) as websocket:
        assert websocket.recv(DEADLINE_S) == ACCEPTED
        websocket.send(subscribe(f"{C}/availability"))
        assert websocket.recv(DEADLINE_S) == b"\x90\x03\x00\x01\x00"
        websocket.send(publish(f"{C}/availability", "online"))
        assert websocket.recv(DEADLINE_S) == publish(f"{C}/availability", "online")


def test_a_controller_whose_packet_comes_in_bits_is_let_in(embedded: LocalBroker) -> None:
    with page(embedded, PAIRED[:1]) as websocket:
        websocket.send(PAIRED[1:13])
        websocket.send(PAIRED[13:])
        assert websocket.recv(DEADLINE_S) == ACCEPTED


STRANGERS = pytest.mark.parametrize(
    ("user", "password"),
    [
        (None, None),
        ("softphone@desk", None),
        ("softphone@desk", "guess"),
        ("softphone@desk", ""),
        ("other@desk", "secret"),
        ("desk", "secret"),
        ("desk", ""),
    ],
)


@STRANGERS
def test_who_does_not_know_a_password_is_refused(embedded: LocalBroker, user: str | None, password: str | None) -> None:
    packet = connect_packet("page", user, password)
    with page(embedded, packet) as websocket:
        assert websocket.recv(DEADLINE_S) == REFUSED
        with pytest.raises(ConnectionClosed):
            websocket.recv(DEADLINE_S)
    with program(embedded, packet) as connection:
        assert connection.recv(4) == REFUSED
        assert connection.recv(1) == b""


def test_without_a_websocket_port_no_page_gets_in(credentials: CredentialsFile) -> None:
    settings = EmbeddedBrokerSettings(websocket_port=0, credentials_file=str(credentials.path))
    with local_broker.embedded_broker(settings, port=0, user="desk") as broker:
        assert broker.websocket_port is None


def test_its_owner_may_do_everything(embedded: LocalBroker) -> None:
    with program(embedded, connect_packet("bridge", embedded.user, embedded.password)) as bridge:
        assert bridge.recv(4) == ACCEPTED
        bridge.sendall(subscribe("#"))
        assert bridge.recv(5) == b"\x90\x03\x00\x01\x00"


def test_for_a_demonstration_programs_of_this_machine_need_no_password_but_pages_do(
    credentials: CredentialsFile,
) -> None:
    with bring_embedded(credentials, anonymous=True) as broker:
        with program(broker, connect_packet("anyone")) as anyone:
            assert anyone.recv(4) == ACCEPTED
        with program(broker, connect_packet("posing", "softphone@desk", "guess")) as posing:
            assert posing.recv(4) == REFUSED
        with page(broker, connect_packet("anyone")) as websocket:
            assert websocket.recv(DEADLINE_S) == REFUSED


def test_a_stranger_throws_nobody_out(embedded: LocalBroker) -> None:
    with program(embedded, connect_packet("bridge", embedded.user, embedded.password)) as bridge:
        assert bridge.recv(4) == ACCEPTED
        with page(embedded, connect_packet("bridge", "softphone@desk", "guess")) as websocket:
            assert websocket.recv(DEADLINE_S) == REFUSED
        with page(embedded, connect_packet("bridge", "softphone@desk", "secret")) as websocket:
            assert websocket.recv(DEADLINE_S) == b"\x20\x02\x00\x02", "not with the client id of another user"
        bridge.sendall(PING)
        assert bridge.recv(2) == PONG


def test_who_comes_with_its_own_client_id_once_more_takes_the_place_of_the_one_before(embedded: LocalBroker) -> None:
    """As with any broker; amqtt alone lets the one before publish on, but hear nothing."""
    packet = connect_packet("page", "softphone@desk", "secret", will=f"{C}/availability")
    owner = program(embedded, connect_packet("owner", embedded.user, embedded.password))
    with owner, page(embedded, packet, PAGE) as first:
        assert (owner.recv(4), first.recv(DEADLINE_S)) == (ACCEPTED, ACCEPTED)
        owner.sendall(subscribe(f"{C}/availability"))
        assert owner.recv(5) == b"\x90\x03\x00\x01\x00"
        with page(embedded, packet, PAGE) as second:
            assert second.recv(DEADLINE_S) == ACCEPTED
            with pytest.raises(ConnectionClosed):
                first.recv(DEADLINE_S)
            second.send(publish(f"{C}/availability", "online"))
            said = b""
            while not said.endswith(b"online"):
                said += owner.recv(100)
            assert b"offline" in said, "its will is told before its successor speaks"
            with program(embedded, packet) as third:
                assert third.recv(4) == ACCEPTED
                with pytest.raises(ConnectionClosed):
                    second.recv(DEADLINE_S)


def test_a_client_that_talks_nonsense_is_closed(embedded: LocalBroker) -> None:
    with page(embedded, b"GET / HTTP/1.1\r\n\r\n") as websocket, pytest.raises(ConnectionClosed):
        websocket.recv(DEADLINE_S)
    with program(embedded, b"POST / HTTP/1.1\r\n\r\n") as connection:
        assert connection.recv(1) == b""
    assert local_broker.probe(embedded.host, embedded.port) is Listening.CLOSED_BROKER


def test_a_client_that_says_nothing_is_closed(embedded: LocalBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "_CONNECT_TIMEOUT_S", 0.1)
    with page(embedded, b"") as websocket, pytest.raises(ConnectionClosed):
        websocket.recv(DEADLINE_S)


def test_the_owners_password_is_new_for_each_broker_and_in_no_log(
    embedded: LocalBroker, credentials: CredentialsFile
) -> None:
    with bring_embedded(credentials) as other:
        assert other.password
        assert other.password != embedded.password
        assert other.password not in repr(other)


# --- pages ------------------------------------------------------------------------------------------------------------


def upgrade(broker: LocalBroker, *headers: str) -> str:
    """Return the status line with which a request for a WebSocket is answered, header by header as given."""
    lines = [
        "GET / HTTP/1.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: mqtt",
        *headers,
    ]
    with socket.create_connection((broker.host, broker.websocket_port), DEADLINE_S) as connection:
        connection.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode())
        with connection.makefile("rb") as answer:
            return answer.readline().decode().strip()


OPENED, FORBIDDEN = "HTTP/1.1 101 Switching Protocols", "HTTP/1.1 403 Forbidden"


@pytest.mark.parametrize("host", ["127.0.0.1:9001", "localhost:9001", "LOCALHOST", "[::1]:9001"])
def test_a_page_that_is_paired_gets_a_websocket(embedded: LocalBroker, host: str) -> None:
    assert upgrade(embedded, f"Host: {host}", f"Origin: {PAGE}") == OPENED
    assert upgrade(embedded, f"Host: {host}") == OPENED


@pytest.mark.parametrize(
    "headers",
    [
        ["Host: localhost", f"Origin: {OTHER_PAGE}"],
        ["Host: localhost", "Origin: null"],
        ["Host: localhost", "Origin: "],
        ["Host: localhost", f"Origin: {PAGE}.example.net"],
        ["Host: localhost", "Origin: http://softphone.example.com"],
        ["Host: localhost", f"Origin: {PAGE}:8443"],
        ["Host: localhost", f"Origin: {PAGE}", f"Origin: {OTHER_PAGE}"],
        ["Host: evil.example.net:9001", f"Origin: {PAGE}"],
        ["Host: localhost.example.net", f"Origin: {PAGE}"],
        ["Host: evil.example.net"],
        ["Host: localhost", "Host: evil.example.net"],
        [],
    ],
    ids=lambda headers: ", ".join(headers) or "no Host",
)
def test_a_foreign_page_gets_no_websocket(embedded: LocalBroker, headers: list[str]) -> None:
    assert upgrade(embedded, *headers) == FORBIDDEN


def test_no_page_gets_a_permission_to_ask_for_anything(embedded: LocalBroker) -> None:
    """What a browser asks before it lets a public page ask for something of a private network."""
    lines = [
        "OPTIONS / HTTP/1.1",
        "Host: localhost",
        f"Origin: {PAGE}",
        "Access-Control-Request-Method: GET",
        "Access-Control-Request-Private-Network: true",
        "",
        "",
    ]
    with socket.create_connection((embedded.host, embedded.websocket_port), DEADLINE_S) as connection:
        connection.sendall("\r\n".join(lines).encode())
        answer = connection.makefile("rb").read().decode()
    assert "200" not in answer.partition("\r\n")[0]
    assert "access-control" not in answer.lower()


def test_a_page_uses_only_what_was_given_to_its_origin(credentials: CredentialsFile) -> None:
    credentials.put(credential("other@desk", "its secret", OTHER_PAGE))
    stolen = connect_packet("page", "softphone@desk", "secret")
    with bring_embedded(credentials) as broker, page(broker, stolen, OTHER_PAGE) as websocket:
        assert websocket.recv(DEADLINE_S) == REFUSED


def test_a_page_of_a_configured_origin_uses_any_pairing(credentials: CredentialsFile) -> None:
    with bring_embedded(credentials, OTHER_PAGE) as broker, page(broker, PAIRED, OTHER_PAGE) as websocket:
        assert websocket.recv(DEADLINE_S) == ACCEPTED


def test_no_page_comes_in_as_the_owner(credentials: CredentialsFile) -> None:
    with bring_embedded(credentials) as broker:
        owner = connect_packet("page", broker.user, broker.password)
        with page(broker, owner, PAGE) as websocket:
            assert websocket.recv(DEADLINE_S) == REFUSED


# --- what they may do -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "topic",
    [
        BRIDGE,
        "mutebridge/v1/desk/bridge/event",
        f"{C}/command",
        "mutebridge/v1/desk/controller/other/mic",
        "mutebridge/v1/next/controller/softphone/mic",
        "elsewhere",
    ],
)
def test_a_controller_says_nothing_but_what_is_its_to_say(embedded: LocalBroker, topic: str) -> None:
    owner = connect_packet("owner", embedded.user, embedded.password)
    with program(embedded, owner) as listener, program(embedded, PAIRED) as controller:
        assert listener.recv(4) == controller.recv(4) == ACCEPTED
        listener.sendall(subscribe("#"))
        assert listener.recv(5) == b"\x90\x03\x00\x01\x00"
        controller.sendall(publish(topic, "forged", retain=True) + publish(f"{C}/mic", "muted"))
        heard = publish(f"{C}/mic", "muted")
        assert listener.recv(len(heard)) == heard


def test_a_controller_cannot_leave_a_will_that_is_not_its_to_say(embedded: LocalBroker) -> None:
    with program(embedded, connect_packet("page", "softphone@desk", "secret", will=BRIDGE)) as forger:
        assert forger.recv(4) == REFUSED
    with program(embedded, connect_packet("page", "softphone@desk", "secret", will=f"{C}/availability")) as controller:
        assert controller.recv(4) == ACCEPTED


@pytest.mark.parametrize(
    "topic_filter",
    [
        "#",
        "mutebridge/v1/#",
        "mutebridge/v1/+/bridge/availability",
        "mutebridge/v1/desk/controller/+/command",
        f"{C}/#",
    ],
)
def test_a_controller_cannot_subscribe_to_more_than_it_may_read(embedded: LocalBroker, topic_filter: str) -> None:
    with program(embedded, PAIRED) as controller:
        assert controller.recv(4) == ACCEPTED
        controller.sendall(subscribe(topic_filter))
        assert controller.recv(5) == b"\x90\x03\x00\x01\x80"


def test_a_controller_hears_nothing_that_is_retained_for_others(embedded: LocalBroker) -> None:
    """amqtt would tell a newcomer what matches the subscription of anybody."""
    with program(embedded, connect_packet("owner", embedded.user, embedded.password)) as owner:
        assert owner.recv(4) == ACCEPTED
        other = publish("mutebridge/v1/desk/controller/other/call", "connected", retain=True)
        owner.sendall(other + subscribe("#"))
        assert owner.recv(5) in (other[:5], b"\x90\x03\x00\x01\x00")
        with program(embedded, PAIRED) as controller:
            assert controller.recv(4) == ACCEPTED
            controller.sendall(PING)
            assert controller.recv(2) == PONG


# --- the file of those who may ----------------------------------------------------------------------------------------


def test_a_new_controller_gets_in_without_a_restart(embedded: LocalBroker, credentials: CredentialsFile) -> None:
    newcomer = connect_packet("new", "new@desk", "new secret")
    with program(embedded, newcomer) as refused:
        assert refused.recv(4) == REFUSED
    assert upgrade(embedded, "Host: localhost", f"Origin: {OTHER_PAGE}") == FORBIDDEN
    credentials.put(credential("new@desk", "new secret", OTHER_PAGE))
    with page(embedded, newcomer, OTHER_PAGE) as websocket:
        assert websocket.recv(DEADLINE_S) == ACCEPTED


@pytest.mark.parametrize("how", ["rotated", "revoked"])
def test_an_old_password_is_good_for_nothing(embedded: LocalBroker, credentials: CredentialsFile, how: str) -> None:
    with (
        program(embedded, PAIRED) as connection,
        page(embedded, connect_packet("p2", "softphone@desk", "secret")) as ws,
    ):
        assert connection.recv(4) == ws.recv(DEADLINE_S) == ACCEPTED
        if how == "rotated":
            credentials.put(credential("softphone@desk", "another secret", PAGE))
        else:
            assert credentials.remove("softphone@desk")
        with program(embedded, connect_packet("late", "softphone@desk", "secret")) as late:
            assert late.recv(4) == REFUSED
        assert connection.recv(1) == b"", "its connections end"
        with pytest.raises(ConnectionClosed):
            ws.recv(DEADLINE_S)


def test_the_file_is_private_and_holds_no_password(credentials: CredentialsFile) -> None:
    assert stat.S_IMODE(credentials.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(credentials.path.parent.stat().st_mode) == 0o700
    assert "secret" not in credentials.path.read_text()


def test_a_file_that_cannot_be_read_is_told_at_the_start(credentials: CredentialsFile) -> None:
    credentials.path.write_text("{")
    with pytest.raises(LocalBrokerError, match=r"controllers\.json: is not what"), bring_embedded(credentials):
        pass


@pytest.mark.parametrize("content", ["{", '{"a":' * 10_000], ids=["broken off", "too deep"])
def test_a_file_that_breaks_meanwhile_opens_to_nobody(
    embedded: LocalBroker, credentials: CredentialsFile, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    credentials.path.write_text(content)
    for _ in range(2):
        with program(embedded, PAIRED) as connection:
            assert connection.recv(4) == REFUSED
    assert sum("no controller gets in" in line for line in caplog.messages) == 1


def test_a_bug_inside_is_not_kept_quiet(credentials: CredentialsFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the daemon would look for its own broker for ever."""
    told: queue.SimpleQueue[type[BaseException]] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda failed: told.put(failed.exc_type))
    with bring_embedded(credentials) as broker, program(broker, PAIRED) as connection:
        assert connection.recv(4) == ACCEPTED
        monkeypatch.delattr(CredentialsFile, "all")
        assert told.get(timeout=DEADLINE_S) is AttributeError
        monkeypatch.undo()


def with_source() -> dict[str, str]:
    """The environment for a child process that imports the project from its source."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "daemon")}
