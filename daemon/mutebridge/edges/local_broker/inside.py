"""amqtt, an MQTT 3.1.1 broker in pure Python, in a thread of this process."""

import asyncio
import contextlib
import functools
import logging
import queue
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import msgspec
from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter, WebSocketsReader, WebSocketsWriter
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.mqtt.connack import NOT_AUTHORIZED, UNACCEPTABLE_PROTOCOL_VERSION, ConnackPacket
from amqtt.mqtt.connect import ConnectPacket
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from mutebridge.edges.local_broker.listening import LocalBroker, LocalBrokerError

_log = logging.getLogger(__name__)

_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_CONNECT_TIMEOUT_S = 5.0
_MAX_WEBSOCKET_BYTES = 64 * 1024
_LISTENER = "default"


@contextlib.contextmanager
def running(wanted: LocalBroker) -> Iterator[LocalBroker]:
    """Yield the broker on `wanted`'s ports, with the free ones that 0 stood for filled in."""
    thread = _BrokerThread(wanted)
    try:
        yield thread.start()
    finally:
        thread.stop()


class _BrokerThread:
    """One thread, with an event loop of its own, in which amqtt serves what listeners of ours accept.

    They are ours, not amqtt's, for two reasons. The port is known when any free one was asked for. An unknown WebSocket
    client is turned away before amqtt sees it, which throws out whoever holds a client id before it looks at the
    newcomer's password.
    """

    def __init__(self, wanted: LocalBroker) -> None:
        self._wanted = wanted
        self._outcome: queue.SimpleQueue[LocalBroker | Exception] = queue.SimpleQueue()
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
        self._stop()
        self._thread.join(_STOP_TIMEOUT_S)

    def _run(self) -> None:
        for chatty in ("amqtt", "transitions", "websockets"):
            logging.getLogger(chatty).setLevel(logging.CRITICAL)
        try:
            asyncio.run(self._serve())
        except Exception as error:  # whoever waits for the start tells it
            self._outcome.put(error)

    async def _serve(self) -> None:
        listeners = {_LISTENER: ListenerConfig(type=ListenerType.EXTERNAL)}
        plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        broker = Broker(BrokerConfig(listeners=listeners, plugins=plugins))
        await broker.start()
        stopping = asyncio.Event()
        async with _listeners(broker, self._wanted) as listening:
            self._stop = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, stopping.set)
            self._outcome.put(listening)
            await stopping.wait()
        await broker.shutdown()


@contextlib.asynccontextmanager
async def _listeners(broker: Broker, wanted: LocalBroker) -> AsyncIterator[LocalBroker]:
    gate = _WebSocketGate(broker, f"{wanted.user}", f"{wanted.password}")
    tcp = await asyncio.start_server(functools.partial(_tcp_client, broker), wanted.host, wanted.port)
    try:
        listening = msgspec.structs.replace(wanted, port=tcp.sockets[0].getsockname()[1])
        if wanted.websocket_port is None:
            yield listening
            return
        async with serve(
            gate.client,
            wanted.host,
            wanted.websocket_port,
            subprotocols=[Subprotocol("mqtt")],
            max_size=_MAX_WEBSOCKET_BYTES,
        ) as websockets:
            port = next(iter(websockets.sockets)).getsockname()[1]
            yield msgspec.structs.replace(listening, websocket_port=port)
    finally:
        tcp.close()


async def _tcp_client(broker: Broker, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    first = _FirstPacket(StreamReaderAdapter(stream))
    answers = StreamWriterAdapter(writer)
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            understood = await first.is_of_3_1_1()
        if understood:
            await broker.external_connected(first.again(for_good=True), answers, _LISTENER)
        else:
            await _refuse(answers, UNACCEPTABLE_PROTOCOL_VERSION)
    except Exception as error:  # amqtt lets a socket's end pass through as what it is
        _log.debug("a client of the embedded broker ended: %r", error)
    finally:
        writer.close()


class _WebSocketGate:
    """Lets only those WebSocket clients through to the broker whose CONNECT has the right user with password."""

    def __init__(self, broker: Broker, user: str, password: str) -> None:
        self._broker = broker
        self._credentials = f"{user}:{password}".encode()

    async def client(self, websocket: ServerConnection) -> None:
        first, answers = _FirstPacket(WebSocketsReader(websocket)), WebSocketsWriter(websocket)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                refusal = await self._refusal(first)
            if refusal is None:
                await self._broker.external_connected(first.again(for_good=True), answers, _LISTENER)
            else:
                await _refuse(answers, refusal)
        except Exception as error:  # the first packet is anything at all
            _log.debug("a WebSocket client of the embedded broker ended: %r", error)

    async def _refusal(self, first: "_FirstPacket") -> int | None:
        if not await first.is_of_3_1_1():
            return int(UNACCEPTABLE_PROTOCOL_VERSION)
        connect = await ConnectPacket.from_stream(first.again())
        given = f"{connect.username}:{connect.password}".encode()
        return None if secrets.compare_digest(given, self._credentials) else int(NOT_AUTHORIZED)


async def _refuse(answers: StreamWriterAdapter | WebSocketsWriter, code: int) -> None:
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
