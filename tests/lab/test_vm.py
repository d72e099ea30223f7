"""The virtual machine itself: what it has, and that the host notices when it hangs or dies."""

import time
from collections.abc import Callable, Iterator

import pytest
from tests.lab.channel import GuestHungError
from tests.lab.vm import VM


@pytest.fixture
def machine(vm_starter: Callable[[bool], VM]) -> Iterator[VM]:
    machine = vm_starter(False)
    yield machine
    machine.close()


def test_a_restored_machine_works(machine: VM) -> None:
    assert machine.agent.shell("echo said; exit 7") == (7, "said\n")
    assert machine.agent.shell("test -e /repo/tests/lab/test_vm.py") == (0, "")
    _, date = machine.agent.shell("date +%s")
    assert abs(int(date) - time.time()) < 20
    assert machine.agent.shell("systemctl is-system-running") == (0, "running\n")


def test_a_stopped_machine_is_noticed(machine: VM) -> None:
    machine.pause()
    machine.agent.silence_s = 1
    with pytest.raises(GuestHungError, match="said nothing"):
        machine.agent.shell("true")


def test_a_panic_is_noticed_with_the_kernels_last_words(machine: VM) -> None:
    with pytest.raises(GuestHungError, match="gone"):
        machine.agent.shell("echo c >/proc/sysrq-trigger")
    assert "sysrq triggered crash" in machine.last_words()
