"""Which device nodes are there, and when that changes.

What is there is read from sysfs, from /dev/serial and from nowhere else, so it is the same with and without udev.
Changes come, without polling, from the first of these that the machine has, each thread blocked in the kernel:

* udev's netlink socket, after its rules have run, where udevd runs;
* inotify on /dev, for machines and containers without udevd;
* a scan every 5 s where neither is allowed, said once in the log.

Paths that are not udev's (a pty, a link made by hand) are watched for with inotify on their directories. A change is
only a hint: it carries nothing, and whoever is told looks at what is there now.
"""

import contextlib
import ctypes
import errno
import logging
import os
import select
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mutebridge.core.profiles import DeviceNode
from mutebridge.real_path import real_path

SCAN_S = 5.0
_LINKS = ("/dev/serial/by-id/", "/dev/serial/by-path/")
_BUS_USB = "0003"  # BUS_USB of <linux/input.h>, as HID_ID has it
# One plug makes several events; they are told as one.
GATHER_S = 0.02
GATHER_AT_MOST = 10

_log = logging.getLogger(__name__)

# From <sys/inotify.h>.
_IN_ATTRIB, _IN_MOVED_FROM, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE = 0x4, 0x40, 0x80, 0x100, 0x200
_IN_DELETE_SELF, _IN_MOVE_SELF, _IN_Q_OVERFLOW, _IN_IGNORED, _IN_ONLYDIR = 0x400, 0x800, 0x4000, 0x8000, 0x01000000
_MASK = (
    _IN_ATTRIB | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
)
_EVENT = struct.Struct("iIII")
# Instead of a watch: the directory is not there, or it cannot be watched.
_MISSING, _REFUSED = -1, -2


def list_nodes(subsystems: Iterable[str], root: Path = Path("/")) -> list[DeviceNode]:
    """Return the device nodes of hardware in these kernel subsystems; `root` holds `sys` and `dev`."""
    links = _links(root)
    return [
        node
        for subsystem in subsystems
        for entry in _in_folder(root / "sys/class" / subsystem)
        if (node := _node(entry, subsystem, root, links)) is not None
    ]


def node_at(entry: Path, root: Path = Path("/"), links_to_be: Iterable[str] = ()) -> DeviceNode | None:
    """Return the tty or hidraw node of a folder in sysfs, as `list_nodes` does; None if no device is behind it.

    `links_to_be`: links to it that udev has not made yet.
    """
    node = _node(entry, Path(real_path(entry / "subsystem")).name, root, _links(root))
    more = {link for link in links_to_be if link.startswith(_LINKS)}
    return node and msgspec.structs.replace(node, links=tuple(sorted(more.union(node.links))))


def _node(entry: Path, subsystem: str, root: Path, links: dict[str, list[str]]) -> DeviceNode | None:
    # A terminal without a device behind it is a console; a port of type 0 is a driver's reserve without a chip.
    if not (entry / "device").exists() or _read(entry / "type") == "0":
        return None
    facts = _hid_facts(entry / "device", root) if subsystem == "hidraw" else _usb_facts(entry / "device", root)
    name = next((line[8:] for line in _read(entry / "uevent").splitlines() if line.startswith("DEVNAME=")), entry.name)
    driver = entry / "device/driver"
    return DeviceNode(
        path=f"/dev/{name}",
        subsystem=subsystem,
        links=tuple(sorted(links.get(name, ()))),
        driver=Path(real_path(driver)).name if driver.exists() else None,
        **facts,
    )


def _usb_facts(device: Path, root: Path) -> dict[str, Any]:
    usb = next((up for up in _ancestors(device, root) if (up / "idVendor").exists()), None)
    return {
        key: _read(usb / attribute) or None
        for key, attribute in (
            ("manufacturer", "manufacturer"),
            ("product", "product"),
            ("serial_number", "serial"),
            ("vendor_id", "idVendor"),
            ("product_id", "idProduct"),
        )
        if usb is not None
    }


def _hid_facts(device: Path, root: Path) -> dict[str, Any]:
    """Return what the HID device says of itself; USB's strings only where it is on USB, not behind an adapter there."""
    said = dict(line.split("=", 1) for line in _read(device / "uevent").splitlines() if "=" in line)
    bus, vendor, product = (*said.get("HID_ID", "").split(":"), "", "", "")[:3]
    facts = _usb_facts(device, root) if bus.endswith(_BUS_USB) else {}
    return {
        **facts,
        "product": facts.get("product") or said.get("HID_NAME") or None,
        "serial_number": facts.get("serial_number") or said.get("HID_UNIQ") or None,
        "vendor_id": vendor[-4:].lower() or None,
        "product_id": product[-4:].lower() or None,
        "physical_path": said.get("HID_PHYS") or None,
        "report_descriptor": _read_bytes(device / "report_descriptor"),
    }


def _ancestors(device: Path, root: Path) -> Iterator[Path]:
    real = Path(real_path(device))
    top = (root / "sys/devices").resolve()
    return (up for up in (real, *real.parents) if up.is_relative_to(top))


def _links(root: Path) -> dict[str, list[str]]:
    """Return, for each node name below /dev, the links that udev made to it."""
    found: dict[str, list[str]] = {}
    dev = (root / "dev").resolve()
    for folder in _LINKS:
        for link in _in_folder(root / folder.removeprefix("/")):
            target = Path(real_path(link))
            if target.is_relative_to(dev):
                found.setdefault(str(target.relative_to(dev)), []).append(f"{folder}{link.name}")
    return found


