"""Waits for a condition that nothing announces, with a deadline."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

# A machine under emulation is about fourteen times slower than its host.
DEADLINE_S = 60.0

_T = TypeVar("_T")


def wait_until(condition: Callable[[], _T], what: str, deadline_s: float = DEADLINE_S) -> _T:
    """Ask until the answer is true, and return it; for files and units, where udev has nothing to say."""
    overdue = time.monotonic() + deadline_s
    while not (answer := condition()):
        if time.monotonic() > overdue:
            raise TimeoutError(f"after {deadline_s:g} s still not: {what}")
        threading.Event().wait(0.05)
    return answer
