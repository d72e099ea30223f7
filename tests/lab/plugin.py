"""Hands the lab's test files over to guests, and their reports back to pytest."""

import functools
import os
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.lab import native, vm
from tests.lab.ahead import Ahead
from tests.lab.prerequisites import PrerequisiteError
from tests.lab.runner import Guest, LabTest, Lost, ModuleRun, Result
from tests.lab.tree import LAB

VM_FILES = "guest_"
NATIVE_FILES = "native_"

_NOT_ASKED_FOR = "the lab runs when it is asked for: pytest tests/lab"

# How many machines run at once, each of which uses about half a core.
_LANES = 2

_TIMEOUT_S = pytest.StashKey[float]()


class LabPlugin:
    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._ci = config.getoption("--ci", default=False) or os.environ.get("MUTEBRIDGE_CI") == "1"
        self._notes: list[str] = []
        self._running: tuple[Path, _Results] | None = None
        self._ahead: Ahead | None = None
        self._machines: list[Guest] = []
        self._starters: dict[str, Callable[[bool], Guest] | Exception] = {}
        self._starting = threading.Lock()

    # --- collecting ---

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
        # pytest itself collects a file that was named on its command line, whatever the file is called.
        if _is_handed_over(file_path) and not parent.session.isinitpath(file_path):
            return pytest.Module.from_parent(parent, path=file_path)
        return None

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        if _is_handed_over(item.path):
            item.stash[_TIMEOUT_S] = _timeout_s(item)
            # The limit is held inside the guest; out here it would count the building of the guest too.
            item.add_marker(pytest.mark.timeout(0), append=False)

    # --- for the tests of the lab itself ---

    @pytest.fixture
    def vm_starter(self) -> Callable[[bool], Guest]:
        """What starts virtual machines; skips where nothing does."""
        if not _asked_for(self._config, ci=self._ci):
            pytest.skip(_NOT_ASKED_FOR)
        starter = self._starter(VM_FILES)
        if isinstance(starter, Exception):
            (pytest.skip if self._verdict_on(starter) == "skipped" else pytest.fail)(
                f"the lab cannot run here: {starter}"
            )
        return starter

    # --- running ---

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Let the machine start with its modules while the tests before them run."""
        paths = dict.fromkeys(item.path for item in session.items if _in_machine(item.path))
        if paths and _asked_for(self._config, ci=self._ci) and not self._config.option.collectonly:
            self._ahead = Ahead(
                {path: functools.partial(self._begin, path, session.items) for path in paths}, lanes=_LANES
            )
            self._ahead.start()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        if not _is_handed_over(item.path):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports(item):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if nextitem is None or nextitem.path != item.path:
            self._close()
        return True

    def pytest_sessionfinish(self) -> None:
        self._close()
        if self._ahead is not None:
            self._ahead.stop()
            for machine in self._machines:
                machine.close()
            self._ahead.join()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for note in self._notes:
            terminalreporter.section("lab", sep="-", yellow=True)
            terminalreporter.write_line(note)

    def _reports(self, item: pytest.Item) -> list[pytest.TestReport]:
        if not _asked_for(self._config, ci=self._ci):
            return _only(item, "skipped", _NOT_ASKED_FOR)
        starter = self._starter(NATIVE_FILES if item.path.name.startswith(NATIVE_FILES) else VM_FILES)
        if isinstance(starter, Exception):
            return _only(item, self._verdict_on(starter), f"the lab cannot run here: {starter}")
        if self._ahead is not None and _in_machine(item.path):
            outcome = self._ahead.of(item.path, item.nodeid)
        else:
            outcome = self._results(item, starter).of(item.nodeid)
        if isinstance(outcome, Lost):
            return _only(item, "failed", outcome.why)
        return [self._report(data) for data in outcome.reports]

    def _report(self, data: dict[str, Any]) -> pytest.TestReport:
        """A report of the guest's pytest as if it were this one's."""
        if isinstance(data["longrepr"], list):  # where and why it is skipped: a tuple, if JSON had them
            data = data | {"longrepr": tuple(data["longrepr"])}
        if self._ci and data["outcome"] == "skipped" and "wasxfail" not in data:
            data = data | {"outcome": "failed", "longrepr": f"skipped, which --ci forbids: {data['longrepr'][2]}"}
        load = self._config.hook.pytest_report_from_serializable
        report: pytest.TestReport = load(config=self._config, data=data)
        return report

    def _verdict_on(self, reason: Exception) -> Literal["failed", "skipped"]:
        return "skipped" if isinstance(reason, PrerequisiteError) and not self._ci else "failed"

    def _starter(self, kind: str) -> Callable[[bool], Guest] | Exception:
        """What starts the guests of this kind of file, made once; or why nothing does, found out once."""
        with self._starting:
            if kind not in self._starters:
                try:
                    self._starters[kind] = native.starter(self._say) if kind == NATIVE_FILES else vm.starter(self._say)
                except Exception as error:  # whatever it is, it is the result of each test
                    self._starters[kind] = error
            return self._starters[kind]

    def _results(self, item: pytest.Item, starter: Callable[[bool], Guest]) -> "_Results":
        if self._running is None or self._running[0] != item.path:
            self._close()
            self._running = (item.path, _Results(self._run(item.path, item.session.items, starter)))
        return self._running[1]

    def _begin(self, path: Path, items: list[pytest.Item]) -> Generator[Result | Lost]:
        """Run a module in machines; no results where none starts, which each test finds out for itself."""
        starter = self._starter(VM_FILES)
        if isinstance(starter, Exception):
            return

        def start(again: bool) -> Guest:
            assert self._ahead is not None
            self._ahead.go_on()
            machine = starter(again)
            self._machines.append(machine)
            return machine

        yield from self._run(path, items, start)

    def _run(self, path: Path, items: list[pytest.Item], starter: Callable[[bool], Guest]) -> Generator[Result | Lost]:
        tests = [LabTest(item.nodeid, item.stash[_TIMEOUT_S]) for item in items if item.path == path]
        return ModuleRun(starter, self._guest_arguments(), lambda note: self._note(path, note)).results(tests)

    def _guest_arguments(self) -> list[str]:
        settings = ("addopts=--import-mode=importlib --strict-markers", "timeout_method=signal")
        style = (f"--tb={self._config.option.tbstyle}", *(["--showlocals"] if self._config.option.showlocals else []))
        # The conftest of all tests imports what only the host has.
        here = "--confcutdir=/repo/tests/lab"
        return ["-q", "-p", "no:cacheprovider", here, *style, *(f"--override-ini={setting}" for setting in settings)]

    def _note(self, path: Path, note: str) -> None:
        self._notes.append(f"{path.name}: {note}")

    def _close(self) -> None:
        if self._running is not None:
            self._running[1].close()
            self._running = None

    def _say(self, progress: str) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write_line(progress)


class _Results:
    """The results of a running module, by test; they come in the guest's order."""

    def __init__(self, coming: Generator[Result | Lost]) -> None:
        self._coming = coming
        self._here: dict[str, Result | Lost] = {}

    def of(self, nodeid: str) -> Result | Lost:
        while nodeid not in self._here:
            outcome = next(self._coming)
            self._here[outcome.nodeid] = outcome
        return self._here.pop(nodeid)

    def close(self) -> None:
        self._coming.close()


