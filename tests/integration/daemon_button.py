"""A serial button on a pty that writes down what its lamp is told, with the moment."""

import contextlib
import os
import select
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from tests.integration.daemon_record import DEADLINE_S, Record
from tests.integration.serial_board import Board

WORDS = {"muted": "MUTED", "live": "LIVE", "unknown": "UNKNOWN", "off": "OFF", "rejected": "REJECTED"}


class Shown(NamedTuple):
    """A line that the lamp was sent; `at` is a moment of time.monotonic()."""

    at: float
    word: str


class Button:
    """Plugged in once made. A `deaf` one reads nothing, and nothing fits into its line any more."""

    def __init__(self, link: Path, *, deaf: bool = False) -> None:
        self.name = link.name
        self.lamp: Record[Shown] = Record(f"the lamp of {link.name}")
        self._board = Board(link)
        self._deaf = deaf
        self._stop_read, self._stop_write = os.pipe()
        if deaf:
            self._fill()
        else:
            self._listen()

    def config(self, **keys: Any) -> dict[str, Any]:
        """What the configuration file says of it."""
        serial = {"press": "press", "release": "release", "toggle": "toggle", "send": WORDS, "settle_s": 0}
        return {"id": self.name, "port": str(self._board.link), "serial": serial, **keys}

    def press(self, word: str = "toggle") -> float:
        """Return the moment of the press."""
        at = time.monotonic()
        self._board.says(word.encode() + b"\n")
        return at

    def says(self, data: bytes) -> int:
        """Say anything; return how much of it fitted into the line."""
        return os.write(self._board.master, data)

    def plug(self) -> None:
        self._board.plug()
        self._listen()

    def unplug(self) -> None:
        self._end_listening()
        self._board.unplug()

    def close(self) -> None:
        self.unplug()
        os.close(self._stop_read)
        os.close(self._stop_write)

    def _listen(self) -> None:
        self._reader = threading.Thread(target=self._read, name=f"{self.name} lamp", daemon=True)
        self._reader.start()

    def _end_listening(self) -> None:
        if not self._deaf and self._reader.is_alive():
            os.write(self._stop_write, b"!")
            self._reader.join(DEADLINE_S)
            os.read(self._stop_read, 1)

    def _read(self) -> None:
        master, line = self._board.master, b""
        while self._stop_read not in select.select([master, self._stop_read], [], [])[0]:
            at = time.monotonic()
            line += os.read(master, 4096)
            *whole, line = line.split(b"\n")
            for word in whole:
                self.lamp.add(Shown(at, word.decode()))

    def _fill(self) -> None:
        slave = os.open(self._board.link, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(slave, b"." * 256)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(slave, b".")
        os.close(slave)
