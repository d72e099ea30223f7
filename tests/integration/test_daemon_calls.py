"""A press on a button mutes a connected call, and the lamp tells what the microphone does; all of it real."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.daemon_station import Station
from tests.integration.mosquitto import Mosquitto

pytestmark = pytest.mark.broker


@pytest.fixture
def station(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Station]:
    with Station(tmp_path, mosquitto.port) as made:
        yield made


def test_a_call_from_its_first_ring_to_its_end(station: Station) -> None:
    phone = station.softphone.phone
    phone.do("ring")
    station.onlooker.wait("device/button", lambda said: bool((said.get("lights") or {}).get("ring")))
    station.press()
    told = station.wait_event("ignored")
    assert (told.get("reason"), told.get("gesture")) == ("not_connected", "toggle")
    assert "the call is ringing" in told.get("detail")
    station.wait_lamp("REJECTED")
    assert not station.softphone.commands.all()

    phone.do("connect")
    station.wait_lamp("LIVE")
    pressed_at = station.press()
    lit = station.wait_lamp("MUTED")
    told = station.wait_event("confirmed")
    assert station.is_muted()
    assert told.get("muted") is True
    assert 0 < told.get("latency_ms") < (lit.at - pressed_at) * 1000 + 1000

    since, shown = station.onlooker.seen.mark(), station.button.lamp.mark()
    station.press()
    station.wait_lamp("LIVE")
    assert station.wait_event("confirmed", since=since).get("muted") is False
    assert station.is_muted() is False
    assert station.button.lamp.all(shown)[0].word == "UNKNOWN", "dark as soon as the unmute is sent"

    phone.hand(True)
    station.wait_lamp("MUTED")
    phone.do("end")
    station.wait_lamp("OFF")


def test_a_refusal_says_which_permission_is_missing(station: Station) -> None:
    station.connect()
    station.softphone.phone.scopes.remove("client:call:write")
    station.press()
    told = station.wait_event("rejected")
    assert told.get("reason") == "missing_scope"
    assert "ask the administrator" in told.get("detail")
    assert "client:call:write" in told.get("detail")
    station.wait_lamp("REJECTED")
    station.daemon.wait_log("missing_scope")
    assert station.is_muted() is False
    station.wait_lamp("LIVE")


def test_push_to_talk_is_live_while_held(tmp_path: Path, mosquitto: Mosquitto) -> None:
    station = Station(tmp_path, mosquitto.port)
    station.configure(station.button.config(press_mode="push_to_talk"))
    with station:
        station.connect_muted_by_hand()
        station.press("press")
        station.wait_lamp("LIVE")
        assert station.is_muted() is False
        station.press("release")
        station.wait_lamp("MUTED")
        assert station.is_muted() is True


def test_the_end_of_the_daemon_lets_go_of_a_button_that_is_held(tmp_path: Path, mosquitto: Mosquitto) -> None:
    station = Station(tmp_path, mosquitto.port)
    station.configure(station.button.config(press_mode="push_to_talk"))
    with station:
        station.connect_muted_by_hand()
        station.press("press")
        station.wait_lamp("LIVE")
        assert station.daemon.terminate() == 0
        assert station.softphone.acts.wait(lambda act: act.muted)
        assert station.is_muted() is True
