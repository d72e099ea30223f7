"""Serves the softphone page for trying a button, on loopback, to the person in front of this machine alone.

Nothing but the page's own files is there to be had, each by its exact path. A request by a name that is not this
machine's is refused, and no other page may frame this one or read from it. The page's policy lets it connect to one
broker and run its own scripts, nothing else.

A pairing comes in through a door that opens once: a short address that is good to be shown, or given to a browser
as an argument, where every user of the machine can read it. It leads to the page with the pairing in its fragment.
"""

import http
import secrets
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

from mutebridge.core.pairing import Pairing
from mutebridge.core.web_page import is_own_host

FOLDER = Path(__file__).with_name("browser")
HOST = "127.0.0.1"
_PAGE = "page.html"
_DOOR = "/pair/"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}
_NOT_SERVED = ("src", "node_modules")
_REQUEST_TIMEOUT_S = 10.0
_TOKEN_BYTES = 15


class PageServer:
    """Serves from when it is entered; `broker` is the URL to which the page may connect.

    `port` 0 is any free one. OSError when it is taken, or the page is not installed. `on_used` is called, in a thread
    of the server, when somebody came in through the door.
    """

    def __init__(self, broker: str, *, port: int = 0, folder: Path = FOLDER) -> None:
        self.on_used: Callable[[], object] = lambda: None
        self._files = _files(folder)
        self._policy = _policy(broker)
        self._doors: dict[str, Pairing] = {}
        self._lock = threading.Lock()
        handler = type("_PageHandler", (_Handler,), {"site": self})
        self._server = _Server((HOST, port), handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="page server", daemon=True)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/"

    @property
    def origins(self) -> tuple[str, str]:
        """As the page's origin is called, by either name of this machine."""
        return (f"http://{HOST}:{self.port}", f"http://localhost:{self.port}")

    def door(self, pairing: Pairing) -> str:
        """Return an address that leads once to the page with this pairing; the one before is closed."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        with self._lock:
            self._doors = {f"{_DOOR}{token}": pairing}
        return f"{self.url}{_DOOR.lstrip('/')}{token}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # --- for the handler

    def go_through(self, path: str) -> str | None:
        """Return where the door with this path leads, and close it; what was asked of the door is asked of the page."""
        door, mark, query = path.partition("#")[0].partition("?")
        with self._lock:
            pairing = self._doors.pop(door, None)
        return None if pairing is None else pairing.link(f"/{mark}{query}")

    def file(self, path: str) -> tuple[str, bytes] | None:
        """Return type and content of what is served under a path."""
        found = self._files.get(path)
        return (_TYPES[found.suffix], found.read_bytes()) if found else None

    def headers(self) -> Mapping[str, str]:
        """What every answer says."""
        return {
            "Cache-Control": "no-store",
            "Content-Security-Policy": self._policy,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Say nothing: a browser that went away is no trouble."""


class _Handler(BaseHTTPRequestHandler):
    site: PageServer
    timeout = _REQUEST_TIMEOUT_S
    server_version, sys_version = "mutebridge", ""

    def do_GET(self) -> None:
        if not is_own_host(self.headers.get_all("Host") or []):
            self._answer(http.HTTPStatus.FORBIDDEN, "this page is for this machine alone, by its own name\n")
        elif self.path.startswith(_DOOR):
            self._open_door()
        elif (found := self.site.file(self.path.partition("?")[0])) is None:
            self._answer(http.HTTPStatus.NOT_FOUND, "there is no such page\n")
        else:
            self._send(http.HTTPStatus.OK, *found)

    def _open_door(self) -> None:
        link = self.site.go_through(self.path)
        if link is None:
            self._answer(http.HTTPStatus.GONE, "this link was used already, and is good once: take the newest one\n")
        else:
            self._send(http.HTTPStatus.SEE_OTHER, "text/plain", b"", {"Location": link})
            self.site.on_used()

    def _answer(self, status: http.HTTPStatus, text: str) -> None:
        self._send(status, "text/plain; charset=utf-8", text.encode())

    def _send(
        self, status: http.HTTPStatus, content_type: str, body: bytes, more: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**self.site.headers(), "Content-Type": content_type, **(more or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no log: an address may be a door."""


def _files(folder: Path) -> dict[str, Path]:
    """What is served, by path; FileNotFoundError when the page is not there."""
    found = {
        f"/{file.relative_to(folder).as_posix()}": file
        for file in sorted(folder.rglob("*"))
        if file.suffix in _TYPES and file.is_file() and file.relative_to(folder).parts[0] not in _NOT_SERVED
    }
    if f"/{_PAGE}" not in found:
        raise FileNotFoundError(2, "the page is missing", str(folder / _PAGE))
    return {"/": found[f"/{_PAGE}"], **found}


def _policy(broker: str) -> str:
    allowed = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "worker-src": "blob:",  # keeps time in a hidden tab
        "connect-src": broker,
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{what} {where}" for what, where in allowed.items())
