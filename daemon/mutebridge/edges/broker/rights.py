"""What a broker lets a client do, found out by trying.

Its word is not enough: mosquitto grants subscriptions that its access list forbids, and drops forbidden messages
without a word. So every message is published at QoS 1, which MQTT 5 answers with a reason, and is looked out for among
what comes back. Some brokers end the connection instead of refusing: then whatever was tried at that moment is what
they forbid, and the rest is tried over a new one.

The visitor leaves nothing behind: it has no will, and what it publishes is for whoever calls to choose.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Any

import msgspec
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from mutebridge.edges.broker.password import read_password
from mutebridge.edges.broker.problems import (
    CannotConnectError,
    Problem,
    ProblemKind,
    explain_connect_error,
    explain_refusal,
    explain_tls_error,
)
from mutebridge.edges.broker.settings import BrokerSettings
from mutebridge.edges.broker.tls import TlsSocket, tls_context

CONNECT_TIMEOUT_S = 3.0  # per address
ANSWER_TIMEOUT_S = 2.0
ECHO_TIMEOUT_S = 1.0
# Where the broker makes the user's name the client id, each one throws the daemon out, which gives up after five.
MAX_CONNECTIONS = 4
MAX_MESSAGES = 10_000

_TAKEN_OVER = 0x8E  # MQTT 5 reason code (2.4)
_SUCCESS = MQTTErrorCode.MQTT_ERR_SUCCESS
_PROTOCOLS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}
# It may have been the version that the broker did not like.
_PERHAPS_THE_VERSION = (ProblemKind.PROTOCOL, ProblemKind.CLOSED)


class Answer(Enum):
    """What the broker said to a subscription or a message, which need not be true."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    HUNG_UP = "hung_up"
    NONE = "none"  # in time


class Trial(msgspec.Struct, frozen=True):
    """A message to be published; at QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False


class Heard(msgspec.Struct, frozen=True):
    """A message that came, `at_s` seconds after the subscriptions."""

    topic: str
    payload: bytes
    retained: bool
    at_s: float


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out. `problem`: why there was no connection, or none any more; what came before it still counts.

    `subscribed` has the answer to each filter, `published` that to the message on each topic; what is missing was not
    tried. `heard` came within `listened_s`. `certificate_ends_at` is the end of the broker's certificate, in seconds
    since the Unix epoch.
    """

    problem: Problem | None = None
    protocol: str | None = None
    connected_in_s: float | None = None
    certificate_ends_at: float | None = None
    subscribed: dict[str, Answer] = {}
    published: dict[str, Answer] = {}
    heard: tuple[Heard, ...] = ()
    listened_s: float = 0.0


def visit(
    settings: BrokerSettings,
    *,
    client_id: str,
    subscriptions: Sequence[str],
    trials: Sequence[Trial],
    enough: Callable[[Sequence[Heard]], bool],
    timeout_s: float,
) -> Visit:
    """Connect, try every subscription and message one by one, then listen until `enough`, for `timeout_s` in all."""
    visitor = _Visitor(settings, client_id, time.monotonic() + timeout_s)
    problem: Problem | None = None
    try:
        visitor.connect_first()
        visitor.try_subscriptions(subscriptions)
        visitor.try_messages(trials)
        visitor.listen(subscriptions, trials, enough)
    except CannotConnectError as error:
        problem = error.problem
    finally:
        visitor.leave()
    return Visit(
        problem=problem,
        protocol=visitor.protocol if visitor.connected_in_s is not None else None,
        connected_in_s=visitor.connected_in_s,
        certificate_ends_at=visitor.certificate_ends_at,
        subscribed=visitor.subscribed,
        published=visitor.published,
        heard=tuple(visitor.heard),
        listened_s=visitor.listened_s,
    )


