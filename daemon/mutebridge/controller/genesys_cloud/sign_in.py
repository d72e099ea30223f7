"""Lets a person log in: the authorization code grant with PKCE, whose redirect comes back to this machine.

The browser is sent to Genesys Cloud, and Genesys Cloud sends it back to `redirect_uri`, where this listens on loopback
(RFC 8252). Genesys Cloud compares that address letter by letter with those of the OAuth client, so its port is fixed.
Where the browser is on another machine, its last address can be pasted instead.
"""

import http.server
import secrets
import select
import time
from typing import Any, TextIO
from urllib.parse import parse_qs, urlsplit

from mutebridge.controller.genesys_cloud.api import within
from mutebridge.controller.genesys_cloud.login import Login, LoginError, OAuthClient, new_verifier

DEFAULT_REDIRECT_URI = "http://localhost:8371/callback"
PATIENCE_S = 600.0
REDEEM_TIMEOUT_S = 20.0

_DONE = b"<!doctype html><meta charset=utf-8><title>mutebridge</title><p>Logged in. You can close this page."
_NOT_DONE = b"<!doctype html><meta charset=utf-8><title>mutebridge</title><p>Not logged in; the terminal says why."


class _Redirect(http.server.BaseHTTPRequestHandler):
    """Takes the one request of the browser that matters."""

    server: "_Listener"
    timeout = 5  # a connection that says nothing holds nobody up

    def do_GET(self) -> None:
        came_back = urlsplit(self.path).path == self.server.path
        if came_back:
            self.server.came_back_to = self.path
        page = _DONE if came_back and "code=" in self.path else _NOT_DONE
        self.send_response(200 if came_back else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the address holds the code."""


class _Listener(http.server.HTTPServer):
    came_back_to: str | None = None

    def __init__(self, redirect_uri: str) -> None:
        parts = urlsplit(redirect_uri)
        if parts.scheme != "http" or parts.hostname not in ("localhost", "127.0.0.1") or not parts.port:
            raise ValueError(f"redirect URI {redirect_uri!r}: http://localhost:PORT/... is expected")
        self.path = parts.path
        super().__init__(("127.0.0.1", parts.port), _Redirect)


def sign_in(client: OAuthClient, redirect_uri: str, *, out: TextIO, typed: TextIO | None = None) -> Login:
    """Print where to log in, wait for the browser to come back, return the login.

    LoginError, ExchangeError; ValueError for a redirect URI of another machine; OSError when its port is taken.
    """
    verifier, state = new_verifier(), secrets.token_urlsafe(24)
    with _Listener(redirect_uri) as listener:
        url = client.authorize_url(redirect_uri=redirect_uri, verifier=verifier, state=state)
        out.write(f"Open this address in a browser, and log in:\n\n{url}\n\n")
        if typed is not None:
            out.write("If that browser is on another machine, paste the address here that it ends at.\n")
        out.flush()
        came_back_to = _wait(listener, typed)
    code = _code(came_back_to, state)
    return client.redeem(code, redirect_uri=redirect_uri, verifier=verifier, wanted=within(REDEEM_TIMEOUT_S))


def _wait(listener: _Listener, typed: TextIO | None) -> str:
    deadline = time.monotonic() + PATIENCE_S
    sources: list[Any] = [listener, *([typed] if typed else [])]
    while listener.came_back_to is None:
        ready, _, _ = select.select(sources, [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise LoginError(f"nobody logged in within {PATIENCE_S / 60:.0f} minutes")
        if listener in ready:
            listener.handle_request()
        elif typed:
            line = typed.readline()
            if not line:  # the end: only the browser is left
                sources.remove(typed)
            elif line.strip():
                return line.strip()
    return listener.came_back_to


def _code(came_back_to: str, state: str) -> str:
    query = {name: values[-1] for name, values in parse_qs(urlsplit(came_back_to).query).items()}
    if not secrets.compare_digest(query.get("state", "").encode(), state.encode()):
        raise LoginError("the browser came back from another login; start again")
    if "code" not in query:
        why = query.get("error_description") or query.get("error") or "it gave no code"
        raise LoginError(f"Genesys Cloud did not log you in: {why[:200]}")
    return query["code"]
