"""What holds for every tier: options of a whole run, the broker's programs."""

import io
import shutil
from collections.abc import Generator
from pathlib import Path

import coverage
import pytest

ROOT = Path(__file__).resolve().parent.parent
BROKER_PROGRAMS = ("mosquitto", "mosquitto_passwd", "mosquitto_pub", "mosquitto_sub")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("mutebridge")
    group.addoption("--ci", action="store_true", help="a test that is skipped has failed")
    group.addoption("--complete-core", action="store_true", help="with --cov: fail unless all of core/ is covered")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--ci"):
        config.pluginmanager.register(NothingIsSkipped())
    if config.getoption("--complete-core"):
        config.pluginmanager.register(CompleteCore())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [program for program in BROKER_PROGRAMS if not shutil.which(program)]
    if missing:
        reason = f"needs {', '.join(missing)}; type: sudo apt install mosquitto mosquitto-clients"
        for item in items:
            if item.get_closest_marker("broker"):
                item.add_marker(pytest.mark.skip(reason=reason))


class NothingIsSkipped:
    """Turns each skip into a failure: on a machine that has everything, a skipped tier is a missing one."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.skipped and not hasattr(report, "wasxfail"):
            self._fail(report)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if report.skipped:
            self._fail(report)
        return report

    @staticmethod
    def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, which --ci forbids: {reason}"


class CompleteCore:
    """One more test, after all the others: every line and branch of core/ was run."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        result = yield  # coverage is complete, saved by now: this wraps pytest-cov, being first
        table, complete = core_coverage(ROOT / ".coverage")
        report = pytest.TestReport(
            nodeid="tests/conftest.py::every line and branch of core is covered",
            location=("tests/conftest.py", None, "every line and branch of core is covered"),
            keywords={},
            outcome="passed" if complete else "failed",
            longrepr=None if complete else table,
            when="call",
        )
        session.config.hook.pytest_runtest_logreport(report=report)
        return result


def core_coverage(data_file: Path) -> tuple[str, bool]:
    """Return a table of what of core/ was run, with whether it is all of it."""
    measured = coverage.Coverage(data_file=data_file, config_file=str(ROOT / "pyproject.toml"))
    measured.load()
    table = io.StringIO()
    try:
        percent = measured.report(include=[str(ROOT / "daemon/mutebridge/core/*")], file=table, skip_covered=True)
    except coverage.exceptions.CoverageException as error:
        return str(error), False
    return table.getvalue(), percent >= 100
