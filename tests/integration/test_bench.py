"""The bench runs and counts right; how fast anything is, no test asks."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tests.bench.attached import Row, as_text
from tests.bench.idle_cost import IdleCost
from tests.integration.browser_page import needs_chromium

BENCH = Path(__file__).resolve().parent.parent / "bench"
ROWS = ["mutebridge run", "(a) C, same job", "(b) paho loop_start", "(c) aiomqtt", "bare imports + connect"]
BRIDGES = ROWS[:4]
TARGETS = 6
TIMEOUT_S = 110

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(shutil.which("cc") is None, reason="the bench's programs in C need a compiler"),
]


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(BENCH), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)


def test_a_quick_run_prints_every_row_and_each_press_became_one_command() -> None:
    done = bench("--quick", "--rounds", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {title: line for title in ROWS for line in done.stdout.splitlines() if line.startswith(title)}
    assert list(rows) == ROWS
    for title in BRIDGES:
        presses, commands = re.findall(r"(\d+)/(\d+)", rows[title].removeprefix(title))[0]
        assert presses == commands
        assert int(presses) > 0
        assert re.findall(r"\s-(?=\s|$)", rows[title]) == [], f"something was not measured: {rows[title]}"
    goals = done.stdout.partition("Targets\n")[2].splitlines()
    assert len(goals) == TARGETS
    assert not any("not measured" in goal for goal in goals), goals


@needs_chromium
def test_a_press_is_measured_beside_a_click_on_a_web_page() -> None:
    done = bench("--page", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    for way in ("a press on the desk", "a click on the page"):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(way)]
        assert len(re.findall(r"\d+\.\d", line)) == 4


def test_an_unknown_row_is_told_with_the_known_ones() -> None:
    done = bench("--rows", "daemon,cobol")
    assert done.returncode == 2
    assert "cobol: one of daemon, c, paho, aiomqtt, bare is allowed" in done.stderr


def test_what_attached_devices_cost_is_told_in_a_table() -> None:
    nothing = IdleCost(wake_ups_per_s=0.15, cpu_s_per_h=0.4, rss_mib=28.0, pss_mib=24.0, threads=3)
    more = msgspec.structs.replace(nothing, threads=9)
    table = as_text(
        [
            Row(title="no device", devices=0, idle=nothing, in_call=nothing),
            Row(title="three headsets", devices=3, idle=more, in_call=more),
        ]
    ).splitlines()
    assert table[3].split() == ["no", "device", "0", "0.150", "0.40", "0.15", "28.0", "24.0", "3"]
    assert table[-1] == "attached devices add 0.000 wake-ups/s at rest"
