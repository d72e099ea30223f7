"""Every recording, replayed: the session of today must hear what the person did, and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.unit.recordings import make

from mutebridge import record
from mutebridge.core.events import Event, HookChanged, MuteAsked, MuteReleased, MuteSwitched, RejectPressed
from mutebridge.core.headset_profile import HeadsetProfile
from mutebridge.core.headset_protocol import Session
from mutebridge.core.lights import DARK, Lights, MicLight
from mutebridge.core.recording import (
    MAX_ENTRIES,
    MAX_FILE_BYTES,
    Did,
    Entry,
    Read,
    RecordedDevice,
    RecordingError,
    Shown,
    Written,
    acts_of,
    line,
    read_recording,
    replay,
)
from mutebridge.core.recording_script import Script, WordsError
from mutebridge.core.report_descriptor import parse
from mutebridge.core.telephony import Telephony
from mutebridge.virtual_headset import JABRA, PLAIN, VirtualHeadset, descriptor

FILES = sorted(make.FOLDER.glob("*.rec"))
DEVICE = line(RecordedDevice.of("h", descriptor()))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_the_person_did_is_heard(file: Path) -> None:
    heard = replay(read_recording(file.read_bytes()))
    assert sum(len(each.did.acts) for each in heard) >= 2
    assert [(each.did.at, each.did.remark, each.acts) for each in heard] == [
        (each.did.at, each.did.remark, each.did.acts) for each in heard
    ]


def test_there_are_recordings() -> None:
    assert len(FILES) >= 4


@pytest.mark.parametrize("name", make.MODELS)
def test_what_is_recorded_anew_is_heard_too(name: str) -> None:
    recording = read_recording(make.recorded(name))
    assert all(each.agrees for each in replay(recording))
    assert {type(entry) for entry in recording.entries} == {Shown, Written, Read, Did}


def test_a_recording_shows_what_the_profile_is_for() -> None:
    doubling = read_recording((make.FOLDER / "virtual_doubling.rec").read_bytes())
    without = RecordedDevice.of("h", bytes.fromhex(doubling.device.descriptor))
    wrong = [each for each in replay(type(doubling)(device=without, entries=doubling.entries)) if not each.agrees]
    assert wrong[0].did.acts == ("press",)
    assert wrong[0].acts == ("press", "press")


def test_the_device_line_keeps_the_profile_and_ids() -> None:
    profile = HeadsetProfile(mute_echo_ms=70)
    device = RecordedDevice.of("Example", descriptor(), profile, vendor_id="0b0e", product_id="24c9")
    assert device.headset == {"mute_echo_ms": 70}
    assert read_recording(line(device)).device == device


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "line 1: there is nothing"),
        (b"\xff", "line 1: JSON is malformed"),
        (b'{"what": "device", "format": 2, "name": "h", "descriptor": "c0"}', "line 1: Invalid enum value 2"),
        (b'{"what": "device", "format": 1, "name": "h", "descriptor": "C"}', "line 1: Expected `str` matching regex"),
        (
            b'{"what": "device", "format": 1, "name": "h", "descriptor": "c0"}',
            "line 1: byte 0 of the report descriptor",
        ),
        (DEVICE.replace(b"}", b', "headset": {"odd": 1}}'), "line 1: Object contains unknown field `odd`"),
        (DEVICE + b'{"what": "read", "at": 1, "report": "0"}', "line 2: Expected `str` matching regex"),
        (DEVICE + b'{"what": "read", "at": -1, "report": "00"}', "line 2: Expected `float` >= 0"),
        (
            DEVICE + b'{"what": "shown", "at": 1, "lights": {"mic": "loud"}}',
            "line 2: lights: Invalid enum value 'loud'",
        ),
        (DEVICE + line(Did(at=2, acts=())) + line(Did(at=1, acts=())), "line 3: its moment is before that of the line"),
        (DEVICE + b"\n" * MAX_ENTRIES, f"line {MAX_ENTRIES + 1}: more than"),
        (b" " * (MAX_FILE_BYTES + 1), "bytes long, where"),
    ],
)
def test_what_is_no_recording_is_told_with_its_line(data: bytes, problem: str) -> None:
    with pytest.raises(RecordingError) as told:
        read_recording(data)
    assert problem in str(told.value)


def test_reports_without_a_byte_are_not_noted_and_writes_that_failed_are() -> None:
    noted: list[Entry] = []
    session = RecordedDevice.of("h", descriptor()).session(noted.append, begin=10)
    session.report(b"", 11)
    session.show(DARK, 12)
    session.written(b"\x02\x00", 12.5, ok=False)
    assert noted == [Shown(at=2), Written(at=2.5, report="0200", ok=False)]


def test_which_acts_stand_behind_events() -> None:
    events: list[Event] = [
        MuteReleased("h"),
        MuteSwitched("h", muted=True, baseline=True),
        MuteSwitched("h", muted=False),
        HookChanged("h", off_hook=True),
        HookChanged("h", off_hook=False),
        RejectPressed("h"),
    ]
    assert list(acts_of(events)) == ["press", "answer", "hang_up", "reject"]


# --- the script


def script(data: bytes) -> Script:
    return Script(Telephony.from_descriptor(parse(data)).can)


def test_only_what_the_device_has_is_asked_for() -> None:
    def asked(data: bytes) -> set[str]:
        steps = script(data)
        acts: set[str] = set()
        while steps.step is not None:
            acts |= set(steps.done(""))
        return acts

    assert asked(descriptor()) == {"press", "answer", "hang_up"}
    assert asked(bytes.fromhex("050b0905a1011500250175019501 0920 8122 0907 8102 c0")) == {
        "answer",
        "hang_up",
        "reject",
    }
    assert asked(bytes.fromhex("050b0905a101c0")) == set()


def test_the_softphone_is_played_too() -> None:
    steps = script(descriptor())
    live, muted = Lights(mic=MicLight.LIVE, off_hook=True), Lights(mic=MicLight.MUTED, off_hook=True)
    assert steps.lights == live
    assert steps.heard(MuteAsked("h", muted=True)) == muted
    assert steps.heard(MuteSwitched("h", muted=True, baseline=True)) == muted
    assert steps.heard(MuteSwitched("h", muted=False)) == live
    assert steps.heard(MuteReleased("h")) == live
    assert steps.heard(HookChanged("h", off_hook=False)) == DARK
    assert steps.heard(MuteAsked("h", muted=True)) == DARK
    assert steps.heard(HookChanged("h", off_hook=True)) == live
    assert steps.heard(RejectPressed("h")) == DARK


def test_a_person_who_did_something_else_says_so() -> None:
    steps = script(descriptor())
    assert steps.done("nothing") == ()
    assert steps.done("Press, press hang_up") == ("press", "press", "hang_up")
    with pytest.raises(WordsError, match="'jump' is not understood; what you did is told in press, answer, hang_up, "):
        steps.done("press jump")
    with pytest.raises(WordsError, match="65 words, where 64 are the most"):
        steps.done("press " * 65)
    assert steps.done("\n") == ("press",)


# --- the command


class Connection:
    """A headset in software, as an open device: all that it sends is there at once."""

    def __init__(self, session: Session, feed: record.Feed) -> None:
        self.headset = VirtualHeadset(JABRA)
        self.session = session
        self.feed = feed
        self.now = 0.0
        self.stopped = False

    def show(self, lights: Lights) -> None:
        self._write(self.session.show(lights, self.now))

    def stop(self, timeout_s: float) -> bool:
        assert timeout_s > 0
        self.stopped = True
        return True

    def press(self) -> None:
        self.now += 1
        self.headset.press(self.now)
        self.now += 0.1
        for report in self.headset.due(self.now):
            events, writes = self.session.report(report, self.now)
            self._write(writes)
            for event in events:
                self.feed(event)

    def _write(self, reports: list[bytes]) -> None:
        for report in reports:
            self.headset.write(report, self.now)
            self.session.written(report, self.now, ok=True)


def test_it_ends_with_the_script() -> None:
    opened: list[Connection] = []
    lines: list[bytes] = []

    def connect(session: Session, feed: record.Feed) -> Connection:
        feed(MuteAsked("h", muted=True))  # before it is even known
        opened.append(Connection(session, feed))
        return opened[0]

    clock = iter([5.0, 6.0, 5.5, *[7.0] * 50])  # as of two threads
    device = RecordedDevice.of("headset", descriptor())
    record.lead(device, connect, record.Talk(iter(["nothing"] * 50), lambda _: None), lines.append, lambda: next(clock))
    recording = read_recording(b"".join(lines))
    dids = [entry for entry in recording.entries if isinstance(entry, Did)]
    assert dids[-1].remark == "The call is over. Touch nothing for about three seconds."
    assert [entry.at for entry in dids[:3]] == [1.0, 1.0, 2.0]
    assert opened[0].headset.lamps == 0


def test_a_button_that_is_known_by_its_bytes_is_recorded_and_replayed() -> None:
    profile = msgspec.convert(
        {
            "byte_patterns": {
                "inputs": [
                    {"means": "press", "bytes": "04"},
                    {"means": "held", "bytes": "01"},
                    {"means": "release", "bytes": "02"},
                ],
                "outputs": {"muted": "00 01", "live": "00 02", "off": "00 00"},
            }
        },
        HeadsetProfile,
    )
    vendors_own = bytes.fromhex("0600ff 0901 a101 1500 26ff00 7508 9501 0902 8102 c0")
    device = RecordedDevice.of("touch", vendors_own, profile)
    noted: list[Entry] = []
    session = device.session(noted.append)
    script = Script(device.protocol.can)
    at = 0.0
    while (step := script.step) is not None:
        for write in session.show(script.lights, at):
            session.written(write, at, ok=True)
        for _ in step.acts:
            for report in (b"\x04", b"\x01", b"\x01", b"\x02"):
                at = round(at + 0.1, 6)
                for event in session.report(report, at)[0]:
                    script.heard(event)
        noted.append(Did(at=at, acts=script.done("")))
    recording = read_recording(b"".join(map(line, [device, *noted])))
    assert recording.device.protocol.profile == profile
    heard = replay(recording)
    assert sum(len(each.acts) for each in heard) == 6
    assert all(each.agrees for each in heard)
    assert {entry.report for entry in recording.entries if isinstance(entry, Written)} == {"0001", "0002", "0000"}


def test_a_person_is_led_through_a_recording(tmp_path: Path) -> None:
    opened: list[Connection] = []
    said: list[str] = []

    def connect(session: Session, feed: record.Feed) -> Connection:
        opened.append(Connection(session, feed))
        return opened[0]

    def person() -> Iterator[str]:
        yield "\n"
        opened[0].press()
        yield "what?\n"
        yield "\n"
        opened[0].press()
        yield "press\n"  # and is tired of it

    file = tmp_path / "headset.rec"
    with file.open("wb") as out:
        device = RecordedDevice.of("headset", descriptor(PLAIN), HeadsetProfile(host_must_ack_mute=True))
        record.lead(
            device, connect, record.Talk(person(), said.append), out.write, lambda: opened[0].now if opened else 0
        )
    assert opened[0].stopped
    heard = replay(read_recording(file.read_bytes()))
    assert [each.acts for each in heard] == [(), ("press",), ("press",)]
    assert all(each.agrees for each in heard)
    assert "Press the mute button once." in said[1]
    assert "'what?' is not understood" in said[2]
