"""Looks at this machine: the service, the devices, who else wants them, the libraries. It changes and opens nothing.

`root` holds `sys`, `dev`, `proc`, `run` and the rest; systemd is asked where it is the real one.
"""

import ctypes
import grp
import itertools
import os
import pwd
import struct
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import msgspec

from mutebridge.attachments import SUBSYSTEMS
from mutebridge.config import Config, load_profiles
from mutebridge.core import usages
from mutebridge.core.assignment import HIDRAW, Assignment, Verdict, assign
from mutebridge.core.headset_protocol import HeadsetProtocol
from mutebridge.doctor.facts import (
    BrailleFacts,
    DeviceFacts,
    EventNode,
    FileFacts,
    Library,
    MachineFacts,
    ServiceFacts,
    User,
)
from mutebridge.doctor.permission import READ, WRITE, may_use
from mutebridge.edges import headset, hotplug, processes
from mutebridge.edges.desktop_key import event_nodes
from mutebridge.edges.processes import Process

UNIT = "mutebridge.service"
_SHOWN = (
    "LoadState,UnitFileState,ActiveState,SubState,Result,NRestarts,ExecMainCode,ExecMainStatus,MainPID"
    ",NeedDaemonReload,User,Group,SupplementaryGroups,FragmentPath,DropInPaths"
)
_CREDENTIAL = "broker.password_credential"
_ROOT, _ANYBODY = User(name="root", uid=0), User(name="nobody", uid=65534)
_RULE = "70-mutebridge.rules"
_RULE_FOLDERS = ("etc", "run", "usr/local/lib", "usr/lib", "lib")
_LIBRARIES = ("hidapi", "msgspec", "paho-mqtt", "pyserial", "pyudev", "PyYAML")
_KEY_MICMUTE = 248  # <linux/input-event-codes.h>
_LONG_BITS = 8 * struct.calcsize("l")
_TIME_ERROR = 5  # of adjtimex(2): the clock is not synchronised
# Chips of USB serial adapters that boards and braille displays share.
_SHARED_CHIPS = frozenset({"1a86:7523", "0403:6001", "10c4:ea60", "067b:2303"})


def look(
    config: Config | None, config_file: Path | None, service: ServiceFacts, root: Path = Path("/")
) -> MachineFacts:
    """Return what there is; without a configuration, devices and files are left out."""
    user = service.user or _myself()
    running = processes.running(root)
    daemons = [each for each in running if _is_daemon(each) and each.pid != service.main_pid]
    devices, unused = None, 0
    if config is not None:
        pids = frozenset({service.main_pid, *(each.pid for each in daemons)})
        devices, unused = _Devices(config=config, user=user, daemons=pids, root=root).facts()
    return MachineFacts(
        root=os.geteuid() == 0,
        user=user,
        service=service,
        daemons=tuple(map(str, daemons)),
        embedded_broker=any(_is_daemon(each) and "--embedded-broker" in each.arguments for each in running),
        files=() if config is None else tuple(_files(config, config_file, service, user)),
        devices=devices,
        unused=unused,
        desktops=tuple(sorted(set(_desktops(root)))),
        modem_manager=any(each.name == "ModemManager" for each in running),
        braille=tuple(_braille(root, running_brltty=any(each.name == "brltty" for each in running))),
        udev=(root / "run/udev/control").exists(),
        udev_rule=_rule(root),
        clock_synchronised=_clock_synchronised(),
        tls=config is not None and config.broker.tls is not None,
        libraries=tuple(_libraries()),
    )


# --- the service


