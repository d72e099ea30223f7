"""`mutebridge lights-off` darkens what the daemon left lit, whatever else is wrong."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.serial_board import Board

REPOSITORY = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path / "button")
    yield board
    board.unplug()


def device(name: str, port: Path, settle_s: float = 0) -> str:
    serial = f"{{settle_s: {settle_s}, toggle: press, send: {{muted: MUTED, live: LIVE, 'off': DARK}}}}"
    return f"  - {{id: {name}, port: {port}, serial: {serial}}}\n"


def lights_off(tmp_path: Path, config: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    file = tmp_path / "mutebridge.yaml"
    file.write_text(config)
    return subprocess.run(
        [sys.executable, "-m", "mutebridge", "lights-off", "--config", str(file)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "daemon"), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


def test_every_button_is_darkened_at_the_same_time(tmp_path: Path, board: Board) -> None:
    booting = Board(tmp_path / "booting")
    config = "devices:\n" + device("desk", board.link) + device("boots", booting.link, 1.0)
    done = lights_off(tmp_path, config)
    assert (done.returncode, done.stdout, done.stderr) == (os.EX_OK, "", "")
    assert board.shows(b"DARK\n") == b"DARK\n"
    assert booting.shows(b"DARK\n") == b"DARK\n"
    booting.unplug()


def test_one_that_is_not_there_is_not_waited_for(tmp_path: Path) -> None:
    before = time.monotonic()
    done = lights_off(tmp_path, "devices:\n" + device("gone", tmp_path / "gone"))
    assert (done.returncode, done.stderr) == (os.EX_OK, "")
    assert time.monotonic() - before < 3


def test_one_that_somebody_holds_is_named_and_holds_nobody_up(tmp_path: Path, board: Board) -> None:
    held = Board(tmp_path / "held")
    fcntl.flock(held._slave, fcntl.LOCK_EX)
    done = lights_off(tmp_path, "devices:\n" + device("held", held.link) + device("desk", board.link))
    assert done.returncode == os.EX_TEMPFAIL
    assert "held: its lights could not be put out" in done.stderr
    assert "desk" not in done.stderr
    board.shows(b"DARK\n")
    held.unplug()


def test_a_wrong_configuration_is_no_reason_to_fail(tmp_path: Path) -> None:
    done = lights_off(tmp_path, "statoin: desk\n")
    assert done.returncode == os.EX_OK
    assert "the configuration is wrong" in done.stderr


def test_after_a_daemon_that_ended_in_order_there_is_nothing_to_do(tmp_path: Path, board: Board) -> None:
    done = lights_off(tmp_path, "devices:\n" + device("desk", board.link), SERVICE_RESULT="success")
    assert done.returncode == os.EX_OK
    assert board.is_silent()
