"""The doctor and a serial button on a real terminal: who has it open, with and beside the daemon."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.daemon_process import Daemon
from tests.integration.mosquitto import Mosquitto

SOURCE = Path(__file__).parents[2] / "daemon"

pytestmark = pytest.mark.broker


@pytest.fixture
def port() -> Iterator[str]:
    board, line = pty.openpty()
    yield os.ttyname(line)
    os.close(line)
    os.close(board)


@pytest.fixture
def config(tmp_path: Path, mosquitto: Mosquitto, port: str) -> Path:
    file = tmp_path / "mutebridge.yaml"
    button = {"id": "pedal", "name": "the pedal", "port": port, "profile": "lines"}
    broker = {"host": "127.0.0.1", "port": mosquitto.port}
    file.write_text(json.dumps({"station": "desk", "broker": broker, "known_devices": False, "devices": [button]}))
    return file


def checks(config: Path) -> dict[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "mutebridge", "doctor", "--json", "--config", str(config)],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_the_daemon_has_it_open(config: Path, port: str) -> None:
    with Daemon(config) as daemon:
        daemon.wait_log("up, MQTT")
        daemon.wait_log(f"open at {port}")
        device = checks(config)["device"]
        assert daemon.terminate() == 0
    assert (device["state"], device["about"]) == ("ok", f"the pedal at {port}")
    assert device["finding"] == "the daemon has it open"


def test_another_program_has_it_open(config: Path, port: str) -> None:
    line = os.open(port, os.O_RDONLY | os.O_NOCTTY)  # else its end is a hang-up for pytest, where that leads a session
    with subprocess.Popen(["sleep", "1000"], stdin=line) as other:
        os.close(line)
        try:
            found = checks(config)["other_program"]
        finally:
            other.kill()
    assert (found["state"], found["about"], found["remedy"]) == ("problem", port, "end that program")
    assert f"sleep ({other.pid})" in found["finding"]


def test_it_is_not_plugged_in(config: Path, port: str) -> None:
    config.write_text(config.read_text().replace(port, f"{port}-gone"))
    assert checks(config)["device"]["finding"] == "not plugged in"