class _Visitor:
    """The visit so far, over as many connections as it takes."""

    def __init__(self, settings: BrokerSettings, client_id: str, deadline: float) -> None:
        self.protocol = "3.1.1" if settings.protocol == "3.1.1" else "5"
        self.connected_in_s: float | None = None
        self.certificate_ends_at: float | None = None
        self.subscribed: dict[str, Answer] = {}
        self.published: dict[str, Answer] = {}
        self.heard: list[Heard] = []
        self._settings = settings
        self._client_id = client_id
        self._deadline = deadline
        self._connections = 0
        self._began = time.monotonic()
        self._connection: _Connection | None = None

    @property
    def listened_s(self) -> float:
        return time.monotonic() - self._began

    def connect_first(self) -> None:
        """Find the version that the broker speaks, too. CannotConnectError."""
        began = time.monotonic()
        try:
            connection = self._connect()
        except CannotConnectError as error:
            if self._settings.protocol != "auto" or error.problem.kind not in _PERHAPS_THE_VERSION:
                raise
            self.protocol = "3.1.1"
            try:
                connection = self._connect()
            except CannotConnectError as again:
                raise (error if again.problem.kind in _PERHAPS_THE_VERSION else again) from None
        self.connected_in_s = time.monotonic() - began
        self.certificate_ends_at = connection.certificate_ends_at
        self._began = time.monotonic()

    def try_subscriptions(self, filters: Sequence[str]) -> None:
        for each in filters:
            self.subscribed[each] = self._try(partial(_Connection.subscribe, topic_filter=each))

    def try_messages(self, trials: Sequence[Trial]) -> None:
        for each in trials:
            self.published[each.topic] = self._try(partial(_Connection.publish, trial=each))

    def listen(
        self, filters: Sequence[str], trials: Sequence[Trial], enough: Callable[[Sequence[Heard]], bool]
    ) -> None:
        """First for what was published; what does not come back within a moment does not come."""
        awaited = {
            trial.topic
            for trial in trials
            if self.published.get(trial.topic) is Answer.ACCEPTED
            and any(paho.topic_matches_sub(each, trial.topic) for each in filters)
        }
        connection = self._connected()
        echoed_by = min(self._deadline, time.monotonic() + ECHO_TIMEOUT_S)
        with contextlib.suppress(_HungUpError):
            connection.wait(lambda: awaited <= {heard.topic for heard in self.heard}, echoed_by)
            connection.wait(lambda: enough(self.heard), self._deadline)

    def leave(self) -> None:
        if self._connection is not None:
            self._connection.leave()
            self._connection = None

    def _try(self, ask: "Callable[[_Connection], Answer]") -> Answer:
        connection = self._connected()
        try:
            return ask(connection)
        except _HungUpError:
            self.leave()
            if connection.taken_over:
                raise CannotConnectError(connection.why_it_ended()) from None
            return Answer.HUNG_UP

    def _connected(self) -> "_Connection":
        """Return a connection that has every subscription that was accepted so far. CannotConnectError."""
        if self._connection is None:
            connection = self._connect()
            try:
                for each, answer in self.subscribed.items():
                    if answer is Answer.ACCEPTED:
                        connection.subscribe(each)
            except _HungUpError:
                raise CannotConnectError(connection.why_it_ended()) from None
        assert self._connection is not None
        return self._connection

    def _connect(self) -> "_Connection":
        self._connections += 1
        if self._connections > MAX_CONNECTIONS:
            message = f"has ended {MAX_CONNECTIONS} connections: its log tells why"
            raise CannotConnectError(Problem(ProblemKind.CLOSED, message))
        self._connection = _Connection(self._settings, self._client_id, self.protocol, self._hear, self._deadline)
        self._connection.open()
        return self._connection

    def _hear(self, topic: str, payload: bytes, retained: bool) -> None:
        if len(self.heard) < MAX_MESSAGES:
            self.heard.append(Heard(topic, payload, retained, time.monotonic() - self._began))


class _HungUpError(Exception):
    """The broker ended the connection."""


