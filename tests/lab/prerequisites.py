"""Says what the host lacks for the lab, with the line to type."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

# Root's tools are often missing from a user's PATH.
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"

_PACKAGE_OF_TO_RUN = {"qemu-system-x86_64": "qemu-system-x86", "zstd": "zstd", "setpriv": "util-linux"}
_PACKAGE_OF_TO_BUILD = {
    "mmdebstrap": "mmdebstrap",
    "busybox": "busybox-static",
    "depmod": "kmod",
    "cpio": "cpio",
    "mke2fs": "e2fsprogs",
}
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class PrerequisiteError(Exception):
    """The lab cannot run here; the message is the remedy."""


def tool(name: str) -> str:
    """The path of a program of the host."""
    found = shutil.which(name, path=PATH)
    if found is None:
        raise PrerequisiteError(f"{name} is not installed")
    return found


def require(*, to_build: bool, say: Callable[[str], None]) -> None:
    """Raise `PrerequisiteError` unless the host can run the lab, or also build it; root installs what is missing."""
    if platform.machine() != "x86_64":
        raise PrerequisiteError(f"the lab's machine is x86-64 and this host is {platform.machine()}")
    packages = _missing_packages(to_build=to_build)
    if packages and os.geteuid() == 0:
        _install(packages, say)
        packages = _missing_packages(to_build=to_build)
    if packages:
        raise PrerequisiteError(f"type: sudo apt-get install --no-install-recommends {shlex.join(packages)}")
    if to_build and os.geteuid() != 0:
        raise PrerequisiteError(
            f"the lab's image is not built yet, which only root can: type: sudo {sys.executable} tests/lab build"
        )


def _missing_packages(*, to_build: bool) -> list[str]:
    wanted = _PACKAGE_OF_TO_RUN | (_PACKAGE_OF_TO_BUILD if to_build else {})
    packages = {package for name, package in wanted.items() if shutil.which(name, path=PATH) is None}
    if to_build and not _KEYRING.exists():
        packages.add("debian-archive-keyring")
    if to_build and not _static_busybox():
        packages.add("busybox-static")
    return sorted(packages)


def _static_busybox() -> bool:
    """The initrd has no libraries, so the dynamic busybox of another package will not do."""
    busybox = shutil.which("busybox", path=PATH)
    if busybox is None:
        return False
    with Path(busybox).open("rb") as file:
        return b"ld-linux" not in file.read(4096)


def _install(packages: list[str], say: Callable[[str], None]) -> None:
    say(f"installing {' '.join(packages)}")
    quiet = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    silent_env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        ran = subprocess.run([*quiet, *command], env=silent_env, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise PrerequisiteError(f"apt-get {command[0]} failed: {ran.stderr.strip()}")
