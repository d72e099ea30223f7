"""What happened, in order and from any thread, to be waited for."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

DEADLINE_S = 20.0

T = TypeVar("T")


class Record(Generic[T]):
    """A list that only grows. `mark()` is a place in it: what comes `since` that is news."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._entries: list[T] = []
        self._grown = threading.Condition()

    def add(self, entry: T) -> None:
        with self._grown:
            self._entries.append(entry)
            self._grown.notify_all()

    def mark(self) -> int:
        return len(self._entries)

    def all(self, since: int = 0) -> list[T]:
        return self._entries[since:]

    @property
    def last(self) -> T | None:
        return self._entries[-1] if self._entries else None

    def wait(self, matches: Callable[[T], bool], *, since: int = 0, timeout_s: float = DEADLINE_S) -> T:
        """Return the first entry since then that matches."""
        deadline = time.monotonic() + timeout_s
        looked = since
        with self._grown:
            while True:
                for entry in self._entries[looked:]:
                    if matches(entry):
                        return entry
                looked = max(since, len(self._entries))
                self._wait(deadline, since)

    def wait_last(self, matches: Callable[[T], bool], *, timeout_s: float = DEADLINE_S) -> T:
        """Return the newest entry, once it is one that matches."""
        deadline = time.monotonic() + timeout_s
        with self._grown:
            while not (self._entries and matches(self._entries[-1])):
                self._wait(deadline, 0)
            return self._entries[-1]

    def _wait(self, deadline: float, since: int) -> None:
        if not self._grown.wait(max(0.0, deadline - time.monotonic())):
            said = "\n".join(map(str, self._entries[since:][-40:]))
            raise AssertionError(f"{self.what}: it did not come; there was:\n{said}")
