"""Writes the log to standard error, in the form that its reader wants.

When standard error is the journal (`$JOURNAL_STREAM` names its device and inode, systemd.exec(5)), each line carries
its priority as `<6>` (sd-daemon(3)); the journal adds the time and the name. For a person at a terminal each line says
its level in a word. What comes from devices and brokers may hold anything, so control characters are made visible and
a message of several lines is marked on each of them.
"""

import logging
import os
import sys
from collections.abc import Mapping
from typing import TextIO

from mutebridge.core.events import Level

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY = 7
_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}


class _LineFormatter(logging.Formatter):
    def __init__(self, *, for_journal: bool) -> None:
        super().__init__()
        self._for_journal = for_journal

    def format(self, record: logging.LogRecord) -> str:
        mark = f"<{_priority(record.levelno)}>" if self._for_journal else f"{record.levelname.lower()}: "
        text = super().format(record).translate(_VISIBLE)
        return "\n".join(mark + line for line in text.splitlines() or [""])


def start(level: Level, stream: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> None:
    """Send the log of the whole process to `stream`, by default standard error; again to change the level."""
    stream = sys.stderr if stream is None else stream
    handler: logging.Handler = logging.NullHandler() if stream is None else logging.StreamHandler(stream)
    handler.setFormatter(_LineFormatter(for_journal=is_journal(stream, environ)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)
    # A reader that went away is no reason to print tracebacks at it.
    logging.raiseExceptions = False


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
