"""The browser's session controller by itself: a page with nothing but the module, driven from outside."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error, Page
from tests.integration.browser_page import FOLDER, Chromium, PageServer, Tab, link, needs_chromium, pairing
from tests.integration.daemon_softphone import Said
from tests.integration.daemon_station import Onlooker
from tests.integration.mosquitto import EXECUTABLE, write_passwords
from tests.integration.proxy import Proxy
from tests.integration.websocket_broker import WebSocketBroker

from mutebridge.core.pairing import Pairing
from mutebridge.core.password_hash import SALT_BYTES, hash_of
from mutebridge.edges import local_broker
from mutebridge.edges.local_broker import LocalBroker
from mutebridge.edges.local_broker.credentials import Credential, CredentialsFile
from mutebridge.edges.local_broker.settings import EmbeddedBrokerSettings

pytestmark = [pytest.mark.broker, needs_chromium]

P = "mutebridge/v1/desk"
C = f"{P}/controller/softphone"
ACCESS_LIST = Path(__file__).parents[2] / "config" / "mosquitto.acl"
# `told` is what the controller said, `asked` what the softphone was asked for; `obeys` makes it do so.
BARE = """<!doctype html><title>bare</title><script type="module">
import * as module from "./mutebridge-controller.js";
Object.assign(window, module, { told: [], asked: [], obeys: true });
window.make = (options) => {
  const ask = (what) => async (...given) => {
    asked.push([what, ...given]);
    if (what === "setMute" && obeys) controller.micChanged(given[0]);
    if (window.breaks) throw window.breaks();
    if (window.hangs) await new Promise(() => {});
  };
  const callbacks = { setMute: ask("setMute"), answer: ask("answer"), hangUp: ask("hangUp") };
  window.controller = new SessionController({ station: "desk", ...callbacks, ...options });
  for (const type of ["status", "command", "press"]) {
    controller.addEventListener(type, ({ detail }) => told.push({ type, ...detail }));
  }
};
window.ready = true;
</script>"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    folder = tmp_path_factory.mktemp("bare")
    shutil.copy(FOLDER / "mutebridge-controller.js", folder)
    (folder / "page.html").write_text(BARE)
    with PageServer(folder) as server:
        yield server


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[WebSocketBroker]:
    if EXECUTABLE is None:
        pytest.skip("mosquitto is not installed")
    with WebSocketBroker(tmp_path) as broker:
        yield broker


@pytest.fixture
def onlooker(broker: WebSocketBroker) -> Iterator[Onlooker]:
    with Onlooker(broker.port) as onlooker:
        yield onlooker


