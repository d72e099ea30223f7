"""The doctor at a real broker: what is allowed is found out, what is wrong is named, and nobody is disturbed."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.integration.broker_fake import CONNECT, FakeBroker, Session, connack, publish, suback
from tests.integration.certificates import Certificates
from tests.integration.controller_desk import Desk
from tests.integration.daemon_process import Daemon
from tests.integration.mosquitto import Mosquitto, free_port, write_passwords

from mutebridge.config import Config
from mutebridge.controller import SessionController
from mutebridge.doctor.broker_judgement import broker_findings
from mutebridge.doctor.broker_visit import visit_broker
from mutebridge.doctor.facts import BrokerFacts
from mutebridge.doctor.findings import Finding, Report, State
from mutebridge.edges.broker import BrokerSettings

pytestmark = pytest.mark.broker

ROOT = Path(__file__).resolve().parents[2]
STATION = "desk"
P = f"mutebridge/v1/{STATION}"
# The bridge's lines of the example access list, as (what, pattern).
RIGHTS = (
    ("readwrite", "mutebridge/v1/%u/bridge/#"),
    ("write", "mutebridge/v1/%u/controller/+/command"),
    ("read", "mutebridge/v1/%u/controller/#"),
)
Doctor = Callable[..., "Diagnosis"]


class Diagnosis:
    """Findings, to be asked for by name and what they are about."""

    def __init__(self, facts: BrokerFacts) -> None:
        self.facts = facts
        self.findings = list(broker_findings(facts, None))

    def of(self, name: str) -> list[Finding]:
        return [each for each in self.findings if each.name == name]

    def one(self, name: str) -> Finding:
        (found,) = self.of(name)
        return found

    def states(self, name: str) -> dict[str, State]:
        return {(each.about or "").removeprefix(f"{P}/"): each.state for each in self.of(name)}


def diagnose(port: int, **keys: Any) -> Diagnosis:
    settings = {"host": "127.0.0.1", "port": port, **keys}
    return Diagnosis(visit_broker(Config(station=STATION, broker=msgspec.convert(settings, BrokerSettings)), 8.0))


def with_access_list(
    make_mosquitto: Callable[..., Mosquitto], directory: Path, rights: tuple[tuple[str, str], ...]
) -> Mosquitto:
    write_passwords(directory / "passwords", {STATION: "secret"})
    lines = [f"pattern {what} {pattern}" for what, pattern in rights]
    # mosquitto wants at least one line.
    (directory / "acl").write_text("\n".join(["user nobody-else", "topic read other", *lines]) + "\n")
    return make_mosquitto(f"allow_anonymous false\npassword_file {directory}/passwords\nacl_file {directory}/acl")


def test_the_example_access_list_is_the_one_that_is_tried_here() -> None:
    lines = (ROOT / "config" / "mosquitto.acl").read_text().splitlines()
    assert {tuple(line.split()[1:]) for line in lines if line.startswith("pattern")} == set(RIGHTS)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_with_all_rights_all_is_well(make_mosquitto: Callable[..., Mosquitto], tmp_path: Path, protocol: str) -> None:
    mosquitto = with_access_list(make_mosquitto, tmp_path, RIGHTS)
    found = diagnose(mosquitto.port, username=STATION, password="secret", protocol=protocol)
    assert found.one("broker").state is State.OK
    assert f"MQTT {protocol}" in found.one("broker").finding
    assert found.states("publish") == dict.fromkeys(
        ["bridge/availability", "bridge/device/+", "bridge/event", "controller/+/command"], State.OK
    )
    leaves = ["availability", "call", "mic", "result"]
    needed = [*(f"controller/+/{leaf}" for leaf in leaves), "bridge/availability", "bridge/device/+"]
    assert found.states("subscribe") == dict.fromkeys(needed, State.OK)
    assert found.one("certificate").state is State.NOT_APPLICABLE
    assert found.one("controller").state is State.WARNING


# What each missing line of the access list costs: the topics that are then a problem, or cannot be judged.
MISSING = {
    0: {
        "publish": {"bridge/availability", "bridge/device/+", "bridge/event"},
        "subscribe": {"bridge/availability", "bridge/device/+"},
    },
    1: {
        "publish": {"controller/+/command"},
        "subscribe": {f"controller/+/{x}" for x in ("availability", "call", "mic", "result")},
    },
    2: {"publish": set(), "subscribe": {f"controller/+/{x}" for x in ("availability", "call", "mic", "result")}},
}


@pytest.mark.parametrize("missing", MISSING)
def test_each_missing_right_is_named(make_mosquitto: Callable[..., Mosquitto], tmp_path: Path, missing: int) -> None:
    rights = tuple(right for number, right in enumerate(RIGHTS) if number != missing)
    mosquitto = with_access_list(make_mosquitto, tmp_path, rights)
    found = diagnose(mosquitto.port, username=STATION, password="secret")
    for name, topics in MISSING[missing].items():
        assert {about for about, state in found.states(name).items() if state is not State.OK} == topics
    assert Report.of(found.findings).state is State.PROBLEM
    assert found.one("bridge").state is (State.CANNOT_TELL if missing == 0 else State.NOT_APPLICABLE)
    assert found.one("controller").state is (State.WARNING if missing == 0 else State.CANNOT_TELL)
    assert all(each.remedy for each in found.findings if each.state is State.PROBLEM)


@pytest.mark.parametrize(("missing", "name"), [(0, "publish"), (1, "publish"), (2, "subscribe")])
def test_mqtt_3_1_1_drops_without_a_word_and_is_found_out_all_the_same(
    make_mosquitto: Callable[..., Mosquitto], tmp_path: Path, missing: int, name: str
) -> None:
    rights = tuple(right for number, right in enumerate(RIGHTS) if number != missing)
    mosquitto = with_access_list(make_mosquitto, tmp_path, rights)
    found = diagnose(mosquitto.port, username=STATION, password="secret", protocol="3.1.1")
    wrong = {about for about, state in found.states(name).items() if state is State.PROBLEM}
    assert wrong >= MISSING[missing][name]


def test_what_a_controller_left_proves_that_it_can_be_read(
    make_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    """An access list may be stricter than the example."""
    leaves = ("availability", "call", "mic", "result")
    strict = (*RIGHTS[:2], *(("read", f"mutebridge/v1/%u/controller/+/{leaf}") for leaf in leaves))
    mosquitto = with_access_list(make_mosquitto, tmp_path, (*strict, ("write", "mutebridge/v1/%u/controller/page/#")))
    for leaf, payload in (("availability", "online"), ("call", "ringing")):
        topic = f"{P}/controller/page/{leaf}"
        user = ["-u", STATION, "-P", "secret"]
        subprocess.run(
            ["mosquitto_pub", "-p", str(mosquitto.port), *user, "-r", "-t", topic, "-m", payload], check=True
        )
    states = diagnose(mosquitto.port, username=STATION, password="secret").states("subscribe")
    assert states["controller/+/availability"] is State.OK
    assert states["controller/+/call"] is State.OK


# --- nobody is disturbed


@pytest.fixture
def desk(mosquitto: Mosquitto) -> Iterator[Desk]:
    with Desk(mosquitto) as heard:
        yield heard


def configured(directory: Path, port: int, **keys: object) -> Path:
    file = directory / "mutebridge.yaml"
    file.write_text(json.dumps({"station": STATION, "broker": {"host": "127.0.0.1", "port": port}, **keys}))
    return file


def program(*arguments: object, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "mutebridge", "doctor", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "daemon"), **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_running_daemon_and_its_controller_notice_nothing(mosquitto: Mosquitto, desk: Desk, tmp_path: Path) -> None:
    settings = BrokerSettings(host="127.0.0.1", port=mosquitto.port)
    controller = SessionController(STATION, name="page", set_mute=lambda _: None, broker=settings)
    with Daemon(configured(tmp_path, mosquitto.port), "--log-level", "debug") as daemon:
        daemon.wait_log("up, MQTT")
        desk.hear("availability", lambda m: m.topic.startswith(f"{P}/bridge") and m.payload == "online")
        controller.start()
        try:
            for _ in range(2):  # once for its connection, once for the bridge that it finds
                desk.hear("availability", lambda m: "/controller/" in m.topic and m.payload == "online")
            lines = len(daemon.log.all())
            done = program("--config", tmp_path / "mutebridge.yaml", "--json")
            checks = json.loads(done.stdout)["checks"]
            desk.publish(f"{P}/end", "")
            heard = []
            while not (message := desk.hear_next()).topic.endswith("/end"):
                heard.append(message)
            assert len(heard) == 4, heard  # nothing else was said, by anybody
            assert [line.text for line in daemon.log.all()[lines:]] == []
        finally:
            controller.stop()
    availability, device, event, command = heard
    assert (availability.topic, availability.payload, availability.retain) == (f"{P}/bridge/availability", "", False)
    assert device.topic.startswith(f"{P}/bridge/device/doctor-")
    assert device.payload == ""
    assert (event["outcome"], event["reason"]) == ("ignored", "doctor")
    assert (command["expires_at"], command.retain) == (0, False)
    assert "~" in command.topic
    assert done.stderr == ""
    states = {check["name"]: check["state"] for check in checks}
    assert {states[name] for name in ("configuration", "broker", "publish", "subscribe", "bridge", "controller")} == {
        "ok"
    }


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_the_daemon_lives_on_where_the_user_s_name_is_the_client_id(
    make_mosquitto: Callable[..., Mosquitto], tmp_path: Path, protocol: str
) -> None:
    """The broker then takes the doctor for the daemon, and the daemon for the doctor."""
    write_passwords(tmp_path / "passwords", {STATION: "secret"})
    mosquitto = make_mosquitto(
        f"allow_anonymous false\npassword_file {tmp_path}/passwords", listener="use_username_as_clientid true"
    )
    keys = {"username": STATION, "password": "secret", "protocol": protocol}
    file = configured(tmp_path, mosquitto.port, broker={"host": "127.0.0.1", "port": mosquitto.port, **keys})
    with Daemon(file) as daemon:
        daemon.wait_log("up, MQTT")
        seen = len(daemon.log.all())
        diagnose(mosquitto.port, **keys)
        daemon.wait_log("up, MQTT", since=seen)
        assert daemon.terminate() == 0


def test_nothing_is_left_behind(mosquitto: Mosquitto) -> None:
    diagnose(mosquitto.port)
    with Desk(mosquitto) as desk:
        desk.publish("end", "")
        assert desk.hear_next().topic == "end"


# --- the controllers


def tell(mosquitto: Mosquitto, **leaves: object) -> None:
    for leaf, payload in leaves.items():
        text = payload if isinstance(payload, str) else json.dumps(payload)
        topic = f"{P}/controller/page/{leaf}"
        subprocess.run(
            ["mosquitto_pub", "-p", str(mosquitto.port), "-r", "-q", "1", "-t", topic, "-m", text], check=True
        )


CALL = {"state": "connected", "call_id": "1", "epoch": "e", "seq": 1, "at": 1.0e12, "heartbeat_s": 1}
MIC = {"muted": True, "call_id": "1", "epoch": "e", "seq": 2, "at": 1.0e12}


@pytest.mark.parametrize(
    ("leaves", "state", "said"),
    [
        ({"availability": "offline"}, State.WARNING, "offline"),
        ({"availability": "online"}, State.WARNING, "no call state"),
        ({"availability": "online", "call": "ringing"}, State.OK, "online; call ringing"),
        ({"call": "ringing"}, State.OK, "never said online"),
        ({"call": "connected"}, State.PROBLEM, "microphone unknown"),
        ({"call": "connected", "mic": "muted"}, State.OK, "microphone muted; no heartbeat"),
        ({"availability": "online", "call": CALL, "mic": MIC}, State.PROBLEM, "no heartbeat in"),
        ({"call": "{broken", "mic": "muted"}, State.PROBLEM, "controller/page/call: "),
        ({"availability": "perhaps"}, State.PROBLEM, "'online' or 'offline' is allowed"),
    ],
)
def test_what_a_controller_has_said(mosquitto: Mosquitto, leaves: dict[str, Any], state: State, said: str) -> None:
    tell(mosquitto, **leaves)
    found = diagnose(mosquitto.port).one("controller")
    assert (found.about, found.state) == ("page", state)
    assert said in found.finding
    assert (found.remedy is None) is (state is State.OK)


def test_a_controller_that_is_gone_is_no_fault_while_another_one_is_there(mosquitto: Mosquitto) -> None:
    tell(mosquitto, availability="offline")
    subprocess.run(
        ["mosquitto_pub", "-p", str(mosquitto.port), "-r", "-t", f"{P}/controller/new/availability", "-m", "online"],
        check=True,
    )
    found = {each.about: each for each in diagnose(mosquitto.port).of("controller")}
    assert found["page"].state is State.OK
    assert found["new"].state is State.WARNING  # it has no call state yet


def test_a_retained_command_is_named(mosquitto: Mosquitto) -> None:
    tell(mosquitto, availability="online", call="disconnected", command={"request_id": "old"})
    found = diagnose(mosquitto.port).of("controller")
    assert [each.state for each in found] == [State.PROBLEM, State.OK]
    assert f"mosquitto_pub -r -n -t {P}/controller/page/command" in (found[0].remedy or "")


def test_a_controller_in_a_call_is_listened_to(mosquitto: Mosquitto) -> None:
    settings = BrokerSettings(host="127.0.0.1", port=mosquitto.port)
    controller = SessionController(STATION, name="page", set_mute=lambda _: None, broker=settings, heartbeat_s=2.0)
    with Desk(mosquitto) as desk:
        controller.start()
        try:
            controller.call_changed("connected", call_id="42")
            controller.mic_changed(muted=False)
            desk.hear("mic", lambda m: m.data is not None and m["muted"] is False)
            began = time.monotonic()
            found = diagnose(mosquitto.port).one("controller")
        finally:
            controller.stop()
    assert (found.state, found.about) == (State.OK, "page")
    assert "microphone live; its heartbeat came" in found.finding
    assert time.monotonic() - began < 6


# --- what is wrong with the broker


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_broker_that_ends_the_connection_over_a_topic(protocol: str) -> None:
    """Some do so instead of refusing; the rest is tried all the same, over a connection that hears as much."""

    def script(session: Session) -> None:
        level = session.read_until(CONNECT).level
        session.send(connack(0, level))
        subscribed = 0
        while True:
            packet = session.read()
            if packet.header & 0xF0 == 0x80:
                session.send(suback(packet, 1, level))
                subscribed += 1
            elif packet.header & 0xF0 == 0x30:
                size = packet.body[1] + 2
                topic = packet.body[2:size].decode()
                if "bridge/device" in topic:
                    return
                echo = publish(topic, b"", level) if subscribed == 8 else b""
                session.send(echo, b"\x40\x02" + packet.body[size : size + 2])

    with FakeBroker(script) as broker:
        found = diagnose(broker.port, protocol=protocol)
        assert broker.sessions == 2
    assert found.states("publish") == {
        "bridge/availability": State.OK,
        "bridge/device/+": State.PROBLEM,
        "bridge/event": State.OK,
        "controller/+/command": State.OK,
    }
    assert "ends the connection over it" in found.of("publish")[1].finding


def test_a_wrong_password(make_mosquitto: Callable[..., Mosquitto], tmp_path: Path) -> None:
    mosquitto = with_access_list(make_mosquitto, tmp_path, RIGHTS)
    found = diagnose(mosquitto.port, username=STATION, password="guessed")
    assert found.one("broker").state is State.PROBLEM
    assert "refuses user 'desk'" in found.one("broker").finding
    assert found.one("broker").remedy == "set broker.username and its password as the broker has them"
    assert "guessed" not in repr(found.findings)
    assert {each.state for each in found.findings[1:]} == {State.CANNOT_TELL}


@pytest.mark.parametrize("trouble", ["none", "expired", "unknown authority"])
def test_tls(make_mosquitto: Callable[..., Mosquitto], certificates: Certificates, trouble: str) -> None:
    cert, key = certificates.server(expired=trouble == "expired")
    mosquitto = make_mosquitto(listener=f"cafile {certificates.ca_file}\ncertfile {cert}\nkeyfile {key}")
    ca_file = certificates.other_ca_file if trouble == "unknown authority" else certificates.ca_file
    found = diagnose(mosquitto.port, host="localhost", tls={"ca_file": ca_file})
    if trouble == "none":
        assert found.one("broker").state is State.OK
        assert found.one("certificate").state is State.WARNING  # the tests' certificates end tomorrow
        assert "ends in 0 days" in found.one("certificate").finding
    else:
        assert found.one("broker").state is State.PROBLEM
        assert {"expired": "has expired", "unknown authority": "unknown authority"}[trouble] in found.one(
            "broker"
        ).finding
        assert f"openssl s_client -connect localhost:{mosquitto.port}" in (found.one("broker").remedy or "")


# --- the program


def test_nobody_listens(tmp_path: Path) -> None:
    done = program("--config", configured(tmp_path, free_port()), COLUMNS="80")
    assert (done.returncode, done.stderr) == (2, "")
    assert "problem  broker         mqtt://127.0.0.1:" in done.stdout
    assert "> start the broker" in done.stdout
    assert "unknown  certificate    so with publish, subscribe, bridge, controller: without\n" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if str(tmp_path) not in line) <= 80


def test_a_frozen_broker_does_not_hold_it_up(mosquitto: Mosquitto, tmp_path: Path) -> None:
    file = configured(tmp_path, mosquitto.port)
    mosquitto.freeze()
    began = time.monotonic()
    done = program("--config", file, "--json")
    assert time.monotonic() - began < 12
    mosquitto.thaw()
    assert done.returncode == 2
    (broker,) = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "broker"]
    assert broker["state"] == "problem"
    assert "does not answer" in broker["finding"]


def test_a_wrong_configuration_is_a_problem_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "mutebridge.yaml"
    file.write_text("station: desk\nbroker: {prot: 1883}\n")
    done = program("--config", file, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["state"], set(report)) == (2, "problem", {"state", "checks"})
    assert all(list(check) == ["name", "state", "finding", "remedy", "about"] for check in report["checks"])
    first = report["checks"][0]
    assert (first["name"], first["state"], first["about"]) == ("configuration", "problem", str(file))
    assert "'port'" in first["finding"]
    states = {check["name"]: check["state"] for check in report["checks"]}
    assert (states["broker"], states["device"], states["library"]) == ("cannot_tell", "cannot_tell", "ok")


def test_the_broker_that_the_daemon_brings_along_lets_no_doctor_in(tmp_path: Path) -> None:
    embedded = {"websocket_port": 0, "credentials_file": str(tmp_path / "controllers.json")}
    file = configured(tmp_path, free_port(), embedded_broker=embedded)
    with Daemon(file, "--embedded-broker") as daemon:
        daemon.wait_log("up, MQTT")
        done = program("--config", file, "--json")
        assert daemon.terminate() == 0
    states = {check["name"]: check["state"] for check in json.loads(done.stdout)["checks"]}
    assert (states["broker"], states["publish"], states["bridge"]) == ("ok", "not_applicable", "not_applicable")
    assert states["controller"] == "cannot_tell"


def test_a_password_that_systemd_gives_the_service_is_read_where_systemd_reads_it(
    make_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    mosquitto = with_access_list(make_mosquitto, tmp_path, RIGHTS)
    (tmp_path / "kept").write_text("secret\n")
    (tmp_path / "unit").write_text(f"[Service]\nLoadCredential=mqtt-password:{tmp_path}/kept\n")
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\necho LoadState=loaded\necho FragmentPath={tmp_path}/unit\n")
    systemctl.chmod(0o755)
    keys = {"host": "127.0.0.1", "port": mosquitto.port, "username": STATION, "password_credential": "mqtt-password"}
    done = program("--config", configured(tmp_path, 1, broker=keys), "--json", PATH=f"{tmp_path}:{os.environ['PATH']}")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert (checks["broker"]["state"], checks["service"]["state"]) == ("ok", "warning"), done.stdout
    assert "secret" not in done.stdout


@pytest.mark.parametrize("timeout", ["0", "soon", "1000"])
def test_a_timeout_that_cannot_be(timeout: str) -> None:
    done = program("--timeout", timeout)
    assert done.returncode == os.EX_USAGE
    assert "1 to 600 seconds" in done.stderr
