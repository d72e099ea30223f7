"""The controller for Genesys Cloud: real HTTP, WebSocket, broker, daemon and button, before a stand-in of the cloud."""

import os
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from tests.integration import controller_timeline
from tests.integration.daemon_station import Station
from tests.integration.genesys_desk import Desk
from tests.integration.genesys_stand_in import (
    Call,
    GenesysStandIn,
    Reply,
    error,
    missing_permissions,
    missing_scope,
    rate_limited,
)
from tests.integration.mosquitto import Mosquitto
from tests.integration.proxy import Proxy, Way

from mutebridge.controller.genesys_cloud.login import read_stored

pytestmark = pytest.mark.broker

CALLS = "/api/v2/conversations/calls"


class Cloud:
    """A user of Genesys Cloud with a button on the desk."""

    def __init__(self, genesys: GenesysStandIn, station: Station, desk: Desk) -> None:
        self.genesys, self.station, self.desk = genesys, station, desk

    def wait_online(self) -> None:
        self.station.onlooker.wait(f"controller/{self.desk.name}/availability", lambda said: said.payload == "online")

    def wait_call(self, state: str, *, since: int = 0) -> None:
        topic = f"controller/{self.desk.name}/call"
        self.station.onlooker.wait(topic, lambda said: said.get("state") == state, since=since)

    def connect(self, *, muted: bool = False) -> None:
        """A connected call, as the lamp knows; muted by a press."""
        self.genesys.connect()
        self.station.wait_lamp("LIVE")
        self.station.wait_told("live")
        if muted:
            assert self.press() == "confirmed"
            self.station.wait_lamp("MUTED")
            self.station.wait_told("muted")

    def prove_known(self, call: Call) -> None:
        """The lamp follows this call's microphone; it is live."""
        self.genesys.do("mute", call)
        self.station.wait_lamp("MUTED")
        self.genesys.do("unmute", call)
        self.station.wait_lamp("LIVE")

    def press(self) -> str:
        """Press; return what became of it."""
        since = self.station.onlooker.seen.mark()
        self.station.press()
        return self.station.wait_outcome(since=since)

    def requests(self, method: str) -> int:
        return sum(request.method == method for request in self.genesys.requests.all())

    def lamps(self, since: int) -> list[str]:
        return [shown.word for shown in self.station.button.lamp.all(since)]


def assert_told(cloud: Cloud, expected: str) -> None:
    """The newest rejection has the reason before the colon, and the words after it in its detail."""
    events = cloud.station.onlooker.seen.all()
    told = [said for said in events if said.topic.endswith("bridge/event") and said.get("outcome") == "rejected"]
    reason, _, words = expected.partition(": ")
    assert told[-1].get("reason") == reason
    assert words in told[-1].get("detail")


@pytest.fixture
def genesys() -> Iterator[GenesysStandIn]:
    with GenesysStandIn() as genesys:
        yield genesys


@pytest.fixture
def make_cloud(tmp_path: Path, mosquitto: Mosquitto, genesys: GenesysStandIn) -> Iterator[Callable[..., Cloud]]:
    """Return a function that starts all of it, with options for the controller; what it made ends with the test."""
    with ExitStack() as stack:

        def make(*options: str) -> Cloud:
            station = stack.enter_context(Station(tmp_path / "station", mosquitto.port, softphone=False))
            desk = stack.enter_context(Desk(tmp_path, genesys, mosquitto.port, *options))
            cloud = Cloud(genesys, station, desk)
            cloud.wait_online()
            return cloud

        yield make


@pytest.fixture
def cloud(make_cloud: Callable[..., Cloud]) -> Cloud:
    return make_cloud()


def test_it_plays_the_timeline_of_every_controller(cloud: Cloud) -> None:
    played = controller_timeline.play(cloud.station, cloud.desk)
    assert played == [str(step) for step in controller_timeline.read()]


# --- permission, login


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (
            missing_scope("conversations"),
            "missing_scope: Genesys Cloud refuses: the OAuth client lacks the scope conversations",
        ),
        (
            missing_permissions("conversation:call:mute"),
            "missing_scope: Genesys Cloud refuses: the user's role lacks the permission conversation:call:mute",
        ),
        (error(403, "not.authorized", "You are not authorized to perform the requested action."), "not_allowed: "),
        (error(404, "conversation.not.found", "The conversation was not found."), "not_connected: "),
        (error(409, "conflict", "The participant is being changed."), "failed: Genesys Cloud answered 409 (conflict)"),
        (Reply(403, None), "not_allowed: Genesys Cloud answered 403"),
    ],
)
def test_a_refusal_says_which_and_why(cloud: Cloud, reply: Reply, told: str) -> None:
    cloud.connect(muted=True)
    cloud.genesys.rule("PATCH", CALLS, reply=reply)
    assert cloud.press() == "rejected"
    assert_told(cloud, told)
    cloud.station.wait_lamp("MUTED")
    assert cloud.press() == "confirmed"


