"""When lamps that another program may have changed are written again.

At once, but at least REWRITE_APART_S apart and MAX_REWRITES times in REWRITES_WITHIN_S at most: two programs that both
insist would otherwise write for ever. What is too soon is not dropped but waits, so in the end the lamps are right.
"""

from collections import deque

MAX_REWRITES = 5
REWRITES_WITHIN_S = 60.0
REWRITE_APART_S = 1.0


class Rewrites:
    """Those of one device. `at` is the moment at which one is due; None: none is."""

    def __init__(self) -> None:
        self.at: float | None = None
        self._made: deque[float] = deque(maxlen=MAX_REWRITES)

    def now_due(self, now: float) -> bool:
        """Hear of a disturbance; return whether to write at once, else it waits until `at`."""
        if self.at is not None:
            return False
        earliest = self._made[-1] + REWRITE_APART_S if self._made else now
        if len(self._made) == MAX_REWRITES:
            earliest = max(earliest, self._made[0] + REWRITES_WITHIN_S)
        self.at = earliest
        return self.has_come(now)

    def has_come(self, now: float) -> bool:
        """Return whether the one that waits is due; then it counts as made."""
        if self.at is None or now < self.at:
            return False
        self.at = None
        self._made.append(now)
        return True
