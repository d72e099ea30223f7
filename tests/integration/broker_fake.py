"""A server on raw sockets that says to a client what a well-behaved broker never would."""

import contextlib
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

CONNECT, PUBLISH, PUBLISH_RETAINED_QOS_1, SUBSCRIBE, PINGREQ, DISCONNECT = 0x10, 0x30, 0x33, 0x82, 0xC0, 0xE0
PINGRESP = b"\xd0\x00"


class Packet(NamedTuple):
    header: int
    body: bytes

    @property
    def level(self) -> int:
        """The protocol level in a CONNECT: 4 is 3.1.1, 5 is 5."""
        return self.body[6]


class Session:
    """One connection as the server sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def read(self) -> Packet:
        """Return the next packet; ConnectionError at the end."""
        header = self._exactly(1)[0]
        length = shift = 0
        while True:
            byte = self._exactly(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return Packet(header, self._exactly(length))

    def read_until(self, header: int) -> Packet:
        while (packet := self.read()).header != header:
            pass
        return packet

    def send(self, *packets: bytes) -> None:
        """Send them in one write: with TLS, one record."""
        self._sock.sendall(b"".join(packets))

    def welcome(self) -> None:
        """Accept the CONNECT, grant the SUBSCRIBE, whichever version."""
        level = self.read_until(CONNECT).level
        self.send(connack(0, level))
        self.send(suback(self.read_until(SUBSCRIBE), 0, level))

    def is_silent_for(self, seconds: float) -> bool:
        """Return whether nothing comes for so long."""
        readable, _, _ = select.select([self._sock], [], [], seconds)
        return not readable

    def wait_end(self) -> None:
        """Read until the client hangs up."""
        with contextlib.suppress(OSError):
            while self._sock.recv(65536):
                pass

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._sock.recv(size - len(data))
            if not more:
                raise ConnectionError("the client hung up")
            data += more
        return data


class FakeBroker:
    """Runs `script` for each connection, then hangs up; `sessions` counts them."""

    def __init__(self, script: Callable[[Session], None], context: ssl.SSLContext | None = None) -> None:
        self.sessions = 0
        self._script = script
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> "FakeBroker":
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.sessions += 1
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        self._open.add(sock)
        try:
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
                self._open.add(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._script(Session(sock))
        except OSError:
            pass  # the client hung up, or the test is over
        finally:
            self._open.discard(sock)
            sock.close()


def connack(code: int, level: int) -> bytes:
    return _packet(0x20, bytes((0, code)) + (b"\0" if level == 5 else b""))


def suback(subscribe: Packet, code: int, level: int) -> bytes:
    return _packet(0x90, subscribe.body[:2] + (b"\0" if level == 5 else b"") + bytes((code,)))


def publish(topic: str, payload: bytes, level: int = 5, *, properties: bytes = b"") -> bytes:
    name = topic.encode()
    head = struct.pack("!H", len(name)) + name + (bytes((len(properties),)) + properties if level == 5 else b"")
    return _packet(0x30, head + payload)


def _packet(header: int, body: bytes) -> bytes:
    assert len(body) < 128 * 128
    length = (len(body),) if len(body) < 128 else (len(body) % 128 | 128, len(body) // 128)
    return bytes((header, *length)) + body
