"""The machine of an administrator, who types the README's commands in a copy of the tree."""

import hashlib
import os
import subprocess
from pathlib import Path

from tests.lab.guest.desk import STATION, Desk

REPOSITORY = Path(__file__).resolve().parents[3]
CONFIG = Path("/etc/mutebridge/mutebridge.yaml")
# What a machine changes by itself, and the tests' own.
_ALIVE = ("/proc", "/sys", "/dev", "/run", "/tmp", "/lab", "/var/log", "/var/tmp")
# What every change of a user leaves: the files as they were before it.
_COPIES = ("/etc/passwd-", "/etc/shadow-", "/etc/group-", "/etc/gshadow-")


def administer(*arguments: str, status: int = 0, tree: Path = REPOSITORY, **env: str) -> str:
    """Type `python3 daemon ...` as root with nothing but the system's own Python; returns all that it said."""
    done = subprocess.run(
        ["/usr/bin/python3", "daemon", *arguments],
        cwd=tree,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def install(status: int = 0, tree: Path = REPOSITORY) -> str:
    """Without network: from the wheels that came with the tree."""
    return administer("install", "--wheels", "wheels", status=status, tree=tree)


def configure(desk: Desk, more: str = "") -> None:
    """Bring the configuration along before the service is installed."""
    CONFIG.parent.mkdir(exist_ok=True)
    CONFIG.write_text(f"station: {STATION}\nbroker: {{host: 127.0.0.1, port: {desk.broker.port}}}\n{more}")


def everything() -> dict[str, str]:
    """All files of the machine that it does not change by itself, with owner, rights and content."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk("/"):
        folders[:] = [name for name in folders if str(Path(folder, name)) not in _ALIVE]
        for path in (Path(folder, name) for name in [*folders, *files]):
            if str(path) in _COPIES or (path.is_relative_to(REPOSITORY) and "__pycache__" in path.parts):
                continue
            about = path.lstat()
            found[str(path)] = f"{about.st_mode:o} {about.st_uid} {about.st_gid} {_content(path)}"
    return found


def _content(path: Path) -> str:
    if path.is_symlink():
        return str(path.readlink())
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
