"""amqtt, an MQTT 3.1.1 broker in pure Python, in a thread of this process."""

import asyncio
import contextlib
import functools
import http
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import NamedTuple, TypeAlias

import msgspec
from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter, WebSocketsReader, WebSocketsWriter
from amqtt.broker import Broker
from amqtt.contexts import Action, BrokerConfig, ListenerConfig, ListenerType
from amqtt.mqtt.connack import IDENTIFIER_REJECTED, NOT_AUTHORIZED, UNACCEPTABLE_PROTOCOL_VERSION, ConnackPacket
from amqtt.mqtt.connect import ConnectPacket
from amqtt.session import Session
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from mutebridge.edges.local_broker.doorkeeper import Doorkeeper, Visitor
from mutebridge.edges.local_broker.listening import LocalBroker, LocalBrokerError

_log = logging.getLogger(__name__)

_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 5.0
# How soon a credential that was withdrawn ends its connections. amqtt looks after its sessions as often.
_LOOK_AGAIN_S = 1.0
# For how long a newcomer waits for the end of the connection whose place it takes.
_TAKEOVER_TIMEOUT_S = 1.0
_MAX_WEBSOCKET_BYTES = 64 * 1024
_LISTENER = "default"


@contextlib.contextmanager
def running(wanted: LocalBroker, doorkeeper: Doorkeeper) -> Iterator[LocalBroker]:
    """Yield the broker on `wanted`'s ports, with the free ones that 0 stood for filled in."""
    thread = _BrokerThread(wanted, doorkeeper)
    try:
        yield thread.start()
    finally:
        thread.stop()


class _BrokerThread:
    """One thread, with an event loop of its own, in which amqtt serves what listeners of ours accept.

    They are ours, not amqtt's, for two reasons. The port is known when any free one was asked for. An unknown client is
    turned away before amqtt sees it, which makes whoever holds a client id deaf before it looks at the newcomer's
    password.
    """

    def __init__(self, wanted: LocalBroker, doorkeeper: Doorkeeper) -> None:
        self._wanted = wanted
        self._doorkeeper = doorkeeper
        self._outcome: queue.SimpleQueue[LocalBroker | Exception] = queue.SimpleQueue()
        self._listens = False
        self._stop: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._run, name="amqtt", daemon=True)

    def start(self) -> LocalBroker:
        """Wait until it listens; returns where."""
        self._thread.start()
        try:
            outcome = self._outcome.get(timeout=_START_TIMEOUT_S)
        except queue.Empty:
            raise LocalBrokerError(f"amqtt did not start within {_START_TIMEOUT_S:.0f} s") from None
        if isinstance(outcome, Exception):
            raise LocalBrokerError(f"amqtt did not start: {outcome}") from outcome
        return outcome

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # its loop has ended by itself
            self._stop()
        self._thread.join(_STOP_TIMEOUT_S)

    def _run(self) -> None:
        for chatty in ("amqtt", "transitions", "websockets"):
            logging.getLogger(chatty).setLevel(logging.CRITICAL)
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if self._listens:
                raise  # a bug: nobody must go on as if there were a broker
            self._outcome.put(error)  # whoever waits for the start tells it

    async def _serve(self) -> None:
        broker = _GuardedBroker(self._doorkeeper)
        await broker.start()
        gate = _Gate(broker, self._doorkeeper)
        stopping = asyncio.Event()
        async with _listeners(gate, self._wanted) as listening:
            self._stop = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, stopping.set)
            self._listens = True
            self._outcome.put(listening)
            while not stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), _LOOK_AGAIN_S)
                gate.turn_out_the_withdrawn()
        await broker.shutdown()


class _GuardedBroker(Broker):  # type: ignore[misc] # amqtt ships no types
    """amqtt, asking the doorkeeper what each client may read and write.

    Two of its methods are not meant to be overridden; what they are called is held by the project's requirement.
    """

    def __init__(self, doorkeeper: Doorkeeper) -> None:
        listeners = {_LISTENER: ListenerConfig(type=ListenerType.EXTERNAL)}
        # Who comes as far as amqtt has been let in by the gate.
        plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        super().__init__(BrokerConfig(listeners=listeners, plugins=plugins))
        self._doorkeeper = doorkeeper

    async def _topic_filtering(self, session: Session, topic: str, action: Action) -> bool:
        if action is Action.PUBLISH:
            return self._doorkeeper.may_write(session.username, topic)
        return self._doorkeeper.may_read(session.username, topic)

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        # amqtt sends a newcomer what matches anybody's subscription.
        subscribers = [subscriber for subscriber, _ in self.subscriptions.get(subscription[0], ())]
        if session in subscribers:
            await super()._publish_retained_messages_for_subscription(subscription, session)


@contextlib.asynccontextmanager
async def _listeners(gate: "_Gate", wanted: LocalBroker) -> AsyncIterator[LocalBroker]:
    tcp = await asyncio.start_server(gate.tcp_client, wanted.host, wanted.port)
    try:
        listening = msgspec.structs.replace(wanted, port=tcp.sockets[0].getsockname()[1])
        if wanted.websocket_port is None:
            yield listening
            return
        async with serve(
            gate.websocket_client,
            wanted.host,
            wanted.websocket_port,
            process_request=gate.refused_page,
            server_header=None,
            subprotocols=[Subprotocol("mqtt")],
            max_size=_MAX_WEBSOCKET_BYTES,
        ) as websockets:
            port = next(iter(websockets.sockets)).getsockname()[1]
            yield msgspec.structs.replace(listening, websocket_port=port)
    finally:
        tcp.close()


