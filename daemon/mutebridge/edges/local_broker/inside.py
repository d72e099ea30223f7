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
from amqtt.mqtt.connack import NOT_AUTHORIZED, ConnackPacket
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


async def _tcp_client(broker: Broker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await broker.external_connected(StreamReaderAdapter(reader), StreamWriterAdapter(writer), _LISTENER)
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
        reader, writer = _Rereading(WebSocketsReader(websocket)), WebSocketsWriter(websocket)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                connect = await ConnectPacket.from_stream(reader)
            if self._knows(connect):
                await self._broker.external_connected(reader.from_the_start(), writer, _LISTENER)
            else:
                await ConnackPacket.build(0, NOT_AUTHORIZED).to_stream(writer)
        except Exception as error:  # the first packet is anything at all
            _log.debug("a WebSocket client of the embedded broker ended: %r", error)

    def _knows(self, connect: ConnectPacket) -> bool:
        given = f"{connect.username}:{connect.password}".encode()
        return secrets.compare_digest(given, self._credentials)


class _Rereading:
    """A reader whose first packet is read twice: by the gate, then by the broker, in the same bites."""

    def __init__(self, reader: WebSocketsReader) -> None:
        self._reader = reader
        self._kept = bytearray()
        self._keeps = True

    def from_the_start(self) -> "_Rereading":
        self._keeps = False
        return self

    async def read(self, n: int = -1) -> bytes:
        if not self._keeps and self._kept:
            kept = bytes(self._kept[:n])
            del self._kept[:n]
            return kept
        data: bytes = await self._reader.read(n)
        if self._keeps:
            self._kept += data
        return data

    def feed_eof(self) -> None:
        self._reader.feed_eof()
