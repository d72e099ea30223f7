"""Stands in for Genesys Cloud as genesys-cloud-webrtc-sdk sees it: an HTTPS API, and XMPP over a WebSocket.

The SDK's real code runs against it in a browser that takes these servers for `api.mypurecloud.com` and
`streaming.mypurecloud.com`; nothing inside the SDK is replaced. What it does not have is the far end of the audio: its
offers are true SDP, and no ICE candidate ever answers, so that a call's peer connection stays `new`.

What the API answers to a token that lacks a scope is not documented; the body here is a guess in the documented form.

Conversations belong to one agent. They change by what the SDK asks (PATCH), and by what others do (`ring`, `change`,
`leave`); each change is a notification of `v2.users.{id}.conversations`, as the public API describes them.
"""

import base64
import json
import re
import ssl
import threading
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from tests.integration.certificates import Certificates
from tests.integration.daemon_record import Record
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

DOMAIN = "mypurecloud.com"
USER_ID = "6f0c1d4e-0000-4000-8000-00000000a9e7"
JID = f"agent@org.{DOMAIN}"
EDGE = f"edge-1@gjoll.{DOMAIN}"
TOKEN = "an-opaque-access-token-of-the-agent"
MUTE_SCOPE = "conversations"

_OFFER = "\r\n".join(
    [
        "v=0",
        "o=- 4611731400430051336 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
        "a=ice-ufrag:4ZcD",
        "a=ice-pwd:2/1muCWoOi3uLifh0NuRHlSt",
        "a=fingerprint:sha-256 " + ":".join(["7B"] * 32),
        "a=setup:actpass",
        "a=mid:0",
        "a=sendrecv",
        "a=rtcp-mux",
        "a=rtpmap:111 opus/48000/2",
        "",
    ]
)


class Request(NamedTuple):
    """What the SDK asked of the API, and the status of the answer."""

    method: str
    path: str
    body: Any
    status: int


class Conversation:
    """One call of the agent."""

    def __init__(self, direction: str) -> None:
        self.id = str(uuid.uuid4())
        self.participant_id = str(uuid.uuid4())
        self.session_id = str(uuid.uuid4())
        self.offered = False
        self.call = {
            "id": str(uuid.uuid4()),
            "state": "alerting" if direction == "inbound" else "contacting",
            "muted": False,
            "held": False,
            "confined": False,
            "direction": direction,
            "provider": "Edge",
        }

    def body(self) -> dict[str, Any]:
        """As API and notifications show it."""
        agent = {"id": self.participant_id, "userId": USER_ID, "purpose": "agent", "calls": [self.call]}
        customer = {"id": str(uuid.uuid4()), "purpose": "customer", "calls": [dict(self.call, muted=False, held=False)]}
        return {"id": self.id, "participants": [customer, agent]}