class Bare:
    """A tab with the module."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        tab.page.wait_for_function("window.ready")

    def make(self, broker_port: int, **options: Any) -> "Bare":
        self.run("make", {"broker": f"ws://127.0.0.1:{broker_port}", **options})
        return self

    def start(self) -> "Bare":
        """Return once it is up."""
        self.tab.page.evaluate("controller.start()")
        self.wait("controller.status.connected")
        return self

    def run(self, function: str, *given: Any) -> Any:
        return self.tab.page.evaluate(f"(given) => {function}(...given)", list(given))

    def wait(self, condition: str, *, timeout_s: float = 20) -> None:
        self.tab.page.wait_for_function(condition, timeout=timeout_s * 1000)

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [said for said in self.tab.page.evaluate("told") if said["type"] == kind]

    def wait_command(self, request_id: str) -> dict[str, Any]:
        """Return what it told became of it."""
        self.wait(f"told.some(({{ request_id }}) => request_id === {json.dumps(request_id)})")
        return next(said for said in self.told("command") if said["request_id"] == request_id)

    def asked(self) -> list[list[Any]]:
        asked: list[list[Any]] = self.tab.page.evaluate("asked")
        return asked

    def in_call(self, *, muted: bool = False) -> "Bare":
        self.run("controller.callChanged.bind(controller)", "connected", "c1")
        self.run("controller.micChanged.bind(controller)", muted)
        return self


@pytest.fixture
def bare(chromium: Chromium, server: PageServer) -> Iterator[Bare]:
    chromium.new_profile()
    bare = Bare(chromium.open(server.url))
    yield bare
    assert bare.tab.uncaught == []
    chromium.new_profile()


class Desk:
    """A bridge's hands: it sends what it likes."""

    def __init__(self, onlooker: Onlooker) -> None:
        self._onlooker = onlooker

    def mic(self) -> Said:
        """What was said last of the microphone; waits for the first time."""
        for leaf in ("call", "mic"):
            self._onlooker.wait(f"softphone/{leaf}", lambda said: bool(said.payload))
        return [said for said in self._onlooker.seen.all() if said.topic == f"{C}/mic" and said.payload][-1]

    def expires_at(self) -> float:
        """Two seconds from now, in the controller's clock as it was last told."""
        call = [said for said in self._onlooker.seen.all() if said.topic == f"{C}/call"][-1]
        return float(call.get("at") + (time.monotonic() - call.at) * 1000 + 2000)

    def wait_call(self, matches: Callable[[Said], bool]) -> None:
        self._onlooker.wait("softphone/call", matches)

    def send(self, **fields: Any) -> dict[str, Any]:
        """Send a command that refers to the last mic state; return the answer."""
        seen = self._onlooker.seen
        mics = [said for said in seen.all() if said.topic == f"{C}/mic" and said.payload]
        calls = [said for said in seen.all() if said.topic == f"{C}/call"]
        command = {
            "request_id": f"r{seen.mark()}",
            "action": "set_mute",
            "call_id": calls[-1].get("call_id"),
            "epoch": calls[-1].get("epoch"),
            "mic_seq": mics[-1].get("seq") if mics else None,
            "expires_at": self.expires_at(),
            **fields,
        }
        since = seen.mark()
        self._onlooker.broker.publish(f"{C}/command", json.dumps(command).encode())
        answer = seen.wait(
            lambda said: said.topic == f"{C}/result" and said.get("request_id") == command["request_id"], since=since
        )
        result: dict[str, Any] = json.loads(answer.payload)
        return result


@pytest.fixture
def desk(onlooker: Onlooker) -> Desk:
    return Desk(onlooker)


# --- what it says


def test_it_says_mic_then_call_then_online(bare: Bare, broker: WebSocketBroker, onlooker: Onlooker) -> None:
    bare.make(broker.websocket_port, heartbeatS=0.5).in_call(muted=True).start()
    onlooker.wait("softphone/availability", lambda said: said.payload == "online")
    said = [each for each in onlooker.seen.all() if each.topic.startswith(C)]
    assert [each.leaf for each in said[:3]] == ["mic", "call", "availability"]
    assert (said[0].get("muted"), said[0].get("call_id"), said[1].get("heartbeat_s")) == (True, "c1", 0.5)
    assert abs(said[1].get("at") - time.time() * 1000) < 5000
    beats = [
        onlooker.wait("softphone/mic", lambda said: bool(said.payload), since=onlooker.seen.mark()) for _ in range(3)
    ]
    assert [beat.get("muted") for beat in beats] == [True] * 3


def test_stop_is_orderly_and_start_starts_again(
    bare: Bare, broker: WebSocketBroker, onlooker: Onlooker, desk: Desk
) -> None:
    bare.make(broker.websocket_port).in_call().start()
    bare.tab.page.evaluate("controller.stop()")
    onlooker.wait("softphone/availability", lambda said: said.payload == "offline")
    broker.wait_for_log(r"Received DISCONNECT from mutebridge-controller:desk:softphone")
    assert bare.tab.page.evaluate("controller.status.leading") is False
    assert bare.tab.page.workers == []
    since, before = onlooker.seen.mark(), desk.mic()
    bare.in_call(muted=True).start()
    again = onlooker.wait("softphone/mic", lambda said: said.get("muted") is True, since=since)
    assert again.get("epoch") != before.get("epoch")
    assert desk.send(muted=False)["ok"] is True


