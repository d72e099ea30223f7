"""Gives the service's group the device nodes that the daemon works with, and takes back what it has too much.

    python -I -B -m mutebridge.device_access FOLDER...      each the folder of a node in /sys, as udev names it
    python -I -B -m mutebridge.device_access --all          every node that is there and that udev is done with
    python -I -B -m mutebridge.device_access --revoke       the same, but nothing is given any more
    python -I -B -m mutebridge.device_access --judge PORT   print udev's properties for a port that will be given
    python -I -B -m mutebridge.device_access --give PORT    give a port that was judged

For root. udev runs it for each HID, input and serial node that is plugged in (`70-mutebridge.rules`), the service for
all of them when it starts and reloads its configuration. What is given is decided by `core.device_rights`; an event
node goes with the hidraw node of the same HID device.

Decisions
    Two steps. It is run for every keyboard and mouse, too, so what cannot be a button is told from a few bytes first,
    before any library is loaded. This step only ever says no, and never to what the second one gives. On one of two
    shared cores a keyboard takes 25 ms, of which Python's start is 23, a headset 160 ms.
    A wrong configuration withholds no headset: it counts as one that names no device.
    What is denied is taken back as well, so that a node whose name was another device's a moment ago keeps nothing.
    A node that udev is not done with is left to udev: whoever sets an access list before udev has set the mode, which
    then only changes its mask, would lock the node's own group out.
"""

import os
import sys
from collections.abc import Iterator
from functools import lru_cache

from mutebridge.edges import access_list

TYPE_CHECKING = False  # as in typing, which costs more than all the rest
if TYPE_CHECKING:
    from mutebridge.core.assignment import DeviceConfig

GROUP = "mutebridge"
# The first keeps ModemManager from trying whether the port is a modem, the second is what our rule goes by.
PROPERTIES = "ID_MM_PORT_IGNORE=1\nMUTEBRIDGE_GIVEN=1\n"
# As in 70-mutebridge.rules.
_NODES = {"hidraw": ("hidraw",), "input": ("event",), "tty": ("ttyACM", "ttyUSB", "ttyS")}
_OPTIONS = {"--all": 0, "--revoke": 0, "--judge": 1, "--give": 1}  # how many folders they take
_TELEPHONY_PAGE = 0x0B
_MAX_BYTES = 1 << 20
_WORD = bytes(number if chr(number).isalnum() or number == ord("_") else ord(" ") for number in range(128)) + bytes(128)


def main(arguments: list[str]) -> int:
    """Carry out what the command line says; return an exit status of sysexits."""
    import grp

    option = arguments[0] if arguments and arguments[0].startswith("-") else ""
    folders = arguments[1:] if option else arguments
    if len(folders) != (_OPTIONS.get(option) if option else len(folders) or None):
        return _complain("usage: device_access FOLDER... | --all | --revoke | --judge PORT | --give PORT", os.EX_USAGE)
    if option == "--judge":
        print(PROPERTIES if is_given(*folders) else "", end="")
        return os.EX_OK
    try:
        group = grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return _complain(f"there is no group {GROUP}; systemd-sysusers makes it", os.EX_NOUSER)
    status = os.EX_OK
    for folder in folders or _finished_nodes():
        try:
            given = option == "--give" or (option != "--revoke" and is_given(folder))
            for node in (folder, *_event_nodes_of(folder)):
                _set_right(node, group, given=given)
        except FileNotFoundError:  # unplugged meanwhile
            continue
        except OSError as error:
            status = _complain(f"{folder}: {error.strerror}", os.EX_OSERR)
    return status


def is_given(folder: str, root: str = "") -> bool:
    """Whether the service may open the node whose folder in /sys this is; `root` holds `sys`, `dev` and `etc`."""
    hid_device = _hid_device(folder)
    possible = _may_be_named(folder, root) if hid_device is None else _may_be_a_button(hid_device, root)
    return possible and _is_given(folder if hid_device is None else hid_device, root)


def _set_right(folder: str, group: int, *, given: bool) -> None:
    node = f"/dev/{_value(f'{folder}/uevent', 'DEVNAME')}"
    number = os.lstat(node).st_rdev
    # Unplugged meanwhile, there is no name, which would make it /dev itself, or another device has it.
    if _read(f"{folder}/dev").strip() != f"{os.major(number)}:{os.minor(number)}".encode():
        return
    changed = access_list.grant(node, group) if given else access_list.revoke(node, group)
    if changed:
        print(f"{node}: {'given to' if given else 'taken from'} the group {GROUP}", file=sys.stderr)


