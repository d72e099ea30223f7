"""The MQTT contract, version 1: its topics and its payloads.

Between the bridge (one per workstation, a *station*) and a *session controller*, which owns the softphone's microphone.
Below `P = {prefix}/{station}` the bridge publishes `bridge/...` and each controller `C = controller/{name}/...`.

The types here are the contract: the JSON Schemas and the AsyncAPI document in `config/contract/` are generated from
them. A payload is UTF-8, at most 4 KiB; unknown fields are ignored, null means absent, an empty retained payload
deletes. The bare words (`connected`, `muted`, ...) are payloads too, so that a shell script can be a controller. What
comes in is untrusted: `PayloadError` says where it came from, what is wrong and what is allowed.
"""

import enum
import re
from typing import Annotated, Any, TypeVar

import msgspec

MAX_PAYLOAD_BYTES = 4096
DEFAULT_PREFIX = "mutebridge/v1"
MAX_PREFIX_BYTES = 256

_NAME = re.compile(r"[a-z0-9._-]{1,64}")

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Milliseconds = Annotated[
    float,
    msgspec.Meta(
        ge=0, le=2**53, description="Milliseconds since the Unix epoch, in the controller's clock, which never steps"
    ),
]
Sequence = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class PayloadError(ValueError):
    """A payload that cannot be read: the message says the topic, what is wrong and what is allowed."""


