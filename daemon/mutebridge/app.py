"""The daemon: carries events from the edges to the bridge, and what the bridge asks for to the edges.

Each edge blocks in the kernel in threads of its own. Whichever thread has an event decides on it and carries the
actions out itself, under one lock: a press reaches the broker's socket, and a mic state the lamp, without changing
threads. What an action calls never blocks. The main thread sleeps until the bridge, the watchdog or a signal wants it.

What is only told, what became of a press and what a device shows, waits a moment for the main thread: it must not stand
in the way of the next press, and of what a device shows only the latest is worth telling.

Decisions
    One lock and no loop, instead of one thread with a selector. hidapi offers no file descriptor, opening and closing a
    tty can block for seconds, and so can connecting to a broker: each of these would have needed its thread all the
    same, with a queue and a change of threads on the way of each press.
    The clock is CLOCK_BOOTTIME, which goes on while the workstation sleeps: a mic state from before is old afterwards,
    and what was due meanwhile is due at once (`edges/alarm.py`).
"""

import contextlib
import logging
import os
import secrets
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mutebridge import config as configuration
from mutebridge.attachments import Attachments
from mutebridge.config import Config, ConfigError
from mutebridge.core import contract, messages
from mutebridge.core.bridge import Bridge
from mutebridge.core.contract import DeviceState, PressEvent, Topics
from mutebridge.core.events import (
    BridgeAction,
    BrokerLost,
    BrokerUp,
    DeviceAttached,
    DeviceDetached,
    Event,
    Level,
    Log,
    PublishAvailability,
    PublishCommand,
    PublishDevice,
    PublishPressEvent,
    TimeCame,
    WriteLights,
)
from mutebridge.edges import journal_log, local_broker
from mutebridge.edges.alarm import Alarm
from mutebridge.edges.broker import Broker, BrokerSettings, Problem, ProblemKind, Retained
from mutebridge.edges.local_broker import LocalBrokerError
from mutebridge.edges.service_manager import ServiceNotifier

_log = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 2.0
_TELL_AFTER_S = 0.02
_TELL_AGAIN_AFTER_S = 1.0
_MAX_TO_TELL = 1000
_LEVELS = {level: logging.getLevelNamesMapping()[level.name] for level in Level}
_ONLINE, _OFFLINE = b"online", b"offline"


