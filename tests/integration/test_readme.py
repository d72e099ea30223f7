"""Every command in the README runs, and what it shows is what is in the tree."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.daemon_process import Daemon
from tests.integration.daemon_station import Station
from tests.integration.mosquitto import Mosquitto, free_port

from mutebridge import virtual_headset

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SHELL = re.findall(r"^```sh\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in SHELL for line in block.splitlines()]
CONFIGURATIONS = re.findall(r"^```yaml\n(devices:.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
LINKS = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)

pytestmark = pytest.mark.broker

# The two that make their own environment are run from a clean clone elsewhere: `python3 tests` is this very run, and
# `python3 daemon` is held to a real environment in test_bootstrap; here its program is run.
_PROGRAM = [sys.executable, "-m", "mutebridge"]


def run(*words: str, **options: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "daemon"), **options}
    return subprocess.run(
        words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


def demo(_mosquitto: Mosquitto, _directory: Path) -> None:
    done = run(*_PROGRAM, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every light told the truth." in done.stdout


def check(_mosquitto: Mosquitto, _directory: Path) -> None:
    assert "press_mode" in run(*_PROGRAM, "check").stdout


def devices(_mosquitto: Mosquitto, _directory: Path) -> None:
    assert run(*_PROGRAM, "devices").returncode == 0


def descriptor(_mosquitto: Mosquitto, directory: Path) -> None:
    """The file is the kernel's, of a device that is plugged in."""
    file = directory / "report_descriptor"
    file.write_bytes(virtual_headset.descriptor())
    said = run(*_PROGRAM, "devices", "--descriptor", str(file)).stdout
    assert "It has a mute button, a toggle button, with mute LED." in said


def hwdb(_mosquitto: Mosquitto, _directory: Path) -> None:
    assert "systemd-hwdb update" in run(*_PROGRAM, "devices", "--hwdb").stdout


def record(_mosquitto: Mosquitto, directory: Path) -> None:
    """Where such a headset is plugged in, the lab records it."""
    done = run(*_PROGRAM, "record", "/dev/hidraw999", str(directory / "my-headset.rec"))
    assert done.returncode == os.EX_NOINPUT
    assert "no such HID device" in done.stderr


def doctor(_mosquitto: Mosquitto, directory: Path) -> None:
    """No broker is where it looks, which is a problem, and it says what to do."""
    done = run(*_PROGRAM, "doctor", MUTEBRIDGE_CONFIG=str(_at_a_closed_port(directory)))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "> start the broker" in done.stdout


def doctor_json(_mosquitto: Mosquitto, directory: Path) -> None:
    done = run(*_PROGRAM, "doctor", "--json", MUTEBRIDGE_CONFIG=str(_at_a_closed_port(directory)))
    assert json.loads(done.stdout)["state"] == "problem"


def _at_a_closed_port(directory: Path) -> Path:
    config = directory / "closed.yaml"
    config.write_text(f"broker: {{port: {free_port()}}}\n")
    return config


def daemon(mosquitto: Mosquitto, directory: Path) -> None:
    """It runs until it is asked to end."""
    config = directory / "readme.yaml"
    config.write_text(f"broker: {{port: {mosquitto.port}}}\n")
    process = subprocess.Popen(
        [*_PROGRAM, "run", "--config", str(config)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "daemon")},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert any("up, MQTT" in line for line in process.stderr), "it found the broker"
    process.terminate()
    process.stderr.close()
    assert process.wait(timeout=20) == 0


def pair(_mosquitto: Mosquitto, directory: Path) -> None:
    """In the order in which they stand there."""
    printed = []
    for line in (line for line in COMMANDS if line.startswith("python3 daemon pair")):
        words = line.replace("/etc/mosquitto", str(directory)).split()[2:]
        done = run(*_PROGRAM, *words, STATE_DIRECTORY=str(directory))
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    link, as_json, environment, revoked, elsewhere = printed
    assert link.startswith("https://softphone.example.com/agent#mutebridge=")
    assert f"MUTEBRIDGE_STATION={json.loads(as_json)['station']}\n" in environment
    assert revoked == ""
    (shown,) = re.findall(r"`(\{\"v\".*?\})`", README, flags=re.DOTALL)
    assert json.loads(elsewhere).keys() == json.loads(shown).keys() == json.loads(as_json).keys()
    assert (directory / "mutebridge.passwd").read_text().startswith("softphone@desk-17:$7$")
    assert (directory / "mutebridge.acl").read_text().startswith("user softphone@desk-17\n")