def _in_folder(folder: Path) -> list[Path]:
    """Return what is in a folder in order; nothing when it leaves meanwhile, as those of /dev and sysfs do."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""  # the device left while it was looked at


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


class Hotplug:
    """Calls `changed` from its own thread whenever the nodes of `subsystems`, or a watched path, may have changed.

    `changed` is called once after `start` too, when nothing can be missed any more. `root` holds `dev` and `run`.
    """

    def __init__(
        self, changed: Callable[[], None], subsystems: Sequence[str] = ("tty",), root: Path = Path("/")
    ) -> None:
        self._changed = changed
        self._subsystems = tuple(subsystems)
        self._root = root
        self._paths: frozenset[str] = frozenset()
        self._stopping = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="hotplug", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def watch(self, paths: Iterable[str]) -> None:
        """Watch for these paths, which udev may not know, instead of those of the last call."""
        if (wanted := frozenset(paths)) != self._paths:
            self._paths = wanted
            os.eventfd_write(self._wake, 1)

    def stop(self, timeout_s: float) -> None:
        self._stopping = True
        os.eventfd_write(self._wake, 1)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        monitor = _open_monitor(self._subsystems, self._root)
        directories = _Directories()
        dev = self._root / "dev"
        whole = (
            [str(dev / part) for part in ("", "serial", "serial/by-id", "serial/by-path")] if monitor is None else []
        )
        poller = select.poll()
        for fd in (self._wake, monitor.fileno() if monitor is not None else -1, directories.fd):
            if fd >= 0:
                poller.register(fd, select.POLLIN)
        scanning = False
        rewatch = hint = True
        while not self._stopping:
            if rewatch:
                blind = not directories.watch(whole, self._paths)
                if blind and not scanning:
                    _log.warning("no events for new devices here: looking for them every %g s", SCAN_S)
                scanning = blind
            if hint:
                self._changed()
            ready = [fd for fd, _ in poller.poll(SCAN_S * 1000 if scanning else None)]
            rewatch, hint = self._gather(poller, ready, monitor, directories)
        directories.close()

    def _gather(
        self, poller: select.poll, ready: list[int], monitor: Any, directories: "_Directories"
    ) -> tuple[bool, bool]:
        """Read what is there until it is quiet; return whether to watch anew and whether to tell."""
        rewatch = False
        hint = not ready
        for _ in range(GATHER_AT_MOST):
            for fd in ready:
                if fd == self._wake:
                    os.eventfd_read(fd)
                    rewatch = True
                elif fd == directories.fd:
                    hint |= directories.read()
                else:
                    while monitor.poll(timeout=0) is not None:
                        hint = True
            if self._stopping:
                break
            ready = [fd for fd, _ in poller.poll(GATHER_S * 1000)]
            if not ready:
                break
        return rewatch or hint, hint


def udev_version() -> str:
    """Return the version of udev's library; ImportError says why it cannot be used."""
    import pyudev  # noqa: PLC0415

    return str(pyudev.udev_version())


def _open_monitor(subsystems: Iterable[str], root: Path) -> Any:
    """Return a started pyudev monitor, or None where udev does not run or its socket is refused."""
    if not (root / "run/udev/control").exists():
        return None
    try:
        import pyudev  # noqa: PLC0415 - looks for its library when imported, and only machines with udev need it

        monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="udev")
        for subsystem in subsystems:
            monitor.filter_by(subsystem)
        monitor.start()
    except (ImportError, OSError) as error:  # pyudev's own errors for this are OSErrors
        _log.warning("udev cannot be listened to (%s): watching /dev instead", error)
        return None
    return monitor


class _Directories:
    """Directories watched by inotify; `fd` is -1 where there is no inotify."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        # Of each watched directory the names that matter; None: all.
        self._names: dict[int, set[str] | None] = {}

    def watch(self, whole: Iterable[str], paths: Iterable[str]) -> bool:
        """Watch all of the directories `whole`, and for `paths`; return False when that is not to be had."""
        wanted: dict[int, set[str] | None] = {}
        for directory, name in (step for path in paths for step in _steps(path)):
            names = wanted.setdefault(self._add(directory), set())
            assert names is not None
            names.add(name)
        wanted |= dict.fromkeys(map(self._add, whole))
        watched = wanted.pop(_REFUSED, _REFUSED) == _REFUSED
        wanted.pop(_MISSING, None)
        for gone in set(self._names) - set(wanted):
            self._libc.inotify_rm_watch(self.fd, gone)
        self._names = wanted
        return watched

    def _add(self, directory: str) -> int:
        watch: int = self._libc.inotify_add_watch(self.fd, os.fsencode(directory), _MASK)
        if watch >= 0:
            return watch
        return _MISSING if ctypes.get_errno() in (errno.ENOENT, errno.ENOTDIR) else _REFUSED

    def read(self) -> bool:
        """Return whether something that matters changed."""
        told = False
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.fd, 65536):
                for watch, mask, name in _events(data):
                    names = self._names.get(watch, set())
                    told |= names is None or name in names or bool(mask & (_IN_IGNORED | _IN_Q_OVERFLOW))
        return told

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def _events(data: bytes) -> Iterator[tuple[int, int, str]]:
    at = 0
    while at < len(data):
        watch, mask, _cookie, size = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        yield watch, mask, os.fsdecode(data[at : at + size].rstrip(b"\0"))
        at += size


def _steps(path: str) -> Iterator[tuple[str, str]]:
    """Yield, for a path and the links it leads through, the deepest directory there is and the name awaited in it."""
    for _ in range(8):
        directory, name = os.path.split(path)
        while not os.path.isdir(directory) and directory not in ("/", ""):  # noqa: PTH112 - a string in, a string out
            directory, name = os.path.split(directory)
        yield directory, name
        try:
            target = os.readlink(path)  # noqa: PTH115
        except OSError:  # no link, or none any more
            return
        path = os.path.join(os.path.dirname(path), target)  # noqa: PTH118, PTH120
