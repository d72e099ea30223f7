"""What the HID edge does where there is no HID device; with devices it is tested in the lab."""

import logging
import os
import time
from pathlib import Path

import pytest

from mutebridge.attached_device import DeviceError
from mutebridge.core.events import Device
from mutebridge.core.headset_profile import GENERIC
from mutebridge.core.headset_protocol import HeadsetProtocol
from mutebridge.core.lights import Lights, MicLight
from mutebridge.core.report_descriptor import parse
from mutebridge.core.telephony import Telephony
from mutebridge.edges.desktop_key import DesktopKey, event_nodes
from mutebridge.edges.headset import FLOOD_PAUSE_S, Headset, _Flood
from mutebridge.virtual_headset import descriptor

from .serial_board import DEADLINE_S, Ears

SAID = descriptor()
PROTOCOL = HeadsetProtocol(descriptor=SAID, telephony=Telephony.from_descriptor(parse(SAID), GENERIC), profile=GENERIC)


def headset(port: Path | str) -> Headset:
    return Headset(Device(id="phones", name="Phones", kind="hid"), str(port), PROTOCOL, Ears(), time.monotonic)


def wait_for_problem(found: Headset) -> str:
    deadline = time.monotonic() + DEADLINE_S
    while found.problem is None:
        assert time.monotonic() < deadline
        os.sched_yield()
    return found.problem


def test_a_node_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    found = headset(tmp_path / "hidraw0")
    found.start()
    assert wait_for_problem(found).endswith("hidraw0: not plugged in")
    assert found.absent
    found.show(Lights(mic=MicLight.MUTED))
    assert found.stop(DEADLINE_S)


@pytest.mark.parametrize("port", ["/dev/null", __file__], ids=["another device", "a file"])
def test_what_is_no_hid_device_is_said_once(port: str, caplog: pytest.LogCaptureFixture) -> None:
    found = headset(port)
    found.start()
    problem = wait_for_problem(found)
    assert problem.startswith(port)
    assert "not a HID device" in problem
    found.retry()
    found.retry()
    assert found.stop(DEADLINE_S)
    assert [record.levelno for record in caplog.records if port in record.getMessage()] == [logging.WARNING]


def test_a_flood_is_paused_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    flood = _Flood("Phones")
    taken, now, until = 0, 10.0, 15.0
    while now < until:
        if now >= flood.paused_until:
            flood.note_reports(64, now)
            taken += 64
        now += 0.001
    assert taken / 5.0 < 1400
    assert len(caplog.records) == 1


def test_what_a_headset_sends_at_its_fastest_is_no_flood() -> None:
    flood = _Flood("Phones")
    for turn in range(5000):
        flood.note_reports(1, turn * 0.002)
    assert flood.paused_until == float("-inf")
    assert FLOOD_PAUSE_S < 0.1


def test_nobody_presses_a_hundred_times_a_second() -> None:
    flood = _Flood("Phones")
    for turn in range(400):
        flood.note_events(1, turn * 0.02)
    with pytest.raises(DeviceError, match="not a button"):
        flood.note_events(101, 20.0)


def test_the_event_nodes_are_those_of_the_same_hid_device(tmp_path: Path) -> None:
    device = tmp_path / "sys/devices/hid"
    (tmp_path / "sys/class/hidraw/hidraw0").mkdir(parents=True)
    (tmp_path / "sys/class/hidraw/hidraw0/device").symlink_to(device)
    for name in ("input/input7/event3", "input/input8/event4", "input/input8/mouse0"):
        (device / name).mkdir(parents=True)
    assert event_nodes("/dev/hidraw0", tmp_path) == ["/dev/input/event3", "/dev/input/event4"]
    assert event_nodes("/dev/hidraw1", tmp_path) == []


def test_a_device_without_event_nodes_leaves_the_desktop_alone(tmp_path: Path) -> None:
    key = DesktopKey("/dev/hidraw0", root=tmp_path)
    key.open()
    key.keep(True)
    assert key.fds == ()
    key.close()
