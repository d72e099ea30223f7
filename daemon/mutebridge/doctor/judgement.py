"""What the facts about this machine mean, and what to do about it. Pure: it looks at nothing itself."""

from collections.abc import Iterator

from mutebridge import __version__
from mutebridge.core.assignment import KeepMuteKey
from mutebridge.doctor.facts import ConfigFacts, DeviceFacts, MachineFacts, ServiceFacts
from mutebridge.doctor.findings import Finding, State

OK, WARNING, PROBLEM = State.OK, State.WARNING, State.PROBLEM
NOT_APPLICABLE, CANNOT_TELL = State.NOT_APPLICABLE, State.CANNOT_TELL

_AS_ROOT = "run it as root: sudo mutebridge doctor"
_JOURNAL = "journalctl -u mutebridge -n 20 says why"
# Of sysexits.h, as `mutebridge run` uses them.
_STATUSES = {
    64: ("wrong usage", "look at ExecStart: systemctl cat mutebridge"),
    66: ("its configuration file is not there", "mutebridge check says which"),
    69: ("another bridge runs for this station", "give each machine its own station, or stop the other one"),
    77: ("it may not read its configuration", "make the file readable for the service's user"),
    78: ("its configuration is wrong", "mutebridge check says where; then: systemctl restart mutebridge"),
}
_EXITED, _KILLED, _DUMPED = 1, 2, 3  # CLD_... of <signal.h>, as systemd shows them


def config_findings(config: ConfigFacts) -> Iterator[Finding]:
    name = "configuration"
    if config.unreadable:
        yield Finding(name, CANNOT_TELL, "this user may not read it", _AS_ROOT, config.file)
    elif config.problems:
        for problem in config.problems:
            yield Finding(name, PROBLEM, problem, "mend it; mutebridge check says when it is well", config.file)
    elif config.file is None:
        yield Finding(name, OK, "no configuration file, so the defaults hold")
    else:
        yield Finding(name, OK, "it is well", about=config.file)


def machine_findings(machine: MachineFacts) -> Iterator[Finding]:
    """In the order in which a person mends them."""
    yield from _files(machine)
    yield service_finding(machine.service)
    yield from _devices(machine)
    yield from _mute_keys(machine)
    yield from _other_programs(machine)
    yield from _modem_manager(machine)
    yield from _braille(machine)
    yield from _udev_rule(machine)
    yield from _clock(machine)
    yield from _libraries(machine)


# --- the service


def _files(machine: MachineFacts) -> Iterator[Finding]:
    name, user = "files", machine.user
    for file in machine.files:
        about = f"{file.key} {file.path}"
        if file.permitted and file.exposed:
            finding = "everybody on this machine may read it, and so pose as this station"
            yield Finding(name, WARNING, finding, f"sudo chmod o= {file.path}", about)
        elif file.permitted:
            well = "systemd hands it to the service" if file.handed_over else f"the user {user.name} may read it"
            yield Finding(name, OK, well, about=about)
        elif not file.there:
            # Also what lies in a folder that this user may not look into.
            remedy = "put it there, or take the key out of the configuration" if machine.root else _AS_ROOT
            yield Finding(name, PROBLEM if machine.root else CANNOT_TELL, "it is not there", remedy, about)
        else:
            remedy = f"sudo chgrp {user.name} {file.path} && sudo chmod g+r {file.path}; the folders above it likewise"
            yield Finding(name, PROBLEM, f"the daemon's user {user.name} may not read it", remedy, about)
    if not machine.files:
        yield Finding(name, NOT_APPLICABLE, "the configuration names no files")


def service_finding(service: ServiceFacts) -> Finding:  # noqa: PLR0911 - a table of states
    name, about = "service", "mutebridge.service"
    if not service.systemd:
        return Finding(name, NOT_APPLICABLE, "systemd does not run here, or does not answer", about=about)
    if not service.installed:
        return Finding(name, NOT_APPLICABLE, "not installed", about=about)
    how, remedy = _end_of(service)
    if service.active == "failed":
        return Finding(name, PROBLEM, f"it has failed: {how}", remedy, about)
    if service.sub == "auto-restart":
        return Finding(name, PROBLEM, f"it ends again and again: {how}; {service.restarts} restarts", remedy, about)
    if service.active == "inactive":
        start = (
            "sudo systemctl enable --now mutebridge" if service.enabled != "enabled" else "systemctl start mutebridge"
        )
        return Finding(name, PROBLEM, "it does not run", start, about)
    if service.active != "active":
        return Finding(name, WARNING, f"it is {service.active} ({service.sub})", _JOURNAL, about)
    if service.changed_on_disk:
        reload = "sudo systemctl daemon-reload && sudo systemctl restart mutebridge"
        return Finding(name, WARNING, "it runs, but its unit has changed since", reload, about)
    if service.restarts:
        return Finding(
            name, WARNING, f"it runs, after {service.restarts} restarts", f"{_JOURNAL}; restart counts anew", about
        )
    if service.enabled == "disabled":
        remedy = "sudo systemctl enable mutebridge"
        return Finding(name, WARNING, "it runs, but will not after the next boot", remedy, about)
    return Finding(name, OK, f"it runs, process {service.main_pid}", about=about)


