"""The figures as one table for people, with the targets below it."""

from collections.abc import Iterable, Sequence

import msgspec
from tests.bench.idle_cost import IdleCost
from tests.bench.round_trips import Figures, Pattern, ratio
from tests.bench.stage import Counts

MAX_TIMES_C = 2.5
MAX_WAKE_UPS_PER_S = 0.2
MAX_RSS_MIB = 32.0
MAX_TIMES_BARE_START = 1.5


class Row(msgspec.Struct, kw_only=True):
    """All that was measured of one contender; what was not measured is None, `note` says why."""

    key: str
    title: str
    note: str | None = None
    failed: bool = False
    presses: int | None = None
    counts: Counts | None = None
    round_trips_us: dict[str, Figures] = {}
    idle: IdleCost | None = None
    idle_in_call: IdleCost | None = None
    watchdog_pings: int | None = None
    ready_s: float | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A figure and the limit that it is held against; None: not measured."""

    what: str
    figure: float | None
    limit: float | None
    unit: str

    @property
    def met(self) -> bool | None:
        if self.figure is None or self.limit is None:
            return None
        return self.figure <= self.limit


def targets(rows: Sequence[Row], patterns: Sequence[Pattern]) -> list[Target]:
    """What the daemon is held against; the round trip counts back to back, the first pattern."""
    by_key = {row.key: row for row in rows}
    daemon = by_key.get("daemon", Row(key="daemon", title=""))
    name = patterns[0].name
    ours = daemon.round_trips_us.get(name)

    def p50(key: str) -> float | None:
        figures = by_key[key].round_trips_us.get(name) if key in by_key else None
        return figures.p50 if figures else None

    idle = daemon.idle
    bare = by_key["bare"].ready_s if "bare" in by_key else None
    return [
        Target(
            what=f"round trip {name}, times (a)", figure=_times_c(ours, by_key, name), limit=MAX_TIMES_C, unit="times"
        ),
        Target(what=f"round trip {name}, below (b)", figure=p50("daemon"), limit=p50("paho"), unit="us"),
        Target(what=f"round trip {name}, below (c)", figure=p50("daemon"), limit=p50("aiomqtt"), unit="us"),
        Target(
            what="idle, three buttons",
            figure=None if idle is None else idle.wake_ups_per_s,
            limit=MAX_WAKE_UPS_PER_S,
            unit="wake-ups/s",
        ),
        Target(what="RSS", figure=None if idle is None else idle.rss_mib, limit=MAX_RSS_MIB, unit="MiB"),
        Target(
            what="exec to ready, times a bare script",
            figure=daemon.ready_s / bare if daemon.ready_s and bare else None,
            limit=MAX_TIMES_BARE_START,
            unit="times",
        ),
    ]


def as_text(rows: Sequence[Row], patterns: Sequence[Pattern]) -> str:
    by_key = {row.key: row for row in rows}
    upper, lower = ["", "presses/"], ["", "commands"]
    for pattern in patterns:
        upper += [pattern.name, "us", "", "", "CPU"]
        lower += ["p50", "p90", "p99", "x C", "us"]
    upper += ["idle", "idle", "in a call", "RSS", "PSS", "", "exec to"]
    lower += ["wake-ups/s", "CPU s/h", "wake-ups/s", "MiB", "MiB", "threads", "ready ms"]
    body = [_cells(row, by_key, patterns) for row in rows]
    lines = aligned([upper, lower, *body])
    width = max(map(len, lines))
    lines.insert(2, "-" * width)
    notes = [f"  {row.title}: {row.note}" for row in rows if row.note]
    goals = [_goal_line(target) for target in targets(rows, patterns)]
    return "\n".join([*lines, *notes, "", "Targets", *goals])


def _cells(row: Row, by_key: dict[str, Row], patterns: Iterable[Pattern]) -> list[str]:
    cells = [row.title, "-" if row.counts is None else f"{row.presses}/{row.counts.acted}"]
    for pattern in patterns:
        figures = row.round_trips_us.get(pattern.name)
        if figures is None:
            cells += ["-"] * 5
            continue
        times = _times_c(figures, by_key, pattern.name)
        cells += [f"{figures.p50:.0f}", f"{figures.p90:.0f}", f"{figures.p99:.0f}"]
        cells += [_figure(times, 2), f"{figures.cpu:.0f}"]
    cells += _idle_cells(row.idle, row.idle_in_call)
    return [*cells, _figure(None if row.ready_s is None else row.ready_s * 1000, 1)]


def _idle_cells(idle: IdleCost | None, in_call: IdleCost | None) -> list[str]:
    in_call_wake_ups = _figure(None if in_call is None else in_call.wake_ups_per_s, 2)
    if idle is None:
        return ["-", "-", in_call_wake_ups, "-", "-", "-"]
    return [
        _figure(idle.wake_ups_per_s, 3),
        _figure(idle.cpu_s_per_h, 2),
        in_call_wake_ups,
        _figure(idle.rss_mib, 1),
        _figure(idle.pss_mib, 1),
        str(idle.threads),
    ]


def _times_c(figures: Figures | None, by_key: dict[str, Row], name: str) -> float | None:
    c = by_key["c"].round_trips_us.get(name) if "c" in by_key else None
    if figures is None or c is None or len(c.blocks_p50) != len(figures.blocks_p50):
        return None
    return ratio(figures, c)


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _goal_line(target: Target) -> str:
    if target.figure is None or target.limit is None:
        return f"  {target.what:<44} not measured"
    verdict = "met" if target.met else f"missed by {(target.figure / target.limit - 1) * 100:.0f} %"
    return f"  {target.what:<44} {target.figure:8.2f} of at most {target.limit:.2f} {target.unit}: {verdict}"