def test_a_stop_before_it_is_up_ends_it(bare: Bare, broker: WebSocketBroker, onlooker: Onlooker) -> None:
    bare.make(broker.websocket_port)
    bare.tab.page.evaluate("(async () => { controller.start(); await controller.stop(); controller.start(); })()")
    bare.wait("controller.status.connected")
    bare.tab.page.evaluate("(async () => { const done = controller.stop(); controller.start(); await done; })()")
    bare.wait("controller.status.connected")
    onlooker.seen.wait_last(lambda said: said.topic == f"{C}/availability" and said.payload == "online")


# --- commands


def test_it_asks_the_softphone_and_tells_the_page(bare: Bare, broker: WebSocketBroker, desk: Desk) -> None:
    bare.make(broker.websocket_port).in_call().start()
    desk.mic()
    result = desk.send(muted=True, source={"device": "pedal", "name": "a pedal"})
    assert result["ok"] is True
    assert bare.asked() == [["setMute", True, "c1"]]
    told = bare.wait_command(result["request_id"])
    assert (told["outcome"], told["reason"], told["source"]["device"]) == ("ok", "", "pedal")
    assert desk.mic().get("muted") is True


@pytest.mark.parametrize(
    ("throws", "error", "detail"),
    [
        ("() => new Refused('missing_scope', 'grant it')", "missing_scope", "grant it"),
        ("() => new Refused('not_allowed')", "not_allowed", "does not allow"),
        ("() => new TypeError('x is not a function')", "failed", "TypeError: x is not a function"),
        ("() => 'no'", "failed", "no"),
    ],
)
def test_what_the_softphone_throws_is_the_answer(
    bare: Bare, broker: WebSocketBroker, desk: Desk, throws: str, error: str, detail: str
) -> None:
    bare.make(broker.websocket_port).in_call().start()
    desk.mic()
    bare.tab.page.evaluate(f"obeys = false; window.breaks = {throws}")
    result = desk.send(muted=True)
    assert (result["ok"], result["error"]) == (False, error)
    assert detail in result["detail"]
    assert bare.wait_command(result["request_id"])["outcome"] == error


def test_a_softphone_that_hangs_costs_an_answer_and_no_heartbeat(
    bare: Bare, broker: WebSocketBroker, onlooker: Onlooker, desk: Desk
) -> None:
    bare.make(broker.websocket_port, heartbeatS=0.3).in_call().start()
    desk.mic()
    bare.tab.page.evaluate("obeys = false; window.hangs = true")
    assert "did not return" in desk.send(muted=True)["detail"]
    onlooker.wait("softphone/mic", lambda said: said.get("muted") is False, since=onlooker.seen.mark())
    assert desk.send(muted=True)["error"] == "expired"


def test_it_answers_and_hangs_up(bare: Bare, broker: WebSocketBroker, onlooker: Onlooker, desk: Desk) -> None:
    bare.make(broker.websocket_port).start()
    bare.run("controller.callChanged.bind(controller)", "ringing", "c7")
    onlooker.wait("softphone/call", lambda said: said.get("state") == "ringing")
    assert desk.send(action="answer")["ok"] is True
    assert desk.send(action="hang_up")["ok"] is True
    assert bare.asked() == [["answer", "c7"], ["hangUp", "c7"]]


def test_a_softphone_that_cannot_answer_says_so(
    bare: Bare, broker: WebSocketBroker, onlooker: Onlooker, desk: Desk
) -> None:
    url = f"ws://127.0.0.1:{broker.websocket_port}"
    bare.tab.page.evaluate(f"make({{ broker: '{url}', answer: undefined }})")
    bare.start()
    bare.run("controller.callChanged.bind(controller)", "ringing", "c7")
    onlooker.wait("softphone/call", lambda said: said.get("state") == "ringing")
    assert "cannot do answer" in desk.send(action="answer")["detail"]


