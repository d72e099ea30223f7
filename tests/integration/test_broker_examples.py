"""The example configuration of the broker, run: who gets in, who may say what, who hears what."""

import contextlib
import os
import queue
import re
import select
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

pytestmark = pytest.mark.broker

EXAMPLES = Path(__file__).parents[2] / "config"
DEADLINE_S = 30
NOT_AUTHORISED = 0x87
P17, P18 = "mutebridge/v1/desk-17", "mutebridge/v1/desk-18"
USERS = ("desk-17", "softphone@desk-17", "desk-18", "softphone@desk-18")


class Ports(NamedTuple):
    plain: int
    tls: int
    websockets: int


class ExampleBroker(NamedTuple):
    ports: Ports
    ca_file: Path


def program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert found, f"{name} is not installed"
    return found


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def lay_out(etc: Path, ports: Ports) -> Path:
    """Install the examples below `etc` as their comments say, beside the main file that Debian ships."""
    (etc / "certs").mkdir(parents=True)
    (etc / "conf.d").mkdir()
    text = (EXAMPLES / "mosquitto.conf").read_text().replace("/etc/mosquitto", str(etc))
    for written, port in (("1883", ports.plain), ("8883", ports.tls), ("8884", ports.websockets)):
        text, count = re.subn(rf"(?m)^listener {written}\b", f"listener {port}", text)
        assert count == 1
    (etc / "conf.d/mutebridge.conf").write_text(text)
    shutil.copy(EXAMPLES / "mosquitto.acl", etc / "mutebridge.acl")
    for user in USERS:
        new = [] if (etc / "mutebridge.passwd").exists() else ["-c"]
        command = [program("mosquitto_passwd"), "-b", *new, str(etc / "mutebridge.passwd"), user, f"secret of {user}"]
        subprocess.run(command, check=True, timeout=DEADLINE_S, capture_output=True)
    make_certificate(etc / "certs")
    main = etc / "mosquitto.conf"
    run_as = "user root\n" if os.geteuid() == 0 else ""
    main.write_text(
        f"{run_as}persistence true\npersistence_location {etc}/\nlog_dest stderr\ninclude_dir {etc}/conf.d\n"
    )
    return main


def make_certificate(directory: Path) -> None:
    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout broker.key"
    names = "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = f"openssl req -x509 -days 2 {key} {names} -out broker.crt"
    subprocess.run(command.split(), cwd=directory, check=True, timeout=DEADLINE_S, capture_output=True)
    shutil.copy(directory / "broker.crt", directory / "ca.crt")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleBroker]:
    ports = Ports(*free_ports(3))
    etc = tmp_path_factory.mktemp("etc") / "mosquitto"
    main = lay_out(etc, ports)
    with subprocess.Popen([program("mosquitto"), "-c", str(main)], stderr=subprocess.PIPE) as process:
        try:
            wait_until_running(process)
            yield ExampleBroker(ports, etc / "certs/ca.crt")
        finally:
            process.kill()


def wait_until_running(process: "subprocess.Popen[bytes]") -> None:
    assert process.stderr is not None
    said = b""
    deadline = time.monotonic() + DEADLINE_S
    while b" running" not in said:
        assert select.select([process.stderr], [], [], deadline - time.monotonic())[0], said.decode()
        piece = os.read(process.stderr.fileno(), 65536)
        assert piece, said.decode()
        said += piece
    assert b"Error" not in said, said.decode()
    assert b"recommended" not in said, said.decode()


class Client:
    """One connection over TLS, each answer of the broker waited for."""

    def __init__(self, broker: ExampleBroker, user: str | None, password: str | None = None, kind: str = "tls") -> None:
        self.heard: queue.Queue[str] = queue.Queue()
        self.answers: queue.Queue[int] = queue.Queue()
        websockets = kind == "websockets"
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            protocol=MQTTProtocolVersion.MQTTv5,
            transport="websockets" if websockets else "tcp",
        )
        if user is not None:
            self.client.username_pw_set(user, f"secret of {user}" if password is None else password)
        if kind != "plain":
            self.client.tls_set_context(ssl.create_default_context(cafile=str(broker.ca_file)))
        self.client.on_connect = lambda _c, _u, _f, reason, _p: self.answers.put(reason.value)
        self.client.on_publish = lambda _c, _u, _m, reason, _p: self.answers.put(reason.value)
        self.client.on_subscribe = lambda _c, _u, _m, reasons, _p: self.answers.put(reasons[0].value)
        self.client.on_message = lambda _c, _u, message: self.heard.put(message.topic)
        self.client.connect("127.0.0.1", getattr(broker.ports, kind))
        self.client.loop_start()
        self.connack = self.answers.get(timeout=DEADLINE_S)

    def __enter__(self) -> "Client":
        assert self.connack == 0
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def publish(self, topic: str, *, retain: bool = False) -> bool:
        """Return whether the broker's access list lets the message through."""
        self.client.publish(topic, b"x", qos=1, retain=retain)
        return self.answers.get(timeout=DEADLINE_S) != NOT_AUTHORISED

    def hear_all(self, *, until: str) -> set[str]:
        """Return the topics of all messages that came up to one of `until`, which is left out."""
        topics = set()
        while (topic := self.heard.get(timeout=DEADLINE_S)) != until:
            topics.add(topic)
        return topics

    def subscribe_to_everything(self) -> None:
        self.client.subscribe("#", qos=1)
        self.answers.get(timeout=DEADLINE_S)


