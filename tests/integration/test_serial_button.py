"""A button on a real tty: what it says arrives, what it is to show is shown, and trouble stays its own."""

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mutebridge.core.button_protocol import SerialProtocol
from mutebridge.core.events import (
    DeviceAttached,
    DeviceDetached,
    Event,
    MutePressed,
    MuteReleased,
    MuteSwitched,
    MuteToggled,
    PressMode,
)
from mutebridge.core.lights import Lights, MicLight
from mutebridge.edges.serial_button import SerialButton

from .serial_board import DEADLINE_S, Board, Ears, a_device

MUTED, LIVE = Lights(mic=MicLight.MUTED), Lights(mic=MicLight.LIVE)
WORDS = {
    "press": "down",
    "release": "up",
    "toggle": "flip",
    "muted": "off",
    "live": "on",
    "send": {"muted": "MUTED", "live": "LIVE", "off": "DARK"},
    "settle_s": 0,
}

Opener = Callable[..., SerialButton]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path / "usb-ACME_Knob_42-if00")
    yield board
    board.unplug()


@pytest.fixture
def ears() -> Ears:
    return Ears()


@pytest.fixture
def open_button(board: Board, ears: Ears) -> Iterator[Opener]:
    opened: list[SerialButton] = []

    def make(
        port: Path | str | None = None, device_id: str = "desk", lights: Lights | None = None, **keys: Any
    ) -> SerialButton:
        protocol = msgspec.convert({**WORDS, **keys}, SerialProtocol)
        button = SerialButton(a_device(device_id), str(port or board.link), protocol, ears, time.monotonic)
        opened.append(button)
        if lights is not None:
            ears.react = lambda event: button.show(lights) if isinstance(event, DeviceAttached) else None
        button.start()
        return button

    yield make
    assert [button.device.id for button in opened if not button.stop(5)] == []


def test_presses_arrive(board: Board, ears: Ears, open_button: Opener) -> None:
    open_button()
    assert ears.next() == DeviceAttached(a_device())
    board.says(b"down\r\nup\r\nflip\noff\non\n")
    assert [ears.next() for _ in range(5)] == [
        MutePressed("desk"),
        MuteReleased("desk"),
        MuteToggled("desk"),
        MuteSwitched("desk", muted=True, baseline=True),
        MuteSwitched("desk", muted=False),
    ]


def test_chopped_lines_arrive_whole(board: Board, ears: Ears, open_button: Opener) -> None:
    open_button(toggle="flip")
    ears.wait_for(DeviceAttached)
    for byte in b"flip\nfl":
        board.says(bytes([byte]))
    assert ears.next() == MuteToggled("desk")
    board.says(b"ip\n")
    assert ears.next() == MuteToggled("desk")


def test_what_a_booting_board_says_is_no_press(board: Board, ears: Ears, open_button: Opener) -> None:
    board.says(b"down\nup\non\n")
    started = time.monotonic()
    open_button(settle_s=0.3)
    board.wait_until_open()
    board.says(b"flip\nboot fli")
    ears.wait_for(DeviceAttached)
    assert time.monotonic() - started >= 0.3
    board.says(b"off\n")
    assert ears.next() == MuteSwitched("desk", muted=True, baseline=True)


def test_a_line_cut_by_the_end_of_settling_is_no_word(board: Board, ears: Ears) -> None:
    """The tail of a word must not pass for another: the `on` of a boot message unmutes nobody."""
    protocol = msgspec.convert({**WORDS, "settle_s": 0.2}, SerialProtocol)
    attached = threading.Event()

    def talk() -> None:
        while not attached.wait(0.005):
            board.says(b"conditi")

    ears.react = lambda event: attached.set() if isinstance(event, DeviceAttached) else None
    talker = threading.Thread(target=talk)
    talker.start()
    button = SerialButton(a_device(), str(board.link), protocol, ears, time.monotonic)
    button.start()
    ears.wait_for(DeviceAttached)
    talker.join()
    board.says(b"on\nflip\n")
    assert ears.next() == MuteToggled("desk")
    assert button.stop(5)


