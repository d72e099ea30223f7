"""The page that mutebridge serves: to whom, what of it, how a pairing gets in; and what a foreign page can do to it."""

import contextlib
import ctypes
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.integration.daemon_process import SOURCE, Daemon
from tests.integration.mosquitto import Mosquitto, free_port

from mutebridge.controller.page_server import FOLDER, PageServer
from mutebridge.core.pairing import Pairing

DEADLINE_S = 20
PAIRING = Pairing(broker="ws://127.0.0.1:9001", station="desk", name="page", username="page@desk", password="s3cret")


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer(PAIRING.broker) as serving:
        yield serving


class Answer:
    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.body = answer.read()


def ask(server: PageServer, path: str, *, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
    with contextlib.closing(connection):
        connection.request(method, path, headers={"Host": f"127.0.0.1:{server.port}", **headers})
        return Answer(connection.getresponse())


# --- what is served ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "file", "content_type"),
    [
        ("/", "page.html", "text/html"),
        ("/page.html?x=1", "page.html", "text/html"),
        ("/page.js", "page.js", "text/javascript"),
        ("/page.css", "page.css", "text/css"),
        ("/mutebridge-controller.js", "mutebridge-controller.js", "text/javascript"),
    ],
)
def test_the_files_of_the_page(server: PageServer, path: str, file: str, content_type: str) -> None:
    answer = ask(server, path)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == f"{content_type}; charset=utf-8"
    assert answer.body == (FOLDER / file).read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "/..",
        "/../protocol.py",
        "/%2e%2e/protocol.py",
        "/..%2fprotocol.py",
        "//etc/passwd",
        "/page.html/..",
        "/PAGE.HTML",
        "/src/index.js",
        "/package.json",
        "/build.mjs",
        "/mutebridge-controller.d.ts",
        "http://127.0.0.1/page.html",
        "/pair",
        "/page.html%00",
    ],
)
def test_nothing_else_is_served(server: PageServer, path: str) -> None:
    assert ask(server, path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "HEAD"])
def test_nothing_else_is_done(server: PageServer, method: str) -> None:
    answer = ask(server, "/", method=method, Origin="https://elsewhere.example.net")
    assert answer.status == 501
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/page.js", "/nothing", "/pair/nothing"])
def test_every_answer_keeps_the_page_to_itself(server: PageServer, path: str) -> None:
    headers = ask(server, path).headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["connect-src"] == PAIRING.broker
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:9002"])
def test_it_answers_by_a_name_of_this_machine(server: PageServer, host: str) -> None:
    assert ask(server, "/", Host=host).status == 200


@pytest.mark.parametrize("host", ["evil.example.net", "127.0.0.1.example.net:9002", ""])
def test_it_does_not_answer_by_another_name(server: PageServer, host: str) -> None:
    door = urlsplit(server.door(PAIRING)).path
    for path in ("/", "/page.js", door):
        assert ask(server, path, Host=host).status == 403
    assert ask(server, door).status == 303, "nor is a door used up so"


# --- the door ---------------------------------------------------------------------------------------------------------


def test_the_door_opens_once(server: PageServer) -> None:
    used = []
    server.on_used = lambda: used.append(True)
    door = urlsplit(server.door(PAIRING)).path
    answer = ask(server, door)
    assert answer.status == 303
    assert answer.headers["Location"] == PAIRING.link("/")
    assert answer.body == b""
    assert ask(server, door).status == 410
    assert used == [True]


def test_an_adapter_can_be_chosen_at_the_door(server: PageServer) -> None:
    answer = ask(server, urlsplit(server.door(PAIRING)).path + "?adapter=genesys-embeddable#top")
    assert answer.headers["Location"] == PAIRING.link("/?adapter=genesys-embeddable")


def test_a_new_door_closes_the_one_before(server: PageServer) -> None:
    before, now = (urlsplit(server.door(PAIRING)).path for _ in range(2))
    assert before != now
    assert ask(server, before).status == 410
    assert ask(server, now).status == 303


def test_a_page_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"page\.html"):
        PageServer(PAIRING.broker, folder=tmp_path)


# --- the command ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def controller_page(*args: str, config: Path, state: Path, browser: str = "") -> Iterator["subprocess.Popen[str]"]:
    environ = {**os.environ, "PYTHONPATH": str(SOURCE), "STATE_DIRECTORY": str(state), "BROWSER": browser}
    command = [sys.executable, "-W", "error", "-m", "mutebridge", "controller-page", "--config", str(config), *args]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "mutebridge.yaml"
    ports = {"broker": {"port": free_port()}, "embedded_broker": {"websocket_port": free_port()}}
    file.write_text(json.dumps({"station": "desk", "known_devices": False, **ports}))
    return file


