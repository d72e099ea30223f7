"""What a broken broker or network does to a workstation: nothing acts late, no lamp lies, all heals by itself.

Real time has to pass here, up to twenty seconds. So the long ones all run at once, each with a broker of its own, and
each test waits for its own.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.integration.daemon_record import DEADLINE_S
from tests.integration.daemon_station import DARK, Station
from tests.integration.mosquitto import Mosquitto
from tests.integration.proxy import Proxy, Way

pytestmark = pytest.mark.broker

HEARTBEATS_GOOD_FOR_S = 12.5
# What a busy machine may add to a bound.
SLACK_S = 1.5

Scene = Callable[[Path, Mosquitto], None]
_SCENES: dict[str, Scene] = {}


def at_once(scene: Scene) -> Callable[..., None]:
    """Play it beside all others of its kind."""
    _SCENES[scene.__name__] = scene

    def test(scenes: dict[str, Future[None]]) -> None:
        scenes[scene.__name__].result(timeout=90)

    test.__doc__ = scene.__doc__
    return test


@pytest.fixture(scope="module")
def scenes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """Those that this run asks for, under way."""
    wanted = [item.originalname for item in request.session.items if isinstance(item, pytest.Function)]

    def play(name: str, directory: Path) -> None:
        with Mosquitto(directory) as mosquitto:
            _SCENES[name](directory, mosquitto)

    with ThreadPoolExecutor(len(_SCENES)) as pool:
        yield {name: pool.submit(play, name, tmp_path_factory.mktemp("scene")) for name in _SCENES if name in wanted}


def wait_until(moment: float) -> None:
    """Let real time pass: the length of a freeze is what is tested."""
    time.sleep(max(0.0, moment - time.monotonic()))


def check_it_works_again(station: Station) -> None:
    """A press mutes and unmutes, as ever; while everybody reconnects, a person has to press again."""
    deadline = time.monotonic() + DEADLINE_S
    for _ in range(2):
        muted, what = station.is_muted(), ""
        while what != "confirmed":
            assert time.monotonic() < deadline, what
            station.onlooker.wait_up()
            since = station.onlooker.seen.mark()
            station.press()
            what = station.wait_outcome(since=since)
        assert station.is_muted() is not muted
        station.wait_lamp("LIVE" if muted else "MUTED")


# --- a broker that is frozen -----------------------------------------------------------------------------------------


@at_once
def test_frozen_for_6_s_nothing_acts_late(directory: Path, mosquitto: Mosquitto) -> None:
    with Station(directory / "desk", mosquitto.port, heartbeat_s=60) as station:
        station.connect()
        mosquitto.freeze()
        frozen_at = time.monotonic()
        presses = [station.press()]
        station.button.lamp.wait(lambda shown: shown.word == "OFF", timeout_s=5)
        presses.append(station.press())
        station.wait_lamp("REJECTED")
        wait_until(frozen_at + 6)
        since = station.daemon.log.mark()
        mosquitto.thaw()
        station.wait_up(since=since)
        station.wait_lamp("LIVE")
        assert not station.softphone.acts.all()
        assert station.is_muted() is False
        check_it_works_again(station)
        assert station.daemon.runs


@at_once
def test_frozen_for_6_s_with_heartbeats(directory: Path, mosquitto: Mosquitto) -> None:
    """Daemon and softphone both lose their connection, at whatever moment, and presses come at all of them."""
    with Station(directory / "desk", mosquitto.port, heartbeat_s=1) as station:
        station.connect_muted()
        presses = [act.at for act in station.softphone.acts.all()]
        mosquitto.freeze()
        frozen_at = time.monotonic()
        for number in range(12):
            wait_until(frozen_at + number / 2)
            presses.append(station.press())
        wait_until(frozen_at + 6)
        mosquitto.thaw()
        station.wait_lamp("MUTED", "LIVE")
        station.onlooker.wait("phone/mic", lambda said: said.at > frozen_at + 6)
        station.wait_lamp("MUTED" if station.is_muted() else "LIVE")
        station.check_nothing_acted_late(presses)
        check_it_works_again(station)


@at_once
def test_frozen_for_20_s_in_a_muted_call(directory: Path, mosquitto: Mosquitto) -> None:
    """Dark by two and a half heartbeats; the truth again after it, without a restart."""
    with Station(directory / "desk", mosquitto.port) as station:
        station.connect_muted()
        mosquitto.freeze()
        frozen_at = time.monotonic()
        dark = station.wait_lamp(*DARK, timeout_s=HEARTBEATS_GOOD_FOR_S + SLACK_S)
        assert dark.at - frozen_at <= HEARTBEATS_GOOD_FOR_S + SLACK_S
        station.softphone.phone.hand(False)
        wait_until(frozen_at + 20)
        assert not [shown for shown in station.button.lamp.all() if shown.at > dark.at and shown.word == "MUTED"]
        station.softphone.phone.hand(True)
        mosquitto.thaw()
        station.wait_lamp("MUTED")
        check_it_works_again(station)


@at_once
def test_the_daemon_ends_in_time_while_the_broker_is_frozen(directory: Path, mosquitto: Mosquitto) -> None:
    with Station(directory / "desk", mosquitto.port) as station:
        station.connect_muted()
        mosquitto.freeze()
        asked_at = time.monotonic()
        assert station.daemon.terminate(timeout_s=10) == 0
        assert time.monotonic() - asked_at < 5
        off = station.wait_lamp("OFF")
        assert off.at - asked_at < SLACK_S, "dark first, whatever the broker does"
        mosquitto.thaw()
        station.onlooker.wait("bridge/availability", lambda said: said.payload == "offline")


# --- a broker that is gone -------------------------------------------------------------------------------------------


@at_once
def test_killed_and_started_again(directory: Path, mosquitto: Mosquitto) -> None:
    with Station(directory / "desk", mosquitto.port) as station:
        station.connect_muted()
        killed_at = time.monotonic()
        mosquitto.kill()
        assert station.wait_lamp("OFF").at - killed_at < SLACK_S
        presses = [act.at for act in station.softphone.acts.all()] + [station.press()]
        station.wait_lamp("REJECTED")
        mosquitto.start()
        station.wait_lamp("MUTED")
        station.check_nothing_acted_late(presses)
        assert station.is_muted() is True
        check_it_works_again(station)
        assert station.daemon.logged("trying again") <= 2, "said once per change"


# --- a network that fails --------------------------------------------------------------------------------------------


@at_once
def test_cut_in_the_middle_of_a_message(directory: Path, mosquitto: Mosquitto) -> None:
    with Proxy(mosquitto.port) as proxy, Station(directory, mosquitto.port, daemon_port=proxy.port) as station:
        station.connect_muted()
        since = station.daemon.log.mark()
        proxy.cut_after(20, Way.DOWN)
        station.softphone.phone.hand(False)
        station.wait_up(since=since)
        station.wait_lamp("LIVE")
        check_it_works_again(station)


@at_once
def test_cut_in_the_middle_of_a_command(directory: Path, mosquitto: Mosquitto) -> None:
    """It is lost; back within the second, the daemon sends the mute once more, as it does with every unanswered one."""
    with Proxy(mosquitto.port) as proxy, Station(directory, mosquitto.port, daemon_port=proxy.port) as station:
        station.connect()
        since = station.daemon.log.mark()
        proxy.cut_after(20, Way.UP)
        pressed_at = station.press()
        station.wait_up(since=since)
        station.wait_lamp("MUTED")
        station.check_nothing_acted_late([pressed_at])


@at_once
def test_cut_in_the_middle_of_an_unmute(directory: Path, mosquitto: Mosquitto) -> None:
    """It is lost and never sent again: dark for as long as it may still arrive, then the truth."""
    with Proxy(mosquitto.port) as proxy, Station(directory, mosquitto.port, daemon_port=proxy.port) as station:
        station.connect_muted()
        acts, since = station.softphone.acts.all(), station.daemon.log.mark()
        proxy.cut_after(20, Way.UP)
        pressed_at = station.press()
        assert station.wait_lamp(*DARK).at - pressed_at < SLACK_S
        station.wait_up(since=since)
        assert station.wait_lamp("MUTED").at - pressed_at >= 2
        assert station.softphone.acts.all() == acts
        assert station.is_muted() is True


@at_once
def test_silent_after_it_accepted(directory: Path, mosquitto: Mosquitto) -> None:
    """What listens there now says nothing: told, tried again, healed; the lamp is dark all the while."""
    with Proxy(mosquitto.port) as proxy, Station(directory, mosquitto.port, daemon_port=proxy.port) as station:
        station.connect_muted()
        proxy.mute()
        accepted = proxy.accepted
        proxy.cut()
        station.wait_lamp("OFF")
        station.daemon.wait_log("accepts the connection but has not answered for 3 s")
        proxy.wait_for_accepted(accepted + 2)
        station.press()
        station.wait_lamp("REJECTED")
        proxy.unmute()
        station.wait_lamp("MUTED")
        assert [act.muted for act in station.softphone.acts.all()] == [True]
        check_it_works_again(station)


@at_once
def test_half_open_with_a_press(directory: Path, mosquitto: Mosquitto) -> None:
    """Its command times out after two seconds; three seconds after telling so it is clear that nobody listens."""
    with Proxy(mosquitto.port) as proxy, Station(directory, mosquitto.port, daemon_port=proxy.port) as station:
        station.connect_muted()
        acts = station.softphone.acts.all()
        proxy.freeze()
        pressed_at = station.press()
        unlit = station.wait_lamp(*DARK)
        assert unlit.at - pressed_at < SLACK_S, "dark as soon as an unmute may be under way"
        lost = station.wait_lamp("OFF")
        assert lost.at - pressed_at < 2 + 3 + SLACK_S
        since = station.softphone.results.mark()
        proxy.thaw()
        refused = station.softphone.results.wait(lambda said: not said.get("ok"), since=since)
        assert refused.get("error") == "expired"
        station.wait_lamp("MUTED")
        assert station.softphone.acts.all() == acts
        assert station.is_muted() is True
        check_it_works_again(station)


@at_once
def test_half_open_in_a_muted_call(directory: Path, mosquitto: Mosquitto) -> None:
    """Nothing comes and nobody presses: dark by two and a half heartbeats."""
    with Proxy(mosquitto.port) as proxy, Station(directory, mosquitto.port, daemon_port=proxy.port) as station:
        station.connect_muted()
        proxy.lose(Way.DOWN)
        lost_at = time.monotonic()
        station.softphone.phone.hand(False)
        dark = station.wait_lamp(*DARK)
        assert dark.at - lost_at <= HEARTBEATS_GOOD_FOR_S + SLACK_S
        proxy.find(Way.DOWN)
        station.wait_lamp("LIVE")
        check_it_works_again(station)


@at_once
def test_a_softphone_that_is_cut_off(directory: Path, mosquitto: Mosquitto) -> None:
    """Its will is late where its connection is only dead: the missing heartbeats make the lamp dark."""
    with Proxy(mosquitto.port) as proxy, Station(directory, proxy.port, daemon_port=mosquitto.port) as station:
        station.connect_muted()
        proxy.freeze()
        frozen_at = time.monotonic()
        station.softphone.phone.hand(False)
        dark = station.wait_lamp(*DARK)
        assert dark.at - frozen_at <= HEARTBEATS_GOOD_FOR_S + SLACK_S
        proxy.thaw()
        station.wait_lamp("LIVE")
        check_it_works_again(station)
