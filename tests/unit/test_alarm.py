"""The alarm of the daemon's main loop: a real timer of the kernel."""

import math
import select
import time
from pathlib import Path

import pytest

from mutebridge.edges.alarm import Alarm


def now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def rings_within(alarm: Alarm, timeout_s: float) -> bool:
    return bool(select.select([alarm], [], [], timeout_s)[0])


def test_it_rings_at_its_moment_and_not_before() -> None:
    alarm, at_s = Alarm(), now_s() + 0.05
    alarm.set(at_s)
    assert rings_within(alarm, 10)
    assert now_s() >= at_s


@pytest.mark.parametrize("at_s", [0.0, -5.0, 1e-12])
def test_a_moment_that_is_past_rings_at_once(at_s: float) -> None:
    alarm = Alarm()
    alarm.set(at_s)
    assert rings_within(alarm, 10)


@pytest.mark.parametrize("other", [None, math.pi * 1e6])
def test_set_anew_it_forgets_what_was(other: float | None) -> None:
    alarm = Alarm()
    alarm.set(1.0)
    assert rings_within(alarm, 10)
    alarm.set(other)
    assert not rings_within(alarm, 0)


def test_it_counts_the_time_that_the_machine_sleeps() -> None:
    """No test can put its machine to sleep; the kernel says which clock it is."""
    alarm = Alarm()
    alarm.set(now_s() + 1000)
    fields = dict(line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{alarm.fileno()}").read_text().splitlines())
    assert int(fields["clockid"]) == time.CLOCK_BOOTTIME
    assert not fields["it_value"].strip().startswith("(0, 0)")
