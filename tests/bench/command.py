"""Runs the bench as the command line asks: what is measured, in which order, how much of it."""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from tests.bench import attached
from tests.bench.contenders import CONTENDERS, Contender, compile_programs
from tests.bench.idle_cost import cost_since, snapshot
from tests.bench.private_broker import BenchError, private_broker
from tests.bench.round_trips import Pattern, Player, play_rounds
from tests.bench.stage import Stage, Watcher
from tests.bench.table import Row, as_text, targets

_EX_UNAVAILABLE = 69
_BUTTONS_WHEN_IDLE = 3
_WARM_UP_STARTS = 1
# The daemon watches its broker more closely for three keepalives of 10 s after the last message.
_UNTIL_AT_REST_S = 45.0
_SETTLED_S = 1.0  # until births and the states that answer them are through


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured."""

    rounds: int
    patterns: Sequence[Pattern]
    settle_s: float
    idle_s: float
    starts: int


def _plan(*, quick: bool, rounds: int | None) -> Plan:
    presses = (10, 3) if quick else (300, 20)
    return Plan(
        rounds=rounds or (2 if quick else 9),
        patterns=[
            Pattern(name="back to back", presses=presses[0]),
            Pattern(name="every 150 ms", presses=presses[1], interval_ms=150),
        ],
        settle_s=0.5 if quick else _UNTIL_AT_REST_S,
        idle_s=1 if quick else 60,
        starts=1 if quick else 15,
    )


class Bench:
    """One run over some contenders; `rows` fill up on the way."""

    def __init__(self, port: int, folder: Path, contenders: Sequence[Contender], plan: Plan) -> None:
        self._port = port
        self._folder = folder
        self._plan = plan
        self._stations = 0
        self._contenders = contenders
        self.rows = [Row(key=contender.key, title=contender.title) for contender in contenders]

    def round_trips(self) -> None:
        with contextlib.ExitStack() as stack:
            ready = self._in_call(stack)
            time.sleep(min(_SETTLED_S, self._plan.settle_s))
            for player in ready:
                player.stage.drain_lamps()
            wrong = play_rounds(ready, self._plan.patterns, self._plan.rounds)
            for player in ready:
                row = self._row(player.stage.contender)
                row.presses = player.presses
                row.counts = player.stage.stop_controller()
                if row.key in wrong:
                    self._failed(row, wrong[row.key])
                    continue
                row.round_trips_us = {pattern.name: player.figures(pattern) for pattern in self._plan.patterns}
                if not row.presses == row.counts.acted == row.counts.commands:
                    self._failed(row, f"{row.presses} presses, but the controller saw {row.counts}")

    def idle(self) -> None:
        """Measure all at the same time: they hardly disturb one another when each sleeps."""
        with contextlib.ExitStack() as stack:
            quiet = [self._idle_stage(stack, contender, "disconnected") for contender in self._contenders]
            talking = [self._idle_stage(stack, c, "connected") for c in self._contenders if c.bridges]
            watcher = Watcher(self._port)
            for stage in [*quiet, *talking]:
                stage.start()
                watcher.wait_until_ready(stage)
            watcher.close()
            time.sleep(self._plan.settle_s)
            for stage in quiet:
                stage.notified()
            before = [snapshot(stage.pid) for stage in [*quiet, *talking]]
            time.sleep(self._plan.idle_s)
            costs = [cost_since(was, stage.pid) for was, stage in zip(before, [*quiet, *talking], strict=True)]
            for stage, cost in zip(quiet, costs, strict=False):
                row = self._row(stage.contender)
                row.idle = cost
                row.watchdog_pings = stage.notified().count("WATCHDOG=1")
            for stage, cost in zip(talking, costs[len(quiet) :], strict=True):
                self._row(stage.contender).idle_in_call = cost

    def starts(self) -> None:
        watcher = Watcher(self._port)
        seconds: dict[str, list[float]] = {contender.key: [] for contender in self._contenders}
        for number in range(self._plan.starts + _WARM_UP_STARTS):
            for contender in self._contenders:
                with self._stage(contender) as stage:
                    stage.start()
                    taken = watcher.wait_until_ready(stage)
                    if number >= _WARM_UP_STARTS:
                        seconds[contender.key].append(taken)
        watcher.close()
        for key, taken_s in seconds.items():
            next(row for row in self.rows if row.key == key).ready_s = statistics.median(taken_s)

    def _in_call(self, stack: contextlib.ExitStack) -> list[Player]:
        """Bring all up in calls, until their lamps tell so; a row that does not come up has failed."""
        stages = [stack.enter_context(self._stage(contender)) for contender in self._contenders if contender.bridges]
        players: list[Player] = []
        for stage in stages:
            stage.start_controller()
            stage.start()
        for stage in stages:
            try:
                stage.wait_for_lamp("live")
            except BenchError as error:
                self._failed(self._row(stage.contender), str(error))
            else:
                players.append(Player(stage))
        return players

    def _idle_stage(self, stack: contextlib.ExitStack, contender: Contender, call_state: str) -> Stage:
        stage = stack.enter_context(self._stage(contender, buttons=_BUTTONS_WHEN_IDLE, call_state=call_state))
        stage.start_controller()
        return stage

    def _stage(self, contender: Contender, *, buttons: int = 1, call_state: str = "connected") -> Stage:
        self._stations += 1
        return Stage(
            contender,
            port=self._port,
            station=f"{contender.key}-{self._stations}",
            folder=self._folder,
            programs=self._folder,
            buttons=buttons,
            call_state=call_state,
        )

    def _row(self, contender: Contender) -> Row:
        return next(row for row in self.rows if row.key == contender.key)

    def _failed(self, row: Row, why: str) -> None:
        row.failed = True
        row.note = f"failed: {why}"


def _arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 tests/bench", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a handful of presses: shows that it works, not how fast")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of blocks (default 9)")
    parser.add_argument("--rows", metavar="KEYS", help="these rows only, comma-separated")
    parser.add_argument("--attached", action="store_true", help="what attached devices cost at rest, and nothing else")
    parser.add_argument("--page", action="store_true", help="a web page instead: a press on the desk, a click on it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    keys = [contender.key for contender in CONTENDERS]
    arguments.rows = arguments.rows.split(",") if arguments.rows else keys
    unknown = set(arguments.rows) - set(keys)
    if unknown:
        parser.error(f"--rows: {', '.join(sorted(unknown))}: one of {', '.join(keys)} is allowed")
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds: at least 1")
    return arguments


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _run_attached(arguments: argparse.Namespace) -> int:
    short = attached.Plan(settle_s=0.5, settle_in_call_s=0.5, idle_s=1)
    whole = attached.Plan(settle_s=_UNTIL_AT_REST_S, settle_in_call_s=5, idle_s=60)
    rows = attached.measure(short if arguments.quick else whole, _say)
    print(msgspec.json.encode(rows).decode() if arguments.json else attached.as_text(rows))
    return 0


def _run_page(arguments: argparse.Namespace) -> int:
    from tests.bench import page  # noqa: PLC0415 - it needs a browser

    print(page.table(*page.measure(10 if arguments.quick else 300)))
    return 0


def _run(arguments: argparse.Namespace) -> int:
    plan = _plan(quick=arguments.quick, rounds=arguments.rounds)
    chosen = [contender for contender in CONTENDERS if contender.key in arguments.rows]
    with tempfile.TemporaryDirectory(prefix="mutebridge-bench-") as name, private_broker(Path(name)) as port:
        compile_programs(Path(name))
        bench = Bench(port, Path(name), chosen, plan)
        _say("round trips ...")
        bench.round_trips()
        _say(f"idle, {plan.idle_s:g} s ...")
        bench.idle()
        _say("starts ...")
        bench.starts()
    if arguments.json:
        held = [{**msgspec.to_builtins(t), "met": t.met} for t in targets(bench.rows, plan.patterns)]
        print(msgspec.json.encode({"rows": bench.rows, "targets": held}).decode())
    else:
        print(as_text(bench.rows, plan.patterns))
    return 1 if any(row.failed for row in bench.rows) else 0


def main(description: str) -> int:
    """Carry out the command line; returns the exit code. `description` is what `--help` explains."""
    try:
        arguments = _arguments(description)
        run = _run_attached if arguments.attached else _run_page if arguments.page else _run
        return run(arguments)
    except BenchError as error:
        _say(f"bench: {error}")
        return _EX_UNAVAILABLE
