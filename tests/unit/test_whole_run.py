"""What a run of all tiers asks beyond what pytest does: nothing skipped, the core covered in full."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
TIMEOUT_S = 100

PYPROJECT = """\
[tool.pytest.ini_options]
pythonpath = ["daemon"]
[tool.coverage.run]
branch = true
source = ["mutebridge"]
"""
HALF = """\
def half(x):
    if x:
        return 1
    return 2
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "tests").mkdir()
    shutil.copy(CONFTEST, tmp_path / "tests")
    core = tmp_path / "daemon" / "mutebridge" / "core"
    core.mkdir(parents=True)
    (core.parent / "__init__.py").touch()
    (core / "__init__.py").touch()
    (core / "part.py").write_text(HALF)
    return tmp_path


def run(tree: Path, test: str, *args: str) -> tuple[int, str]:
    """Return exit status and closing line."""
    (tree / "tests" / "test_it.py").write_text(test)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *args],
        cwd=tree,
        env=env,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()[-1].strip("= ").rpartition(" in ")[0]


def test_the_lab_alone_and_everything() -> None:
    main = runpy.run_path(str(CONFTEST.with_name("__main__.py")))
    folders = {str(CONFTEST.with_name(tier)) for tier in main["TIERS"]}
    lab = str(CONFTEST.with_name("lab"))
    assert main["_pytest_args"](["--lab"]) == [lab]
    assert main["_pytest_args"](["--lab", "--ci", "-x"]) == ["--ci", lab, "-x"]
    assert folders | {lab} < set(main["_pytest_args"](["--ci"]))
    assert lab not in main["_pytest_args"]([])


SKIPS = "import pytest\ndef test_runs(): pass\n@pytest.mark.skip\ndef test_skips(): pass\n"
SKIPS_INSIDE = "import pytest\ndef test_skips(): pytest.skip('no such device')\n"
SKIPS_ALL = "import pytest\npytest.skip('no such library', allow_module_level=True)\n"
FAILS_AS_KNOWN = "import pytest\n@pytest.mark.xfail\ndef test_known(): assert False\n"


@pytest.mark.parametrize(
    ("test", "args", "status", "closing"),
    [
        (SKIPS, [], 0, "1 passed, 1 skipped"),
        (SKIPS, ["--ci"], 1, "1 passed, 1 error"),
        (SKIPS_INSIDE, ["--ci"], 1, "1 failed"),
        (SKIPS_ALL, ["--ci"], 2, "1 error"),
        (FAILS_AS_KNOWN, ["--ci"], 0, "1 xfailed"),
    ],
)
def test_with_ci_what_is_skipped_has_failed(tree: Path, test: str, args: list[str], status: int, closing: str) -> None:
    assert run(tree, test, *args) == (status, closing)


@pytest.mark.parametrize(
    ("calls", "status", "closing"),
    [
        ("half(0), half(1)", 0, "2 passed"),
        ("half(0)", 1, "1 failed, 1 passed"),
    ],
)
def test_a_core_that_is_not_covered_fails_the_run(tree: Path, calls: str, status: int, closing: str) -> None:
    test = f"from mutebridge.core.part import half\ndef test_half(): {calls}\n"
    assert run(tree, test, "--cov", "--complete-core") == (status, closing)
