"""What the doctor makes of what it found: a table of faults, and that what is well is not called a fault."""

import json
from typing import Any

import msgspec
import pytest

from mutebridge.core.assignment import KeepMuteKey
from mutebridge.doctor.facts import (
    BrailleFacts,
    ConfigFacts,
    DeviceFacts,
    EventNode,
    FileFacts,
    Library,
    MachineFacts,
    ServiceFacts,
    User,
)
from mutebridge.doctor.findings import Finding, Report, State
from mutebridge.doctor.judgement import config_findings, machine_findings

OK, WARNING, PROBLEM = State.OK, State.WARNING, State.PROBLEM
NOT_APPLICABLE, CANNOT_TELL = State.NOT_APPLICABLE, State.CANNOT_TELL

USER = User(name="mutebridge", uid=990, gids=frozenset({990}))
KEY = EventNode(path="/dev/input/event7", mutes=True, permitted=True)
HEADSET = DeviceFacts(
    id="phones-12",
    name="Phones",
    port="/dev/hidraw3",
    usable=True,
    there=True,
    permitted=True,
    event_nodes=(KEY,),
)
BUTTON = DeviceFacts(
    id="desk",
    name="button on the desk",
    port="/dev/ttyACM0",
    serial=True,
    usable=True,
    there=True,
    permitted=True,
    ignored_by_modem_manager=True,
)
SERVICE = ServiceFacts(
    systemd=True,
    installed=True,
    enabled="enabled",
    active="active",
    sub="running",
    result="success",
    main_pid=812,
    user=USER,
)
WELL = MachineFacts(
    root=True,
    user=USER,
    service=SERVICE,
    files=(FileFacts(path="/etc/mutebridge/mutebridge.yaml", key="configuration", there=True, permitted=True),),
    devices=(HEADSET, BUTTON),
    desktops=("ann",),
    modem_manager=True,
    udev=True,
    udev_rule="/usr/lib/udev/rules.d/70-mutebridge.rules",
    clock_synchronised=True,
    libraries=(Library(name="hidapi", version="0.15.0", backend="0.15.0"), Library(name="msgspec", version="0.19")),
)


def with_(**changes: Any) -> MachineFacts:
    return msgspec.structs.replace(WELL, **changes)


def headset(**changes: Any) -> MachineFacts:
    return with_(devices=(msgspec.structs.replace(HEADSET, **changes),))


def button(**changes: Any) -> MachineFacts:
    return with_(devices=(msgspec.structs.replace(BUTTON, **changes),))


def service(**changes: Any) -> MachineFacts:
    return with_(service=msgspec.structs.replace(SERVICE, **changes))


def held(machine: MachineFacts) -> MachineFacts:
    """As when the daemon has every device open."""
    devices = tuple(msgspec.structs.replace(device, held_by_daemon=True) for device in machine.devices or ())
    return msgspec.structs.replace(machine, devices=devices)


def test_a_machine_on_which_all_is_well() -> None:
    findings = list(machine_findings(held(WELL)))
    assert {finding.state for finding in findings} == {OK}
    assert [finding for finding in findings if finding.remedy] == []
    names = ["files", "service", "device", "mute_key", "other_program", "modem_manager", "brltty"]
    assert list(dict.fromkeys(f.name for f in findings)) == [*names, "udev_rule", "clock", "library"]


