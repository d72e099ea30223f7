"""What is plugged in is found, and a change is heard of without looking."""

import os
import queue
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mutebridge.core.profiles import DeviceNode
from mutebridge.edges.desktop_key import event_nodes
from mutebridge.edges.hotplug import Hotplug, list_nodes

from .serial_board import DEADLINE_S, Board

Starter = Callable[..., "Changes"]


class Changes:
    def __init__(self, root: Path) -> None:
        self._told: queue.Queue[None] = queue.Queue()
        self.hotplug = Hotplug(lambda: self._told.put(None), root=root)

    def next(self) -> None:
        self._told.get(timeout=DEADLINE_S)

    def none_within(self, seconds: float) -> bool:
        try:
            self._told.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def none(self) -> bool:
        return self._told.empty()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    (tmp_path / "root/dev").mkdir(parents=True)
    started: list[Changes] = []

    def make(*paths: Path) -> Changes:
        changes = Changes(tmp_path / "root")
        started.append(changes)
        changes.hotplug.watch(map(str, paths))
        changes.hotplug.start()
        changes.next()  # nothing can be missed any more
        return changes

    yield make
    for changes in started:
        changes.hotplug.stop(5)
    assert not [thread for thread in threading.enumerate() if thread.name == "hotplug"]


# --- what is there ---------------------------------------------------------------------------------------------------


def plug_into(root: Path, name: str, usb: dict[str, str] | None, driver: str = "cdc_acm", uevent: str = "") -> None:
    """Lay out sysfs as the kernel does for a terminal on a USB interface."""
    device = root / "sys/devices/pci/usb1/1-2"
    interface = device / "1-2:1.0"
    entry = interface / "tty" / name
    entry.mkdir(parents=True)
    (root / "sys/drivers" / driver).mkdir(parents=True, exist_ok=True)
    (root / "sys/class/tty").mkdir(parents=True, exist_ok=True)
    (root / "sys/class/tty" / name).symlink_to(entry)
    (entry / "device").symlink_to(interface)
    (entry / "uevent").write_text(uevent or f"MAJOR=166\nMINOR=0\nDEVNAME={name}\n")
    if not (interface / "driver").exists():
        (interface / "driver").symlink_to(root / "sys/drivers" / driver)
    for attribute, value in (usb or {}).items():
        (device / attribute).write_text(value + "\n")


def test_a_usb_board_is_described_by_its_strings_and_links(tmp_path: Path) -> None:
    usb = {"idVendor": "2e8a", "idProduct": "000a", "manufacturer": "Storvik IT", "product": "PicoTalkButton"}
    plug_into(tmp_path, "ttyACM0", {**usb, "serial": "E6 61"})
    (tmp_path / "dev/serial/by-id").mkdir(parents=True)
    (tmp_path / "dev/serial/by-path").mkdir()
    (tmp_path / "dev/ttyACM0").touch()
    (tmp_path / "dev/serial/by-id/usb-Storvik_IT_PicoTalkButton_E6_61-if00").symlink_to("../../ttyACM0")
    (tmp_path / "dev/serial/by-path/pci-usb-0:2:1.0").symlink_to("../../ttyACM0")
    (tmp_path / "dev/serial/by-id/usb-gone").symlink_to("../../ttyACM9")
    assert list_nodes(["tty", "hidraw"], tmp_path) == [
        DeviceNode(
            path="/dev/ttyACM0",
            subsystem="tty",
            links=(
                "/dev/serial/by-id/usb-Storvik_IT_PicoTalkButton_E6_61-if00",
                "/dev/serial/by-path/pci-usb-0:2:1.0",
            ),
            manufacturer="Storvik IT",
            product="PicoTalkButton",
            serial_number="E6 61",
            vendor_id="2e8a",
            product_id="000a",
            driver="cdc_acm",
        )
    ]


def test_a_board_without_strings_has_none(tmp_path: Path) -> None:
    plug_into(tmp_path, "ttyUSB0", {"idVendor": "1a86", "idProduct": "7523"}, driver="ch341-uart")
    (node,) = list_nodes(["tty"], tmp_path)
    assert (node.manufacturer, node.product, node.serial_number, node.vendor_id) == (None, None, None, "1a86")
    assert node.links == ()


def test_a_folder_that_leaves_while_it_is_read_is_empty(tmp_path: Path) -> None:
    """As udev's folder of links does with the last board, and that of the event nodes with its headset."""
    plug_into(tmp_path, "ttyACM0", None)
    restless = [tmp_path / "dev/serial/by-id", tmp_path / "sys/class/hidraw/hidraw0/device/input/input7"]
    for folder in restless:
        folder.parent.mkdir(parents=True)
    come_and_go = "import os, sys\nwhile True:\n  for folder in sys.argv[1:]: os.mkdir(folder); os.rmdir(folder)"
    with subprocess.Popen([sys.executable, "-c", come_and_go, *map(str, restless)]) as plugging:
        try:
            for _ in range(3000):
                assert [node.path for node in list_nodes(["tty"], tmp_path)] == ["/dev/ttyACM0"]
                assert event_nodes("/dev/hidraw0", tmp_path) == []
        finally:
            plugging.kill()