def _finished_nodes() -> Iterator[str]:
    for subsystem, beginnings in _NODES.items():
        for name in _names(f"/sys/class/{subsystem}"):
            if name.startswith(beginnings) and _is_finished(f"/sys/class/{subsystem}/{name}"):
                yield f"/sys/class/{subsystem}/{name}"


def _event_nodes_of(hidraw: str) -> Iterator[str]:
    """Return those that udev is done with: who hears of the hidraw node opens them at once."""
    inputs = f"{hidraw}/device/input"
    for name in _names(inputs):
        for event in _names(f"{inputs}/{name}"):
            if event.startswith("event") and _is_finished(f"{inputs}/{name}/{event}"):
                yield f"{inputs}/{name}/{event}"


def _is_finished(folder: str) -> bool:
    return os.path.exists(f"/run/udev/data/c{_read(f'{folder}/dev').decode().strip()}")


# --- the first step


def _hid_device(folder: str) -> str | None:
    """Return the folder of the HID device behind a hidraw or event node; None for any other node."""
    for up in (f"{folder}/device", f"{folder}/device/device"):
        if os.path.exists(f"{up}/report_descriptor"):
            return os.path.realpath(up)
    return None


def _may_be_a_button(hid_device: str, root: str) -> bool:
    """Telephony usages need the number of their page, profiles that of the vendor, all else a configuration."""
    vendor = _value(f"{hid_device}/uevent", "HID_ID").split(":")[1:2]
    return (
        _TELEPHONY_PAGE in _read(f"{hid_device}/report_descriptor")
        or any(number[-4:].lower().encode() in _profile_texts() for number in vendor)
        or _names_devices(root)
    )


def _may_be_named(folder: str, root: str) -> bool:
    """A profile recognises a board by what USB says of it."""
    return "/usb" in os.path.realpath(folder) or _names_devices(root)


def _names_devices(root: str) -> bool:
    """Whether a key `id`, which every device has, may stand in the configuration."""
    lines = _read(_configuration_file(root)).lower().splitlines()
    return any(b"id" in line.translate(_WORD).split() for line in lines if not line.lstrip().startswith(b"#"))


@lru_cache(maxsize=1)
def _profile_texts() -> bytes:
    profiles = f"{os.path.dirname(__file__)}/devices"
    return b"".join(_read(f"{profiles}/{name}") for name in _names(profiles) if name.endswith(".yaml")).lower()


# --- the second step


def _is_given(folder: str, root: str) -> bool:
    from pathlib import Path

    from mutebridge.config import load_profiles
    from mutebridge.core.device_rights import is_given
    from mutebridge.edges.hotplug import node_at
    from mutebridge.real_path import real_path

    if os.path.exists(f"{folder}/report_descriptor"):
        folder = f"{folder}/hidraw/{next(iter(_names(f'{folder}/hidraw')), '')}"
    # While udev's rules run, it says which links to the port it will make.
    links = os.environ.get("DEVLINKS", "").split() if "/tty/" in folder else []
    node = node_at(Path(folder), Path(root or "/"), links)
    devices, known_devices = _configuration(root)
    ports = {device.fixed_port: real_path(device.fixed_port) for device in devices if device.fixed_port}
    ports.update({link: node.path for link in links if link in ports and node is not None})
    profiles = {profile.id: profile for profile in load_profiles()}
    return node is not None and is_given(node, devices, profiles, ports, known_devices=known_devices)


@lru_cache(maxsize=1)
def _configuration(root: str) -> "tuple[tuple[DeviceConfig, ...], bool]":
    """Return the configured devices, and whether known ones are used without that."""
    from pathlib import Path

    from mutebridge.config import ConfigError, load

    file = _configuration_file(root)
    if not os.path.exists(file):
        return (), True
    try:
        config = load(Path(file))
    except ConfigError as error:
        _complain(f"the configuration is wrong, so only devices that are known are given: {error}", os.EX_CONFIG)
        return (), True
    return config.devices, config.known_devices


def _configuration_file(root: str) -> str:
    return os.environ.get("MUTEBRIDGE_CONFIG") or f"{root}/etc/mutebridge/mutebridge.yaml"


# --- small things


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _value(file: str, key: str) -> str:
    """Return a value of a file of NAME=value lines, or an empty text."""
    for line in _read(file).decode(errors="replace").splitlines():
        if line.startswith(f"{key}="):
            return line[len(key) + 1 :]
    return ""


def _read(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read(_MAX_BYTES)
    except OSError:  # it is not there, or no longer
        return b""


def _complain(message: str, status: int) -> int:
    print(f"mutebridge device access: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
