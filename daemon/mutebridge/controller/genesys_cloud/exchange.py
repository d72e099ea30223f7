"""One HTTP request and its answer, sent while it is wanted or not at all.

http.client over one connection that is kept, since a press should not wait for a TLS handshake. What failed is told
apart by the one question that matters to a command: may it have been carried out? `NotSentError` says no,
`UnansweredError` says perhaps.

A request whose time is over does not act late: whether it is still wanted is asked last of all, when the connection
stands. When its answer does not come in time, the connection is reset, not closed: the kernel then throws away what it
has not delivered yet, instead of delivering it when the network comes back.
"""

import base64
import contextlib
import http.client
import select
import socket
import ssl
import struct
import threading
import urllib.request
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit

import msgspec

from mutebridge import __version__

MAX_ANSWER_BYTES = 4 * 1024 * 1024
_LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)

Wanted = Callable[[], float]
"""Seconds that a request is still wanted; 0 for no more."""


class ExchangeError(Exception):
    """The message is for a person: which host, what is wrong."""


class NotSentError(ExchangeError):
    """Nothing was sent. `too_late`: because it was not wanted any more."""

    def __init__(self, message: str, *, too_late: bool = False) -> None:
        super().__init__(message)
        self.too_late = too_late


class UnansweredError(ExchangeError):
    """It was sent, at least in part, and may have been carried out."""


class Answer(msgspec.Struct, frozen=True):
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class Exchange:
    """Requests to one host, from any thread, one after the other."""

    def __init__(self, base_url: str) -> None:
        """ValueError for a URL that is not https; http is for this machine only, where the tests are."""
        parts = urlsplit(base_url)
        self.host = parts.netloc
        if parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"):
            self._connection = http.client.HTTPConnection(parts.hostname, parts.port)
        elif parts.scheme == "https" and parts.hostname:
            self._connection = _secure_connection(parts.hostname, parts.port or 443)
        else:
            raise ValueError(f"{base_url!r}: https://host is expected")
        self._lock = threading.Lock()

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, wanted: Wanted) -> Answer:
        """Send one request and return its answer, whatever its status. NotSentError, UnansweredError."""
        if not self._lock.acquire(timeout=max(0.0, wanted())):
            raise self._too_late()
        try:
            self._connect(wanted)
            return self._send(method, path, headers, body, wanted)
        finally:
            self._lock.release()

    def abort(self) -> None:
        """Let what is under way in another thread end."""
        sock = self._connection.sock
        if sock:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection, after which another one may be made."""
        with self._lock:
            self._connection.close()

    def _connect(self, wanted: Wanted) -> None:
        sock = self._connection.sock
        if sock and not _was_closed(sock):
            return
        self._connection.close()
        timeout_s = wanted()
        if timeout_s <= 0:
            raise self._too_late()
        self._connection.timeout = timeout_s
        try:
            self._connection.connect()
        except OSError as error:
            self._connection.close()
            raise NotSentError(f"cannot reach {self.host}: {_why(error)}") from None
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _send(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, wanted: Wanted) -> Answer:
        timeout_s = wanted()
        if timeout_s <= 0:
            raise self._too_late()
        connection = self._connection
        connection.sock.settimeout(timeout_s)
        try:
            connection.request(method, path, body, {"User-Agent": f"mutebridge/{__version__}", **headers})
            with connection.getresponse() as response:
                data = response.read(MAX_ANSWER_BYTES)
                whole = not response.length and not response.read(1)
        except (OSError, http.client.HTTPException) as error:
            self._reset()
            raise UnansweredError(f"no answer from {self.host}: {_why(error)}") from None
        if not whole:
            self._reset()
            raise UnansweredError(f"no answer from {self.host}: it is cut off, or over {MAX_ANSWER_BYTES} bytes long")
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)

    def _reset(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT_AT_ALL)
        self._connection.close()

    def _too_late(self) -> NotSentError:
        return NotSentError(f"there was no time left to ask {self.host}", too_late=True)


def _secure_connection(host: str, port: int) -> http.client.HTTPConnection:
    """Through the proxy that $https_proxy names, unless $no_proxy says otherwise; as websocket-client does it, too."""
    context = ssl.create_default_context()
    proxy_url = "" if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get("https", "")
    proxy = urlsplit(proxy_url if "//" in proxy_url else f"//{proxy_url}")
    if not proxy.hostname:
        return http.client.HTTPSConnection(host, port, context=context)
    connection = http.client.HTTPSConnection(proxy.hostname, proxy.port or 80, context=context)
    headers = {}
    if proxy.username:
        pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    connection.set_tunnel(host, port, headers)
    return connection


def _was_closed(sock: socket.socket) -> bool:
    """Whether there is something to read where nothing was asked: the end of the connection."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _why(error: BaseException) -> str:
    if isinstance(error, socket.gaierror):
        return f"its name is not found ({error.strerror})"
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {getattr(error, 'verify_message', None) or error.reason or error}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
