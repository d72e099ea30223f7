"""`mutebridge pair` as it is typed: what it prints, what it leaves in files, what a real mosquitto makes of those."""

import base64
import json
import os
import queue
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from tests.integration.daemon_process import SOURCE
from tests.integration.mosquitto import Mosquitto

from mutebridge.controller import SessionController, paired_from_environment
from mutebridge.controller.session_controller import Happening

DEADLINE_S = 20
NOT_AUTHORISED = 0x87
C = "mutebridge/v1/desk/controller/softphone"


def pair(
    *args: str | Path, directory: Path, status: int = 0, config: str = "{station: desk}"
) -> "subprocess.CompletedProcess[str]":
    file = directory / "mutebridge.yaml"
    file.write_text(config)
    environ = {**os.environ, "PYTHONPATH": str(SOURCE), "STATE_DIRECTORY": str(directory / "state")}
    command = [sys.executable, "-W", "error", "-m", "mutebridge", "pair", "--config", str(file), *map(str, args)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def environment(printed: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in printed.splitlines())


# --- for the daemon's own broker --------------------------------------------------------------------------------------


def noted(directory: Path) -> list[dict[str, object]]:
    controllers = json.loads((directory / "state/controllers.json").read_text())["controllers"]
    assert isinstance(controllers, list)
    return controllers


def test_a_link_is_for_its_page(tmp_path: Path) -> None:
    done = pair("--link", "https://softphone.example.com/agent", directory=tmp_path)
    page, _, fragment = done.stdout.strip().partition("#mutebridge=")
    assert page == "https://softphone.example.com/agent"
    fields = json.loads(base64.urlsafe_b64decode(fragment + "=" * (-len(fragment) % 4)))
    assert (fields["broker"], fields["station"], fields["name"]) == ("ws://127.0.0.1:9001", "desk", "softphone")
    (controller,) = noted(tmp_path)
    assert (controller["user"], controller["origins"]) == ("softphone@desk", ["https://softphone.example.com"])
    assert fields["password"] not in (tmp_path / "state/controllers.json").read_text() + done.stderr


def test_without_a_form_it_is_a_link_to_the_page_that_mutebridge_serves(tmp_path: Path) -> None:
    assert pair(directory=tmp_path).stdout.startswith("http://127.0.0.1:9002/#mutebridge=")
    assert noted(tmp_path)[0]["origins"] == ["http://127.0.0.1:9002"]


def test_json_says_when_no_page_may_use_it_yet(tmp_path: Path) -> None:
    assert "no page may use it" in pair("--json", directory=tmp_path).stderr
    done = pair("--json", "--origin", "https://Softphone.example.com/", directory=tmp_path)
    assert "no page" not in done.stderr
    assert json.loads(done.stdout)["v"] == 1
    assert noted(tmp_path)[0]["origins"] == ["https://softphone.example.com"]


def test_a_controller_is_noted_once_with_its_newest_password(tmp_path: Path) -> None:
    first = json.loads(pair("--json", directory=tmp_path).stdout)
    second = json.loads(pair("--json", directory=tmp_path).stdout)
    pair("--json", "--name", "other", directory=tmp_path)
    assert first["password"] != second["password"]
    assert [controller["user"] for controller in noted(tmp_path)] == ["softphone@desk", "other@desk"]
    assert "not let in any more" in pair("--revoke", directory=tmp_path).stderr
    assert "was not paired" in pair("--revoke", directory=tmp_path).stderr
    assert [controller["user"] for controller in noted(tmp_path)] == ["other@desk"]


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["--name", "a b"], os.EX_USAGE, "name 'a b'"),
        (["--link", "softphone.example.com"], os.EX_USAGE, "no origin"),
        (["--link", "https://a.example.com/#x"], os.EX_USAGE, "fragment"),
        (["--json", "--origin", "*"], os.EX_USAGE, "no origin"),
        (["--station", "desk-18"], os.EX_USAGE, "for desk alone"),
        (["--broker", "ws://broker.example.com"], os.EX_USAGE, "Use wss://"),
        (["--broker", "mqtts://broker.example.com"], os.EX_USAGE, "ws or wss"),
        (["--env", "--broker", "wss://broker.example.com"], os.EX_USAGE, "mqtt or mqtts"),
        (["--broker", "wss://b", "--origin", "https://a.example.com"], os.EX_USAGE, "mosquitto does not look"),
        (["--broker", "wss://b", "--revoke"], os.EX_USAGE, "--password-file"),
        (["--broker", "wss://b", "--acl-file", "/nowhere/acl"], os.EX_NOINPUT, "no such folder"),
        (["--json", "--env"], os.EX_USAGE, "not allowed with"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_told_and_leaves_nothing(tmp_path: Path, args: list[str], status: int, says: str) -> None:
    done = pair(*args, directory=tmp_path, status=status)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "state").exists()


