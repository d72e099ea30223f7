"""Furnishes new namespaces as a small machine, then becomes its systemd.

    container_init.py ROOT FOLDER

Runs as the first process of namespaces made by `unshare`. ROOT is the root file system, used as the lower layer of an
overlay; FOLDER has the tree as `tree.tar` and the `socket` on which the host waits for the agent. What belongs to the
host's kernel and not to a namespace (sysctls, devices) is read-only or not there.
"""

import os
import subprocess
import sys
from pathlib import Path

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
HOST_ONLY = ("proc/sys", "proc/sysrq-trigger", "proc/irq", "proc/bus")


def main() -> None:
    lower, folder = map(Path, sys.argv[1:])
    root = _overlay(lower, folder / "scratch")
    _mount_kernel_file_systems(root)
    _make_devices(root / "dev")
    (root / "repo").mkdir()
    _run("tar", "-xf", folder / "tree.tar", "-C", root / "repo")
    (root / "lab").mkdir()
    _run("mount", "--bind", folder, root / "lab")
    # As systemd does it on a machine, and leaves it to others in a container: credentials are mounted by a child.
    _run("mount", "--make-rshared", root)
    os.chroot(root)
    os.chdir("/")
    environment = {"container": "lab", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"}
    os.execve("/sbin/init", ["/sbin/init", "--unit=lab-native.target", "--show-status=no"], environment)


def _overlay(lower: Path, scratch: Path) -> Path:
    """A writable view of `lower` that vanishes with the mount namespace."""
    _run("mount", "--make-rprivate", "/")
    scratch.mkdir()
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "scratch", scratch)
    for name in ("upper", "work", "root"):
        (scratch / name).mkdir()
    layers = f"lowerdir={lower},upperdir={scratch}/upper,workdir={scratch}/work"
    _run("mount", "-t", "overlay", "-o", layers, "overlay", scratch / "root")
    return scratch / "root"


def _mount_kernel_file_systems(root: Path) -> None:
    _run("mount", "-t", "proc", "proc", root / "proc")
    for name in HOST_ONLY:
        if (root / name).exists():
            _run("mount", "--bind", root / name, root / name)
            _run("mount", "-o", "remount,bind,ro", root / name)
    _run("mount", "-t", "sysfs", "-o", "ro", "sysfs", root / "sys")
    _run("mount", "-t", "cgroup2", "cgroup2", root / "sys/fs/cgroup")
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "run", root / "run")


def _make_devices(dev: Path) -> None:
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "dev", dev)
    (dev / "pts").mkdir()
    (dev / "shm").mkdir()
    _run("mount", "-t", "devpts", "-o", "newinstance,ptmxmode=666", "devpts", dev / "pts")
    (dev / "ptmx").symlink_to("pts/ptmx")
    (dev / "fd").symlink_to("/proc/self/fd")
    (dev / "console").touch()
    for name in DEVICES:
        (dev / name).touch()
        _run("mount", "--bind", Path("/dev", name), dev / name)


def _run(*command: str | Path) -> None:
    subprocess.run(list(map(str, command)), check=True)


if __name__ == "__main__":
    main()
