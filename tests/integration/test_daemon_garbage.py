"""Whatever is published to it, the daemon lives, lights no lamp for it, and does its work afterwards."""

import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.daemon_station import Station
from tests.integration.mosquitto import Mosquitto

pytestmark = pytest.mark.broker

LEAVES = [
    *(f"controller/phone/{leaf}" for leaf in ("availability", "call", "mic", "result", "command")),
    *(f"controller/stranger/{leaf}" for leaf in ("availability", "call", "mic", "result", "command", "more/levels")),
    "controller/Fünf Kerzen/call",
    "controller//mic",
    f"controller/{'x' * 300}/call",
    "bridge/availability",
    "bridge/event",
    "bridge/device/button",
    "bridge/device/stranger",
    "bridge/device/a %s {0}",
]
WORDS = [
    b"",
    b" ",
    b"connected",
    b"muted",
    b"unmuted",
    b"online",
    b"offline",
    b"ringing",
    b"null",
    b"true",
    b"0",
    b"[]",
]
VALUES: list[object] = [
    None,
    True,
    False,
    0,
    -1,
    7,
    2**53,
    2**53 + 1,
    2**64,
    1e308,
    0.5,
    "",
    "connected",
    "muted",
    "stale",
    "\x00\x1b[31m\n",
    "\U0001f399",
    "x" * 257,
    [],
    {"deep": {"deeper": []}},
]
KEYS = [
    "state",
    "muted",
    "call_id",
    "epoch",
    "seq",
    "at",
    "heartbeat_s",
    "request_id",
    "ok",
    "error",
    "detail",
    "extra",
]


def payload(chance: random.Random) -> bytes:
    """Something between a perfect message and noise."""
    kind = chance.randrange(6)
    if kind == 0:
        return chance.choice(WORDS)
    if kind == 1:
        return chance.randbytes(chance.choice([1, 3, 80, 5000, 70_000]))
    fields = {key: chance.choice(VALUES) for key in chance.sample(KEYS, chance.randrange(len(KEYS)))}
    likely = {
        "state": "connected",
        "muted": True,
        "request_id": "r",
        "ok": True,
        "call_id": "c",
        "epoch": "e",
        "seq": 1,
    }
    whole = json.dumps(likely | fields, ensure_ascii=chance.random() < 0.5).encode()
    if kind == 2:
        return whole[: chance.randrange(len(whole))]
    if kind == 3:
        at = chance.randrange(len(whole))
        return whole[:at] + chance.randbytes(2) + whole[at + 2 :]
    return whole


class Vandal:
    """A client of a few lines, which waits where the broker takes no more."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 20)
        self._socket.sendall(b"\x10\x12\x00\x04MQTT\x04\x02\x00\x00\x00\x06vandal")
        assert self._socket.recv(4, socket.MSG_WAITALL) == b"\x20\x02\x00\x00"

    def publish(self, topic: str, data: bytes, *, retain: bool) -> None:
        name = topic.encode()
        body = len(name).to_bytes(2, "big") + name + data
        size, rest = bytearray(), len(body)
        while rest > 127:
            size.append(rest % 128 | 128)
            rest //= 128
        self._socket.sendall(bytes([0x30 | retain, *size, rest]) + body)

    def wait_done(self) -> None:
        """Return once the broker has read it all."""
        self._socket.sendall(b"\xc0\x00")
        assert self._socket.recv(2, socket.MSG_WAITALL) == b"\xd0\x00"

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def station(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Station]:
    with Station(tmp_path, mosquitto.port) as made:
        yield made


@pytest.fixture
def vandal(mosquitto: Mosquitto) -> Iterator[Vandal]:
    made = Vandal(mosquitto.port)
    yield made
    made.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_random_messages(station: Station, vandal: Vandal, seed: int) -> None:
    chance = random.Random(seed)
    station.connect_muted()
    for number in range(1000):
        topic = f"{station.root}/{chance.choice(LEAVES)}"
        vandal.publish(topic, payload(chance), retain=chance.random() < 0.3)
        if number % 100 == 0:
            station.press()
            station.press("\x00garbage")
    check_it_lives(station, vandal)


def test_garbage_that_was_there_before_it_started(station: Station, vandal: Vandal) -> None:
    station.daemon.terminate()
    chance = random.Random(99)
    for _ in range(10):
        for leaf in LEAVES:
            vandal.publish(f"{station.root}/{leaf}", payload(chance), retain=True)
    vandal.wait_done()
    station.start_daemon()
    station.wait_up()
    station.softphone.connect()
    check_it_lives(station, vandal)


def check_it_lives(station: Station, vandal: Vandal) -> None:
    """The stranger goes; then a new call of the softphone is all that there is, and is told as ever.

    It starts anew, because who speaks in its name may have said that an epoch of its own follows that of the softphone.
    """
    for leaf in LEAVES:
        vandal.publish(f"{station.root}/{leaf}", b"", retain=True)
    vandal.wait_done()
    station.restart_softphone()
    station.wait_lamp("OFF")
    station.connect()
    station.press()
    station.wait_lamp("MUTED")
    assert station.is_muted() is True
    assert station.daemon.runs
    station.onlooker.wait("bridge/availability", lambda said: said.payload == "online")
    assert station.daemon.terminate() == 0
    lines = [line.text for line in station.daemon.log.all()]
    assert not [line for line in lines if line.startswith(("critical", "Traceback"))]
    assert len(lines) < 300, "once per change"
