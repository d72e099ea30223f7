"""One contender at work on a station of its own: its buttons, its service manager, its controller."""

import contextlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import time
import tty
from pathlib import Path
from typing import Self

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from tests.bench.contenders import CONTROLLER, SOURCE, Contender, Site
from tests.bench.private_broker import HOST, BenchError

PREFIX = "mutebridge/v1"
HEARTBEAT_S = 5
_READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0


class Counts(msgspec.Struct, frozen=True):
    """What a controller saw: commands that arrived, acted on, refused, come again with the same request_id."""

    commands: int
    acted: int
    refused: int
    repeated: int


class Stage:
    """A contender with its surroundings, from start to end; `with Stage(...) as stage`.

    `pid` is that of the contender, `started_ns` the monotonic moment before it was started.
    """

    def __init__(
        self,
        contender: Contender,
        *,
        port: int,
        station: str,
        folder: Path,
        programs: Path,
        buttons: int = 1,
        call_state: str = "connected",
        watchdog_s: float = 30.0,
    ) -> None:
        self.contender = contender
        self.programs = programs
        self.folder = folder / station
        self.folder.mkdir()
        self.started_ns = 0
        self._buttons = [pty.openpty() for _ in range(buttons)]
        for _, slave in self._buttons:
            tty.setraw(slave)
        self.site = Site(
            port=port,
            prefix=PREFIX,
            station=station,
            ttys=[os.ttyname(slave) for _, slave in self._buttons],
            folder=self.folder,
            programs=programs,
        )
        self.service = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.service.bind(str(self.folder / "notify"))
        self._call_state = call_state
        self._watchdog_s = watchdog_s
        self._controller: subprocess.Popen[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._process, self._controller):
            if process is not None:
                _end(process)
        self.service.close()
        for pair in self._buttons:
            for fd in pair:
                os.close(fd)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def button(self) -> int:
        """The master side of the first button."""
        return self._buttons[0][0]

    def start_controller(self) -> None:
        arguments = [HOST, str(self.site.port), self.site.root, CONTROLLER, self._call_state, str(HEARTBEAT_S)]
        self._controller = subprocess.Popen(
            [str(self.programs / "controller"), *arguments], stdout=subprocess.PIPE, text=True
        )

    def start(self) -> None:
        """Start the contender the way a service manager does."""
        command = self.contender.command(self.site)
        environment = os.environ | {
            "PYTHONPATH": str(SOURCE),
            # Compiled once, as an installed program is, wherever it lies and whatever the caller's shell says.
            "PYTHONPYCACHEPREFIX": str(self.programs / "pycache"),
            "PYTHONDONTWRITEBYTECODE": "",
            "NOTIFY_SOCKET": str(self.folder / "notify"),
            "WATCHDOG_USEC": str(int(self._watchdog_s * 1e6)),
        }
        with (self.folder / "log").open("wb") as log:
            self.started_ns = time.monotonic_ns()
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.folder
            )

    def notified(self) -> list[str]:
        """What the service manager was told since the last time, one line each."""
        told: list[str] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                told += self.service.recv(4096).decode().splitlines()
        return told

    def wait_for_lamp(self, word: str) -> None:
        """Wait until the first button's lamp was told `word`."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        seen = b""
        while word.encode() not in seen.split(b"\n")[:-1]:
            ready, _, _ = select.select([self.button], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise self.trouble(f"the lamp was not told {word!r} within {_READY_TIMEOUT_S:g} s, but {seen!r}")
            seen += os.read(self.button, 4096)

    def drain_lamps(self) -> None:
        for master, _ in self._buttons:
            while select.select([master], [], [], 0)[0]:
                os.read(master, 4096)

    def stop_controller(self) -> Counts:
        """End the controller; returns what it counted."""
        assert self._controller is not None
        self._controller.send_signal(signal.SIGTERM)
        said, _ = self._controller.communicate(timeout=_STOP_TIMEOUT_S)
        return msgspec.convert(json.loads(said), Counts)

    def trouble(self, what: str) -> BenchError:
        """An error that shows the end of the contender's log."""
        log = (self.folder / "log").read_text(errors="replace").strip().splitlines()[-15:]
        return BenchError("\n".join([f"{self.contender.title}: {what}", *log]))


class Watcher:
    """Sees births: a client of the broker that has no thread, so that it costs nothing between."""

    def __init__(self, port: int) -> None:
        self._online: set[str] = set()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._arrived
        self._client.connect(HOST, port, keepalive=0)
        self._client.subscribe(f"{PREFIX}/+/bridge/availability", qos=1)

    def wait_until_ready(self, stage: Stage) -> float:
        """Wait for the birth, for READY=1 too where the contender notifies; returns seconds since the start."""
        waits_for = {"birth", "READY=1"} if stage.contender.notifies else {"birth"}
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while True:
            if stage.site.root in self._online:
                waits_for.discard("birth")
            waits_for -= set(stage.notified())
            if not waits_for:
                return (time.monotonic_ns() - stage.started_ns) / 1e9
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise stage.trouble(f"no {' and no '.join(waits_for)} within {_READY_TIMEOUT_S:g} s")
            self._wait(stage, left_s)

    def close(self) -> None:
        self._client.disconnect()

    def _wait(self, stage: Stage, timeout_s: float) -> None:
        connection = self._client.socket()
        if connection is None:
            raise BenchError("the broker ended the bench's own connection")
        ready, _, _ = select.select([connection.fileno(), stage.service.fileno()], [], [], timeout_s)
        if connection.fileno() in ready:
            self._client.loop_read()

    def _arrived(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        root = message.topic.removesuffix("/bridge/availability")
        if message.payload == b"online":
            self._online.add(root)
        else:
            self._online.discard(root)


def _end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
