"""A softphone page in a real browser: Chromium without a window, and a web server on loopback.

with Chromium() as chromium, PageServer() as server:
    tab = chromium.open(server.url, pairing)
    tab.act("ring")
    tab.wait_call("ringing")
"""

import base64
import functools
import json
import shutil
import threading
from collections.abc import Callable
from contextlib import ExitStack
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

FOLDER = Path(__file__).parents[2] / "daemon" / "mutebridge" / "controller" / "browser"
EXECUTABLE = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(EXECUTABLE is None, reason="needs chromium; type: sudo apt install chromium")
DEADLINE_MS = 20_000.0
# As root there is no sandbox; the rest keeps Chromium from looking for hosts that are none of its business.
_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]


class Handler(SimpleHTTPRequestHandler):
    """Files of one folder, quietly."""

    policy = ""

    def end_headers(self) -> None:
        if self.policy:
            self.send_header("Content-Security-Policy", self.policy)
        super().end_headers()

    def log_message(self, *_given: Any) -> None:
        pass


class PageServer:
    """Serves `folder` from when it is made; `policy` is a Content-Security-Policy."""

    def __init__(self, folder: Path = FOLDER, *, policy: str = "") -> None:
        handler = functools.partial(type("_Handler", (Handler,), {"policy": policy}), directory=str(folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="page server", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/page.html"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def pairing(broker_port: int, **fields: Any) -> dict[str, Any]:
    """Return what a pairing link says."""
    broker = f"ws://127.0.0.1:{broker_port}"
    return {
        "v": 1,
        "broker": broker,
        "station": "desk",
        "name": "softphone",
        "username": "",
        "password": "",
        **fields,
    }


def link(url: str, said: dict[str, Any]) -> str:
    """Return the pairing link."""
    return f"{url}#mutebridge={base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip('=')}"


class Tab:
    """The page as a person sees it; waiting methods have a deadline."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.console: list[str] = []
        page.set_default_timeout(DEADLINE_MS)
        page.on("console", lambda message: self.console.append(message.text))
        page.on("pageerror", lambda error: self.console.append(f"uncaught: {error}"))

    def act(self, verb: str) -> None:
        """`ring`, `dial`, `connect`, `hold`, `resume` or `end`."""
        self.page.click(f"[data-verb={verb}]")

    def mute_by_hand(self) -> None:
        self.page.click("#mute")

    def break_it(self, fault: str, *, on: bool = True) -> None:
        self.page.set_checked(f"[data-fault={fault}]", on)

    def wait_up(self) -> None:
        self.wait("#broker", "broker connected")
        self.wait("#bridge", "daemon online")

    def wait_call(self, state: str) -> None:
        self.wait("#call", state)

    def wait_mic(self, mic: str) -> None:
        self.wait("#mic", mic)

    def wait(self, selector: str, text: str) -> None:
        expect(self.page.locator(selector)).to_have_text(text, timeout=DEADLINE_MS)

    def wait_line(self, *words: str) -> str:
        """Wait for a line of the log with these words; return it."""
        line = self.page.locator("#log li")
        for word in words:
            line = line.filter(has_text=word)
        line.first.wait_for(timeout=DEADLINE_MS)
        return line.first.inner_text()

    def wait_problem(self, text: str) -> None:
        expect(self.page.locator("#problem")).to_contain_text(text, timeout=DEADLINE_MS)

    @property
    def address(self) -> str:
        """What its address bar shows."""
        return str(self.page.evaluate("location.href"))

    @property
    def uncaught(self) -> list[str]:
        return [line for line in self.console if line.startswith("uncaught")]


class Chromium:
    """One browser, one profile: its tabs share what they keep, as an agent's do. `options` are for its command line."""

    def __init__(self, *options: str) -> None:
        self._stack = ExitStack()
        playwright = self._stack.enter_context(sync_playwright())
        self._browser: Browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=[*_OPTIONS, *options])
        self._stack.callback(self._browser.close)
        self.tabs: list[Tab] = []
        self.context: BrowserContext
        self.new_profile()

    def new_profile(self) -> None:
        if self.tabs:
            self.context.close()
        self.tabs = []
        self.context = self._browser.new_context(viewport={"width": 900, "height": 700})

    def open(self, url: str, *, prepare: Callable[[Page], object] = lambda _: None) -> Tab:
        """Open a tab; `prepare` has it before it loads the page."""
        page = self.context.new_page()
        prepare(page)
        tab = Tab(page)
        self.tabs.append(tab)
        page.goto(url)
        return tab

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self._stack.close()
