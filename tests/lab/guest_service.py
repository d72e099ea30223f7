"""The service on a real kernel: the devices that udev's rule and the unit let it have, and its lights when killed."""

import grp
import json
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial
from tests.lab.guest import service_unit
from tests.lab.guest.desk import STATION, Desk, Model
from tests.lab.guest.evdev import EventNode
from tests.lab.guest.firmware import Identity
from tests.lab.guest.gadget import UsbDevice
from tests.lab.guest.headset import VirtualHeadset
from tests.lab.guest.service_unit import UNIT, changed, main_pid, running, wait_for_restart
from tests.lab.guest.uhid import Uhid
from tests.lab.guest.units import shown, systemctl
from tests.lab.guest.waiting import wait_until

from mutebridge import virtual_headset
from mutebridge.virtual_headset import JABRA, MUTE_LED, OFF_HOOK_LED

KEYS = bytes.fromhex("05 01 09 06 a1 01 85 09 05 07 19 00 29 65 15 00 25 65 75 08 95 06 81 00 c0")
PHONES = virtual_headset.descriptor(JABRA)
# The kernel makes an event node of a telephony collection only if the device also has one that it knows.
PHONES_WITH_A_KEY = bytes.fromhex("05 0c 09 01 a1 01 05 0b") + PHONES[6:]
HEADSET = Identity(vendor=0x0B0E, product=0x24C9, name="Phones", serial="HEADSET")
KEYBOARD = Identity(product=0x0002, name="Keys", serial="KEYBOARD")
CHIMERA = Identity(product=0x0003, name="Keys that claim to be phones", serial="CHIMERA")
KNOB = Identity(product=0x0010, name="Virtual Knob", serial="KNOB")
NAMED = "devices: [{id: knob, match: {product: Virtual Knob}, profile: lines, serial: {settle_s: 0}}]\n"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", autouse=True)
def _laid_out() -> None:
    service_unit.lay_out()
    service_unit.configure("")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk(tmp_path) as desk:
        configure(desk)
        yield desk


def configure(desk: Desk, more: str = "") -> None:
    service_unit.configure(f"station: {STATION}\nbroker: {{host: 127.0.0.1, port: {desk.broker.port}}}\n{more}")


@contextmanager
def plugged(identity: Identity, descriptor: bytes) -> Iterator[tuple[str, str]]:
    """A HID device; its hidraw node and its event node."""
    with VirtualHeadset(Uhid(identity, descriptor)) as device:
        device.plug()
        with EventNode(device.node) as events:
            path = events.path
        subprocess.run(["udevadm", "settle"], check=True)
        yield device.node, path


def may(node: str, user: str = service_unit.USER) -> bool:
    """Whether a user may read and write a node."""
    become = ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups"]
    return subprocess.run([*become, "test", "-r", node, "-a", "-w", node], check=False).returncode == 0


def group_entries(node: str) -> dict[int, int]:
    """What the access list gives to groups: their ids, 0xffffffff for the node's own, and the bits."""
    data = os.getxattr(node, "system.posix_acl_access")[4:]
    entries = [data[at : at + 8] for at in range(0, len(data), 8)]
    return {int.from_bytes(entry[4:], "little"): entry[2] for entry in entries if entry[0] in (0x04, 0x08)}


def test_the_service_may_open_a_headset_and_no_keyboard() -> None:
    with (
        plugged(HEADSET, PHONES_WITH_A_KEY) as headset,
        plugged(KEYBOARD, KEYS) as keyboard,
        plugged(CHIMERA, KEYS + PHONES) as chimera,
    ):
        assert [may(node) for node in headset] == [True, True]
        assert [may(node) for node in (*keyboard, *chimera)] == [False] * 4
        assert not may(headset[0], "nobody")


def test_nothing_is_taken_from_the_group_of_the_event_nodes() -> None:
    with plugged(HEADSET, PHONES_WITH_A_KEY) as (_, events):
        for _ in range(2):
            own = Path(events).stat()
            assert (Path(events).group(), own.st_mode & 0o777) == ("input", 0o660)
            assert group_entries(events) == {0xFFFFFFFF: 6, grp.getgrnam(service_unit.USER).gr_gid: 6}
            subprocess.run(["udevadm", "trigger", "--settle", "--subsystem-match=input"], check=True)


def test_the_unit_opens_what_it_is_given_and_no_other_kind_of_device() -> None:
    """Also of a driver that is not loaded yet: 188 is ttyUSB, 10:223 uinput. Everybody may, but for the unit."""
    late, other = Path("/dev/ttyUSB7"), Path("/dev/lab-uinput")
    for node, number in ((late, os.makedev(188, 7)), (other, os.makedev(10, 223))):
        os.mknod(node, 0o020666, number)
        node.chmod(0o666)
    assert "ttyUSB" not in Path("/proc/devices").read_text()
    with plugged(HEADSET, PHONES_WITH_A_KEY) as headset, plugged(KEYBOARD, KEYS) as keyboard:
        nodes = [*headset, *keyboard, str(late), str(other)]
        stand_in = f"/usr/bin/python3 /repo/tests/lab/guest/service.py {' '.join(nodes)}"
        with changed(f"ExecStart=\nExecStart={stand_in}\n"):
            systemctl("start", UNIT)
            found = json.loads(shown(UNIT, "StatusText"))
    late.unlink()
    other.unlink()
    assert [found[node] for node in headset] == ["open"] * 2
    assert [found[node] for node in keyboard] == ["Permission denied"] * 2
    assert found[str(late)] in ("No such device or address", "No such device")
    assert found[str(other)] == "Operation not permitted"