def test_what_cannot_be_read_is_a_problem_and_nothing_breaks(
    bare: Bare, broker: WebSocketBroker, onlooker: Onlooker, desk: Desk
) -> None:
    bare.make(broker.websocket_port).in_call().start()
    desk.mic()
    for topic, payload in (
        (f"{C}/command", b"\xff"),
        (f"{P}/bridge/event", b"[]"),
        (f"{P}/bridge/availability", b"perhaps"),
        (f"{C}/command", b"x" * 5000),
    ):
        onlooker.broker.publish(topic, payload)
        bare.wait(f"controller.status.problem.startsWith({json.dumps(topic)})")
    assert desk.send(muted="yes")["error"] == "failed"
    assert desk.send(muted=True)["ok"] is True


def test_a_machine_that_slept_obeys_no_command_from_before(bare: Bare, broker: WebSocketBroker, desk: Desk) -> None:
    bare.make(broker.websocket_port, heartbeatS=60).in_call().start()
    desk.mic()
    before = desk.expires_at()
    bare.tab.page.evaluate("{ const real = Date.now; Date.now = () => real() + 10_000; }")
    assert desk.send(muted=True, expires_at=before)["error"] == "expired"
    assert bare.asked() == []
    desk.wait_call(lambda said: said.get("at") > before)
    assert desk.send(muted=True)["ok"] is True, "it has told its new time"


def test_a_clock_that_is_set_back_changes_nothing(bare: Bare, broker: WebSocketBroker, desk: Desk) -> None:
    bare.make(broker.websocket_port).in_call().start()
    desk.mic()
    bare.tab.page.evaluate("{ const real = Date.now; Date.now = () => real() - 3_600_000; }")
    assert desk.send(muted=True)["ok"] is True


# --- the broker


@pytest.fixture
def embedded(tmp_path: Path, server: PageServer) -> Iterator[LocalBroker]:
    """The broker that comes along with the daemon; it lets in who is paired, from pages of the server's origin."""
    file = CredentialsFile(tmp_path / "controllers.json")
    hashed = hash_of("secret", os.urandom(SALT_BYTES))
    origin = server.url.removesuffix("/page.html")
    file.put(Credential(user="softphone@desk", password_hash=hashed, prefix="mutebridge/v1", origins=(origin,)))
    settings = EmbeddedBrokerSettings(credentials_file=str(file.path))
    with local_broker.embedded_broker(settings, port=0, user="desk", any_websocket_port=True, anonymous=True) as broker:
        yield broker


def paired(broker: LocalBroker, *, password: str = "secret") -> str:
    """Return a link as `mutebridge pair` issues it."""
    pairing = Pairing(
        broker=f"ws://127.0.0.1:{broker.websocket_port}",
        station="desk",
        name="softphone",
        username="softphone@desk",
        password=password,
    )
    return pairing.link("https://softphone.example.com/agent?x=1")


def test_the_embedded_broker_which_speaks_3_1_1_only(bare: Bare, embedded: LocalBroker) -> None:
    bare.tab.page.evaluate("(link) => make(readPairing(link))", paired(embedded))
    bare.in_call().start()
    with Onlooker(embedded.port) as onlooker:
        onlooker.wait("softphone/mic", lambda said: said.get("muted") is False)
        onlooker.wait("softphone/call", lambda said: said.get("state") == "connected")
        assert Desk(onlooker).send(muted=True)["ok"] is True
        bare.tab.page.evaluate("controller.stop()")
        onlooker.wait("softphone/availability", lambda said: said.payload == "offline")


def test_a_wrong_password_is_told(bare: Bare, embedded: LocalBroker) -> None:
    bare.tab.page.evaluate("(link) => make(readPairing(link))", paired(embedded, password="guessed"))
    bare.tab.page.evaluate("controller.start()")
    bare.wait("controller.status.problem.includes('refuses user \"softphone@desk\"')")
    bare.wait("controller.status.problem.includes('a new link of `mutebridge pair`')")
    bare.tab.page.evaluate("controller.stop()")


