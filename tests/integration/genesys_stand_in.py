"""Genesys Cloud as its public documents describe it, on loopback: login, Platform API, notification channels.

Real HTTP, real WebSockets; the paths, bodies and errors are those of the official SDKs' models
(ConversationEventTopicConversation for events, CallConversationEntityListing for listings, MediaParticipantRequest,
Channel, ErrorBody). It is as awkward as the real one may be: a `Rule` makes it refuse, limit, delay, fail or swallow
answers; events may be held back, doubled, told late; channels may die silently.

What a person does at the softphone (`ring`, `connect`, `mute`, ...) needs no scope.
"""

import base64
import hashlib
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.integration.daemon_record import Record
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

CLIENT_ID = "0d2f7a3c-client"
REDIRECT_URI = "http://localhost:8371/callback"
ALL_SCOPES = frozenset({"conversations", "notifications", "users:readonly"})


class Request(NamedTuple):
    """One request that came, with its status once it was answered; 0 where it was not."""

    at: float
    method: str
    path: str
    body: Any
    status: int


class Reply(NamedTuple):
    status: int
    body: Any = None
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


class Rule:
    """What happens to requests that match, `times` times: `reply` instead of the answer, or after carrying it out.

    `swallow`: carried out, then the connection is closed without an answer. `before` is called first, and may wait.
    """

    def __init__(
        self,
        method: str,
        pattern: str,
        *,
        reply: Reply | None = None,
        swallow: bool = False,
        before: Callable[[], object] | None = None,
        times: int = 1,
    ) -> None:
        self.method, self.pattern = method, re.compile(pattern)
        self.reply, self.swallow, self.before, self.times = reply, swallow, before, times

    def matches(self, method: str, path: str) -> bool:
        return self.times > 0 and method == self.method and bool(self.pattern.search(path))


def error(status: int, code: str, message: str, **more: Any) -> Reply:
    """An ErrorBody."""
    body = {"message": message, "code": code, "status": status, "contextId": secrets.token_hex(16), "details": []}
    return Reply(status, body | more)


def missing_scope(*scopes: str) -> Reply:
    return error(403, "missing.scopes", f"The token lacks the following scope(s): [{', '.join(scopes)}]")


def missing_permissions(*names: str) -> Reply:
    message = "Unable to perform the requested action. You are missing the following permission(s): "
    return error(403, "missing.permissions", f"{message}[{', '.join(names)}]")


def rate_limited(retry_after_s: int) -> Reply:
    reply = error(429, "too.many.requests", "Rate limit exceeded the maximum. Retry the request in a few seconds")
    return reply._replace(headers={"Retry-After": str(retry_after_s)})


class Token(NamedTuple):
    user_id: str | None
    expires: float
    scopes: frozenset[str]


class Call:
    """One conversation with the user in it."""

    def __init__(self) -> None:
        self.id = secrets.token_hex(16)
        self.participant_id = secrets.token_hex(16)
        self.communication_id = secrets.token_hex(16)
        self.state = "alerting"
        self.muted = False
        self.held = False


