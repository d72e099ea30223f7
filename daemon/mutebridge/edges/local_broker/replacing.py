"""Changes a file of credentials as a whole, so that who reads it meanwhile finds the old or the new one."""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

MAX_BYTES = 16 * 1024 * 1024


def change(path: Path, changed: Callable[[str], str]) -> bool:
    """Write what `changed` makes of the file's text, "" where there is none; return whether that is another one.

    The file keeps its owner with its permissions. A new one is for its owner only, who is the folder's, so that root
    can give a service its file. Changes by several processes follow one another. OSError as of any file, also for a
    symbolic link: where it leads is the choice of whose folder it is in, who need not be who is asking.
    """
    with _locked(path.parent):
        if path.is_symlink():
            raise OSError(errno.ELOOP, "is a symbolic link; name the file itself", str(path))
        before = read(path)
        after = changed(before or "")
        if after == (before or ""):
            return False
        _replace(path, after)
    return True


def read(path: Path) -> str | None:
    """Return the file's text, None where there is none; ValueError for one that is no text, or too long."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(data) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES} bytes")
    return data.decode()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _replace(path: Path, text: str) -> None:
    try:
        model, mode = path.lstat(), None
    except FileNotFoundError:
        model, mode = path.parent.stat(), 0o600
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            if os.geteuid() == 0:
                os.fchown(descriptor, model.st_uid, model.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(model.st_mode) if mode is None else mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