_Answers: TypeAlias = StreamWriterAdapter | WebSocketsWriter


class _Guest(NamedTuple):
    """A connection that was let in; `stamp` is that of the user's credential then."""

    client_id: str
    user: str | None
    stamp: str | None
    gone: asyncio.Event


class _Gate:
    """Lets those clients through to the broker whose CONNECT the doorkeeper admits.

    Of a client id there is one connection, the newest, as MQTT wants it (3.1.1: 3.1.4-2). amqtt would leave the one
    before in place: it could speak, and would hear nothing any more.
    """

    def __init__(self, broker: Broker, doorkeeper: Doorkeeper) -> None:
        self._broker = broker
        self._doorkeeper = doorkeeper
        self._inside: dict[_Answers, _Guest] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def turn_out_the_withdrawn(self) -> None:
        """End the connections of users whose credential is another one by now."""
        for answers, guest in list(self._inside.items()):
            if self._doorkeeper.stamp(guest.user) != guest.stamp:
                self._turn_out(answers)

    def _turn_out(self, answers: _Answers) -> None:
        del self._inside[answers]
        closing = asyncio.ensure_future(answers.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _come_in(self, answers: _Answers, newcomer: _Guest) -> None:
        """Take the place of the connection with the same client id; its will is told before."""
        while before := next((a for a, guest in self._inside.items() if guest.client_id == newcomer.client_id), None):
            gone = self._inside[before].gone
            self._turn_out(before)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(gone.wait(), _TAKEOVER_TIMEOUT_S)
        self._inside[answers] = newcomer

    async def tcp_client(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._client(_FirstPacket(StreamReaderAdapter(stream)), StreamWriterAdapter(writer), None)
        finally:
            writer.close()

    def refused_page(self, websocket: ServerConnection, request: Request) -> Response | None:
        """Answer a request for a WebSocket from a page that is none of ours."""
        headers = request.headers
        why = self._doorkeeper.refuses_page(headers.get_all("Host"), headers.get_all("Origin"))
        return None if why is None else websocket.respond(http.HTTPStatus.FORBIDDEN, f"{why}\n")

    async def websocket_client(self, websocket: ServerConnection) -> None:
        await self._client(_FirstPacket(WebSocketsReader(websocket)), WebSocketsWriter(websocket), websocket)

    async def _client(self, first: "_FirstPacket", answers: _Answers, websocket: ServerConnection | None) -> None:
        gone = asyncio.Event()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                connect = await self._examined(first, websocket)
            if isinstance(connect, int):
                await _refuse(answers, connect)
                return
            user = connect.username
            await self._come_in(answers, _Guest(connect.client_id, user, self._doorkeeper.stamp(user), gone))
            await self._broker.external_connected(first.again(for_good=True), answers, _LISTENER)
        except Exception as error:  # the first packet is anything at all; amqtt lets a socket's end pass as what it is
            _log.debug("a client of the embedded broker ended: %r", error)
        finally:
            self._inside.pop(answers, None)
            gone.set()

    async def _examined(self, first: "_FirstPacket", websocket: ServerConnection | None) -> ConnectPacket | int:
        """Return the CONNECT, or the code with which to refuse it."""
        if not await first.is_of_3_1_1():
            return int(UNACCEPTABLE_PROTOCOL_VERSION)
        connect = await ConnectPacket.from_stream(first.again())
        user = connect.username
        request = websocket.request if websocket is not None else None
        origin = request.headers.get("Origin") if request is not None else None
        visitor = Visitor(user, connect.password, origin, by_websocket=websocket is not None)
        if not self._doorkeeper.admits(visitor):
            return int(NOT_AUTHORIZED)
        # Of a will amqtt does not ask whether it may be written.
        if connect.will_flag and not self._doorkeeper.may_write(user, connect.will_topic):
            return int(NOT_AUTHORIZED)
        session, _ = self._broker.sessions.get(connect.client_id, (None, None))
        if session is not None and session.username != user:  # it would throw out somebody else
            return int(IDENTIFIER_REJECTED)
        return connect


async def _refuse(answers: _Answers, code: int) -> None:
    await ConnackPacket.build(0, code).to_stream(answers)
    await answers.close()


class _FirstPacket:
    """A reader from which a connection's first packet is read several times: by ours, at last by amqtt.

    amqtt reads a CONNECT of MQTT 5 as if it were of 3.1.1, then waits for bytes that never come: the client has to be
    told at once that it is to come back with 3.1.1.
    """

    def __init__(self, reader: StreamReaderAdapter | WebSocketsReader) -> None:
        self._reader = reader
        self._kept = bytearray()
        self._at = 0
        self._keeps = True

    async def is_of_3_1_1(self) -> bool:
        """Whether it is a CONNECT of that protocol version; ValueError when it is none at all."""
        header = await self.read(1)
        while (await self.read(1))[0] & 0x80:  # the remaining length
            pass
        *name, level = await self.read(7)
        if header != b"\x10" or bytes(name) != b"\x00\x04MQTT":
            raise ValueError("no CONNECT")
        return level == 4

    def again(self, *, for_good: bool = False) -> "_FirstPacket":
        """Return this, set back to the start; `for_good`: what follows is read once."""
        self._at = 0
        self._keeps = not for_good
        return self

    async def read(self, n: int = -1) -> bytes:
        kept = bytes(self._kept[self._at : self._at + n])
        self._at += len(kept)
        if len(kept) == n:
            return kept
        more: bytes = await self._reader.read(n - len(kept))
        if self._keeps:
            self._kept += more
            self._at += len(more)
        return kept + more

    def feed_eof(self) -> None:
        self._reader.feed_eof()
