"""Installs units for the length of a test."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def systemctl(*arguments: str, status: int = 0) -> str:
    """Run systemctl; another status than this one is raised with what it said."""
    ran = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)
    if ran.returncode != status:
        raise RuntimeError(f"systemctl {' '.join(arguments)}: {ran.stderr.strip()}")
    return ran.stdout.strip()


def shown(unit: str, name: str) -> str:
    """A property of a unit, as `systemctl show` has it."""
    return systemctl("show", "--value", "--property", name, unit)


def journal(unit: str) -> str:
    command = ["journalctl", "--no-pager", "--output=cat", f"--unit={unit}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def installed(unit: str, text: str) -> Iterator[None]:
    """A unit file that is stopped and gone at the end."""
    file = Path("/run/systemd/system", unit)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    systemctl("daemon-reload")
    try:
        yield
    finally:
        systemctl("stop", unit)
        file.unlink()
        systemctl("daemon-reload")