def _end_of(service: ServiceFacts) -> tuple[str, str]:
    """Return how it ended last, and what to do."""
    if service.result == "watchdog":
        return "it gave no sign of life (watchdog)", _JOURNAL
    if service.exit_code in (_KILLED, _DUMPED):
        return f"signal {service.exit_status} ended it", _JOURNAL
    if service.exit_code == _EXITED and service.exit_status in _STATUSES:
        what, remedy = _STATUSES[service.exit_status]
        return f"{what} (exit status {service.exit_status})", remedy
    return f"{service.result}, exit status {service.exit_status}", _JOURNAL


# --- devices


def _devices(machine: MachineFacts) -> Iterator[Finding]:
    name = "device"
    if machine.devices is None:
        yield Finding(name, CANNOT_TELL, "without the configuration", "mend the configuration first")
        return
    for device in machine.devices:
        yield _device(name, device, machine)
    if not machine.devices:
        finding = f"no button is recognised or configured (ports and HID devices here: {machine.unused})"
        yield Finding(name, WARNING, finding, "plug it in; mutebridge devices says of each why it is not used")


def _device(name: str, device: DeviceFacts, machine: MachineFacts) -> Finding:
    about = f"{device.name or device.id} at {device.port}" if device.port else device.name or device.id
    user = machine.user.name
    if not device.usable:
        return Finding(name, WARNING, device.reason, "mutebridge devices shows all that is there", about)
    if not device.there:
        return Finding(name, WARNING, "not plugged in", "plug it in, or take it out of the configuration", about)
    if device.held_by_daemon:
        return Finding(name, OK, "the daemon has it open", about=about)
    if not device.permitted:
        return Finding(name, PROBLEM, f"the daemon's user {user} may not open it", _permission_remedy(machine), about)
    if machine.daemon_runs and machine.root:
        return Finding(name, WARNING, f"the user {user} may open it, but the daemon has not", _JOURNAL, about)
    return Finding(name, OK, f"the user {user} may open it", about=about)


def _permission_remedy(machine: MachineFacts) -> str:
    if machine.udev_rule is not None:
        return "sudo systemctl reload mutebridge gives it what it may have; so does plugging it in again"
    return "install the udev rule that comes with the service, then plug the device in again"


def _mute_keys(machine: MachineFacts) -> Iterator[Finding]:
    name = "mute_key"
    headsets = [(device, keys) for device in machine.devices or () if (keys := _keys(device))]
    for device, paths in headsets:
        about = f"{device.name or device.id}, {', '.join(paths)}"
        unkept = _why_unkept(device, machine)
        if unkept is None:
            yield Finding(name, OK, "kept from the desktop while a call is connected", about=about)
        elif not machine.desktops:
            yield Finding(name, OK, f"no desktop runs that could mute too, although {unkept[0]}", about=about)
        else:
            yield Finding(name, WARNING, f"one press mutes twice, the desktop too: {unkept[0]}", unkept[1], about)
    if not headsets:
        yield Finding(name, NOT_APPLICABLE, "the kernel makes the desktop's mute key of none of the buttons")


def _keys(device: DeviceFacts) -> list[str]:
    return [node.path for node in device.event_nodes if node.mutes]


def _why_unkept(device: DeviceFacts, machine: MachineFacts) -> tuple[str, str] | None:
    """Return why the desktop sees the mute key, and what to do; None where it does not."""
    hwdb = "mutebridge devices --hwdb prints another way"
    if device.keeps_mute_key is KeepMuteKey.OFF:
        return "keep_mute_key_from_desktop is off", f"set keep_mute_key_from_desktop: auto; {hwdb}"
    if device.keeps_mute_key is KeepMuteKey.AUTO and not device.from_phone_mute:
        return "the key comes from another usage than Phone Mute", f"set keep_mute_key_from_desktop: on; {hwdb}"
    if not all(node.permitted for node in device.event_nodes if node.mutes):
        return f"the user {machine.user.name} may not read its event node", f"{_permission_remedy(machine)}; {hwdb}"
    return None


# --- who else wants them


