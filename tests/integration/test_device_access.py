"""Who may open a node, told from a tree like /sys, and kept in its access list."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mutebridge import device_access
from mutebridge.config import load_profiles
from mutebridge.core.profiles import each_match
from mutebridge.edges import access_list
from mutebridge.virtual_headset import descriptor

PHONES = descriptor()
KEYS = bytes.fromhex("05 01 09 06 a1 01 05 07 19 00 29 65 15 00 25 65 75 08 95 06 81 00 c0")
MUTE_LAMP = bytes.fromhex("05 0c 09 01 a1 01 05 08 09 09 15 00 25 01 75 01 95 01 91 02 95 07 91 03 c0")
GROUP = 4711


class Machine:
    """A tree of sys, dev and etc."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._numbers = itertools.count()

    def hid(self, said: bytes, usb: str = "1209:0001") -> tuple[str, str]:
        """Plug a HID device in; returns the folders of its hidraw and its event node."""
        number = next(self._numbers)
        vendor, product = usb.upper().split(":")
        device = self.root / f"sys/devices/usb1/0003:{vendor}:{product}.{number:04d}"
        hidraw, event = device / f"hidraw/hidraw{number}", device / f"input/input{number}/event{number}"
        for folder, name, up in ((hidraw, f"hidraw{number}", "../.."), (event, f"input/event{number}", "..")):
            folder.mkdir(parents=True)
            (folder / "uevent").write_text(f"DEVNAME={name}\n")
            (folder / "device").symlink_to(up)
        (event.parent / "device").symlink_to("../..")
        (device / "uevent").write_text(f"HID_ID=0003:0000{vendor}:0000{product}\nHID_NAME=Mute button\n")
        (device / "report_descriptor").write_bytes(said)
        self._named_subsystem(hidraw, "hidraw")
        self._named_subsystem(event, "input")
        return str(hidraw), str(event)

    def tty(self, name: str, product: str = "Knob", bus: str = "usb1") -> str:
        device = self.root / f"sys/devices/{bus}/{name}"
        folder = device / "tty" / name
        folder.mkdir(parents=True)
        (device / "product").write_text(product)
        (device / "idVendor").write_text("1209")
        (folder / "uevent").write_text(f"DEVNAME={name}\n")
        (folder / "device").symlink_to("../..")
        self._named_subsystem(folder, "tty")
        return str(folder)

    def configure(self, text: str) -> None:
        file = self.root / "etc/mutebridge/mutebridge.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        device_access._configuration.cache_clear()

    def gives(self, folder: str) -> bool:
        return device_access.is_given(folder, str(self.root))

    def _named_subsystem(self, folder: Path, name: str) -> None:
        kind = self.root / "sys/class" / name
        kind.mkdir(parents=True, exist_ok=True)
        (folder / "subsystem").symlink_to(kind)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "dev").mkdir()
    device_access._configuration.cache_clear()
    return Machine(tmp_path)


def test_both_nodes_of_a_headset_are_given_and_neither_of_a_keyboard(machine: Machine) -> None:
    headset, keyboard = machine.hid(PHONES), machine.hid(KEYS)
    assert [machine.gives(node) for node in (*headset, *keyboard)] == [True, True, False, False]


