"""Ties a user's calls at Genesys Cloud to a session controller.

Theory of operation
-------------------
*Truth.* What Genesys Cloud says of a call's state and `muted` is the only truth: by a listing when a channel begins,
then by its notifications. One that would do harm if it were late or doubled (a mute that nobody here asked for, an
ended call that lives) is not believed but looked up, see `calls`.

*Silence.* A channel that has nothing to tell looks like one that is dead. In a call it is therefore asked for a sign of
life every `SIGN_OF_LIFE_S`; without an answer the microphone is not known any more: the lights go dark, within ten
seconds of the last sign, until another channel stands and a listing was read. A press still mutes meanwhile, and is
confirmed by a listing.

*Replacement.* A channel that is about to end (its lifetime, the token's, maintenance) is replaced before it does: the
next one is opened and the calls are listed, then the old one is closed. Nothing is missed in between.

*Commands.* A mute is a PATCH of the user's participant in every connected call, an unmute one in the call that the
controller names. It is sent while the command is wanted, or not at all (`exchange`). An unmute is sent once; one that
may have been carried out and was not confirmed leaves the microphone unknown for `DOUBT_S`, then a listing decides.

*Login.* One that ended is said once. The program stays, since the file with the login may be renewed.

Two threads: the caller's follows the channel, the controller's worker asks for mutes. Both change the table of calls
under `_lock`; a listing that was asked for before something else was learnt is asked for again.
"""

import logging
import math
import random
import threading
import time
from typing import Any

import msgspec

from mutebridge.controller.genesys_cloud.api import Api, ApiError, RateLimitedError, within
from mutebridge.controller.genesys_cloud.calls import CallTable, OwnCall, read_event, read_listing
from mutebridge.controller.genesys_cloud.channel import Channel, ChannelLostError, Notification
from mutebridge.controller.genesys_cloud.exchange import ExchangeError, UnansweredError
from mutebridge.controller.genesys_cloud.login import LoginError, Tokens
from mutebridge.controller.genesys_cloud.refusals import LOG_IN_AGAIN, missing, refusal
from mutebridge.controller.paired import Paired
from mutebridge.controller.session_controller import Happening, Refused, SessionController
from mutebridge.core.contract import CallState, CommandError

_log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 10.0
SIGN_OF_LIFE_S = 5.0
"""In a call: how often the channel is asked, and how long its answer may take."""
IDLE_SIGN_OF_LIFE_S = 40.0
"""Without a call. Genesys Cloud's own heartbeat comes every 30 s, so nothing is asked."""
CONFIRM_TIMEOUT_S = 1.8
"""How long a command may take with all its ways over the internet; a press expires after 2 s."""
NOTIFIED_WITHIN_S = 0.6
"""When a PATCH was accepted and no notification came for so long, the calls are listed."""
DOUBT_S = 5.0
RENEWED_BEFORE_S = 60.0
RENEW_RETRY_S = 20.0
RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
MAX_LISTINGS = 5

_TROUBLE = (ChannelLostError, ExchangeError, ApiError, RateLimitedError, LoginError)


class _Me(msgspec.Struct, frozen=True):
    """The answer of GET /api/v2/users/me."""

    id: str
    name: str | None = None


