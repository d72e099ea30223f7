"""How log lines look to the journal and to a person."""

import contextlib
import io
import logging
import os
import pty
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from mutebridge.core.events import Level
from mutebridge.edges import journal_log


@pytest.fixture(autouse=True)
def root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising


def written(tmp_path: Path, *, journal: bool, level: Level = Level.DEBUG) -> str:
    path = tmp_path / "stderr"
    with path.open("w") as stream:
        status = os.fstat(stream.fileno())
        inode = status.st_ino if journal else status.st_ino + 1
        journal_log.start(level, stream, {"JOURNAL_STREAM": f"{status.st_dev}:{inode}"})
        log = logging.getLogger("mutebridge.edges.broker")
        log.error("cannot open %s", "/dev/x")
        log.warning("broker lost:\nsays who")
        log.info("from a device: \x1b[2J\x07\x9b ü")
        log.debug("")
    return path.read_text()


def test_for_the_journal_every_line_carries_its_priority(tmp_path: Path) -> None:
    assert written(tmp_path, journal=True).splitlines() == [
        "<3>cannot open /dev/x",
        "<4>broker lost:",
        "<4>says who",
        r"<6>from a device: \x1b[2J\x07\x9b ü",
        "<7>",
    ]


def test_for_a_person_every_line_says_its_level_in_a_word(tmp_path: Path) -> None:
    assert written(tmp_path, journal=False).splitlines()[:3] == [
        "error: cannot open /dev/x",
        "warning: broker lost:",
        "warning: says who",
    ]


def test_the_level_hides_what_is_below_and_can_be_changed(tmp_path: Path) -> None:
    assert len(written(tmp_path, journal=True, level=Level.WARNING).splitlines()) == 3
    journal_log.set_level(Level.DEBUG)
    assert logging.getLogger("mutebridge").isEnabledFor(logging.DEBUG)


def test_a_reader_that_went_away_is_no_trouble(capfd: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w", buffering=1)
    journal_log.start(Level.INFO, stream, {})
    logging.getLogger("x").error("unheard")
    journal_log.start(Level.INFO)
    logging.getLogger("x").error("heard")
    assert capfd.readouterr().err == "error: heard\n"
    stream.close()


def filled(fd: int, size: int) -> int:
    """Write until it would block; returns how many bytes that took."""
    os.set_blocking(fd, False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            count += os.write(fd, b"x" * size)
    os.set_blocking(fd, True)
    return count


def test_a_pipe_that_nobody_reads_holds_nobody_up() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        journal_log.start(Level.INFO, stream, {})
        count = filled(writing, 1)
        logging.getLogger("x").error("dropped")
        logging.getLogger("x").error("dropped as well")
        assert os.read(reading, count) == b"x" * count
        logging.getLogger("x").error("heard")
        assert os.read(reading, 4096).decode().splitlines() == [
            "warning: 2 messages were dropped here: nobody took the log",
            "error: heard",
        ]
    os.close(reading)


def test_a_terminal_that_is_stopped_in_the_middle_of_a_line_holds_nobody_up() -> None:
    screen, keyboard = pty.openpty()
    tty.setraw(keyboard)
    with os.fdopen(keyboard, "w") as stream:
        journal_log.start(Level.INFO, stream, {})
        for _ in range(10_000):
            logging.getLogger("x").error("%s", "x" * 100)
        assert os.get_blocking(stream.fileno())
    os.close(screen)


def test_a_stream_that_is_no_file_is_written_to() -> None:
    stream = io.StringIO()
    journal_log.start(Level.INFO, stream, {})
    logging.getLogger("x").error("heard")
    assert stream.getvalue() == "error: heard\n"


def test_a_stream_without_a_descriptor_is_not_the_journal() -> None:
    class Detached:
        def fileno(self) -> int:
            raise ValueError

    assert not journal_log.is_journal(Detached(), {"JOURNAL_STREAM": "1:2"})  # type: ignore[arg-type]
