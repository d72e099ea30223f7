"""The demo as a person starts it: with a pipe, in a terminal, beside somebody's broker, killed."""

import argparse
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path

import pyte
import pytest

from mutebridge import demo
from mutebridge.demo import scene, script
from mutebridge.demo.virtual_button import LIT, PROTOCOL
from mutebridge.edges import local_broker
from mutebridge.edges.local_broker import LocalBroker

DEADLINE_S = 60
ROWS, COLUMNS = 40, 140

pytestmark = pytest.mark.broker


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "mutebridge", "demo", *args]


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes import the project from its source, installed or not."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2] / "daemon"))


@pytest.fixture
def broker() -> Iterator[LocalBroker]:
    """Somebody's broker, which listens already."""
    with local_broker.bring_up(prefer_existing=False) as broker:
        yield broker


def piped(*args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*args), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


# --- the scripted call -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("which", ["mosquitto", "amqtt"])
def test_the_scripted_call_ends_well_with_all_that_it_must_show(which: str) -> None:
    done = piped("--broker", which)
    assert done.returncode == 0, done.stdout + done.stderr
    chapters = dict(chapter.split("\n", 1) for chapter in done.stdout.split("          -- "))
    assert "disconnected  -           dark   press: virtual button: press ignored, " in chapters["before the call"]
    assert "press ignored, not_connected: the call is ringing" in chapters["it rings"]
    assert "connected     muted       on     button: the light is on: muted" in chapters["connected"]
    assert "press: virtual button: mute confirmed after " in chapters["connected"]
    assert "connected     live        dark   button: the light is dark: live" in chapters["connected"]
    assert "unmute rejected, missing_scope: " in chapters["a permission is missing"]
    assert (
        "disconnected  -           dark   button: the light is dark: no call is connected" in chapters["after the call"]
    )
    *_, ended = [line for line in chapters["the daemon ends"].splitlines() if "bridge: " in line]
    assert "disconnected  -           dark   bridge: has ended, exit status 0" in ended
    assert done.stdout.endswith("\nEvery light told the truth.\n")
    assert which in done.stdout
    has_headset = "bridge: virtual headset attached" in done.stdout
    assert has_headset is ("by the headset" in chapters)
    assert has_headset is not ("headset: no virtual headset: " in done.stdout), "one line says why there is none"
    assert done.stderr == ""


@pytest.mark.usefixtures("source")
def test_a_light_that_lies_is_found_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lying = {**PROTOCOL, "send": {**PROTOCOL["send"], "live": LIT}}
    monkeypatch.setattr(scene, "PROTOCOL", lying)
    monkeypatch.setattr(script, "DEADLINE_S", 2.0)
    args = argparse.Namespace(scripted=True, broker="mosquitto", page=False, port=0)
    assert demo.main(args) == 1
    said = capsys.readouterr().out
    assert "virtual button: lit for" in said
    assert "at rest the microphone is live; the lights: virtual button on" in said
    assert "Every light told the truth" not in said


@pytest.mark.usefixtures("source")
def test_a_daemon_that_does_not_start_is_quoted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scene, "PROTOCOL", {"pres": "DOWN"})
    args = argparse.Namespace(scripted=True, broker="mosquitto", page=False, port=0)
    assert demo.main(args) == os.EX_UNAVAILABLE
    assert "pres" in capsys.readouterr().err


