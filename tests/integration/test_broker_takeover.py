"""Two clients with one client id: one of them says so and gives up, the other stays."""

import pytest
from tests.integration.broker_fake import FakeBroker, Session, publish
from tests.integration.broker_probe import Fatal, Probe
from tests.integration.mosquitto import Mosquitto

from mutebridge.edges.broker import ProblemKind

pytestmark = pytest.mark.broker

TAKEN_OVER = b"\xe0\x02\x8e\0"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_one_of_two_with_the_same_id_gives_up(mosquitto: Mosquitto, protocol: str) -> None:
    """mosquitto 2.0.11 does not tell the old one why, on MQTT 5 either: guessed from the drops."""
    with (
        Probe(mosquitto.port, "twin", protocol=protocol, subscriptions=[("will/twin", 0)]) as first,
        Probe(mosquitto.port, "twin", protocol=protocol, subscriptions=[("will/twin", 0)]) as second,
    ):
        # Both hear the log, in which the end of either shows.
        first.wait_until(lambda: first.gave_up or second.gave_up)
        loser, winner = (first, second) if first.gave_up else (second, first)
        problem = loser.wait_fatal()
        assert problem.kind is ProblemKind.CLIENT_ID_TAKEN
        assert "'twin' was dropped 5 times in a row" in problem.message
        assert not loser.broker.up
        winner.wait_until(lambda: winner.broker.up)
        assert winner.publish("a", b"x")
        assert not winner.count(Fatal)


def test_three_takeovers_that_the_broker_tells_are_enough() -> None:
    def script(session: Session) -> None:
        session.welcome()
        session.send(TAKEN_OVER)
        session.wait_end()

    with FakeBroker(script) as server, Probe(server.port, "twin", subscriptions=[("#", 0)]) as probe:
        assert "client id 'twin' and took over" in probe.wait_lost()
        problem = probe.wait_fatal()
        assert server.sessions == 3
    assert problem.kind is ProblemKind.CLIENT_ID_TAKEN
    assert "was taken over 3 times within a minute" in problem.message


def test_a_broker_that_dies_again_and_again_soon_after_it_is_back_is_waited_for() -> None:
    """It does so to every workstation at once: none may need a person afterwards. What is dead published no will."""

    def script(session: Session) -> None:
        session.welcome()
        if server.sessions >= 8:
            session.wait_end()

    with FakeBroker(script) as server, Probe(server.port, "lone", subscriptions=[("will/lone", 0)]) as probe:
        for _ in range(7):
            assert probe.wait_lost() == "closed the connection without a word"
        probe.wait_up()
        assert not probe.count(Fatal)


def test_a_broker_that_lives_on_and_closes_as_often_is_not() -> None:
    """In each connection the will of the one before is heard: it was published, so somebody else was let in."""

    def script(session: Session) -> None:
        session.welcome()
        session.send(publish("will/twin", b"offline"))

    with FakeBroker(script) as server, Probe(server.port, "twin", subscriptions=[("will/twin", 0)]) as probe:
        assert probe.wait_fatal().kind is ProblemKind.CLIENT_ID_TAKEN
        assert server.sessions == 5


def test_a_single_takeover_is_survived(mosquitto: Mosquitto) -> None:
    with Probe(mosquitto.port, "twin") as first:
        first.wait_up()
        with Probe(mosquitto.port, "twin", retry_first_s=60, retry_max_s=60) as second:
            second.wait_up()
            assert first.wait_lost() == "closed the connection without a word"
        first.wait_up()


def test_a_broker_that_restarts_again_and_again_is_no_takeover(mosquitto: Mosquitto) -> None:
    with Probe(mosquitto.port) as probe:
        for _ in range(7):
            probe.wait_up()
            mosquitto.kill()
            probe.wait_lost()
            probe.wait_problem(ProblemKind.CONNECTION_REFUSED)
            mosquitto.start()
        probe.wait_up()
        assert not probe.count(Fatal)
