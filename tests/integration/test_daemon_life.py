"""How the daemon starts, is told of a new configuration, and ends: seen from the broker and the lamp."""

import contextlib
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from tests.integration.daemon_process import Daemon
from tests.integration.daemon_softphone import Softphone
from tests.integration.daemon_station import Onlooker, Station
from tests.integration.mosquitto import Mosquitto, free_port
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as websocket_connect
from websockets.typing import Subprotocol

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


def _make_it_push_to_talk(station: Station) -> None:
    station.configure(station.button.config(press_mode="push_to_talk"))
    station.daemon.reload()
    station.onlooker.wait("device/button", lambda said: said.get("press_mode") == "push_to_talk")


def _connections_of_daemon(mosquitto: Mosquitto) -> int:
    return sum("New client connected" in line and " as mutebridge-desk " in line for line in list(mosquitto.log))


# --- a broker that it brings along -----------------------------------------------------------------------------------


def test_the_embedded_broker(tmp_path: Path) -> None:
    """Anyone on this machine may connect by TCP; through a WebSocket, as any web page can, only with the password."""
    port = free_port()
    station = Station(tmp_path, port)
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(_with_embedded_broker(station.config, tmp_path))
        places = daemon.wait_log("embedded broker: ").text
        websocket = re.search(r"ws://127\.0\.0\.1:(\d+)", places)
        assert f"mqtt://127.0.0.1:{port}," in places
        assert websocket is not None
        password_file = Path(places.rpartition(" is in ")[2])
        assert stat.S_IMODE(password_file.stat().st_mode) == 0o600
        url, password = f"ws://127.0.0.1:{websocket[1]}/", password_file.read_text().strip()
        assert _websocket_answer(url, None) == REFUSED
        assert _websocket_answer(url, "guessed") == REFUSED
        assert _websocket_answer(url, password) == ACCEPTED
        assert not [line for line in daemon.log.all() if password in line.text]

        phone = stack.enter_context(Softphone(port))
        station.wait_lamp("OFF")
        phone.connect()
        station.wait_lamp("LIVE")
        station.press()
        station.wait_lamp("MUTED")
        assert phone.phone.mic is True
        assert daemon.terminate() == 0
        station.wait_lamp("OFF")
        assert not password_file.exists()
    station.close()


def test_the_embedded_broker_does_not_take_a_port_from_another(station: Station) -> None:
    daemon = station.start_daemon("--embedded-broker")
    assert daemon.wait() == os.EX_UNAVAILABLE
    daemon.wait_log("listens already")


ACCEPTED, REFUSED = b"\x20\x02\x00\x00", b"\x20\x02\x00\x05"


def _with_embedded_broker(config: Path, runtime: Path) -> Daemon:
    """Start it; while another program has the WebSocket port, again and again."""
    for _ in range(20):
        daemon = Daemon(config, "--embedded-broker", environ={"RUNTIME_DIRECTORY": str(runtime)})
        said = daemon.log.wait(lambda line: "embedded broker" in line.text)
        if "needs 127.0.0.1:9001" not in said.text:
            break
        daemon.wait()
    return daemon


def _websocket_answer(url: str, password: str | None) -> bytes:
    """The CONNACK for user `mutebridge`, or for nobody."""

    def text(words: str) -> bytes:
        return struct.pack(">H", len(words)) + words.encode()

    flags = 0x02 if password is None else 0xC2
    rest = text("page") if password is None else text("page") + text("mutebridge") + text(password)
    body = text("MQTT") + bytes((4, flags, 0, 60)) + rest
    with websocket_connect(url, subprotocols=[Subprotocol("mqtt")], open_timeout=20) as websocket:
        websocket.send(bytes((0x10, len(body))) + body)
        answer = b""
        with contextlib.suppress(ConnectionClosed):
            while len(answer) < 4:
                answer += websocket.recv(timeout=20, decode=False)
        return answer