def test_a_node_is_found_where_the_kernel_says(tmp_path: Path) -> None:
    plug_into(tmp_path, "event3", None, uevent="DEVNAME=input/event3\n")
    assert [node.path for node in list_nodes(["tty"], tmp_path)] == ["/dev/input/event3"]


def test_consoles_and_ports_without_a_chip_are_no_boards(tmp_path: Path) -> None:
    (tmp_path / "sys/class/tty/tty1").mkdir(parents=True)
    plug_into(tmp_path, "ttyS3", None)
    (tmp_path / "sys/class/tty/ttyS3/type").write_text("0\n")
    assert list_nodes(["tty"], tmp_path) == []


def hid_into(root: Path, name: str, said: str, usb: dict[str, str] | None = None) -> None:
    """Lay out sysfs as the kernel does for a HID device, on USB or behind an adapter there."""
    socket = root / "sys/devices/pci/usb1/1-2"
    device = socket / "1-2:1.3/0003:1209:0001.0004"
    entry = device / "hidraw" / name
    entry.mkdir(parents=True)
    (root / "sys/class/hidraw").mkdir(parents=True)
    (root / "sys/class/hidraw" / name).symlink_to(entry)
    (entry / "device").symlink_to(device)
    (entry / "uevent").write_text(f"DEVNAME={name}\n")
    (device / "uevent").write_text(said)
    (device / "report_descriptor").write_bytes(b"\x05\x0b")
    for attribute, value in (usb or {}).items():
        (socket / attribute).write_text(value + "\n")


def test_a_usb_headset_is_described_by_its_strings_and_its_descriptor(tmp_path: Path) -> None:
    said = "HID_ID=0003:00000B0E:000024C9\nHID_NAME=Maker Phones\nHID_PHYS=usb-1-2/input3\nHID_UNIQ=A1\n"
    usb = {"idVendor": "0b0e", "idProduct": "24c9", "manufacturer": "Maker", "product": "Phones", "serial": "A1"}
    hid_into(tmp_path, "hidraw2", said, usb)
    assert list_nodes(["tty", "hidraw"], tmp_path) == [
        DeviceNode(
            path="/dev/hidraw2",
            subsystem="hidraw",
            manufacturer="Maker",
            product="Phones",
            serial_number="A1",
            vendor_id="0b0e",
            product_id="24c9",
            physical_path="usb-1-2/input3",
            report_descriptor=b"\x05\x0b",
        )
    ]


def test_a_bluetooth_device_is_not_taken_for_its_adapter(tmp_path: Path) -> None:
    said = "HID_ID=0005:0000046D:0000B342\nHID_NAME=Keys\nHID_PHYS=\nHID_UNIQ=aa:bb\n"
    hid_into(tmp_path, "hidraw0", said, {"idVendor": "8087", "idProduct": "0029", "manufacturer": "Adapter"})
    (node,) = list_nodes(["hidraw"], tmp_path)
    assert (node.vendor_id, node.product_id, node.product, node.manufacturer) == ("046d", "b342", "Keys", None)
    assert (node.serial_number, node.physical_path) == ("aa:bb", None)


def test_this_machine_can_be_listed() -> None:
    assert all(node.path.startswith("/dev/") for node in list_nodes(["tty", "hidraw", "input"]))


# --- when it changes -------------------------------------------------------------------------------------------------


def test_a_new_node_is_heard_of_without_udev(tmp_path: Path, start: Starter) -> None:
    changes = start()
    (tmp_path / "root/dev/ttyACM0").touch()
    changes.next()
    (tmp_path / "root/dev/ttyACM0").chmod(0o600)  # as a rule that gives the right to open it does
    changes.next()
    (tmp_path / "root/dev/ttyACM0").unlink()
    changes.next()


def test_a_link_below_a_directory_that_came_later_is_heard_of(tmp_path: Path, start: Starter) -> None:
    changes = start()
    for part in ("serial", "serial/by-id"):
        (tmp_path / "root/dev" / part).mkdir()
        changes.next()
    (tmp_path / "root/dev/serial/by-id/usb-x").symlink_to("../../ttyACM0")
    changes.next()


