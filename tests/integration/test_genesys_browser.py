"""The adapters of the Genesys SDKs in a real browser, with the real daemon, a real broker and a button on a pty."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration import controller_timeline
from tests.integration.browser_page import Chromium, PageServer, Tab, link, needs_chromium, pairing
from tests.integration.daemon_station import Station
from tests.integration.genesys_network import Conversation
from tests.integration.genesys_softphone import WebrtcSoftphone, fetches, needs_npm, workplace
from tests.integration.mosquitto import EXECUTABLE
from tests.integration.websocket_broker import WebSocketBroker

pytestmark = [pytest.mark.broker, needs_chromium, fetches]

# Says with which state the SDK was asked to mute or unmute.
WATCH_THE_SDK = """async () => {
  const { EmbeddableStandIn } = await import(new URL("adapters/genesys-embeddable-stand-in.js", location.href).href);
  const muteMic = EmbeddableStandIn.prototype.muteMic;
  globalThis.asked = [];
  EmbeddableStandIn.prototype.muteMic = function (muted) {
    globalThis.asked.push(this.getState());
    return muteMic.call(this, muted);
  };
}"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[WebSocketBroker]:
    if EXECUTABLE is None:
        pytest.skip("mosquitto is not installed")
    with WebSocketBroker(tmp_path) as broker:
        yield broker


@pytest.fixture
def station(tmp_path: Path, broker: WebSocketBroker) -> Iterator[Station]:
    """With no softphone but the page's."""
    with Station(tmp_path / "station", broker.port) as station:
        station.softphone.stop()
        yield station


@pytest.fixture
def embeddable(broker: WebSocketBroker, station: Station) -> Iterator[Tab]:
    """The page for trying, with the Embeddable Client SDK."""
    with PageServer() as server, Chromium() as chromium:
        tab = chromium.open(link(f"{server.url}?adapter=genesys-embeddable", pairing(broker.websocket_port)))
        tab.wait("#title", "Genesys Embeddable Client SDK, a stand-in")
        tab.wait_up()
        station.onlooker.wait("controller/softphone/availability", lambda said: said.payload == "online")
        yield tab
        assert tab.uncaught == []


class EmbeddableFar:
    """The page, as the player of the timeline sees a softphone."""

    name = "softphone"

    def __init__(self, tab: Tab) -> None:
        self._tab = tab

    def do(self, step: str) -> None:
        match step:
            case "mute" | "unmute":
                self._tab.mute_by_hand()
            case "take_scope" | "give_scope":
                self._tab.break_it("missing_scope", on=step == "take_scope")
            case _:
                self._tab.act(step)

    def is_muted(self) -> bool | None:
        mic = self._tab.page.locator("#mic").get_attribute("data-mic")
        return {"muted": True, "live": False}.get(mic or "")


class WebrtcFar:
    """The agent before a page with genesys-cloud-webrtc-sdk; Genesys Cloud has the microphone's truth."""

    name = "softphone"

    def __init__(self, phone: WebrtcSoftphone) -> None:
        self._phone = phone
        self._call: Conversation | None = None

    def do(self, step: str) -> None:
        phone, scopes = self._phone, self._phone.cloud.scopes
        if step == "ring":
            self._call = phone.cloud.ring()
            return
        assert self._call is not None
        match step:
            case "connect":
                phone.accept(self._call)
            case "mute" | "unmute":
                phone.mute(self._call, step == "mute")
            case "hold" | "resume":
                phone.hold(self._call, step == "hold")
            case "end":
                phone.end(self._call)
            case "take_scope":
                scopes.discard("conversations")
            case "give_scope":
                scopes.add("conversations")
            case _:
                raise ValueError(step)

    def is_muted(self) -> bool | None:
        call = self._call.call if self._call else {}
        return bool(call["muted"]) if call.get("state") == "connected" else None


def test_the_embeddable_client_plays_the_timeline(embeddable: Tab, station: Station) -> None:
    embeddable.page.evaluate(WATCH_THE_SDK)
    played = controller_timeline.play(station, EmbeddableFar(embeddable))
    assert played == [str(step) for step in controller_timeline.read()]
    asked = embeddable.page.evaluate("asked")
    assert set(asked) == {"connected"}


@needs_npm
def test_the_webrtc_sdk_plays_the_timeline(tmp_path: Path, broker: WebSocketBroker, station: Station) -> None:
    with workplace(tmp_path) as place, place.softphone() as phone:
        phone.connect(pairing(broker.websocket_port))
        played = controller_timeline.play(station, WebrtcFar(phone))
    assert played == [str(step) for step in controller_timeline.read()]


@needs_npm
def test_a_genesys_cloud_that_takes_more_than_a_second_confirms_still(
    tmp_path: Path, broker: WebSocketBroker, station: Station
) -> None:
    with workplace(tmp_path) as place, place.softphone() as phone:
        phone.connect(pairing(broker.websocket_port))
        far = WebrtcFar(phone)
        far.do("ring")
        far.do("connect")
        station.wait_told("live")
        phone.cloud.before_patch = lambda: threading.Event().wait(1.2)
        station.press()
        assert station.wait_event("confirmed").get("latency_ms") > 1200
        assert far.is_muted()


def test_a_press_while_ringing_never_asks_the_sdk(embeddable: Tab, station: Station) -> None:
    embeddable.page.evaluate(WATCH_THE_SDK)
    embeddable.act("ring")
    station.onlooker.wait("softphone/call", lambda said: said.get("state") == "ringing")
    station.press()
    assert station.wait_event("ignored").get("reason") == "not_connected"
    embeddable.wait_line("press: ignored", "the call is ringing")
    assert embeddable.page.evaluate("asked") == []


def test_a_token_without_the_scope_is_told_by_its_name(embeddable: Tab, station: Station) -> None:
    embeddable.act("ring")
    embeddable.act("connect")
    station.wait_told("live")
    embeddable.break_it("missing_scope")
    station.press()
    event = station.wait_event("rejected")
    assert event.get("reason") == "missing_scope"
    assert "client:call:write" in event.get("detail")
    embeddable.wait_line("press: rejected", "client:call:write")
    embeddable.break_it("missing_scope", on=False)
    embeddable.break_it("not_owner")
    since = station.onlooker.seen.mark()
    station.press()
    event = station.wait_event("rejected", since=since)
    assert event.get("reason") == "not_allowed"


def test_an_unknown_adapter_is_told() -> None:
    with PageServer() as server, Chromium() as chromium:
        tab = chromium.open(f"{server.url}?adapter=genesis")
        tab.wait("#problem", "adapter=genesis: there are simulated and genesys-embeddable")
