"""Whatever is plugged in and wanted is open, through unplugging, replugging and new configurations."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mutebridge.attachments import Attachments, Sighting
from mutebridge.core.assignment import DeviceConfig
from mutebridge.core.events import DeviceAttached, DeviceDetached, MuteToggled, PressMode
from mutebridge.core.lights import Lights, MicLight
from mutebridge.core.profiles import DeviceNode, profiles_from_dict

from .serial_board import DEADLINE_S, Board, Ears

MUTED = Lights(mic=MicLight.MUTED)
SERIAL = {
    "press": "down",
    "release": "up",
    "toggle": "flip",
    "settle_s": 0,
    "send": {"muted": "MUTED", "live": "LIVE", "off": "DARK"},
}
PROFILES = profiles_from_dict({"knob": {"name": "Knob", "source": "a test", "serial": SERIAL}}, "test")

Plug = Callable[[str], Board]


@pytest.fixture
def ears() -> Ears:
    return Ears()


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Plug]:
    boards: list[Board] = []

    def make(name: str) -> Board:
        boards.append(Board(tmp_path / name))
        return boards[-1]

    yield make
    for board in boards:
        board.unplug()


@pytest.fixture
def attachments(ears: Ears) -> Iterator[Attachments]:
    attachments = Attachments(ears, time.monotonic, PROFILES)
    yield attachments
    assert attachments.stop(5) == []


def test_a_link_that_leaves_while_it_is_followed(attachments: Attachments, tmp_path: Path) -> None:
    """A board that comes and goes, as with a bad contact, ends nothing."""
    attachments.configure([wanted("a", tmp_path / "button")])
    come_and_go = "import os, sys\nwhile True: os.symlink('/dev/null', sys.argv[1]); os.unlink(sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", come_and_go, str(tmp_path / "button")]) as plugging:
        try:
            for _ in range(1000):
                assert [seen.device_id for seen in attachments.describe() if seen.device_id] == ["a"]
        finally:
            plugging.kill()


def wanted(device_id: str, port: Path, **more: Any) -> DeviceConfig:
    return msgspec.convert({"id": device_id, "port": str(port), "profile": "knob", **more}, DeviceConfig)


def seen(attachments: Attachments, device_id: str) -> Sighting:
    (found,) = [sighting for sighting in attachments.describe() if sighting.device_id == device_id]
    return found


def wait_for_state(attachments: Attachments, device_id: str, state: str) -> Sighting:
    deadline = time.monotonic() + DEADLINE_S
    while (found := seen(attachments, device_id)).state != state:
        assert time.monotonic() < deadline, f"it stays {found.state}"
    return found


def test_configured_buttons_are_open_and_shown_their_lights(attachments: Attachments, ears: Ears, plug: Plug) -> None:
    boards = {name: plug(name) for name in ("desk", "foot")}
    attachments.configure([wanted(name, board.link) for name, board in boards.items()])
    attachments.start()
    assert {ears.wait_for(DeviceAttached).device.id for _ in boards} == {"desk", "foot"}
    for name, board in boards.items():
        attachments.show(name, MUTED)
        board.shows(b"MUTED\n")
        board.says(b"flip\n")
        assert ears.next() == MuteToggled(name)
    attachments.show("nobody", MUTED)
    assert attachments.stop(5) == []
    for board in boards.values():
        board.shows(b"DARK\n")


def test_unplugged_and_plugged_in_again_without_a_restart(attachments: Attachments, ears: Ears, plug: Plug) -> None:
    board = plug("desk")
    ears.react = lambda event: attachments.show("desk", MUTED) if isinstance(event, DeviceAttached) else None
    attachments.configure([wanted("desk", board.link)])
    attachments.start()
    ears.wait_for(DeviceAttached)
    board.shows(b"MUTED\n")
    for _ in range(3):
        board.unplug()
        assert "unplugged" in ears.wait_for(DeviceDetached).reason
        board.plug()
        ears.wait_for(DeviceAttached)
        board.shows(b"MUTED\n")


def test_a_button_that_comes_long_after_the_start(
    attachments: Attachments, ears: Ears, plug: Plug, tmp_path: Path
) -> None:
    """So long that the thread has stopped trying by the clock and waits to be told."""
    attachments.configure([wanted("desk", tmp_path / "later/desk")])
    attachments.start()
    assert "not plugged in" in wait_for_state(attachments, "desk", "absent").problem
    assert not ears.wait_a_while(5.0)
    (tmp_path / "later").mkdir()
    before = time.monotonic()
    plug("later/desk")
    ears.wait_for(DeviceAttached)
    assert time.monotonic() - before < 2


def test_a_button_that_gets_its_name_when_it_comes_long_after_the_start(
    attachments: Attachments, ears: Ears, plug: Plug, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a USB board does that the configuration does not name: until it is there, its port is all that is known."""

    def nodes(_subsystems: object) -> list[DeviceNode]:
        there = (tmp_path / "desk").exists()
        return [DeviceNode(path=str((tmp_path / "desk").resolve()), subsystem="tty", product="Pico")] if there else []

    monkeypatch.setattr("mutebridge.attachments.list_nodes", nodes)
    serial = {"toggle": "flip", "settle_s": 0}
    attachments.configure([DeviceConfig(id="desk", port=str(tmp_path / "desk"), serial=serial)])
    attachments.start()
    wait_for_state(attachments, "desk", "absent")
    assert not ears.wait_a_while(5.0)
    before = time.monotonic()
    plug("desk")
    assert ears.wait_for(DeviceAttached).device.name == "Pico"
    assert time.monotonic() - before < 2


