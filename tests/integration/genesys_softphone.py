"""A softphone in Chromium made of the real genesys-cloud-webrtc-sdk, before a stand-in for Genesys Cloud."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from tests.integration.browser_page import Chromium, PageServer
from tests.integration.genesys_network import TOKEN, Conversation, GenesysCloud

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tests" / "browser"
# A promise for a stanza is rejected with a stanza, which is no Error, when the SDK's stream breaks.
_OF_THE_SDK = "uncaught: Object"


# The packages are fetched within the first test that needs them.
fetches = pytest.mark.timeout(600)
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm; type: sudo apt install nodejs npm")


def install_tools() -> None:
    """Have the packages of tests/browser, as its lock file says."""
    installed = TOOLS / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (TOOLS / "package-lock.json").stat().st_mtime:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=TOOLS, check=True, capture_output=True, timeout=300)


class WebrtcSoftphone:
    """The page, and the agent before it."""

    def __init__(self, page: Page, cloud: GenesysCloud) -> None:
        self.page = page
        self.cloud = cloud

    # --- the agent

    def make(self) -> None:
        """The SDK, not yet initialized."""
        self.page.evaluate("token => softphone.make(token)", TOKEN)

    def log_in(self) -> None:
        self.make()
        self.initialize()

    def initialize(self) -> None:
        self.page.evaluate("() => softphone.sdk.initialize()")

    def accept(self, call: Conversation) -> None:
        """Take the call that rings, once the SDK knows of it."""
        pending = "id => softphone.sdk.sessionManager.getPendingSession({ conversationId: id })"
        self.page.wait_for_function(pending, arg=call.id)
        self._ask("acceptPendingSession", call)

    def mute(self, call: Conversation, muted: bool) -> None:
        """With the page's own button."""
        self._ask("setAudioMute", call, mute=muted)

    def hold(self, call: Conversation, held: bool) -> None:
        self._ask("setConversationHeld", call, held=held)

    def end(self, call: Conversation) -> None:
        self._ask("endSession", call)

    def _ask(self, method: str, call: Conversation, **options: Any) -> None:
        self.page.evaluate(
            "([method, options]) => softphone.sdk[method](options)", [method, {"conversationId": call.id, **options}]
        )

    # --- the adapter

    def connect(self, pairing: dict[str, Any]) -> None:
        """As a softphone's developer does it."""
        self.page.evaluate("pairing => softphone.connect(pairing)", pairing)

    # --- the adapter, with a controller that only writes down

    def follow(self, scopes: list[str] | None = None) -> None:
        self.page.evaluate("scopes => void softphone.follow(scopes)", scopes)

    def set_mute(self, muted: bool, call: Conversation | None) -> str:
        """Return "ok" or why it was refused."""
        answer = self.page.evaluate("([muted, id]) => softphone.setMute(muted, id)", [muted, call and call.id])
        return str(answer)

    def wait_told(self, *said: str, any_order: bool = False, **calls: Conversation) -> None:
        """Wait until this was told since the last time; calls go by the names of the keywords."""
        wanted = [self._named(each, calls) for each in said]
        if any_order:
            wanted.sort()
        expression = "softphone.told.toSorted()" if any_order else "softphone.told"
        try:
            self.page.wait_for_function(f"said => {expression}.join() === said", arg=",".join(wanted))
        except Exception as error:
            told = self.page.evaluate(expression)
            raise AssertionError(f"told was {told}, wanted {wanted}") from error
        self.page.evaluate("() => void softphone.told.splice(0)")

    @staticmethod
    def _named(said: str, calls: dict[str, Conversation]) -> str:
        state, _, name = said.partition(" ")
        return f"{state} {calls[name].id}" if name else said


class Workplace:
    """A Chromium that takes `cloud` for Genesys Cloud; expensive, so one for many softphones."""

    def __init__(self, chromium: Chromium, cloud: GenesysCloud, address: str) -> None:
        self._chromium = chromium
        self._cloud = cloud
        self._address = address

    @contextmanager
    def softphone(self, *, logged_in: bool = True) -> Iterator[WebrtcSoftphone]:
        """A new one, and nothing left of what happened before; what its scripts throw fails the test."""
        self._cloud.reset()
        self._chromium.new_profile()
        tab = self._chromium.open(self._address)
        tab.page.wait_for_function("globalThis.softphone")
        softphone = WebrtcSoftphone(tab.page, self._cloud)
        if logged_in:
            softphone.log_in()
        yield softphone
        assert [error for error in tab.uncaught if error != _OF_THE_SDK] == []


@contextmanager
def workplace(directory: Path) -> Iterator[Workplace]:
    """`directory` takes certificates."""
    install_tools()
    with GenesysCloud(directory) as cloud, PageServer(ROOT) as server, Chromium(*cloud.browser_options) as chromium:
        yield Workplace(chromium, cloud, server.url.replace("/page.html", "/tests/browser/genesys-webrtc.html"))