def ask_systemd(timeout_s: float) -> ServiceFacts:
    """Return what systemd says of the unit; nothing where it does not run, or does not answer in time."""
    options = [f"--property={_SHOWN}", UNIT]
    try:
        done = subprocess.run(  # noqa: S603
            ["systemctl", "show", *options],  # noqa: S607 - the system's own, wherever it is
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ServiceFacts()
    said = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if done.returncode or not said.get("LoadState"):
        return ServiceFacts()
    pid = _number(said, "MainPID")
    installed = said["LoadState"] not in ("not-found", "masked")
    return ServiceFacts(
        systemd=True,
        installed=installed,
        enabled=said.get("UnitFileState", ""),
        active=said.get("ActiveState", ""),
        sub=said.get("SubState", ""),
        result=said.get("Result", ""),
        restarts=_number(said, "NRestarts"),
        exit_code=_number(said, "ExecMainCode"),
        exit_status=_number(said, "ExecMainStatus"),
        main_pid=pid,
        changed_on_disk=said.get("NeedDaemonReload") == "yes",
        credentials=_credentials(said),
        user=(_user_of_process(pid) or _user_of_unit(said)) if installed else None,
    )


def _credentials(said: dict[str, str]) -> dict[str, str]:
    """Read the unit's files, the last of which has the last word: Debian 12's systemctl shows no credentials."""
    found: dict[str, str] = {}
    for file in (said.get("FragmentPath", ""), *said.get("DropInPaths", "").split()):
        for line in _text(Path(file)).splitlines():
            key, _, value = line.partition("=")
            name, _, path = value.strip().partition(":")
            if key.strip() == "LoadCredential":
                found = {**found, name: path} if name else {}
    return found


def _number(said: dict[str, str], key: str) -> int:
    return int(said[key]) if said.get(key, "").isdigit() else 0


def _user_of_process(pid: int) -> User | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines() if pid else []
    except OSError:
        return None
    said = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
    if not said:
        return None
    uid, gid = int(said["Uid"][1]), int(said["Gid"][1])
    return User(name=_user_name(uid), uid=uid, gids=frozenset({gid, *map(int, said["Groups"])}))


def _user_of_unit(said: dict[str, str]) -> User | None:
    """Return the user that the unit names; None for one that is made when the service starts."""
    try:
        entry = pwd.getpwnam(said.get("User") or "root")
        gid = grp.getgrnam(said["Group"]).gr_gid if said.get("Group") else entry.pw_gid
        more = {grp.getgrnam(name).gr_gid for name in said.get("SupplementaryGroups", "").split()}
    except KeyError:
        return None
    return User(
        name=entry.pw_name, uid=entry.pw_uid, gids=frozenset(more | {gid, *os.getgrouplist(entry.pw_name, gid)})
    )


def _myself() -> User:
    uid = os.geteuid()
    return User(name=_user_name(uid), uid=uid, gids=frozenset({os.getegid(), *os.getgroups()}))


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _is_daemon(process: Process) -> bool:
    """Whether it is `mutebridge run`, however it was started."""
    words = [word.rpartition("/")[2] for word in process.arguments]
    return any(each == ("mutebridge", "run") for each in itertools.pairwise(words))


def _files(config: Config, config_file: Path | None, service: ServiceFacts, user: User) -> Iterator[FileFacts]:
    broker, tls = config.broker, config.broker.tls
    named = {
        "configuration": config_file,
        "broker.password_file": broker.password_file,
        _CREDENTIAL: service.credentials.get(broker.password_credential or ""),
        "broker.tls.ca_file": tls and tls.ca_file,
        "broker.tls.cert_file": tls and tls.cert_file,
        "broker.tls.key_file": tls and tls.key_file,
    }
    secret = {"broker.password_file", _CREDENTIAL, "broker.tls.key_file"}
    if broker.password is not None:
        secret.add("configuration")
    for key, path in named.items():
        if path:
            yield FileFacts(
                path=str(path),
                key=key,
                there=Path(path).exists(),
                permitted=may_use(_ROOT if key == _CREDENTIAL else user, Path(path), READ),
                handed_over=key == _CREDENTIAL,
                exposed=key in secret and may_use(_ANYBODY, Path(path), READ),
            )


# --- devices


class _Devices(msgspec.Struct, frozen=True, kw_only=True):
    """Looks at the devices that are wanted; `daemons` are the processes that may hold them."""

    config: Config
    user: User
    daemons: frozenset[int]
    root: Path

    def facts(self) -> tuple[tuple[DeviceFacts, ...], int]:
        """Return the devices that are wanted, and how many nodes are not."""
        made, verdicts = self._plan()
        planned = {assignment.device.id: assignment for assignment in made}
        held = processes.holders({os.path.realpath(assignment.port) for assignment in made}, self.root)
        facts = []
        for verdict in verdicts:
            if verdict.device_id is None:
                continue
            if (assignment := planned.get(verdict.device_id)) is None:
                facts.append(DeviceFacts(id=verdict.device_id, port=verdict.port, reason=verdict.reason))
            else:
                facts.append(self._device(assignment, verdict, held[os.path.realpath(assignment.port)]))
        return tuple(facts), len(verdicts) - len(facts)

    def _plan(self) -> tuple[list[Assignment], list[Verdict]]:
        config = self.config
        return assign(
            config.devices,
            {profile.id: profile for profile in load_profiles()},
            hotplug.list_nodes(SUBSYSTEMS, self.root),
            {c.fixed_port: os.path.realpath(c.fixed_port) for c in config.devices if c.fixed_port is not None},
            {},
            known_devices=config.known_devices,
            press_mode=config.press_mode,
            hook_switch=config.hook_switch,
        )

    def _device(self, wanted: Assignment, verdict: Verdict, by: list[Process]) -> DeviceFacts:
        is_headset = isinstance(wanted.protocol, HeadsetProtocol)
        node = _below(self.root, wanted.port)
        return DeviceFacts(
            id=wanted.device.id,
            name=wanted.device.name,
            port=wanted.port,
            serial=not is_headset,
            usable=True,
            there=node.exists(),
            permitted=may_use(self.user, node, READ | WRITE),
            held_by_daemon=any(each.pid in self.daemons for each in by),
            others=tuple(str(each) for each in by if each.pid not in self.daemons),
            ignored_by_modem_manager=None if is_headset else _ignored_by_modem_manager(verdict, self.root),
            event_nodes=tuple(self._event_nodes(wanted.port)) if is_headset else (),
            keeps_mute_key=wanted.keep_mute_key or self.config.keep_mute_key_from_desktop,
            from_phone_mute=_is_phone_mute(wanted),
        )

    def _event_nodes(self, hidraw: str) -> Iterator[EventNode]:
        for path in event_nodes(hidraw, self.root):
            keys = self.root / "sys/class/input" / Path(path).name / "device/capabilities/key"
            yield EventNode(
                path=path,
                mutes=_has_bit(_text(keys), _KEY_MICMUTE),
                permitted=may_use(self.user, _below(self.root, path), READ),
            )


def _is_phone_mute(wanted: Assignment) -> bool:
    if not isinstance(wanted.protocol, HeadsetProtocol) or wanted.protocol.profile.byte_patterns is not None:
        return False
    button = wanted.protocol.telephony.mute_button
    return button is not None and button.usage == usages.PHONE_MUTE


def _has_bit(words: str, bit: int) -> bool:
    """Whether a bit map of sysfs, words from the highest to the lowest, has this bit."""
    value = 0
    for word in words.split():
        value = value << _LONG_BITS | int(word, 16)
    return bool(value >> bit & 1)


# --- who else wants them


def _ignored_by_modem_manager(verdict: Verdict, root: Path) -> bool | None:
    if verdict.node is None or verdict.node.subsystem == HIDRAW:
        return None
    port = root / "sys/class/tty" / Path(verdict.node.path).name
    said = [_udev_properties(folder, root) for folder in (port.resolve(), *port.resolve().parents)]
    return any(each.get(key) == "1" for each in said for key in ("ID_MM_DEVICE_IGNORE", "ID_MM_PORT_IGNORE"))


def _udev_properties(folder: Path, root: Path) -> dict[str, str]:
    """Return what udev's rules said of the device at this folder of sysfs (systemd's sd-device names the files so)."""
    if not (folder / "uevent").exists():
        return {}
    subsystem = (folder / "subsystem").resolve().name
    number = _text(folder / "dev")
    name = f"{'b' if subsystem == 'block' else 'c'}{number}" if number else f"+{subsystem}:{folder.name}"
    lines = _text(root / "run/udev/data" / name).splitlines()
    return dict(line[2:].split("=", 1) for line in lines if line.startswith("E:") and "=" in line)


def _braille(root: Path, *, running_brltty: bool) -> Iterator[BrailleFacts]:
    """Yield the serial adapters that udev's rules, or brltty itself, take for a braille display."""
    for vendor in sorted((root / "sys/bus/usb/devices").glob("*/idVendor")):
        folder = vendor.parent.resolve()
        ids = f"{_text(folder / 'idVendor')}:{_text(folder / 'idProduct')}"
        taken = running_brltty and any(driver.resolve().name == "usbfs" for driver in folder.glob("*:*/driver"))
        wanted = "BRLTTY_BRAILLE_DRIVER" in _udev_properties(folder, root)
        if ids in _SHARED_CHIPS and (taken or wanted):
            yield BrailleFacts(ids=ids, product=_text(folder / "product") or ids, taken=taken, wanted=wanted)


def _desktops(root: Path) -> Iterator[str]:
    """Yield whose desktops run (logind's files, which everybody may read)."""
    for session in (root / "run/systemd/sessions").glob("*"):
        said = dict(line.split("=", 1) for line in _text(session).splitlines() if "=" in line)
        if said.get("TYPE") in ("x11", "wayland", "mir") and said.get("CLASS") == "user":
            yield said.get("USER") or said.get("UID", "")


def _rule(root: Path) -> str | None:
    """Return our rule as udev reads it: of several the first, unless that is empty, which masks them (udev(7))."""
    there = [file for folder in _RULE_FOLDERS if (file := root / folder / "udev/rules.d" / _RULE).exists()]
    return next((f"/{file.relative_to(root)}" for file in there[:1] if _text(file)), None)


# --- the rest


def _clock_synchronised() -> bool | None:
    """Ask adjtimex(2), changing nothing; None where it is not allowed."""
    try:
        answer = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024)))
    except AttributeError:
        return None
    return None if answer < 0 else answer != _TIME_ERROR


def _libraries() -> Iterator[Library]:
    backends = {"hidapi": headset.backend_version, "pyudev": hotplug.udev_version}
    for name in _LIBRARIES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = None
        backend, problem = "", ""
        if name in backends:
            try:
                backend = backends[name]()
            except ImportError as error:
                problem = str(error)
        yield Library(name=name, version=version, backend=backend, problem=problem)


def _below(root: Path, path: str) -> Path:
    return root / path.removeprefix("/")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
