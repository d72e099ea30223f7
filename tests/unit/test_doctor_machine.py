"""The doctor looks at a machine that is made of files: what it finds there, and what it does not see."""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mutebridge import virtual_headset
from mutebridge.config import Config
from mutebridge.core.assignment import DeviceConfig, KeepMuteKey
from mutebridge.doctor.facts import BrailleFacts, DeviceFacts, EventNode, MachineFacts, ServiceFacts, User
from mutebridge.doctor.machine import ask_systemd, look
from mutebridge.edges.broker import BrokerSettings, TlsSettings

# Somebody who owns nothing here.
SERVICE_USER = User(name="mutebridge", uid=4001, gids=frozenset({4000}))
SERVICE = ServiceFacts(systemd=True, installed=True, active="active", main_pid=812, user=SERVICE_USER)
CONFIG = Config(station="desk", devices=(DeviceConfig(id="board", port="/dev/ttyACM0", profile="lines"),))


class Machine:
    """Folders like those of a machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, content: str | bytes = "") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    def link(self, path: str, target: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(target if target.startswith("/dev") else self.root / target)

    def node(self, path: str, mode: int) -> None:
        """A file stands for a device node; what counts are its rights."""
        self.write(path).chmod(mode)

    def usb(self, name: str, ids: str, product: str, driver: str) -> str:
        """Plug in a USB device with one interface; return the folder of that."""
        folder = f"sys/devices/usb1/{name}"
        vendor, product_id = ids.split(":")
        for key, value in (("idVendor", vendor), ("idProduct", product_id), ("product", product), ("dev", "189:4")):
            self.write(f"{folder}/{key}", value + "\n")
        self.write(f"{folder}/uevent")
        self.link(f"{folder}/subsystem", "sys/bus/usb")
        self.link(f"sys/bus/usb/devices/{name}", folder)
        self.write(f"sys/bus/usb/drivers/{driver}/bind")
        self.link(f"{folder}/{name}:1.0/driver", f"sys/bus/usb/drivers/{driver}")
        return f"{folder}/{name}:1.0"

    def board(self, *, mode: int = 0o660) -> None:
        interface = self.usb("1-2", "239a:80f4", "Board", "cdc_acm")
        tty = f"{interface}/tty/ttyACM0"
        self.write(f"{tty}/uevent", "DEVNAME=ttyACM0\n")
        self.write(f"{tty}/dev", "166:0\n")
        self.link(f"{tty}/device", interface)
        self.link(f"{tty}/subsystem", "sys/class/tty")
        self.link("sys/class/tty/ttyACM0", tty)
        self.node("dev/ttyACM0", mode)

    def headset(self, *, mode: int = 0o660, keys: str = "100000000000000 0 0 0") -> None:
        hid = "sys/devices/usb1/1-3/1-3:1.3/0003:1209:0E03.0001"
        self.write(f"{hid}/uevent", "HID_ID=0003:00001209:00000E03\nHID_NAME=Phones\n")
        self.write(f"{hid}/report_descriptor", virtual_headset.descriptor())
        self.write(f"{hid}/hidraw/hidraw3/uevent", "DEVNAME=hidraw3\n")
        self.link(f"{hid}/hidraw/hidraw3/device", hid)
        self.link("sys/class/hidraw/hidraw3", f"{hid}/hidraw/hidraw3")
        self.write(f"{hid}/input/input9/capabilities/key", keys + "\n")
        self.write(f"{hid}/input/input9/event7/uevent", "DEVNAME=input/event7\n")
        self.link(f"{hid}/input/input9/event7/device", f"{hid}/input/input9")
        self.link("sys/class/input/event7", f"{hid}/input/input9/event7")
        self.node("dev/hidraw3", mode)
        self.node("dev/input/event7", mode)

    def process(self, pid: int, name: str, *arguments: str, opened: str | None = None) -> None:
        self.write(f"proc/{pid}/comm", name + "\n")
        self.write(f"proc/{pid}/cmdline", "\0".join((name, *arguments)) + "\0")
        (self.root / f"proc/{pid}/fd").mkdir()
        if opened is not None:
            self.link(f"proc/{pid}/fd/7", opened)

    def udev_says(self, device: str, *properties: str) -> None:
        lines = [f"E:{each}" for each in properties]
        self.write(f"run/udev/data/{device}", "\n".join(["I:123", *lines]) + "\n")

    def look(self, config: Config | None = CONFIG, service: ServiceFacts = SERVICE) -> MachineFacts:
        return look(config, None, service, self.root)

    def device(self, config: Config = CONFIG) -> DeviceFacts:
        (device,) = [each for each in self.look(config).devices or () if each.usable]
        return device


@pytest.fixture
def machine() -> Iterator[Machine]:
    # Where others may look, as pytest's own folders do not let them.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(stat.S_IRWXU | 0o055)
        yield Machine(Path(folder))


def test_nothing_is_plugged_in(machine: Machine) -> None:
    facts = machine.look(Config(station="desk"))
    assert (facts.devices, facts.unused) == ((), 0)
    (absent,) = machine.look().devices or ()
    assert (absent.id, absent.usable, absent.there) == ("board", True, False)


def test_without_a_configuration_nothing_is_wanted(machine: Machine) -> None:
    machine.board()
    assert machine.look(None).devices is None


def test_a_serial_button(machine: Machine) -> None:
    machine.board()
    device = machine.device()
    assert (device.id, device.port, device.serial, device.there) == ("board", "/dev/ttyACM0", True, True)
    assert device.ignored_by_modem_manager is False
    assert device.others == ()


@pytest.mark.parametrize(("mode", "may"), [(0o660, False), (0o666, True), (0o664, False)])
def test_it_is_the_service_s_user_who_counts(machine: Machine, mode: int, may: bool) -> None:
    machine.board(mode=mode)
    machine.headset(mode=mode)
    facts = machine.look()
    assert facts.user == SERVICE_USER
    assert [device.permitted for device in facts.devices or ()] == [may, may]
    assert machine.look(CONFIG, ServiceFacts()).user.uid == os.geteuid()


@pytest.mark.parametrize(
    ("device", "properties", "ignored"),
    [
        ("c166:0", ["ID_MM_CANDIDATE=1"], False),
        ("c166:0", ["ID_MM_PORT_IGNORE=1"], True),
        ("c166:0", ["ID_MM_DEVICE_IGNORE=0"], False),
        ("c189:4", ["ID_MM_DEVICE_IGNORE=1"], True),  # of the USB device above it
        ("c189:5", ["ID_MM_DEVICE_IGNORE=1"], False),  # of another one
    ],
)
def test_whether_modem_manager_leaves_it_alone(
    machine: Machine, device: str, properties: list[str], ignored: bool
) -> None:
    machine.board()
    machine.udev_says(device, *properties)
    assert machine.device().ignored_by_modem_manager is ignored


def test_whether_modem_manager_runs(machine: Machine) -> None:
    assert not machine.look().modem_manager
    machine.process(300, "ModemManager")
    assert machine.look().modem_manager


def test_other_programs_are_told_from_the_daemon(machine: Machine) -> None:
    machine.headset()
    config = Config(station="desk")
    machine.process(812, "mutebridge", "run", opened="/dev/hidraw3")
    device = machine.device(config)
    assert (device.held_by_daemon, device.others) == (True, ())
    machine.process(900, "firefox", opened="/dev/hidraw3")
    machine.process(901, "cat", opened="/dev/hidraw4")
    device = machine.device(config)
    assert (device.held_by_daemon, device.others) == (True, ("firefox (900)",))


def test_a_daemon_that_somebody_started_by_hand_is_one_too(machine: Machine) -> None:
    machine.process(70, "python3", "/opt/mutebridge/venv/bin/mutebridge", "run", "--embedded-broker")
    machine.process(71, "python3", "-m", "mutebridge", "doctor")
    machine.process(72, "vim", "mutebridge", "notes")
    facts = machine.look(None, ServiceFacts())
    assert facts.daemons == ("python3 (70)",)
    assert facts.daemon_runs
    assert facts.embedded_broker


def test_the_mute_key_of_a_headset(machine: Machine) -> None:
    machine.headset()
    device = machine.device(Config(station="desk", keep_mute_key_from_desktop=KeepMuteKey.OFF))
    assert (device.serial, device.from_phone_mute, device.keeps_mute_key) == (False, True, KeepMuteKey.OFF)
    assert device.event_nodes == (EventNode(path="/dev/input/event7", mutes=True, permitted=False),)


@pytest.mark.parametrize("keys", ["0", "3e000000000000 0 0 0", "100000000000000 0 0 0 0", ""])
def test_other_keys_are_no_mute_key(machine: Machine, keys: str) -> None:
    machine.headset(keys=keys)
    assert [node.mutes for node in machine.device(Config(station="desk")).event_nodes] == [False]


@pytest.mark.parametrize(
    ("driver", "properties", "running", "found"),
    [
        ("ch341", [], True, []),
        ("ch341", ["BRLTTY_BRAILLE_DRIVER=bm"], False, [(False, True)]),
        ("usbfs", ["BRLTTY_BRAILLE_DRIVER=bm"], True, [(True, True)]),
        ("usbfs", [], True, [(True, False)]),
        ("usbfs", [], False, []),  # another program than brltty
    ],
)
def test_an_adapter_that_is_taken_for_a_braille_display(
    machine: Machine, driver: str, properties: list[str], running: bool, found: list[tuple[bool, bool]]
) -> None:
    machine.usb("1-4", "1a86:7523", "USB Serial", driver)
    machine.udev_says("c189:4", *properties)
    if running:
        machine.process(50, "brltty")
    expected = [BrailleFacts(ids="1a86:7523", product="USB Serial", taken=t, wanted=w) for t, w in found]
    assert list(machine.look().braille) == expected


def test_a_true_braille_display_is_left_out(machine: Machine) -> None:
    machine.usb("1-4", "0904:2000", "Display", "usbfs")
    machine.udev_says("c189:4", "BRLTTY_BRAILLE_DRIVER=ht")
    machine.process(50, "brltty")
    assert machine.look().braille == ()


def test_desktops(machine: Machine) -> None:
    machine.write("run/systemd/sessions/1", "USER=ann\nTYPE=wayland\nCLASS=user\n")
    machine.write("run/systemd/sessions/2", "USER=bob\nTYPE=tty\nCLASS=user\n")
    machine.write("run/systemd/sessions/3", "USER=gdm\nTYPE=x11\nCLASS=greeter\n")
    assert machine.look().desktops == ("ann",)


def test_the_udev_rule_and_what_masks_it(machine: Machine) -> None:
    (rule,) = (Path(__file__).parents[2] / "systemd").glob("*.rules")
    assert machine.look().udev_rule is None
    machine.write(f"usr/lib/udev/rules.d/{rule.name}", rule.read_bytes())
    assert machine.look().udev_rule == f"/usr/lib/udev/rules.d/{rule.name}"
    machine.link(f"etc/udev/rules.d/{rule.name}", "/dev/null")
    assert machine.look().udev_rule is None


def test_the_files_that_the_daemon_reads(machine: Machine) -> None:
    ca_file = machine.write("ca.crt", "")
    ca_file.chmod(0o644)
    password_file = machine.write("password", "")
    password_file.chmod(0o600)
    tls = TlsSettings(ca_file=str(ca_file), cert_file=str(machine.root / "none"))
    broker = BrokerSettings(username="u", password_file=str(password_file), tls=tls)
    facts = look(Config(station="desk", broker=broker), None, SERVICE, machine.root)
    assert [(file.key, file.there, file.permitted) for file in facts.files] == [
        ("broker.password_file", True, False),
        ("broker.tls.ca_file", True, True),
        ("broker.tls.cert_file", False, False),
    ]
    assert facts.tls


@pytest.mark.parametrize(("mode", "exposed"), [(0o644, True), (0o640, False), (0o600, False)])
def test_a_secret_that_everybody_may_read(machine: Machine, mode: int, exposed: bool) -> None:
    file = machine.write("secret", "")
    file.chmod(mode)
    path = str(file)
    tls = TlsSettings(ca_file=path, cert_file=path, key_file=path)
    given = msgspec.structs.replace(SERVICE, credentials={"pw": path})
    in_file = BrokerSettings(username="u", password_file=path, tls=tls)
    in_credential = BrokerSettings(username="u", password_credential="pw")
    in_clear = BrokerSettings(username="u", password="pw")
    found = {
        fact.key: fact
        for broker in (in_file, in_credential, in_clear)
        for fact in look(Config(station="desk", broker=broker), file, given, machine.root).files
    }
    secret = {"broker.password_file", "broker.password_credential", "broker.tls.key_file", "configuration"}
    assert {key for key, fact in found.items() if fact.exposed} == (secret if exposed else set())
    assert found["broker.password_credential"].permitted
    facts = look(Config(station="desk"), file, given, machine.root)
    assert [(fact.key, fact.exposed) for fact in facts.files] == [("configuration", False)]


def test_the_libraries_and_the_clock_of_this_machine(machine: Machine) -> None:
    facts = machine.look()
    assert {library.name: bool(library.version) for library in facts.libraries} == dict.fromkeys(
        ["hidapi", "msgspec", "paho-mqtt", "pyserial", "pyudev", "PyYAML"], True
    )
    assert [library.name for library in facts.libraries if library.backend] == ["hidapi", "pyudev"]
    assert facts.clock_synchronised in (True, False)


# --- systemd: its program is stood in for here, and is the real one in the lab


def systemctl(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str, then: str = "") -> None:
    script = folder / "systemctl"
    said = "\n".join(lines)
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n{then}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_what_systemd_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl(
        tmp_path,
        monkeypatch,
        "LoadState=loaded",
        "UnitFileState=enabled",
        "ActiveState=failed",
        "SubState=failed",
        "Result=exit-code",
        "NRestarts=3",
        "ExecMainCode=1",
        "ExecMainStatus=78",
        "MainPID=0",
        "NeedDaemonReload=yes",
        "User=nobody",
        "Group=",
        "SupplementaryGroups=",
        f"FragmentPath={tmp_path}/unit",
        f"DropInPaths={tmp_path}/first.conf {tmp_path}/second.conf",
    )
    (tmp_path / "unit").write_text("# LoadCredential=no:/no\n[Service]\nLoadCredential=gone:/etc/gone\n")
    (tmp_path / "first.conf").write_text("[Service]\nLoadCredential=\nLoadCredential=mqtt-password:/etc/another\n")
    (tmp_path / "second.conf").write_text("[Service]\nLoadCredential=mqtt-password:/etc/mqtt:1\nLoadCredential=b:/b\n")
    service = ask_systemd(20.0)
    assert (service.systemd, service.installed, service.enabled, service.active) == (True, True, "enabled", "failed")
    assert (service.restarts, service.exit_code, service.exit_status, service.main_pid) == (3, 1, 78, 0)
    assert service.changed_on_disk
    assert service.credentials == {"mqtt-password": "/etc/mqtt:1", "b": "/b"}
    assert service.user is not None
    assert service.user.name == "nobody"


@pytest.mark.parametrize(
    ("lines", "then"),
    [
        ([], "exit 1"),
        (["System has not been booted with systemd"], "exit 1"),
        (["LoadState="], ""),
    ],
)
def test_where_systemd_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], then: str
) -> None:
    systemctl(tmp_path, monkeypatch, *lines, then=then)
    assert ask_systemd(20.0) == ServiceFacts()


def test_a_systemd_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl(tmp_path, monkeypatch, then="exec sleep 60")
    assert ask_systemd(0.5) == ServiceFacts()


def test_no_systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_systemd(20.0) == ServiceFacts()


@pytest.mark.parametrize(("state", "installed"), [("not-found", False), ("masked", False), ("loaded", True)])
def test_a_service_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, installed: bool
) -> None:
    systemctl(tmp_path, monkeypatch, f"LoadState={state}", "User=no-such-user", "MainPID=0")
    service = ask_systemd(20.0)
    assert (service.systemd, service.installed, service.user) == (True, installed, None)


def test_the_user_of_a_running_service_is_the_process_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl(tmp_path, monkeypatch, "LoadState=loaded", "User=no-such-user", f"MainPID={os.getpid()}")
    user = ask_systemd(20.0).user
    assert user is not None
    assert user.uid == os.geteuid()
    assert os.getegid() in user.gids