def test_bounces_are_one_press_and_the_release_is_never_lost(board: Board, ears: Ears, open_button: Opener) -> None:
    open_button(debounce_ms=50)
    ears.wait_for(DeviceAttached)
    board.says(b"down\nup\ndown\nup\n")
    assert ears.next() == MutePressed("desk")
    assert ears.next() == MuteReleased("desk")
    assert ears.heard_nothing()


def test_the_light_is_written(board: Board, ears: Ears, open_button: Opener) -> None:
    button = open_button()
    ears.wait_for(DeviceAttached)
    button.show(MUTED)
    assert board.shows(b"MUTED\n") == b"MUTED\n"
    button.show(LIVE)
    assert board.shows(b"LIVE\n") == b"LIVE\n"


def test_a_lamp_that_takes_bytes(board: Board, ears: Ears, open_button: Opener) -> None:
    button = open_button(
        framing="bytes",
        toggle={"hex": "07"},
        send={"muted": {"hex": "41 ff0000 ff0000 ff0000 ff0000"}, "live": {"hex": "41 00"}},
    )
    ears.wait_for(DeviceAttached)
    board.says(b"\x00\x07")
    assert ears.next() == MuteToggled("desk")
    button.show(MUTED)
    assert board.shows(b"A" + b"\xff\0\0" * 4)


def test_the_light_is_repeated_where_the_board_needs_it(board: Board, ears: Ears, open_button: Opener) -> None:
    button = open_button(refresh_s=0.05)
    ears.wait_for(DeviceAttached)
    button.show(MUTED)
    assert set(board.shows(b"MUTED\n" * 3).split()) == {b"MUTED"}
    button.show(LIVE)
    board.shows(b"LIVE\n" * 3)


def test_lights_shown_to_a_closed_port_are_forgotten(board: Board, ears: Ears, open_button: Opener) -> None:
    """What was true before a device was there is not what is true when it is."""
    board.unplug()
    button = open_button()
    button.show(MUTED)
    board.plug()
    button.retry()
    ears.wait_for(DeviceAttached)
    button.show(LIVE)
    assert board.shows(b"LIVE\n") == b"LIVE\n"


def test_the_last_lights_are_written_before_closing(board: Board, ears: Ears, open_button: Opener) -> None:
    button = open_button()
    ears.wait_for(DeviceAttached)
    button.show(MUTED)
    assert button.stop(5)
    assert board.shows(b"DARK\n") == b"MUTED\nDARK\n"
    assert ears.next() == DeviceDetached("desk", "stopped")
    button.show(MUTED)
    assert board.is_silent()


def test_unplugged_just_when_it_is_to_stop(board: Board, ears: Ears, open_button: Opener) -> None:
    button = open_button(send={})
    ears.wait_for(DeviceAttached)

    def pull_the_plug(_event: Event) -> None:
        ears.react = lambda _: None
        board.unplug()
        button.ask_to_stop(5)

    ears.react = pull_the_plug
    board.says(b"flip\n")
    ears.wait_for(MuteToggled)
    lost = ears.wait_for(DeviceDetached)
    assert lost.reason.endswith(": unplugged")


# --- stuck -----------------------------------------------------------------------------------------------------------


def stuff(button: SerialButton) -> None:
    """Write to a board that does not read until its port takes nothing any more."""
    for turn in range(20_000):
        button.show(LIVE if turn % 2 else MUTED)


def test_a_port_that_takes_nothing_delays_nobody(board: Board, ears: Ears, open_button: Opener, tmp_path: Path) -> None:
    stuck = open_button()
    ears.wait_for(DeviceAttached)
    stuff(stuck)
    other_board = Board(tmp_path / "other")
    other = open_button(other_board.link, "other")
    ears.wait_for(DeviceAttached)
    started = time.monotonic()
    stuck.show(MUTED)
    other.show(MUTED)
    other_board.shows(b"MUTED\n")
    other_board.says(b"flip\n")
    assert ears.wait_for(MuteToggled).device_id == "other"
    board.says(b"flip\n")
    assert ears.wait_for(MuteToggled).device_id == "desk", "it still hears what it is told"
    assert time.monotonic() - started < 2
    assert stuck.stop(1.0)
    assert time.monotonic() - started < 3
    other_board.unplug()


