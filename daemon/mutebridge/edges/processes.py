"""Which programs run on this machine, and what they hold open; read from /proc."""

import contextlib
import os
from collections.abc import Collection
from pathlib import Path

import msgspec


class Process(msgspec.Struct, frozen=True):
    """One process; `name` is at most 15 bytes of its program's."""

    pid: int
    name: str
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} ({self.pid})"


def running(root: Path = Path("/")) -> list[Process]:
    """Return the processes that can be seen; with hidepid that may be one's own only."""
    return [process for folder in _folders(root) if (process := _process(folder)) is not None]


def holders(paths: Collection[str], root: Path = Path("/")) -> dict[str, list[Process]]:
    """Return, for each of `paths`, the processes that have it open; other users' are seen only by root."""
    found: dict[str, list[Process]] = {path: [] for path in paths}
    for folder in _folders(root) if found else ():
        for path in _open_files(folder) & found.keys():
            if (process := _process(folder)) is not None:
                found[path].append(process)
    return found


def _folders(root: Path) -> list[Path]:
    return sorted((root / "proc").glob("[0-9]*"), key=lambda folder: int(folder.name))


def _process(folder: Path) -> Process | None:
    try:
        name = (folder / "comm").read_text(errors="replace").strip()
        arguments = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    except OSError:  # it has ended
        return None
    return Process(int(folder.name), name, tuple(os.fsdecode(argument) for argument in arguments))


def _open_files(folder: Path) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in (folder / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                found.add(os.readlink(entry))  # noqa: PTH115 - compared as it is
    return found
