"""Every scenario file, played: the output must be the expected one, line by line."""

from pathlib import Path

import pytest
from tests.scenarios import runner


@pytest.mark.parametrize("file", runner.files(), ids=lambda file: file.stem)
def test_scenario(file: Path) -> None:
    given, expected = runner.split(file.read_text())
    assert runner.play(given) == expected


def test_there_are_scenarios_for_the_rules() -> None:
    assert len(runner.files()) >= 40


def test_a_line_that_is_not_understood_is_an_error() -> None:
    with pytest.raises(ValueError, match="not understood: softphone: call"):
        runner.play(["0 softphone: call"])
