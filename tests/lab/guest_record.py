"""Recording a headset: a person in front of one, the program that asks, the file that says what happened."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.lab.guest.desk import Model
from tests.lab.guest.firmware import Identity
from tests.lab.guest.headset import VirtualHeadset
from tests.lab.guest.uhid import Uhid

from mutebridge import virtual_headset
from mutebridge.core.recording import Act, RecordedDevice, read_recording, replay
from mutebridge.core.recording_script import Script
from mutebridge.virtual_headset import PLAIN

REPOSITORY = Path(__file__).resolve().parents[2]
HOOK_ECHOING = msgspec.structs.replace(PLAIN, hook_echoes_s=0.5)
# What the person waits where the script asks for it, and between two presses.
WAIT_S, BETWEEN_S = 3.0, 0.5

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def headset() -> Iterator[tuple[VirtualHeadset, Model]]:
    model = Model(HOOK_ECHOING)
    wire = Uhid(Identity(vendor=0x1209, product=0x0E03, name="Phones", serial="REC"), virtual_headset.descriptor(PLAIN))
    with VirtualHeadset(wire, model) as plugged:
        yield plugged.plug(), model


def program(*arguments: str) -> "subprocess.Popen[str]":
    paths = (str(REPOSITORY / "daemon"), os.environ.get("PYTHONPATH"))
    return subprocess.Popen(
        [sys.executable, "-m", "mutebridge", "record", *arguments],
        env={**os.environ, "PYTHONPATH": ":".join(path for path in paths if path)},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def act(headset: VirtualHeadset, model: Model, what: Act) -> None:
    headset.act(model.press if what == "press" else model.press_hook)


def pause(seconds: float) -> None:
    """A person does nothing for so long."""
    threading.Event().wait(seconds)


def test_what_the_person_did_is_in_the_file(headset: tuple[VirtualHeadset, Model], tmp_path: Path) -> None:
    device = RecordedDevice.of("h", virtual_headset.descriptor(PLAIN))
    acts: list[tuple[Act, ...]] = []  # as they are asked for
    script = Script(device.protocol.can)
    while (step := script.step) is not None:
        acts.append(step.acts)
        script.done("")
    file = tmp_path / "it.rec"
    with program(headset[0].node, str(file)) as recorder:
        assert recorder.stdin is not None
        assert recorder.stderr is not None
        for asked in acts:
            assert "Then press Enter" in recorder.stderr.readline()
            pause(WAIT_S)
            for each in asked:
                act(*headset, each)
                pause(BETWEEN_S)
            pause(WAIT_S)
            recorder.stdin.write("\n")
        assert recorder.stderr.read() == f"Thank you. Phones is recorded in {file}.\n"
        assert recorder.wait(60) == 0
    recording = read_recording(file.read_bytes())
    assert (recording.device.name, recording.device.product_id) == ("Phones", "0e03")
    heard = replay(recording)
    assert [each.did.acts for each in heard] == acts
    assert all(each.agrees for each in heard)


def test_an_unplugged_headset_ends_it_and_so_does_another_program(
    headset: tuple[VirtualHeadset, Model], tmp_path: Path
) -> None:
    plugged, _ = headset
    node = plugged.node
    with program(node, str(tmp_path / "first.rec")) as first:
        assert first.stderr is not None
        assert "A call is connected" in first.stderr.readline()
        with program(node, str(tmp_path / "second.rec")) as second:
            assert second.stderr is not None
            assert f"in use by python3 ({first.pid})" in second.stderr.read().replace("python ", "python3 ")
            assert second.wait(60) == os.EX_TEMPFAIL
        plugged.unplug()
        assert "the recording ends early: " in first.stderr.read()
        assert first.wait(60) == os.EX_UNAVAILABLE
    assert len((tmp_path / "first.rec").read_bytes().splitlines()) > 1
    assert not (tmp_path / "second.rec").exists()


def test_ctrl_c_ends_it_with_the_lamps_dark(headset: tuple[VirtualHeadset, Model], tmp_path: Path) -> None:
    plugged, model = headset
    with program(plugged.node, str(tmp_path / "it.rec")) as recorder:
        assert recorder.stderr is not None
        recorder.stderr.readline()
        recorder.send_signal(signal.SIGINT)
        assert recorder.wait(60) == 130
    assert model.headset.lamps == 0
