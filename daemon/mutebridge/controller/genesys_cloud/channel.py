"""A notification channel: the WebSocket through which Genesys Cloud tells what happens.

`POST /api/v2/notifications/channels` makes one (`id`, `connectUri`, `expires`), `PUT .../{id}/subscriptions` says what
it is to tell. Genesys Cloud closes it after 24 hours, when the token it was made with ends, and at times for
maintenance, which `v2.system.socket_closing` announces a minute ahead. It sends `channel.metadata` with "WebSocket
Heartbeat" every half minute, and answers `{"message": "ping"}` with "pong". Twenty channels are allowed for a user of
one OAuth client; a further one takes the place of the oldest, first of those that nobody listens to.
"""

import contextlib
import ssl
import time
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import websocket

from mutebridge.controller.genesys_cloud.api import Api
from mutebridge.controller.genesys_cloud.exchange import Wanted

MAX_LIFETIME_S = 24 * 3600.0
REPLACED_AFTER = 0.9
"""The share of its lifetime after which a channel is replaced by the next one."""


class ChannelLostError(Exception):
    """The channel tells nothing any more; the message says why."""


class Notification(msgspec.Struct, frozen=True):
    """`alive`: a heartbeat or pong. `told`: `body` is about `topic`. `closing`: take another channel."""

    what: Literal["alive", "told", "closing"]
    topic: str = ""
    body: Any = None


class _Made(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    connect_uri: str
    expires: datetime | None = None


class _Message(msgspec.Struct, frozen=True, rename="camel"):
    topic_name: str | None = None
    event_body: Any = None
    result: Any = None


class Channel:
    """One channel, open and subscribed. One thread receives; `abort` is for any other."""

    def __init__(self, api: Api, topics: list[str], *, wanted: Wanted, insecure_loopback: bool = False) -> None:
        """Make, subscribe and connect it. ChannelLostError, and what `Api.request` raises."""
        made = _read_made(api.request("POST", "/api/v2/notifications/channels", wanted=wanted))
        if not made.connect_uri.startswith("wss://") and not insecure_loopback:
            raise ChannelLostError("Genesys Cloud named a notification channel without TLS, which is not used")
        subscriptions = [{"id": topic} for topic in topics]
        api.request("PUT", f"/api/v2/notifications/channels/{made.id}/subscriptions", subscriptions, wanted=wanted)
        self._replace_at = time.monotonic() + REPLACED_AFTER * _lifetime_s(made)
        self._socket = _connected(made.connect_uri, wanted)

    @property
    def due_in_s(self) -> float:
        """How long until it should be replaced."""
        return self._replace_at - time.monotonic()

    def receive(self, timeout_s: float) -> Notification | None:
        """Return the next message, None when none came in time. ChannelLostError."""
        self._socket.settimeout(max(0.01, timeout_s))
        try:
            text = self._socket.recv()
        except websocket.WebSocketTimeoutException:
            return None
        except (websocket.WebSocketException, OSError) as error:
            raise ChannelLostError(f"the notification channel broke: {error or type(error).__name__}") from None
        if not text:
            raise ChannelLostError("Genesys Cloud closed the notification channel")
        return _read(text)

    def ping(self) -> None:
        """Ask for a sign of life. ChannelLostError."""
        try:
            self._socket.settimeout(5.0)
            self._socket.send('{"message":"ping"}')
        except (websocket.WebSocketException, OSError) as error:
            raise ChannelLostError(f"the notification channel broke: {error or type(error).__name__}") from None

    def abort(self) -> None:
        """Let `receive` end, in whichever thread it waits."""
        self._socket.abort()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        with contextlib.suppress(websocket.WebSocketException, OSError):
            self._socket.close(timeout=1)


def _read_made(answer: object) -> _Made:
    try:
        return msgspec.convert(answer, _Made)
    except msgspec.ValidationError as error:
        raise ChannelLostError(f"Genesys Cloud made a notification channel of another kind: {error}") from None


def _lifetime_s(made: _Made) -> float:
    """What is left of it; all of it where the two clocks disagree too much to tell."""
    if made.expires is None:
        return MAX_LIFETIME_S
    left_s = (made.expires.astimezone(UTC) - datetime.now(UTC)).total_seconds()
    return left_s if 0 < left_s < MAX_LIFETIME_S else MAX_LIFETIME_S


def _connected(uri: str, wanted: Wanted) -> websocket.WebSocket:
    try:
        return websocket.create_connection(
            uri,
            timeout=max(0.1, wanted()),
            sslopt={"context": ssl.create_default_context()},
            redirect_limit=0,
            enable_multithread=False,
        )
    except (websocket.WebSocketException, OSError) as error:
        raise ChannelLostError(f"cannot connect the notification channel: {error or type(error).__name__}") from None


def _read(text: str | bytes) -> Notification:
    try:
        message = msgspec.json.decode(text, type=_Message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ChannelLostError("the notification channel told something else than JSON") from None
    if message.topic_name == "v2.system.socket_closing":
        return Notification("closing")
    if message.topic_name == "channel.metadata":
        return Notification("alive")
    if message.topic_name:
        return Notification("told", message.topic_name, message.event_body)
    if str(message.result) not in ("200", "None"):
        raise ChannelLostError(f"the notification channel answered {message.result}: it has ended")
    return Notification("alive")