def test_killed_in_a_muted_call_the_lights_go_dark_then_tell_the_truth_again(desk: Desk) -> None:
    model = Model(JABRA)
    with (
        UsbDevice(HEADSET, hid_descriptor=PHONES) as usb,
        VirtualHeadset(usb, model) as headset,
        running(),
    ):
        headset.plug()
        desk.wait_for_devices(1)
        desk.softphone.do("ring")
        desk.softphone.do("connect")
        wait_until(lambda: model.headset.lamps == OFF_HOOK_LED, "a call that is live")
        headset.act(model.press)
        wait_until(lambda: desk.softphone.mic and model.headset.lamps == OFF_HOOK_LED | MUTE_LED, "muted")
        killed = time.monotonic()
        os.kill(main_pid(), signal.SIGKILL)
        wait_until(lambda: model.headset.lamps == 0, "dark")
        dark_s = time.monotonic() - killed
        wait_until(lambda: model.headset.lamps == OFF_HOOK_LED | MUTE_LED, "true")
        true_s = time.monotonic() - killed
        print(f"dark after {dark_s:.1f} s, true after {true_s:.1f} s")
        assert true_s < 30
        wait_for_restart()
        assert desk.softphone.mic is True


def test_a_driver_that_is_loaded_after_the_service_started(desk: Desk) -> None:
    configure(desk, NAMED)
    subprocess.run(["modprobe", "--remove", "cdc_acm"], check=False)
    assert "ttyACM" not in Path("/proc/devices").read_text()
    with running():
        desk.softphone.do("ring")
        desk.softphone.do("connect")
        with UsbDevice(KNOB, acm=True) as knob:
            knob.plug_serial()
            with serial.Serial(knob.serial_node) as board:
                desk.wait_for_devices(1)
                board.write(b"toggle\n")
                wait_until(lambda: desk.softphone.mic, "muted")


def test_a_port_is_given_when_the_configuration_names_it_and_taken_when_it_does_not(desk: Desk) -> None:
    with UsbDevice(KNOB, acm=True) as knob, running():
        port = knob.plug_serial()
        assert not may(port)
        configure(desk, NAMED)
        systemctl("reload", UNIT)
        assert may(port)
        desk.wait_for_devices(1)
        configure(desk)
        systemctl("reload", UNIT)
        assert not may(port)
        desk.wait_for_devices(0)
        assert (Path(port).group(), Path(port).stat().st_mode & 0o777) == ("dialout", 0o660)


@pytest.mark.parametrize("where", ["match: {product: Virtual Knob}", "port: /dev/serial/by-id/*Virtual_Knob*"])
def test_modem_manager_is_told_to_leave_alone_what_is_given(where: str) -> None:
    program = Path("/usr/sbin/ModemManager")
    program.touch()
    try:
        for named in (True, False):
            device = f"devices: [{{id: knob, {where}, profile: lines}}]\n"
            service_unit.configure(device if named else "")
            with UsbDevice(KNOB, acm=True) as knob:
                port = knob.plug_serial()
                subprocess.run(["udevadm", "settle"], check=True)
                ask = ["udevadm", "info", "--query=property", port]
                said = subprocess.run(ask, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
                assert ("ID_MM_PORT_IGNORE=1" in said) is may(port) is named
                assert (Path(port).group(), Path(port).stat().st_mode & 0o777) == ("dialout", 0o660)
    finally:
        program.unlink()


def test_what_was_plugged_in_before_the_rule_came_is_given_at_the_start(desk: Desk) -> None:
    rule = Path("/etc/udev/rules.d/70-mutebridge.rules")
    aside = rule.with_suffix(".aside")
    rule.rename(aside)
    subprocess.run(["udevadm", "control", "--reload"], check=True)
    try:
        with plugged(HEADSET, PHONES_WITH_A_KEY) as headset, plugged(KEYBOARD, KEYS) as keyboard:
            assert [may(node) for node in headset] == [False] * 2
            with running():
                desk.wait_for_devices(1)
            assert [may(node) for node in headset] == [True] * 2
            assert [may(node) for node in keyboard] == [False] * 2
            revoke = ["/opt/mutebridge/venv/bin/python", "-I", "-B", "-m", "mutebridge.device_access", "--revoke"]
            subprocess.run(revoke, check=True)
            assert [may(node) for node in headset] == [False] * 2
    finally:
        aside.rename(rule)
        subprocess.run(["udevadm", "control", "--reload"], check=True)
