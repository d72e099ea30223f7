"""Each kind of trouble with the broker has words of its own, is logged once, and ends when its cause does."""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.broker_fake import CONNECT, SUBSCRIBE, FakeBroker, Session, connack, suback
from tests.integration.broker_probe import Probe
from tests.integration.certificates import Certificates
from tests.integration.mosquitto import Mosquitto, write_passwords
from tests.integration.proxy import Proxy

from mutebridge.edges.broker import ProblemKind, TlsSettings
from mutebridge.edges.broker.tls import tls_context

pytestmark = pytest.mark.broker


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_refused_password_and_its_correction(
    make_mosquitto: Callable[..., Mosquitto], tmp_path: Path, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    write_passwords(tmp_path / "passwords", {"bridge": "correct horse"})
    mosquitto = make_mosquitto(f"allow_anonymous false\npassword_file {tmp_path}/passwords")
    secret = tmp_path / "secret"
    secret.write_text("wrong battery\n")
    keys: dict[str, Any] = {"username": "bridge", "password_file": str(secret), "protocol": protocol}
    with Probe(mosquitto.port, **keys) as probe:
        problem = probe.wait_problem()
        assert problem.kind is ProblemKind.NOT_AUTHORISED
        assert "refuses user 'bridge'" in problem.message
        # Several attempts, one line in the log.
        for _ in range(3):
            mosquitto.wait_for_log("New connection", since=len(mosquitto.log))
        assert len([r for r in caplog.records if "refuses user" in r.message]) == 1
        secret.write_text("correct horse\n")
        probe.wait_up()
        assert probe.broker.problem is None
    everything = caplog.text + repr(probe.settings) + str(probe.broker.describe())
    assert "battery" not in everything
    assert "horse" not in everything


def test_a_client_without_a_name_is_told_so(make_mosquitto: Callable[..., Mosquitto]) -> None:
    mosquitto = make_mosquitto("allow_anonymous false")
    with Probe(mosquitto.port) as probe:
        assert "refuses a client without user name" in probe.wait_problem().message


def test_a_systemd_credential(
    make_mosquitto: Callable[..., Mosquitto], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_passwords(tmp_path / "passwords", {"bridge": "correct horse"})
    mosquitto = make_mosquitto(f"allow_anonymous false\npassword_file {tmp_path}/passwords")
    (tmp_path / "credentials").mkdir()
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with Probe(mosquitto.port, username="bridge", password_credential="broker") as probe:
        problem = probe.wait_problem()
        assert problem.kind is ProblemKind.PASSWORD_UNREADABLE
        assert "$CREDENTIALS_DIRECTORY is not set" in problem.message
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
        probe.wait_until(lambda: "cannot read the password from" in probe.broker.describe())
        (tmp_path / "credentials" / "broker").write_text("correct horse")
        probe.wait_up()


def test_an_unknown_host() -> None:
    with Probe(1883, host="no-such-host.invalid", allow_plaintext=True) as probe:
        problem = probe.wait_problem()
    assert problem.kind is ProblemKind.UNKNOWN_HOST
    assert "cannot find the host 'no-such-host.invalid'" in problem.message


def test_nobody_listens_until_somebody_does(proxy: Proxy) -> None:
    proxy.refuse()
    with Probe(proxy.port) as probe:
        problem = probe.wait_problem()
        assert problem.kind is ProblemKind.CONNECTION_REFUSED
        assert f"nothing listens on port {proxy.port}" in problem.message
        proxy.admit()
        probe.wait_up()


def test_what_is_no_broker() -> None:
    def web_server(session: Session) -> None:
        session.read()
        session.send(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(200))
        session.wait_end()

    with FakeBroker(web_server) as server, Probe(server.port) as probe:
        problem = probe.wait_problem()
    assert problem.kind is ProblemKind.PROTOCOL
    assert "is it an MQTT broker" in problem.message


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_refused_subscription(protocol: str) -> None:
    def script(session: Session) -> None:
        level = session.read_until(CONNECT).level
        session.send(connack(0, level))
        session.send(suback(session.read_until(SUBSCRIBE), 0x87 if level == 5 else 0x80, level))
        session.wait_end()

    with FakeBroker(script) as server:
        with Probe(server.port, subscriptions=[("secret/#", 1)], protocol=protocol) as probe:
            problem = probe.wait_problem()
        assert not probe.seen
    assert problem.kind is ProblemKind.SUBSCRIPTION_REFUSED
    assert "secret/#" in problem.message


def test_a_version_that_is_refused_and_pinned() -> None:
    def script(session: Session) -> None:
        session.send(connack(0x84, session.read().level))

    with FakeBroker(script) as server, Probe(server.port, protocol="5") as probe:
        problem = probe.wait_problem()
    assert problem.kind is ProblemKind.PROTOCOL
    assert "set protocol to auto" in problem.message


def test_a_broker_that_is_busy_says_so() -> None:
    def script(session: Session) -> None:
        session.send(connack(0x89, session.read().level))

    with FakeBroker(script) as server, Probe(server.port) as probe:
        problem = probe.wait_problem()
    assert problem.kind is ProblemKind.REFUSED
    assert "Server busy" in problem.message


def test_tls_with_password_and_client_certificate(
    make_mosquitto: Callable[..., Mosquitto], certificates: Certificates
) -> None:
    mosquitto = make_mosquitto(
        listener=_tls_listener(certificates.server(), f"cafile {certificates.ca_file}\nrequire_certificate true")
    )
    cert, key = certificates.client("station")
    tls = {"ca_file": certificates.ca_file, "cert_file": cert, "key_file": key}
    with Probe(mosquitto.port, host="localhost", tls=tls, subscriptions=[("a", 1)]) as probe:
        probe.wait_up()
        assert probe.broker.describe().startswith("mqtts://")
        assert probe.publish("a", b"x", qos=1)
        assert probe.wait_message().payload == b"x"


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        ("unknown authority", "unknown authority: name the certificate of that authority in tls.ca_file"),
        ("other host", "is for another host than 'localhost'"),
        ("expired", "has expired"),
        ("plain port", "speak TLS"),
        ("no client certificate", "wants a client certificate"),
        ("wrong client certificate", "does not accept our client certificate"),
        ("no such ca file", "ca_file /no/such/file: No such file or directory"),
        ("key does not fit", "not usable"),
    ],
)
def test_tls_trouble_is_told_apart(
    make_mosquitto: Callable[..., Mosquitto], certificates: Certificates, trouble: str, words: str
) -> None:
    server, more = certificates.server(), ""
    tls: dict[str, Any] = {"ca_file": certificates.ca_file}
    if trouble == "unknown authority":
        tls["ca_file"] = certificates.other_ca_file
    elif trouble == "other host":
        server = certificates.server("elsewhere.test")
    elif trouble == "expired":
        server = certificates.server(expired=True)
    elif trouble == "no such ca file":
        tls["ca_file"] = "/no/such/file"
    elif trouble == "key does not fit":
        tls |= {"cert_file": server[0], "key_file": certificates.client("station")[1]}
    elif trouble == "no client certificate":
        more = f"cafile {certificates.ca_file}\nrequire_certificate true"
    elif trouble == "wrong client certificate":
        more = f"cafile {certificates.other_ca_file}\nrequire_certificate true"
        cert, key = certificates.client("station")
        tls |= {"cert_file": cert, "key_file": key}
    listener = "" if trouble == "plain port" else _tls_listener(server, more)
    mosquitto = make_mosquitto(listener=listener)
    with Probe(mosquitto.port, host="localhost", tls=tls) as probe:
        problem = probe.wait_problem()
    assert problem.kind is ProblemKind.TLS
    assert words in problem.message


