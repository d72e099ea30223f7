"""How the demo holds lamps against the microphone."""

from collections.abc import Callable

import pytest

from mutebridge.demo.truth import GRACE_S, Truth


@pytest.fixture
def truth() -> Truth:
    truth = Truth()
    truth.lamp("button", False, 0.0)
    return truth


@pytest.mark.parametrize("muted", [False, None], ids=["live", "no call"])
def test_a_lamp_lit_for_long_while_the_microphone_is_not_muted_lies(truth: Truth, muted: bool | None) -> None:
    truth.microphone(muted, 1.0)
    truth.lamp("button", True, 2.0)
    truth.lamp("button", False, 2.0 + 2 * GRACE_S)
    (lie,) = truth.all_lies(9.0)
    assert (lie.lamp, lie.since, lie.lasted_s) == ("button", 2.0, 2 * GRACE_S)


def test_a_lie_that_goes_on_is_told(truth: Truth) -> None:
    truth.lamp("button", True, 2.0)
    assert truth.all_lies(2.0 + GRACE_S) == []
    assert [lie.lasted_s for lie in truth.all_lies(2.0 + 2 * GRACE_S)] == [2 * GRACE_S]


def test_a_lie_begins_when_the_microphone_goes_live_under_a_lit_lamp(truth: Truth) -> None:
    truth.microphone(True, 1.0)
    truth.lamp("button", True, 2.0)
    truth.microphone(False, 7.0)
    assert [lie.since for lie in truth.all_lies(8.0)] == [7.0]


def test_a_lamp_is_held_against_all_softphones(truth: Truth) -> None:
    truth.lamp("button", True, 1.0)
    seen = []
    for muted, now, softphone in ((True, 1.0, "one"), (False, 3.0, "other"), (None, 4.0, "other"), (None, 9.0, "one")):
        truth.microphone(muted, now, softphone)
        seen.append(truth.muted)
    assert seen == [True, False, True, None]
    assert [lie.lasted_s for lie in truth.all_lies(9.0)] == [1.0]


@pytest.mark.parametrize("end", ["lamp off", "muted again", "lamp gone"])
def test_a_short_lag_is_none_but_is_measured(truth: Truth, end: str) -> None:
    truth.lamp("button", True, 2.0)
    if end == "muted again":
        truth.microphone(True, 2.25)
    else:
        truth.lamp("button", None if end == "lamp gone" else False, 2.25)
    assert truth.all_lies(9.0) == []
    assert truth.longest_lag_s == 0.25


def test_a_dark_lamp_does_not_lie(truth: Truth) -> None:
    truth.microphone(True, 1.0)
    assert truth.all_lies(99.0) == []


def test_at_rest_every_lamp_is_lit_just_when_the_microphone_is_muted(truth: Truth) -> None:
    changes: tuple[Callable[[], None], ...] = (
        lambda: truth.lamp("other", False, 0.0),
        lambda: truth.microphone(True, 1.0),
        lambda: truth.lamp("button", True, 1.0),
        lambda: truth.lamp("other", None, 1.0),
        lambda: truth.microphone(False, 2.0),
    )
    rests = []
    for change in changes:
        change()
        rests.append(truth.at_rest)
    assert rests == [True, False, False, True, False]
