"""The demo with a softphone page in a real browser."""

import queue
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.browser_page import EXECUTABLE, Chromium

from mutebridge.demo.page import broker_with_page
from mutebridge.demo.scene import Scene

DEADLINE_S = 60

needs_chromium = pytest.mark.skipif(EXECUTABLE is None, reason="needs chromium")


@pytest.fixture(autouse=True)
def _source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2] / "daemon"))


@pytest.fixture
def stage() -> Iterator[Scene]:
    with broker_with_page() as (broker, page), Scene(broker, page) as made:
        yield made


def demo(*args: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mutebridge", "demo", *args]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def test_the_scripted_call_prints_the_link() -> None:
    done = demo("--page")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"page: http://127\.0\.0\.1:\d+/pair/\S+ leads to it once\n", done.stdout)
    assert done.stdout.endswith("\nEvery light told the truth.\n")
    assert done.stderr == ""


def test_the_page_does_not_come_with_mosquitto() -> None:
    done = demo("--page", "--broker", "mosquitto")
    assert done.returncode == 69
    assert "leave out --broker" in done.stderr


@needs_chromium
def test_a_page_plays_along(stage: Scene) -> None:
    """The button mutes both softphones that are in a call; the light is on only when both are muted."""
    doors: queue.Queue[str] = queue.Queue()
    stage.on_moment = lambda moment: doors.put(moment.text) if moment.who == "page" else None
    assert stage.page is not None
    first = stage.page.door
    with Chromium() as chromium:
        tab = chromium.open(first)
        tab.wait_up()
        assert first not in doors.get(timeout=DEADLINE_S), "for another browser there is another address"
        tab.act("ring")
        tab.act("connect")
        tab.wait_mic("live")
        assert stage.wait_for(lambda: stage.truth.muted is False and stage.at_rest, DEADLINE_S)
        stage.press()
        tab.wait_mic("muted")
        assert stage.wait_for(lambda: stage.button_lit and stage.truth.muted is True, DEADLINE_S)
        stage.call("ring")
        stage.call("connect")
        assert stage.wait_for(lambda: not stage.button_lit and stage.truth.muted is False, DEADLINE_S)
        stage.call("end")
        assert stage.wait_for(lambda: stage.button_lit and stage.truth.muted is True, DEADLINE_S)
        tab.mute_by_hand()
        assert stage.wait_for(lambda: not stage.button_lit and stage.truth.muted is False, DEADLINE_S)
        tab.page.close()
        assert stage.wait_for(lambda: stage.truth.muted is None, DEADLINE_S)
    assert stage.lies() == []
