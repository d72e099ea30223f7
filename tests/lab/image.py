"""Builds the guest from Debian packages, in stages that are each cached by what they were made from.

    base      Debian's minimal system and its kernel package, as mmdebstrap and apt bring them
    wheels    the Python packages of the daemon, of pytest and of the project's installation
    root      base, kernel modules, wheels and the agent: the one root file system of both kinds of guest
    image     root as an ext4 disk, an unpacked kernel and an initrd: what qemu boots

The guest is one fixed Debian whatever the host is: it is what the daemon must run on. Its apt sources are the host's
where they have that Debian, so that a configured mirror is used.
"""

import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from tests.lab import cache
from tests.lab.kernel import ModuleTree, vmlinux
from tests.lab.prerequisites import PATH, tool
from tests.lab.tree import LAB, ROOT

SUITE = "bookworm"
PYTHON_VERSION = "3.11"

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "libpam-systemd",
    "kmod",
    "python3",
    "python3-venv",
    "procps",
    "iproute2",
    "mosquitto",
    "mosquitto-clients",
)
# Beside the daemon's own dependencies: what runs the tests, and what the project's installation builds with.
EXTRA_WHEELS = ("pytest", "pytest-timeout", "hatchling")

MODULES = (
    # the machine
    *("virtio_pci", "virtio_blk", "virtio_console", "virtio_rng", "ext4", "overlay", "autofs4", "configfs", "fuse"),
    # what the daemon meets
    *("uhid", "uinput", "evdev", "hid_generic", "usbhid", "hid_jabra", "hid_plantronics", "cdc_acm", "usbserial"),
    *("cp210x", "ch341", "ftdi_sio", "snd_dummy"),
    # virtual USB
    *("dummy_hcd", "libcomposite", "usb_f_hid", "usb_f_acm", "usb_f_serial", "vhci_hcd"),
)
INITRD_MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "overlay")

# Under emulation each unit costs a good part of a second at boot; none of these serves a test.
MASKED = (
    *("systemd-timesyncd", "systemd-networkd", "systemd-networkd.socket", "systemd-networkd-wait-online"),
    *("systemd-network-generator", "systemd-resolved", "systemd-pstore", "systemd-firstboot", "systemd-update-utmp"),
    *("systemd-random-seed", "systemd-journal-flush", "systemd-sysusers", "systemd-journal-catalog-update"),
    *("systemd-hwdb-update", "systemd-update-done", "systemd-boot-system-token", "systemd-binfmt"),
    *("proc-sys-fs-binfmt_misc.automount", "dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount"),
    *("sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount", "modprobe@dm_mod", "modprobe@drm"),
    *("modprobe@efi_pstore", "modprobe@fuse", "modprobe@loop", "apt-daily.timer", "apt-daily-upgrade.timer"),
    *("dpkg-db-backup.timer", "fstrim.timer", "e2scrub_all.timer", "e2scrub_reap", "getty@tty1"),
)
DISK_SIZE = "900M"  # sparse; the root file system is about half of it

Say = Callable[[str], None]


_FORGET_DOCUMENTATION = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "locale")]
# The kernel is only downloaded: to install it would bring initramfs-tools and its hooks, for nothing.
_DOWNLOAD_KERNEL = """--customize-hook=chroot "$1" sh -euc '
    mkdir /kernel
    cd /kernel
    apt-get download -qq "$(apt-cache depends linux-image-amd64 | sed -n "s/.*Depends: \\(linux-image-.*\\)/\\1/p")"'"""
_FORGET_DOWNLOADS = '--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*'
_MMDEBSTRAP = (
    *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--skip=check/empty", "--format=directory"),
    f"--include={','.join(PACKAGES)}",
    "--dpkgopt=force-unsafe-io",  # what a crash leaves behind is thrown away anyway
    *_FORGET_DOCUMENTATION,
    _DOWNLOAD_KERNEL,
    _FORGET_DOWNLOADS,
)


def image_key() -> str:
    return cache.digest("image", _root_key(), LAB / "initrd-init", LAB / "image.py", LAB / "kernel.py")


def image(say: Say) -> Path:
    """The folder with `vmlinux`, `initrd.gz` and `root.ext4`, built unless it is cached; building needs root."""
    found = cache.find("image", image_key())
    if found is not None:
        return found
    kernel, system = _base(say) / "kernel", root(say)

    def make(folder: Path) -> None:
        say("lab: packing the image")
        release = next((kernel / "lib/modules").iterdir()).name
        (folder / "vmlinux").write_bytes(vmlinux((kernel / f"boot/vmlinuz-{release}").read_bytes()))
        _pack_disk(system, folder / "root.ext4")
        _pack_initrd(kernel, folder)

    return cache.made("image", image_key(), make)


def is_built() -> bool:
    """Whether `image` and `root` would build nothing."""
    return cache.find("image", image_key()) is not None and cache.find("root", _root_key()) is not None


def root(say: Say) -> Path:
    """The root file system as a folder, built unless it is cached; building needs root."""
    found = cache.find("root", _root_key())
    if found is not None:
        return found / "tree"
    base, wheels = _base(say), _wheels(say)

    def make(folder: Path) -> None:
        say("lab: assembling the root file system")
        tree = folder / "tree"
        _run("cp", "--archive", "--reflink=auto", base / "tree", tree)
        modules = ModuleTree(base / "kernel")
        modules.copy(MODULES, tree)
        _run("depmod", "-b", tree, modules.version)
        _install_wheels(wheels, tree)
        _furnish(tree)

    return cache.made("root", _root_key(), make) / "tree"