@pytest.mark.usefixtures("source")
def test_a_reader_that_goes_away_ends_it_without_a_fuss() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(command("--broker", "mosquitto"), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as demo_:
        assert demo_.stdout is not None
        assert demo_.stderr is not None
        demo_.stdout.readline()
        demo_.stdout.close()
        assert demo_.stderr.read() == ""
        assert demo_.wait(DEADLINE_S) == 128 + signal.SIGPIPE


# --- beside somebody's broker ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("source")
def test_it_uses_a_broker_that_listens_and_leaves_nothing_behind(broker: LocalBroker) -> None:
    address = ["-h", broker.host, "-p", str(broker.port)]
    subprocess.run(["mosquitto_pub", *address, "-t", "last", "-m", "nothing", "-r"], check=True, timeout=DEADLINE_S)
    done = piped("--port", str(broker.port))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"already listens, at {broker.host}:{broker.port}" in done.stdout
    # Retained messages come in the order of the subscriptions.
    left = subprocess.run(
        ["mosquitto_sub", *address, "-t", "mutebridge/#", "-t", "last", "-C", "1", "-v"],
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_S,
    )
    assert left.stdout == "last nothing\n"


@pytest.mark.usefixtures("source")
def test_the_daemon_ends_with_a_demo_that_is_killed(broker: LocalBroker, tmp_path: Path) -> None:
    with Terminal(command("--port", str(broker.port)), tmp_path) as terminal:
        terminal.until(lambda screen: "virtual button attached" in screen)
    topic = "mutebridge/v1/+/bridge/availability"
    listening = ["mosquitto_sub", "-h", broker.host, "-p", str(broker.port), "-t", topic]
    with subprocess.Popen(listening, stdout=subprocess.PIPE, text=True) as listener:
        assert listener.stdout is not None
        assert "offline\n" in listener.stdout  # reads on until it comes; the test's own time limit ends it otherwise
        listener.terminate()


# --- in a terminal ---------------------------------------------------------------------------------------------------


class Terminal:
    """A terminal in which a program runs; what it leaves when it is killed is left in `home`."""

    def __init__(self, args: list[str], home: Path) -> None:
        self.board, line = pty.openpty()
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self.resize(COLUMNS)
        self.settings = termios.tcgetattr(self.board)
        self._stream = pyte.ByteStream(self._screen)
        self._all = b""
        env = {**os.environ, "TERM": "xterm-256color", "HOME": str(home), "TMPDIR": str(home)}
        self.process = subprocess.Popen(args, stdin=line, stdout=line, stderr=line, env=env, start_new_session=True)
        os.close(line)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.board)

    def resize(self, columns: int) -> None:
        ioctl(self.board, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        self._screen.resize(ROWS, columns)

    def type(self, keys: str) -> None:
        os.write(self.board, keys.encode())

    def until(self, shows: Callable[[str], bool]) -> None:
        """Read on until the screen shows it."""
        while not shows(screen := "\n".join(self._screen.display)):
            assert self._read(), f"it ended, showing\n{screen}"

    def rest(self) -> str:
        """All that was written, up to the end of the program."""
        while self._read():
            pass
        self.process.wait(DEADLINE_S)
        return self._all.decode(errors="replace")

    def _read(self) -> bytes:
        readable, _, _ = select.select([self.board], [], [], DEADLINE_S)
        assert readable, "it shows only\n" + "\n".join(self._screen.display)
        try:
            data = os.read(self.board, 65536)
        except OSError:  # nobody has the other end any more
            return b""
        self._all += data
        self._stream.feed(data)
        return data


def facts(screen: str) -> dict[str, str]:
    """The row of facts below the title, by their heads."""
    heads, values = ([cell.strip() for cell in screen.split("\n")[row].split("│")[1:-1]] for row in (2, 4))
    return dict(zip(heads, values, strict=False))


@pytest.mark.usefixtures("source")
def test_keys_play_the_person(tmp_path: Path) -> None:
    with Terminal(command("--broker", "mosquitto"), tmp_path) as terminal:
        terminal.until(lambda screen: "virtual button attached" in screen)
        terminal.type("r")
        terminal.until(lambda screen: "mic off, ring" in screen)
        terminal.type(" ")
        terminal.until(lambda screen: "press ignored, not_connected: the call is ringing" in screen)
        terminal.type("c")
        terminal.until(lambda screen: "mic live" in screen and facts(screen)["microphone"] == "live")
        terminal.type(" ")
        terminal.until(lambda screen: facts(screen)["virtual light"] == "● on" and "mute confirmed after" in screen)
        terminal.type("h")
        terminal.until(lambda screen: "off_hook, hold" in screen and facts(screen)["virtual light"] == "○ off")
        terminal.type("h")
        terminal.until(lambda screen: facts(screen)["virtual light"] == "● on")
        terminal.type("s ")
        terminal.until(lambda screen: "unmute rejected, missing_scope" in screen and "lacks the scope" in screen)
        terminal.type("sm")
        terminal.until(lambda screen: facts(screen)["virtual light"] == "○ live")
        terminal.type("ee")
        terminal.until(lambda screen: "cannot end while disconnected" in screen)
        terminal.until(lambda screen: facts(screen)["virtual light"] == "○ off")
        terminal.type("q")
        said = terminal.rest()
        assert "every light told the truth" in said
        assert terminal.process.returncode == 0
        assert termios.tcgetattr(terminal.board) == terminal.settings
        assert said.rindex("\x1b[?1049l") > said.rindex("\x1b[?1049h")  # back on the normal screen


@pytest.mark.usefixtures("source")
def test_a_key_opens_the_page_in_the_persons_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    os.mkfifo(opened)
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    with Terminal(command("--page"), tmp_path) as terminal:
        terminal.until(lambda screen: "virtual button attached" in screen and "o page" in screen)
        terminal.type("o")
        address = opened.read_text().strip()
        assert "/pair/" in address
        terminal.until(lambda screen: f"{address} leads to it once" in screen)
        terminal.type("q")
        terminal.rest()
        assert terminal.process.returncode == 0


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with Terminal(command("--broker", "mosquitto"), tmp_path) as terminal:
        terminal.until(lambda screen: "virtual button attached" in screen)
        terminal.process.send_signal(number)
        assert "every light told the truth" in terminal.rest()
        assert terminal.process.returncode == 0
        assert termios.tcgetattr(terminal.board) == terminal.settings


@pytest.mark.usefixtures("source")
def test_another_size_of_the_terminal_is_drawn_anew(tmp_path: Path) -> None:
    with Terminal(command("--broker", "mosquitto"), tmp_path) as terminal:
        terminal.until(lambda screen: "virtual button attached" in screen)
        terminal.resize(100)
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.until(lambda screen: len(screen.splitlines()[1].rstrip()) == 100)
        terminal.type("q")
        terminal.rest()
        assert terminal.process.returncode == 0
