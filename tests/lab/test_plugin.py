"""What a person sees of the lab where it cannot run: the line to type, and with --ci a failure."""

import subprocess
import sys

import pytest
from tests.lab.tree import ROOT

# A pytest run in which nothing can start a virtual machine.
RUN = """
import sys
import pytest
from tests.lab import vm
from tests.lab.prerequisites import PrerequisiteError

def starter(say):
    raise PrerequisiteError("type: sudo apt-get install it")

vm.starter = starter
sys.exit(pytest.main(sys.argv[1:]))
"""


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT}/daemon", "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_where_the_lab_cannot_run_its_tests_are_skipped_with_the_line_to_type() -> None:
    status, said = run("tests/lab/guest_serial.py")
    assert status == 0, said
    assert "4 skipped" in said
    assert "type: sudo apt-get install it" in said


def test_with_ci_that_is_a_failure() -> None:
    status, said = run("--ci", "tests/lab/guest_serial.py::test_lines_go_both_ways")
    assert status == 1
    assert "1 failed" in said
    assert "type: sudo apt-get install it" in said


def test_a_run_of_everything_leaves_the_lab_alone() -> None:
    status, said = run("tests", "-k", "test_lines_go_both_ways")
    assert status == 0, said
    assert "the lab runs when it is asked for: pytest tests/lab" in said


@pytest.mark.parametrize("selection", ["-k=both", "tests/lab/guest_serial.py::test_one_composite_device_is_both"])
def test_tests_are_chosen_as_ever(selection: str) -> None:
    _, said = run(
        "tests/lab/guest_serial.py" if selection.startswith("-k") else selection, "--collect-only", "-q", selection
    )
    assert "test_one_composite_device_is_both" in said
    assert "side_by_side" not in said
