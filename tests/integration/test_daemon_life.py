"""How the daemon starts, is told of a new configuration, and ends: seen from the broker and the lamp."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from tests.integration.daemon_process import SOURCE, Daemon
from tests.integration.daemon_record import DEADLINE_S
from tests.integration.daemon_softphone import Softphone
from tests.integration.daemon_station import Onlooker, Station
from tests.integration.mosquitto import Mosquitto, free_port

from mutebridge.controller import paired_from_environment
from mutebridge.edges.local_broker import Listening, probe

pytestmark = pytest.mark.broker


@pytest.fixture
def station(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Station]:
    with Station(tmp_path, mosquitto.port) as made:
        yield made


# --- its end ---------------------------------------------------------------------------------------------------------


def test_sigterm_leaves_nothing_behind(station: Station, mosquitto: Mosquitto) -> None:
    station.connect_muted()
    assert station.daemon.terminate() == 0
    station.wait_lamp("OFF")
    with Onlooker(mosquitto.port, "late") as late:
        late.wait("bridge/availability", lambda said: said.payload == "offline" and said.retained)
        late.wait("phone/availability", lambda _: True)
        assert not [said for said in late.seen.all() if "/bridge/device/" in said.topic]
    assert station.is_muted() is True, "the end of the daemon unmutes nobody"
    assert not [line for line in station.daemon.log.all() if line.text.startswith(("error", "critical", "Traceback"))]


def test_killed_its_will_speaks_and_the_next_one_cleans_up(station: Station) -> None:
    other = station.make_button("other")
    station.configure(station.button.config(), other.config())
    station.daemon.reload()
    station.onlooker.wait("device/other", lambda said: bool(said.payload))
    station.connect_muted()
    station.daemon.kill()
    station.onlooker.wait("bridge/availability", lambda said: said.payload == "offline")

    other.unplug()
    since, shown = station.onlooker.seen.mark(), station.button.lamp.mark()
    station.start_daemon()
    station.onlooker.wait("bridge/availability", lambda said: said.payload == "online", since=since)
    station.onlooker.wait("device/other", lambda said: not said.payload, since=since)
    station.onlooker.wait("device/button", lambda said: bool(said.payload), since=since)
    station.wait_lamp("MUTED")
    assert station.button.lamp.all(shown)[0].word == "OFF"
    station.press()
    station.wait_lamp("LIVE")


def test_a_second_daemon_for_the_same_station(station: Station) -> None:
    """They take the connection from each other, until one of them says so and stops."""
    first, second = station.daemon, station.start_daemon()
    with ThreadPoolExecutor(2) as pool:
        ends = {pool.submit(daemon.wait, 60): daemon for daemon in (first, second)}
        (end,), _ = wait(ends, return_when=FIRST_COMPLETED)
        stopped, station.daemon = ends[end], second if ends[end] is first else first
        assert end.result() == os.EX_UNAVAILABLE
        stopped.wait_log("another instance runs for the same station")
        stopped.wait_log("Stop it, or give this one another station")
        station.connect_muted()
        assert station.daemon.terminate() == 0


# --- a new configuration ---------------------------------------------------------------------------------------------


def test_a_wrong_configuration_changes_nothing(station: Station) -> None:
    station.connect_muted()
    right = station.config.read_text()
    station.config.write_text(right.replace('"toggle"', '"togle"', 1))
    line = 1 + next(number for number, text in enumerate(station.config.read_text().splitlines()) if "togle" in text)
    station.daemon.reload()
    station.daemon.wait_log("the configuration is wrong; the old one stays in force")
    assert "togle" in station.daemon.wait_log(f"{station.config}:{line}:").text
    station.press()
    station.wait_lamp("LIVE")
    station.config.unlink()
    station.daemon.reload()
    station.daemon.wait_log(f"{station.config}: cannot be read: No such file")
    station.press()
    station.wait_lamp("MUTED")


def test_a_second_button_is_added_without_touching_the_rest(station: Station, mosquitto: Mosquitto) -> None:
    station.connect_muted()
    second = station.make_button("second")
    connections, shown = _connections_of_daemon(mosquitto), station.button.lamp.mark()
    station.configure(station.button.config(), second.config())
    station.daemon.reload()
    station.wait_lamp("MUTED", button=second)
    second.press()
    station.wait_lamp("LIVE", button=second)
    station.wait_lamp("LIVE")
    assert station.button.lamp.all(shown)[0].word == "UNKNOWN", "nothing was written to it until the press"
    assert station.daemon.logged(": open at") == 2
    assert _connections_of_daemon(mosquitto) == connections

    since = station.onlooker.seen.mark()
    station.configure(second.config())
    station.daemon.reload()
    station.wait_lamp("OFF")
    station.onlooker.wait("device/button", lambda said: not said.payload, since=since)
    second.press()
    station.wait_lamp("MUTED", button=second)
    assert _connections_of_daemon(mosquitto) == connections


def test_a_new_press_mode_holds_without_opening_anew(station: Station) -> None:
    station.connect_muted_by_hand()
    _make_it_push_to_talk(station)
    station.press("press")
    station.wait_lamp("LIVE")
    station.press("release")
    station.wait_lamp("MUTED")
    assert station.daemon.logged(": open at") == 1


def test_another_station_at_another_broker(station: Station, make_mosquitto: Callable[..., Mosquitto]) -> None:
    """It says goodbye at the old place, lets go of what is held there, and takes its buttons along."""
    there = make_mosquitto()
    station.connect_muted_by_hand()
    _make_it_push_to_talk(station)
    station.press("press")
    station.wait_lamp("LIVE")
    old = station.onlooker.seen.mark()
    with Softphone(there.port, station="elsewhere") as other, Onlooker(there.port) as onlooker:
        other.connect()
        station.configure(
            station.button.config(), station="elsewhere", broker={"host": "127.0.0.1", "port": there.port}
        )
        station.daemon.reload()
        station.softphone.acts.wait(lambda act: act.muted)
        station.onlooker.wait("desk/bridge/availability", lambda said: said.payload == "offline", since=old)
        station.onlooker.wait("desk/bridge/device/button", lambda said: not said.payload, since=old)
        onlooker.wait("elsewhere/bridge/availability", lambda said: said.payload == "online")
        onlooker.wait("elsewhere/bridge/device/button", lambda said: bool(said.payload))
        station.wait_lamp("LIVE")
        station.press()
        station.wait_lamp("MUTED")
        assert other.phone.mic is True
        assert station.daemon.logged(": open at") == 1
        assert station.daemon.terminate() == 0


def test_the_service_manager_hears_which_station_it_is(tmp_path: Path, mosquitto: Mosquitto) -> None:
    station = Station(tmp_path, mosquitto.port)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(DEADLINE_S)
        manager.bind(str(tmp_path / "notify"))
        with Daemon(station.config, environ={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as daemon:
            assert manager.recv(4096) == b"READY=1\nSTATUS=station desk"
            station.configure(station.button.config(), station="elsewhere")
            daemon.reload()
            assert manager.recv(4096).startswith(b"RELOADING=1\n")
            assert manager.recv(4096) == b"READY=1\nSTATUS=station elsewhere"
    station.close()


def _make_it_push_to_talk(station: Station) -> None:
    station.configure(station.button.config(press_mode="push_to_talk"))
    station.daemon.reload()
    station.onlooker.wait("device/button", lambda said: said.get("press_mode") == "push_to_talk")


def _connections_of_daemon(mosquitto: Mosquitto) -> int:
    return sum("New client connected" in line and " as mutebridge-desk " in line for line in list(mosquitto.log))


# --- a broker that it brings along -----------------------------------------------------------------------------------


def test_the_embedded_broker(tmp_path: Path) -> None:
    """A softphone that is paired while the daemon runs gets in at once; who is not, does not."""
    port, page_port = free_port(), free_port()
    station = Station(tmp_path, port)
    station.configure(station.button.config(), embedded_broker={"websocket_port": page_port})
    state = {"STATE_DIRECTORY": str(tmp_path / "state")}
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(Daemon(station.config, "--embedded-broker", environ=state))
        places = daemon.wait_log("embedded broker: ").text
        assert f"mqtt://127.0.0.1:{port}, ws://127.0.0.1:{page_port}, " in places
        assert probe("127.0.0.1", port) is Listening.CLOSED_BROKER
        assert probe("127.0.0.1", page_port) is not Listening.NOTHING
        station.wait_lamp("OFF")

        paired = paired_from_environment(_printed_environment(station.config, state))
        broker = paired.broker
        assert (broker.port, paired.station, paired.name) == (port, "desk", "phone")
        phone = stack.enter_context(Softphone(port, username=broker.username, password=broker.password))
        phone.connect()
        station.wait_lamp("LIVE")
        station.press()
        station.wait_lamp("MUTED")
        assert phone.phone.mic is True
        assert daemon.terminate() == 0
        station.wait_lamp("OFF")
        assert not [line for line in daemon.log.all() if str(broker.password) in line.text]
    station.close()


def _printed_environment(config: Path, environ: dict[str, str]) -> dict[str, str]:
    command = [sys.executable, "-m", "mutebridge", "pair", "--env", "--name", "phone", "--config", str(config)]
    done = subprocess.run(
        command,
        env={**os.environ, **environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_the_embedded_broker_does_not_take_a_port_from_another(station: Station) -> None:
    daemon = station.start_daemon("--embedded-broker")
    assert daemon.wait() == os.EX_UNAVAILABLE
    daemon.wait_log("listens already")
