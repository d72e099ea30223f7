"""What can be set about the broker, and what is refused with a remedy."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from mutebridge.edges.broker.password import read_password
from mutebridge.edges.broker.problems import CannotConnectError
from mutebridge.edges.broker.settings import BrokerSettings, TlsSettings
from mutebridge.edges.broker.tls import tls_context


def read(**keys: Any) -> BrokerSettings:
    return msgspec.convert(keys, BrokerSettings)


def test_without_any_key_it_is_the_broker_of_this_machine() -> None:
    settings = read()
    assert settings.url == "mqtt://localhost:1883"
    assert settings.keepalive_s == 10


def test_tls_has_a_port_of_its_own() -> None:
    assert read(host="broker.example", tls={}).url == "mqtts://broker.example:8883"
    assert read(host="broker.example", tls={}, port=1234).effective_port == 1234


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1"])
def test_this_machine_needs_no_tls(host: str) -> None:
    assert read(host=host).tls is None


@pytest.mark.parametrize("host", ["broker.example", "192.168.1.5", "0.0.0.0", "localhost.evil.example"])
def test_another_machine_needs_tls_or_an_explicit_word(host: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"Set tls, or allow_plaintext: true"):
        read(host=host)
    with pytest.raises(ValueError, match=r"Set tls, or allow_plaintext: true"):
        BrokerSettings(host=host)
    assert read(host=host, allow_plaintext=True).host == host
    assert read(host=host, tls={}).tls == TlsSettings()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"prot": 1883}, "unknown field `prot`"),
        ({"tls": {"insecure": True}}, "unknown field `insecure`"),
        ({"port": 0}, "port"),
        ({"keepalive_s": 1}, "keepalive_s"),
        ({"protocol": "4"}, "protocol"),
        ({"password": "x"}, "password without username"),
        ({"username": "u", "password": "x", "password_file": "/p"}, "password and password_file: only one"),
        ({"username": "u", "password_credential": "a/b"}, "use password_file for a path"),
        ({"username": "u\0"}, "username: has a character that cannot be printed"),
        ({"client_id": "a\1"}, "client_id: has a character that cannot be printed"),
        ({"username": "u" * 1025}, "username"),
        ({"username": "u", "password": "ä" * 32768}, "password: longer than 65535 bytes"),
        ({"tls": {"key_file": "k"}}, "name the client certificate too"),
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=words):
        read(**keys)


def test_the_password_is_not_shown() -> None:
    settings = read(username="u", password="hunter2")
    shown = [repr(settings), str(settings), str(list(settings.__rich_repr__()))]
    assert "hunter2" not in "".join(shown)


def test_a_password_is_as_long_as_mqtt_can_carry(tmp_path: Path) -> None:
    file = tmp_path / "password"
    settings = BrokerSettings(username="u", password_file=str(file))
    file.write_text("x" * 65535 + "\n")
    assert read_password(settings) == "x" * 65535
    file.write_text("x" * 70000)
    with pytest.raises(CannotConnectError) as caught:
        read_password(settings)
    assert caught.value.problem.message == f"cannot read the password from {file}: it is longer than 65535 bytes"


def test_an_empty_password_is_a_mistake(tmp_path: Path) -> None:
    """It is also what a unit puts in the place of a credential whose file is missing."""
    file = tmp_path / "password"
    file.write_text("\n")
    with pytest.raises(CannotConnectError, match="it is empty"):
        read_password(BrokerSettings(username="u", password_file=str(file)))


def test_a_path_that_cannot_be_is_no_bug() -> None:
    settings = BrokerSettings(username="u", password_file="/a\0b")
    with pytest.raises(CannotConnectError, match="embedded null byte"):
        read_password(settings)
    with pytest.raises(CannotConnectError, match="embedded null byte"):
        tls_context(TlsSettings(ca_file="/a\0b"))


def test_every_key_is_explained() -> None:
    for struct in (BrokerSettings, TlsSettings):
        for key in struct.__struct_fields__:
            assert f"\n    {key} " in (struct.__doc__ or "")