class GenesysCloud:
    """The two servers, and what happens behind them; all methods are for any thread.

    `line_appearance` above 1 gives every call a session of its own.
    """

    def __init__(self, directory: Path, *, line_appearance: int = 2) -> None:
        self.reset()
        self._line_appearance = line_appearance
        self._lock = threading.RLock()
        self._streams: dict[ServerConnection, str] = {}
        self._topics: set[str] = set()
        certificates = Certificates(directory)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificates.server(f"api.{DOMAIN}"))
        self._api = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._api.daemon_threads = True
        self._api.socket = context.wrap_socket(
            self._api.socket,
            server_side=True,
            do_handshake_on_connect=False,  # in the thread of the request
        )
        self._streaming: Server = serve(
            self._stream, "127.0.0.1", 0, ssl=context, subprotocols=[Subprotocol("xmpp")], compression=None
        )
        self._threads = [
            threading.Thread(target=server.serve_forever, daemon=True) for server in (self._api, self._streaming)
        ]

    def reset(self) -> None:
        """Nothing has happened yet."""
        self.scopes = {MUTE_SCOPE, "notifications", "users:readonly"}
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.before_patch: Callable[[], object] = lambda: None
        self.conversations: dict[str, Conversation] = {}
        self.requests: Record[Request] = Record("what the SDK asked of the API")
        self.stanzas: Record[str] = Record("what the SDK sent by XMPP")

    @property
    def browser_options(self) -> list[str]:
        """For a Chromium that finds these servers where the SDK looks for Genesys Cloud, and has a microphone."""
        ports = {"api": self._api.server_address[1], "streaming": self._streaming.socket.getsockname()[1]}
        rules = [f"MAP {host}.{DOMAIN} 127.0.0.1:{port}" for host, port in ports.items()]
        return [
            f"--host-resolver-rules={','.join([*rules, 'MAP * ~NOTFOUND', 'EXCLUDE 127.0.0.1'])}",
            "--ignore-certificate-errors",
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
        ]

    # --- what others do

    def ring(self, *, direction: str = "inbound") -> Conversation:
        """A call comes for the agent, or is being set up by one; the SDK is asked whether it takes it."""
        with self._lock:
            conversation = Conversation(direction)
            self.conversations[conversation.id] = conversation
            self._notify(conversation)
            self._send(
                f'<message from={quoteattr(EDGE)} to="{{jid}}"><propose xmlns="urn:xmpp:jingle-message:0"'
                f' id="{conversation.session_id}" inin-cid="{conversation.id}" inin-sdp-over-xmpp="true"'
                f' inin-autoanswer="{str(direction == "outbound").lower()}"/></message>'
            )
        return conversation

    def change(self, conversation: Conversation, **call: Any) -> None:
        """Another client, a supervisor or the network changes the agent's call: `muted=True`, `state="connected"`."""
        with self._lock:
            if conversation.call == conversation.call | call:
                return
            conversation.call.update(call)
            self._notify(conversation)
            if conversation.call["state"] == "disconnected":
                del self.conversations[conversation.id]
                if conversation.offered:
                    self._offer(conversation, "terminate", {"reason": "success"})

    def taken_elsewhere(self, conversation: Conversation) -> None:
        """Another client of the same person takes the call that rings here."""
        with self._lock:
            self.change(conversation, state="connected")
            self._accepted(conversation)

    def given_up(self, conversation: Conversation) -> None:
        """The caller leaves while it still rings."""
        with self._lock:
            self.change(conversation, state="disconnected")
            self._send(
                f'<message from={quoteattr(EDGE)} to="{{jid}}">'
                f'<retract xmlns="urn:xmpp:jingle-message:0" id="{conversation.session_id}"/></message>'
            )

    def reinvite(self, conversation: Conversation) -> None:
        """The network changed: the call goes on in a new session."""
        with self._lock:
            conversation.session_id = str(uuid.uuid4())
            self._offer(conversation, "offer", {"sdp": _OFFER, "reinvite": True})

    def cut(self) -> None:
        """Close the streaming connections; the SDK connects anew after two seconds or more."""
        with self._lock:
            streams, self._streams = list(self._streams), {}
        for stream in streams:
            stream.close()

    # --- the API

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:  # noqa: PLR0911 - a line per path
        """Return status and body."""
        with self._lock:
            path = path.removeprefix("/api/v2")
            match method, path.partition("?")[0].strip("/").split("/"):
                case "GET", ["organizations", "me"]:
                    return 200, {"id": "org", "name": "Org"}
                case "GET", ["users", "me"]:
                    station = {"id": "station-1"}
                    stations = {"effectiveStation": station, "associatedStation": station}
                    return 200, {"id": USER_ID, "name": "Agent", "chat": {"jabberId": JID}, "station": stations}
                case "GET", ["stations", "station-1"]:
                    return 200, {
                        "id": "station-1",
                        "userId": USER_ID,
                        "type": "inin_webrtc_softphone",
                        "webRtcPersistentEnabled": False,
                        "webRtcForceTurn": False,
                        "webRtcCallAppearances": self._line_appearance,
                    }
                case "POST", ["notifications", "channels"]:
                    return 200, {"id": "streaming-0-1"}
                case (("POST" | "PUT"), ["notifications", "channels", _, "subscriptions"]):
                    return 200, {"entities": []}
                case "GET", ["conversations", conversation_id]:
                    return self._found(conversation_id, lambda conversation: (200, conversation.body()))
                case "PATCH", ["conversations", "calls", conversation_id, "participants", _]:
                    return self._found(conversation_id, lambda conversation: self._patch(conversation, body))
                case _:
                    return 404, _error(404, "not.found", f"{method} {path}")

    def _found(self, conversation_id: str, then: Callable[[Conversation], tuple[int, Any]]) -> tuple[int, Any]:
        conversation = self.conversations.get(conversation_id)
        return then(conversation) if conversation else (404, _error(404, "not.found", "no such conversation"))

    def _patch(self, conversation: Conversation, body: dict[str, Any]) -> tuple[int, Any]:
        if MUTE_SCOPE not in self.scopes:
            message = f"The access token lacks the required scope(s): [{MUTE_SCOPE}]"
            return 403, _error(403, "missing.scopes", message)
        if self.refusal:
            return self.refusal
        self.before_patch()
        state = conversation.call["state"]  # now
        if state == "disconnected" or ("muted" in body and state != "connected"):
            return 409, _error(409, "conflict", f"the call is {state}")
        self.change(conversation, **body)
        return 202, {}

    # --- the stream

    def _stream(self, stream: ServerConnection) -> None:
        bound = ""
        try:
            for frame in stream:
                self.stanzas.add(str(frame))
                stanza = ElementTree.fromstring(frame)
                name = stanza.tag.rpartition("}")[2]
                if name == "open":
                    stream.send(_OPEN)
                    stream.send(_FEATURES_BOUND if bound else _FEATURES)
                elif name == "auth":
                    secret = base64.b64decode(stanza.text or "").decode()
                    assert secret.endswith(f"authKey:{TOKEN}"), secret
                    bound = f"{JID}/{uuid.uuid4().hex[:8]}"
                    stream.send('<success xmlns="urn:ietf:params:xml:ns:xmpp-sasl"/>')
                elif name == "iq":
                    self._iq(stream, stanza, bound)
                elif name == "message":
                    self._message(stanza)
                elif name == "close":
                    stream.send('<close xmlns="urn:ietf:params:xml:ns:xmpp-framing"/>')
                    return
        except ConnectionClosed:
            pass
        finally:
            with self._lock:
                self._streams.pop(stream, None)

    def _iq(self, stream: ServerConnection, iq: ElementTree.Element, jid: str) -> None:
        if iq.get("type") in {"result", "error"}:
            return
        asked = list(iq)
        what = asked[0].tag if asked else ""
        inner = ""
        if what.endswith("}bind"):
            inner = f'<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"><jid>{jid}</jid></bind>'
            with self._lock:
                self._streams[stream] = jid
        elif what.endswith("}services"):
            inner = f'<services xmlns="urn:xmpp:extdisco:1" type={quoteattr(asked[0].get("type") or "")}/>'
        elif what.endswith("}pubsub"):
            node = asked[0][0].get("node") or ""
            inner = (
                '<pubsub xmlns="http://jabber.org/protocol/pubsub">'
                f'<subscription node={quoteattr(node)} jid="{jid}" subscription="subscribed"/></pubsub>'
            )
            self._topics.add(node)  # the channel's: it outlives the connection
        sender = f" from={quoteattr(iq.get('to') or '')}" if iq.get("to") else ""
        stream.send(f'<iq xmlns="jabber:client" type="result" id={quoteattr(iq.get("id") or "")}{sender}>{inner}</iq>')
        if what == "{genesys}genesys-webrtc":
            self._webrtc(json.loads(asked[0].text or ""))

    def _message(self, message: ElementTree.Element) -> None:
        """`proceed`: the person takes the call, so there is an offer. `accept`: every client of the person hears it."""
        if not len(message):
            return
        said = message[0].tag.rpartition("}")[2]
        with self._lock:
            conversation = self._by_session(str(message[0].get("id")))
            if conversation and said == "proceed":
                self._offer(conversation, "offer", {"sdp": _OFFER})
            elif conversation and said == "accept":
                self._accepted(conversation)

    def _webrtc(self, said: dict[str, Any]) -> None:
        """An answer connects the call."""
        with self._lock:
            conversation = self._by_session(said["params"]["sessionId"])
            if conversation is None or said["method"] != "answer":
                return
            if conversation.call["state"] == "alerting":
                self.change(conversation, state="connected")
            elif conversation.call["state"] == "contacting":
                self.change(conversation, state="dialing")

    def _by_session(self, session_id: str) -> Conversation | None:
        return next((each for each in self.conversations.values() if each.session_id == session_id), None)

    def _accepted(self, conversation: Conversation) -> None:
        self._send(
            f'<message from={quoteattr(JID)} to="{{jid}}">'
            f'<accept xmlns="urn:xmpp:jingle-message:0" id="{conversation.session_id}"/></message>'
        )

    def _notify(self, conversation: Conversation) -> None:
        topic = f"v2.users.{USER_ID}.conversations"
        if topic not in self._topics:
            return
        said = {"topicName": topic, "version": "2", "eventBody": conversation.body(), "metadata": {}}
        self._send(
            f'<message from="notifications.{DOMAIN}" to="{{jid}}"><event xmlns="http://jabber.org/protocol/pubsub#event">'
            f'<items node="{topic}"><item id="{uuid.uuid4()}"><json xmlns="urn:xmpp:json:0">{escape(json.dumps(said))}'
            "</json></item></items></event></message>"
        )

    def _offer(self, conversation: Conversation, method: str, params: dict[str, Any]) -> None:
        conversation.offered = True
        ids = {"sessionId": conversation.session_id, "conversationId": conversation.id}
        said = {"jsonrpc": "2.0", "id": str(uuid.uuid4()), "method": method, "params": ids | params}
        self._send(
            f'<iq type="set" from={quoteattr(EDGE)} to="{{jid}}" id="{uuid.uuid4()}">'
            f'<genesys-webrtc xmlns="genesys">{escape(json.dumps(said))}</genesys-webrtc></iq>'
        )

    def _send(self, stanza: str) -> None:
        """To every stream, in its name."""
        stanza = re.sub(r"^<(\w+)", r'<\1 xmlns="jabber:client"', stanza)
        for stream, jid in list(self._streams.items()):
            try:
                stream.send(stanza.replace("{jid}", jid))
            except ConnectionClosed:
                self._streams.pop(stream, None)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self.cut()
        self._streaming.shutdown()
        self._api.shutdown()
        self._api.server_close()
        for thread in self._threads:
            thread.join()


