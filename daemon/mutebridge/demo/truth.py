"""Whether lamps tell the truth: each is held against the microphone, at every moment.

A lit lamp says that the microphone is muted; with several softphones in a call, all of theirs. While it is not, a lamp
that is still lit lies, for as long as that lasts: news of a change by somebody else needs a moment to arrive, so only
what lasts longer than `GRACE_S` is a lie. A dark lamp promises nothing; at rest, though, it must be lit exactly when
the microphone is muted.
"""

import msgspec

GRACE_S = 0.5
"""Far above a delivery on one machine, which takes milliseconds, since a busy machine may let anybody wait."""


class Lie(msgspec.Struct, frozen=True, kw_only=True):
    """`lamp` was lit for `lasted_s` while the microphone was not muted, from `since` on."""

    lamp: str
    since: float
    lasted_s: float


class Truth:
    """Fed with changes, in the order in which they happened; times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.lit: dict[str, bool] = {}
        self.lies: list[Lie] = []
        self.longest_lag_s = 0.0
        self._false_since: dict[str, float] = {}
        self._microphones: dict[str, bool] = {}

    def microphone(self, muted: bool | None, now: float, softphone: str = "") -> None:
        """None: no call of this softphone is connected."""
        if muted is None:
            self._microphones.pop(softphone, None)
        else:
            self._microphones[softphone] = muted
        self._hold_against(now)

    @property
    def muted(self) -> bool | None:
        """None: no call is connected."""
        return all(self._microphones.values()) if self._microphones else None

    def lamp(self, name: str, lit: bool | None, now: float) -> None:
        """None: the lamp is gone."""
        if lit is None:
            self.lit.pop(name, None)
        else:
            self.lit[name] = lit
        self._hold_against(now)

    @property
    def at_rest(self) -> bool:
        """Every lamp shows just what the microphone does."""
        return all(lit is (self.muted is True) for lit in self.lit.values())

    def all_lies(self, now: float) -> list[Lie]:
        """Those that ended and those that go on."""
        going_on = [self._lie(name, now) for name in self._false_since]
        return self.lies + [lie for lie in going_on if lie.lasted_s > GRACE_S]

    def _hold_against(self, now: float) -> None:
        for name in {*self.lit, *self._false_since}:
            if self.lit.get(name) and self.muted is not True:
                self._false_since.setdefault(name, now)
            elif name in self._false_since:
                lie = self._lie(name, now)
                del self._false_since[name]
                self.longest_lag_s = max(self.longest_lag_s, lie.lasted_s)
                if lie.lasted_s > GRACE_S:
                    self.lies.append(lie)

    def _lie(self, name: str, now: float) -> Lie:
        since = self._false_since[name]
        return Lie(lamp=name, since=since, lasted_s=now - since)