def _other_programs(machine: MachineFacts) -> Iterator[Finding]:
    name = "other_program"
    there = [device for device in machine.devices or () if device.usable and device.there]
    for device in there:
        about, programs = f"{device.port}", ", ".join(device.others)
        if device.others and device.serial:
            yield Finding(name, PROBLEM, f"{programs} has the port open", "end that program", about)
        elif device.others:
            finding = f"{programs} has it open too, and may switch its lights or mute itself"
            yield Finding(name, WARNING, finding, "end that program, or its support for headset buttons", about)
        elif machine.root:
            yield Finding(name, OK, "no other program has it open", about=about)
        else:
            yield Finding(name, CANNOT_TELL, "other users' programs are seen only by root", _AS_ROOT, about)
    if not there:
        yield Finding(name, NOT_APPLICABLE, "no button is plugged in")


def _modem_manager(machine: MachineFacts) -> Iterator[Finding]:
    name = "modem_manager"
    ports = [d for d in machine.devices or () if d.serial and d.there and d.ignored_by_modem_manager is not None]
    if not ports:
        yield Finding(name, NOT_APPLICABLE, "no serial button is plugged in")
    for device in ports:
        if not machine.modem_manager:
            yield Finding(name, OK, "ModemManager does not run", about=device.port)
        elif device.ignored_by_modem_manager:
            yield Finding(name, OK, "ModemManager is told to leave it alone", about=device.port)
        else:
            finding = "ModemManager runs and may try whether it is a modem, which disturbs the button for seconds"
            replug = "plug it in again: it was before udev's rule, or the configuration, knew it"
            remove = 'remove the package modemmanager, or set ENV{ID_MM_DEVICE_IGNORE}="1" in a udev rule for the board'
            remedy = replug if machine.udev_rule is not None else remove
            yield Finding(name, WARNING, finding, remedy, device.port)


def _braille(machine: MachineFacts) -> Iterator[Finding]:
    name = "brltty"
    for adapter in machine.braille:
        remedy = (
            "remove the package brltty if nobody needs it, else mask its udev rule for these ids; then plug in again"
        )
        finding = (
            "brltty has taken it for a braille display, so it has no serial port"
            if adapter.taken
            else "a udev rule takes it for a braille display; once brltty runs it has no serial port"
        )
        about = f"{adapter.product} ({adapter.ids})"
        yield Finding(name, PROBLEM if adapter.taken else WARNING, finding, remedy, about)
    if not machine.braille:
        yield Finding(name, OK, "no USB serial adapter is taken for a braille display")


def _udev_rule(machine: MachineFacts) -> Iterator[Finding]:
    name = "udev_rule"
    if machine.udev_rule is not None:
        yield Finding(name, OK, "installed", about=machine.udev_rule)
    elif not machine.udev:
        yield Finding(name, NOT_APPLICABLE, "udev does not run here")
    elif machine.service.installed:
        remedy = "install it (systemd/70-mutebridge.rules), then: sudo udevadm control --reload; plug in again"
        yield Finding(name, WARNING, "the service is installed without it", remedy)
    else:
        yield Finding(name, NOT_APPLICABLE, "the service is not installed")


# --- the rest


def _clock(machine: MachineFacts) -> Iterator[Finding]:
    """Presses go by the controller's clock, compared with a monotonic one; certificates by this machine's."""
    name = "clock"
    if machine.clock_synchronised is None:
        yield Finding(name, CANNOT_TELL, "the kernel does not say whether it is synchronised")
    elif machine.clock_synchronised:
        yield Finding(name, OK, "synchronised")
    elif machine.tls:
        finding = "not synchronised: certificates are judged by it; presses do not depend on it"
        yield Finding(name, WARNING, finding, "sudo timedatectl set-ntp true")
    else:
        yield Finding(name, OK, "not synchronised, but presses do not depend on it, and certificates are not used")


def _libraries(machine: MachineFacts) -> Iterator[Finding]:
    name, well = "library", [f"mutebridge {__version__}"]
    for library in machine.libraries:
        if library.version is None and not library.backend and library.name != "pyudev":
            yield Finding(name, PROBLEM, "not installed", "install mutebridge anew", library.name)
        elif library.problem and library.name == "pyudev":
            finding = f"cannot be used ({library.problem}): new devices are noticed in /dev instead"
            yield Finding(name, WARNING, finding, "install the package libudev1", library.name)
        elif library.problem:
            finding = f"cannot be used, so no headset works: {library.problem}"
            yield Finding(name, PROBLEM, finding, "install mutebridge anew", library.name)
        else:
            backend = f" (C library {library.backend})" if library.backend else ""
            well.append(f"{library.name} {library.version or 'of unknown version'}{backend}")
    yield Finding(name, OK, ", ".join(well))
