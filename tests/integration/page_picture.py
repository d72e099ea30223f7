"""Takes the README's picture of the softphone page: `python -m tests.integration.page_picture`."""

import tempfile
from pathlib import Path

from tests.integration.browser_page import FOLDER, Chromium, PageServer, link, pairing
from tests.integration.daemon_station import Station
from tests.integration.websocket_broker import WebSocketBroker

PICTURE = FOLDER / "page.png"


def take(folder: Path, picture: Path) -> None:
    """A call in which a press was ignored, one was refused, one has muted."""
    with (
        WebSocketBroker(folder) as broker,
        Station(folder / "station", broker.port) as station,
        PageServer() as server,
        Chromium() as chromium,
    ):
        station.softphone.stop()
        tab = chromium.open(link(server.url, pairing(broker.websocket_port)))
        tab.page.set_viewport_size({"width": 720, "height": 400})
        tab.wait_up()
        tab.act("ring")
        station.onlooker.wait("softphone/call", lambda said: said.get("state") == "ringing")
        station.press()
        tab.wait_line("press: ignored")
        tab.act("connect")
        station.wait_told("live")
        tab.break_it("missing_scope")
        station.press()
        tab.wait_line("press: rejected")
        tab.break_it("missing_scope", on=False)
        station.press()
        tab.wait_line("press: confirmed")
        station.wait_told("muted")
        tab.page.screenshot(path=picture, full_page=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="mutebridge-picture-") as name:
        take(Path(name), PICTURE)