def test_a_tab_with_an_old_password_does_not_keep_the_lead_from_one_with_the_new(
    bare: Bare, chromium: Chromium, server: PageServer, embedded: LocalBroker
) -> None:
    """Who opens a new link in another tab has the softphone's old tab still open."""
    bare.tab.page.evaluate("(link) => make(readPairing(link))", paired(embedded, password="before"))
    bare.tab.page.evaluate("controller.start()")
    bare.wait("controller.status.problem.includes('refuses user')")
    another = Bare(chromium.open(server.url))
    another.tab.page.evaluate("(link) => make(readPairing(link))", paired(embedded))
    another.start()


def test_a_link_that_is_opened_where_its_page_is_open_already_loads_the_page(bare: Bare) -> None:
    """A browser only changes the fragment then; the password would stay in the address, and nothing would happen."""
    fragment = link("", pairing(9))
    assert bare.run("takePairing") is None
    bare.tab.page.evaluate("window.before = true")
    bare.tab.page.evaluate("location.hash = '#elsewhere'")
    bare.tab.page.evaluate(f"location.hash = '{fragment}'")
    bare.wait("!window.before && window.ready")
    assert bare.run("takePairing")["station"] == "desk"
    assert "mutebridge=" not in bare.tab.address


@pytest.mark.parametrize("host", ["broker.elsewhere.example:8884", "127.elsewhere.example:8884"])
def test_a_link_to_a_broker_that_the_page_does_not_know_is_not_followed(bare: Bare, host: str) -> None:
    """Whoever has the broker of a softphone can press its button, and anybody can make a link, and name a host."""
    others = pairing(9) | {"broker": f"wss://{host}/mqtt"}
    fragment = link("", others)

    def opened(*brokers: str) -> Any:
        bare.tab.page.evaluate(f"history.replaceState(null, '', '{fragment}')")
        return bare.run("takePairing", *brokers)

    for known in ([], ["wss://broker.example.com:8884"], [f"ws://{host}"]):
        with pytest.raises(Error, match=rf"broker wss://{host}, which the page does not know"):
            opened(*known)
        assert "mutebridge=" not in bare.tab.address
    assert bare.run("takePairing") is None
    for known in (["wss://broker.example.com", f"wss://{host}"], ["*"]):
        assert opened(*known)["broker"] == others["broker"]
    assert bare.run("takePairing")["broker"] == others["broker"]


def test_it_needs_no_more_than_the_access_list_gives(tmp_path: Path, bare: Bare) -> None:
    passwords, access = tmp_path / "passwords", tmp_path / "acl"
    users = {"softphone@desk-17": "of the softphone", "desk-17": "of the bridge"}
    write_passwords(passwords, users)
    shutil.copy(ACCESS_LIST, access)
    conf = f"allow_anonymous false\npassword_file {passwords}\nacl_file {access}"
    with WebSocketBroker(tmp_path, conf) as broker:
        bare.make(broker.websocket_port, station="desk-17", username="softphone@desk-17", password="of the softphone")
        bare.in_call(muted=True).start()
        root = "mutebridge/v1/desk-17"
        bridge = ["-p", str(broker.port), "-u", "desk-17", "-P", "of the bridge"]
        for topic, payload in (("bridge/availability", "online"), ("bridge/event", '{"press":"p1"}')):
            command = ["mosquitto_pub", *bridge, "-t", f"{root}/{topic}", "-m", payload]
            subprocess.run(command, timeout=20, check=True)
        bare.wait("controller.status.bridge === 'online' && told.some(({ press }) => press === 'p1')")
        command = ["mosquitto_sub", *bridge, "-t", f"{root}/controller/+/mic", "-C", "1", "-W", "20"]
        kept = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        assert json.loads(kept)["muted"] is True
        assert not [line for line in broker.log if "Denied" in line]


