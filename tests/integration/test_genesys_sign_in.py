"""`mutebridge controller genesys-cloud login`: PKCE against the stand-in, with the browser's part played."""

import http.client
import os
import pty
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.integration.genesys_desk import COMMAND, ROOT
from tests.integration.genesys_stand_in import CLIENT_ID, GenesysStandIn
from tests.integration.mosquitto import free_port

from mutebridge.controller.genesys_cloud.login import read_stored

DEADLINE_S = 30


class SignIn:
    """The child process; `url` is what it asks a person to open."""

    def __init__(self, genesys: GenesysStandIn, directory: Path, stdin: int = subprocess.DEVNULL) -> None:
        self.login_file = directory / "state" / "login.json"
        self.redirect_uri = f"http://localhost:{free_port()}/callback"
        options = ["--login-url", genesys.url, "--client-id", CLIENT_ID, "--login-file", str(self.login_file)]
        self.process = subprocess.Popen(
            [*COMMAND, "login", *options, "--redirect-uri", self.redirect_uri],
            env={**os.environ, "PYTHONPATH": str(ROOT / "daemon")},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        found = re.search(r"^(http\S+)$", "".join(self.process.stdout.readline() for _ in range(3)), re.MULTILINE)
        assert found, self.process.communicate(timeout=DEADLINE_S)
        self.url = found[1]

    def wait(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, out, err


@contextmanager
def signing_in(genesys: GenesysStandIn, directory: Path, stdin: int = subprocess.DEVNULL) -> Iterator[SignIn]:
    sign_in = SignIn(genesys, directory, stdin)
    try:
        yield sign_in
    finally:
        sign_in.process.kill()
        sign_in.process.communicate()


@pytest.fixture
def genesys() -> Iterator[GenesysStandIn]:
    with GenesysStandIn() as genesys:
        yield genesys


def get(url: str) -> http.client.HTTPResponse:
    """Ask as a browser does; do not follow."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=DEADLINE_S)
    connection.request("GET", f"{parts.path}?{parts.query}")
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


def redirected(url: str) -> str:
    location = get(url).headers["Location"]
    assert location is not None
    return location


def test_a_person_logs_in(genesys: GenesysStandIn, tmp_path: Path) -> None:
    with signing_in(genesys, tmp_path) as sign_in:
        asked = parse_qs(urlsplit(sign_in.url).query)
        assert asked["scope"] == ["conversations notifications users:readonly"]
        assert get(sign_in.redirect_uri.replace("callback", "favicon.ico")).status == 404
        assert get(redirected(sign_in.url)).status == 200
        status, out, err = sign_in.wait()
    assert (status, err) == (os.EX_OK, "")
    assert "it is renewed by itself" in out
    login = read_stored(sign_in.login_file)
    assert login.access_token not in out
    assert stat.S_IMODE(sign_in.login_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(sign_in.login_file.parent.stat().st_mode) == 0o700


def test_without_a_refresh_token_it_says_that_the_login_will_end(genesys: GenesysStandIn, tmp_path: Path) -> None:
    genesys.gives_refresh_token = False
    with signing_in(genesys, tmp_path) as sign_in:
        get(redirected(sign_in.url))
        status, out, _ = sign_in.wait()
    assert status == os.EX_OK
    assert "log in again when it ends" in out


def test_the_address_can_be_pasted(genesys: GenesysStandIn, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    with signing_in(genesys, tmp_path, follower) as sign_in:
        os.close(follower)
        os.write(leader, redirected(sign_in.url).encode() + b"\n")
        status, _, err = sign_in.wait()
    os.close(leader)
    assert (status, err) == (os.EX_OK, "")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?code=stolen&state=other", "the browser came back from another login"),
        ("?code=stolen", "the browser came back from another login"),
        ("?error=access_denied&error_description=No+thanks&state=STATE", "Genesys Cloud did not log you in: No thanks"),
        ("?state=STATE", "Genesys Cloud did not log you in: it gave no code"),
        ("?code=wrong&state=STATE", "Genesys Cloud refused the login: invalid_grant, authorization code is not valid"),
    ],
)
def test_a_login_that_failed_is_told(genesys: GenesysStandIn, tmp_path: Path, query: str, told: str) -> None:
    with signing_in(genesys, tmp_path) as sign_in:
        (state,) = parse_qs(urlsplit(sign_in.url).query)["state"]
        get(sign_in.redirect_uri + query.replace("STATE", state))
        status, _, err = sign_in.wait()
    assert status == os.EX_NOPERM
    assert told in err
    assert not sign_in.login_file.exists()


def test_a_port_that_is_taken_is_told(genesys: GenesysStandIn, tmp_path: Path) -> None:
    taken = urlsplit(genesys.url).port
    options = ["--login-url", genesys.url, "--client-id", CLIENT_ID, "--login-file", str(tmp_path / "login")]
    done = command("login", *options, "--redirect-uri", f"http://localhost:{taken}/callback")
    assert done.returncode == os.EX_NOPERM
    assert "Address already in use" in done.stderr


def command(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT / "daemon"), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


REGION = ("--region", "eu-central-1")


@pytest.mark.parametrize(
    ("words", "environment", "status", "told"),
    [
        ([], {}, os.EX_USAGE, "--region is needed"),
        (["--region", "eu-cental-1"], {}, os.EX_USAGE, "did you mean eu-central-1?"),
        (["login", *REGION], {}, os.EX_USAGE, "--client-id is needed"),
        (
            ["login", *REGION, "--client-id", "x", "--redirect-uri", "https://a.example/"],
            {},
            os.EX_USAGE,
            "redirect URI",
        ),
        (REGION, {"XDG_STATE_HOME": "/nonexistent"}, os.EX_CONFIG, "nobody is logged in (/nonexistent/mutebridge/"),
        ([*REGION, "--token-file", "/nonexistent"], {}, os.EX_CONFIG, "/nonexistent: cannot be read: No such file"),
        (
            [*REGION, "--token-file", "GOOD", "--broker", "mqtt://broker.example.com"],
            {},
            os.EX_USAGE,
            "is another machine and tls is not set",
        ),
        ([*REGION, "--token-file", "GOOD", "--broker", "http://x"], {}, os.EX_USAGE, "mqtts://host:port is expected"),
        (
            [*REGION, "--token-file", "GOOD", "--station", "desk"],
            {"MUTEBRIDGE_BROKER": "mqtt://localhost"},
            os.EX_USAGE,
            "--station and $MUTEBRIDGE_BROKER: one of them",
        ),
        (
            [*REGION, "--token-file", "GOOD"],
            {"MUTEBRIDGE_BROKER": "mqtt://localhost"},
            os.EX_USAGE,
            "MUTEBRIDGE_STATION, MUTEBRIDGE_NAME",
        ),
    ],
)
def test_what_is_wrong_is_told(
    tmp_path: Path, words: list[str], environment: dict[str, str], status: int, told: str
) -> None:
    good = tmp_path / "token"
    good.touch(0o600)
    good.write_text("a-token")
    done = command(*(word.replace("GOOD", str(good)) for word in words), **environment)
    assert (done.returncode, done.stdout) == (status, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_without_its_library_it_says_how_to_get_it() -> None:
    script = (
        "import sys; sys.modules['websocket'] = None; from mutebridge.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "controller", "genesys-cloud"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "daemon")},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == os.EX_UNAVAILABLE
    assert "pip install 'mutebridge[genesys-cloud]'" in done.stderr


def test_a_token_of_no_user_is_told(genesys: GenesysStandIn, tmp_path: Path) -> None:
    """That of a client credentials grant."""
    token_file = tmp_path / "token"
    token_file.touch(0o600)
    token_file.write_text(genesys.issue_token(user=False))
    process = subprocess.Popen(
        [*COMMAND, "--api-url", genesys.url, "--token-file", str(token_file)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "daemon")},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    told = process.stderr.readline()
    process.terminate()
    process.communicate(timeout=DEADLINE_S)
    assert "the token is of no user; a client credentials grant cannot mute" in told
    assert process.returncode == os.EX_OK