@pytest.mark.parametrize("kind", ["plain", "tls", "websockets"])
def test_every_listener_asks_for_a_password(broker: ExampleBroker, kind: str) -> None:
    for user, password in ((None, None), ("desk-17", "guessed"), ("nobody", "x")):
        stranger = Client(broker, user, password, kind)
        stranger.close()
        assert stranger.connack == NOT_AUTHORISED, (user, kind)
    with Client(broker, "desk-17", kind=kind) as known:
        assert known.publish(f"{P17}/bridge/availability")


def test_the_network_is_spoken_to_in_tls_only(broker: ExampleBroker) -> None:
    with socket.create_connection(("127.0.0.1", broker.ports.tls), DEADLINE_S) as bare:
        bare.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04bare")
        bare.settimeout(DEADLINE_S)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = bare.recv(4)
    assert answer[:1] != b"\x20"  # no CONNACK, whatever else


BRIDGE_WRITES = ("bridge/availability", "bridge/device/desk", "bridge/event", "controller/softphone/command")
CONTROLLER_WRITES = tuple(f"controller/softphone/{leaf}" for leaf in ("availability", "call", "mic", "result"))


@pytest.mark.parametrize(
    ("user", "allowed", "forbidden"),
    [
        (
            "desk-17",
            [f"{P17}/{leaf}" for leaf in (*BRIDGE_WRITES, "controller/other/command")],
            [
                *(f"{P17}/{leaf}" for leaf in CONTROLLER_WRITES),
                *(f"{P18}/{leaf}" for leaf in BRIDGE_WRITES),
                "mutebridge/v1/desk-17",
                "elsewhere",
            ],
        ),
        (
            "softphone@desk-17",
            [f"{P17}/{leaf}" for leaf in CONTROLLER_WRITES],
            [
                *(f"{P17}/{leaf}" for leaf in BRIDGE_WRITES),
                *(f"{P17}/{leaf.replace('softphone', 'other')}" for leaf in CONTROLLER_WRITES),
                *(f"{P18}/{leaf}" for leaf in (*BRIDGE_WRITES, *CONTROLLER_WRITES)),
                "elsewhere",
            ],
        ),
        # Known to the password file, but not named in the access list.
        ("softphone@desk-18", [], [f"{P18}/{leaf}" for leaf in (*BRIDGE_WRITES, *CONTROLLER_WRITES)]),
    ],
)
def test_each_may_say_only_what_is_its_to_say(
    broker: ExampleBroker, user: str, allowed: list[str], forbidden: list[str]
) -> None:
    with Client(broker, user) as client:
        assert [topic for topic in allowed if not client.publish(topic)] == []
        assert [topic for topic in forbidden if client.publish(topic)] == []


@pytest.mark.parametrize(
    ("user", "hears"),
    [
        ("desk-17", {f"{P17}/{leaf}" for leaf in (*BRIDGE_WRITES, *CONTROLLER_WRITES, "controller/other/command")}),
        ("softphone@desk-17", {f"{P17}/{leaf}" for leaf in (*BRIDGE_WRITES, "controller/softphone/availability")}),
        ("desk-18", {f"{P18}/{leaf}" for leaf in BRIDGE_WRITES}),
    ],
)
def test_each_hears_only_what_is_for_it(broker: ExampleBroker, user: str, hears: set[str]) -> None:
    with (
        Client(broker, "desk-17") as bridge,
        Client(broker, "softphone@desk-17") as controller,
        Client(broker, "desk-18") as other,
        Client(broker, user) as reader,
    ):
        reader.subscribe_to_everything()
        for leaf in (*BRIDGE_WRITES, "controller/other/command"):
            assert bridge.publish(f"{P17}/{leaf}")
        for leaf in CONTROLLER_WRITES:
            assert controller.publish(f"{P17}/{leaf}")
        for leaf in BRIDGE_WRITES:
            assert other.publish(f"{P18}/{leaf}")
        # Each of the above was acknowledged, so whatever is to be heard goes out before this.
        station = other if user == "desk-18" else bridge
        end = f"{P18 if user == 'desk-18' else P17}/bridge/end"
        assert station.publish(end)
        assert reader.hear_all(until=end) == hears


def test_a_bridges_will_is_heard(broker: ExampleBroker) -> None:
    with Client(broker, "softphone@desk-17") as controller:
        controller.subscribe_to_everything()
        dying = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        up: queue.Queue[Any] = queue.Queue()
        dying.on_connect = lambda *_: up.put(None)
        dying.username_pw_set("desk-17", "secret of desk-17")
        dying.will_set(f"{P17}/bridge/availability", b"offline", qos=1)
        dying.connect("127.0.0.1", broker.ports.plain)
        dying.loop_start()
        up.get(timeout=DEADLINE_S)
        sock = dying.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(socket.SHUT_RDWR)
        dying.loop_stop()
        assert controller.heard.get(timeout=DEADLINE_S) == f"{P17}/bridge/availability"
