"""Keeps the desktop from a headset's mute key while the bridge handles it.

The kernel's input layer makes KEY_MICMUTE of a headset's Phone Mute, and the desktop mutes its own microphone on it:
one press would mute twice. While a call is connected the key is therefore taken from the event nodes of the same HID
device, and given back afterwards. Where a node carries nothing else it is grabbed (EVIOCGRAB), which ends with the
process whatever happens; where it also carries volume keys, only that key is mapped away (EVIOCSKEYCODE).

A mapping stays until the device is unplugged, also when the process is killed. So the key is mapped to KEY_UNKNOWN,
which desktops ignore, and not to KEY_RESERVED, which may be the wish of whoever runs the machine: a Phone Mute that is
found at KEY_UNKNOWN was left behind, and is mapped back when the device is opened.

The same nodes tell when somebody else switches the device's lamps through the input layer. Nothing but that is read:
the kernel is asked to leave out the keys (EVIOCSMASK), so no press wakes anybody here.
"""

import contextlib
import ctypes
import errno
import fcntl
import glob
import logging
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from mutebridge.real_path import real_path

# <linux/input-event-codes.h>
_EV_KEY, _EV_LED = 0x01, 0x11
_KEY_MICMUTE, _KEY_UNKNOWN, _KEY_MAX = 248, 240, 0x2FF
# <linux/input.h>
_EVENT = struct.Struct("llHHi")
_KEYMAP_ENTRY = struct.Struct("=BBHI32s")  # flags, length, index, keycode, scancode
_MASK = struct.Struct("=IIQ")  # type, bytes, address
_BY_INDEX = 1
_KEY_BYTES = _KEY_MAX // 8 + 1
_EVIOCGBIT_KEY = 0x80004520 | _EV_KEY | _KEY_BYTES << 16
_EVIOCGRAB = 0x40044590
_EVIOCSMASK = 0x40104593
_EVIOCGKEYCODE_V2, _EVIOCSKEYCODE_V2 = 0x80284504, 0x40284504
_PHONE_MUTE = 0x000B002F  # a scancode of hid-input is a usage
_MAX_ENTRIES = 2048  # of a key map; beyond any real one

_log = logging.getLogger(__name__)


