"""What the service manager hears, on real sockets."""

import logging
import os
import select
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mutebridge.edges.service_manager import ServiceNotifier, notify_address, watchdog_interval_s

DEADLINE_S = 10


class Listener:
    """The other end: a bound datagram socket, as the service manager has it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(DEADLINE_S)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def hear(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    heard = Listener(str(tmp_path / "notify") if request.param == "path" else f"@mutebridge-test-{uuid.uuid4().hex}")
    yield heard
    heard.socket.close()


@pytest.fixture
def notifier(listener: Listener) -> Iterator[ServiceNotifier]:
    made = ServiceNotifier(listener.address)
    yield made
    made.close()


def test_each_message_is_one_datagram_in_the_words_of_sd_notify(listener: Listener, notifier: ServiceNotifier) -> None:
    notifier.ready("2 devices")
    assert listener.hear() == ["READY=1", "STATUS=2 devices"]
    notifier.status("broker lost")
    assert listener.hear() == ["STATUS=broker lost"]
    notifier.stopping()
    assert listener.hear() == ["STOPPING=1"]


def test_a_reload_is_stamped_with_the_monotonic_clock_in_microseconds(
    listener: Listener, notifier: ServiceNotifier
) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    first, second = listener.hear()
    assert first == "RELOADING=1"
    name, _, stamp = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(stamp) <= after


def test_a_sign_of_life_is_given_when_it_is_due_and_not_before(listener: Listener) -> None:
    notifier = ServiceNotifier(listener.address, watchdog_interval_s=0.2)
    assert notifier.watchdog_in_s() == 0
    began = time.monotonic()
    notifier.feed_watchdog()
    notifier.feed_watchdog()
    assert listener.hear() == ["WATCHDOG=1"]
    due_in_s = notifier.watchdog_in_s()
    assert due_in_s is not None
    assert 0 <= due_in_s <= 0.2
    while notifier.watchdog_in_s():
        assert not select.select([listener.socket], [], [], notifier.watchdog_in_s())[0]
    notifier.feed_watchdog()
    assert listener.hear() == ["WATCHDOG=1"]
    assert time.monotonic() - began >= 0.2
    notifier.close()


def test_unwatched_there_is_no_sign_of_life(listener: Listener, notifier: ServiceNotifier) -> None:
    assert notifier.watchdog_in_s() is None
    notifier.feed_watchdog()
    notifier.stopping()
    assert listener.hear() == ["STOPPING=1"]


def test_a_status_cannot_smuggle_in_another_assignment(listener: Listener, notifier: ServiceNotifier) -> None:
    notifier.status("lost\nREADY=1\r\nMAINPID=1")
    assert listener.hear() == ["STATUS=lost READY=1 MAINPID=1"]


def test_a_status_is_bounded(listener: Listener, notifier: ServiceNotifier) -> None:
    notifier.status("x" * 5000)
    (line,) = listener.hear()
    assert line == "STATUS=" + "x" * 200


def test_a_full_socket_holds_nobody_up_and_is_told_once(
    listener: Listener, notifier: ServiceNotifier, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    began = time.monotonic()
    for _ in range(2000):  # more than any queue of unread datagrams holds
        notifier.status("s")
    assert time.monotonic() - began < DEADLINE_S
    assert [r.message for r in caplog.records] == [
        f"cannot notify the service manager at {listener.address!r}: Resource temporarily unavailable"
    ]


def test_a_message_of_state_waits_a_bounded_time_for_room(listener: Listener, notifier: ServiceNotifier) -> None:
    for _ in range(2000):
        notifier.status("s")
    began = time.monotonic()
    notifier.ready()
    assert 0.5 < time.monotonic() - began < DEADLINE_S
    assert listener.hear() == ["STATUS=s"]


def test_a_missing_socket_is_told_once_and_again_after_it_was_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    notifier = ServiceNotifier(str(tmp_path / "notify"))
    notifier.status("a")
    notifier.status("b")
    assert len(caplog.records) == 1
    listener = Listener(str(tmp_path / "notify"))
    notifier.ready()
    assert listener.hear() == ["READY=1"]
    listener.socket.close()
    notifier.status("c")
    assert len(caplog.records) == 2
    notifier.close()


def test_without_a_service_manager_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    notifier = ServiceNotifier.from_environment({})
    notifier.ready("ready")
    notifier.reloading()
    notifier.status("s")
    notifier.feed_watchdog()
    notifier.stopping()
    notifier.close()
    notifier.close()
    assert notifier.watchdog_interval_s is None
    assert not caplog.records


def test_what_was_asked_is_read_once_and_not_passed_on(listener: Listener) -> None:
    environ = {
        "NOTIFY_SOCKET": listener.address,
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/root",
    }
    notifier = ServiceNotifier.from_environment(environ)
    assert notifier.watchdog_interval_s == 15
    assert environ == {"HOME": "/root"}
    notifier.ready()
    assert listener.hear() == ["READY=1"]
    notifier.close()
    notifier.ready()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "2000000"}, 1.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "7"}, 1.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_PID": "7"}, None),
    ],
)
def test_the_watchdog_is_fed_at_half_its_interval_by_the_process_it_is_meant_for(
    environ: dict[str, str], expected: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert watchdog_interval_s(environ, pid=7) == expected
    assert not caplog.records


@pytest.mark.parametrize("asked", ["0", "-1", "soon", "1e6", "²"])
def test_a_nonsensical_watchdog_is_named(asked: str, caplog: pytest.LogCaptureFixture) -> None:
    assert watchdog_interval_s({"WATCHDOG_USEC": asked}, pid=7) is None
    assert f"WATCHDOG_USEC={asked!r}" in caplog.text


@pytest.mark.parametrize("address", ["vsock:2:1234", "relative/path", "@", "/"])
def test_an_address_of_another_kind_is_named(address: str, caplog: pytest.LogCaptureFixture) -> None:
    assert notify_address({"NOTIFY_SOCKET": address}) is None
    assert f"NOTIFY_SOCKET={address!r}" in caplog.text


def test_a_child_process_is_heard_as_the_daemon_would_be(listener: Listener) -> None:
    script = (
        "import os; from mutebridge.edges.service_manager import ServiceNotifier as S; n = S.from_environment();"
        "n.ready(str(n.watchdog_interval_s) + str('NOTIFY_SOCKET' in os.environ))"
    )
    environ = {**os.environ, "NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": "4000000"}
    environ["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    subprocess.run([sys.executable, "-c", script], env=environ, check=True, timeout=60)
    assert listener.hear() == ["READY=1", "STATUS=2.0False"]
