"""A Broker together with everything that it reported, to be waited for."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, TypeVar

from mutebridge.edges.broker import Broker, BrokerSettings, Problem, ProblemKind, Retained

DEADLINE_S = 20.0

_LOGGER = logging.getLogger("mutebridge.edges.broker")


class Message(NamedTuple):
    topic: str
    payload: bytes
    retained: bool


class Up(NamedTuple):
    pass


class Lost(NamedTuple):
    reason: str


class Fatal(NamedTuple):
    problem: Problem


Report = Message | Up | Lost | Fatal
R = TypeVar("R", Message, Up, Lost, Fatal)


class Probe:
    """Starts the broker on entering, stops it on leaving; `seen` has all reports in order."""

    def __init__(
        self,
        port: int,
        client_id: str = "probe",
        *,
        births: Sequence[Retained] = (),
        subscriptions: Sequence[tuple[str, int]] = (),
        on_message: Callable[[Message], None] | None = None,
        settings: BrokerSettings | None = None,
        **keys: object,
    ) -> None:
        """`keys` are keys of BrokerSettings; retries are quick unless they say otherwise."""
        quick = {"host": "127.0.0.1", "port": port, "retry_first_s": 0.1, "retry_max_s": 0.2}
        self.settings = settings or BrokerSettings(**{**quick, **keys})  # type: ignore[arg-type]
        self.seen: list[Report] = []
        self._news: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self._react = on_message
        self._changed = threading.Condition()
        self._ear = _Ear(self._notify)
        self.broker = Broker(
            self.settings,
            client_id=client_id,
            will=Retained(f"will/{client_id}", b"offline"),
            births=births,
            subscriptions=subscriptions,
            on_up=lambda: self._report(Up()),
            on_lost=lambda reason: self._report(Lost(reason)),
            on_message=self._on_message,
            on_fatal=lambda problem: self._report(Fatal(problem)),
        )

    def __enter__(self) -> "Probe":
        _LOGGER.addHandler(self._ear)
        self.broker.start()
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self.broker.stop()
        _LOGGER.removeHandler(self._ear)

    def publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> bool:
        return self.broker.publish(topic, payload, qos=qos, retain=retain)

    def wait_up(self) -> None:
        self.wait_for(Up)

    def wait_lost(self, timeout_s: float = DEADLINE_S) -> str:
        """Return why."""
        return self.wait_for(Lost, timeout_s).reason

    def wait_fatal(self) -> Problem:
        return self.wait_for(Fatal).problem

    def wait_message(self, topic: str | None = None) -> Message:
        while True:
            message = self.wait_for(Message)
            if topic in (None, message.topic):
                return message

    def wait_for(self, kind: type[R], timeout_s: float = DEADLINE_S) -> R:
        """Return the next report of this kind, passing over others."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                report = self._news.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {kind.__name__} within {timeout_s} s; seen: {self.seen}") from None
            if isinstance(report, kind):
                return report

    def messages(self, topic: str | None = None) -> list[Message]:
        """Return the messages so far."""
        return [report for report in self.seen if isinstance(report, Message) and topic in (None, report.topic)]

    @property
    def gave_up(self) -> bool:
        """It will not try again, by the log; the report of it may be on its way."""
        problem = self.broker.problem
        return problem is not None and "Stop it, or give this one" in problem.message

    def count(self, kind: type[Report]) -> int:
        return sum(isinstance(report, kind) for report in self.seen)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for what shows only as state: looks again at each report and each line in the log."""
        with self._changed:
            assert self._changed.wait_for(condition, DEADLINE_S), (self.seen, self.broker.describe())

    def wait_problem(self, kind: ProblemKind | None = None) -> Problem:
        """Return the problem of a broker that is not up, once there is one (of this kind)."""

        def there() -> bool:
            problem = self.broker.problem
            return problem is not None and kind in (None, problem.kind)

        self.wait_until(there)
        assert self.broker.problem is not None
        return self.broker.problem

    def _on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        message = Message(topic, payload, retained)
        self._report(message)
        if self._react is not None:
            self._react(message)

    def _report(self, report: Report) -> None:
        self.seen.append(report)
        self._news.put(report)
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


class _Ear(logging.Handler):
    def __init__(self, notify: Callable[[], None]) -> None:
        super().__init__()
        self._notify = notify

    def emit(self, _record: logging.LogRecord) -> None:
        self._notify()
