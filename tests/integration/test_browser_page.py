"""The softphone page in a real browser, with the real daemon, a real broker and a button on a pty."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from tests.integration import controller_timeline
from tests.integration.browser_page import FOLDER, Chromium, PageServer, Tab, link, needs_chromium, pairing
from tests.integration.daemon_station import DARK, Station
from tests.integration.mosquitto import EXECUTABLE
from tests.integration.proxy import Proxy
from tests.integration.websocket_broker import WebSocketBroker

from mutebridge.controller import page_server

pytestmark = [pytest.mark.broker, needs_chromium]

# A tab that is hidden for long: Chromium lets its timers run once a minute.
THROTTLED = """
for (const name of ["setTimeout", "setInterval"]) {
  const real = window[name];
  window[name] = (callback, ms, ...given) => real(callback, Math.max(ms ?? 0, 60_000), ...given);
}
"""


# As where the person blocks all cookies.
KEEPS_NOTHING = """
Object.defineProperty(window, "localStorage", { get() { throw new DOMException("denied", "SecurityError"); } });
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def server() -> Iterator[PageServer]:
    with PageServer() as server:
        yield server


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
def open_page(
    chromium: Chromium, server: PageServer, broker: WebSocketBroker, station: Station
) -> Iterator[Callable[..., Tab]]:
    """Return a function that opens a paired page and waits until it is up; nothing may go uncaught in it."""
    chromium.new_profile()

    def open_(*, port: int = broker.websocket_port, up: bool = True, prepare: Callable[[Page], object] = str) -> Tab:
        tab = chromium.open(link(server.url, pairing(port)), prepare=prepare)
        if up:
            tab.wait_up()
            station.onlooker.wait("controller/softphone/availability", lambda said: said.payload == "online")
        return tab

    yield open_
    for tab in chromium.tabs:
        assert tab.uncaught == []


@pytest.fixture
def tab(open_page: Callable[..., Tab]) -> Tab:
    return open_page()


@pytest.fixture
def in_call(tab: Tab, station: Station) -> Tab:
    """A connected call, muted by a press."""
    connect_muted(tab, station)
    return tab


def connect_muted(tab: Tab, station: Station) -> None:
    tab.act("ring")
    tab.act("connect")
    tab.wait_mic("live")
    station.wait_lamp("LIVE")
    station.wait_told("live")
    station.press()
    tab.wait_mic("muted")
    station.wait_lamp("MUTED")
    station.wait_told("muted")


class PageFar:
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


def test_the_page_plays_the_timeline(tab: Tab, station: Station) -> None:
    played = controller_timeline.play(station, PageFar(tab))
    assert played == [str(step) for step in controller_timeline.read()]


def test_the_page_says_what_became_of_a_press_and_why(tab: Tab, station: Station) -> None:
    tab.act("ring")
    tab.wait_call("ringing")
    station.onlooker.wait("softphone/call", lambda said: said.get("state") == "ringing")
    station.press()
    assert "the call is ringing" in tab.wait_line("press: ignored", "not_connected")
    tab.act("connect")
    station.wait_told("live")
    tab.break_it("not_owner")
    station.press()
    tab.wait_line("command: mute", "not_allowed", "somebody else")
    tab.wait_line("press: rejected", "not_allowed")
    tab.break_it("not_owner", on=False)
    station.press()
    tab.wait_line("command: mute", "done")
    tab.wait_line("press: confirmed", "after")


def test_a_softphone_that_does_nothing_is_a_failure(tab: Tab, station: Station) -> None:
    tab.act("ring")
    tab.act("connect")
    station.wait_told("live")
    tab.break_it("deaf")
    station.press()
    tab.wait_line("command: mute", "failed", "reported no change")


def test_a_reload_in_a_call_restores_its_state_and_unmutes_nobody(in_call: Tab, station: Station) -> None:
    since = station.onlooker.seen.mark()
    in_call.page.reload()
    in_call.wait_up()
    in_call.wait_mic("muted")
    station.onlooker.wait("softphone/availability", lambda said: said.payload == "offline", since=since)
    station.onlooker.wait("softphone/mic", lambda said: said.get("muted") is True, since=since)
    station.wait_lamp("MUTED")
    assert not [said for said in station.onlooker.seen.all(since) if said.get("muted") is False]
    epochs = {said.get("epoch") for said in station.onlooker.seen.all() if said.get("epoch")}
    assert len(epochs) == 3, "the daemon's own softphone, and two starts of the page"


def test_a_closed_tab_is_offline_and_the_lights_are_dark(in_call: Tab, station: Station) -> None:
    since = station.onlooker.seen.mark()
    in_call.page.close()
    station.onlooker.wait("softphone/availability", lambda said: said.payload == "offline", since=since)
    station.wait_lamp(*DARK)


