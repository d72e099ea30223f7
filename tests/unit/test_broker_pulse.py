"""When a broker is asked for a sign of life, when it is given up; how reconnects are spread."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutebridge.edges.broker.backoff import backoff_s
from mutebridge.edges.broker.pulse import PING_TIMEOUT_S, Pulse


def test_in_use_silence_is_answered_by_a_ping_and_its_silence_by_the_end() -> None:
    pulse = Pulse(10, now=100)
    assert pulse.deadline() == 109
    pulse.ask(109)
    assert pulse.deadline() == 112  # at most keep-alive + 2 s after the last word
    pulse.heard(109.1)
    assert pulse.deadline() == 118  # a ping of ours every 9 s too


def test_hearing_much_does_not_spare_the_pings_that_the_broker_expects() -> None:
    pulse = Pulse(10, now=100)
    pulse.heard(108)
    pulse.received(108)
    assert pulse.deadline() == 109


def test_at_rest_the_answer_is_looked_for_when_the_next_ping_is_due() -> None:
    pulse = Pulse(10, now=100)
    now = 100.0
    while not pulse.patient:
        now = pulse.deadline()
        pulse.ask(now)
        if not pulse.patient:
            pulse.heard(now)
    assert now == 137  # in use until 30 s after the last message, then the full keep-alive
    assert pulse.deadline() == 147


def test_a_publish_is_followed_by_a_ping_but_not_each_of_many() -> None:
    pulse = Pulse(10, now=100)
    assert pulse.published(105)
    pulse.ask(105)
    assert not pulse.published(105.5)  # an answer is outstanding
    pulse.heard(105.6)
    assert not pulse.published(105.9)  # there was one just now
    assert pulse.published(106)


def test_a_publish_at_rest_is_followed_by_a_ping_though_an_answer_is_outstanding() -> None:
    """That answer may have come before the broker froze: it lies there unread."""
    pulse = Pulse(10, now=100)
    pulse.ask(150)
    assert pulse.deadline() == 160
    assert pulse.published(150.1)
    pulse.ask(150.1)
    assert pulse.deadline() == 150.1 + PING_TIMEOUT_S


@given(
    attempt=st.integers(0, 10_000),
    chance=st.floats(0, 1, exclude_max=True),
    first_s=st.floats(0.01, 100),
    max_s=st.floats(0.01, 3600),
)
def test_back_off_stays_in_its_bounds(attempt: int, chance: float, first_s: float, max_s: float) -> None:
    wait_s = backoff_s(attempt, chance, first_s=first_s, max_s=max_s)
    assert 0 <= wait_s <= max_s
    assert wait_s <= first_s * 2.0 ** min(attempt, 32)


@pytest.mark.parametrize(("attempt", "bound_s"), [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (60, 60)])
def test_the_bound_doubles_up_to_a_minute(attempt: int, bound_s: float) -> None:
    assert backoff_s(attempt, 0.5) == bound_s / 2


def test_a_thousand_clients_of_a_restarted_broker_come_spread_over_the_whole_time() -> None:
    chances = random.Random(7)
    for attempt, bound_s in ((0, 1.0), (3, 8.0), (9, 60.0)):
        waits = [backoff_s(attempt, chances.random()) for _ in range(1000)]
        tenths = [sum(int(wait * 10 / bound_s) == tenth for wait in waits) for tenth in range(10)]
        assert min(tenths) > 60
        assert max(tenths) < 150
