"""Keeps what is slow to make outside the tree, under a name that is the digest of all it was made from.

A cached thing is never changed and never half there: it is made in a folder beside its place and then renamed. Nobody
has to clear the cache after a change, since a change of any input is another name.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SYSTEM_CACHE = Path("/var/cache/mutebridge-lab")
UNUSED_DAYS = 3


def is_root() -> bool:
    return os.geteuid() == 0


def cache_dir() -> Path:
    """The folder that this user may write: `XDG_CACHE_HOME`, else `/var/cache` for root, else `~/.cache`."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    if chosen:
        return Path(chosen) / "mutebridge-lab"
    return SYSTEM_CACHE if is_root() else Path.home() / ".cache" / "mutebridge-lab"


def digest(*inputs: object) -> str:
    """Names the inputs: strings as they are, paths by content and mode, folders by all they hold."""
    seen = hashlib.sha256()
    for given in inputs:
        if isinstance(given, Path):
            for path in _files(given):
                seen.update(f"{path.relative_to(given)}\0{path.stat().st_mode:o}\0".encode() + path.read_bytes())
        else:
            seen.update(repr(given).encode() + b"\0")
    return seen.hexdigest()[:12]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def find(stage: str, key: str) -> Path | None:
    """What was made before, by this user or by root for everybody."""
    folders = [cache_dir()] if is_root() else [cache_dir(), SYSTEM_CACHE]
    place = next((place for folder in folders if (place := folder / f"{stage}-{key}").is_dir()), None)
    if place is not None and os.access(place, os.W_OK):
        os.utime(place)  # it is in use
    return place


def made(stage: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder `stage-key`, filled by `make` unless it is there already."""
    with _locked(cache_dir()):
        return find(stage, key) or _make(stage, key, make)


def _make(stage: str, key: str, make: Callable[[Path], None]) -> Path:
    _prune()
    place = cache_dir() / f"{stage}-{key}"
    unfinished = Path(tempfile.mkdtemp(prefix=f"unfinished-{stage}-", dir=cache_dir()))
    try:
        make(unfinished)
        unfinished.chmod(0o755)
        unfinished.rename(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return place


def _prune() -> None:
    """Remove what no run has used for days; called with the lock held, so `unfinished-*` are leftovers."""
    oldest = time.time() - UNUSED_DAYS * 86400
    for entry in cache_dir().iterdir():
        if entry.is_dir() and (entry.name.startswith("unfinished-") or entry.stat().st_mtime < oldest):
            shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One maker at a time; a stage that makes another one inside asks for it first, never within its own `make`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