def test_a_page_that_was_put_away_and_comes_back_serves_again(in_call: Tab, station: Station) -> None:
    """Chromium under control keeps no page for going back, so the page is only told."""
    told = "(kind) => dispatchEvent(new PageTransitionEvent(kind, { persisted: true }))"
    in_call.page.evaluate(told, "pagehide")
    station.wait_lamp(*DARK)
    in_call.wait("#broker", "broker not connected")
    in_call.page.evaluate(told, "pageshow")
    in_call.wait_up()
    station.wait_lamp("MUTED")
    station.wait_told("muted")
    station.press()
    in_call.wait_mic("live")


def test_of_two_tabs_one_leads_and_the_other_takes_over(
    in_call: Tab, open_page: Callable[..., Tab], station: Station
) -> None:
    follower = open_page(up=False)
    follower.wait("#leading", "another tab leads")
    follower.wait_mic("muted")
    follower.mute_by_hand()  # on the softphone's page, whichever tab that is
    station.wait_lamp("LIVE")
    station.wait_told("live")
    station.press()
    follower.wait_mic("muted")
    assert follower.page.locator("#log li").count() == 0, "the command was the leader's"
    since = station.onlooker.seen.mark()
    in_call.page.close()
    follower.wait("#leading", "this tab leads")
    follower.wait_up()
    station.onlooker.wait("softphone/mic", lambda said: said.get("muted") is True, since=since)
    station.wait_lamp("MUTED")
    station.press()
    follower.wait_mic("live")
    follower.wait_line("command: unmute", "done")


def test_a_cut_connection_comes_back_and_brings_no_old_press(
    open_page: Callable[..., Tab],
    station: Station,
    broker: WebSocketBroker,
    make_proxy: Callable[[int], Proxy],
) -> None:
    proxy = make_proxy(broker.websocket_port)
    tab = open_page(port=proxy.port)
    connect_muted(tab, station)
    proxy.refuse()
    proxy.cut()
    tab.wait("#broker", "broker not connected")
    station.wait_lamp(*DARK)
    since = station.onlooker.seen.mark()
    station.press()
    assert station.wait_outcome(since=since) == "ignored"
    tab.mute_by_hand()  # live now, and nobody hears of it
    proxy.admit()
    tab.page.evaluate("dispatchEvent(new Event('online'))")
    tab.wait_up()
    station.wait_lamp("LIVE")
    tab.wait_mic("live")
    station.wait_told("live")
    station.press()
    station.wait_lamp("MUTED")


def test_a_press_that_the_network_held_back_does_not_act(
    open_page: Callable[..., Tab],
    station: Station,
    broker: WebSocketBroker,
    make_proxy: Callable[[int], Proxy],
) -> None:
    proxy = make_proxy(broker.websocket_port)
    tab = open_page(port=proxy.port)
    connect_muted(tab, station)
    proxy.freeze()
    since = station.onlooker.seen.mark()
    station.press()
    station.wait_event("timed_out", since=since)
    proxy.thaw()
    tab.wait_line("command: unmute", "expired")
    tab.wait_mic("muted")


def test_a_broker_that_restarts_is_told_everything_again(
    in_call: Tab, station: Station, broker: WebSocketBroker
) -> None:
    since = station.onlooker.seen.mark()
    broker.restart()
    in_call.page.evaluate("dispatchEvent(new Event('online'))")
    station.onlooker.wait("softphone/mic", lambda said: said.get("muted") is True, since=since)
    station.wait_lamp("MUTED")
    in_call.wait_up()


def test_a_daemon_that_comes_later_is_told_everything(in_call: Tab, station: Station) -> None:
    station.daemon.terminate()
    in_call.wait("#bridge", "daemon offline")
    station.start_daemon()
    station.wait_lamp("MUTED")
    in_call.wait("#bridge", "daemon online")


def test_a_hidden_tab_is_as_quick_and_its_heart_beats_on(open_page: Callable[..., Tab], station: Station) -> None:
    tab = open_page(prepare=lambda page: page.add_init_script(THROTTLED))
    connect_muted(tab, station)
    since = station.onlooker.seen.mark()
    for _ in range(2):
        beat = station.onlooker.wait("softphone/mic", lambda said: said.get("muted") is True, since=since)
        since = station.onlooker.seen.all().index(beat) + 1
    assert station.wait_lamp("MUTED")


def test_a_browser_that_keeps_nothing_has_a_softphone_until_the_page_is_closed(
    open_page: Callable[..., Tab], station: Station
) -> None:
    tab = open_page(prepare=lambda page: page.add_init_script(KEEPS_NOTHING))
    connect_muted(tab, station)
    assert "mutebridge=" not in tab.address


def test_the_pairing_leaves_the_address_and_is_kept(tab: Tab, server: PageServer, chromium: Chromium) -> None:
    assert tab.address == server.url
    tab.page.goto("about:blank")
    again = chromium.open(server.url)
    again.wait_up()


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (pairing(1, v=2), "version 2"),
        (pairing(1, station="a b"), "station"),
        ({"v": 1, "station": "desk"}, "broker is missing"),
        (pairing(1, broker="mqtt://localhost"), "ws://host:port"),
        (pairing(1, broker="ws://broker.example.com"), "use wss:"),
    ],
)
def test_a_pairing_that_cannot_be_used_says_why(
    chromium: Chromium, server: PageServer, said: dict[str, Any], problem: str
) -> None:
    chromium.new_profile()
    tab = chromium.open(link(server.url, said))
    tab.wait_problem(problem)
    assert tab.address == server.url
    assert tab.uncaught == []


