"""What attached headsets cost while nothing happens: not one wake-up."""

import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.bench import attached
from tests.bench.idle_cost import snapshot
from tests.lab.guest.desk import Daemon, Desk, Model
from tests.lab.guest.firmware import Identity
from tests.lab.guest.headset import VirtualHeadset
from tests.lab.guest.uhid import Uhid

from mutebridge.virtual_headset import JABRA, descriptor

SETTLED_S, IDLE_S = 3.0, 20.0

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize("in_call", [False, True], ids=["at rest", "in a call"])
def test_no_thread_of_three_headsets_wakes(in_call: bool, tmp_path: Path) -> None:
    with ExitStack() as stack:
        for number in range(3):
            wire = Uhid(
                Identity(product=0x0100 + number, name=f"Phones {number}", serial=f"REST-{number}"), descriptor()
            )
            stack.enter_context(VirtualHeadset(wire, Model(JABRA))).plug()
        desk = stack.enter_context(Desk(tmp_path))
        daemon = stack.enter_context(Daemon(desk))
        desk.wait_for_devices(3)
        if in_call:
            desk.softphone.do("ring")
            desk.softphone.do("connect")
        threading.Event().wait(SETTLED_S)
        before = snapshot(daemon.process.pid)
        threading.Event().wait(IDLE_S)
        after = snapshot(daemon.process.pid)
    woken = [thread for thread, count in after.wake_ups.items() if count != before.wake_ups[thread]]
    assert len(after.wake_ups) >= 2 + 2 * 3, "each headset has a thread that listens and one that writes"
    assert len(woken) <= 2, "the broker's, and the one that decides when to be woken"


def test_the_bench_measures_them() -> None:
    subprocess.run(["modprobe", "uhid"], check=True)
    rows = attached.measure(attached.Plan(settle_s=0.5, settle_in_call_s=0.5, idle_s=1), print)
    assert [row.devices for row in rows] == [0, 3, 6]
    assert rows[1].idle.threads == rows[0].idle.threads + 6
    assert "three headsets" in attached.as_text(rows)
