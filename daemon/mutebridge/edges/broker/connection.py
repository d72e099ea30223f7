"""One connection to a broker, from the look-up of the host to its end.

The thread that runs it reads, supervises and closes; any thread may publish, and writes to the socket itself. A lock
makes packets leave whole. It is held for non-blocking writes only, never while a callback runs, so a callback may wait
for a lock that another thread holds around `publish()`.

paho's own loop, keep-alive and reconnection are not used, and a client serves one connection: what was queued inside
dies with it, and neither arrives late through a later connection nor twice.

paho-mqtt is imported here only; none of its types or exceptions leave this module.
"""

import enum
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from mutebridge.edges.broker.password import read_password
from mutebridge.edges.broker.problems import (
    UNSUPPORTED_PROTOCOL,
    CallbackError,
    CannotConnectError,
    Problem,
    ProblemKind,
    explain_connect_error,
    explain_refusal,
    explain_tls_error,
)
from mutebridge.edges.broker.pulse import Pulse
from mutebridge.edges.broker.settings import BrokerSettings, Presence, Retained
from mutebridge.edges.broker.tls import TlsSocket, tls_context

CONNECT_TIMEOUT_S = 3.0  # per address, and again for the TLS handshake
ANSWER_TIMEOUT_S = 3.0  # for the CONNACK, and again for the SUBACK
TCP_USER_TIMEOUT_MS = 4000  # sent, but not acknowledged by the other machine's kernel
MAX_PACKET_BYTES = 256 * 1024  # told to the broker (MQTT 5)
MAX_EARLY_MESSAGES = 10_000  # retained messages that come before the SUBACK
MAX_QUEUED_MESSAGES = 1000  # QoS 1, unacknowledged
MAX_INFLIGHT = 20  # QoS 1, sent and unacknowledged; fewer if the broker says so

_READ_AHEAD_BYTES = 4096
_QOS_BITS, _RETAIN_BIT = 0x06, 0x01  # of a PUBLISH's first byte (MQTT 5, 3.3.1)
_NO_PROPERTIES = b"\0"
_TAKEN_OVER = 0x8E  # MQTT 5 reason code (2.4)
_PINGRESP_BYTES = 2
_TLS13_OVERHEAD_BYTES = 5 + 1 + 16  # header, content type and tag of a record (RFC 8446, 5.2), without padding

_SUCCESS = MQTTErrorCode.MQTT_ERR_SUCCESS
_PROTOCOLS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}


class _Phase(enum.Enum):
    CONNECTING = enum.auto()
    SUBSCRIBING = enum.auto()
    UP = enum.auto()
    LEAVING = enum.auto()
    ENDED = enum.auto()


class _Client(paho.Client):
    """The places where paho's protected methods are needed.

    It has no public ping, nor a write that never closes. It also reads each packet in three calls of the kernel, and
    builds the tables of all properties for each message; together that was a fifth of what a press cost.
    """

    def __init__(
        self, client_id: str, protocol: MQTTProtocolVersion, on_plain: Callable[[bytes, bytes, bool], None]
    ) -> None:
        """`on_plain(topic, payload, retained)` gets messages of QoS 0 without properties, in place of on_message."""
        self.io_lock = threading.RLock()
        self.read_ahead = b""
        self._on_plain = on_plain
        self._v5 = protocol is MQTTProtocolVersion.MQTTv5
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if protocol is MQTTProtocolVersion.MQTTv5 else True,
            protocol=protocol,
            reconnect_on_failure=False,
        )

    def flush(self) -> bool:
        """Write what is queued, as far as the kernel takes it; False when the connection is broken."""
        return self._packet_write() in (_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN)

    def ping(self) -> None:
        self._send_pingreq()

    def limit_inflight(self, messages: int) -> None:
        # paho's setter refuses while connected, which is when the broker says it.
        self._max_inflight_messages = min(self._max_inflight_messages, messages)

    def cut(self) -> None:
        """Close without a word, so that the will speaks."""
        self._sock_close()

    def _sock_recv(self, bufsize: int) -> bytes:
        data = self.read_ahead or super()._sock_recv(max(bufsize, _READ_AHEAD_BYTES))
        self.read_ahead = data[bufsize:]
        return data[:bufsize]

    def _handle_publish(self) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        end = 2 + int.from_bytes(packet[:2])  # of the topic (MQTT 5, 3.3.2)
        command = self._in_packet["command"]
        if not self._v5 or command & _QOS_BITS or packet[end : end + 1] != _NO_PROPERTIES:
            return super()._handle_publish()
        self._on_plain(bytes(packet[2:end]), bytes(packet[end + 1 :]), bool(command & _RETAIN_BIT))
        return _SUCCESS

    def _sock_close(self) -> None:
        # Not while another thread writes: the number of a closed descriptor may already be someone else's.
        with self.io_lock:
            super()._sock_close()


