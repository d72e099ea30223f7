"""Modules that run ahead of pytest: their results wait for whoever asks, and nobody waits for ever."""

import threading
from collections.abc import Generator
from pathlib import Path

import pytest
from tests.lab.ahead import Ahead
from tests.lab.runner import Lost, Result

ONE, TWO = Path("guest_one.py"), Path("guest_two.py")


def outcomes(*nodeids: str) -> Generator[Result | Lost]:
    yield from [Result(nodeid, []) for nodeid in nodeids]


def test_results_wait_for_whoever_wants_them() -> None:
    began: list[Path] = []

    def begin(path: Path) -> Generator[Result | Lost]:
        began.append(path)
        return outcomes(f"{path}::a", f"{path}::b")

    ahead = Ahead({path: lambda path=path: begin(path) for path in (ONE, TWO)}, lanes=1)  # type: ignore[misc]
    assert not began
    ahead.start()
    for path in (TWO, ONE):
        for test in "ba":
            assert ahead.of(path, f"{path}::{test}").nodeid == f"{path}::{test}"
    assert began == [ONE, TWO]


def test_modules_of_two_lanes_run_at_once() -> None:
    both = threading.Barrier(2)

    def begin(path: Path) -> Generator[Result | Lost]:
        both.wait(10)
        yield from outcomes(f"{path}::a")

    ahead = Ahead({path: lambda path=path: begin(path) for path in (ONE, TWO)}, lanes=2)  # type: ignore[misc]
    ahead.start()
    for path in (ONE, TWO):
        assert ahead.of(path, f"{path}::a").nodeid == f"{path}::a"


def test_what_goes_wrong_is_told_to_each_test_that_waits() -> None:
    def breaks() -> Generator[Result | Lost]:
        yield from outcomes("one::a")
        raise OSError("no space left")

    ahead = Ahead({ONE: breaks, TWO: lambda: outcomes("two::a")}, lanes=1)
    ahead.start()
    assert ahead.of(ONE, "one::a").nodeid == "one::a"
    for path, nodeid in ((ONE, "one::b"), (TWO, "two::a")):
        with pytest.raises(OSError, match="no space left"):
            ahead.of(path, nodeid)


def test_a_test_that_its_module_did_not_run_is_an_error() -> None:
    ahead = Ahead({ONE: lambda: outcomes("one::a")}, lanes=1)
    ahead.start()
    with pytest.raises(KeyError, match="one::b"):
        ahead.of(ONE, "one::b")


def test_a_run_that_ends_early_ends_the_running_module_and_begins_no_other() -> None:
    wanted, closed = threading.Event(), threading.Event()

    def endless() -> Generator[Result | Lost]:
        try:
            number = 0
            while True:
                yield Result(f"one::{number}", [])
                number += 1
                wanted.wait()
        finally:
            closed.set()

    ahead = Ahead({ONE: endless, TWO: lambda: outcomes("two::a")}, lanes=1)
    ahead.start()
    ahead.of(ONE, "one::0")
    ahead.stop()
    wanted.set()
    ahead.join()
    assert closed.is_set()
    with pytest.raises(InterruptedError):
        ahead.of(TWO, "two::a")
