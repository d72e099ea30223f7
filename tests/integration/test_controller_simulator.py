"""`mutebridge simulate` as a program, against a real broker."""

import json
import os
import pty
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.controller_desk import DEADLINE_S, STATION, Bridge, Desk, P, stop_process
from tests.integration.mosquitto import Mosquitto, free_port

pytestmark = pytest.mark.broker
ENV = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "daemon")}
PROGRAM = """
import argparse, sys
from mutebridge.controller import simulator
parser = argparse.ArgumentParser()
simulator.add_arguments(parser)
sys.exit(simulator.main(parser.parse_args()))
"""


def command(port: int, *arguments: str) -> list[str]:
    where = ["--host", "127.0.0.1", "--port", str(port), "--station", STATION]
    return [sys.executable, "-c", PROGRAM, *where, *arguments]


class Simulator(Bridge):
    """The program with --json, and its output as objects."""

    def __init__(self, desk: Desk, *arguments: str) -> None:
        super().__init__(desk, "simulated")
        self.process = subprocess.Popen(
            command(desk.broker.port, "--json", *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENV,
        )
        self.said: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.said.put(json.loads(line))

    def type(self, *lines: str) -> None:
        assert self.process.stdin
        self.process.stdin.write("".join(f"{line}\n" for line in lines))
        self.process.stdin.flush()

    def says(self, what: str, **fields: Any) -> dict[str, Any]:
        """Wait until it prints such an object."""
        passed = []
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            try:
                said = self.said.get(timeout=deadline - time.monotonic())
            except queue.Empty:
                break
            if said["what"] == what and fields.items() <= said.items():
                return said
            passed.append(said)
        raise AssertionError(f"it did not say {what} {fields}, but {passed}")

    def end(self, number: int | None = None) -> int:
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return code


@pytest.fixture
def desk(mosquitto: Mosquitto) -> Iterator[Desk]:
    with Desk(mosquitto) as desk:
        yield desk


@pytest.fixture
def simulate(desk: Desk) -> Iterator[Callable[..., Simulator]]:
    started: list[Simulator] = []

    def start(*arguments: str) -> Simulator:
        simulator = Simulator(desk, *arguments)
        started.append(simulator)
        return simulator

    yield start
    for simulator in started:
        if simulator.process.poll() is None:
            simulator.end(signal.SIGKILL)
        stop_process(simulator.process)


@pytest.fixture
def simulator(simulate: Callable[..., Simulator]) -> Simulator:
    """Up, heard to be, without a call."""
    simulator = simulate()
    simulator.says("broker", state="up")
    simulator.hear("availability", lambda m: m.payload == "online")
    return simulator


def connected(simulator: Simulator) -> Simulator:
    simulator.type("ring", "connect")
    simulator.hear_call("connected")
    simulator.hear_mic(False)
    return simulator


def test_a_call_from_the_first_ring_to_the_last_light(simulator: Simulator) -> None:
    simulator.type("ring")
    assert simulator.says("call", state="ringing")["call_id"] == simulator.hear_call("ringing")["call_id"]
    refused = simulator.hear_result(simulator.command(muted=True))
    assert (refused["error"], "ringing" in refused["detail"]) == ("not_connected", True)
    simulator.type("connect")
    simulator.hear_call("connected")
    simulator.hear_mic(False)
    for muted in (True, False):
        request_id = simulator.command(muted=muted)
        assert simulator.hear_mic(muted)["request_id"] == request_id
        assert simulator.says("command", request_id=request_id)["source"]["name"] == "Red button"
        assert simulator.says("mic")["muted"] is muted
        assert simulator.says("result", request_id=request_id)["ok"] is True
    simulator.type("hold")
    simulator.hear_call("held")
    assert simulator.hear_result(simulator.command(muted=True))["error"] == "not_connected"
    simulator.type("resume")
    simulator.hear_call("connected")
    assert simulator.hear_mic(False)
    simulator.type("end")
    simulator.hear_call("disconnected")
    assert simulator.hear("mic").payload == ""
    simulator.type("quit")
    assert simulator.hear("availability").payload == "offline"
    assert simulator.end() == 0


@pytest.mark.parametrize(
    ("awkward", "normal", "error", "names"),
    [
        ("scope off", "scope on", "missing_scope", "client:call:write"),
        ("owner other", "owner me", "not_allowed", "somebody else owns"),
        ("deaf on", "deaf off", "failed", "reported no change"),
    ],
)
def test_what_a_bare_operation_not_allowed_meant_is_said(
    simulator: Simulator, awkward: str, normal: str, error: str, names: str
) -> None:
    connected(simulator).type(awkward, "hold", "resume")  # the call shows that the first line was taken
    simulator.hear_call("held")
    simulator.hear_call("connected")
    result = simulator.hear_result(simulator.command(muted=True))
    assert (result["error"], names in result["detail"]) == (error, True)
    simulator.type("mute")  # the default controls work all the same
    assert simulator.hear_mic(True)["request_id"] is None
    simulator.type(normal, "unmute")
    simulator.hear_mic(False)
    assert simulator.hear_result(simulator.command(muted=True))["ok"] is True


def test_the_hook(simulator: Simulator) -> None:
    simulator.type("ring")
    simulator.hear_call("ringing")
    assert simulator.hear_result(simulator.command(action="answer"))["ok"] is True
    simulator.says("call", state="connected")
    simulator.hear_result(simulator.command(action="hang_up"))
    simulator.says("call", state="disconnected")


def test_killed_it_is_offline_by_its_will(simulator: Simulator) -> None:
    connected(simulator)
    assert simulator.end(signal.SIGKILL) == -signal.SIGKILL
    will = simulator.hear("availability")
    assert (will.payload, will.retain, will.qos) == ("offline", True, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_in_order(simulator: Simulator, number: int) -> None:
    assert simulator.end(number) == 0
    assert simulator.hear("availability").payload == "offline"


def test_the_end_of_its_input_ends_it(simulator: Simulator) -> None:
    assert simulator.process.stdin
    simulator.process.stdin.close()
    assert simulator.end() == 0
    assert simulator.hear("availability").payload == "offline"


def test_while_it_was_stopped_a_command_expired(simulator: Simulator) -> None:
    connected(simulator)
    simulator.process.send_signal(signal.SIGSTOP)
    request_id = simulator.command(muted=True, life_ms=200)
    expires = time.monotonic() + 0.3
    while time.monotonic() < expires:  # the time itself is what is waited for
        threading.Event().wait(expires - time.monotonic())
    simulator.process.send_signal(signal.SIGCONT)
    assert simulator.hear_result(request_id)["error"] == "expired"
    assert not any(said["what"] == "mic" and said["muted"] for said in simulator.said.queue)


def test_it_says_what_it_did_not_understand_and_goes_on(simulator: Simulator) -> None:
    simulator.type("dance", "hold", "wait x", "", "ring")
    assert "none of" in simulator.says("refused", line="dance")["detail"]
    assert "now it can: ring, dial" in simulator.says("refused", line="hold")["detail"]
    assert "seconds" in simulator.says("refused", line="wait x")["detail"]
    simulator.says("call", state="ringing")


def test_it_shows_a_command_that_it_cannot_read(simulator: Simulator) -> None:
    for payload in ("mute!", "[1]", "{"):
        simulator.desk.publish(f"{P}/controller/simulated/command", payload)
        assert simulator.says("command")["unreadable"] == payload


def test_a_script_waits_for_the_broker_and_ends_when_it_is_played(simulate: Callable[..., Simulator]) -> None:
    simulator = simulate("--script", "ring; connect; wait 0.01; mute; unmute; hold; quit; end", "--heartbeat", "0.5")
    assert simulator.hear_call("ringing")["heartbeat_s"] == 0.5
    simulator.hear_call("connected")
    simulator.hear_mic(True)
    simulator.hear_mic(False)
    simulator.hear_call("held")
    assert simulator.hear("availability").payload == "offline"  # it quit before the end
    assert simulator.end() == 0


def test_a_time_to_stay_outlasts_the_script(simulate: Callable[..., Simulator]) -> None:
    simulator = simulate("--script", "ring; connect", "--for-seconds", "3")
    simulator.hear_mic(False)
    assert simulator.hear_result(simulator.command(muted=True))["ok"] is True
    assert simulator.end() == 0


def run(*arguments: str, port: int) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(port, *arguments),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=ENV,
        timeout=DEADLINE_S,
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--script", "ring; dance"], "'dance' is none of"),
        (["--station", "two words"], "station 'two words'"),
        (["--heartbeat", "0"], "heartbeat_s"),
        (["--host", "broker.example"], "allow_plaintext"),
        (["--password-file", "/none"], "without username"),
        (["--key-file", "/none"], "without cert_file"),
        (["--for-seconds", "-1"], "for-seconds"),
    ],
)
def test_a_wrong_argument_is_told_with_ex_usage(arguments: list[str], says: str) -> None:
    done = run(*arguments, port=1883)
    assert (done.returncode, done.stdout) == (64, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_broker_it_ends_with_ex_unavailable() -> None:
    done = run("--for-seconds", "0.3", port=free_port())
    assert done.returncode == 69
    assert "Traceback" not in done.stderr


def test_a_closed_output_ends_it(desk: Desk) -> None:
    read, write = os.pipe()
    with subprocess.Popen(command(desk.broker.port), stdin=subprocess.PIPE, stdout=write, env=ENV) as process:
        os.close(write)
        os.close(read)
        assert process.wait(DEADLINE_S) == 0


def test_on_a_terminal_it_teaches(desk: Desk) -> None:
    near, far = pty.openpty()
    with subprocess.Popen(command(desk.broker.port), stdin=far, stdout=far, stderr=far, env=ENV) as process:
        os.close(far)
        shown = read_until(near, b"[disconnected: ring, dial] > ")
        assert b"by hand, on the softphone's own page" in shown
        os.write(near, b"ring\n")
        read_until(near, b"[ringing: connect, end] > ")
        os.write(near, b"connect\n")
        read_until(near, b"[connected: hold, end, mute] > ")
        os.write(near, b"help\n")
        read_until(near, b"the softphone accepts a mute and does nothing")
        bridge = Bridge(desk, "simulated")
        bridge.hear_mic(False)
        bridge.command(muted=True)
        shown = read_until(near, b"ok (r1)")
        assert b"mute from Red button (r1)" in shown
        os.write(near, b"\x04")  # Ctrl-D
        assert process.wait(DEADLINE_S) == 0
    os.close(near)


def read_until(terminal: int, expected: bytes) -> bytes:
    shown = b""
    deadline = time.monotonic() + DEADLINE_S
    while expected not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{expected!r} did not come, but {shown.decode()}"
        shown += os.read(terminal, 4096)
    return shown