def test_a_damaged_link_is_told_and_a_good_one_can_be_pasted(
    chromium: Chromium, server: PageServer, station: Station, broker: WebSocketBroker
) -> None:
    chromium.new_profile()
    good = link(server.url, pairing(broker.websocket_port))
    tab = chromium.open(good[:-9])
    tab.wait_problem("damaged")
    tab.page.fill("#link", "https://example.com")
    tab.page.click("#pair button")
    tab.wait_problem("no pairing link")
    tab.page.fill("#link", good)
    tab.page.click("#pair button")
    tab.wait_up()
    assert tab.address == server.url
    assert station.daemon.runs


def test_a_broker_that_is_not_there_is_a_problem_on_the_page(chromium: Chromium, server: PageServer) -> None:
    chromium.new_profile()
    tab = chromium.open(link(server.url, pairing(9)))
    tab.wait_problem("cannot connect to ws://127.0.0.1:9. Does a broker listen there")


def test_a_station_without_a_daemon_is_named_on_the_page(
    chromium: Chromium, server: PageServer, broker: WebSocketBroker
) -> None:
    chromium.new_profile()
    tab = chromium.open(link(server.url, pairing(broker.websocket_port, station="elsewhere")))
    tab.wait("#bridge", "no daemon at station elsewhere")
    chromium.new_profile()


def test_the_page_as_mutebridge_serves_it_keeps_time_in_a_worker(
    chromium: Chromium, station: Station, broker: WebSocketBroker
) -> None:
    chromium.new_profile()
    with page_server.PageServer(f"ws://127.0.0.1:{broker.websocket_port}") as site:
        tab = chromium.open(link(site.url, pairing(broker.websocket_port)))
        tab.wait_up()
        assert len(tab.page.workers) == 1
        assert tab.console == []
        assert station.daemon.runs
        chromium.new_profile()


@pytest.mark.parametrize("policy", ["", "default-src 'self'; connect-src ws:; worker-src 'none'"], ids=["", "strict"])
def test_without_a_worker_the_pages_own_timers_do(
    chromium: Chromium, station: Station, broker: WebSocketBroker, policy: str
) -> None:
    chromium.new_profile()
    with PageServer(policy=policy) as server:
        tab = chromium.open(link(server.url, pairing(broker.websocket_port)))
        tab.wait_up()
        connect_muted(tab, station)
        since = station.onlooker.seen.mark()
        station.onlooker.wait("softphone/mic", lambda said: said.get("muted") is True, since=since)
        assert len(tab.page.workers) == (0 if policy else 1)
        assert tab.uncaught == []
        chromium.new_profile()


# --- the README

README = (Path(__file__).parents[2] / "README.md").read_text()
SOFTPHONE = """<!doctype html><title>a softphone of their own</title><script>
const heard = {};
globalThis.softphone = {
  scopes: ["calls:mute"],
  on: (what, listener) => (heard[what] = listener),
  say: (what, ...said) => heard[what](...said),
  mute: async (muted) => softphone.say("mic", muted),
};
</script><script type="module" src="twenty_lines.js"></script>"""


def test_the_twenty_lines_of_the_readme(
    tmp_path: Path, chromium: Chromium, station: Station, broker: WebSocketBroker
) -> None:
    lines = README.partition("### In JavaScript\n")[2].partition("```js\n")[2].partition("```")[0]
    assert len(lines.splitlines()) <= 20
    folder = tmp_path / "site"
    (folder / "mutebridge").mkdir(parents=True)
    (folder / "page.html").write_text(SOFTPHONE)
    (folder / "twenty_lines.js").write_text(lines)
    shutil.copy(FOLDER / "mutebridge-controller.js", folder / "mutebridge")
    chromium.new_profile()
    with PageServer(folder) as site:
        tab = chromium.open(link(site.url, pairing(broker.websocket_port)))
        station.onlooker.wait("softphone/availability", lambda said: said.payload == "online")
        tab.page.evaluate("softphone.say('call', 'connected', 'call-1')")
        tab.page.evaluate("softphone.say('mic', false)")
        station.wait_told("live")
        station.press()
        station.wait_lamp("MUTED")
        station.wait_event("confirmed")
        station.wait_told("muted")
        tab.page.evaluate("softphone.scopes = []")
        with tab.page.expect_console_message(lambda message: "rejected" in message.text):
            station.press()
        assert "calls:mute" in station.wait_event("rejected").get("detail")
        assert "all is well" in tab.console
        assert tab.uncaught == []
        chromium.new_profile()


def test_the_picture_of_the_readme_is_there_and_small() -> None:
    picture = FOLDER / "page.png"
    assert f"]({picture.relative_to(Path(__file__).parents[2]).as_posix()})" in README
    assert picture.stat().st_size < 100_000
