"""The command that records a headset, as far as it goes without one: which device, why not, and where it ends."""

import io
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.unit.test_cli import mutebridge_

from mutebridge import recorder
from mutebridge.attached_device import DeviceError
from mutebridge.config import load_profiles
from mutebridge.core.assignment import DeviceConfig
from mutebridge.core.headset_protocol import headset_protocol
from mutebridge.core.profiles import DeviceNode
from mutebridge.edges.headset import check_openable
from mutebridge.edges.processes import holders
from mutebridge.recorder import RecorderError, find, status_of
from mutebridge.virtual_headset import descriptor

HEADSET = DeviceNode(
    path="/dev/hidraw3", subsystem="hidraw", product="Phones", serial_number="12", report_descriptor=descriptor()
)
MOUSE = DeviceNode(
    path="/dev/hidraw0",
    subsystem="hidraw",
    product="Mouse",
    report_descriptor=bytes.fromhex("05010902a10105091901290315002501950375018102c0"),
)
MUTE_ME = DeviceNode(
    path="/dev/hidraw4",
    subsystem="hidraw",
    product="MuteMe",
    vendor_id="20a0",
    product_id="42da",
    report_descriptor=bytes.fromhex("0600ff0901a1011500 26ff00 7508 9508 0902 8102 c0"),
)
NODES = [MOUSE, HEADSET, MUTE_ME]


@pytest.mark.parametrize("wanted", ["/dev/hidraw3", "phones-12"])
def test_a_headset_is_named_by_its_node_or_its_id(wanted: str) -> None:
    node, protocol = find(wanted, NODES, [], load_profiles())
    assert node is HEADSET
    assert protocol.telephony.mute_button is not None


def test_a_button_that_is_known_by_its_bytes_is_recorded_too() -> None:
    assert find("/dev/hidraw4", NODES, [], load_profiles())[1].profile.byte_patterns is not None


def test_the_configuration_counts() -> None:
    config = msgspec.convert(
        {"id": "mine", "match": {"product": "Phones"}, "headset": {"mute_echo_ms": 321}}, DeviceConfig
    )
    for wanted in ("mine", "/dev/hidraw3"):
        assert find(wanted, NODES, [config], load_profiles())[1].profile.mute_echo_ms == 321


@pytest.mark.parametrize(
    ("wanted", "status", "said"),
    [
        ("/dev/hidraw9", os.EX_NOINPUT, "no such HID device; there is: /dev/hidraw0, /dev/hidraw3, .*phones-12"),
        ("phones-13", os.EX_NOINPUT, "no such HID device"),
        ("/dev/hidraw0", os.EX_DATAERR, "nothing to record: "),
    ],
)
def test_what_cannot_be_recorded_is_told_with_the_reason(wanted: str, status: int, said: str) -> None:
    with pytest.raises(RecorderError, match=said) as caught:
        find(wanted, NODES, [], load_profiles())
    assert caught.value.status == status


def test_the_program_says_that_there_is_no_such_device(tmp_path: Path) -> None:
    done = mutebridge_("record", "/dev/hidraw999", tmp_path / "it.rec")
    assert (done.returncode, done.stdout) == (os.EX_NOINPUT, "")
    assert done.stderr.startswith("mutebridge record: /dev/hidraw999: no such HID device; there is: ")
    assert not (tmp_path / "it.rec").exists()


def test_the_help_teaches_how() -> None:
    done = mutebridge_("record", "--help")
    assert done.returncode == os.EX_OK
    assert "mutebridge record /dev/hidraw3 my-headset.rec" in done.stdout
    assert "Stop the service first" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


# --- opening


def test_a_node_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DeviceError, match="not plugged in") as caught:
        check_openable(str(tmp_path / "none"))
    assert status_of(caught.value) == os.EX_NOINPUT
    with pytest.raises(DeviceError, match="not a HID device") as caught:
        check_openable(str(tmp_path / "file"))
    assert status_of(caught.value) == os.EX_UNAVAILABLE
    assert status_of(DeviceError("permission denied", forbidden=True)) == os.EX_NOPERM


@pytest.fixture
def as_nobody() -> Iterator[None]:
    """Nothing is forbidden to root."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


@pytest.mark.usefixtures("as_nobody")
def test_a_forbidden_node_is_told_apart() -> None:
    with pytest.raises(DeviceError, match="permission denied: ") as caught:
        check_openable("/dev/mem" if Path("/dev/mem").exists() else "/etc/shadow")
    assert status_of(caught.value) == os.EX_NOPERM


def test_another_program_that_holds_the_device_is_named() -> None:
    board, line = pty.openpty()
    path = os.ttyname(line)
    with subprocess.Popen(["sleep", "60"], stdin=line) as holder:
        os.close(line)
        try:
            assert [str(each) for each in holders([path])[path]] == [f"sleep ({holder.pid})"]
        finally:
            holder.kill()
    assert holders([path]) == {path: []}
    os.close(board)


# --- the person and the file


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """What the person types is written here."""
    there, typed = os.pipe()
    with open(there) as stdin, open(typed, "wb", buffering=0) as keys:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", stdin)
        yield keys.fileno()


def desk(to: io.BytesIO) -> recorder._Desk:
    return recorder._Desk(HEADSET, headset_protocol(HEADSET, load_profiles()), to)


def test_lines_come_as_they_are_typed_up_to_the_end(keyboard: int) -> None:
    with desk(io.BytesIO()) as it:
        lines = it.lines()
        os.write(keyboard, b"\npress, press\nnoth")
        assert [next(lines), next(lines)] == ["", "press, press"]
        os.write(keyboard, b"ing\n")
        assert next(lines) == "nothing"
        os.dup2(os.open(os.devnull, os.O_WRONLY), keyboard)
        assert list(lines) == []
        assert it.trouble is not None
        assert it.trouble.status == os.EX_OK


def test_a_file_that_cannot_be_written_ends_it(keyboard: int) -> None:
    with open("/dev/full", "wb", buffering=0) as full, desk(full) as it:  # type: ignore[arg-type] # noqa: PTH123
        lines = it.lines()
        os.write(keyboard, b"\n")
        assert next(lines) == ""
        waiting = threading.Thread(target=lambda: left.extend(lines))
        left: list[str] = []
        waiting.start()
        it.write(b"{}\n")
        waiting.join(20)
        assert not waiting.is_alive()
        assert left == [], "although nothing more is typed"
        assert it.trouble is not None
        assert it.trouble.status == os.EX_CANTCREAT
        assert "No space left" in str(it.trouble)


def test_an_older_recording_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "it.rec").write_text("precious")
    with pytest.raises(RecorderError, match="File exists") as caught, recorder._opened(str(tmp_path / "it.rec")):
        pass
    assert caught.value.status == os.EX_CANTCREAT
    assert (tmp_path / "it.rec").read_text() == "precious"