FAULTS: list[tuple[str, MachineFacts, State, str, str]] = [
    # name, what is found, state, in the finding, in the remedy
    ("service", service(systemd=False, installed=False), NOT_APPLICABLE, "systemd does not run here", ""),
    ("service", service(installed=False), NOT_APPLICABLE, "not installed", ""),
    ("service", service(active="inactive", sub="dead", enabled="disabled"), PROBLEM, "not run", "enable --now"),
    ("service", service(active="inactive", sub="dead"), PROBLEM, "not run", "systemctl start"),
    ("service", service(active="activating", sub="start"), WARNING, "activating (start)", "journalctl"),
    ("service", service(changed_on_disk=True), WARNING, "its unit has changed", "daemon-reload"),
    ("service", service(restarts=3), WARNING, "after 3 restarts", "journalctl"),
    ("service", service(enabled="disabled"), WARNING, "next boot", "systemctl enable"),
    (
        "service",
        service(active="failed", sub="failed", result="exit-code", exit_code=1, exit_status=78, main_pid=0),
        PROBLEM,
        "its configuration is wrong (exit status 78)",
        "mutebridge check",
    ),
    (
        "service",
        service(active="failed", sub="failed", result="exit-code", exit_code=1, exit_status=69, main_pid=0),
        PROBLEM,
        "another bridge runs for this station",
        "its own station",
    ),
    (
        "service",
        service(active="activating", sub="auto-restart", result="watchdog", exit_code=2, exit_status=6, restarts=4),
        PROBLEM,
        "no sign of life (watchdog); 4 restarts",
        "journalctl",
    ),
    (
        "service",
        service(active="failed", sub="failed", result="signal", exit_code=2, exit_status=9),
        PROBLEM,
        "signal 9",
        "journalctl",
    ),
    (
        "service",
        service(active="failed", sub="failed", result="exit-code", exit_code=1, exit_status=70),
        PROBLEM,
        "exit-code, exit status 70",
        "journalctl",
    ),
    (
        "files",
        with_(files=(FileFacts(path="/etc/m/pw", key="broker.password_file", there=True, permitted=False),)),
        PROBLEM,
        "the daemon's user mutebridge may not read it",
        "sudo chgrp mutebridge /etc/m/pw",
    ),
    (
        "files",
        with_(files=(FileFacts(path="/etc/m/ca", key="broker.tls.ca_file", there=False, permitted=False),)),
        PROBLEM,
        "it is not there",
        "put it there",
    ),
    (
        "files",
        with_(files=(FileFacts(path="/x/ca", key="broker.tls.ca_file", there=False, permitted=False),), root=False),
        CANNOT_TELL,
        "it is not there",
        "sudo mutebridge doctor",
    ),
    (
        "files",
        with_(files=(FileFacts(path="/etc/pw", key="broker.x", there=True, permitted=True, exposed=True),)),
        WARNING,
        "everybody on this machine may read it",
        "sudo chmod o= /etc/pw",
    ),
    (
        "files",
        with_(files=(FileFacts(path="/etc/pw", key="broker.x", there=True, permitted=True, handed_over=True),)),
        OK,
        "systemd hands it to the service",
        "",
    ),
    ("files", with_(files=()), NOT_APPLICABLE, "names no files", ""),
    ("device", with_(devices=None), CANNOT_TELL, "without the configuration", "configuration first"),
    ("device", with_(devices=(), unused=2), WARNING, "(ports and HID devices here: 2)", "mutebridge devices"),
    ("device", button(usable=False, reason="no profile recognises it"), WARNING, "no profile recognises it", "devices"),
    ("device", button(there=False), WARNING, "not plugged in", "plug it in"),
    ("device", headset(permitted=False), PROBLEM, "user mutebridge may not open it", "systemctl reload"),
    (
        "device",
        msgspec.structs.replace(headset(permitted=False), udev_rule=None),
        PROBLEM,
        "may not open it",
        "install the udev rule",
    ),
    ("device", headset(), WARNING, "but the daemon has not", "journalctl"),
    ("device", msgspec.structs.replace(headset(), root=False), OK, "mutebridge may open it", ""),
    ("device", headset(held_by_daemon=True, permitted=False), OK, "has it open", ""),
    ("mute_key", headset(keeps_mute_key=KeepMuteKey.OFF), WARNING, "mutes twice", "keep_mute_key_from_desktop: auto"),
    ("mute_key", headset(from_phone_mute=False), WARNING, "another usage", "keep_mute_key_from_desktop: on"),
    ("mute_key", headset(from_phone_mute=False, keeps_mute_key=KeepMuteKey.ON), OK, "kept from the desktop", ""),
    (
        "mute_key",
        headset(event_nodes=(msgspec.structs.replace(KEY, permitted=False),)),
        WARNING,
        "mutebridge may not read its event node",
        "systemctl reload mutebridge",
    ),
    (
        "mute_key",
        msgspec.structs.replace(headset(keeps_mute_key=KeepMuteKey.OFF), desktops=()),
        OK,
        "no desktop runs",
        "",
    ),
    ("mute_key", headset(event_nodes=(msgspec.structs.replace(KEY, mutes=False),)), NOT_APPLICABLE, "none of", ""),
    ("other_program", headset(others=("firefox (4)",)), WARNING, "firefox (4) has it open too", "end that program"),
    ("other_program", button(others=("screen (9)",)), PROBLEM, "screen (9) has the port open", "end that program"),
    ("other_program", msgspec.structs.replace(headset(), root=False), CANNOT_TELL, "only by root", "sudo"),
    ("other_program", with_(devices=()), NOT_APPLICABLE, "no button is plugged in", ""),
    ("modem_manager", button(ignored_by_modem_manager=False), WARNING, "may try whether", "plug it in again"),
    (
        "modem_manager",
        msgspec.structs.replace(button(ignored_by_modem_manager=False), udev_rule=None),
        WARNING,
        "may try whether",
        "ID_MM_DEVICE_IGNORE",
    ),
    (
        "modem_manager",
        msgspec.structs.replace(button(ignored_by_modem_manager=False), modem_manager=False),
        OK,
        "does not run",
        "",
    ),
    ("modem_manager", headset(), NOT_APPLICABLE, "no serial button", ""),
    (
        "brltty",
        with_(braille=(BrailleFacts(ids="1a86:7523", product="USB Serial", taken=True, wanted=True),)),
        PROBLEM,
        "has taken it",
        "remove the package brltty",
    ),
    (
        "brltty",
        with_(braille=(BrailleFacts(ids="1a86:7523", product="USB Serial", taken=False, wanted=True),)),
        WARNING,
        "once brltty runs",
        "mask its udev rule",
    ),
    ("udev_rule", with_(udev_rule=None), WARNING, "installed without it", "70-mutebridge.rules"),
    ("udev_rule", with_(udev_rule=None, udev=False), NOT_APPLICABLE, "udev does not run", ""),
    ("udev_rule", msgspec.structs.replace(service(installed=False), udev_rule=None), NOT_APPLICABLE, "service", ""),
    ("clock", with_(clock_synchronised=None), CANNOT_TELL, "does not say", ""),
    ("clock", with_(clock_synchronised=False), OK, "presses do not depend on it", ""),
    ("clock", with_(clock_synchronised=False, tls=True), WARNING, "certificates are judged by it", "set-ntp"),
    ("library", with_(libraries=(Library(name="msgspec", version=None),)), PROBLEM, "not installed", "anew"),
    (
        "library",
        with_(libraries=(Library(name="hidapi", version="0.15", problem="libusb is missing"),)),
        PROBLEM,
        "no headset works: libusb is missing",
        "anew",
    ),
    (
        "library",
        with_(libraries=(Library(name="pyudev", version="0.24", problem="no libudev.so"),)),
        WARNING,
        "noticed in /dev instead",
        "libudev1",
    ),
]


