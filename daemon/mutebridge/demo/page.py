"""A softphone page beside the demo's simulated softphone: a real browser can take part.

The demo then brings a broker of its own along, with a WebSocket port that lets in the paired page alone; the page is
served on loopback. What its microphone does is heard from the broker, as the daemon hears it, since lights have to be
true to all softphones together.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from mutebridge.controller.page_server import PageServer
from mutebridge.core.contract import Call, CallState, Mic, Topics, decode_availability, decode_call, decode_mic
from mutebridge.core.pairing import Pairing
from mutebridge.edges import local_broker
from mutebridge.edges.local_broker import CredentialsFile, EmbeddedBrokerSettings, LocalBroker
from mutebridge.pair import issue, new_pairing

CONTROLLER = "page"


@contextlib.contextmanager
def broker_with_page() -> Iterator[tuple[LocalBroker, "DemoPage"]]:
    """Yield a broker of this demo's own with the page that it lets in. LocalBrokerError when there is no amqtt."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutebridge-page-")))
        credentials = CredentialsFile(folder / "controllers.json")
        settings = EmbeddedBrokerSettings(credentials_file=str(credentials.path))
        broker = stack.enter_context(
            local_broker.embedded_broker(settings, port=0, user="demo", any_websocket_port=True, anonymous=True)
        )
        websocket = f"ws://{broker.host}:{broker.websocket_port}"
        server = stack.enter_context(PageServer(websocket))
        yield broker, DemoPage(server, credentials, websocket)


class DemoPage:
    """The page of one scene. `on_door` is told each address that leads to it; each is good once."""

    def __init__(self, server: PageServer, credentials: CredentialsFile, websocket: str) -> None:
        self.on_door: Callable[[str], object] = lambda _: None
        self.door = ""
        self._server = server
        self._credentials = credentials
        self._websocket = websocket
        self._pairing: Pairing | None = None
        self._online = False
        self._call: Call | None = None
        self._mic: Mic | None = None
        server.on_used = self._new_door

    def pair(self, topics: Topics) -> None:
        """Make the page a controller of a station."""
        self._pairing = new_pairing(self._websocket, topics.station, CONTROLLER, topics.prefix)
        issue(self._pairing, self._credentials, self._server.origins)
        self._new_door()

    def said(self, leaf: str, payload: bytes) -> None:
        """Take a message of the page's controller; PayloadError for one that cannot be read."""
        if leaf == "availability":
            self._online = bool(decode_availability(leaf, payload))
        elif leaf == "call":
            self._call = decode_call(leaf, payload)
        elif leaf == "mic":
            self._mic = decode_mic(leaf, payload)

    @property
    def muted(self) -> bool | None:
        """What its microphone does; None: it has no connected call."""
        call, mic = self._call, self._mic
        if not self._online or call is None or call.state is not CallState.CONNECTED:
            return None
        return mic is not None and mic.call_id == call.call_id and mic.muted

    def _new_door(self) -> None:
        assert self._pairing is not None
        self.door = self._server.door(self._pairing)
        self.on_door(self.door)
