"""A recording of one device: what it sent, what it was written, what the person in front of it did.

A `.rec` file is UTF-8, one JSON object a line. The first line is the device, the others follow in the order of their
moments, `at`, in seconds since the recording began. Bytes are hexadecimal, whole reports as hidraw has them: written
ones with their id byte first, 00 where there are no ids; read ones without it where there are none.

    {"what": "device", "format": 1, "name": "…", "vendor_id": "0b0e", "product_id": "24c9",
     "descriptor": "050b09…", "headset": {"host_must_ack_mute": true}}    the profile's keys, as they were resolved
    {"what": "shown", "at": 0.0, "lights": {"mic": "live", "off_hook": true}}    what the bridge wants to be shown
    {"what": "written", "at": 0.001, "report": "0203", "ok": true}               what was written for it
    {"what": "read", "at": 4.2, "report": "0202"}                                an input report
    {"what": "did", "at": 5.1, "acts": ["press"]}     what the person did since the last such line, in this order

`acts` are `press` (of the mute button, let go again), `answer`, `hang_up` and `reject`; none for a person who did
nothing, and that matters: whatever is heard then is an echo. `remark` beside them is for people.

`replay` plays a recording to a new session. It is the same as the person's only if the session hears, between two such
lines, exactly the acts of the second one.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal

import msgspec

from mutebridge.core.events import (
    Event,
    HookChanged,
    MuteAsked,
    MutePressed,
    MuteSwitched,
    MuteToggled,
    RejectPressed,
)
from mutebridge.core.headset_profile import GENERIC, HeadsetProfile
from mutebridge.core.headset_protocol import HeadsetProtocol, Session
from mutebridge.core.lights import Lights
from mutebridge.core.report_descriptor import MAX_DESCRIPTOR_BYTES, DescriptorError, parse
from mutebridge.core.telephony import Telephony

MAX_FILE_BYTES = 16 << 20
MAX_ENTRIES = 100_000
MAX_REPORT_BYTES = 4096

Act = Literal["press", "answer", "hang_up", "reject"]

_Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{4}$")]
_Descriptor = Annotated[str, msgspec.Meta(pattern=r"^(?:[0-9a-f]{2})+$", max_length=2 * MAX_DESCRIPTOR_BYTES)]
_Report = Annotated[str, msgspec.Meta(pattern=r"^(?:[0-9a-f]{2})+$", max_length=2 * MAX_REPORT_BYTES)]
_Moment = Annotated[float, msgspec.Meta(ge=0, le=86_400)]


class _Entry(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="what", omit_defaults=True, forbid_unknown_fields=True
):
    pass


class RecordedDevice(_Entry, frozen=True, kw_only=True, tag="device"):
    """The first line."""

    format: Literal[1]
    name: Annotated[str, msgspec.Meta(max_length=200)]
    descriptor: _Descriptor
    vendor_id: _Id | None = None
    product_id: _Id | None = None
    headset: dict[str, Any] = {}

    @classmethod
    def of(
        cls,
        name: str,
        descriptor: bytes,
        profile: HeadsetProfile = GENERIC,
        *,
        vendor_id: str | None = None,
        product_id: str | None = None,
    ) -> "RecordedDevice":
        usual = msgspec.to_builtins(GENERIC)
        headset = {key: value for key, value in msgspec.to_builtins(profile).items() if value != usual[key]}
        return cls(
            format=1,
            name=name,
            descriptor=descriptor.hex(),
            vendor_id=vendor_id,
            product_id=product_id,
            headset=headset,
        )

    def session(self, note: "Callable[[Entry], None] | None" = None, begin: float = 0.0) -> Session:
        """Return a new session for such a device; one that notes what happens, if there is a `note`.

        `begin` is the moment of the clock at which the recording began. ValueError says what is wrong with the device.
        """
        session = self.protocol.session(self.name)
        return session if note is None else RecordedSession(session, note, begin)

    @property
    def protocol(self) -> HeadsetProtocol:
        profile = msgspec.convert(self.headset, HeadsetProfile)
        descriptor = bytes.fromhex(self.descriptor)
        telephony = Telephony.from_descriptor(parse(descriptor), profile)
        return HeadsetProtocol(descriptor=descriptor, telephony=telephony, profile=profile)


class Shown(_Entry, frozen=True, kw_only=True, tag="shown"):
    at: _Moment
    lights: dict[str, Any] = {}


class Written(_Entry, frozen=True, kw_only=True, tag="written"):
    at: _Moment
    report: _Report
    ok: bool = True


class Read(_Entry, frozen=True, kw_only=True, tag="read"):
    at: _Moment
    report: _Report


class Did(_Entry, frozen=True, kw_only=True, tag="did"):
    at: _Moment
    acts: Annotated[tuple[Act, ...], msgspec.Meta(max_length=64)]
    remark: Annotated[str, msgspec.Meta(max_length=1000)] = ""


Entry = Shown | Written | Read | Did


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    device: RecordedDevice
    entries: tuple[Entry, ...]


class RecordingError(ValueError):
    """A file that is no recording: the message says the line, and what is wrong with it."""


# --- the file

_ENCODER = msgspec.json.Encoder()
_DEVICE: msgspec.json.Decoder[RecordedDevice] = msgspec.json.Decoder(RecordedDevice)
_ENTRY: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)
_USUAL = msgspec.to_builtins(Lights())


def line(entry: RecordedDevice | Entry) -> bytes:
    """Return the line of a file, with its end."""
    return _ENCODER.encode(entry) + b"\n"


def read_recording(data: bytes) -> Recording:
    """Read a whole file; RecordingError."""
    if len(data) > MAX_FILE_BYTES:
        raise RecordingError(f"it is {len(data)} bytes long, where {MAX_FILE_BYTES} are the most")
    lines = data.splitlines()
    if not lines:
        raise RecordingError("line 1: there is nothing")
    if len(lines) > MAX_ENTRIES:
        raise RecordingError(f"line {MAX_ENTRIES + 1}: more than {MAX_ENTRIES} lines")
    device = _decoded(_DEVICE, 1, lines[0])
    try:
        device.session()
    except (DescriptorError, msgspec.ValidationError) as error:
        raise RecordingError(f"line 1: {error}") from None
    entries: list[Entry] = []
    for number, each in enumerate(lines[1:], 2):
        entry: Entry = _decoded(_ENTRY, number, each)
        if entries and entry.at < entries[-1].at:
            raise RecordingError(f"line {number}: its moment is before that of the line above")
        if isinstance(entry, Shown):
            _lights(entry, number)
        entries.append(entry)
    return Recording(device=device, entries=tuple(entries))


def _decoded(decoder: "msgspec.json.Decoder[Any]", number: int, data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RecordingError(f"line {number}: {error}") from None


def _lights(entry: Shown, number: int = 0) -> Lights:
    try:
        return msgspec.convert(entry.lights, Lights)
    except msgspec.ValidationError as error:
        raise RecordingError(f"line {number}: lights: {error}") from None


# --- what is noted while it happens


class RecordedSession:
    """A session that notes what it is told."""

    def __init__(self, session: Session, note: Callable[[Entry], None], begin: float) -> None:
        self._session = session
        self._note = note
        self._begin = begin
        self.timed = session.timed
        self.disturbed = session.disturbed

    @property
    def wake_at(self) -> float | None:
        return self._session.wake_at

    def report(self, data: bytes, now: float) -> tuple[list[Event], list[bytes]]:
        if data:
            self._note(Read(at=self._at(now), report=data[:MAX_REPORT_BYTES].hex()))
        return self._session.report(data, now)

    def show(self, lights: Lights, now: float) -> list[bytes]:
        shown = {key: value for key, value in msgspec.to_builtins(lights).items() if value != _USUAL[key]}
        self._note(Shown(at=self._at(now), lights=shown))
        return self._session.show(lights, now)

    def written(self, report: bytes, now: float, *, ok: bool) -> None:
        self._note(Written(at=self._at(now), report=report.hex(), ok=ok))
        self._session.written(report, now, ok=ok)

    def _at(self, now: float) -> float:
        return round(max(0.0, now - self._begin), 6)


# --- what a recording says


class Heard(msgspec.Struct, frozen=True):
    """What a session heard up to a `Did`, beside what the person did."""

    did: Did
    acts: tuple[Act, ...]

    @property
    def agrees(self) -> bool:
        return self.acts == self.did.acts


def replay(recording: Recording) -> list[Heard]:
    """Play a recording to a new session of today; returns what it heard, for each `Did` of the recording."""
    session = recording.device.session()
    heard: list[Heard] = []
    events: list[Event] = []
    for entry in recording.entries:
        events += _timed(session, entry.at)
        match entry:
            case Shown():
                session.show(_lights(entry), entry.at)
            case Written():
                session.written(bytes.fromhex(entry.report), entry.at, ok=entry.ok)
            case Read():
                events += session.report(bytes.fromhex(entry.report), entry.at)[0]
            case _:
                heard.append(Heard(entry, tuple(acts_of(events))))
                events = []
    return heard


def _timed(session: Session, until: float) -> list[Event]:
    """Give the session its moments before `until`; each one is over when it has come."""
    events: list[Event] = []
    while session.wake_at is not None and session.wake_at <= until:
        events += session.timed(session.wake_at)[0]
    return events


def acts_of(events: Iterable[Event]) -> Iterator[Act]:
    """Yield what a person did to cause these events."""
    for event in events:
        match event:
            case MutePressed() | MuteToggled() | MuteAsked():
                yield "press"
            case MuteSwitched(baseline=False):
                yield "press"
            case HookChanged():
                yield "answer" if event.off_hook else "hang_up"
            case RejectPressed():
                yield "reject"