def _root_key() -> str:
    return cache.digest("root", _base_key(), _pins(), LAB / "rootfs", LAB / "image.py", LAB / "kernel.py")


# --- base ------------------------------------------------------------------------------------------------------------


def _base_key() -> str:
    return cache.digest("base", SUITE, _MMDEBSTRAP)


def _base(say: Say) -> Path:
    def make(folder: Path) -> None:
        say("lab: bringing Debian's packages")
        tree, kernel = folder / "tree", folder / "kernel"
        _run(*_MMDEBSTRAP, SUITE, tree, *_apt_sources())
        (package,) = (tree / "kernel").iterdir()
        _run("dpkg-deb", "-x", package, kernel)
        shutil.rmtree(tree / "kernel")
        _run("depmod", "-b", kernel, next((kernel / "lib/modules").iterdir()).name)

    return cache.made("base", _base_key(), make)


def _apt_sources() -> list[Path]:
    """The host's file of Debian's sources if it has the guest's suite; with none mmdebstrap knows where Debian is."""
    files = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))
    has_suite = re.compile(rf"^(Suites:|deb\b).*\s{SUITE}(\s|$)", re.MULTILINE)
    return [file for file in files if file.exists() and has_suite.search(file.read_text())][:1]


# --- wheels ----------------------------------------------------------------------------------------------------------


def _pins() -> list[str]:
    """The requirements of the guest, at the versions that run on the host, so that both test the same."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return sorted(_pin(requirement) for requirement in (*project["project"]["dependencies"], *EXTRA_WHEELS))


def _pin(requirement: str) -> str:
    name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
    try:
        return f"{name}=={importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return requirement


def _wheels(say: Say) -> Path:
    def make(folder: Path) -> None:
        say("lab: bringing the Python packages")
        _pip("download", "--dest", folder, *_pins())

    return cache.made("wheels", cache.digest("wheels", PYTHON_VERSION, _pins()), make)


def _install_wheels(wheels: Path, tree: Path) -> None:
    """Lay the packages out where only the lab looks, beside the wheels for tests of an installation without network."""
    shutil.copytree(wheels, tree / "opt/lab/wheels")
    offline = ("--no-index", "--find-links", wheels)
    _pip("install", *offline, "--no-compile", "--target", tree / "opt/lab/site", *_pins())
    _run("chroot", tree, "python3", "-m", "compileall", "-q", "/opt/lab/site", "/usr/local/lib/mutebridge-lab")


def _pip(command: str, *arguments: str | Path) -> None:
    for_the_guest = ("--quiet", "--only-binary=:all:", "--python-version", PYTHON_VERSION)
    _run(sys.executable, "-m", "pip", command, *for_the_guest, *arguments)


# --- root and image --------------------------------------------------------------------------------------------------


def _furnish(tree: Path) -> None:
    """Make the guest quiet, quick to boot and the same at every start."""
    shutil.copytree(LAB / "rootfs", tree, dirs_exist_ok=True)
    systemctl = ("systemctl", f"--root={tree}", "--quiet")
    for unit in MASKED:
        (tree / "etc/systemd/system" / _unit_name(unit)).symlink_to("/dev/null")
    _run(*systemctl, "disable", "mosquitto.service")
    _run(*systemctl, "set-default", "lab.target")
    _run("chroot", tree, "passwd", "--quiet", "--delete", "root")
    (tree / "etc/fstab").write_text("")
    (tree / "etc/hostname").write_text("lab\n")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost lab\n")
    (tree / "etc/resolv.conf").unlink(missing_ok=True)
    # A fixed id makes no first boot of every start, and equal times of /usr and these stamps make no update.
    (tree / "etc/machine-id").write_text("6d757465627269646765206c61620000\n")
    for stamp in ("etc/.updated", "var/.updated"):
        _run("touch", f"--reference={tree}/usr", tree / stamp)


def _unit_name(unit: str) -> str:
    return unit if Path(unit).suffix in {".mount", ".automount", ".socket", ".timer"} else f"{unit}.service"


def _pack_disk(tree: Path, disk: Path) -> None:
    quick = ("-q", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-E", "lazy_itable_init=1", "-m", "0")
    _run("mke2fs", *quick, "-d", tree, disk, DISK_SIZE)


def _pack_initrd(kernel: Path, folder: Path) -> None:
    content = folder / "initrd"
    (content / "bin").mkdir(parents=True)
    shutil.copy(tool("busybox"), content / "bin/busybox")
    shutil.copy(LAB / "initrd-init", content / "init")
    (content / "init").chmod(0o755)
    in_order = ModuleTree(kernel).copy(INITRD_MODULES, content)
    (content / "modules.list").write_text("".join(f"{path}\n" for path in in_order))
    archive = f"find . | cpio --quiet -oH newc | gzip -1 >{shlex.quote(str(folder / 'initrd.gz'))}"
    _run("sh", "-euc", archive, cwd=content)
    shutil.rmtree(content)


def _run(program: str, *arguments: str | Path, cwd: Path | None = None) -> None:
    """Run a program of the host; its failure carries what it said."""
    env = os.environ | {"PATH": PATH}
    command = [tool(program), *map(str, arguments)]
    ran = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=900)
    if ran.returncode:
        said = "\n".join((ran.stdout + ran.stderr).splitlines()[-20:])
        raise RuntimeError(f"{shlex.join(command)[:200]} failed with {ran.returncode}:\n{said}")