def test_the_page_is_paired_with_the_running_daemon(tmp_path: Path, config: Path) -> None:
    with Daemon(config, "--embedded-broker", environ={"STATE_DIRECTORY": str(tmp_path)}) as daemon:
        daemon.wait_log("up, MQTT")
        opened = tmp_path / "opened"
        browser = tmp_path / "browser"
        os.mkfifo(opened)
        browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
        browser.chmod(0o755)
        with controller_page("--port", "0", "--open", config=config, state=tmp_path, browser=str(browser)) as page:
            assert page.stdout is not None
            door = urlsplit(page.stdout.readline().strip())
            assert "good once" in page.stdout.readline()
            assert opened.read_text().strip() == door.geturl()
            connection = http.client.HTTPConnection("127.0.0.1", door.port or 0, timeout=DEADLINE_S)
            connection.request("GET", door.path)
            location = connection.getresponse().headers["Location"]
            assert location.startswith("/#mutebridge=")
            again = re.search(r"http://127\.0\.0\.1:\d+(/pair/\S+)", page.stdout.readline())
            assert again is not None
            assert again[1] != door.path
            (controller,) = json.loads((tmp_path / "controllers.json").read_text())["controllers"]
            assert controller["user"] == "page@desk"
            assert controller["origins"] == [f"http://127.0.0.1:{door.port}", f"http://localhost:{door.port}"]
            page.send_signal(signal.SIGINT)
            assert page.wait(DEADLINE_S) == 0
            assert page.stderr is not None
            assert page.stderr.read() == ""


def refused(*args: str, config: Path, state: Path, status: int) -> str:
    with controller_page(*args, config=config, state=state) as page:
        _, said = page.communicate(timeout=DEADLINE_S)
    assert page.returncode == status, said
    return said


def test_without_a_broker_it_says_what_to_type(tmp_path: Path, config: Path) -> None:
    said = refused("--port", "0", config=config, state=tmp_path, status=os.EX_UNAVAILABLE)
    assert "mutebridge run --embedded-broker" in said


@pytest.mark.broker
def test_another_broker_is_not_taken_for_the_daemons(tmp_path: Path, mosquitto: Mosquitto) -> None:
    config = tmp_path / "mutebridge.yaml"
    config.write_text(f"{{station: desk, broker: {{port: {mosquitto.port}}}}}")
    mosquitto.stop()
    closed = Path(mosquitto._conf)
    closed.write_text(closed.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    mosquitto.start()
    said = refused("--port", "0", config=config, state=tmp_path, status=os.EX_UNAVAILABLE)
    assert "is not the one of `mutebridge run --embedded-broker`" in said


def test_wrong_arguments_are_told(tmp_path: Path, config: Path, server: PageServer) -> None:
    assert "0 to 65535" in refused("--port", "x", config=config, state=tmp_path, status=os.EX_USAGE)
    assert "Use wss://" in refused("--broker", "ws://b.example.com", config=config, state=tmp_path, status=os.EX_USAGE)
    taken = refused("--port", str(server.port), config=config, state=tmp_path, status=os.EX_UNAVAILABLE)
    assert "--port 0" in taken


def test_for_another_broker_it_says_how_to_pair(tmp_path: Path, config: Path) -> None:
    broker = "wss://broker.example.com:8884"
    with controller_page("--port", "0", "--broker", broker, config=config, state=tmp_path) as page:
        assert page.stdout is not None
        address = urlsplit(page.stdout.readline().strip())
        assert f"mutebridge pair --broker {broker} --link {address.geturl()}" in page.stdout.readline()
        connection = http.client.HTTPConnection("127.0.0.1", address.port or 0, timeout=DEADLINE_S)
        connection.request("GET", "/")
        assert f"connect-src {broker};" in connection.getresponse().headers["Content-Security-Policy"]
        page.terminate()
        assert page.wait(DEADLINE_S) == 0


def test_a_signal_that_the_kernel_gives_to_another_thread_ends_the_page(tmp_path: Path, config: Path) -> None:
    with controller_page("--port", "0", "--broker", "wss://b.example.com", config=config, state=tmp_path) as page:
        assert page.stdout is not None
        page.stdout.readline()
        # Once it waits: the same way a signal is lost that comes just before.
        assert _waits(page.pid)
        (other,) = {int(task.name) for task in Path(f"/proc/{page.pid}/task").iterdir()} - {page.pid}
        assert ctypes.CDLL(None).tgkill(page.pid, other, int(signal.SIGTERM)) == 0
        assert page.wait(DEADLINE_S) == 0


def _waits(pid: int) -> bool:
    """Whether the main thread is seen asleep before the deadline."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S":
            return True
    return False
