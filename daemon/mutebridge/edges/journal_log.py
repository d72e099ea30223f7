"""Writes the log to standard error, in the form that its reader wants.

When standard error is the journal (`$JOURNAL_STREAM` names its device and inode, systemd.exec(5)), each line carries
its priority as `<6>` (sd-daemon(3)); the journal adds the time and the name. For a person at a terminal each line says
its level in a word. What comes from devices and brokers may hold anything, so control characters are made visible and
a message of several lines is marked on each of them.

A log that nobody takes (a terminal stopped with Ctrl-S, a full pipe, a journal that hangs) must not hold up a light:
what would block is dropped, and how many messages that were is said once there is room again.
"""

import contextlib
import logging
import os
import select
import stat
import sys
from collections.abc import Mapping
from typing import TextIO

from mutebridge.core.events import Level

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY = 7
_PIECE_BYTES = select.PIPE_BUF  # a pipe that can be written takes as many at once (POSIX)
_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}


class _LineFormatter(logging.Formatter):
    def __init__(self, *, for_journal: bool) -> None:
        super().__init__()
        self._for_journal = for_journal

    def format(self, record: logging.LogRecord) -> str:
        mark = f"<{_priority(record.levelno)}>" if self._for_journal else f"{record.levelname.lower()}: "
        text = super().format(record).translate(_VISIBLE)
        return "\n".join(mark + line for line in text.splitlines() or [""])


class _NeverBlocking(logging.Handler):
    """Writes to a descriptor what it takes at once."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = self._own = -1
        with contextlib.suppress(OSError):
            # Of a terminal a description of our own: one that can be written may still block in the middle of a line.
            if stat.S_ISCHR(os.fstat(fd).st_mode):
                self._own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        self._fd = fd if self._own < 0 else self._own
        self._room = select.poll()
        self._room.register(self._fd, select.POLLOUT)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        if self._dropped and self._write(self._line(_dropped(self._dropped))):
            self._dropped = 0
        if self._dropped or not self._write(self._line(record)):
            self._dropped += 1

    def close(self) -> None:
        super().close()
        if self._own >= 0:
            os.close(self._own)
            self._own = -1

    def _line(self, record: logging.LogRecord) -> bytes:
        return (self.format(record) + "\n").encode(errors="backslashreplace")

    def _write(self, data: bytes) -> bool:
        """Return whether all of it was taken; what nobody will ever read counts as taken."""
        try:
            while data and self._room.poll(0):
                data = data[os.write(self._fd, data[:_PIECE_BYTES]) :]
        except BlockingIOError:
            return False
        except OSError:  # the reader went away
            return True
        return not data


def _dropped(count: int) -> logging.LogRecord:
    message = f"{count} messages were dropped here: nobody took the log"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, None, None)


def start(level: Level, stream: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> None:
    """Send the log of the whole process to `stream`, by default standard error; again to change the level."""
    stream = sys.stderr if stream is None else stream
    handler = _handler(stream)
    handler.setFormatter(_LineFormatter(for_journal=is_journal(stream, environ)))
    root = logging.getLogger()
    for before in root.handlers:
        if isinstance(before, _NeverBlocking):
            before.close()
    root.handlers[:] = [handler]
    set_level(level)
    # A reader that went away is no reason to print tracebacks at it.
    logging.raiseExceptions = False


def _handler(stream: TextIO | None) -> logging.Handler:
    if stream is None:
        return logging.NullHandler()
    try:
        return _NeverBlocking(stream.fileno())
    except (OSError, ValueError):  # a stream that is no file
        return logging.StreamHandler(stream)


def set_level(level: Level) -> None:
    logging.getLogger().setLevel(level.name)


def is_journal(stream: TextIO | None, environ: Mapping[str, str]) -> bool:
    """Whether `stream` goes straight to the journal, not through a pipe or file of someone else."""
    if stream is None:  # the process was started without one
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _priority(levelno: int) -> int:
    return next((priority for floor, priority in _PRIORITIES if levelno >= floor), _DEBUG_PRIORITY)
