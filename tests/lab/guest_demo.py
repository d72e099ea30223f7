"""The demo where the kernel lets it have a headset: the scripted call with both of its devices."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(240)


def test_the_headset_plays_its_part_and_every_light_tells_the_truth() -> None:
    subprocess.run(["modprobe", "uhid"], check=True)
    paths = (str(REPOSITORY / "daemon"), os.environ.get("PYTHONPATH"))
    done = subprocess.run(
        [sys.executable, "-m", "mutebridge", "demo", "--scripted", "--broker", "mosquitto"],
        env={**os.environ, "PYTHONPATH": ":".join(path for path in paths if path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bridge: virtual headset attached" in done.stdout
    chapters = dict(chapter.split("\n", 1) for chapter in done.stdout.split("          -- "))
    assert "headset: the mute light is on" in chapters["connected"], "also of what the button does"
    assert "press: virtual headset: unmute confirmed" in chapters["by the headset"]
    assert "press: virtual headset: mute confirmed" in chapters["by the headset"]
    assert "headset: the mute light is dark" in chapters["after the call"]
    assert "Every light told the truth." in done.stdout