def test_a_keyboard_loads_no_library(machine: Machine) -> None:
    """This runs at every plug-in."""
    nodes = [*machine.hid(KEYS), machine.tty("ttyS0", bus="pnp0")]
    machine.configure("# devices: [{id: x}]\nbroker:\n  client_id: null\ndevices:\n#  - id: example\n")
    script = (
        "import sys; from mutebridge import device_access;"
        f"assert not any(device_access.is_given(node, {str(machine.root)!r}) for node in {nodes!r});"
        "print({'msgspec', 'yaml', 're', 'pathlib', 'logging', 'typing'} & set(sys.modules))"
    )
    path = str(Path(device_access.__file__).parents[1])
    # Without `site`, whose files may import what they like.
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], env={"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_what_the_configuration_names_is_given(machine: Machine) -> None:
    port, legacy = machine.tty("ttyACM0"), machine.tty("ttyS0", bus="pnp0")
    assert not machine.gives(port)
    assert not machine.gives(legacy)
    machine.configure(
        "devices: [{id: a, match: {product: knob}, profile: lines}, {id: b, port: /dev/ttyS0, serial: {toggle: x}}]"
    )
    assert machine.gives(port)
    assert machine.gives(legacy)


@pytest.mark.parametrize("port", ["/dev/serial/by-id/usb-Knob", "/dev/serial/by-id/*Knob", "/dev/knob"])
def test_a_port_is_judged_by_the_links_that_udev_will_make(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    folder, other = machine.tty("ttyACM0"), machine.hid(MUTE_LAMP)[0]
    machine.configure(f"devices: [{{id: a, port: '{port}', profile: lines}}, {{id: b, port: /dev/x, headset: {{}}}}]")
    assert not machine.gives(folder)
    monkeypatch.setenv("DEVLINKS", "/dev/serial/by-path/x /dev/serial/by-id/usb-Knob /dev/knob")
    assert machine.gives(folder)
    monkeypatch.setenv("DEVLINKS", "/dev/serial/by-id/usb-Board /dev/x")
    assert not machine.gives(folder)
    assert not machine.gives(other), "only a port's links are to be"


@pytest.mark.parametrize("arguments", [[], ["--judge"], ["--give", "a", "b"], ["--all", "a"], ["--what"]])
def test_wrong_usage(arguments: list[str]) -> None:
    assert device_access.main(arguments) == os.EX_USAGE


def test_a_wrong_configuration_withholds_no_headset(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    headset, port = machine.hid(PHONES), machine.tty("ttyACM0")
    machine.configure("devices: [{id: a, match: {product: knob}, profile: lnes}]")
    assert machine.gives(headset[0])
    assert not machine.gives(port)
    assert "profile 'lnes' is unknown" in capfd.readouterr().err


@pytest.mark.parametrize("key", ["id", "'id'", '"id"', "? id\n    "])
def test_the_quick_step_sees_every_device_of_the_configuration(machine: Machine, key: str) -> None:
    lamp = machine.hid(MUTE_LAMP)[0]
    assert not machine.gives(lamp)
    machine.configure(f"devices:\n  - {key}: a\n    match:\n      vendor_id: '1209'\n")
    assert machine.gives(lamp)


def test_the_quick_step_sees_every_model_of_the_profiles(machine: Machine) -> None:
    ids = {
        (vendor, product)
        for profile in load_profiles()
        for match in each_match(profile.match)
        if profile.headset is not None
        for vendor in _each(match.vendor_id)
        for product in _each(match.product_id) or ("0001",)
    }
    assert len(ids) > 10
    for vendor, product in sorted(ids):
        assert machine.gives(machine.hid(MUTE_LAMP, f"{vendor}:{product}")[0]), f"{vendor}:{product}"


def _each(globs: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (globs,) if isinstance(globs, str) else globs or ()


@pytest.mark.parametrize("said", [b"", b"\x0b", b"\x05\x0b", bytes([0x0B]) * 4096, PHONES[:-1], PHONES * 200])
def test_a_broken_descriptor_is_given_nothing(machine: Machine, said: bytes) -> None:
    assert not any(machine.gives(node) for node in machine.hid(said))


def test_what_is_gone_already_is_given_nothing(machine: Machine) -> None:
    assert not machine.gives(f"{machine.root}/sys/class/hidraw/hidraw7")


@pytest.mark.parametrize("given", [True, False])
def test_what_left_before_its_right_is_set_does_not_open_or_close_the_folder_of_all_nodes(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    asked: list[str] = []
    for change in ("grant", "revoke"):
        monkeypatch.setattr(access_list, change, lambda path, _: asked.append(path))
    device_access._set_right(f"{machine.root}/sys/class/hidraw/hidraw7", GROUP, given=given)
    assert asked == []


@pytest.mark.parametrize(("number", "is_it"), [("1:3", True), ("1:5", False), ("", False)])
def test_a_node_is_touched_only_while_it_is_that_devices(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, number: str, is_it: bool
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(access_list, "grant", lambda path, _: asked.append(path))
    folder = Path(machine.hid(PHONES)[0])
    (folder / "uevent").write_text("DEVNAME=null\n")
    (folder / "dev").write_text(f"{number}\n")
    device_access._set_right(str(folder), GROUP, given=True)
    assert asked == (["/dev/null"] if is_it else [])


# --- access lists


def modes(file: Path) -> str:
    return f"{file.stat().st_mode & 0o777:o}"


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o640, 0o644])
def test_an_entry_comes_and_goes(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "node"
    file.touch()
    file.chmod(mode)
    assert access_list.grant(str(file), GROUP)
    assert not access_list.grant(str(file), GROUP)
    assert os.listxattr(file) == ["system.posix_acl_access"]
    assert access_list.revoke(str(file), GROUP)
    assert not access_list.revoke(str(file), GROUP)
    assert os.listxattr(file) == []
    assert modes(file) == f"{mode:o}"


def test_the_entries_of_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "node"
    file.touch()
    file.chmod(0o660)
    access_list.grant(str(file), GROUP + 1)
    before = os.getxattr(file, "system.posix_acl_access")
    access_list.grant(str(file), GROUP)
    assert access_list.revoke(str(file), GROUP)
    assert os.getxattr(file, "system.posix_acl_access") == before


def test_an_entry_that_a_changed_mode_hid_is_given_again(tmp_path: Path) -> None:
    file = tmp_path / "node"
    file.touch()
    access_list.grant(str(file), GROUP)
    file.chmod(0o600)
    assert access_list.grant(str(file), GROUP)
    assert modes(file) == "660"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    (tmp_path / "node").symlink_to("other")
    with pytest.raises(OSError, match="not supported"):
        access_list.grant(str(tmp_path / "node"), GROUP)
