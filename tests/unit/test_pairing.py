"""The forms of a pairing, and which pages may speak to this machine."""

import base64
import json
import subprocess
from pathlib import Path

import pytest

from mutebridge.controller import paired_from_environment
from mutebridge.core.pairing import Pairing
from mutebridge.core.password_hash import fits, hash_of, same
from mutebridge.core.web_page import is_own_host, origin_of
from mutebridge.edges.local_broker import EmbeddedBrokerSettings

PAIRING = Pairing(
    broker="ws://127.0.0.1:9001", station="desk", name="phone", username="phone@desk", password="s3cret-ü"
)
FIELDS = {
    "v": 1,
    "broker": "ws://127.0.0.1:9001",
    "station": "desk",
    "name": "phone",
    "username": "phone@desk",
    "password": "s3cret-ü",
}
ENVIRONMENT = {
    "MUTEBRIDGE_BROKER": "mqtt://127.0.0.1:1884",
    "MUTEBRIDGE_STATION": "desk",
    "MUTEBRIDGE_NAME": "phone",
    "MUTEBRIDGE_USERNAME": "phone@desk",
    "MUTEBRIDGE_PASSWORD": "s3cret",
}


def elsewhere(**changed: str) -> Pairing:
    return Pairing(**{**{key: value for key, value in FIELDS.items() if key != "v"}, **changed})  # type: ignore[arg-type]


def test_as_json() -> None:
    assert json.loads(PAIRING.json()) == FIELDS
    assert json.loads(elsewhere(prefix="site/a").json()) == {**FIELDS, "prefix": "site/a"}


def test_as_a_link_it_stands_behind_the_hash() -> None:
    page, _, fragment = PAIRING.link("https://softphone.example.com/agent?x=1").partition("#")
    assert page == "https://softphone.example.com/agent?x=1"
    key, _, value = fragment.partition("=")
    assert key == "mutebridge"
    assert json.loads(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))) == FIELDS
    with pytest.raises(ValueError, match="fragment"):
        PAIRING.link("https://softphone.example.com/#/agent")


def test_as_environment_a_shell_reads_it(tmp_path: Path) -> None:
    odd = elsewhere(prefix="it's/$(x)", broker="mqtts://broker.example.com:8884")
    (tmp_path / "env").write_text(odd.environment())
    done = subprocess.run(
        ["env", "-i", "sh", "-ac", f". {tmp_path}/env; env"], capture_output=True, text=True, check=True
    )
    environ = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert Pairing.from_environment(environ) == odd


def test_it_shows_no_password() -> None:
    assert "s3cret" not in repr(PAIRING)


def test_a_program_reads_the_environment() -> None:
    paired = paired_from_environment(ENVIRONMENT)
    assert (paired.station, paired.name, paired.prefix) == ("desk", "phone", "mutebridge/v1")
    broker = paired.broker
    assert (broker.host, broker.port, broker.username, broker.password) == ("127.0.0.1", 1884, "phone@desk", "s3cret")
    assert broker.tls is None


def test_a_broker_elsewhere_is_reached_by_tls() -> None:
    environ = ENVIRONMENT | {"MUTEBRIDGE_BROKER": "mqtts://broker.example.com", "MUTEBRIDGE_CA_FILE": "/etc/ca.pem"}
    broker = paired_from_environment(environ).broker
    assert (broker.host, broker.effective_port) == ("broker.example.com", 8883)
    assert broker.tls is not None
    assert broker.tls.ca_file == "/etc/ca.pem"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("MUTEBRIDGE_PASSWORD", "", "MUTEBRIDGE_PASSWORD: not set; `mutebridge pair --env`"),
        ("MUTEBRIDGE_BROKER", "ws://127.0.0.1:9001", "mqtt or mqtts"),
        ("MUTEBRIDGE_BROKER", "mqtt://broker.example.com", "Use mqtts://"),
        ("MUTEBRIDGE_BROKER", "mqtts://", "://host:port"),
        ("MUTEBRIDGE_BROKER", "mqtts://broker.example.com:99999", "://host:port"),
        ("MUTEBRIDGE_BROKER", "mqtts://me:secret@broker.example.com", "://host:port"),
        ("MUTEBRIDGE_STATION", "a b", "station"),
        ("MUTEBRIDGE_PREFIX", "a/+", "prefix"),
    ],
)
def test_an_environment_that_cannot_be_is_told(variable: str, value: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        paired_from_environment(ENVIRONMENT | {variable: value})


def test_a_hash_is_that_of_its_password_alone() -> None:
    hashed = hash_of("s3cret-ü", b"twelve bytes")
    assert hashed.startswith("$7$101$dHdlbHZlIGJ5dGVz$")
    assert fits("s3cret-ü", hashed)
    assert not fits("s3cret", hashed)
    assert hash_of("s3cret-ü", b"other twelve") != hashed


@pytest.mark.parametrize(
    "hashed", ["", "$7$101$x$y", "$6$101$AAAA$AAAA", "$7$101$AAAA$", "$7$0$AAAA$AAAA", "plain", "a$b$c$d$e$f"]
)
def test_a_hash_that_cannot_be_read_is_of_no_password(hashed: str) -> None:
    assert not fits("", hashed)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Softphone.Example.com/agent?x#y", "https://softphone.example.com"),
        ("https://softphone.example.com:443", "https://softphone.example.com"),
        ("http://127.0.0.1:80/", "http://127.0.0.1"),
        ("http://localhost:9002/", "http://localhost:9002"),
        ("http://[::1]:9002/", "http://[::1]:9002"),
        ("https://me@softphone.example.com", "https://softphone.example.com"),
        ("chrome-extension://abcdef/page.html", "chrome-extension://abcdef"),
    ],
)
def test_the_origin_of_a_page(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url", ["null", "*", "", "softphone.example.com", "https://", "https://*.example.com", "http://a:99999"]
)
def test_what_has_no_origin(url: str) -> None:
    with pytest.raises(ValueError, match=r"origin|[Pp]ort"):
        origin_of(url)


@pytest.mark.parametrize(
    ("hosts", "own"),
    [
        (["localhost:9001"], True),
        (["127.0.0.1"], True),
        (["[::1]:9001"], True),
        (["127.0.0.1.example.net"], False),
        (["localhost.:9001"], False),
        (["0.0.0.0:9001"], False),
        ([""], False),
        ([], False),
        (["localhost", "localhost"], False),
    ],
)
def test_the_names_of_this_machine(hosts: list[str], own: bool) -> None:
    assert is_own_host(hosts) is own


def test_configured_origins_are_origins() -> None:
    assert EmbeddedBrokerSettings(origins=("HTTPS://a.example.com/",)).origins == ("https://a.example.com",)
    for wrong in ("https://a.example.com/agent", "*", "a.example.com"):
        with pytest.raises(ValueError, match="origin"):
            EmbeddedBrokerSettings(origins=(wrong,))


def test_passwords_are_compared_whole() -> None:
    assert same("s3cret-ü", "s3cret-ü")
    assert not same("s3cret", "s3cret-ü")
