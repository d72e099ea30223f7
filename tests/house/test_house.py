"""The rules of the house that a machine can check, over the whole tree: style, types, who imports whom."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["-m", "ruff", "check"], id="lint"),
        pytest.param(["-m", "ruff", "format", "--check"], id="format"),
        pytest.param(["-m", "mypy"], id="types"),
        pytest.param(["-c", "from importlinter.cli import lint_imports_command as main; main()"], id="imports"),
    ],
)
@pytest.mark.timeout(600)
def test_the_tree_is_clean(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "daemon")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}"
