"""What becomes of each test when guests answer, hang, die or go on forever: none is lost silently or passes by it."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Sequence

import pytest
from tests.lab import runner
from tests.lab.channel import Agent, GuestHungError, Message
from tests.lab.runner import LabTest, Lost, ModuleRun, Result

SILENCE_S = 0.3


class ScriptedGuest:
    """Speaks as the agent of a guest would, from a list; at its end it hangs, and with None in it, it is gone."""

    def __init__(self, script: Sequence[Message | None]) -> None:
        near, self._far = socket.socketpair()
        self.agent = Agent(near, silence_s=SILENCE_S)
        self.asked: list[str] = []
        self._script = script
        self._thread = threading.Thread(target=self._speak)
        self._thread.start()

    def _speak(self) -> None:
        # The host may have closed the connection before all was said.
        with contextlib.suppress(BrokenPipeError), self._far.makefile("rb") as requests:
            self.asked = [word for word in json.loads(requests.readline())["pytest"] if "::" in word]
            for message in self._script:
                if message is None:
                    self._far.shutdown(socket.SHUT_RDWR)
                    return
                self._far.sendall(json.dumps(message).encode() + b"\n")
            requests.readline()  # until the host closes the connection

    def last_words(self) -> str:
        return "the console's last line"

    def close(self) -> None:
        self.agent.close()
        self._thread.join()
        self._far.close()


class Lab:
    """Hands out one guest after the other, and keeps what was noted."""

    def __init__(self, *scripts: Sequence[Message | None]) -> None:
        self._scripts = list(scripts)
        self.guests: list[ScriptedGuest] = []
        self.after_hangs: list[bool] = []
        self.notes: list[str] = []

    def start(self, after_hang: bool) -> ScriptedGuest:
        self.after_hangs.append(after_hang)
        self.guests.append(ScriptedGuest(self._scripts.pop(0)))
        return self.guests[-1]

    def run(self, *nodeids: str, endless: str = "") -> dict[str, Result | Lost]:
        tests = [LabTest(nodeid, timeout_s=0 if nodeid == endless else 60) for nodeid in nodeids]
        outcomes = ModuleRun(self.start, ["-q"], self.notes.append).results(tests)
        return {outcome.nodeid: outcome for outcome in outcomes}


def reports(nodeid: str) -> Iterator[Message]:
    for when in ("setup", "call", "teardown"):
        yield {"report": {"nodeid": nodeid, "when": when, "outcome": "passed"}}


def why(outcome: Result | Lost) -> str:
    assert isinstance(outcome, Lost)
    return outcome.why


def test_each_test_gets_its_own_reports() -> None:
    lab = Lab([*reports("t::a"), {"alive": 1.0}, {"out": "dots"}, *reports("t::b"), {"done": 0}])
    outcomes = lab.run("t::a", "t::b")
    assert outcomes == {
        name: Result(name, [message["report"] for message in reports(name)]) for name in ("t::a", "t::b")
    }
    assert not lab.notes


def test_a_guest_that_hangs_is_named_and_the_rest_runs_in_a_fresh_one() -> None:
    lab = Lab(list(reports("t::a")), [*reports("t::b"), *reports("t::c"), {"done": 0}])
    outcomes = lab.run("t::a", "t::b", "t::c")
    assert all(isinstance(outcome, Result) for outcome in outcomes.values())
    assert [guest.asked for guest in lab.guests] == [["t::a", "t::b", "t::c"], ["t::b", "t::c"]]
    assert lab.after_hangs == [False, True]
    (note,) = lab.notes
    assert "a guest hung" in note
    assert "t::b" in note
    assert "the console's last line" in note


@pytest.mark.parametrize("end", [[], [None]], ids=["hangs", "is gone"])
def test_a_test_at_which_guests_hang_twice_is_lost_and_no_pass(end: list[None]) -> None:
    lab = Lab([*reports("t::a"), *end], end, [*reports("t::c"), {"done": 0}])
    outcomes = lab.run("t::a", "t::b", "t::c")
    assert "hung twice" in why(outcomes["t::b"])
    assert "the console's last line" in why(outcomes["t::b"])
    assert isinstance(outcomes["t::a"], Result)
    assert isinstance(outcomes["t::c"], Result)
    assert [guest.asked for guest in lab.guests][1:] == [["t::b", "t::c"], ["t::c"]]
    assert lab.after_hangs == [False, True, False]


def test_where_no_guest_comes_up_all_is_lost_after_two_tries() -> None:
    tries: list[bool] = []

    def start(after_hang: bool) -> ScriptedGuest:
        tries.append(after_hang)
        raise GuestHungError("no word from the machine")

    tests = [LabTest("t::a", 60), LabTest("t::b", 60)]
    outcomes = list(ModuleRun(start, [], print).results(tests))
    assert ["no word from the machine" in why(outcome) for outcome in outcomes] == [True, True]
    assert tries == [False, True]


def test_a_half_reported_test_of_a_hung_guest_counts_for_nothing() -> None:
    lab = Lab(list(reports("t::a"))[:2], list(reports("t::a"))[:2])
    assert "hung" in why(lab.run("t::a")["t::a"])


def test_a_test_that_ends_its_pytest_costs_only_itself() -> None:
    lab = Lab([*reports("t::a"), {"out": "Killed\n"}, {"done": -9}], [*reports("t::c"), {"done": 0}])
    outcomes = lab.run("t::a", "t::b", "t::c")
    assert "status -9" in why(outcomes["t::b"])
    assert "Killed" in why(outcomes["t::b"])
    assert isinstance(outcomes["t::c"], Result)
    assert lab.after_hangs == [False, False]


def test_a_pytest_that_runs_nothing_loses_all_without_another_try() -> None:
    lab = Lab([{"out": "ERROR collecting t\n"}, {"done": 2}])
    outcomes = lab.run("t::a", "t::b")
    assert all("ERROR collecting t" in why(outcome) for outcome in outcomes.values())


def test_a_test_that_never_ends_is_lost_while_its_guest_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "GRACE_S", 0.0)
    lab = Lab([{"alive": 1.0}], [*reports("t::b"), {"done": 0}])
    outcomes = lab.run("t::a", "t::b", endless="t::a")
    assert "did not end" in why(outcomes["t::a"])
    assert isinstance(outcomes["t::b"], Result)