@pytest.mark.parametrize(("name", "found", "state", "finding", "remedy"), FAULTS)
def test_a_fault(name: str, found: MachineFacts, state: State, finding: str, remedy: str) -> None:
    judged, *_ = [each for each in machine_findings(found) if each.name == name]
    assert (judged.state, finding in judged.finding) == (state, True), judged
    assert remedy in (judged.remedy or "")
    assert (judged.remedy is not None) is (state in (WARNING, PROBLEM) or bool(remedy))


@pytest.mark.parametrize(
    ("config", "state", "said"),
    [
        (ConfigFacts(), OK, "the defaults hold"),
        (ConfigFacts(file="/etc/x.yaml"), OK, "it is well"),
        (ConfigFacts(file="/etc/x.yaml", problems=("x.yaml:3: prot",)), PROBLEM, "x.yaml:3: prot"),
        (ConfigFacts(file="/etc/x.yaml", problems=("no",), unreadable=True), CANNOT_TELL, "may not read it"),
    ],
)
def test_the_configuration(config: ConfigFacts, state: State, said: str) -> None:
    (judged,) = config_findings(config)
    assert (judged.state, said in judged.finding, judged.about) == (state, True, config.file)


# --- the report


@pytest.mark.parametrize(
    ("states", "worst", "status"),
    [
        ([], OK, 0),
        ([OK, CANNOT_TELL, NOT_APPLICABLE], OK, 0),
        ([CANNOT_TELL], OK, 0),
        ([OK, WARNING, CANNOT_TELL], WARNING, 1),
        ([PROBLEM, WARNING, OK], PROBLEM, 2),
    ],
)
def test_the_worst_counts(states: list[State], worst: State, status: int) -> None:
    report = Report.of([Finding("check", state, "it is so") for state in states])
    assert (report.state, report.exit_status) == (worst, status)


def test_a_program_reads_every_finding_with_every_key() -> None:
    report = Report.of([Finding("broker", PROBLEM, "hangs", "restart it", "mqtt://x"), Finding("clock", OK, "right")])
    assert json.loads(report.as_json()) == {
        "state": "problem",
        "checks": [
            {"name": "broker", "state": "problem", "finding": "hangs", "remedy": "restart it", "about": "mqtt://x"},
            {"name": "clock", "state": "ok", "finding": "right", "remedy": None, "about": None},
        ],
    }


def test_a_person_reads_what_is_the_same_once_and_each_fault_alone() -> None:
    findings = [
        Finding("publish", OK, "allowed", about="a"),
        Finding("publish", OK, "allowed", about="b"),
        Finding("publish", PROBLEM, "refused", "allow it", "c"),
        Finding("publish", PROBLEM, "refused", "allow it", "d"),
        Finding("bridge", CANNOT_TELL, "without it", "do this"),
        Finding("controller", CANNOT_TELL, "without it", "do this"),
    ]
    assert Report.of(findings).as_text(80).splitlines() == [
        "mutebridge: problems: 2, warnings: 0",
        "",
        "ok       publish        all 2: allowed",
        "problem  publish        c: refused",
        "                        > allow it",
        "problem  publish        d: refused",
        "                        > allow it",
        "unknown  bridge         so with controller: without it",
        "                        > do this",
    ]


def test_colours_are_for_terminals() -> None:
    report = Report.of([Finding("clock", OK, "right")])
    assert (
        report.as_text(80, coloured=True) == "mutebridge: all is well\n\n\033[32mok\033[0m       clock          right\n"
    )
    assert report.as_text(80) == "mutebridge: all is well\n\nok       clock          right\n"


def test_what_is_unknown_is_not_called_well() -> None:
    assert "as far as can be told; unknown: 1\n" in Report.of([Finding("clock", CANNOT_TELL, "?")]).as_text(80)


def test_a_device_cannot_speak_to_the_terminal() -> None:
    text = Report.of([Finding("device", OK, "it is open", about="\033]0;mine\007 Phones\nat")]).as_text(80)
    assert "ok       device         ?]0;mine? Phones at: it is open" in text