def now_s() -> float:
    """Seconds of the clock that never steps and does not stop while the workstation sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Options(msgspec.Struct, frozen=True):
    """What the command line said. `broker` takes the place of the configured one."""

    config_path: Path | None = None
    log_level: Level | None = None
    broker: BrokerSettings | None = None


class App:
    """One running daemon. `run` returns an exit code of sysexits."""

    def __init__(self, config: Config, options: Options, service: ServiceNotifier) -> None:
        self._config = config
        self._options = options
        self._service = service
        self._topics = Topics(config.station, config.prefix)
        self._bridge = self._new_bridge()
        self._lock = threading.RLock()
        self._inbox: deque[Event] = deque()
        self._deciding = False
        self._woken_at: float | None = None
        self._tell_at: float | None = None
        self._events_to_tell: deque[PressEvent] = deque(maxlen=_MAX_TO_TELL)
        self._devices_to_tell: dict[str, DeviceState | None] = {}
        self._exit_code: int | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._alarm = Alarm()
        self._signals: deque[int] = deque()
        self._attachments = Attachments(self.feed, now_s, configuration.load_profiles())
        self._broker = self._new_broker()

    def run(self) -> int:
        """Run until a signal or a fatal problem; returns the exit code."""
        threading.excepthook = self._thread_failed
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda received, _frame: self._signals.append(received))
        self._configure_devices()
        self._attachments.start()
        self._broker.start()
        self._tell_ready()
        try:
            while self._exit_code is None:
                self._turn()
        finally:
            self._stop()
        return self._exit_code

    def feed(self, event: Event) -> None:
        """Decide on an event and carry out what follows; from any thread, also from inside an action."""
        with self._lock:
            self._inbox.append(event)
            if self._deciding:
                return
            self._deciding = True
            try:
                while self._inbox:
                    self._decide(self._inbox.popleft())
            finally:
                self._deciding = False

    # --- the main thread

    def _turn(self) -> None:
        with self._lock:
            wake_at = self._bridge.wake_at
            if wake_at is not None and wake_at <= now_s():
                self.feed(TimeCame())
            if self._tell_at is not None and self._tell_at <= now_s():
                self._tell()
            self._woken_at = self._wake_at
            self._alarm.set(self._woken_at)
        self._service.feed_watchdog()
        select.select([self._wake_read, self._alarm.fileno()], [], [], self._service.watchdog_in_s())
        self._drain_wake_pipe()
        while self._signals:
            self._received(self._signals.popleft())

    @property
    def _wake_at(self) -> float | None:
        wake_at = self._bridge.wake_at
        if wake_at is None or self._tell_at is None:
            return self._tell_at if wake_at is None else wake_at
        return min(wake_at, self._tell_at)

    def _drain_wake_pipe(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # when it is full of wake-ups already
            os.write(self._wake_write, b"\0")

    def _received(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._reload()
        else:
            self._exit(os.EX_OK)

    def _exit(self, code: int) -> None:
        with self._lock:
            if self._exit_code is None:
                self._exit_code = code
        self._wake()

    def _stop(self) -> None:
        """Lights first: they must be dark whatever the broker does."""
        self._service.stopping()
        self._attachments.stop(_STOP_TIMEOUT_S)
        with self._lock:
            self._tell()
        devices = [Retained(self._topics.bridge_device(device.id), b"") for device in self._bridge.devices]
        offline = Retained(self._topics.bridge_availability, _OFFLINE)
        self._broker.stop(farewell=[*devices, offline], timeout_s=_STOP_TIMEOUT_S)

    def _thread_failed(self, failed: threading.ExceptHookArgs) -> None:
        """End the daemon on a bug in any thread: systemd starts a healthy one."""
        error = failed.exc_value or failed.exc_type()
        _log.critical("a bug in mutebridge; stopping", exc_info=(failed.exc_type, error, failed.exc_traceback))
        self._exit(os.EX_SOFTWARE)

    # --- decisions and actions

    def _new_bridge(self) -> Bridge:
        return Bridge(lambda: secrets.token_hex(8))

    def _decide(self, event: Event) -> None:
        for action in self._bridge.handle(event, now_s(), time.time() * 1000):
            self._carry_out(action)
        wake_at = self._wake_at
        if wake_at is not None and (self._woken_at is None or wake_at < self._woken_at):
            self._woken_at = wake_at
            self._wake()

    def _carry_out(self, action: BridgeAction) -> None:
        match action:
            case PublishCommand():
                topic = self._topics.controller(action.controller, "command")
                payload = contract.encode(action.command)
                self._broker.publish(topic, payload, qos=0, expiry_s=action.message_expiry_s)
            case WriteLights():
                self._attachments.show(action.device_id, action.lights)
            case PublishPressEvent():
                self._events_to_tell.append(action.event)
                self._tell_soon()
            case PublishDevice():
                self._devices_to_tell[action.device_id] = action.state
                self._tell_soon()
            case PublishAvailability():
                self._broker.publish(self._topics.bridge_availability, _ONLINE, qos=1, retain=True)
            case Log():
                _log.log(_LEVELS[action.level], "%s", action.message)

    def _tell_soon(self) -> None:
        if self._tell_at is None:
            self._tell_at = now_s() + _TELL_AFTER_S

    def _tell(self) -> None:
        """Publish what is only told; what the broker does not take now is not told late."""
        self._tell_at = None
        while self._events_to_tell:
            self._broker.publish(self._topics.bridge_event, contract.encode(self._events_to_tell.popleft()), qos=0)
        devices, self._devices_to_tell = self._devices_to_tell, {}
        for device_id, state in devices.items():
            payload = contract.encode(state) if state is not None else b""
            told = self._broker.publish(self._topics.bridge_device(device_id), payload, qos=1, retain=True)
            if not told and self._broker.up:  # it is clogged; when it is down, all is told anew once it is up
                self._devices_to_tell[device_id] = state
                self._tell_at = now_s() + _TELL_AGAIN_AFTER_S

    # --- the broker

    def _new_broker(self) -> Broker:
        topics = self._topics

        def hear(event: Event | None) -> None:
            with self._lock:
                if event is not None and topics is self._topics:  # else it has moved to another place meanwhile
                    self.feed(event)

        return Broker(
            self._options.broker or self._config.broker,
            client_id=f"mutebridge-{topics.station}",
            will=Retained(topics.bridge_availability, _OFFLINE),
            births=[Retained(topics.bridge_availability, _ONLINE)],
            subscriptions=messages.subscriptions(topics),
            on_up=lambda: hear(BrokerUp()),
            on_lost=lambda reason: hear(BrokerLost(reason)),
            on_message=lambda topic, payload, retained: hear(
                messages.event_of(topics, topic, payload, retained=retained)
            ),
            on_fatal=self._broker_failed,
        )

    def _broker_failed(self, problem: Problem) -> None:
        """Stop: a bug for systemd to start anew from, or another bridge for this station."""
        self._exit(os.EX_SOFTWARE if problem.kind is ProblemKind.BUG else os.EX_UNAVAILABLE)

    # --- configuration

    def _configure_devices(self) -> None:
        wanted = self._config
        self._attachments.configure(
            wanted.devices,
            known_devices=wanted.known_devices,
            press_mode=wanted.press_mode,
            hook_switch=wanted.hook_switch,
            keep_mute_key=wanted.keep_mute_key_from_desktop,
        )

    def _reload(self) -> None:
        self._service.reloading()
        try:
            new = configuration.load(self._options.config_path)
        except ConfigError as error:
            _log.error("the configuration is wrong; the old one stays in force\n%s", error)
        else:
            self._reconfigure(new)
        self._tell_ready()

    def _tell_ready(self) -> None:
        self._service.ready(f"station {self._topics.station}")

    def _reconfigure(self, new: Config) -> None:
        old, self._config = self._config, new
        if (old.station, old.prefix, old.broker) != (new.station, new.prefix, new.broker):
            self._move_to_other_broker()
        self._configure_devices()
        if self._options.log_level is None:
            journal_log.set_level(new.log_level)
        _log.info("configuration reloaded")

    def _move_to_other_broker(self) -> None:
        """Leave the old place as if every device were unplugged there: what is held down is let go, nothing is left."""
        with self._lock:
            devices = self._bridge.devices
            for device in devices:
                self.feed(DeviceDetached(device.id))
            self._tell()
            farewell = Retained(self._topics.bridge_availability, _OFFLINE)
            self._topics = Topics(self._config.station, self._config.prefix)
            self._bridge = self._new_bridge()
            for device in devices:
                self.feed(DeviceAttached(device))
        self._broker.stop(farewell=[farewell], timeout_s=_STOP_TIMEOUT_S)
        with self._lock:
            self._broker = self._new_broker()
        self._broker.start()


def run(config_path: Path | None, *, log_level: str | None = None, embedded_broker: bool = False) -> int:
    """Run the daemon in the foreground; returns an exit code of sysexits. ConfigError when it cannot start."""
    config = configuration.load(config_path)
    level = Level(log_level) if log_level is not None else None
    journal_log.start(level or config.log_level)
    service = ServiceNotifier.from_environment()
    if not embedded_broker:
        return App(config, Options(config_path, level), service).run()
    try:
        with _embedded_broker(config) as settings:
            return App(config, Options(config_path, level, settings), service).run()
    except LocalBrokerError as error:
        _log.error("%s", error)
        return os.EX_UNAVAILABLE


@contextlib.contextmanager
def _embedded_broker(config: Config) -> Iterator[BrokerSettings]:
    """Yield how to reach a broker brought up for this workstation; controllers get in by their pairings."""
    settings = config.embedded_broker
    with local_broker.embedded_broker(settings, port=config.broker.effective_port, user=config.station) as broker:
        websocket = f", ws://{broker.host}:{broker.websocket_port}" if broker.websocket_port else ""
        _log.info(
            "embedded broker: mqtt://%s:%d%s, for the controllers that `mutebridge pair` noted in %s",
            broker.host,
            broker.port,
            websocket,
            settings.file,
        )
        yield BrokerSettings(host=broker.host, port=broker.port, username=broker.user, password=broker.password)
