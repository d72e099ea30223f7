"""From a button on the desk to a web page and back, beside the button on the page itself, in one run.

The softphone page in headless Chromium, a mosquitto with WebSockets, the daemon and a button on a pty are real. Presses
and clicks take turns. A press begins with the line on the pty; a click begins in the page, where its handler calls the
same softphone. Each ends twice: when the page shows the microphone, and when the lamp on the desk has its line.

The page's clock is set against this process's by the quickest of many questions, which is good to half its time.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from tests.integration.browser_page import Chromium, PageServer, Tab, link, pairing
from tests.integration.daemon_station import Station
from tests.integration.websocket_broker import WebSocketBroker

_WATCH = """
window.shown = [];
new MutationObserver(() => shown.push(performance.now())).observe(document.getElementById("mic"), { attributes: true });
"""
_CLICK = """() => {
  const at = performance.now();
  document.getElementById("mute").click();
  return at;
}"""
_QUESTIONS = 50


class Way(msgspec.Struct, kw_only=True):
    """One way to mute: the milliseconds until the page showed it, and until the lamp did."""

    title: str
    page_ms: list[float] = msgspec.field(default_factory=list)
    lamp_ms: list[float] = msgspec.field(default_factory=list)


class Clocks:
    """The page's clock, in this process's seconds."""

    def __init__(self, tab: Tab) -> None:
        answers: list[tuple[float, float]] = []
        for _ in range(_QUESTIONS):
            asked = time.monotonic()
            said_ms = tab.page.evaluate("performance.now()")
            answered = time.monotonic()
            answers.append((answered - asked, (asked + answered) / 2 - said_ms / 1000))
        took_s, self._offset_s = min(answers)
        self.error_ms = took_s * 1000 / 2

    def here(self, page_ms: float) -> float:
        return page_ms / 1000 + self._offset_s


def measure(count: int) -> tuple[list[Way], float]:
    """Return both ways with `count` presses and clicks each, and the error of the clocks, milliseconds."""
    with (
        tempfile.TemporaryDirectory(prefix="mutebridge-bench-") as name,
        WebSocketBroker(Path(name)) as broker,
        Station(Path(name) / "station", broker.port) as station,
        PageServer() as server,
        Chromium() as chromium,
    ):
        station.softphone.stop()
        tab = chromium.open(link(server.url, pairing(broker.websocket_port)))
        tab.wait_up()
        tab.act("ring")
        tab.act("connect")
        station.wait_told("live")
        tab.page.evaluate(_WATCH)
        clocks = Clocks(tab)
        presses, clicks = Way(title="a press on the desk"), Way(title="a click on the page")

        def press() -> float:
            return station.press()

        def click() -> float:
            return clocks.here(float(tab.page.evaluate(_CLICK)))

        for number in range(2 * count):
            way, act = (presses, press) if number % 4 < 2 else (clicks, click)
            _once(station, tab, clocks, way, act)
        return [presses, clicks], clocks.error_ms


def _once(station: Station, tab: Tab, clocks: Clocks, way: Way, act: Callable[[], float]) -> None:
    lamp = station.button.lamp
    muted = lamp.last is not None and lamp.last.word == "MUTED"
    since, told = lamp.mark(), station.onlooker.seen.mark()
    tab.page.evaluate("shown.length = 0")
    began = act()
    word = "LIVE" if muted else "MUTED"
    lit = lamp.wait(lambda shown: shown.word == word, since=since)
    way.lamp_ms.append((lit.at - began) * 1000)
    tab.page.wait_for_function("shown.length")
    way.page_ms.append((clocks.here(tab.page.evaluate("shown[0]")) - began) * 1000)
    station.onlooker.wait("device/button", lambda said: said.get("lights")["pending"] is None, since=told)


def table(ways: list[Way], error_ms: float) -> str:
    """Return p50 and p99 of each, in milliseconds."""
    lines = [
        f"{'':24}{'until the page shows it':>26}{'until the lamp does':>26}",
        f"{'':24}{'p50 ms p99 ms':>26}{'p50 ms p99 ms':>26}",
    ]
    for way in ways:
        shown = "".join(f"{_percentile(ms, 50):>19.1f}{_percentile(ms, 99):>7.1f}" for ms in (way.page_ms, way.lamp_ms))
        lines.append(f"{way.title:24}{shown}")
    lines.append(f"{len(ways[0].page_ms)} of each; between the clocks at most {error_ms:.2f} ms")
    return "\n".join(lines)


def _percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