def page(_mosquitto: Mosquitto, directory: Path) -> None:
    """The two commands together."""
    config = directory / "readme.yaml"
    ports = {"broker": {"port": free_port()}, "embedded_broker": {"websocket_port": free_port()}}
    config.write_text(json.dumps(ports))
    state = {"STATE_DIRECTORY": str(directory)}
    with Daemon(config, "--embedded-broker", environ=state) as running:
        running.wait_log("up, MQTT")
        process = subprocess.Popen(
            [*_PROGRAM, "controller-page", "--config", str(config), "--port", "0"],
            env={**os.environ, "PYTHONPATH": str(ROOT / "daemon"), **state},
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/pair/\S+\n", process.stdout.readline())
            process.terminate()
        assert process.returncode == 0


def publish(mosquitto: Mosquitto, _directory: Path) -> None:
    """They leave a retained call and mic state for the daemon to find."""
    lines = [line for line in COMMANDS if line.startswith("mosquitto_pub")]
    for line in lines:
        done = run("bash", "-c", line.replace("mosquitto_pub", f"mosquitto_pub -p {mosquitto.port}"))
        assert done.returncode == 0, done.stderr
    kept = run(
        "mosquitto_sub", "-p", str(mosquitto.port), "-t", "mutebridge/v1/+/controller/shell/+", "-C", "2", "-W", "20"
    )
    assert sorted(kept.stdout.split()) == ["connected", "unmuted"]


def this_run(_mosquitto: Mosquitto, _directory: Path) -> None:
    assert (ROOT / "tests" / "__main__.py").is_file()


def simulate(mosquitto: Mosquitto, _directory: Path) -> None:
    (line,) = [line for line in COMMANDS if line.startswith("python3 daemon simulate")]
    words = shlex.split(line)[3:]
    done = run(*_PROGRAM, "simulate", *words, "--port", str(mosquitto.port), "--station", "desk")
    assert (done.returncode, done.stderr) == (0, "")
    assert "connected" in done.stdout


def watch(mosquitto: Mosquitto, _directory: Path) -> None:
    """It shows what a controller says; here, what was left retained."""
    publish(mosquitto, _directory)
    (line,) = [line for line in COMMANDS if line.startswith("mosquitto_sub")]
    done = run("bash", "-c", f"{line} -p {mosquitto.port} -C 2 -W 20")
    assert "/controller/shell/call connected" in done.stdout


def genesys_cloud(_mosquitto: Mosquitto, directory: Path) -> None:
    """As it begins, for somebody who is not logged in; test_genesys_sign_in goes on from there."""
    (line,) = [line for line in COMMANDS if line.startswith("python3 daemon controller genesys-cloud --")]
    done = run(*_PROGRAM, *shlex.split(line)[2:], XDG_STATE_HOME=str(directory))
    assert done.returncode == os.EX_CONFIG
    assert "mutebridge controller genesys-cloud login" in done.stderr


def genesys_cloud_login(_mosquitto: Mosquitto, directory: Path) -> None:
    """It says which address to open, then waits for a person."""
    (line,) = [line for line in COMMANDS if line.startswith("python3 daemon controller genesys-cloud login")]
    process = subprocess.Popen(
        [*_PROGRAM, *shlex.split(line)[2:], "--redirect-uri", f"http://localhost:{free_port()}/callback"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "daemon"), "XDG_STATE_HOME": str(directory)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert any(said.startswith("https://login.mypurecloud.de/oauth/authorize?") for said in process.stdout)
    process.kill()
    process.communicate()


def administration(_mosquitto: Mosquitto, directory: Path) -> None:
    """What it would do and its options; the lab types the same on a machine of its own (native_installation)."""
    for line in (line for line in COMMANDS if re.search("daemon (install|uninstall|wheels)", line)):
        words = shlex.split(line.removeprefix("sudo "))[1:]
        assert run(sys.executable, str(ROOT / words[0]), *words[1:], "--help").returncode == 0
    done = run(sys.executable, str(ROOT / "daemon"), "install", "--check", "--root", str(directory))
    assert done.returncode == 0, done.stderr
    assert f"changed  {directory}/etc/mutebridge/mutebridge.yaml" in done.stdout


RUN: dict[str, Callable[[Mosquitto, Path], None]] = {
    "python3 daemon demo": demo,
    "python3 daemon check": check,
    "sudo python3 daemon install": administration,
    "sudo python3 daemon uninstall": administration,
    "python3 daemon wheels": administration,
    "python3 daemon devices --descriptor": descriptor,
    "python3 daemon devices --hwdb": hwdb,
    "python3 daemon devices": devices,
    "python3 daemon doctor --json": doctor_json,
    "python3 daemon doctor": doctor,
    "python3 daemon record": record,
    "python3 daemon pair": pair,
    "python3 daemon run --embedded-broker": page,
    "python3 daemon controller-page": page,
    "python3 daemon run": daemon,
    "python3 tests": this_run,
    "python3 daemon simulate": simulate,
    "python3 daemon controller genesys-cloud login": genesys_cloud_login,
    "python3 daemon controller genesys-cloud": genesys_cloud,
    "mosquitto_pub": publish,
    "mosquitto_sub": watch,
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme(line: str, mosquitto: Mosquitto, tmp_path: Path) -> None:
    command = next((known for known in RUN if line.startswith(known)), None)
    assert command is not None, f"no test runs {line!r}"
    RUN[command](mosquitto, tmp_path)


def test_the_readme_begins_with_the_two_commands() -> None:
    assert SHELL[0].splitlines() == ["python3 daemon demo", "python3 tests"]


class Softphone:
    """What the Python controller calls `softphone`, with a person who talks and presses."""

    def __init__(self, station: Station) -> None:
        self.scopes = {"calls:mute"}
        self.station = station

    def on_call_state(self, changed: Callable[[str, str], None]) -> None:
        self.call = changed

    def on_mic_state(self, changed: Callable[[bool], None]) -> None:
        self.mic = changed

    def mute(self, muted: bool) -> None:
        self.mic(muted)

    def run(self) -> None:
        self.call("ringing", "call-1")
        self.call("connected", "call-1")
        self.mic(False)
        self.station.wait_lamp("LIVE")
        self.station.press()
        self.station.wait_event("confirmed")
        self.station.wait_lamp("MUTED")
        self.scopes.clear()
        self.station.wait_told("muted")
        self.station.press()
        rejected = self.station.wait_event("rejected")
        assert rejected.get("reason") == "missing_scope"
        assert "the login lacks the scope calls:mute" in rejected.get("detail")


def test_the_python_controller_works(tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    assert len(block.splitlines()) <= 20
    paired = {"BROKER": f"mqtt://127.0.0.1:{mosquitto.port}", "STATION": "desk", "NAME": "phone"}
    for name, value in {**paired, "USERNAME": "phone", "PASSWORD": "any"}.items():
        monkeypatch.setenv(f"MUTEBRIDGE_{name}", value)
    with Station(tmp_path, mosquitto.port, softphone=False) as station:
        exec(compile(block, "README.md", "exec"), {"softphone": Softphone(station)})
        station.wait_lamp("OFF")


def test_the_shell_controller_is_the_one_that_is_tested() -> None:
    (script,) = re.findall(r"^```bash\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    assert script == (ROOT / "tests" / "integration" / "shell_controller.sh").read_text()


def test_the_shell_controller_is_of_the_station_that_the_daemon_takes_by_default(tmp_path: Path) -> None:
    hostname = tmp_path / "hostname"
    hostname.write_text('#!/bin/sh\n[ "$1" = -s ] && echo Desk || echo Desk.example.org\n')
    hostname.chmod(0o755)
    (line,) = [line for line in README.splitlines() if line.startswith("P=")]
    done = run("bash", "-c", f"{line}\necho $C", PATH=f"{tmp_path}:{os.environ['PATH']}", STATION="")
    assert done.stdout == "mutebridge/v1/desk/controller/shell\n"


@pytest.mark.parametrize("link", LINKS)
def test_a_link_of_the_readme(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_a_configuration_that_is_shown_is_right(configuration: str, tmp_path: Path) -> None:
    file = tmp_path / "shown.yaml"
    file.write_text(configuration)
    done = run(*_PROGRAM, "check", "--config", str(file))
    assert done.returncode == os.EX_OK, done.stderr