def test_a_broker_that_freezes_is_given_up_and_found_again(
    bare: Bare, broker: WebSocketBroker, onlooker: Onlooker, make_proxy: Callable[[int], Proxy]
) -> None:
    proxy = make_proxy(broker.websocket_port)
    bare.make(proxy.port, heartbeatS=1).in_call().start()
    proxy.freeze()
    bare.wait("controller.status.problem.includes('does not answer')")
    proxy.cut()
    proxy.thaw()
    since = onlooker.seen.mark()
    bare.wait("controller.status.connected")
    onlooker.wait("softphone/mic", lambda said: said.get("muted") is False, since=since)


def test_a_second_softphone_of_that_name_is_told_apart_from_a_bad_network(
    bare: Bare, broker: WebSocketBroker, chromium: Chromium, server: PageServer
) -> None:
    """Another profile knows nothing of this one's lock, so each throws the other out; at last one gives up."""
    bare.make(broker.websocket_port, lead=False).start()
    other = Bare(chromium.open(server.url)).make(broker.websocket_port, lead=False).start()
    bare.wait("controller.status.problem.includes('another softphone serves this station')", timeout_s=60)
    other.wait("controller.status.connected")


def test_a_broker_that_dies_again_and_again_soon_after_it_is_back_is_waited_for(
    bare: Bare, broker: WebSocketBroker
) -> None:
    bare.make(broker.websocket_port)
    bare.tab.page.evaluate("controller.start()")
    bare.tab.page.evaluate("Math.random = () => 0")  # no wait before it tries again
    for _ in range(7):
        bare.wait("controller.status.connected")
        bare.tab.page.evaluate("told.splice(0)")
        broker.restart()
        bare.wait("told.some(({ connected }) => connected === false)")
    bare.wait("controller.status.connected && !controller.status.problem")


# --- the developer


def thrown(bare: Bare, expression: str) -> str:
    """What an expression throws."""
    return str(
        bare.tab.page.evaluate(f"(() => {{ try {{ {expression}; }} catch (error) {{ return String(error); }} }})()")
    )


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("make({ ...null })", "is this page paired?"),
        ("make({ broker: 'localhost' })", "ws://host:port"),
        ("make({ broker: 'ws://broker.example.com' })", "use wss:"),
        ("make({ broker: 'wss://me:secret@broker.example.com' })", "fields of their own"),
        ("make({ broker: 'ws://localhost', station: 'a b' })", "station"),
        ("make({ broker: 'ws://localhost', name: '' })", "controller"),
        ("make({ broker: 'ws://localhost', prefix: '/a' })", "prefix"),
        ("make({ broker: 'ws://localhost', heartbeatS: 0 })", "heartbeat"),
        ("make({ broker: 'ws://localhost', setMute: 'mute' })", "setMute"),
        ("new Refused('busy')", "one of not_connected"),
        ("make({ broker: 'ws://localhost' }), controller.micChanged()", "true for muted, false"),
        ("make({ broker: 'ws://localhost' }), controller.callChanged('ringing', '')", "1 to 256"),
    ],
)
def test_a_mistake_is_told_to_the_developer(bare: Bare, expression: str, message: str) -> None:
    assert message in thrown(bare, expression)


def test_a_page_of_https_is_not_advised_to_insist(chromium: Chromium) -> None:
    """No browser lets it use ws: to another machine."""
    site = "https://softphone.example.com/"

    def prepare(page: Page) -> None:
        page.route(site, lambda route: route.fulfill(body=BARE, content_type="text/html"))
        page.route(f"{site}*.js", lambda route: route.fulfill(path=FOLDER / "mutebridge-controller.js"))

    bare = Bare(chromium.open(site, prepare=prepare))
    caught = thrown(bare, "make({ broker: 'ws://broker.example.com', allowPlaintext: true })")
    assert caught.endswith("on another machine use wss:")


def test_another_machine_without_tls_is_allowed_who_insists(bare: Bare) -> None:
    bare.tab.page.evaluate("make({ broker: 'ws://broker.example.com', allowPlaintext: true })")