def test_a_stuck_port_costs_no_cpu(board: Board, ears: Ears, open_button: Opener) -> None:
    button = open_button()
    ears.wait_for(DeviceAttached)
    stuff(button)
    before = time.process_time()
    assert not threading.Event().wait(0.5)
    assert time.process_time() - before < 0.1
    board.unplug()


def test_a_port_that_takes_again_shows_the_newest_light_and_no_torn_word(
    board: Board, ears: Ears, open_button: Opener
) -> None:
    button = open_button()
    ears.wait_for(DeviceAttached)
    stuff(button)
    button.show(Lights())
    written = board.shows(b"DARK\n")
    assert set(written.splitlines()) == {b"MUTED", b"LIVE", b"DARK"}
    assert written.endswith(b"DARK\n")
    assert len(written) < 50_000, "old lights are not queued"


# --- gone and back ---------------------------------------------------------------------------------------------------


def test_unplugged_and_plugged_in_again(board: Board, ears: Ears, open_button: Opener) -> None:
    button = open_button(lights=MUTED)
    ears.wait_for(DeviceAttached)
    board.shows(b"MUTED\n")
    for _ in range(3):
        board.unplug()
        assert "unplugged" in ears.wait_for(DeviceDetached).reason
        board.plug()
        button.retry()
        ears.wait_for(DeviceAttached)
        board.shows(b"MUTED\n")
        board.says(b"flip\n")
        assert ears.next() == MuteToggled("desk")


def test_half_a_word_from_before_the_unplug_is_forgotten(board: Board, ears: Ears, open_button: Opener) -> None:
    button = open_button()
    ears.wait_for(DeviceAttached)
    board.says(b"off\nfl")
    ears.wait_for(MuteSwitched)
    board.unplug()
    ears.wait_for(DeviceDetached)
    board.plug()
    button.retry()
    ears.wait_for(DeviceAttached)
    board.says(b"ip\non\n")
    assert ears.next() == MuteSwitched("desk", muted=False, baseline=True)


def test_lights_that_a_stuck_board_never_took_are_forgotten(board: Board, ears: Ears, open_button: Opener) -> None:
    button = open_button()
    ears.wait_for(DeviceAttached)
    stuff(button)
    board.unplug()
    ears.wait_for(DeviceDetached)
    board.plug()
    button.retry()
    ears.wait_for(DeviceAttached)
    button.show(Lights())
    assert board.shows(b"DARK\n") == b"DARK\n"


def test_a_loss_noticed_while_writing_is_told_from_the_buttons_own_thread(
    board: Board, ears: Ears, open_button: Opener
) -> None:
    """`show` is called by whoever decides; an event from within it would come in the middle of a decision."""
    button = open_button()
    ears.wait_for(DeviceAttached)
    threads: list[str] = []
    ears.react = lambda _event: threads.append(threading.current_thread().name)
    board.unplug()
    button.show(MUTED)
    ears.wait_for(DeviceDetached)
    assert threads == ["serial desk"]


def test_a_name_changes_without_closing_the_port(board: Board, ears: Ears, open_button: Opener) -> None:
    button = open_button()
    ears.wait_for(DeviceAttached)
    renamed = a_device(mode=PressMode.PUSH_TO_TALK)
    button.update(renamed)
    assert ears.next() == DeviceAttached(renamed)
    board.says(b"flip\n")
    assert ears.next() == MuteToggled("desk")


def test_a_press_mode_that_is_taken_back_while_the_port_opens(ears: Ears, open_button: Opener) -> None:
    button = open_button(settle_s=0.2)
    button.update(a_device(mode=PressMode.PUSH_TO_TALK))
    assert button.wanted == a_device(mode=PressMode.PUSH_TO_TALK), "or nobody would see that there is a change to undo"
    button.update(a_device())
    assert ears.next() == DeviceAttached(a_device())


