"""Packs the working tree as the guest gets it, beside what `python3 daemon wheels` makes of it."""

import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAB = Path(__file__).resolve().parent

# Every tree's disk has this one size, so that one memory snapshot fits all of them.
DISK_BYTES = 64 << 20
_NEVER = {".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}


def pack(disk: Path, wheels: Path | None) -> None:
    """Write the tree as a tar file of exactly `DISK_BYTES`: tracked files and new ones, but none that git ignores.

    `wheels` becomes the folder `wheels` in it.
    """
    with tarfile.open(disk, "w") as tar:
        for name in _files():
            if (ROOT / name).exists():
                tar.add(ROOT / name, name, recursive=False)
        if wheels is not None:
            tar.add(wheels, "wheels")
    if disk.stat().st_size > DISK_BYTES:
        raise ValueError(
            f"the tree does not fit on the guest's disk of {DISK_BYTES >> 20} MiB: what large file is in it?"
        )
    with disk.open("r+b") as file:
        file.truncate(DISK_BYTES)


def _files() -> list[str]:
    listing = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0:
        return [name for name in listing.stdout.split("\0") if name]
    # A source archive instead of a clone.
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [str(path) for path in paths if not _NEVER.intersection(path.parts)]