class Channel:
    def __init__(self, uri: str, expires: datetime) -> None:
        self.id = f"streaming-{secrets.token_hex(8)}"
        self.connect_uri = f"{uri}/channels/{self.id}"
        self.expires = expires
        self.topics: list[str] = []
        self.connections: list[ServerConnection] = []

    def public(self) -> dict[str, str]:
        return {"id": self.id, "connectUri": self.connect_uri, "expires": _iso(self.expires)}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a connection that was reset: that is what some tests are about."""


class GenesysStandIn:
    """`url` is its API's and its login's. Attributes may be set any time.

    `token_s` and `channel_s` are the lifetimes of new tokens and channels; `gives_refresh_token` is up to the OAuth
    client's settings; `answers_pings` and `tells` switch the channel's voice off while the connection stays.
    """

    def __init__(self) -> None:
        self.user_id = secrets.token_hex(16)
        self.token_s = 86400.0
        self.channel_s = 86400.0
        self.gives_refresh_token = True
        self.answers_pings = True
        self.tells = True
        self.requests: Record[Request] = Record("the requests to the API")
        self.patches: Record[tuple[float, dict[str, Any]]] = Record("the changes that were carried out")
        self.pings: Record[float] = Record("the pings on channels")
        self.listeners: Record[str] = Record("the channels that were connected")
        self.held_back: list[str] = []
        self._lock = threading.RLock()
        self._rules: list[Rule] = []
        self._scopes = ALL_SCOPES
        self._tokens: dict[str, Token] = {}
        self._refresh_tokens: set[str] = set()
        self._codes: dict[str, tuple[str, str]] = {}
        self._calls: list[Call] = []
        self._channels: dict[str, Channel] = {}
        self._holding = False
        self._http = _Server(("127.0.0.1", 0), self._handler())
        self._ws: Server = serve(self._listen, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._ws_url = f"ws://127.0.0.1:{self._ws.socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        for run in (self._http.serve_forever, self._ws.serve_forever):
            threading.Thread(target=run, daemon=True).start()
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self._http.shutdown()
        self._http.server_close()
        self.break_channels()
        self._ws.shutdown()

    # --- what a person does at the softphone -------------------------------------------------------------------------

    @property
    def call(self) -> Call:
        """The newest call."""
        return self._calls[-1]

    def do(self, step: str, call: Call | None = None) -> Call:
        """`ring`, `dial`, `connect`, `hold`, `resume`, `mute`, `unmute`, `end`; of the newest call by default."""
        with self._lock:
            if step in ("ring", "dial"):
                self._calls.append(Call())
                self.call.state = "alerting" if step == "ring" else "contacting"
            call = call or self.call
            match step:
                case "connect":
                    call.state = "connected"
                case "hold" | "resume":
                    call.held = step == "hold"
                case "mute" | "unmute":
                    call.muted = step == "mute"
                case "end":
                    call.state = "terminated"
            self.tell(call)
            if step == "end":
                self._calls.remove(call)
            return call

    def connect(self) -> Call:
        self.do("ring")
        return self.do("connect")

    @property
    def muted(self) -> bool | None:
        """The newest call's truth; None outside a call."""
        connected = [call for call in self._calls if call.state == "connected"]
        return connected[-1].muted if connected else None

    # --- what may go wrong -------------------------------------------------------------------------------------------

    def rule(self, method: str, pattern: str, **what: Any) -> Rule:
        rule = Rule(method, pattern, **what)
        with self._lock:
            self._rules.append(rule)
        return rule

    def take_scope(self, *scopes: str) -> None:
        """From now on tokens lack these, as after an administrator's change; without arguments, what muting needs."""
        with self._lock:
            self._scopes = ALL_SCOPES - frozenset(scopes or ("conversations",))

    def give_scope(self) -> None:
        with self._lock:
            self._scopes = ALL_SCOPES

    def issue_token(self, *, user: bool = True) -> str:
        """A token as somebody else may supply it; without `user`, one of the client credentials grant."""
        with self._lock:
            token = secrets.token_urlsafe(32)
            self._tokens[token] = Token(self.user_id if user else None, time.monotonic() + self.token_s, ALL_SCOPES)
            return token

    def issue_refresh_token(self) -> str:
        with self._lock:
            token = secrets.token_urlsafe(32)
            self._refresh_tokens.add(token)
            return token

    def expire_tokens(self) -> None:
        """All access tokens are refused from now on."""
        with self._lock:
            self._tokens.clear()

    def end_logins(self) -> None:
        """Refresh tokens too."""
        with self._lock:
            self._tokens.clear()
            self._refresh_tokens.clear()

    def break_channels(self) -> None:
        """Every connection ends without a farewell."""
        with self._lock:
            connections = [c for channel in self._channels.values() for c in channel.connections]
        for connection in connections:
            _cut(connection)

    def announce_closing(self) -> None:
        """As before maintenance."""
        self._send_all({"topicName": "v2.system.socket_closing", "eventBody": {"message": "The socket is closing"}})

    def heartbeat(self) -> None:
        self._send_all({"topicName": "channel.metadata", "eventBody": {"message": "WebSocket Heartbeat"}})

    @contextmanager
    def holding_events(self) -> Iterator[None]:
        """Events are kept in `held_back`, as texts, to be told with `tell_text` in any order, or never."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False

    def tell(self, call: Call) -> None:
        """Tell of a call as it is now."""
        text = json.dumps(
            {
                "topicName": f"v2.users.{self.user_id}.conversations",
                "version": "2",
                "eventBody": self.event(call),
                "metadata": {"CorrelationId": secrets.token_hex(16)},
            }
        )
        if self._holding:
            self.held_back.append(text)
        else:
            self.tell_text(text)

    def tell_text(self, text: str) -> None:
        topic = json.loads(text).get("topicName") if text.startswith("{") else None
        with self._lock:
            for channel in self._channels.values():
                if topic is None or topic in channel.topics:
                    self._send(channel, text)

    def event(self, call: Call) -> dict[str, Any]:
        """ConversationEventTopicConversation; the user's first, failed attempt stands before the call."""
        earlier = {"id": secrets.token_hex(16), "state": "terminated", "muted": False, "held": False}
        current = {
            "id": call.communication_id,
            "state": call.state,
            "initialState": "alerting",
            "muted": call.muted,
            "confined": False,
            "held": call.held,
            "direction": "inbound",
            "provider": "Edge",
        }
        customer = {
            "id": secrets.token_hex(16),
            "purpose": "customer",
            "calls": [{"id": secrets.token_hex(16), "state": "connected", "muted": False, "held": False}],
        }
        agent = {
            "id": call.participant_id,
            "userId": self.user_id,
            "purpose": "agent",
            "calls": [earlier, current],
        }
        return {"id": call.id, "participants": [customer, agent], "recordingState": "none", "divisions": []}

    # --- HTTP --------------------------------------------------------------------------------------------------------

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                stand_in._handle(self)

            do_GET = do_POST = do_PUT = do_PATCH = _any  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def _handle(self, http: BaseHTTPRequestHandler) -> None:
        raw = http.rfile.read(int(http.headers.get("Content-Length") or 0))
        is_json = http.headers.get("Content-Type") == "application/json"
        body: Any = json.loads(raw) if is_json and raw else raw.decode()
        at = time.monotonic()
        with self._lock:
            rule = next((rule for rule in self._rules if rule.matches(http.command, http.path)), None)
            if rule:
                rule.times -= 1
        if rule and rule.before:
            rule.before()
        with self._lock:
            reply = rule.reply if rule and rule.reply else self._reply(http, body)
        swallowed = bool(rule and rule.swallow)
        self.requests.add(Request(at, http.command, http.path, body, 0 if swallowed else reply.status))
        if swallowed:
            http.close_connection = True
            return
        data = b"" if reply.body is None else json.dumps(reply.body).encode()
        try:
            http.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                http.send_header(name, value)
            http.send_header("Content-Length", str(len(data)))
            http.end_headers()
            http.wfile.write(data)
        except OSError:
            http.close_connection = True  # nobody waits for it any more

    def _reply(self, http: BaseHTTPRequestHandler, body: Any) -> Reply:
        path = urlsplit(http.path).path
        if path == "/oauth/authorize":
            return self._authorize(parse_qs(urlsplit(http.path).query))
        if path == "/oauth/token":
            return self._token(parse_qs(body))
        token = self._tokens.get((http.headers.get("Authorization") or "").removeprefix("Bearer "))
        if token is None or token.expires < time.monotonic():
            return error(
                401, "authentication.required", "No authentication bearer token specified in authorization header."
            )
        return self._api(token, http.command, path, body)

    def _api(self, token: Token, method: str, path: str, body: Any) -> Reply:
        scopes = token.scopes & self._scopes
        if (method, path) == ("GET", "/api/v2/users/me"):
            if token.user_id is None:
                return error(400, "bad.request", "This request requires a user context.")
            return self._scoped(
                scopes, "users:readonly", lambda: Reply(200, {"id": token.user_id, "name": "Ada Agent"})
            )
        if path.startswith("/api/v2/notifications/channels"):
            return self._scoped(scopes, "notifications", lambda: self._channels_api(method, path, body))
        if (method, path) == ("GET", "/api/v2/conversations/calls"):
            # Reading has a scope of its own, conversations:readonly, which these tokens keep.
            return Reply(200, self.listing())
        if method == "PATCH" and path.startswith("/api/v2/conversations/calls/"):
            return self._scoped(scopes, "conversations", lambda: self._patch(path, body))
        return error(404, "not.found", "The requested resource was not found.")

    def _scoped(self, scopes: frozenset[str], needed: str, then: Callable[[], Reply]) -> Reply:
        return then() if needed in scopes else missing_scope(needed)

    def listing(self) -> dict[str, Any]:
        """CallConversationEntityListing."""
        entities = [
            {
                "id": call.id,
                "participants": [
                    {"id": secrets.token_hex(16), "purpose": "customer", "state": "connected", "muted": False},
                    {
                        "id": call.participant_id,
                        "purpose": "agent",
                        "user": {"id": self.user_id},
                        "state": call.state,
                        "held": call.held,
                        "muted": call.muted,
                    },
                ],
            }
            for call in self._calls
        ]
        return {"entities": entities, "pageSize": 25, "pageNumber": 1, "total": len(entities)}

    def _patch(self, path: str, body: Any) -> Reply:
        found = re.fullmatch(r"/api/v2/conversations/calls/([^/]+)/participants/([^/]+)", path)
        calls = [c for c in self._calls if found and (c.id, c.participant_id) == (found[1], found[2])]
        if not calls:
            return error(404, "conversation.not.found", "The conversation was not found or is not active.")
        call = calls[0]
        self.patches.add((time.monotonic(), body))
        if "muted" in body:
            call.muted = bool(body["muted"])
        if body.get("state", "").lower() == "connected":
            call.state = "connected"
        if body.get("state", "").lower() == "disconnected":
            call.state = "terminated"
        self.tell(call)
        if call.state == "terminated":
            self._calls.remove(call)
        return Reply(202)

    # --- login -------------------------------------------------------------------------------------------------------

    def _authorize(self, query: dict[str, list[str]]) -> Reply:
        given = {name: values[0] for name, values in query.items()}
        if given.get("client_id") != CLIENT_ID or given.get("response_type") != "code":
            return error(400, "invalid_request", "unknown client")
        if given.get("code_challenge_method") != "S256" or not given.get("code_challenge"):
            return error(400, "invalid_request", "PKCE is required")
        code = secrets.token_urlsafe(16)
        self._codes[code] = (given["code_challenge"], given["redirect_uri"])
        back = urlencode({"code": code, "state": given.get("state", "")})
        return Reply(302, None, {"Location": f"{given['redirect_uri']}?{back}"})

    def _token(self, form: dict[str, list[str]]) -> Reply:
        given = {name: values[0] for name, values in form.items()}
        if given.get("client_id") != CLIENT_ID:
            return Reply(401, {"error": "invalid_client", "description": "client not found"})
        if given.get("grant_type") == "authorization_code":
            challenge, redirect_uri = self._codes.pop(given.get("code", ""), ("", ""))
            hashed = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
            proven = base64.urlsafe_b64encode(hashed).decode().rstrip("=")
            if not challenge or proven != challenge or redirect_uri != given.get("redirect_uri"):
                return Reply(400, {"error": "invalid_grant", "error_description": "authorization code is not valid"})
        elif given.get("grant_type") == "refresh_token":
            if given.get("refresh_token") not in self._refresh_tokens:
                return Reply(400, {"error": "invalid_grant", "error_description": "refresh token is not valid"})
            self._refresh_tokens.discard(given["refresh_token"])  # each is good once
        else:
            return Reply(400, {"error": "unsupported_grant_type"})
        granted: dict[str, Any] = {
            "access_token": self.issue_token(),
            "token_type": "bearer",
            "expires_in": int(self.token_s),
        }
        if self.gives_refresh_token:
            granted["refresh_token"] = self.issue_refresh_token()
        return Reply(200, granted)

    # --- notification channels ---------------------------------------------------------------------------------------

    def _channels_api(self, method: str, path: str, body: Any) -> Reply:
        if (method, path) == ("POST", "/api/v2/notifications/channels"):
            channel = Channel(self._ws_url, datetime.now(UTC) + timedelta(seconds=self.channel_s))
            self._channels[channel.id] = channel
            return Reply(200, channel.public())
        found = re.fullmatch(r"/api/v2/notifications/channels/([^/]+)/subscriptions", path)
        if method != "PUT" or not found or found[1] not in self._channels:
            return error(404, "not.found", "The requested resource was not found.")
        topics = [each["id"] for each in body]
        if any(topic != f"v2.users.{self.user_id}.conversations" for topic in topics):
            return error(400, "notification.topics.not.valid", "One or more topics are not valid.")
        self._channels[found[1]].topics = topics
        return Reply(200, {"entities": body})

    def _listen(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        channel = self._channels.get(connection.request.path.rpartition("/")[2])
        if channel is None or channel.expires < datetime.now(UTC):
            connection.send(json.dumps({"result": "404", "message": "channel not found"}))
            return
        with self._lock:
            channel.connections.append(connection)
        self.listeners.add(channel.id)
        try:
            for text in connection:
                if json.loads(text) == {"message": "ping"}:
                    self.pings.add(time.monotonic())
                    if self.answers_pings:
                        pong = {"topicName": "channel.metadata", "eventBody": {"message": "pong"}}
                        connection.send(json.dumps(pong))
        except (ConnectionClosed, OSError):
            pass
        finally:
            with self._lock:
                channel.connections.remove(connection)

    @property
    def open_channels(self) -> int:
        with self._lock:
            return sum(len(channel.connections) for channel in self._channels.values())

    def _send_all(self, message: dict[str, Any]) -> None:
        with self._lock:
            for channel in self._channels.values():
                self._send(channel, json.dumps(message))

    def _send(self, channel: Channel, text: str) -> None:
        if not self.tells:
            return
        for connection in channel.connections:
            try:
                connection.send(text)
            except (ConnectionClosed, OSError):
                continue


def _cut(connection: ServerConnection) -> None:
    with suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