def test_an_expired_token_is_renewed_once_and_the_press_is_carried_out(cloud: Cloud) -> None:
    cloud.connect()
    before = read_stored(cloud.desk.login_file)
    cloud.genesys.expire_tokens()
    assert cloud.press() == "confirmed"
    after = read_stored(cloud.desk.login_file)
    assert after.access_token != before.access_token
    assert after.refresh_token != before.refresh_token, "each is good once"
    assert stat.S_IMODE(cloud.desk.login_file.stat().st_mode) == 0o600
    assert [r.status for r in cloud.genesys.requests.all() if r.method == "PATCH"] == [401, 202]
    said = "\n".join(cloud.desk.log.all())
    for login in (before, after):
        assert login.access_token not in said
        assert str(login.refresh_token) not in said


def test_a_login_that_ended_is_told_and_the_next_one_needs_no_restart(cloud: Cloud) -> None:
    cloud.connect(muted=True)
    cloud.genesys.end_logins()
    assert cloud.press() == "rejected"
    assert_told(cloud, "not_allowed: Genesys Cloud refused the login: invalid_grant")
    assert_told(cloud, "not_allowed: log in again with: mutebridge controller genesys-cloud login")
    cloud.station.wait_lamp("MUTED")
    cloud.desk.log_in()
    assert cloud.press() == "confirmed"
    assert cloud.genesys.muted is False


def test_a_login_that_ended_while_the_channel_is_away_is_told_in_the_log(cloud: Cloud) -> None:
    cloud.genesys.end_logins()
    cloud.genesys.break_channels()
    cloud.desk.wait_log("log in again with: mutebridge controller genesys-cloud login")
    cloud.desk.log_in(refreshable=False)
    since = cloud.desk.log.mark()
    cloud.desk.wait_log("following the calls", since=since)
    cloud.connect()


def test_nothing_is_sent_after_a_renewal_that_took_too_long(cloud: Cloud) -> None:
    cloud.connect()
    given_up = threading.Event()
    cloud.genesys.expire_tokens()
    cloud.genesys.rule("POST", "/oauth/token", before=lambda: given_up.wait(20))
    before = read_stored(cloud.desk.login_file)
    assert cloud.press() in ("rejected", "timed_out")
    renewals = cloud.genesys.requests.mark()
    given_up.set()
    cloud.genesys.requests.wait(lambda request: request.path == "/oauth/token", since=renewals)
    assert cloud.press() == "confirmed"
    assert len(cloud.genesys.patches.all()) == 1, "the first press was over"
    assert read_stored(cloud.desk.login_file) != before, "its renewal was not wasted"