class _Connection:
    """One connection, driven from the thread that calls."""

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        protocol: str,
        hear: Callable[[str, bytes, bool], None],
        deadline: float,
    ) -> None:
        self._settings = settings
        self._client_id = client_id
        self._v5 = protocol == "5"
        self._hear = hear
        self._deadline = deadline
        self._sock: Any = None
        self._connack: tuple[int, str] | None = None
        self._answers: dict[int, bool] = {}  # by packet id: whether it was accepted
        self._broken = ""
        self.taken_over = False
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if self._v5 else True,
            protocol=_PROTOCOLS[protocol],
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.on_socket_open = self._on_socket_open
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect

    @property
    def certificate_ends_at(self) -> float | None:
        certificate = self._sock.getpeercert() if isinstance(self._sock, ssl.SSLSocket) else None
        ends = (certificate or {}).get("notAfter")
        return float(ssl.cert_time_to_seconds(ends)) if isinstance(ends, str) else None

    def open(self) -> None:
        """CannotConnectError."""
        settings, client = self._settings, self._client
        client.username_pw_set(settings.username, read_password(settings))
        if settings.tls is not None:
            client.tls_set_context(tls_context(settings.tls))
        try:
            client.connect(settings.host, settings.effective_port, settings.keepalive_s)
        except (OSError, UnicodeError) as error:
            raise CannotConnectError(explain_connect_error(error, settings, CONNECT_TIMEOUT_S)) from None
        try:
            answered = self._wait_for(lambda: self._connack is not None)
        except _HungUpError:
            raise CannotConnectError(self.why_it_ended()) from None
        if not answered:
            message = "accepts the connection but does not answer: is it a broker, and alive?"
            raise CannotConnectError(Problem(ProblemKind.SILENT, message))
        assert self._connack is not None
        if self._connack[0]:
            raise CannotConnectError(explain_refusal(*self._connack, self._client_id, settings))

    def subscribe(self, topic_filter: str) -> Answer:
        # At QoS 1, so that nothing that was published for the trial is lost on the way back.
        result, packet_id = self._client.subscribe(topic_filter, qos=1)
        return self._answer(result, packet_id)

    def publish(self, trial: Trial) -> Answer:
        info = self._client.publish(trial.topic, trial.payload, qos=1, retain=trial.retain)
        return self._answer(info.rc, info.mid)

    def wait(self, done: Callable[[], bool], until: float) -> bool:
        """Return whether `done` before `until`; _HungUpError."""
        while not done():
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._turn(left)
        return True

    def why_it_ended(self) -> Problem:
        if self.taken_over:
            message = (
                "gives all clients of one user the same client id, so the daemon and the doctor throw each other out"
            )
            return Problem(ProblemKind.CLIENT_ID_TAKEN, message)
        if isinstance(self._sock, TlsSocket) and self._sock.tls_error is not None:
            return Problem(ProblemKind.TLS, explain_tls_error(self._sock.tls_error, self._settings))
        if self._broken:
            return Problem(ProblemKind.PROTOCOL, f"sent what is not MQTT ({self._broken}): is it an MQTT broker?")
        if self._connack is None:
            hint = "" if self._settings.tls else ", and does this port expect TLS"
            return Problem(ProblemKind.CLOSED, f"hung up without an answer: is it an MQTT broker{hint}?")
        return Problem(ProblemKind.CLOSED, "closed the connection: its log tells why")

    def leave(self) -> None:
        self._client.disconnect()
        with contextlib.suppress(_HungUpError):
            self.wait(lambda: not self._client.want_write(), time.monotonic() + 0.5)
        if self._sock is not None:
            self._sock.close()

    def _answer(self, result: MQTTErrorCode, packet_id: int | None) -> Answer:
        if result != _SUCCESS or packet_id is None:
            raise _HungUpError
        if not self._wait_for(lambda: packet_id in self._answers):
            return Answer.NONE
        return Answer.ACCEPTED if self._answers[packet_id] else Answer.REFUSED

    def _wait_for(self, done: Callable[[], bool]) -> bool:
        return self.wait(done, min(self._deadline, time.monotonic() + ANSWER_TIMEOUT_S))

    def _turn(self, timeout_s: float) -> None:
        try:
            result = self._client.loop(min(timeout_s, 1.0))
        except Exception as error:  # what paho raises on a broken packet is not documented
            self._broken = repr(error)
            raise _HungUpError from None
        if result == MQTTErrorCode.MQTT_ERR_PROTOCOL:
            self._broken = "a packet that is out of place"
        # A refused connection is ended by both sides; then what counts is what the broker said.
        if result != _SUCCESS and not (self._connack is not None and self._connack[0]):
            raise _HungUpError

    def _on_socket_open(self, _client: paho.Client, _userdata: object, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock

    def _on_connect(
        self, _client: paho.Client, _userdata: object, _flags: object, reason: ReasonCode, properties: Any
    ) -> None:
        said = ", ".join(filter(None, (reason.getName(), getattr(properties, "ReasonString", ""))))
        self._connack = (reason.value if reason.is_failure else 0, said)

    def _on_subscribe(
        self, _client: paho.Client, _userdata: object, packet_id: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        self._answers[packet_id] = not any(reason.is_failure for reason in reasons)

    def _on_publish(
        self, _client: paho.Client, _userdata: object, packet_id: int, reason: ReasonCode, _properties: object
    ) -> None:
        self._answers[packet_id] = not reason.is_failure

    def _on_message(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        with contextlib.suppress(UnicodeDecodeError):
            self._hear(message.topic, bytes(message.payload), message.retain)

    def _on_disconnect(
        self, _client: paho.Client, _userdata: object, flags: paho.DisconnectFlags, reason: ReasonCode, _props: object
    ) -> None:
        self.taken_over = flags.is_disconnect_packet_from_server and reason.value == _TAKEN_OVER
