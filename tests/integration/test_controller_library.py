"""SessionController against a real broker, with mosquitto's own clients in the bridge's place."""

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.integration.controller_desk import DEADLINE_S, Bridge, Desk, P
from tests.integration.mosquitto import Mosquitto

from mutebridge.controller import BrokerSettings, CallState, CommandError, Refused, SessionController

pytestmark = pytest.mark.broker
C = f"{P}/controller/phone"


@pytest.fixture
def desk(mosquitto: Mosquitto) -> Iterator[Desk]:
    with Desk(mosquitto) as desk:
        yield desk


@pytest.fixture
def bridge(desk: Desk) -> Bridge:
    return Bridge(desk, "phone")


class Phone:
    """A softphone whose set_mute does what the test says; by default it obeys from inside."""

    def __init__(self, port: int, *, retry_s: float = 0.05, **settings: Any) -> None:
        self.asked: queue.Queue[bool] = queue.Queue()
        self.controller = SessionController(
            "Desk",
            "phone",
            set_mute=self._set_mute,
            broker=BrokerSettings(host="127.0.0.1", port=port, retry_first_s=retry_s, retry_max_s=retry_s),
            **settings,
        )
        self.obey: Callable[[bool], None] = self.controller.mic_changed

    def _set_mute(self, muted: bool) -> None:
        self.asked.put(muted)
        self.obey(muted)


@pytest.fixture
def phone(desk: Desk, bridge: Bridge) -> Iterator[Phone]:
    """In a connected call, unmuted, and heard to be so."""
    phone = Phone(desk.broker.port)
    phone.controller.call_changed("connected", "c1")
    phone.controller.mic_changed(False)
    with phone.controller:
        bridge.hear("availability")
        yield phone


def test_at_connect_it_says_mic_then_call_then_online_retained_at_qos_1(desk: Desk) -> None:
    phone = Phone(desk.broker.port)
    phone.controller.call_changed(CallState.CONNECTED)
    phone.controller.mic_changed(True)
    with phone.controller:
        mic, call, online = (desk.hear_next() for _ in range(3))
    assert [m.topic for m in (mic, call, online)] == [f"{C}/mic", f"{C}/call", f"{C}/availability"]
    assert all(m.qos == 1 and m.retain for m in (mic, call, online))
    assert (call["state"], call["heartbeat_s"], mic["muted"], online.payload) == ("connected", 5, True, "online")
    assert mic["call_id"] == call["call_id"]
    assert mic["epoch"] == call["epoch"]
    assert desk.hear("availability").payload == "offline"


def test_each_start_has_an_epoch_of_its_own(desk: Desk) -> None:
    epochs = set()
    for _ in range(2):
        with Phone(desk.broker.port).controller:
            epochs.add(desk.hear("call")["epoch"])
            desk.hear("availability", lambda m: m.payload == "online")
    assert len(epochs) == 2


def test_a_press_mutes_and_unmutes(bridge: Bridge, phone: Phone) -> None:
    for muted in (True, False):
        request_id = bridge.command(muted=muted)
        mic = bridge.hear_mic(muted)
        assert mic["request_id"] == request_id
        result = bridge.hear_result(request_id)
        assert (result.data, result.retain, result.qos) == ({"request_id": request_id, "ok": True}, False, 1)
    assert [phone.asked.get_nowait(), phone.asked.get_nowait()] == [True, False]


def test_the_microphone_may_answer_later_from_another_thread(bridge: Bridge, phone: Phone) -> None:
    returned = threading.Event()

    def later(muted: bool) -> None:
        def answer() -> None:
            returned.wait(DEADLINE_S)
            phone.controller.mic_changed(muted)

        threading.Thread(target=answer).start()

    phone.obey = later
    request_id = bridge.command(muted=True)
    assert phone.asked.get(timeout=DEADLINE_S) is True
    returned.set()
    assert bridge.hear_mic(True)["request_id"] == request_id
    assert bridge.hear_result(request_id)["ok"] is True


