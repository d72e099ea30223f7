"""What a page that somebody visits can do to a workstation: tried from real pages in a real browser."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.browser_page import EXECUTABLE, Chromium

from mutebridge import pair
from mutebridge.controller.page_server import PageServer
from mutebridge.core.pairing import Pairing
from mutebridge.edges import local_broker
from mutebridge.edges.local_broker import CredentialsFile, EmbeddedBrokerSettings, LocalBroker

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="needs chromium")

# Opens a WebSocket, says the MQTT packet, tells what came of it.
TRY = """async ([url, packet]) => new Promise((resolve) => {
  const socket = new WebSocket(url, "mqtt");
  socket.binaryType = "arraybuffer";
  let opened = false;
  socket.onopen = () => { opened = true; socket.send(new Uint8Array(packet)); };
  socket.onmessage = ({ data }) => { resolve([...new Uint8Array(data)]); socket.close(); };
  socket.onclose = () => resolve(opened ? "closed" : "not opened");
})"""
READ = """async (url) => fetch(url).then((answer) => answer.text(), (error) => `no: ${error.name}`)"""
REBOUND = "evil.example.net"
ACCEPTED, REFUSED = [0x20, 2, 0, 0], [0x20, 2, 0, 5]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium(f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1") as browser:
        yield browser


class _Foreign(http.server.BaseHTTPRequestHandler):
    """Somebody's page; it may do what the browser lets it, /public what it lets a page of the internet."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        if self.path == "/public":
            self.send_header("Content-Security-Policy", "treat-as-public-address")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def foreign() -> Iterator[str]:
    """The address of a page of another origin."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Foreign)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


class Workstation:
    """A broker that the daemon brings along, with a paired page."""

    def __init__(self, broker: LocalBroker, page: PageServer, credentials: CredentialsFile) -> None:
        self.broker, self.page = broker, page
        self.websocket = f"ws://127.0.0.1:{broker.websocket_port}"
        self.pairing = self.pair(credentials, "page", *page.origins)
        self.credentials = credentials

    def pair(self, credentials: CredentialsFile, name: str, *origins: str) -> Pairing:
        pairing = pair.new_pairing(self.websocket, "desk", name, "mutebridge/v1")
        pair.issue(pairing, credentials, origins)
        return pairing


@pytest.fixture
def workstation(tmp_path: Path) -> Iterator[Workstation]:
    credentials = CredentialsFile(tmp_path / "controllers.json")
    settings = EmbeddedBrokerSettings(credentials_file=str(credentials.path))
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(
            local_broker.embedded_broker(settings, port=0, user="desk", any_websocket_port=True)
        )
        page = stack.enter_context(PageServer(f"ws://127.0.0.1:{broker.websocket_port}"))
        yield Workstation(broker, page, credentials)


def connect_packet(pairing: Pairing | None) -> list[int]:
    fields = ["tab"] if pairing is None else ["tab", pairing.username, pairing.password]
    body = b"\x00\x04MQTT\x04" + (b"\x02" if pairing is None else b"\xc2") + b"\x00\x3c"
    body += b"".join(len(field).to_bytes(2, "big") + field.encode() for field in fields)
    return list(b"\x10" + bytes([len(body)]) + body)


def test_the_paired_page_gets_in_by_its_credential_alone(chromium: Chromium, workstation: Workstation) -> None:
    page = chromium.open(workstation.page.url).page
    assert page.evaluate(TRY, [workstation.websocket, connect_packet(workstation.pairing)]) == ACCEPTED
    assert page.evaluate(TRY, [workstation.websocket, connect_packet(None)]) == REFUSED


def test_a_foreign_page_gets_no_websocket_even_with_the_password(
    chromium: Chromium, workstation: Workstation, foreign: str
) -> None:
    page = chromium.open(foreign).page
    packet = connect_packet(workstation.pairing)
    assert page.evaluate(TRY, [workstation.websocket, packet]) == "not opened"
    by_another_name = workstation.websocket.replace("127.0.0.1", "localhost")
    assert page.evaluate(TRY, [by_another_name, packet]) == "not opened"


def test_a_paired_page_of_the_internet_needs_the_persons_permission_too(
    chromium: Chromium, workstation: Workstation, foreign: str
) -> None:
    """Chromium asks whether it may reach this machine; without a window nobody answers."""
    pairing = workstation.pair(workstation.credentials, "softphone", foreign.rstrip("/"))
    page = chromium.open(f"{foreign}public").page
    attempt = [workstation.websocket, connect_packet(pairing)]
    assert page.evaluate(TRY, attempt) == "not opened"
    chromium.context.grant_permissions(["local-network-access"], origin=foreign.rstrip("/"))
    assert page.evaluate(TRY, attempt) == ACCEPTED
    chromium.context.clear_permissions()


def test_a_page_without_an_origin_gets_no_websocket(chromium: Chromium, workstation: Workstation) -> None:
    """Such as one in a sandboxed frame, or from a file."""
    page = chromium.open("data:text/html,<title>nowhere</title>").page
    packet = connect_packet(workstation.pairing)
    assert page.evaluate(TRY, [workstation.websocket, packet]) == "not opened"


def test_a_foreign_page_reads_nothing_of_the_paired_one(
    chromium: Chromium, workstation: Workstation, foreign: str
) -> None:
    door = workstation.page.door(workstation.pairing)
    page = chromium.open(foreign).page
    for address in (workstation.page.url, f"{workstation.page.url}page.js"):
        assert page.evaluate(READ, address) == "no: TypeError"
    framed = page.evaluate(
        """async (url) => new Promise((resolve) => {
          const frame = document.createElement("iframe");
          frame.onload = () => resolve(frame.contentDocument ? frame.contentDocument.title : "kept out");
          frame.src = url;
          document.body.append(frame);
        })""",
        workstation.page.url,
    )
    assert framed == "kept out"
    assert not [frame for frame in page.frames if frame.url.startswith(workstation.page.url)], "it was not shown at all"
    paired = chromium.open(door)
    paired.wait("#broker", "broker connected")
    assert paired.page.evaluate("localStorage.getItem('mutebridge.pairing')")


def test_a_name_that_was_made_to_point_here_opens_nothing(
    chromium: Chromium, workstation: Workstation, foreign: str
) -> None:
    """DNS rebinding: a foreign host name leads to loopback, so what it asks for seems to be of its own origin."""
    page = chromium.open(f"http://{REBOUND}:{workstation.page.port}/").page
    assert "for this machine alone" in page.content()
    page = chromium.open(foreign.replace("127.0.0.1", REBOUND)).page
    websocket = workstation.websocket.replace("127.0.0.1", REBOUND)
    assert page.evaluate(TRY, [websocket, connect_packet(workstation.pairing)]) == "not opened"


def test_the_door_leads_a_browser_to_a_page_that_is_paired(chromium: Chromium, workstation: Workstation) -> None:
    tab = chromium.open(workstation.page.door(workstation.pairing))
    tab.wait("#broker", "broker connected")
    assert tab.page.url == workstation.page.url, "the password is gone from the address"
    tab.page.reload()
    tab.wait("#broker", "broker connected")
    assert tab.uncaught == []