class DesktopKey:
    """The mute key of the device behind a hidraw node, as the desktop sees it.

    `keeps`: whether to take it away at all. `any_usage`: also a KEY_MICMUTE that comes from another usage than Phone
    Mute. A device without such a key, or without permission, is left alone; that is logged once. Not thread-safe, but
    `fds` and `lamps_changed` may be used beside the rest.
    """

    def __init__(self, hidraw: str, *, keeps: bool = True, any_usage: bool = False, root: Path = Path("/")) -> None:
        self._hidraw = hidraw
        self._keeps = keeps
        self._any_usage = any_usage
        self._root = root
        self._nodes: tuple[_EventNode, ...] = ()
        self._kept = False
        self._said: set[str] = set()

    @property
    def fds(self) -> tuple[int, ...]:
        return tuple(node.fd for node in self._nodes if not node.gone)

    def open(self) -> None:
        """Open the event nodes, and put right what an earlier process left behind."""
        self.close()
        self._nodes = tuple(self._opened(event_nodes(self._hidraw, self._root)))
        for node in self._nodes:
            with self._told(node.path):
                if node.give_back():
                    _log.info("%s: the mute key was left behind mapped away; given back to the desktop", node.path)

    def keep(self, kept: bool) -> None:
        """Take the key from the desktop, or give it back."""
        if not self._keeps or kept is self._kept:
            return
        if kept and not self._nodes:
            self.open()
        self._kept = kept
        for node in self._nodes:
            with self._told(node.path):
                node.take(any_usage=self._any_usage) if kept else node.give_back()

    def lamps_changed(self, fd: int) -> bool:
        """Read one of `fds`; return whether somebody switched a lamp of the device."""
        return any(node.lamps_changed() for node in self._nodes if node.fd == fd and not node.gone)

    def close(self) -> None:
        """Give the key back, and let go."""
        nodes, self._nodes, self._kept = self._nodes, (), False
        for node in nodes:
            with contextlib.suppress(OSError):  # it may be unplugged
                node.give_back()
            node.close()

    def _opened(self, paths: Iterable[str]) -> "list[_EventNode]":
        nodes = []
        for path in paths:
            with self._told(path):
                nodes.append(_EventNode(path))
        return nodes

    @contextlib.contextmanager
    def _told(self, path: str) -> Iterator[None]:
        """Say once what is wrong with a node; a device that is gone is none of it."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENODEV, errno.ENOENT, errno.ENXIO) or not self._keeps:
                return
            if (problem := _explained(error)) not in self._said:
                self._said.add(problem)
                _log.warning("%s: the desktop sees the mute key too: %s", path, problem)


def event_nodes(hidraw: str, root: Path = Path("/")) -> list[str]:
    """Return the event nodes of the HID device behind a hidraw node."""
    device = root / "sys/class/hidraw" / Path(real_path(hidraw)).name / "device"
    # Unlike Path.glob it is not upset by a folder that leaves meanwhile.
    events = glob.glob("input/input*/event*", root_dir=device)  # noqa: PTH207
    return [f"/dev/input/{Path(event).name}" for event in sorted(events)]


class _Entry(msgspec.Struct, frozen=True):
    """One usage of the device and the key that the kernel makes of it."""

    index: int
    keycode: int
    scancode: int


class _EventNode:
    """An open event node; OSError for everything that can be wrong with it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.gone = False
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._grabbed = False
        self._mapped: list[_Entry] = []
        try:
            self._listen_only_for(_EV_LED)
        except OSError:
            self.close()
            raise

    def take(self, *, any_usage: bool) -> None:
        """Keep the mute key from everybody else."""
        wanted = [
            entry
            for entry in self._entries()
            if entry.keycode == _KEY_MICMUTE and (any_usage or entry.scancode == _PHONE_MUTE)
        ]
        keys = self._keys()
        if not wanted or _KEY_MICMUTE not in keys:
            return
        if keys <= {_KEY_MICMUTE, _KEY_UNKNOWN}:
            fcntl.ioctl(self.fd, _EVIOCGRAB, 1)
            self._grabbed = True
            return
        for entry in wanted:
            self._map(entry, _KEY_UNKNOWN)
            self._mapped.append(entry)

    def give_back(self) -> bool:
        """Return whether there was anything to give back that this process had not taken."""
        if self._grabbed:
            self._grabbed = False
            fcntl.ioctl(self.fd, _EVIOCGRAB, 0)
        mapped, self._mapped = self._mapped, []
        for entry in mapped:
            self._map(entry, _KEY_MICMUTE)
        if mapped or _KEY_UNKNOWN not in self._keys():
            return False
        left = [e for e in self._entries() if e.keycode == _KEY_UNKNOWN and e.scancode == _PHONE_MUTE]
        for entry in left:
            self._map(entry, _KEY_MICMUTE)
        return bool(left)

    def lamps_changed(self) -> bool:
        try:
            data = os.read(self.fd, 64 * _EVENT.size)
        except BlockingIOError:
            return False
        except OSError:
            self.gone = True
            return False
        return any(kind == _EV_LED for _, _, kind, _, _ in _EVENT.iter_unpack(data))

    def close(self) -> None:
        self.gone = True
        os.close(self.fd)

    def _listen_only_for(self, kind: int) -> None:
        types = ctypes.c_uint64(1 << kind)  # the kernel wants whole words
        fcntl.ioctl(self.fd, _EVIOCSMASK, _MASK.pack(0, ctypes.sizeof(types), ctypes.addressof(types)))

    def _keys(self) -> set[int]:
        bits = int.from_bytes(fcntl.ioctl(self.fd, _EVIOCGBIT_KEY, bytes(_KEY_BYTES)), "little")
        return {code for code in range(_KEY_MAX + 1) if bits >> code & 1}

    def _entries(self) -> list[_Entry]:
        entries = []
        for index in range(_MAX_ENTRIES):
            try:
                told = fcntl.ioctl(self.fd, _EVIOCGKEYCODE_V2, _KEYMAP_ENTRY.pack(_BY_INDEX, 0, index, 0, b""))
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                break
            _, size, _, keycode, scancode = _KEYMAP_ENTRY.unpack(told)
            entries.append(_Entry(index, keycode, int.from_bytes(scancode[:size], "little")))
        return entries

    def _map(self, entry: _Entry, keycode: int) -> None:
        fcntl.ioctl(self.fd, _EVIOCSKEYCODE_V2, _KEYMAP_ENTRY.pack(_BY_INDEX, 0, entry.index, keycode, b""))


def _explained(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission for its event node: install the udev rule, or add an entry of 'mutebridge devices --hwdb'"
    if error.errno == errno.EBUSY:
        return "another program has grabbed it"
    return error.strerror or str(error)
