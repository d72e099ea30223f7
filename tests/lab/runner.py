"""Runs a module's tests inside guests until each has a result of its own.

A test that fails, hangs or ends its pytest costs only its own result: the tests after it go on in a fresh guest. A
guest that hangs says nothing about the test it was at, so that is run once more in a fresh one; if a guest hangs at the
same test again, the test is lost. Nothing that was lost is ever a pass.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

from tests.lab.channel import Agent, GuestHungError

# What a test may take beyond its own limit, which pytest-timeout holds inside: the start of pytest, and the stacks that
# are written when the limit is passed.
GRACE_S = 60.0


class Guest(Protocol):
    """A started guest with the tree at /repo."""

    agent: Agent

    def last_words(self) -> str: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class LabTest:
    nodeid: str
    timeout_s: float


@dataclass(frozen=True)
class Result:
    """One test as the guest's pytest reported it: its reports, serialised, in the order setup, call, teardown."""

    nodeid: str
    reports: Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Lost:
    """A test without a result; `why` is for a person."""

    nodeid: str
    why: str


class ModuleRun:
    """The tests of one module. `start` makes a guest; it is told whether the last one hung."""

    def __init__(self, start: Callable[[bool], Guest], arguments: Sequence[str], note: Callable[[str], None]) -> None:
        self._start = start
        self._arguments = arguments
        self._note = note

    def results(self, tests: Sequence[LabTest]) -> Generator[Result | Lost]:
        """Exactly one result for each test, in the order in which they come."""
        waiting = {test.nodeid: test for test in tests}
        hung_at: str | None = None
        while waiting:
            session: _Session | None = None
            try:
                with _Session(self._start(hung_at is not None)) as session:
                    for outcome in session.outcomes(list(waiting.values()), self._arguments):
                        del waiting[outcome.nodeid]
                        hung_at = None
                        yield outcome
            except GuestHungError as hung:
                first = next(iter(waiting))
                why = "\n".join([str(hung), *getattr(hung, "__notes__", ())])
                if hung_at == first:
                    # A guest that does not come up will not for the other tests either.
                    for nodeid in [first] if session else list(waiting):
                        del waiting[nodeid]
                        yield Lost(nodeid, f"The guest hung twice. The second time: {why}")
                    hung_at = None
                else:
                    hung_at = first
                    self._note(f"a guest hung at {first} and is replaced: {why}")


@dataclass
class _Session:
    """One guest and one pytest in it."""

    guest: Guest
    _reports: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _written: str = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, GuestHungError):
            error.add_note(self.guest.last_words())
        self.guest.close()

    def outcomes(self, tests: Sequence[LabTest], arguments: Sequence[str]) -> Iterator[Result | Lost]:
        """Results as they come; if pytest ends early or a test does not end, that test is the last outcome, lost."""
        waiting = {test.nodeid: test for test in tests}
        job = {"pytest": [*arguments, *waiting], "cwd": "/repo", "env": {"MUTEBRIDGE_LAB": "guest"}}
        deadline = _deadline(waiting)
        for message in self.guest.agent.run(job):
            self._written += message.get("out", "")
            result = self._completed(message.get("report"))
            if result is not None:
                del waiting[result.nodeid]
                yield result
                if not waiting:
                    return
                deadline = _deadline(waiting)
            if "done" in message:
                yield from self._unreported(waiting, status=int(message["done"]))
            elif time.monotonic() > deadline:
                yield self._lost(next(iter(waiting)), "The test did not end.")
                return

    def _completed(self, report: dict[str, Any] | None) -> Result | None:
        """The result that is whole with this report: the teardown is a test's last."""
        if report is None:
            return None
        reports = self._reports.setdefault(report["nodeid"], [])
        reports.append(report)
        return Result(report["nodeid"], reports) if report["when"] == "teardown" else None

    def _unreported(self, waiting: dict[str, LabTest], status: int) -> Iterator[Lost]:
        why = f"The guest's pytest ended with status {status} before this test had a result."
        if self._reports or status < 0:
            yield self._lost(next(iter(waiting)), why)
        else:
            # It did not come to a single test, so a fresh guest would not either.
            yield from [self._lost(nodeid, why) for nodeid in waiting]

    def _lost(self, nodeid: str, why: str) -> Lost:
        return Lost(nodeid, "\n".join([why, *self._written.splitlines()[-60:]]))


def _deadline(waiting: dict[str, LabTest]) -> float:
    return time.monotonic() + next(iter(waiting.values())).timeout_s + GRACE_S