_OPEN = f'<open xmlns="urn:ietf:params:xml:ns:xmpp-framing" id="1" from="{DOMAIN}" version="1.0"/>'
_FEATURES = (
    '<stream:features xmlns:stream="http://etherx.jabber.org/streams">'
    '<mechanisms xmlns="urn:ietf:params:xml:ns:xmpp-sasl"><mechanism>PLAIN</mechanism></mechanisms></stream:features>'
)
_FEATURES_BOUND = (
    '<stream:features xmlns:stream="http://etherx.jabber.org/streams">'
    '<bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"/></stream:features>'
)


def _error(status: int, code: str, message: str) -> dict[str, Any]:
    return {
        "status": status,
        "code": code,
        "message": message,
        "contextId": str(uuid.uuid4()),
        "details": [],
        "errors": [],
    }


def _handler(cloud: GenesysCloud) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_OPTIONS(self) -> None:
            self._reply(204, None)

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = json.loads(body) if body else None
            if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                status, answer = cloud.answer(self.command, self.path, asked)
            else:
                status, answer = 401, _error(401, "bad.credentials", "Invalid login credentials.")
            cloud.requests.add(Request(self.command, self.path, asked, status))
            self._reply(status, answer)

        do_POST = do_PUT = do_PATCH = do_GET  # noqa: N815 - the library's names

        def _reply(self, status: int, answer: Any) -> None:
            body = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.send_header("Access-Control-Allow-Headers", "*, authorization, content-type")
            self.send_header("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
