"""One HTTP request: sent while it is wanted, told apart by whether it may have been carried out."""

import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from tests.integration.certificates import Certificates

from mutebridge.controller.genesys_cloud.api import within
from mutebridge.controller.genesys_cloud.exchange import Exchange, NotSentError, UnansweredError

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def take_request(connection: socket.socket) -> None:
    data = b""
    while not data.endswith(b"}"):
        more = connection.recv(1000)
        if not more:
            raise ConnectionError
        data += more


class Peer:
    """A server that answers each connection with a function of it, and remembers all that came."""

    def __init__(self, serve: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> None:
        self.serve, self.context = serve, context
        self.accepted = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http{'s' if context else ''}://localhost:{self.listener.getsockname()[1]}"

    def run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.accepted += 1
                with connection, suppress(OSError):
                    self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        if self.context is None:
            self.serve(connection)
        else:
            with self.context.wrap_socket(connection, server_side=True) as wrapped:
                self.serve(wrapped)


@contextmanager
def peer(serve: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> Iterator[Peer]:
    server = Peer(serve, context)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()
        thread.join(20)


def patch(exchange: Exchange, seconds: float) -> int:
    return exchange.send("PATCH", "/calls", {}, b'{"muted":false}', within(seconds)).status


def test_what_is_not_wanted_any_more_is_not_sent() -> None:
    came: queue.Queue[bytes] = queue.Queue()

    def serve(connection: socket.socket) -> None:
        came.put(connection.recv(1000))

    with peer(serve) as server:
        exchange = Exchange(server.url)
        left = iter([5.0, 5.0, 0.0])  # the time went by while it was connected
        with pytest.raises(NotSentError) as refused:
            exchange.send("PATCH", "/calls", {}, b"{}", lambda: next(left))
        assert refused.value.too_late
        exchange.close()
        assert came.get(timeout=20) == b"", "it was connected, and closed again"


def test_a_request_without_answer_is_taken_back_as_far_as_can_be() -> None:
    """A reset, not an end: what the kernel still holds is not delivered later."""
    ends: queue.Queue[str] = queue.Queue()

    def serve(connection: socket.socket) -> None:
        connection.settimeout(20)
        try:
            while connection.recv(1000):
                pass
            ends.put("ended")
        except ConnectionResetError:
            ends.put("reset")

    with peer(serve) as server:
        with pytest.raises(UnansweredError, match="it took too long"):
            patch(Exchange(server.url), 0.3)
        assert ends.get(timeout=20) == "reset"


def test_a_connection_is_kept_and_replaced_when_the_server_has_closed_it() -> None:
    closed = threading.Event()

    def serve(connection: socket.socket) -> None:
        for _ in range(2):
            take_request(connection)
            connection.sendall(ANSWER)
        connection.close()
        closed.set()

    with peer(serve) as server:
        exchange = Exchange(server.url)
        assert [patch(exchange, 20) for _ in range(2)] == [200, 200]
        assert server.accepted == 1
        assert closed.wait(20)
        closed.clear()
        assert patch(exchange, 20) == 200
        assert server.accepted == 2
        exchange.close()


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"])
def test_an_answer_that_is_none_leaves_it_open_whether_it_was_done(answer: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        take_request(connection)
        connection.sendall(answer)

    with peer(serve) as server, pytest.raises(UnansweredError, match="no answer from localhost"):
        patch(Exchange(server.url), 20)


def test_a_second_thread_waits_no_longer_than_its_own_request_is_wanted() -> None:
    answer = threading.Event()

    def serve(connection: socket.socket) -> None:
        take_request(connection)
        answer.wait(20)
        connection.sendall(ANSWER)

    with peer(serve) as server:
        exchange = Exchange(server.url)
        first = threading.Thread(target=patch, args=(exchange, 20))
        first.start()
        while server.accepted == 0:
            first.join(0.01)
        with pytest.raises(NotSentError):
            patch(exchange, 0.1)
        answer.set()
        first.join(20)
        exchange.close()


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("trusted", None),
        (
            "untrusted",
            "cannot reach localhost:.*: TLS: self-signed certificate in certificate chain|TLS: unable to get",
        ),
        ("other", "TLS: Hostname mismatch"),
        ("expired", "TLS: certificate has expired"),
    ],
)
def test_tls_is_verified(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, host: str, why: str | None
) -> None:
    cert, key = certificates.server("elsewhere" if host == "other" else "localhost", expired=host == "expired")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    # OpenSSL's way to name the system's authorities.
    monkeypatch.setenv("SSL_CERT_FILE", certificates.other_ca_file if host == "untrusted" else certificates.ca_file)

    def serve(connection: socket.socket) -> None:
        take_request(connection)
        connection.sendall(ANSWER)

    with peer(serve, context) as server:
        exchange = Exchange(server.url)
        if why is None:
            assert patch(exchange, 20) == 200
            exchange.close()
        else:
            with pytest.raises(NotSentError, match=why):
                patch(exchange, 20)


@pytest.mark.parametrize("allowed", [True, False])
def test_a_proxy_is_used_where_the_environment_names_one(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.server("localhost"))
    monkeypatch.setenv("SSL_CERT_FILE", certificates.ca_file)
    asked: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        take_request(connection)
        connection.sendall(ANSWER)

    def proxy(connection: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        asked.append(head)
        if not allowed:
            connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with context.wrap_socket(connection, server_side=True) as wrapped:
            serve(wrapped)

    with peer(proxy) as through:
        monkeypatch.setenv("https_proxy", through.url.replace("http://", "http://user:pass%40word@"))
        monkeypatch.delenv("no_proxy", raising=False)
        exchange = Exchange("https://localhost:9")
        if allowed:
            assert patch(exchange, 20) == 200
        else:
            with pytest.raises(NotSentError, match="cannot reach localhost:9: Tunnel connection failed: 407"):
                patch(exchange, 20)
        exchange.close()
    assert asked[0].startswith(b"CONNECT localhost:9 ")
    assert b"Basic dXNlcjpwYXNzQHdvcmQ=" in asked[0]


def test_a_name_that_is_not_found_is_told() -> None:
    with pytest.raises(NotSentError, match=r"cannot reach api\.example\.invalid: its name is not found"):
        patch(Exchange("https://api.example.invalid"), 20)


@pytest.mark.parametrize("url", ["http://api.mypurecloud.com", "ftp://localhost", "api.mypurecloud.com", ""])
def test_only_tls_leaves_this_machine(url: str) -> None:
    with pytest.raises(ValueError, match="https://host is expected"):
        Exchange(url)
