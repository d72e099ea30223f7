"""A TCP proxy on loopback that breaks connections in the ways in which networks do."""

import contextlib
import enum
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

_CHUNK_BYTES = 65536
_DEADLINE_S = 10.0


class Way(enum.Enum):
    """Which way bytes go: UP to the server, DOWN to the client."""

    UP = "up"
    DOWN = "down"


class _Link:
    """One connection through the proxy: the two sockets and what waits to be written to each."""

    def __init__(self, client: socket.socket, server: socket.socket | None) -> None:
        self.source: dict[Way, socket.socket | None] = {Way.UP: client, Way.DOWN: server}
        self.waiting = {Way.UP: bytearray(), Way.DOWN: bytearray()}

    def target(self, way: Way) -> socket.socket | None:
        return self.source[Way.DOWN if way is Way.UP else Way.UP]

    def sockets(self) -> list[socket.socket]:
        return [sock for sock in self.source.values() if sock is not None]


class Proxy:
    """Forwards connections to `port` to `target_port`, from when it is made until `close()`.

    Each fault takes effect before its method returns, and holds for connections that come later too.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.accepted = 0
        self.forwarded = {Way.UP: 0, Way.DOWN: 0}
        self._frozen = False
        self._mute = False
        self._lost: set[Way] = set()
        self._allowance: dict[Way, int | None] = {Way.UP: None, Way.DOWN: None}
        self._links: list[_Link] = []
        self._changed = threading.Condition()
        self._orders: list[Callable[[], None]] = []
        self._running = True
        self._selector = selectors.DefaultSelector()
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._listener: socket.socket | None = None
        self.port = 0
        self._selector.register(self._bell, selectors.EVENT_READ, None)
        self._listen()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    # --- faults --------------------------------------------------------------------------------------------------

    def cut(self, *, reset: bool = True) -> None:
        """Break all connections, with a RST or with a FIN. New ones are welcome."""
        self._do(lambda: self._drop_all(reset=reset))

    def cut_after(self, size_bytes: int, way: Way) -> None:
        """Break all connections once this many more bytes have passed: in the middle of a packet, if you like."""

        def order() -> None:
            self._allowance[way] = size_bytes

        self._do(order)

    def freeze(self) -> None:
        """Forward nothing, close nothing: half-open both ways."""
        self._set("_frozen", True)

    def thaw(self) -> None:
        """Forward again, what waited included."""
        self._set("_frozen", False)

    def lose(self, way: Way) -> None:
        """Swallow what comes this way."""
        self._do(lambda: self._lost.add(way))

    def find(self, way: Way) -> None:
        """Forward it again; what was swallowed is gone."""
        self._do(lambda: self._lost.discard(way))

    def mute(self) -> None:
        """Accept new connections and never say a word."""
        self._set("_mute", True)

    def unmute(self) -> None:
        """Forward new connections again; those that were met with silence are cut."""

        def order() -> None:
            self._mute = False
            for link in [link for link in self._links if link.source[Way.DOWN] is None]:
                self._drop(link, reset=True)

        self._do(order)

    def refuse(self) -> None:
        """Listen no more: connection refused."""

        def order() -> None:
            if self._listener is not None:
                self._selector.unregister(self._listener)
                self._listener.close()
                self._listener = None

        self._do(order)

    def admit(self) -> None:
        """Listen again, on the same port."""
        self._do(self._listen)

    def wait_for_accepted(self, count: int) -> None:
        """Wait until so many connections have come in all."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.accepted >= count, _DEADLINE_S), self.accepted

    def close(self) -> None:
        def order() -> None:
            self._running = False

        if self._thread.is_alive():
            self._do(order)
            self._thread.join()

    def __enter__(self) -> "Proxy":
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self.close()

    # --- the proxy's thread --------------------------------------------------------------------------------------

    def _set(self, name: str, value: bool) -> None:
        self._do(lambda: setattr(self, name, value))

    def _do(self, order: Callable[[], None]) -> None:
        done = threading.Event()

        def carry_out() -> None:
            order()
            done.set()

        self._orders.append(carry_out)
        self._button.send(b"!")
        assert done.wait(_DEADLINE_S)

    def _run(self) -> None:
        while self._running:
            for key, events in self._selector.select():
                if key.fileobj is self._bell:
                    self._obey()
                elif key.fileobj is self._listener:
                    self._accept()
                elif key.data in self._links and isinstance(key.fileobj, socket.socket):
                    self._serve(key.data, key.fileobj, events)
            for link in list(self._links):
                self._register(link)
        self._drop_all(reset=True)
        if self._listener is not None:
            self._listener.close()
        self._bell.close()
        self._button.close()
        self._selector.close()

    def _obey(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._bell.recv(_CHUNK_BYTES)
        while self._orders:
            self._orders.pop(0)()

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ, None)

    def _accept(self) -> None:
        assert self._listener is not None
        client, _ = self._listener.accept()
        server: socket.socket | None = None
        if not self._mute:
            try:
                server = socket.create_connection(("127.0.0.1", self.target_port), timeout=_DEADLINE_S)
            except OSError:
                client.close()
                return
        link = _Link(client, server)
        for sock in link.sockets():
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links.append(link)
        with self._changed:
            self.accepted += 1
            self._changed.notify_all()

    def _register(self, link: _Link) -> None:
        """Watch what can be done now: read where nothing waits, write where something does, nothing while frozen."""
        for way in Way:
            source = link.source[way]
            if source is None:
                continue
            back = Way.DOWN if way is Way.UP else Way.UP
            wanted = 0
            if not self._frozen:
                wanted |= 0 if link.waiting[way] else selectors.EVENT_READ
                wanted |= selectors.EVENT_WRITE if link.waiting[back] else 0
            known = self._selector.get_map().get(source)
            if known is None:
                if wanted:
                    self._selector.register(source, wanted, link)
            elif not wanted:
                self._selector.unregister(source)
            elif known.events != wanted:
                self._selector.modify(source, wanted, link)

    def _serve(self, link: _Link, sock: socket.socket, events: int) -> None:
        way = Way.UP if sock is link.source[Way.UP] else Way.DOWN
        back = Way.DOWN if way is Way.UP else Way.UP
        try:
            if events & selectors.EVENT_WRITE:
                sent = sock.send(link.waiting[back])
                del link.waiting[back][:sent]
            if events & selectors.EVENT_READ:
                data = sock.recv(_CHUNK_BYTES)
                if not data:
                    self._drop(link, reset=False)
                    return
                self._take(link, way, data)
        except OSError:
            self._drop(link, reset=True)

    def _take(self, link: _Link, way: Way, data: bytes) -> None:
        target = link.target(way)
        if way in self._lost or target is None:
            return
        allowance = self._allowance[way]
        last = allowance is not None and len(data) >= allowance
        if allowance is not None:
            data = data[:allowance]
            self._allowance[way] = None if last else allowance - len(data)
        self.forwarded[way] += len(data)
        if last:
            target.send(data)
            self._drop_all(reset=False)
        else:
            link.waiting[way] += data
            sent = target.send(link.waiting[way])
            del link.waiting[way][:sent]

    def _drop(self, link: _Link, *, reset: bool) -> None:
        for sock in link.sockets():
            with contextlib.suppress(KeyError):
                self._selector.unregister(sock)
            if reset:
                linger: Any = struct.pack("ii", 1, 0)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            sock.close()
        self._links.remove(link)

    def _drop_all(self, *, reset: bool) -> None:
        for link in list(self._links):
            self._drop(link, reset=reset)
