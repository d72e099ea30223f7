"""A device that misbehaves troubles nobody but itself."""

import random
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.daemon_station import Station
from tests.integration.mosquitto import Mosquitto

pytestmark = pytest.mark.broker

# What a person does not notice; a busy machine needs most of it.
AT_ONCE_S = 1.0
FLOOD_BYTES_PER_S = 100_000


@pytest.fixture
def station(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Station]:
    with Station(tmp_path, mosquitto.port) as made:
        yield made


def press_and_see(station: Station) -> float:
    """Press; return how long the lamp took to follow."""
    word = "MUTED" if station.is_muted() is False else "LIVE"
    pressed_at = station.press()
    return station.wait_lamp(word).at - pressed_at


def test_a_button_that_never_reads_is_stuck_alone(station: Station) -> None:
    deaf = station.make_button("deaf", deaf=True)
    station.configure(station.button.config(), deaf.config())
    station.daemon.reload()
    station.onlooker.wait("device/deaf", lambda said: bool(said.payload))
    station.connect()
    assert max(press_and_see(station) for _ in range(20)) < AT_ONCE_S
    deaf.press()
    station.wait_lamp("MUTED")
    deaf.press()
    station.wait_lamp("LIVE")
    asked_at = time.monotonic()
    assert station.daemon.terminate() == 0
    assert time.monotonic() - asked_at < 4
    assert station.wait_lamp("OFF").at - asked_at < AT_ONCE_S
    station.onlooker.wait("bridge/availability", lambda said: said.payload == "offline")


def test_plugged_in_again_during_a_muted_call(station: Station) -> None:
    station.connect_muted()
    since = station.onlooker.seen.mark()
    station.button.unplug()
    station.onlooker.wait("device/button", lambda said: not said.payload, since=since)
    assert station.is_muted() is True, "a lost device unmutes nobody"
    shown = station.button.lamp.mark()
    station.button.plug()
    station.button.lamp.wait(lambda lamp: lamp.word == "MUTED", since=shown)
    assert press_and_see(station) < AT_ONCE_S
    assert station.is_muted() is False


def test_lost_while_held_down(tmp_path: Path, mosquitto: Mosquitto) -> None:
    station = Station(tmp_path, mosquitto.port)
    station.configure(station.button.config(press_mode="push_to_talk"))
    with station:
        station.connect_muted_by_hand()
        station.press("press")
        station.wait_lamp("LIVE")
        station.button.unplug()
        station.softphone.acts.wait(lambda act: act.muted)
        station.button.plug()
        station.wait_lamp("MUTED")


def test_a_flood_of_garbage_delays_nobody(station: Station) -> None:
    mad = station.make_button("mad")
    station.configure(station.button.config(), mad.config())
    station.daemon.reload()
    station.onlooker.wait("device/mad", lambda said: bool(said.payload))
    station.connect()
    stop, flooded = threading.Event(), [0]

    def flood() -> None:
        noise = random.Random(1)
        while not stop.wait(0.01):
            flooded[0] += mad.says(noise.randbytes(FLOOD_BYTES_PER_S // 100))

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        delays: list[float] = []
        while len(delays) < 50 and not stop.wait(0.04):  # as fast as a hand, or a little faster
            delays.append(press_and_see(station))
    finally:
        stop.set()
        flooding.join()
    assert flooded[0] > 10_000, "else it was no flood"
    assert max(delays) < AT_ONCE_S
    said = mad.lamp.mark()
    mad.says(b"\n")
    muted = station.is_muted()
    deadline = time.monotonic() + 20
    while station.is_muted() is muted:  # what is left of the noise may swallow the first ones
        assert time.monotonic() < deadline
        mad.press()
        select.select([], [], [], 0.2)
    assert mad.lamp.all(said)
    assert station.daemon.logged("which means nothing here") == 1
