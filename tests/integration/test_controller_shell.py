"""The shell script that the README gives as a complete controller is one."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.controller_desk import DEADLINE_S, STATION, Bridge, Desk, P, stop_process
from tests.integration.mosquitto import Mosquitto

from mutebridge.core.contract import DEFAULT_PREFIX
from mutebridge.edges import local_broker
from mutebridge.edges.local_broker import CredentialsFile, EmbeddedBrokerSettings
from mutebridge.pair import issue, new_pairing

pytestmark = pytest.mark.broker
SCRIPT = Path(__file__).with_name("shell_controller.sh")
C = f"{P}/controller/shell"


class Shell(Bridge):
    """The script, and what a bridge knows of it; it has the wall clock and no seq."""

    def __init__(self, desk: Desk, directory: Path) -> None:
        super().__init__(desk, "shell")
        self.done = directory / "done"
        set_mute = directory / "set_mute"
        set_mute.write_text(f'#!/bin/sh\n[ ! -e "{directory}/broken" ] && echo "$1" >> {self.done}\n')
        set_mute.chmod(0o755)
        self.process = subprocess.Popen(
            ["bash", str(SCRIPT)],
            stdin=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "STATION": STATION,
                "HOST": "127.0.0.1",
                "PORT": str(desk.broker.port),
                "SET_MUTE": str(set_mute),
            },
        )

    def at(self) -> float:
        return time.time() * 1000

    def type(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def acted(self) -> list[str]:
        return self.done.read_text().split() if self.done.exists() else []

    def command(self, *, retain: bool = False, life_ms: float = 2000, **fields: Any) -> str:
        """As to a controller that says no seq: there is none to refer to."""
        return super().command(retain=retain, life_ms=life_ms, **({"mic_seq": None} | fields))


@pytest.fixture
def shell(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Shell]:
    """In a connected call, unmuted, and listening."""
    with Desk(mosquitto) as desk:
        shell = Shell(desk, tmp_path)
        shell.hear_call("disconnected")
        shell.type("connected")
        shell.hear_call("connected")
        shell.type("unmuted")
        shell.hear_mic(False)
        mosquitto.wait_for_log(r"controller/shell/command \(QoS")  # the script's subscription
        try:
            yield shell
        finally:
            stop_process(shell.process)


def test_it_gets_in_where_the_broker_asks_for_a_password(tmp_path: Path) -> None:
    """By what mosquitto's programs read, as the README says: at the broker that the daemon brings along."""
    file = CredentialsFile(tmp_path / "controllers.json")
    settings = EmbeddedBrokerSettings(credentials_file=str(file.path))
    folder = tmp_path / ".config"
    folder.mkdir()
    with local_broker.embedded_broker(settings, port=0, user=STATION, any_websocket_port=True) as broker:
        pairing = new_pairing(f"mqtt://127.0.0.1:{broker.port}", STATION, "shell", DEFAULT_PREFIX)
        issue(pairing, file)
        for program in ("mosquitto_pub", "mosquitto_sub"):
            (folder / program).write_text(f"-u {pairing.username}\n-P {pairing.password}\n")
        environ = {
            **os.environ,
            "HOME": str(tmp_path),
            "STATION": STATION,
            "PORT": str(broker.port),
            "SET_MUTE": "true",
        }
        environ.pop("XDG_CONFIG_HOME", None)
        process = subprocess.Popen(["bash", str(SCRIPT)], stdin=subprocess.PIPE, text=True, env=environ)
        owner = ["-p", str(broker.port), "-u", broker.user or "", "-P", broker.password or "", "-V", "311"]
        try:
            heard = subprocess.run(
                ["mosquitto_sub", *owner, "-t", f"{C}/availability", "-C", "1", "-W", str(DEADLINE_S)],
                capture_output=True,
                text=True,
                check=True,
            )
        finally:
            stop_process(process)
    assert heard.stdout == "online\n"


def test_it_has_no_more_lines_than_one_reads() -> None:
    assert len(SCRIPT.read_text().splitlines()) <= 30


def test_it_mutes_and_unmutes(shell: Shell) -> None:
    for muted in (True, False):
        request_id = shell.command(muted=muted)
        mic = shell.hear_mic(muted)
        assert (mic["request_id"], mic.retain, mic.qos) == (request_id, True, 1)
        result = shell.hear_result(request_id)
        assert (result["ok"], result.retain) == (True, False)
    assert shell.acted() == ["true", "false"]


def test_it_acts_once_and_answers_twice(shell: Shell) -> None:
    for _ in range(2):
        assert shell.hear_result(shell.command(request_id="same", muted=True))["ok"] is True
    assert shell.acted() == ["true"]


@pytest.mark.parametrize(
    ("line", "fields", "error"),
    [
        ("", {"life_ms": -1}, "expired"),
        ("", {"expires_at": "a[$(touch /tmp/x)]"}, "expired"),
        ("", {"call_id": "another"}, "stale"),
        ("", {"muted": "$(touch x)"}, "failed"),
        ("held", {}, "not_connected"),
    ],
)
def test_it_refuses(shell: Shell, line: str, fields: dict[str, Any], error: str) -> None:
    if line:
        shell.type(line)
        shell.hear_call(line)
    assert shell.hear_result(shell.command(**({"muted": True} | fields)))["error"] == error
    assert shell.acted() == []


def test_it_says_when_the_softphone_fails(shell: Shell) -> None:
    (shell.done.parent / "broken").touch()
    assert shell.hear_result(shell.command(muted=True))["error"] == "failed"


def test_it_tells_what_the_hand_on_the_page_did(shell: Shell) -> None:
    shell.type("muted")
    assert shell.hear_mic(True)["request_id"] is None


def test_a_new_call_has_an_id_of_its_own(shell: Shell) -> None:
    first = shell.call
    shell.type("disconnected")
    shell.type("ringing")
    second = shell.hear_call("ringing")
    assert first
    assert first["call_id"] != second["call_id"]


def test_it_says_everything_again_to_a_bridge_that_comes(shell: Shell) -> None:
    shell.desk.publish(f"{P}/bridge/availability", "online")
    assert shell.hear_mic(False)
    assert shell.hear_call("connected")


def test_it_answers_a_late_will(shell: Shell) -> None:
    shell.desk.publish(f"{C}/availability", "offline", "-r")
    assert shell.hear("availability", lambda m: m.payload == "offline")
    assert shell.hear("availability", lambda m: m.payload == "online")


def test_it_goes_offline_when_its_input_ends(shell: Shell) -> None:
    assert shell.process.stdin
    shell.process.stdin.close()
    assert shell.hear("availability", lambda m: m.payload == "offline").retain
    assert shell.process.wait(DEADLINE_S) == 0