def test_a_wrong_configuration_and_a_broken_file_are_told(tmp_path: Path) -> None:
    done = pair(directory=tmp_path, status=os.EX_CONFIG, config="embedded_broker: {origins: [a.example.com]}")
    assert "a.example.com" in done.stderr
    pair(directory=tmp_path)
    (tmp_path / "state/controllers.json").write_text('{"controllers": [{"user": "desk"}]}')
    assert "is not what `mutebridge pair` writes" in pair(directory=tmp_path, status=os.EX_DATAERR).stderr


def test_when_nobody_reads_it_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "mutebridge.yaml").write_text("station: desk")
    environ = {**os.environ, "PYTHONPATH": str(SOURCE), "STATE_DIRECTORY": str(tmp_path)}
    command = [sys.executable, "-m", "mutebridge", "pair", "--config", str(tmp_path / "mutebridge.yaml")]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        command, env=environ, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    os.close(write)
    assert done.returncode == 128 + signal.SIGPIPE
    assert done.stderr.count("\n") == 1, "where it was noted"


def test_a_file_is_not_sought_behind_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/controllers.json").symlink_to(tmp_path / "elsewhere")
    assert "symbolic link" in pair("--json", directory=tmp_path, status=os.EX_CANTCREAT).stderr
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_made_by_root_the_file_is_the_services_whose_folder_it_is(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    os.chown(tmp_path / "state", 4321, 1234)
    for _ in range(2):
        pair("--json", directory=tmp_path)
        status = (tmp_path / "state/controllers.json").stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (4321, 1234, 0o600)


def test_without_a_websocket_port_no_page_is_paired(tmp_path: Path) -> None:
    config = "{station: desk, embedded_broker: {websocket_port: 0}}"
    assert "websocket_port" in pair(directory=tmp_path, status=os.EX_USAGE, config=config).stderr
    pair("--env", directory=tmp_path, config=config)


# --- for an administrator's mosquitto ---------------------------------------------------------------------------------


class Desk:
    """A mosquitto whose files `mutebridge pair` changes."""

    def __init__(self, directory: Path, make_mosquitto: Callable[..., Mosquitto]) -> None:
        self.directory = directory
        self.passwords, self.access = directory / "passwd", directory / "acl"
        self.passwords.write_text("# ours\n")
        self.passwords.chmod(0o640)
        self.access.write_text("pattern readwrite mutebridge/v1/%u/bridge/#\n")
        conf = f"allow_anonymous false\npassword_file {self.passwords}\nacl_file {self.access}"
        self.mosquitto = make_mosquitto(conf)
        self.files = ("--password-file", self.passwords, "--acl-file", self.access)

    def pair(self, *args: str) -> dict[str, str]:
        broker = f"mqtt://127.0.0.1:{self.mosquitto.port}"
        done = pair("--env", "--broker", broker, *self.files, *args, directory=self.directory)
        assert "systemctl reload mosquitto" in done.stderr
        self.reload()
        return environment(done.stdout)

    def reload(self) -> None:
        seen = len(self.mosquitto.log)
        self.mosquitto.reload()
        self.mosquitto.wait_for_log("Reloading config", since=seen)

    def client(self, environ: dict[str, str]) -> "Client":
        return Client(self.mosquitto.port, environ["MUTEBRIDGE_USERNAME"], environ["MUTEBRIDGE_PASSWORD"])


class Client:
    """One connection; `connack` is 0 when the broker lets it in."""

    def __init__(self, port: int, user: str, password: str) -> None:
        self._answers: queue.Queue[int] = queue.Queue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.username_pw_set(user, password)
        self._client.on_connect = lambda _c, _u, _f, reason, _p: self._answers.put(reason.value)
        self._client.on_publish = lambda _c, _u, _m, reason, _p: self._answers.put(reason.value)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self.connack = self._answers.get(timeout=DEADLINE_S)

    def may_publish(self, topic: str) -> bool:
        self._client.publish(topic, b"x", qos=1)
        return self._answers.get(timeout=DEADLINE_S) != NOT_AUTHORISED

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def desk(tmp_path: Path, make_mosquitto: Callable[..., Mosquitto]) -> Desk:
    return Desk(tmp_path, make_mosquitto)


@pytest.mark.broker
def test_mosquitto_lets_the_controller_in_to_do_what_is_its_to_do(desk: Desk) -> None:
    environ = desk.pair()
    with desk.client(environ) as client:
        assert client.connack == 0
        assert client.may_publish(f"{C}/mic")
        assert not client.may_publish("mutebridge/v1/desk/bridge/availability")
        assert not client.may_publish("mutebridge/v1/desk/controller/other/mic")
        assert not client.may_publish("mutebridge/v1/desk-18/controller/softphone/mic")
    with Client(desk.mosquitto.port, "softphone@desk", "guess") as stranger:
        assert stranger.connack == NOT_AUTHORISED


@pytest.mark.broker
def test_the_controller_library_gets_in_by_its_environment(desk: Desk) -> None:
    paired = paired_from_environment(desk.pair())
    happened: queue.Queue[Happening] = queue.Queue()
    controller = SessionController(
        paired.station,
        paired.name,
        set_mute=lambda _muted: None,
        broker=paired.broker,
        prefix=paired.prefix,
        observe=happened.put,
    )
    with controller:
        assert happened.get(timeout=DEADLINE_S).what == "up"


@pytest.mark.broker
def test_the_simulator_gets_in_by_its_environment(desk: Desk) -> None:
    environ = {**os.environ, "PYTHONPATH": str(SOURCE), **desk.pair("--name", "simulated")}
    command = [sys.executable, "-m", "mutebridge", "simulate", "--json", "--paired", "--script", "ring"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert '"state": "up"' in done.stdout
    del environ["MUTEBRIDGE_PASSWORD"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == os.EX_USAGE
    assert "MUTEBRIDGE_PASSWORD: not set" in done.stderr


@pytest.mark.broker
def test_paired_again_the_old_password_is_worth_nothing_and_each_line_is_there_once(desk: Desk) -> None:
    first = desk.pair()
    second = desk.pair()
    with desk.client(first) as old, desk.client(second) as new:
        assert (old.connack, new.connack) == (NOT_AUTHORISED, 0)
        assert new.may_publish(f"{C}/mic")
    other = desk.pair("--station", "desk-18")
    with desk.client(other) as client:
        assert client.connack == 0
        assert client.may_publish("mutebridge/v1/desk-18/controller/softphone/mic")
        assert not client.may_publish(f"{C}/mic")
    passwords, access = desk.passwords.read_text(), desk.access.read_text()
    assert [line.partition(":")[0] for line in passwords.splitlines()] == [
        "# ours",
        "softphone@desk",
        "softphone@desk-18",
    ]
    assert access.count("user softphone@desk\n") == 1
    assert access.startswith("pattern readwrite mutebridge/v1/%u/bridge/#\n\nuser softphone@desk\n")
    assert desk.passwords.stat().st_mode & 0o777 == 0o640, "as it was"


@pytest.mark.broker
def test_revoked_it_is_not_let_in(desk: Desk) -> None:
    passwords, access = desk.passwords.read_text(), desk.access.read_text()
    environ = desk.pair()
    pair("--revoke", *desk.files, directory=desk.directory)
    desk.reload()
    with desk.client(environ) as client:
        assert client.connack == NOT_AUTHORISED
    assert (desk.passwords.read_text(), desk.access.read_text()) == (passwords, access)
    assert "was not there" in pair("--revoke", *desk.files, directory=desk.directory).stderr


@pytest.mark.broker
def test_without_files_it_prints_what_belongs_in_them(desk: Desk) -> None:
    broker = f"mqtt://127.0.0.1:{desk.mosquitto.port}"
    done = pair("--env", "--broker", broker, directory=desk.directory)
    access, _, passwords = done.stderr.partition("password_file:")
    desk.access.write_text(access.partition("acl_file:\n\n")[2].partition("\n\n")[0] + "\n")
    desk.passwords.write_text(passwords.strip().splitlines()[0] + "\n")
    desk.reload()
    with desk.client(environment(done.stdout)) as client:
        assert client.connack == 0
        assert client.may_publish(f"{C}/mic")


def test_a_broker_elsewhere_is_the_configured_one_for_a_program(tmp_path: Path) -> None:
    config = "{station: desk, broker: {host: broker.example.com, tls: {}}}"
    printed = environment(pair("--env", directory=tmp_path, config=config).stdout)
    assert printed["MUTEBRIDGE_BROKER"] == "mqtts://broker.example.com:8883"
    assert "--broker wss://" in pair(directory=tmp_path, config=config, status=os.EX_USAGE).stderr