class Connection:
    """One connection; `run()` returns when it has ended, `problem` then says why: None if it was left in order.

    `on_up` comes when the subscriptions are granted and the births are sent; `on_message(topic, payload, retained)`
    only after it. Both run in the thread of `run()`; `run()` raises CallbackError if one of them raises.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        presence: Presence,
        protocol: str,
        on_up: Callable[[], None],
        on_message: Callable[[str, bytes, bool], None],
    ) -> None:
        """`protocol` is "5" or "3.1.1"."""
        self.problem: Problem | None = None
        self.up_at: float | None = None
        self.refused_protocol = False
        self.hung_up_on_connect = False
        self.hung_up = False
        self._error = 0
        self._settings = settings
        self._presence = presence
        self._protocol = _PROTOCOLS[protocol]
        self._v5 = protocol == "5"
        self._app_on_up = on_up
        self._app_on_message = on_message
        self._phase = _Phase.CONNECTING
        self._phase_deadline = 0.0
        self._early: list[tuple[str, bytes, bool]] = []
        self._leave_asked = False
        self._farewell: tuple[Retained, ...] = ()
        self._farewell_timeout_s = 0.0
        self._farewells: list[paho.MQTTMessageInfo] = []
        self._pulse = Pulse(settings.keepalive_s, time.monotonic())
        self._probe_due = False
        self._expiries: dict[int, Properties] = {}
        self._sock: Any = None  # a socket.socket or a TlsSocket
        self._lowat_bytes = self._rest_lowat_bytes = 1
        self._poller = select.poll()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller.register(self._wake_fd, select.POLLIN)
        self._closed = False
        self._thread_id = threading.get_ident()
        self._client = self._make_client()
        self._lock = self._client.io_lock

    # --- from any thread -----------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        return self._phase is _Phase.UP

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, expiry_s: int | None) -> bool:
        """Write a message to the socket; False, with nothing kept, when not up or when the kernel takes no more."""
        client = self._client
        with self._lock:
            # What joined a backlog would arrive late.
            if self._phase is not _Phase.UP or (
                client.want_write() and not (client.flush() and not client.want_write())
            ):
                return False
            message = client.publish(topic, payload, qos, retain, self._expiry(expiry_s))
            whole = client.flush()
            self._probe_due = self._pulse.published(time.monotonic()) or self._probe_due
            if self._probe_due or not whole or client.want_write():
                self._wake()
            return whole and message.rc == _SUCCESS

    def leave(self, farewell: Sequence[Retained] = (), timeout_s: float = 0.0) -> None:
        """Ask for an orderly end: `farewell`, its acknowledgement (for at most `timeout_s`), DISCONNECT."""
        with self._lock:
            self._farewell = tuple(farewell)
            self._farewell_timeout_s = timeout_s
            self._leave_asked = True
            self._wake()

    def _wake(self) -> None:
        """Interrupt the wait of the connection's thread; with the lock held."""
        if not self._closed and threading.get_ident() != self._thread_id:
            os.eventfd_write(self._wake_fd, 1)

    def _expiry(self, expiry_s: int | None) -> Properties | None:
        if expiry_s is None or not self._v5:
            return None
        if expiry_s not in self._expiries:
            self._expiries[expiry_s] = _properties(PacketTypes.PUBLISH, MessageExpiryInterval=expiry_s)
        return self._expiries[expiry_s]

    # --- making it -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Connect, live, end. Once, in the thread that made the object."""
        try:
            self._open()
            while self._phase is not _Phase.ENDED:
                self._step()
        except CannotConnectError as error:
            self._end(error.problem)
        finally:
            with self._lock:
                self._phase = _Phase.ENDED
                self._closed = True
                self._client.cut()
                os.close(self._wake_fd)

    def _make_client(self) -> _Client:
        client = _Client(self._presence.client_id, self._protocol, _ours(self._on_plain))
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages = MAX_INFLIGHT
        client.max_queued_messages = MAX_QUEUED_MESSAGES
        will = self._presence.will
        client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.on_socket_open = _ours(self._on_socket_open)
        client.on_socket_register_write = _ignore  # its presence keeps paho from writing outside the lock
        client.on_connect = _ours(self._on_connect)
        client.on_subscribe = _ours(self._on_subscribe)
        client.on_message = _ours(self._on_message)
        client.on_disconnect = _ours(self._on_disconnect)
        return client

    def _open(self) -> None:
        settings, client = self._settings, self._client
        client.username_pw_set(settings.username, read_password(settings))
        if settings.tls is not None:
            client.tls_set_context(tls_context(settings.tls))
        v5: dict[str, Any] = {}
        if self._v5:
            v5 = {
                "clean_start": True,
                "properties": _properties(PacketTypes.CONNECT, MaximumPacketSize=MAX_PACKET_BYTES),
            }
        try:
            client.connect(settings.host, settings.effective_port, settings.keepalive_s, **v5)
        except (OSError, UnicodeError) as error:
            raise CannotConnectError(explain_connect_error(error, settings, CONNECT_TIMEOUT_S)) from None
        self._phase_deadline = time.monotonic() + ANSWER_TIMEOUT_S

    # --- living --------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        with self._lock:
            whole = self._client.flush()
            wanted = select.POLLIN | (select.POLLOUT if self._client.want_write() else 0)
        if not whole:
            self._read()  # the broker may have said why
            self._end(self._dropped())
            return
        if self._leave_asked and self._leave():
            return
        self._poller.modify(self._sock, wanted)
        if self._wait(self._deadline() - time.monotonic()):
            self._read()
        if self._probe_due:
            self._probe()
        if self._phase is not _Phase.ENDED and time.monotonic() >= self._deadline():
            self._time_out()

    def _wait(self, timeout_s: float) -> bool:
        """Return whether there is something to read from the socket, an error included."""
        readable = False
        for fd, events in self._poller.poll(max(0.0, timeout_s) * 1000):
            if fd == self._wake_fd:
                os.eventfd_read(fd)
            elif events & ~select.POLLOUT:
                readable = True
                if events & select.POLLERR:
                    self._error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return readable

    def _deadline(self) -> float:
        return self._pulse.deadline() if self._phase is _Phase.UP else self._phase_deadline

    def _read(self) -> None:
        self._set_lowat(1)
        self._pulse.heard(time.monotonic())
        while self._phase is not _Phase.ENDED:
            try:
                self._client.loop_read()
            except CallbackError:
                raise
            except Exception as error:  # what paho raises on a broken packet is not documented
                self._end(Problem(ProblemKind.PROTOCOL, f"sent what is not MQTT ({error!r})"))
            if self._client.socket() is None:
                self._end(self._dropped())
                return
            # What was read ahead, or TLS has decrypted already, does not show in poll().
            pending = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()
            if not (self._client.read_ahead or pending):
                break
        # Acknowledge at once: until then a broker that leaves Nagle on holds its next packet back.
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _time_out(self) -> None:
        if self._phase is _Phase.CONNECTING:
            message = (
                f"accepts the connection but has not answered for {ANSWER_TIMEOUT_S:g} s: is it a broker, and alive?"
            )
            self._end(Problem(ProblemKind.SILENT, message))
        elif self._phase is _Phase.SUBSCRIBING:
            message = f"has not answered the subscription for {ANSWER_TIMEOUT_S:g} s: is it alive?"
            self._end(Problem(ProblemKind.SILENT, message))
        elif self._phase is _Phase.LEAVING:
            self._end(None)
        else:
            self._supervise()

    def _supervise(self) -> None:
        pulse = self._pulse
        self._look_for_answer()
        if pulse.asked_at is not None:
            silent_s = time.monotonic() - pulse.heard_at
            message = f"has not answered for {silent_s:.0f} s: it, or the way to it, hangs"
            self._end(Problem(ProblemKind.FROZEN, message))
        elif time.monotonic() >= pulse.deadline():
            self._ask()

    def _probe(self) -> None:
        """Ask after a publish; what was left unread at rest is no answer to this."""
        self._probe_due = False
        self._look_for_answer()
        self._ask()

    def _look_for_answer(self) -> None:
        if self._lowat_bytes > 1:
            self._set_lowat(1)
            if self._wait(0):
                self._read()

    def _ask(self) -> None:
        if self._phase is not _Phase.UP:
            return
        self._pulse.ask(time.monotonic())
        if self._pulse.patient:
            self._set_lowat(self._rest_lowat_bytes)
            self._pulse.patient = self._lowat_bytes > 1
        with self._lock:
            self._client.ping()

    def _set_lowat(self, size_bytes: int) -> None:
        """Let poll() overlook fewer bytes than this."""
        if size_bytes != self._lowat_bytes:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size_bytes)
            self._lowat_bytes = size_bytes

    # --- ending --------------------------------------------------------------------------------------------------

    def _end(self, problem: Problem | None) -> None:
        """The first reason counts."""
        with self._lock:
            if self._phase is not _Phase.ENDED:
                self._phase = _Phase.ENDED
                self.problem = problem

    def _leave(self) -> bool:
        """Take the next step of an orderly end; False when it is to wait for acknowledgements.

        Without them there is no DISCONNECT: the will then says what the farewell could not.
        """
        with self._lock:
            if self._phase is _Phase.UP:
                self._phase = _Phase.LEAVING
                self._phase_deadline = time.monotonic() + self._farewell_timeout_s
                for message in self._farewell:
                    self._farewells.append(self._client.publish(message.topic, message.payload, 1, retain=True))
                return True
            if self._phase is _Phase.LEAVING:
                if not all(info.rc == _SUCCESS and info.is_published() for info in self._farewells):
                    return False
                self._client.disconnect()
                self._client.flush()
            self._end(None)
            return True

    def _dropped(self) -> Problem:
        """The connection broke off without a word: say what is known."""
        tls_error = self._sock.tls_error if isinstance(self._sock, TlsSocket) else None
        if tls_error is not None:
            return Problem(ProblemKind.TLS, explain_tls_error(tls_error, self._settings))
        if self._phase is _Phase.CONNECTING:
            self.hung_up_on_connect = True
            hint = "" if self._settings.tls else ", and does this port expect TLS"
            return Problem(ProblemKind.CLOSED, f"hung up without an answer: is it an MQTT broker{hint}?")
        if self._error:
            return Problem(ProblemKind.CLOSED, f"the connection broke ({os.strerror(self._error)})")
        self.hung_up = True
        return Problem(ProblemKind.CLOSED, "closed the connection without a word")

    # --- paho's callbacks, in the connection's thread -------------------------------------------------------------

    def _on_socket_open(self, _client: paho.Client, _userdata: object, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
        self._sock = sock
        self._rest_lowat_bytes = _more_than_a_pingresp_bytes(sock)
        self._poller.register(sock, select.POLLIN)

    def _on_connect(
        self, client: paho.Client, _userdata: object, _flags: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            self.refused_protocol = reason.value == UNSUPPORTED_PROTOCOL
            said = ", ".join(filter(None, (reason.getName(), getattr(properties, "ReasonString", ""))))
            self._end(explain_refusal(reason.value, said, self._presence.client_id, self._settings))
            return
        keepalive_s = getattr(properties, "ServerKeepAlive", 0)
        if keepalive_s:
            self._pulse.keepalive_s = max(2, min(self._pulse.keepalive_s, keepalive_s))
        self._client.limit_inflight(getattr(properties, "ReceiveMaximum", MAX_INFLIGHT))
        self._phase = _Phase.SUBSCRIBING
        self._phase_deadline = time.monotonic() + ANSWER_TIMEOUT_S
        subscriptions = self._presence.subscriptions
        if not subscriptions:
            self._come_up()
        elif self._v5:
            client.subscribe([(topic, SubscribeOptions(qos)) for topic, qos in subscriptions])
        else:
            client.subscribe(list(subscriptions))

    def _on_subscribe(
        self, _client: paho.Client, _userdata: object, _mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        answers = zip(self._presence.subscriptions, reasons, strict=False)
        refused = [f"{topic} ({reason.getName()})" for (topic, _), reason in answers if reason.is_failure]
        if refused:
            message = f"refuses the subscription {', '.join(refused)}: allow it in the broker's access list"
            self._end(Problem(ProblemKind.SUBSCRIPTION_REFUSED, message))
        elif self._phase is _Phase.SUBSCRIBING:
            self._come_up()

    def _come_up(self) -> None:
        self.up_at = time.monotonic()
        self._pulse.received(self.up_at)
        self._phase = _Phase.UP
        for birth in self._presence.births:
            self.publish(birth.topic, birth.payload, qos=1, retain=True, expiry_s=None)
        self._app_on_up()
        early, self._early = self._early, []
        for message in early:
            self._app_on_message(*message)

    def _on_message(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        self._on_plain(message._topic, bytes(message.payload), message.retain)  # noqa: SLF001 - bytes, as sent

    def _on_plain(self, topic_bytes: bytes, payload: bytes, retained: bool) -> None:
        try:
            topic = topic_bytes.decode()
        except UnicodeDecodeError:
            self._end(Problem(ProblemKind.PROTOCOL, "sent a topic that is not UTF-8"))
            return
        if self._phase is _Phase.UP:
            self._pulse.received(self._pulse.heard_at)
            self._app_on_message(topic, payload, retained)
        elif self._phase is _Phase.SUBSCRIBING:
            self._early.append((topic, payload, retained))
            if len(self._early) > MAX_EARLY_MESSAGES:
                self._end(Problem(ProblemKind.PROTOCOL, f"sent {MAX_EARLY_MESSAGES} messages before its SUBACK"))

    def _on_disconnect(
        self, _client: paho.Client, _userdata: object, flags: paho.DisconnectFlags, reason: ReasonCode, _props: object
    ) -> None:
        if not flags.is_disconnect_packet_from_server:
            if reason.getName() == "Protocol error":
                self.hung_up_on_connect = self._phase is _Phase.CONNECTING
                self._end(Problem(ProblemKind.PROTOCOL, "sent what is not MQTT: is it an MQTT broker?"))
        elif reason.value == _TAKEN_OVER:
            message = f"another client connected with the client id {self._presence.client_id!r} and took over"
            self._end(Problem(ProblemKind.CLIENT_ID_TAKEN, message))
        else:
            self._end(Problem(ProblemKind.REFUSED, f"ended the connection: {reason.getName()}"))


def _ignore(*_arguments: object) -> None:
    pass


def _ours(callback: Callable[..., None]) -> Callable[..., None]:
    """Tell an exception of ours, a bug, from those that paho raises on a broken packet."""

    def run(*arguments: Any) -> None:
        try:
            callback(*arguments)
        except Exception as error:
            raise CallbackError from error

    return run


def _properties(packet_type: int, **values: int) -> Properties:
    properties = Properties(packet_type)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _more_than_a_pingresp_bytes(sock: socket.socket) -> int:
    """Return how many bytes in the kernel's buffer are surely more than a PINGRESP; 1 if that cannot be said."""
    if not isinstance(sock, ssl.SSLSocket):
        return _PINGRESP_BYTES + 1
    cipher = sock.cipher()
    if sock.version() == "TLSv1.3" and cipher is not None and "CCM_8" not in cipher[0]:
        return _TLS13_OVERHEAD_BYTES + _PINGRESP_BYTES + 1
    return 1
