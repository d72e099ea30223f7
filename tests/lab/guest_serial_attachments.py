"""Serial buttons on a real USB bus: udev tells when they come, the driver has modem lines, unplugging is unplugging."""

import os
import queue
import select
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.lab.guest.firmware import Identity
from tests.lab.guest.gadget import UsbDevice

from mutebridge.attachments import Attachments
from mutebridge.core.assignment import DeviceConfig
from mutebridge.core.events import DeviceAttached, DeviceDetached, Event, MutePressed, MuteReleased
from mutebridge.core.lights import Lights, MicLight
from mutebridge.core.profiles import profiles_from_dict

DEADLINE_S = 60.0
MUTED = Lights(mic=MicLight.MUTED)
KNOB = {
    "knob": {
        "name": "Knob",
        "source": "a test",
        "match": {"product": "Virtual Knob", "vendor_id": "1209"},
        "press_mode": "push_to_talk",
        "serial": {
            "press": "down",
            "release": "up",
            "settle_s": 0.1,
            "send": {"muted": "MUTED", "live": "LIVE", "off": "DARK"},
        },
    }
}


@pytest.fixture
def knob() -> Iterator[UsbDevice]:
    with UsbDevice(Identity(product=0x0010, name="Virtual Knob", serial="K1"), acm=True) as device:
        yield device


class Bench:
    """The attachments of a workstation, and what they said."""

    def __init__(self) -> None:
        self._heard: queue.Queue[Event] = queue.Queue()
        self.attachments = Attachments(self._feed, time.monotonic, profiles_from_dict(KNOB, "test"))

    def _feed(self, event: Event) -> None:
        if isinstance(event, DeviceAttached):
            self.attachments.show(event.device.id, MUTED)
        self._heard.put(event)

    def next(self) -> Event:
        return self._heard.get(timeout=DEADLINE_S)

    def configure(self, **keys: Any) -> None:
        config = {"id": "foot", "match": {"product": "Virtual Knob"}, **keys}
        self.attachments.configure([msgspec.convert(config, DeviceConfig)])


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    bench.attachments.configure([])
    bench.attachments.start()
    yield bench
    bench.attachments.stop(10)


class FarEnd:
    """The board's side of the port. While it is open the host sees DSR and DCD."""

    def __init__(self, device: UsbDevice) -> None:
        self.fd = os.open(device.serial_node, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.fd)

    def shows(self, expected: bytes) -> None:
        seen = b""
        while expected not in seen:
            assert select.select([self.fd], [], [], DEADLINE_S)[0], seen
            seen += os.read(self.fd, 4096)

    def close(self) -> None:
        os.close(self.fd)


def test_a_known_board_works_each_time_it_is_plugged_in(knob: UsbDevice, bench: Bench) -> None:
    for _ in range(3):
        knob.plug_serial()
        far = FarEnd(knob)
        attached = bench.next()
        assert isinstance(attached, DeviceAttached)
        assert attached.device.id == "knob-k1"
        far.shows(b"MUTED\n")
        os.write(far.fd, b"down\r\nup\r\n")
        assert [bench.next(), bench.next()] == [MutePressed("knob-k1"), MuteReleased("knob-k1")]
        (sighting,) = [s for s in bench.attachments.describe() if s.device_id]
        assert (sighting.state, sighting.product, sighting.serial_number) == ("open", "Virtual Knob", "K1")
        assert any("/by-id/" in link for link in sighting.links)
        far.close()
        knob.unplug()
        detached = bench.next()
        assert isinstance(detached, DeviceDetached)


def test_a_footswitch_on_a_modem_line(knob: UsbDevice, bench: Bench) -> None:
    bench.configure(serial={"modem": {"line": "dsr", "lamp": "rts"}})
    knob.plug_serial()
    assert isinstance(bench.next(), DeviceAttached)
    for _ in range(5):
        far = FarEnd(knob)
        assert bench.next() == MutePressed("foot")
        far.close()
        assert bench.next() == MuteReleased("foot")


def test_a_footswitch_at_rest_costs_no_wake_up(knob: UsbDevice, bench: Bench) -> None:
    bench.configure(serial={"modem": {"line": "dcd"}})
    knob.plug_serial()
    assert isinstance(bench.next(), DeviceAttached)
    while len(ours := [t for t in threading.enumerate() if t.name in ("hotplug", "serial foot", "modem line")]) < 3:
        os.sched_yield()

    def wake_ups() -> int:
        return sum(
            int(line.split()[1])
            for thread in ours
            for line in Path(f"/proc/self/task/{thread.native_id}/status").read_text().splitlines()
            if "voluntary_ctxt_switches" in line
        )

    pause = threading.Event()
    before, deadline = wake_ups(), time.monotonic() + DEADLINE_S
    while pause.wait(3.0) or (now := wake_ups()) != before:
        assert time.monotonic() < deadline, "it never comes to rest"
        before = now
    far = FarEnd(knob)
    assert bench.next() == MutePressed("foot"), "it sleeps, but not too deeply"
    far.close()
    assert bench.next() == MuteReleased("foot")


def test_a_new_configuration_takes_the_port_from_a_sleeping_line_thread(knob: UsbDevice, bench: Bench) -> None:
    bench.configure(serial={"modem": {"line": "dsr"}})
    knob.plug_serial()
    assert isinstance(bench.next(), DeviceAttached)
    bench.configure(serial={"modem": {"line": "dcd"}})
    assert bench.next() == DeviceDetached("foot", "stopped")
    assert isinstance(bench.next(), DeviceAttached)
    far = FarEnd(knob)
    assert bench.next() == MutePressed("foot")
    knob.unplug()
    assert isinstance(bench.next(), DeviceDetached)
    far.close()


def test_a_board_without_the_line_is_said_to_have_none(knob: UsbDevice, bench: Bench) -> None:
    bench.configure(serial={"modem": {"line": "cts"}})
    knob.plug_serial()
    deadline = time.monotonic() + DEADLINE_S
    while True:
        problems = [s.problem for s in bench.attachments.describe() if s.device_id == "foot"]
        if problems and "no CTS line: use dsr or dcd" in problems[0]:
            break
        assert time.monotonic() < deadline, problems


STUCK = """
import sys, time
import msgspec
from mutebridge.core.button_protocol import SerialProtocol
from mutebridge.core.events import Device, DeviceAttached
from mutebridge.core.lights import DARK, Lights, MicLight
from mutebridge.edges.serial_button import SerialButton
import threading

ready = threading.Event()
protocol = msgspec.convert({"settle_s": 0, "send": {"muted": "M" * 200, "live": "L"}}, SerialProtocol)
device = Device(id="x", name="x", kind="serial")
button = SerialButton(device, sys.argv[1], protocol, lambda _: ready.set(), time.monotonic)
button.start()
assert ready.wait(30)
for turn in range(3000):
    button.show(Lights(mic=MicLight.MUTED) if turn % 2 else DARK)
before = time.monotonic()
button.stop(2.0)
print(time.monotonic() - before, flush=True)
"""


def test_a_board_that_does_not_read_does_not_hold_up_the_end_of_the_process(knob: UsbDevice) -> None:
    """The kernel waits up to 30 s at the close of such a port; neither `stop` nor the exit may wait with it."""
    node = knob.plug_serial()
    command = [sys.executable, "-c", STUCK, node]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        took_s = float(process.stdout.readline())
        before = time.monotonic()
        assert process.wait(DEADLINE_S) == 0
        assert took_s < 10
        left_s = time.monotonic() - before
        assert left_s < 15
