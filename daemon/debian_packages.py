"""Gets Debian packages that the project's set-up needs, without leaving a service behind.

Like `bootstrap`, which uses it, it runs before anything is installed, with the standard library alone.

A package that starts a service is not installed but unpacked. On a person's machine, running the tests must leave no
broker listening, neither now nor after the next boot. Holding the service back during an installation would not do: it
would still be enabled. So apt resolves, downloads, verifies; dpkg unpacks into a folder; a line of shell for each
program points it at its libraries. That needs no root where apt has its lists, and deleting the folder undoes it.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from shlex import quote

# Where Debian puts what an administrator runs; not on the PATH of others.
_SBIN = ["/usr/local/sbin", "/usr/sbin", "/sbin"]


class PackageError(Exception):
    """A package cannot be had; the message says why."""


def search_path() -> str:
    """Return PATH with the folders of administrators' programs."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN])


def line_to_type(*packages: str) -> str:
    """Return what a person types to install them."""
    return f"sudo apt install {' '.join(packages)}"


def may_install() -> bool:
    """Whether this process may install Debian packages."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(*packages: str) -> None:
    """Install packages that start no service."""
    command = ["apt-get", "install", "--quiet", "--yes", "--no-install-recommends", *packages]
    try:
        _run(command)
    except PackageError:  # apt's lists may be missing, or name a version that is gone
        _run(["apt-get", "update", "--quiet"])
        _run(command)


def unpack(programs: Iterable[str], packages: Iterable[str], folder: Path) -> Path:
    """Put `programs` of `packages` into `folder`; returns the folder to put on PATH."""
    bin_ = folder / "bin"
    shutil.rmtree(folder, ignore_errors=True)
    bin_.mkdir(parents=True)
    try:
        _download(packages, folder)
    except PackageError:
        if not may_install():
            raise
        _run(["apt-get", "update", "--quiet"])
        _download(packages, folder)
    for archive in sorted(folder.glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(archive), str(folder)])
        archive.unlink()
    for program in programs:
        _write_wrapper(bin_ / program, folder)
    return bin_


def _download(packages: Iterable[str], folder: Path) -> None:
    plan = _run(["apt-get", "install", "--simulate", "--no-install-recommends", *packages])
    lines = [line.split() for line in plan.splitlines()]
    missing = [words[1] for words in lines if words[:1] == ["Inst"]]
    _run(["apt-get", "download", "--quiet", *missing], folder)


def _write_wrapper(path: Path, folder: Path) -> None:
    """Through `exec`, so the process is the program's own: signals reach it, it is seen to end."""
    found = shutil.which(path.name, path=os.pathsep.join(str(folder / where) for where in ("usr/bin", "usr/sbin")))
    if found is None:
        raise PackageError(f"the Debian packages brought no {path.name}")
    libraries = ":".join(str(libs) for libs in sorted((folder / "usr" / "lib").glob("*-linux-*")))
    path.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={quote(libraries)} exec {quote(found)} "$@"\n')
    path.chmod(0o755)


def _run(command: list[str], folder: Path | None = None) -> str:
    """Run to its end; returns what it printed, or raises PackageError with it."""
    env = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise PackageError(f"{command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise PackageError(f"{' '.join(command)} failed:\n{done.stdout}")
    return done.stdout
