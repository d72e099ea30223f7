"""Waits for device nodes by udev's own events, which come when the node's name, owner and rights are final."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyudev
from tests.lab.guest.waiting import DEADLINE_S


class UdevWatch:
    """Hears all events of some subsystems from the moment it is made: make it before what it waits for."""

    def __init__(self, *subsystems: str) -> None:
        self._monitor = pyudev.Monitor.from_netlink(pyudev.Context())
        for subsystem in subsystems:
            self._monitor.filter_by(subsystem)
        self._monitor.start()

    def wait(
        self, action: str, matches: Callable[[pyudev.Device], bool], what: str, deadline_s: float = DEADLINE_S
    ) -> pyudev.Device:
        """The next device with this action (`add`, `remove`, `bind`, ...) that matches."""
        overdue = time.monotonic() + deadline_s
        while (left_s := overdue - time.monotonic()) > 0:
            device = self._monitor.poll(left_s)
            if device is not None and device.action == action and matches(device):
                return device
        raise TimeoutError(f"no {action} event within {deadline_s:g} s: {what}")


@contextmanager
def removed(node: str, subsystem: str) -> Iterator[None]:
    """Waits at its end until udev has let go of a node."""
    watch = UdevWatch(subsystem)
    yield
    watch.wait("remove", lambda device: device.device_node == node, node)


def hid_serial(node: pyudev.Device) -> str | None:
    """The serial number of the HID device that a node belongs to."""
    parent = node.find_parent("hid")
    return None if parent is None else parent.properties.get("HID_UNIQ")