def test_the_next_one_waits_until_the_port_is_free(
    board: Board, ears: Ears, open_button: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    first = open_button()
    ears.wait_for(DeviceAttached)
    protocol = msgspec.convert({"toggle": "T", "settle_s": 0}, SerialProtocol)
    second = SerialButton(a_device(), str(board.link), protocol, ears, time.monotonic)
    second.start(after=[first])
    # So that a thread that does not wait has every chance to be too early.
    assert not second.wait_stopped(0.1)
    first.ask_to_stop(2)
    assert [ears.next() for _ in range(2)] == [DeviceDetached("desk", "stopped"), DeviceAttached(a_device())]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert second.stop(5)


# --- what can be wrong with a port -----------------------------------------------------------------------------------


def wait_for_problem(button: SerialButton) -> str:
    deadline = time.monotonic() + DEADLINE_S
    while button.problem is None and time.monotonic() < deadline:
        os.sched_yield()
    assert button.problem is not None
    return button.problem


def test_a_port_that_is_not_there_is_no_error(
    tmp_path: Path, open_button: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    button = open_button(tmp_path / "nothing")
    assert "not plugged in" in wait_for_problem(button)
    assert button.absent
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_file_is_not_a_port(tmp_path: Path, open_button: Opener) -> None:
    (tmp_path / "file").write_text("x")
    assert "not a serial port" in wait_for_problem(open_button(tmp_path / "file"))


def test_a_device_that_is_no_terminal_is_not_a_port(open_button: Opener) -> None:
    assert "not a serial port" in wait_for_problem(open_button("/dev/null"))


def test_a_port_held_by_another_program_is_said_once_and_taken_when_it_is_free(
    board: Board, ears: Ears, open_button: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    holder = os.open(board.link, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    button = open_button()
    assert "another program" in wait_for_problem(button)
    for _ in range(5):
        button.retry()
    os.close(holder)
    button.retry()
    ears.wait_for(DeviceAttached)
    assert button.problem is None
    assert len([record for record in caplog.records if "another program" in record.getMessage()]) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take its own rights away")
def test_a_forbidden_port_says_how_to_get_the_right(board: Board, open_button: Opener) -> None:
    port = board.link.resolve()
    port.chmod(0)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        problem = wait_for_problem(open_button(port))
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert "permission denied" in problem
    assert "usermod -aG" in problem


def test_a_port_without_modem_lines_says_so(open_button: Opener) -> None:
    silent = {"press": None, "release": None, "toggle": None, "muted": None, "live": None}
    assert "no modem lines" in wait_for_problem(open_button(**silent, modem={"line": "cts"}))


def test_a_port_that_floods_is_given_up(board: Board, ears: Ears, open_button: Opener) -> None:
    button = open_button(framing="bytes", toggle="t", press=None, release=None, muted=None, live=None)
    ears.wait_for(DeviceAttached)
    stop = threading.Event()

    def flood() -> None:
        os.set_blocking(board.master, False)
        while not stop.is_set():
            try:
                board.says(b"t" * 512)
            except BlockingIOError:
                stop.wait(0.001)

    flooder = threading.Thread(target=flood)
    flooder.start()
    events: list[Event] = []
    while not events or not isinstance(events[-1], DeviceDetached):
        events.append(ears.next())
    stop.set()
    flooder.join()
    assert "presses a second" in events[-1].reason
    assert len(events) < 10_000
    assert button.stop(5)


def test_a_press_amid_noise_is_not_told_late(board: Board, ears: Ears, open_button: Opener) -> None:
    """What the kernel keeps of a board that never stops talking is read in time, in however many pieces."""
    button = open_button()
    ears.wait_for(DeviceAttached)
    delays: list[float] = []
    for _ in range(3):
        os.set_blocking(board.master, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                board.says(b"temperature 21.5\n")
        os.set_blocking(board.master, True)
        pressed_at = time.monotonic()
        board.says(b"\nflip\n")
        assert ears.next() == MuteToggled("desk")
        delays.append(time.monotonic() - pressed_at)
    assert min(delays) < 1
    assert button.stop(5)