def test_a_refusal_reaches_the_person_and_the_next_press_works(bridge: Bridge, phone: Phone) -> None:
    def refuse(_muted: bool) -> None:
        raise Refused(CommandError.MISSING_SCOPE, "grant client:call:write")

    obey, phone.obey = phone.obey, refuse
    result = bridge.hear_result(bridge.command(muted=True))
    assert (result["ok"], result["error"], result["detail"]) == (False, "missing_scope", "grant client:call:write")
    phone.obey = obey
    assert bridge.hear_result(bridge.command(muted=True))["ok"] is True


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), SystemExit(1), KeyboardInterrupt()])
def test_a_callback_that_raises_fails_its_own_command_only(
    bridge: Bridge, phone: Phone, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(_muted: bool) -> None:
        raise error

    obey, phone.obey = phone.obey, crash
    result = bridge.hear_result(bridge.command(muted=True))
    assert (result["error"], type(error).__name__ in result["detail"]) == ("failed", True)
    assert "callback for set_mute raised" in caplog.text
    phone.obey = obey
    assert bridge.hear_result(bridge.command(muted=True))["ok"] is True


def test_a_refusal_without_detail_still_says_something() -> None:
    for error in CommandError:
        assert Refused(error).detail


def test_a_callback_that_hangs_stops_nothing_else(desk: Desk, bridge: Bridge) -> None:
    phone = Phone(desk.broker.port, heartbeat_s=0.2)
    hang = threading.Event()
    phone.obey = lambda _muted: [hang.wait()].clear()
    with phone.controller:
        phone.controller.call_changed("connected")
        phone.controller.mic_changed(False)
        bridge.hear_mic(False)
        request_id = bridge.command(muted=True)
        assert phone.asked.get(timeout=DEADLINE_S) is True
        beats = [bridge.hear_mic(False) for _ in range(3)]
        assert len({beat["seq"] for beat in beats}) == 3
        assert bridge.hear_result(request_id)["error"] == "failed"
        second = bridge.command(muted=True, life_ms=500)
        assert bridge.hear_result(second)["error"] == "expired"
        hang.set()
        phone.obey = phone.controller.mic_changed
        assert bridge.hear_result(bridge.command(muted=True))["ok"] is True


def test_stopping_does_not_wait_for_a_callback_that_hangs(desk: Desk, bridge: Bridge) -> None:
    phone = Phone(desk.broker.port)
    hang = threading.Event()
    phone.obey = lambda _muted: [hang.wait()].clear()
    with phone.controller:
        phone.controller.call_changed("connected")
        bridge.hear_call("connected")
        bridge.command(muted=True)
        phone.asked.get(timeout=DEADLINE_S)
    assert bridge.hear("availability", lambda m: m.payload == "offline").retain
    hang.set()
    phone.controller.stop()  # twice is once


def test_a_softphone_that_says_nothing_is_a_failure(bridge: Bridge, phone: Phone) -> None:
    phone.obey = lambda _muted: None
    result = bridge.hear_result(bridge.command(muted=True))
    assert (result["error"], "reported no change" in result["detail"]) == ("failed", True)


def test_the_same_command_twice_acts_once(bridge: Bridge, phone: Phone) -> None:
    for _ in range(2):
        request_id = bridge.command(request_id="same", muted=True)
        assert bridge.hear_mic(True)["request_id"] == request_id
        assert bridge.hear_result(request_id)["ok"] is True
    assert phone.asked.qsize() == 1


def test_what_came_too_late_is_not_done(bridge: Bridge, phone: Phone) -> None:
    assert bridge.hear_result(bridge.command(muted=False, life_ms=-1))["error"] == "expired"
    bridge.command(muted=True)
    bridge.hear_mic(True)
    assert list(phone.asked.queue) == [True]


def test_a_command_that_somebody_retained_is_expired_at_the_next_start(desk: Desk, bridge: Bridge) -> None:
    bridge.command(muted=True, retain=True, call_id=None, expires_at=1_700_000_000_000)
    phone = Phone(desk.broker.port)
    phone.controller.call_changed("connected")
    with phone.controller:
        assert bridge.hear_result("r1")["error"] == "expired"
    assert phone.asked.empty()


def test_everything_is_said_again_when_a_bridge_comes(desk: Desk, bridge: Bridge, phone: Phone) -> None:
    desk.publish(f"{P}/bridge/availability", "online", "-r")
    assert bridge.hear_mic(False)
    assert bridge.hear_call("connected")
    assert bridge.hear("availability").payload == "online"
    assert phone.asked.empty()


def test_a_late_will_of_its_own_is_answered(desk: Desk, bridge: Bridge, phone: Phone) -> None:
    desk.publish(f"{C}/availability", "offline", "-r", "-q", "1")
    assert bridge.hear("availability").payload == "offline"
    assert bridge.hear("availability").payload == "online"
    assert phone.asked.empty()


def test_a_restarted_broker_learns_everything_anew(desk: Desk, bridge: Bridge, phone: Phone) -> None:
    desk.deafen()
    desk.broker.kill()
    phone.controller.mic_changed(True)  # while nobody listens
    desk.broker.start()
    desk.listen()
    assert bridge.hear_mic(True)
    assert bridge.hear_result(bridge.command(muted=False))["ok"] is True


def test_no_heart_beats_outside_of_a_connected_call(desk: Desk, bridge: Bridge) -> None:
    phone = Phone(desk.broker.port, heartbeat_s=0.05)
    with phone.controller:
        phone.controller.call_changed("connected")
        phone.controller.mic_changed(True)
        for _ in range(3):
            bridge.hear_mic(True)
        phone.controller.call_changed("held")
        bridge.hear_call("held")
        assert bridge.hear_mic(True)  # said once for the change
        desk.forget()
        bridge.hear_result(bridge.command(muted=True))  # the two that follow each other, with nothing in between
        phone.controller.call_changed("connected")
        bridge.hear_call("connected")
        bridge.hear_mic(True)
        bridge.hear_mic(True)


def test_answer_and_hang_up(desk: Desk, bridge: Bridge) -> None:
    hooks: queue.Queue[tuple[str, str]] = queue.Queue()
    phone = Phone(
        desk.broker.port,
        answer=lambda call_id: hooks.put(("answer", call_id)),
        hang_up=lambda call_id: hooks.put(("hang_up", call_id)),
    )
    with phone.controller:
        phone.controller.call_changed("ringing", "c7")
        bridge.hear_call("ringing")
        for action in ("answer", "hang_up"):
            assert bridge.hear_result(bridge.command(action=action))["ok"] is True
            assert hooks.get_nowait() == (action, "c7")


def test_what_cannot_be_read_is_logged_once(
    desk: Desk, bridge: Bridge, phone: Phone, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        desk.publish(f"{C}/command", "mute!")
    bridge.hear_result(bridge.command(muted=True))
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert f"{C}/command" in warnings[0].message
    assert phone.asked.qsize() == 1


def test_a_second_controller_of_the_same_name_is_a_problem_that_is_told(desk: Desk) -> None:
    fatal: queue.Queue[str] = queue.Queue()

    def watch(happening: Any) -> None:
        if happening.what == "fatal":
            fatal.put(happening.reason)

    first, second = (Phone(desk.broker.port, retry_s=0.5, observe=watch) for _ in range(2))
    with first.controller, second.controller:
        assert "mutebridge-controller:desk:phone" in fatal.get(timeout=DEADLINE_S)


@pytest.mark.parametrize("said", ["muted", 1, ""])
def test_what_is_no_state_of_a_microphone_is_told_to_the_developer(said: Any) -> None:
    """The bridge could not read it, and the lights would stay dark."""
    controller = SessionController("desk", set_mute=print)
    with pytest.raises(TypeError, match=r"True for muted, False, or None for unknown"):
        controller.mic_changed(said)


def test_wrong_settings_are_told_at_once() -> None:
    for settings in ({"station": "two words"}, {"name": "a/b"}, {"prefix": "/"}, {"heartbeat_s": 0}):
        with pytest.raises(ValueError, match=r"two words|a/b|prefix|heartbeat_s"):
            SessionController(**({"station": "desk", "set_mute": print} | settings))  # type: ignore[arg-type]