def test_a_plain_client_at_a_tls_port(make_mosquitto: Callable[..., Mosquitto], certificates: Certificates) -> None:
    mosquitto = make_mosquitto(listener=_tls_listener(certificates.server()))
    with Probe(mosquitto.port) as probe:
        problem = probe.wait_problem()
    assert "does this port expect TLS" in problem.message


def test_a_server_that_does_not_answer_the_tls_handshake(proxy: Proxy, certificates: Certificates) -> None:
    proxy.mute()
    with Probe(proxy.port, host="localhost", tls={"ca_file": certificates.ca_file}) as probe:
        problem = probe.wait_problem()
    assert problem.kind is ProblemKind.SILENT
    assert "TLS handshake" in problem.message


def test_tls_older_than_1_2_is_refused(certificates: Certificates) -> None:
    context = tls_context(TlsSettings(ca_file=certificates.ca_file))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_changed_problem_is_logged_again(proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    with Probe(proxy.port) as probe:
        probe.wait_up()
        proxy.refuse()
        proxy.cut()
        probe.wait_lost()
        probe.wait_problem(ProblemKind.CONNECTION_REFUSED)
        proxy.admit()
        probe.wait_up()
    words = [record.levelname for record in caplog.records if record.name.startswith("mutebridge")]
    assert words[:2] == ["WARNING", "WARNING"]


def _tls_listener(server: tuple[str, str], more: str = "") -> str:
    return f"certfile {server[0]}\nkeyfile {server[1]}\n{more}"
