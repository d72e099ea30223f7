"""The MQTT connection of the daemon, also that of a session controller, kept up until it is stopped.

One thread owns it: it looks the host up, connects, reads, supervises, waits between attempts. Every attempt is a
`Connection` of its own. Trouble with the network or the broker is a `Problem`, logged once per change and tried again
after a jittered back-off. A callback that raises is a bug: the connection is cut, so that the will speaks, and
`on_fatal` tells the application, which is to crash loudly. What the kernel took before a broker was known to be dead
cannot be called back: messages that must not act late carry an expiry of their own.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mutebridge.edges.broker.backoff import backoff_s
from mutebridge.edges.broker.problems import CallbackError, Problem, ProblemKind
from mutebridge.edges.broker.settings import BrokerSettings, Presence, Retained, TlsSettings

if TYPE_CHECKING:
    from mutebridge.edges.broker.connection import Connection

__all__ = ["Broker", "BrokerSettings", "Problem", "ProblemKind", "Retained", "TlsSettings", "backoff_s"]

STABLE_AFTER_S = 10.0  # a connection that lived this long starts the back-off anew
TAKEOVER_WINDOW_S = 60.0
FATAL_TAKEOVERS = 3  # told by the broker, which some do on MQTT 5
# Guessed, since mosquitto 2.0.11 does not tell: so many connections in a row closed soon after they were up, while the
# broker lived on. One that died cannot have published the will of the connection that was lost; an older one that it
# stored before, and brings back each time that it dies, is still taken for that.
FATAL_DROPS = 5

_log = logging.getLogger(__name__)


class Broker:
    """A connection to one broker.

    At each connect it subscribes `subscriptions` (topic filter, QoS), waits for the broker's grant, publishes `births`
    and calls `on_up`; messages, retained ones included, follow it. (mosquitto grants even what its access list
    forbids.) `on_lost(reason)` comes once per `on_up`; `stop()` is not a loss. `on_fatal(problem)` comes at most once
    and nothing after it: a callback raised (BUG), or the client id is taken over again and again (CLIENT_ID_TAKEN).
    Where the broker does not say that it is, it is told only if the will's topic is among the subscriptions.

    All callbacks run in the connection's thread and must be quick; they may call `publish()` and `stop()`. A message at
    QoS 1 comes twice only if its publisher sent it twice.
    """

    def __init__(  # noqa: PLR0913 - a connection has these parts, and they are named
        self,
        settings: BrokerSettings,
        *,
        client_id: str,
        will: Retained,
        births: Sequence[Retained] = (),
        subscriptions: Sequence[tuple[str, int]] = (),
        on_up: Callable[[], None],
        on_lost: Callable[[str], None],
        on_message: Callable[[str, bytes, bool], None],
        on_fatal: Callable[[Problem], None],
    ) -> None:
        """`client_id` is used unless the settings name one. `on_message` gets topic, payload, retained."""
        self._settings = settings
        self._presence = Presence(
            client_id=settings.client_id or client_id,
            will=will,
            births=tuple(births),
            subscriptions=tuple(subscriptions),
        )
        self._on_up = on_up
        self._on_lost = on_lost
        self._on_message = on_message
        self._on_fatal = on_fatal
        self._stopping = threading.Event()
        self._problem: Problem | None = None
        self._connection: Connection | None = None
        self._protocol = "3.1.1" if settings.protocol == "3.1.1" else "5"
        self._accepts_5: bool | None = None  # unknown yet
        self._attempt = 0
        self._takeovers: list[float] = []
        self._drops: list[float] = []
        self._will_spoke = False  # our own, or that of another client with our id, heard in this connection
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)

    # --- from any thread -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect in the background, for as long as it takes. Once."""
        self._thread.start()

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False, expiry_s: int | None = None
    ) -> bool:
        """Hand a message to the broker's connection; False, with nothing kept, when it is not up or is clogged.

        Never blocks. `expiry_s` is the MQTT 5 message expiry (not sent on 3.1.1). True does not prove delivery: only an
        answer does. ValueError for a topic with wildcards.
        """
        connection = self._connection
        return connection is not None and connection.publish(topic, payload, qos, retain, expiry_s)

    def stop(self, *, farewell: Sequence[Retained] = (), timeout_s: float = 2.0) -> None:
        """Publish `farewell`, disconnect in order, end the thread: within `timeout_s`, whatever the broker does.

        A broker that does not acknowledge the farewell gets no orderly disconnect, so that the will speaks. No callback
        starts after this has returned.
        """
        self._stopping.set()
        connection = self._connection
        if connection is not None:
            connection.leave(farewell, 0.7 * timeout_s)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    @property
    def up(self) -> bool:
        """Connected, subscribed and not known to be lost."""
        connection = self._connection
        return connection is not None and connection.up

    @property
    def problem(self) -> Problem | None:
        """What keeps it from being up, as last seen; None when it is up or was not tried yet."""
        return self._problem

    def describe(self) -> str:
        """Return broker, client id, protocol and state, for people."""
        if self.up:
            state = f"up, MQTT {self._protocol}"
        else:
            state = "connecting" if self._problem is None else self._problem.message
        return f"{self._settings.url} as {self._presence.client_id!r}: {state}"

    # --- the connection's thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            fatal = self._keep_up()
        except CallbackError as error:
            fatal = Problem(ProblemKind.BUG, f"a callback raised {error.__cause__!r}", error.__cause__)
        except BaseException as error:  # a dead thread behind a live object is what must not be
            fatal = Problem(ProblemKind.BUG, f"the thread of the connection ended with {error!r}", error)
        if fatal is not None:
            self._problem = fatal
            _log.critical("broker %s: %s", self._settings.url, fatal.message, exc_info=fatal.cause)
            if not self._stopping.is_set():
                self._on_fatal(fatal)

    def _keep_up(self) -> Problem | None:
        """Connect again and again; return what makes that pointless, None after `stop()`."""
        while not self._stopping.is_set():
            connection = self._try()
            problem = connection.problem
            if problem is None or self._fell_back(connection):
                continue
            self._note(problem)
            lived_s = 0.0 if connection.up_at is None else time.monotonic() - connection.up_at
            if lived_s >= STABLE_AFTER_S:
                self._attempt = 0
            if connection.up_at is not None and not self._stopping.is_set():
                self._on_lost(problem.message)
            fatal = self._taken_over_again(connection, lived_s)
            if fatal is not None:
                return fatal
            self._stopping.wait(self._next_wait_s())
        return None

    def _try(self) -> "Connection":
        """Live through one connection."""
        # What only reads settings does without the client's library, which is a quarter of the daemon's start.
        from mutebridge.edges.broker.connection import Connection  # noqa: PLC0415

        connection = Connection(self._settings, self._presence, self._protocol, self._came_up, self._deliver)
        self._will_spoke = False
        self._connection = connection
        if self._stopping.is_set():  # stop() may have looked before there was a connection
            connection.leave()
        try:
            connection.run()
        finally:
            self._connection = None
        return connection

    def _came_up(self) -> None:
        if self._protocol == "5":
            self._accepts_5 = True
        self._problem = None
        _log.info("broker %s: up, MQTT %s, as %r", self._settings.url, self._protocol, self._presence.client_id)
        if not self._stopping.is_set():
            self._on_up()

    def _deliver(self, topic: str, payload: bytes, retained: bool) -> None:
        if payload == self._presence.will.payload and topic == self._presence.will.topic:
            self._will_spoke = True
        if not self._stopping.is_set():
            self._on_message(topic, payload, retained)

    def _note(self, problem: Problem) -> None:
        known, self._problem = self._problem, problem
        if problem != known:
            _log.warning("broker %s: %s; trying again", self._settings.url, problem.message)

    def _next_wait_s(self) -> float:
        attempt, self._attempt = self._attempt, self._attempt + 1
        chance = random.random()  # noqa: S311 - spreads the load, keeps no secret
        return backoff_s(attempt, chance, first_s=self._settings.retry_first_s, max_s=self._settings.retry_max_s)

    def _fell_back(self, connection: "Connection") -> bool:
        """Go from MQTT 5 to 3.1.1 where the broker refuses it: True, try at once.

        Where it only hung up, the other version is next after the wait, and 5 again after a loss: it may have been
        the moment, not the version.
        """
        if self._settings.protocol != "auto":
            return False
        if connection.refused_protocol and self._protocol == "5":
            _log.info("broker %s: refuses MQTT 5, 3.1.1 is next", self._settings.url)
            self._protocol, self._accepts_5 = "3.1.1", False
            return True
        if self._accepts_5 is None and connection.hung_up_on_connect:
            self._protocol = "5" if self._protocol == "3.1.1" else "3.1.1"
        elif self._accepts_5 is None and connection.up_at is not None:
            self._protocol = "5"
        return False

    def _taken_over_again(self, connection: "Connection", lived_s: float) -> Problem | None:
        """Count what another client with our id does to us; return the problem when it goes on and on."""
        now = time.monotonic()
        self._takeovers = [at for at in self._takeovers if now - at < TAKEOVER_WINDOW_S]
        in_a_row = connection.up_at is not None and connection.hung_up and lived_s < STABLE_AFTER_S
        self._drops = [at for at in self._drops if in_a_row and self._will_spoke and now - at < TAKEOVER_WINDOW_S]
        if connection.problem is not None and connection.problem.kind is ProblemKind.CLIENT_ID_TAKEN:
            self._takeovers.append(now)
        elif in_a_row:
            self._drops.append(now)
        if len(self._takeovers) >= FATAL_TAKEOVERS:
            what = f"was taken over {FATAL_TAKEOVERS} times within a minute: another instance runs for the same station"
        elif len(self._drops) >= FATAL_DROPS:
            what = (
                f"was dropped {FATAL_DROPS} times in a row soon after it was up: most likely another instance runs for"
                " the same station (else the broker does not allow what this client does; its log tells)"
            )
        else:
            return None
        message = (
            f"client id {self._presence.client_id!r} {what}. Stop it, or give this one another station or client_id"
        )
        return Problem(ProblemKind.CLIENT_ID_TAKEN, message)