def _is_handed_over(path: Path) -> bool:
    return path.parent == LAB and path.suffix == ".py" and path.name.startswith((VM_FILES, NATIVE_FILES))


def _in_machine(path: Path) -> bool:
    return _is_handed_over(path) and path.name.startswith(VM_FILES)


def _asked_for(config: pytest.Config, *, ci: bool) -> bool:
    """A plain `pytest` leaves the lab alone: it would build for minutes, and as root install packages."""
    here = config.invocation_params.dir
    return ci or any((here / argument.split("::")[0]).resolve().is_relative_to(LAB) for argument in config.args)


def _timeout_s(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    if marker is None:
        return float(item.config.getini("timeout"))
    return float(marker.kwargs.get("timeout", marker.args[0] if marker.args else 0))


def _only(item: pytest.Item, outcome: Literal["failed", "skipped"], why: str) -> list[pytest.TestReport]:
    """The reports of a test that did not run."""
    path, line, _ = item.location
    longrepr = why if outcome == "failed" else (path, line or 0, why)

    def report(
        when: Literal["setup", "call", "teardown"], outcome: Literal["passed", "failed", "skipped"]
    ) -> pytest.TestReport:
        said = None if outcome == "passed" else longrepr
        return pytest.TestReport(item.nodeid, item.location, dict.fromkeys(item.keywords, 1), outcome, said, when)

    return [report("call" if outcome == "failed" else "setup", outcome), report("teardown", "passed")]
