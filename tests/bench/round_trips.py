"""Press to light, in microseconds: blocks of presses, one contender after the other, in several rounds.

The blocks of one round stand side by side, so that what disturbs the machine hits all alike; a ratio is formed within a
round, the median over the rounds is what counts.
"""

import statistics
import subprocess
from collections.abc import Iterable, Sequence

import msgspec
from tests.bench.idle_cost import cpu_s
from tests.bench.private_broker import BenchError
from tests.bench.stage import Stage


class Pattern(msgspec.Struct, frozen=True, kw_only=True):
    """How a person presses: `presses` in each block, one each `interval_ms` (0: as soon as the light has changed)."""

    name: str
    presses: int
    interval_ms: float = 0


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds; `blocks_p50` in the order of the rounds, `p50` their median, `p90` and `p99` over all presses.

    `cpu` is the contender's own run time for each press, the median over the blocks.
    """

    p50: float
    p90: float
    p99: float
    cpu: float
    blocks_p50: Sequence[float]


class Player:
    """Presses the first button of one stage; knows what its lamp shows."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.presses = 0
        self._blocks: dict[str, list[list[float]]] = {}
        self._cpu: dict[str, list[float]] = {}
        self._lamp = "live"

    def play(self, pattern: Pattern, *, warm_up: bool = False) -> None:
        """Play one block. BenchError when a press changes nothing."""
        command = [str(self.stage.programs / "button"), str(self.stage.button), self._lamp]
        command += [str(pattern.presses), str(int(pattern.interval_ms * 1000))]
        before_s = cpu_s(self.stage.pid)
        done = subprocess.run(command, check=False, pass_fds=[self.stage.button], capture_output=True, text=True)
        if done.returncode:
            raise self.stage.trouble(done.stderr.strip())
        *times, self._lamp = done.stdout.split()
        self.presses += len(times)
        if not warm_up:
            self._cpu.setdefault(pattern.name, []).append((cpu_s(self.stage.pid) - before_s) * 1e6 / pattern.presses)
            self._blocks.setdefault(pattern.name, []).append([int(time) / 1000 for time in times])

    def figures(self, pattern: Pattern) -> Figures:
        blocks = self._blocks[pattern.name]
        hundredths = statistics.quantiles([time for block in blocks for time in block], n=100, method="inclusive")
        medians = [statistics.median(block) for block in blocks]
        return Figures(
            p50=statistics.median(medians),
            p90=hundredths[89],
            p99=hundredths[98],
            cpu=statistics.median(self._cpu[pattern.name]),
            blocks_p50=medians,
        )


def play_rounds(players: Iterable[Player], patterns: Iterable[Pattern], rounds: int) -> dict[str, str]:
    """Play all patterns in all rounds; returns what went wrong, by contender, which then plays no further."""
    playing = list(players)
    wrong: dict[str, str] = {}
    for number in range(-1, rounds):
        for pattern in patterns:
            for player in _rotated(playing, number):
                try:
                    player.play(pattern, warm_up=number < 0)
                except BenchError as error:
                    wrong[player.stage.contender.key] = str(error)
            playing = [player for player in playing if player.stage.contender.key not in wrong]
    return wrong


def ratio(figures: Figures, to: Figures) -> float:
    """How many times as long as the other, side by side."""
    return statistics.median(ours / theirs for ours, theirs in zip(figures.blocks_p50, to.blocks_p50, strict=True))


def _rotated(players: list[Player], by: int) -> list[Player]:
    by %= max(1, len(players))
    return players[by:] + players[:by]