def test_a_supplied_token_is_read_again_when_it_is_refused(
    make_cloud: Callable[..., Cloud], genesys: GenesysStandIn, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    token_file.touch(0o600)
    token_file.write_text(genesys.issue_token() + "\n")
    cloud = make_cloud("--token-file", str(token_file))
    cloud.connect()
    genesys.expire_tokens()
    token_file.write_text(genesys.issue_token() + "\n")
    assert cloud.press() == "confirmed"


def test_a_login_is_renewed_before_it_ends_and_the_channel_with_it(
    make_cloud: Callable[..., Cloud], genesys: GenesysStandIn
) -> None:
    genesys.token_s = 59.0  # less than a minute is as good as over
    cloud = make_cloud()
    genesys.token_s = 86400.0
    cloud.genesys.heartbeat()
    cloud.genesys.listeners.wait(lambda _: len(cloud.genesys.listeners.all()) == 2)
    cloud.connect()
    assert cloud.requests("PATCH") == 0
    assert 401 not in {request.status for request in cloud.genesys.requests.all()}


# --- rate limits, failures


def test_a_rate_limit_that_is_soon_over_is_waited_for(cloud: Cloud) -> None:
    cloud.connect()
    cloud.genesys.rule("PATCH", CALLS, reply=rate_limited(1))
    assert cloud.press() == "confirmed"
    refused, done = [request for request in cloud.genesys.requests.all() if request.method == "PATCH"]
    assert (refused.status, done.status) == (429, 202)
    assert 0.9 < done.at - refused.at < 2.0


def test_a_rate_limit_beyond_the_expiry_is_told_and_kept(cloud: Cloud) -> None:
    cloud.connect()
    cloud.genesys.rule("PATCH", CALLS, reply=rate_limited(30))
    assert cloud.press() == "rejected"
    assert_told(cloud, "failed: Genesys Cloud's rate limit for this user is reached; it asks for 30 s")
    assert cloud.press() == "rejected"
    assert cloud.requests("PATCH") == 1, "nothing is sent before the time is over"
    assert cloud.genesys.muted is False


def test_a_mute_whose_answer_is_lost_is_confirmed_by_the_notification(cloud: Cloud) -> None:
    cloud.connect()
    cloud.genesys.rule("PATCH", CALLS, swallow=True)
    assert cloud.press() == "confirmed"
    cloud.station.wait_lamp("MUTED")
    assert len(cloud.genesys.patches.all()) == 1


def test_an_unmute_whose_answer_and_notification_are_lost_leaves_the_lights_dark_until_the_truth_is_known(
    cloud: Cloud,
) -> None:
    cloud.connect(muted=True)
    since = cloud.station.button.lamp.mark()
    cloud.genesys.tells = False
    cloud.genesys.rule("PATCH", CALLS, swallow=True)
    cloud.genesys.rule("GET", CALLS, reply=Reply(503))
    assert cloud.press() == "rejected"
    assert_told(cloud, "failed: no answer from 127.0.0.1")
    cloud.station.wait_lamp("LIVE")  # a listing told, five seconds later
    assert "MUTED" not in cloud.lamps(since)
    assert len(cloud.genesys.patches.all()) == 2, "an unmute is sent once"


def test_an_unmute_that_failed_inside_the_cloud_shows_the_truth_later(cloud: Cloud) -> None:
    cloud.connect(muted=True)
    cloud.genesys.rule("PATCH", CALLS, reply=error(504, "request.timeout", "The request timed out."))
    assert cloud.press() == "rejected"
    assert_told(cloud, "failed: Genesys Cloud answered 504 (request.timeout)")
    cloud.station.wait_lamp("OFF", "UNKNOWN")
    cloud.station.wait_lamp("MUTED")


def test_a_mute_without_a_notification_is_confirmed_by_a_listing(cloud: Cloud) -> None:
    cloud.connect()
    cloud.genesys.tells = False
    assert cloud.press() == "confirmed"
    cloud.station.wait_lamp("MUTED")


def test_a_press_that_the_network_lost_comes_neither_late_nor_twice(
    make_cloud: Callable[..., Cloud], genesys: GenesysStandIn, make_proxy: Callable[[int], Proxy]
) -> None:
    proxy = make_proxy(int(genesys.url.rpartition(":")[2]))
    cloud = make_cloud("--api-url", f"http://127.0.0.1:{proxy.port}")
    cloud.connect(muted=True)
    proxy.lose(Way.UP)
    assert cloud.press() in ("rejected", "timed_out")
    cloud.station.wait_lamp("OFF", "UNKNOWN")
    proxy.find(Way.UP)
    cloud.station.wait_lamp("MUTED")
    assert len(cloud.genesys.patches.all()) == 1, "the unmute never arrived"
    assert cloud.press() == "confirmed"


def test_an_api_that_cannot_be_reached_is_told(
    make_cloud: Callable[..., Cloud], genesys: GenesysStandIn, make_proxy: Callable[[int], Proxy]
) -> None:
    proxy = make_proxy(int(genesys.url.rpartition(":")[2]))
    cloud = make_cloud("--api-url", f"http://127.0.0.1:{proxy.port}")
    cloud.connect()
    proxy.refuse()
    proxy.cut()
    assert cloud.press() == "rejected"
    assert_told(cloud, "failed: cannot reach 127.0.0.1")
    assert_told(cloud, "failed: Connection refused")


# --- the notification channel


def test_a_channel_that_breaks_in_a_call_comes_back_with_what_changed_meanwhile(cloud: Cloud) -> None:
    cloud.connect(muted=True)
    with cloud.genesys.holding_events():
        cloud.genesys.do("unmute")
        cloud.genesys.break_channels()
        cloud.station.wait_lamp("OFF", "UNKNOWN", "LIVE")
        cloud.station.wait_lamp("LIVE")
    assert cloud.press() == "confirmed"


def test_a_press_mutes_while_the_channel_is_away(cloud: Cloud) -> None:
    cloud.connect()
    cloud.genesys.rule("POST", "/api/v2/notifications/channels", reply=Reply(503), times=1000)
    cloud.genesys.break_channels()
    cloud.desk.wait_log("Genesys Cloud answered 503")
    assert cloud.press() == "confirmed"
    assert cloud.genesys.muted is True


def test_a_channel_that_is_silent_in_a_call_darkens_the_lights(cloud: Cloud) -> None:
    cloud.connect(muted=True)
    cloud.genesys.answers_pings = cloud.genesys.tells = False
    cloud.genesys.rule("POST", "/api/v2/notifications/channels", reply=Reply(503), times=1000)
    went_silent = time.monotonic()
    cloud.genesys.do("unmute")
    dark = cloud.station.wait_lamp("OFF", "UNKNOWN", "LIVE")
    assert dark.at - went_silent < 12.5
    cloud.desk.wait_log("the notification channel gives no sign of life")


def test_a_quiet_call_is_not_taken_for_a_dead_channel(cloud: Cloud) -> None:
    cloud.connect(muted=True)
    since = cloud.station.button.lamp.mark()
    seen = cloud.genesys.pings.mark()
    cloud.genesys.pings.wait(lambda _: len(cloud.genesys.pings.all(seen)) >= 3, timeout_s=30)
    assert cloud.lamps(since) == []
    assert len(cloud.genesys.listeners.all()) == 1


def test_a_channel_that_is_to_be_closed_is_replaced_before_anything_is_missed(cloud: Cloud) -> None:
    cloud.connect(muted=True)
    since = cloud.station.button.lamp.mark()
    cloud.genesys.announce_closing()
    cloud.genesys.listeners.wait(lambda _: len(cloud.genesys.listeners.all()) == 2)
    cloud.genesys.do("unmute")
    cloud.station.wait_lamp("LIVE")
    assert cloud.lamps(since) == ["LIVE"], "it was never dark"


def test_a_channel_is_replaced_before_its_lifetime_ends(
    make_cloud: Callable[..., Cloud], genesys: GenesysStandIn
) -> None:
    genesys.channel_s = 3.0
    cloud = make_cloud()
    cloud.connect(muted=True)
    since = cloud.station.button.lamp.mark()
    genesys.listeners.wait(lambda _: len(genesys.listeners.all()) >= 3)
    assert cloud.lamps(since) == []


def test_a_channel_that_is_not_allowed_is_told(make_cloud: Callable[..., Cloud], genesys: GenesysStandIn) -> None:
    cloud = make_cloud()
    genesys.take_scope("notifications")
    genesys.break_channels()
    cloud.desk.wait_log("the OAuth client lacks the scope notifications")
    genesys.give_scope()
    cloud.connect()


# --- events as they come


def test_a_late_event_cannot_light_the_lamp_of_a_live_microphone(cloud: Cloud) -> None:
    cloud.connect()
    genesys = cloud.genesys
    since = cloud.station.button.lamp.mark()
    with genesys.holding_events():
        genesys.do("mute")
        genesys.do("unmute")
    muted, unmuted = genesys.held_back
    listed = genesys.requests.mark()
    for text in (unmuted, muted, muted):
        genesys.tell_text(text)
    for _ in range(2):
        genesys.requests.wait(lambda request: request.path == CALLS, since=listed)
    genesys.do("mute")
    cloud.station.wait_lamp("MUTED")
    genesys.do("unmute")
    cloud.station.wait_lamp("LIVE")
    shown = cloud.lamps(since)
    assert shown.count("MUTED") == 1, "only when it was"


def test_a_late_event_does_not_revive_a_call(cloud: Cloud) -> None:
    genesys = cloud.genesys
    with genesys.holding_events():
        genesys.connect()
    _, connected = genesys.held_back
    genesys.tell_text(connected)
    cloud.station.wait_lamp("LIVE")
    genesys.do("end")
    cloud.station.wait_lamp("OFF")
    listed, since = genesys.requests.mark(), cloud.station.onlooker.seen.mark()
    genesys.tell_text(connected)
    genesys.requests.wait(lambda request: request.path == CALLS, since=listed)
    genesys.do("ring")
    cloud.wait_call("ringing", since=since)
    states = [said.get("state") for said in cloud.station.onlooker.seen.all(since) if said.topic.endswith("/call")]
    assert "connected" not in states


@pytest.mark.parametrize("text", ["no JSON", '{"topicName": "TOPIC", "eventBody": {"participants": 5}}', "[]", "{}"])
def test_what_cannot_be_read_ends_nothing(cloud: Cloud, text: str) -> None:
    cloud.connect(muted=True)
    cloud.genesys.tell_text(text.replace("TOPIC", f"v2.users.{cloud.genesys.user_id}.conversations"))
    cloud.genesys.do("unmute")
    cloud.station.wait_lamp("LIVE")
    assert cloud.press() == "confirmed"


def test_a_listing_that_an_event_overtook_is_not_believed(cloud: Cloud) -> None:
    cloud.connect()
    genesys = cloud.genesys
    genesys.tells = False
    overtaken = threading.Event()
    genesys.do("mute")
    old = genesys.listing()
    genesys.do("unmute")
    # The press is accepted without a notification, so the calls are listed; that answer is old, and slow.
    held = genesys.rule("GET", CALLS, reply=Reply(200, old), before=lambda: overtaken.wait(20))
    since, told = cloud.station.button.lamp.mark(), cloud.station.onlooker.seen.mark()
    cloud.station.press()
    while held.times:
        overtaken.wait(0.01)
    genesys.tells = True
    genesys.do("unmute")
    overtaken.set()
    assert cloud.station.wait_outcome(since=told) == "rejected"
    assert "MUTED" not in cloud.lamps(since)
    cloud.prove_known(genesys.call)


def test_a_press_while_the_channel_and_the_api_are_away_claims_nothing(
    make_cloud: Callable[..., Cloud], genesys: GenesysStandIn, make_proxy: Callable[[int], Proxy]
) -> None:
    proxy = make_proxy(int(genesys.url.rpartition(":")[2]))
    cloud = make_cloud("--api-url", f"http://127.0.0.1:{proxy.port}")
    cloud.connect(muted=True)
    proxy.refuse()
    proxy.cut()
    genesys.break_channels()
    cloud.station.wait_lamp("OFF", "UNKNOWN")
    with genesys.holding_events():
        genesys.do("unmute")
    since = cloud.station.button.lamp.mark()
    assert cloud.press() == "rejected"
    assert "MUTED" not in cloud.lamps(since)


# --- several calls, start and end


def test_a_press_mutes_all_connected_calls_and_the_next_one_unmutes_the_newest(cloud: Cloud) -> None:
    cloud.connect()
    first = cloud.genesys.call
    cloud.genesys.connect()
    second = cloud.genesys.call
    cloud.genesys.do("mute", first)
    cloud.prove_known(second)
    cloud.genesys.do("unmute", first)
    assert cloud.press() == "confirmed"
    assert (first.muted, second.muted) == (True, True)
    assert cloud.press() == "confirmed"
    assert (first.muted, second.muted) == (True, False)
    since = cloud.station.button.lamp.mark()
    cloud.genesys.do("mute", second)
    cloud.station.wait_lamp("MUTED")
    cloud.genesys.do("unmute", first)
    cloud.station.wait_lamp("LIVE")
    assert cloud.lamps(since) == ["MUTED", "LIVE"]


def test_a_call_that_waits_does_not_disturb_the_one_that_is_connected(cloud: Cloud) -> None:
    cloud.connect(muted=True)
    first = cloud.genesys.call
    waiting = cloud.genesys.do("ring")
    assert cloud.press() == "confirmed"
    assert first.muted is False
    cloud.genesys.do("hold", first)
    cloud.genesys.do("connect", waiting)
    cloud.prove_known(waiting)
    assert cloud.press() == "confirmed"
    assert (first.muted, waiting.muted) == (False, True)


def test_it_finds_a_call_that_is_muted_already_and_leaves_it_so(
    make_cloud: Callable[..., Cloud], genesys: GenesysStandIn
) -> None:
    genesys.connect()
    genesys.do("mute")
    cloud = make_cloud()
    cloud.station.wait_lamp("MUTED")
    assert cloud.requests("PATCH") == 0


def test_two_of_one_name_do_not_fight_for_ever(
    cloud: Cloud, tmp_path: Path, mosquitto: Mosquitto, genesys: GenesysStandIn
) -> None:
    (tmp_path / "other").mkdir()
    with Desk(tmp_path / "other", genesys, mosquitto.port) as other:
        ended = next(desk for desk in forever((cloud.desk, other)) if desk.process.poll() is not None)
        assert ended.process.returncode == os.EX_UNAVAILABLE


def forever(desks: tuple[Desk, Desk]) -> Iterator[Desk]:
    """One after the other, each given a moment to end."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for desk in desks:
            with suppress(subprocess.TimeoutExpired):
                desk.process.wait(0.1)
            yield desk


def test_it_ends_orderly_in_a_call(cloud: Cloud) -> None:
    cloud.connect(muted=True)
    assert cloud.desk.stop() == 0
    cloud.station.wait_lamp("OFF")
    assert cloud.genesys.muted is True