class Adapter:
    """Follows one user's calls, from `run` until `stop`."""

    def __init__(self, api_url: str, tokens: Tokens, paired: Paired) -> None:
        """ValueError for a URL, station, name or prefix that cannot be."""
        self._tokens = tokens
        self._stopping = threading.Event()
        self._api = Api(api_url, tokens, wait=self._stopping.wait)
        # A connection of its own, so that a press never waits behind a listing.
        self._commands = Api(api_url, tokens, wait=self._stopping.wait)
        self._insecure_loopback = api_url.startswith("http:")
        self._controller = SessionController(
            paired.station,
            paired.name,
            set_mute=self._set_mute,
            answer=self._answer,
            hang_up=self._hang_up,
            broker=paired.broker,
            prefix=paired.prefix,
            confirm_timeout_s=CONFIRM_TIMEOUT_S,
            observe=self._observe,
        )
        self.broker_failed = False
        """Whether `run` ended since the broker cannot be used at all, which the log explains."""
        # Of the thread that follows.
        self._user_id = ""
        self._channel: Channel | None = None
        self._online = False
        self._trouble = ""
        self._unreadable = ""
        self._attempt = 0
        self._renew_not_before = 0.0
        # Of both threads, under the lock.
        self._lock = threading.RLock()
        self._learnt = threading.Condition(self._lock)
        self._news = 0
        self._calls = CallTable()
        self._said_calls: dict[str, CallState] = {}
        self._said_mic: tuple[str | None, bool | None] = (None, None)
        self._following = False
        self._known = False
        self._asked: bool | None = None
        self._doubt_until = 0.0

    def run(self) -> None:
        """Follow the calls, whatever fails, until `stop`."""
        try:
            while not self._stopping.is_set():
                try:
                    self._follow()
                except _TROUBLE as trouble:
                    self._lost(trouble)
                    self._pause(trouble)
        finally:
            self._controller.stop()
            self._api.close()
            self._commands.close()

    def stop(self) -> None:
        """Let `run` end soon; for any thread."""
        self._stopping.set()
        channel = self._channel
        if channel:
            channel.abort()
        self._api.abort()
        self._commands.abort()

    def _observe(self, happening: Happening) -> None:
        if happening.what == "fatal":
            self.broker_failed = True
            self.stop()

    # --- following the channel ---------------------------------------------------------------------------------------

    def _follow(self) -> None:
        channel = self._channel = self._open()
        try:
            self._list()
            self._stands()
            heard_at, asked_at = time.monotonic(), None
            while not self._stopping.is_set():
                silent_until = self._silent_until(heard_at, asked_at)
                moments = (silent_until, time.monotonic() + channel.due_in_s, self._doubt_end())
                notification = channel.receive(min(moments) - time.monotonic())
                if notification:
                    heard_at, asked_at = time.monotonic(), None
                    self._hear(notification)
                elif time.monotonic() >= silent_until:
                    if asked_at is not None:
                        raise ChannelLostError("the notification channel gives no sign of life")
                    channel.ping()
                    asked_at = time.monotonic()
                self._end_doubt()
                if self._is_due(channel, notification):
                    channel = self._channel = self._replaced(channel)
                    heard_at, asked_at = time.monotonic(), None
        finally:
            self._channel = None
            channel.close()

    def _silent_until(self, heard_at: float, asked_at: float | None) -> float:
        if asked_at is not None:
            return asked_at + SIGN_OF_LIFE_S
        return heard_at + (SIGN_OF_LIFE_S if self._calls.live else IDLE_SIGN_OF_LIFE_S)

    def _open(self) -> Channel:
        wanted = within(REQUEST_TIMEOUT_S)
        if not self._user_id:
            self._user_id = self._who_am_i()
        topics = [self._topic]
        return Channel(self._api, topics, wanted=wanted, insecure_loopback=self._insecure_loopback)

    def _who_am_i(self) -> str:
        try:
            me = msgspec.convert(self._api.request("GET", "/api/v2/users/me", wanted=within(REQUEST_TIMEOUT_S)), _Me)
        except ApiError as error:
            if error.status in (400, 404):
                raise LoginError("the token is of no user; a client credentials grant cannot mute") from None
            raise
        except msgspec.ValidationError:
            raise ExchangeError("Genesys Cloud does not say who is logged in") from None
        _log.info("genesys cloud: logged in as %s", me.name or me.id)
        return me.id

    @property
    def _topic(self) -> str:
        return f"v2.users.{self._user_id}.conversations"

    def _is_due(self, channel: Channel, notification: Notification | None) -> bool:
        closing = notification is not None and notification.what == "closing"
        # A channel ends with the token that it was made with.
        return self._renewed_login() or closing or channel.due_in_s <= 0

    def _renewed_login(self) -> bool:
        if not self._tokens.ends_within(RENEWED_BEFORE_S) or time.monotonic() < self._renew_not_before:
            return False
        self._renew_not_before = time.monotonic() + RENEW_RETRY_S
        try:
            self._tokens.renew(self._tokens.access_token, within(REQUEST_TIMEOUT_S))
        except (ExchangeError, LoginError) as trouble:
            _log.warning("genesys cloud: the login could not be renewed before it ends: %s", trouble)
            return False
        return True

    def _replaced(self, channel: Channel) -> Channel:
        """Open the next one before the old one is closed, so that nothing is missed."""
        following = self._open()
        try:
            self._list()
        except BaseException:
            following.close()
            raise
        channel.close()
        return following

    def _hear(self, notification: Notification) -> None:
        if notification.what != "told" or notification.topic != self._topic:
            return
        try:
            event = read_event(self._user_id, notification.body)
        except ValueError as error:
            if str(error) != self._unreadable:
                self._unreadable = str(error)
                _log.warning("genesys cloud: events that cannot be read, so the calls are listed instead: %s", error)
            self._list()
            return
        with self._lock:
            doubtful = self._calls.doubtful(event, asked_to_mute=self._asked is True)
            if not doubtful:
                self._calls.update(event)
                self._learn()
        if doubtful:
            self._list()

    def _list(self) -> None:
        for _ in range(MAX_LISTINGS):
            if self._listed(self._api, REQUEST_TIMEOUT_S):
                return
        raise ChannelLostError("the calls change faster than they can be listed")

    def _listed(self, api: Api, timeout_s: float) -> bool:
        """List the calls; False when something else was learnt meanwhile, so that the listing may be the older one."""
        with self._lock:
            news = self._news
        body = api.request("GET", "/api/v2/conversations/calls", wanted=within(timeout_s))
        try:
            calls = read_listing(self._user_id, body)
        except ValueError as error:
            raise ExchangeError(f"Genesys Cloud lists calls of another kind: {error}") from None
        with self._lock:
            if news != self._news:
                return False
            self._calls.replace(calls)
            self._learn()
        return True

    def _stands(self) -> None:
        self._attempt = 0
        if self._trouble or not self._online:
            _log.info("genesys cloud: following the calls")
        self._trouble = ""
        with self._lock:
            self._following = True
            self._say()
        if not self._online:
            self._online = True
            self._controller.start()

    def _lost(self, trouble: Exception) -> None:
        with self._lock:
            self._following = self._known = False
            self._say()
        if self._stopping.is_set() or str(trouble) == self._trouble:
            return
        self._trouble = str(trouble)
        if isinstance(trouble, LoginError) or (isinstance(trouble, ApiError) and trouble.status == 401):
            self._user_id = ""  # the next login may be somebody else's
            _log.error("genesys cloud: %s; %s", trouble, LOG_IN_AGAIN)
        elif isinstance(trouble, ApiError) and trouble.missing_permission:
            _log.error("genesys cloud: %s", missing(trouble))
        else:
            _log.warning("genesys cloud: %s", trouble)

    def _pause(self, trouble: Exception) -> None:
        pause_s = random.random() * min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(self._attempt, 16))  # noqa: S311
        self._attempt += 1
        if isinstance(trouble, RateLimitedError):
            pause_s += trouble.retry_after_s
        self._stopping.wait(pause_s)

    # --- what the controller is told, under the lock -----------------------------------------------------------------

    def _learn(self) -> None:
        self._news += 1
        self._known = True
        if self._truth() is False:
            self._doubt_until = 0.0
        self._say()
        self._learnt.notify_all()

    def _say(self) -> None:
        said, self._said_calls = self._said_calls, {call_id: c.state for call_id, c in self._calls.live.items()}
        for call_id, state in self._said_calls.items():
            if said.get(call_id) is not state:
                self._controller.call_changed(state, call_id)
        for call_id in said.keys() - self._said_calls.keys():
            self._controller.call_changed(CallState.DISCONNECTED, call_id)
        self._say_mic(self._truth())

    def _say_mic(self, muted: bool | None) -> None:
        call_id = self._controller.call_id
        call = self._calls.live.get(call_id or "")
        if call is None or call.state not in (CallState.CONNECTED, CallState.HELD):
            self._said_mic = (None, None)  # the controller forgets it too
        elif (call_id, muted) != self._said_mic:
            self._said_mic = (call_id, muted)
            self._controller.mic_changed(muted)

    def _truth(self) -> bool | None:
        """Whether nobody hears the user: muted in every connected call, else in the one on hold that is in use.

        None when no channel tells, and for a mute while an unmute may still be carried out.
        """
        if not self._known:
            return None
        held = self._calls.live.get(self._controller.call_id or "")
        calls = self._calls.connected or ([held] if held else [])
        muted = bool(calls) and all(call.muted for call in calls)
        return None if muted and time.monotonic() < self._doubt_until else muted

    # --- commands, in the controller's thread ------------------------------------------------------------------------

    def _set_mute(self, muted: bool) -> None:
        calls = self._calls_to_change(muted)
        with self._lock:
            self._asked = muted
        try:
            trouble = self._ask_to_mute(calls, muted)
            if not self._came_true(muted) and trouble:
                raise refusal(trouble)
        finally:
            with self._lock:
                self._asked = None
                if self._doubt_until == math.inf:
                    self._doubt_until = time.monotonic() + DOUBT_S
                self._known = self._known and self._following
                self._say()

    def _calls_to_change(self, muted: bool) -> list[OwnCall]:
        with self._lock:
            if muted and self._calls.connected:
                return self._calls.connected
            call = self._calls.live.get(self._controller.call_id or "")
        if call is None or call.state is not CallState.CONNECTED:
            raise Refused(CommandError.NOT_CONNECTED, "Genesys Cloud has no connected call of this user")
        return [call]

    def _ask_to_mute(self, calls: list[OwnCall], muted: bool) -> Exception | None:
        """PATCH; return what leaves open whether it was done. Refused when it was not."""
        with self._lock:
            doubt_before = self._doubt_until
            if not muted:
                self._doubt_until = math.inf
        try:
            for call in calls:
                self._patch(call, {"muted": muted})
        except _TROUBLE as trouble:
            if isinstance(trouble, UnansweredError) or (isinstance(trouble, ApiError) and trouble.perhaps_done):
                return trouble
            with self._lock:
                if not muted:
                    self._doubt_until = doubt_before
                elif self._truth():  # an old event, taken for the answer
                    self._doubt_until = time.monotonic()
            raise refusal(trouble) from None
        return None

    def _came_true(self, muted: bool) -> bool:
        """Wait for the notification, then look up what is true."""
        with self._lock:
            if self._following and self._learnt.wait_for(
                lambda: self._truth() is muted, min(NOTIFIED_WITHIN_S, self._controller.time_left_s())
            ):
                return True
        try:
            self._listed(self._commands, CONFIRM_TIMEOUT_S)
        except _TROUBLE as trouble:
            _log.debug("genesys cloud: after a command: %s", trouble)
        with self._lock:
            return self._truth() is muted

    def _answer(self, call_id: str) -> None:
        self._hook(call_id, "connected")

    def _hang_up(self, call_id: str) -> None:
        self._hook(call_id, "disconnected")

    def _hook(self, call_id: str, state: str) -> None:
        with self._lock:
            call = self._calls.live.get(call_id)
        if call is None:
            raise Refused(CommandError.NOT_CONNECTED, "Genesys Cloud does not know this call any more")
        try:
            self._patch(call, {"state": state})
        except _TROUBLE as trouble:
            raise refusal(trouble) from None

    def _patch(self, call: OwnCall, change: dict[str, Any]) -> None:
        self._commands.request("PATCH", call.path, change, wanted=self._controller.time_left_s)

    # --- doubt about an unmute ---------------------------------------------------------------------------------------

    def _doubt_end(self) -> float:
        with self._lock:
            return self._doubt_until or math.inf

    def _end_doubt(self) -> None:
        with self._lock:
            if not 0 < self._doubt_until <= time.monotonic():
                return
            self._doubt_until = 0.0
        self._list()