class CallState(enum.Enum):
    """What the call that uses the microphone is doing; `other`, and any word not named here, is not connected."""

    RINGING = "ringing"
    DIALING = "dialing"
    CONNECTED = "connected"
    HELD = "held"
    DISCONNECTED = "disconnected"
    OTHER = "other"  # any other word

    @classmethod
    def _missing_(cls, _value: object) -> "CallState":
        return cls.OTHER


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A JSON payload."""


class Call(Message, frozen=True, kw_only=True, omit_defaults=True):
    """`C/call`, retained: the call that uses the microphone."""

    state: CallState
    call_id: Id | None = None
    epoch: Id | None = None
    seq: Sequence | None = None
    at: Milliseconds | None = None
    heartbeat_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] | None = None


class Mic(Message, frozen=True, kw_only=True, omit_defaults=True):
    """`C/mic`, retained: what the microphone does, the only source of it."""

    muted: bool
    call_id: Id | None = None
    epoch: Id | None = None
    seq: Sequence | None = None
    at: Milliseconds | None = None
    request_id: Id | None = None


class Action(enum.Enum):
    """What a command asks for."""

    SET_MUTE = "set_mute"
    ANSWER = "answer"
    HANG_UP = "hang_up"


class Source(Message, frozen=True, kw_only=True, omit_defaults=True):
    """The device whose press caused a command."""

    device: str
    name: str | None = None


class Command(Message, frozen=True, kw_only=True, omit_defaults=True):
    """`C/command`, never retained: absolute, not a toggle; not to be acted on after `expires_at`."""

    request_id: Id
    action: Action
    expires_at: Milliseconds
    muted: bool | None = None
    call_id: Id | None = None
    epoch: Id | None = None
    mic_seq: Sequence | None = None
    source: Source | None = None


class CommandError(enum.Enum):
    """Why a controller refused a command."""

    NOT_CONNECTED = "not_connected"
    NOT_ALLOWED = "not_allowed"
    MISSING_SCOPE = "missing_scope"
    EXPIRED = "expired"
    STALE = "stale"
    FAILED = "failed"

    @classmethod
    def _missing_(cls, _value: object) -> "CommandError":
        return cls.FAILED


class Result(Message, frozen=True, kw_only=True, omit_defaults=True):
    """`C/result`: the answer to one command."""

    request_id: Id
    ok: bool
    error: CommandError | None = None
    detail: Annotated[str, msgspec.Meta(max_length=1024)] | None = None


class Outcome(enum.Enum):
    """What became of a press."""

    SENT = "sent"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    TIMED_OUT = "timed_out"
    IGNORED = "ignored"


class PressEvent(Message, frozen=True, kw_only=True, omit_defaults=True):
    """`P/bridge/event`: one for each thing that became of a press."""

    press: str
    device: str
    gesture: str
    outcome: Outcome
    reason: str | None = None
    detail: str | None = None
    controller: str | None = None
    request_id: str | None = None
    muted: bool | None = None
    latency_ms: float | None = None


class DeviceState(Message, frozen=True, kw_only=True):
    """`P/bridge/device/{id}`, retained: one attached device, what it can do and its lights as last written."""

    name: str
    kind: str
    press_mode: str
    can: list[str]
    lights: dict[str, bool | str | None]


class Topics(msgspec.Struct, frozen=True):
    """The topics of one station. `prefix` has no wildcard, no leading or trailing slash, at most MAX_PREFIX_BYTES."""

    station: str
    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        valid_name("station", self.station)
        prefix = self.prefix
        if not prefix or prefix != prefix.strip("/") or re.search(r"[+#\s]|//", prefix) or not prefix.isprintable():
            raise ValueError(f"prefix {prefix!r}: levels separated by single slashes, without '+', '#' or blanks")
        if len(prefix.encode()) > MAX_PREFIX_BYTES:
            raise ValueError(f"prefix: {len(prefix.encode())} bytes; at most {MAX_PREFIX_BYTES} are allowed")

    @property
    def root(self) -> str:
        return f"{self.prefix}/{self.station}"

    @property
    def bridge_availability(self) -> str:
        return f"{self.root}/bridge/availability"

    @property
    def bridge_event(self) -> str:
        return f"{self.root}/bridge/event"

    def bridge_device(self, device_id: str) -> str:
        return f"{self.root}/bridge/device/{device_id}"

    def controller(self, name: str, leaf: str) -> str:
        return f"{self.root}/controller/{name}/{leaf}"


def valid_name(what: str, name: str) -> str:
    """Return the lower-cased station or controller name; ValueError unless it matches `[a-z0-9._-]{1,64}`."""
    lowered = name.lower()
    if not _NAME.fullmatch(lowered):
        raise ValueError(f"{what} {name!r}: 1 to 64 of the letters a-z, digits, '.', '_' and '-'")
    return lowered


_M = TypeVar("_M", bound=Message)

_DECODERS: dict[type[Message], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Call, Mic, Command, Result, PressEvent, DeviceState)
}
_ENCODER = msgspec.json.Encoder()

_CALL_WORDS = {state.value.encode(): Call(state=state) for state in CallState if state is not CallState.OTHER}
_MIC_WORDS = {b"muted": Mic(muted=True), b"unmuted": Mic(muted=False)}
_AVAILABILITY_WORDS = {b"online": True, b"offline": False}


def encode(message: Message) -> bytes:
    """Return the JSON of a message, UTF-8."""
    return _ENCODER.encode(message)


def decode(kind: type[_M], topic: str, payload: bytes) -> _M:
    """Read a JSON payload; PayloadError names `topic` and what is wrong."""
    _check_size(topic, payload)
    try:
        message: _M = _DECODERS[kind].decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError(f"{topic}: {error}; it was {payload[:80]!r}") from None
    return message


def decode_call(topic: str, payload: bytes) -> Call | None:
    """`C/call`: a bare word, JSON, or None when deleted."""
    return _decode_state(Call, _CALL_WORDS, topic, payload)


def decode_mic(topic: str, payload: bytes) -> Mic | None:
    """`C/mic`: a bare word, JSON, or None when deleted."""
    return _decode_state(Mic, _MIC_WORDS, topic, payload)


def decode_availability(topic: str, payload: bytes) -> bool | None:
    """`online` is True, `offline` False, None when deleted."""
    _check_size(topic, payload)
    word = payload.strip()
    if not word:
        return None
    if word not in _AVAILABILITY_WORDS:
        raise PayloadError(f"{topic}: {payload[:80]!r}; 'online' or 'offline' is allowed")
    return _AVAILABILITY_WORDS[word]


def decode_result(topic: str, payload: bytes) -> Result:
    """`C/result`: JSON."""
    return decode(Result, topic, payload)


def _decode_state(kind: type[_M], words: dict[bytes, _M], topic: str, payload: bytes) -> _M | None:
    if not payload:
        return None
    _check_size(topic, payload)
    word = payload.strip()
    if word in words:
        return words[word]
    if not word.startswith(b"{"):
        if kind is Call and re.fullmatch(rb"[\w-]{1,64}", word):
            return kind(state=CallState.OTHER)
        allowed = ", ".join(w.decode() for w in words)
        raise PayloadError(f"{topic}: {payload[:80]!r}; a JSON object or one of {allowed} is allowed")
    return decode(kind, topic, payload)


def _check_size(topic: str, payload: bytes) -> None:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise PayloadError(f"{topic}: {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} are allowed")