def test_a_path_is_waited_for_through_directories_that_are_not_there_yet(tmp_path: Path, start: Starter) -> None:
    awaited = tmp_path / "a/b/button"
    changes = start(awaited)
    for part in (tmp_path / "a", tmp_path / "a/b"):
        part.mkdir()
        changes.next()
    awaited.touch()
    changes.next()
    awaited.unlink()
    changes.next()
    (tmp_path / "a/b").rmdir()
    changes.next()


def test_a_link_that_leads_to_another_pty_is_heard_of(tmp_path: Path, start: Starter) -> None:
    board = Board(tmp_path / "button")
    changes = start(board.link)
    board.unplug()
    changes.next()
    board.plug()
    changes.next()
    board.unplug()


def test_what_a_link_leads_to_is_watched_too(tmp_path: Path, start: Starter) -> None:
    (tmp_path / "ptys").mkdir()
    link = tmp_path / "button"
    link.symlink_to("ptys/7")
    changes = start(link)
    (tmp_path / "ptys/7").touch()
    changes.next()


def test_other_files_beside_a_watched_one_are_not_told_of(tmp_path: Path, start: Starter) -> None:
    (tmp_path / "a").mkdir()
    changes = start(tmp_path / "a/button")
    for turn in range(100):
        (tmp_path / f"a/other{turn}").touch()
    (tmp_path / "a/button").touch()
    changes.next()
    assert changes.none()


def test_a_link_that_leaves_while_it_is_looked_at(tmp_path: Path, start: Starter) -> None:
    """A board that comes and goes, as with a bad contact, does not end the watch."""
    come_and_go = "import os, sys\nwhile True: os.symlink('/dev/null', sys.argv[1]); os.unlink(sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", come_and_go, str(tmp_path / "button")]) as plugging:
        try:
            changes = start()
            for times in (200, 300, 400):  # the same path, spelt so often
                changes.hotplug.watch(f"{tmp_path}{'/.' * number}/button" for number in range(times))
                for _ in range(2):
                    changes.next()
        finally:
            plugging.kill()


def test_a_link_in_a_circle_is_no_trap(tmp_path: Path, start: Starter) -> None:
    (tmp_path / "x").symlink_to("y")
    (tmp_path / "y").symlink_to("x")
    changes = start(tmp_path / "x")
    (tmp_path / "x").unlink()
    changes.next()


def test_an_idle_machine_costs_no_wake_up(start: Starter, tmp_path: Path) -> None:
    changes = start(tmp_path / "nothing")
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "hotplug"]
    status = Path(f"/proc/self/task/{thread.native_id}/status")

    def wake_ups() -> int:
        return sum(int(line.split()[1]) for line in status.read_text().splitlines() if "ctxt_switches" in line)

    while (before := wake_ups()) != wake_ups() or threading.Event().wait(0.2) or before != wake_ups():
        pass
    assert not threading.Event().wait(1.0)
    assert wake_ups() == before
    assert changes.none()


# --- udev ------------------------------------------------------------------------------------------------------------


def murmur2(text: bytes) -> int:
    """The hash by which udev's messages name their subsystem (MurmurHash2, seed 0)."""
    mix, mask = 0x5BD1E995, 0xFFFFFFFF
    value = len(text)
    while len(text) >= 4:
        word = struct.unpack("<I", text[:4])[0] * mix & mask
        value = (value * mix & mask) ^ ((word ^ word >> 24) * mix & mask)
        text = text[4:]
    if text:
        value = (value ^ int.from_bytes(text, "little")) * mix & mask
    value = (value ^ value >> 13) * mix & mask
    return value ^ value >> 15


def announce(subsystem: str) -> None:
    """Say, as udevd does after its rules, that a device came; the format is that of systemd's sd-device."""
    facts = {"ACTION": "add", "DEVPATH": "/devices/virtual/x", "SUBSYSTEM": subsystem, "SEQNUM": "1", "DEVNAME": "x"}
    properties = b"".join(f"{key}={value}\0".encode() for key, value in facts.items())
    filters = struct.pack(">IIII", murmur2(subsystem.encode()), 0, 0, 0)
    header = b"libudev\0" + struct.pack(">I", 0xFEEDCAFE) + struct.pack("III", 40, 40, len(properties)) + filters
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as netlink:
        netlink.sendto(header + properties, (0, 2))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may speak for udev")
def test_udev_tells_of_new_devices_and_only_of_those_asked_for(tmp_path: Path, start: Starter) -> None:
    pytest.importorskip("pyudev")
    (tmp_path / "root/run/udev").mkdir(parents=True)
    (tmp_path / "root/run/udev/control").touch()
    changes = start()
    (tmp_path / "root/dev/ttyACM0").touch()  # udev has not run its rules yet: too early to open it
    announce("block")
    assert changes.none_within(0.3)
    announce("tty")
    changes.next()
    assert changes.none()
