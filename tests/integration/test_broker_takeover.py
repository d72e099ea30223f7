"""Two clients with one client id: one of them says so and gives up, the other stays."""

from collections.abc import Callable

import pytest

from mutebridge.edges.broker import ProblemKind
from integration.broker_probe import Fatal, Probe
from integration.mosquitto import Mosquitto

pytestmark = pytest.mark.broker


@pytest.mark.parametrize(("protocol", "words"), [("5", "taken over 3 times within a minute"), ("3.1.1", "MQTT 3.1.1")])
def test_one_of_two_with_the_same_id_gives_up(mosquitto: Mosquitto, protocol: str, words: str) -> None:
    with (
        Probe(mosquitto.port, "twin", protocol=protocol) as first,
        Probe(mosquitto.port, "twin", protocol=protocol) as second,
    ):
        # Both hear the log, in which the end of either shows.
        first.wait_until(lambda: first.gave_up or second.gave_up)
        loser, winner = (first, second) if first.gave_up else (second, first)
        problem = loser.wait_fatal().message
        assert words in problem
        assert "'twin'" in problem
        assert loser.broker.problem is not None
        assert loser.broker.problem.kind is ProblemKind.CLIENT_ID_TAKEN
        assert not loser.broker.up
        winner.wait_until(lambda: winner.broker.up)
        assert winner.publish("a", b"x")
        assert not winner.count(Fatal)


def test_a_single_takeover_is_told_and_survived(mosquitto: Mosquitto) -> None:
    with Probe(mosquitto.port, "twin") as first:
        first.wait_up()
        with Probe(mosquitto.port, "twin", retry_first_s=60, retry_max_s=60) as second:
            second.wait_up()
            assert "client id 'twin' and took over" in first.wait_lost()
        first.wait_up()


def test_a_broker_that_restarts_again_and_again_is_no_takeover(make_mosquitto: Callable[..., Mosquitto]) -> None:
    mosquitto = make_mosquitto()
    with Probe(mosquitto.port, protocol="3.1.1") as probe:
        for _ in range(7):
            probe.wait_up()
            mosquitto.kill()
            probe.wait_lost()
            probe.wait_problem(ProblemKind.CONNECTION_REFUSED)
            mosquitto.start()
        probe.wait_up()
        assert not probe.count(Fatal)