def test_a_new_configuration_leaves_the_unchanged_alone(attachments: Attachments, ears: Ears, plug: Plug) -> None:
    boards = {name: plug(name) for name in ("keep", "rename", "change", "remove", "add")}
    first = [wanted(name, boards[name].link) for name in ("keep", "rename", "change", "remove")]
    attachments.configure(first)
    attachments.start()
    for _ in first:
        ears.wait_for(DeviceAttached)
    attachments.configure(
        [
            wanted("keep", boards["keep"].link),
            wanted("rename", boards["rename"].link, name="Other", press_mode="push_to_talk"),
            wanted("change", boards["change"].link, serial={"toggle": "flop"}),
            wanted("add", boards["add"].link),
        ]
    )
    events = [ears.next() for _ in range(5)]
    detached = [event.device_id for event in events if isinstance(event, DeviceDetached)]
    attached = {event.device.id: event.device for event in events if isinstance(event, DeviceAttached)}
    assert sorted(detached) == ["change", "remove"]
    assert sorted(attached) == ["add", "change", "rename"]
    assert attached["rename"].name == "Other"
    assert attached["rename"].press_mode is PressMode.PUSH_TO_TALK
    boards["remove"].shows(b"DARK\n")
    assert boards["keep"].is_silent()
    boards["change"].says(b"flip\nflop\n")
    assert ears.next() == MuteToggled("change")
    boards["keep"].says(b"flip\n")
    assert ears.next() == MuteToggled("keep")


def test_a_port_goes_from_one_device_to_another(attachments: Attachments, ears: Ears, plug: Plug) -> None:
    board = plug("board")
    attachments.configure([wanted("old", board.link)])
    attachments.start()
    ears.wait_for(DeviceAttached)
    attachments.configure([wanted("new", board.link)])
    assert ears.next() == DeviceDetached("old", "stopped")
    assert ears.wait_for(DeviceAttached).device.id == "new"


def test_a_wrong_configuration_changes_nothing(attachments: Attachments, ears: Ears, plug: Plug) -> None:
    board = plug("desk")
    attachments.configure([wanted("desk", board.link)])
    attachments.start()
    ears.wait_for(DeviceAttached)
    with pytest.raises(ValueError, match="given twice"):
        attachments.configure([wanted("x", board.link), wanted("x", board.link)])
    with pytest.raises(ValueError, match="'nob' is unknown"):
        attachments.configure([wanted("x", board.link, profile="nob")])
    board.says(b"flip\n")
    assert ears.next() == MuteToggled("desk")


def test_what_is_there_is_described_without_opening_it(attachments: Attachments, plug: Plug, tmp_path: Path) -> None:
    board = plug("desk")
    attachments.configure(
        [
            wanted("desk", board.link, name="Desk"),
            wanted("away", tmp_path / "away"),
            wanted("glob", Path("/dev/serial/by-id/no-such-*")),
            msgspec.convert({"id": "unknown", "port": str(tmp_path / "u")}, DeviceConfig),
        ]
    )
    desk = seen(attachments, "desk")
    assert (desk.state, desk.port, desk.name, desk.profile) == ("closed", str(board.link), "Desk", "knob")
    assert desk.can == ("mute_button", "release", "mute_light")
    assert (desk.kind, desk.press_mode) == ("serial", "toggle")
    assert seen(attachments, "away").state == "absent"
    assert seen(attachments, "glob").problem == "not plugged in"
    assert "name a 'profile'" in seen(attachments, "unknown").problem
    assert board.is_silent()


def test_a_stuck_button_does_not_hold_up_the_end(attachments: Attachments, ears: Ears, plug: Plug) -> None:
    boards = [plug("desk"), plug("foot")]
    attachments.configure([wanted(board.link.name, board.link) for board in boards])
    attachments.start()
    for _ in boards:
        ears.wait_for(DeviceAttached)
    for turn in range(20_000):
        attachments.show("desk", MUTED if turn % 2 else Lights())
    attachments.show("foot", MUTED)
    boards[1].shows(b"MUTED\n")
    before = time.monotonic()
    attachments.stop(2.0)
    assert time.monotonic() - before < 3
    boards[1].shows(b"DARK\n")
