"""A serial mute button with a lamp, on a pseudo-terminal: to the daemon a port like any other.

Its firmware speaks in lines. It says DOWN and UP; it is told MUTED, LIVE, UNKNOWN, OFF, WAIT or NO. Its one lamp is lit
exactly while the last word was MUTED.
"""

import contextlib
import os
import select
import threading
import tty
from collections.abc import Callable
from typing import Any

DOWN, UP = b"DOWN\n", b"UP\n"
LIT, WAITING = "MUTED", "WAIT"
MAX_WORD_BYTES = 64

# How the daemon's configuration describes it.
PROTOCOL: dict[str, Any] = {
    "press": "DOWN",
    "release": "UP",
    "settle_s": 0,
    "send": {
        "muted": LIT,
        "live": "LIVE",
        "unknown": "UNKNOWN",
        "off": "OFF",
        "pending": WAITING,
        "rejected": "NO",
    },
}


class VirtualSerialButton:
    """`port` is the path to open. `on_word` is called from a thread of the button with each word it is told."""

    def __init__(self, on_word: Callable[[str], None]) -> None:
        self._on_word = on_word
        self._board, self._computer = os.openpty()
        tty.setraw(self._computer)  # else what it says before the port is opened comes back as an echo
        self.port = os.ttyname(self._computer)
        self._end_read, self._end_write = os.pipe()
        self._thread = threading.Thread(target=self._listen, name="virtual button", daemon=True)
        self._thread.start()

    def press(self) -> None:
        """Push the button down; let it go."""
        os.write(self._board, DOWN + UP)

    def close(self) -> None:
        """Unplug it, after it has shown what was written to it so far."""
        os.close(self._end_write)
        self._thread.join()
        for end in (self._board, self._computer, self._end_read):
            os.close(end)

    def _listen(self) -> None:
        rest = b""
        while True:
            readable, _, _ = select.select([self._board, self._end_read], [], [])
            if self._board not in readable:
                return
            with contextlib.suppress(OSError):
                rest += os.read(self._board, 4096)
            *words, rest = rest.split(b"\n")
            rest = rest[-MAX_WORD_BYTES:]
            for word in words:
                self._on_word(word.decode("ascii", errors="replace").strip())
