"""How a controller's clock stands to the bridge's own, learnt from the `at` of its messages.

A live message that was stamped `at` and arrives at `now` shows an offset of `now - at` that is too large by the time it
was under way, so the smallest one is the best. Only the last minute counts, since clocks drift; when nothing came in
it, the last one known of this epoch stands. Retained messages say nothing: nobody knows how long they lay.
"""

_WINDOW_S = 60


class ControllerClock:
    """The clock of one epoch of one controller; an offset is the bridge's monotonic milliseconds minus its own."""

    def __init__(self) -> None:
        self.newest_at_ms: float | None = None  # the latest `at` of all; None: the controller sends none
        self._smallest_by_second: dict[int, float] = {}
        self._looked_at = -1
        self._last_known_ms: float | None = None

    def arrived(self, at_ms: float | None, now: float, *, retained: bool) -> None:
        if at_ms is None:
            return
        self.newest_at_ms = at_ms if self.newest_at_ms is None else max(self.newest_at_ms, at_ms)
        if retained:
            return
        second = int(now)
        offset_ms = now * 1000 - at_ms
        self._smallest_by_second[second] = min(self._smallest_by_second.get(second, offset_ms), offset_ms)
        self._look(second)

    @property
    def used(self) -> bool:
        return self.newest_at_ms is not None

    def offset_ms(self, now: float) -> float | None:
        """Milliseconds to add to the controller's time to get the bridge's; None before the first live message."""
        second = int(now)
        if second != self._looked_at:
            self._look(second)
        return self._last_known_ms

    def _look(self, second: int) -> None:
        """Let what is older than the window go; of what is left the smallest counts."""
        self._looked_at = second
        for old in [s for s in self._smallest_by_second if s < second - _WINDOW_S]:
            del self._smallest_by_second[old]
        self._last_known_ms = min(self._smallest_by_second.values(), default=self._last_known_ms)
