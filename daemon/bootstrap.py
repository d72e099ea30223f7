"""Makes a virtual environment with the project in it, on a machine that has only Python.

Two entry points use it before anything else is installed, `python3 daemon` and `python3 tests`, so it imports nothing
but the standard library. On the usual second start a stamp inside the environment says what it was made from; when that
still holds, nothing else is looked at.

The environment is `.venv` in the project's root; where the tree cannot be written, a folder of the user's cache. One
process at a time works on it: the others wait for the lock, which is the folder that holds the environment, so no lock
file is left behind. The programs that it runs hold the lock too: pip goes on when whoever started it is killed. While
the environment is worked on, the stamp says so; who finds it like that knows that the work was cut short, so starts
over.
"""

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence, Set
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import debian_packages

ROOT = Path(__file__).resolve().parent.parent

_STAMP = "mutebridge-stamp"
_EX_UNAVAILABLE = 69  # of sysexits.h: something that is needed is not there
_EX_INTERRUPTED = 130  # what a shell says of a program that SIGINT ended


class SetUpError(Exception):
    """Something is missing; the message says what, where it can the line to type."""


def set_up(extras: Set[str], root: Path = ROOT) -> Path:
    """Return the environment with the project and these of its optional dependencies, made or mended where needed."""
    places = [root / ".venv", _place_in_cache(root)]
    for venv in places:
        if _is_ready(venv, root, extras):
            return venv
    for venv in places:
        if _can_write(venv):
            return _make_once(venv, root, extras)
    raise SetUpError(f"neither {places[0]} nor {places[1]} can be made: no permission to write there")


@contextlib.contextmanager
def errors_for_people() -> Iterator[None]:
    """Turn what went wrong into one message on standard error, and an exit code."""
    try:
        yield
    except (SetUpError, debian_packages.PackageError) as error:
        say(str(error))
        sys.exit(_EX_UNAVAILABLE)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(_EX_INTERRUPTED)


def say(text: str) -> None:
    """Tell the person at the terminal; standard output belongs to what was asked for."""
    print(f"mutebridge: {text}", file=sys.stderr, flush=True)


# --- what the environment was made from ------------------------------------------------------------------------------


class _Stamp(NamedTuple):
    identity: str = ""  # what cannot change afterwards: the programs in it hold these paths
    settings: str = ""
    extras: str = ""


_UNFINISHED = _Stamp("unfinished")


def _wanted_stamp(venv: Path, root: Path, extras: Set[str]) -> _Stamp:
    version = ".".join(map(str, sys.version_info[:2]))
    settings = hashlib.sha256((root / "pyproject.toml").read_bytes()).hexdigest()
    return _Stamp(f"python {version} in {venv} for {root}", settings, " ".join(sorted(extras)))


def _read_stamp(venv: Path) -> _Stamp:
    try:
        return _Stamp(*(venv / _STAMP).read_text().split("\n"))
    except (OSError, ValueError, TypeError):
        return _Stamp()


def _write_stamp(venv: Path, stamp: _Stamp) -> None:
    new = venv / f"{_STAMP}.new"
    new.write_text("\n".join(stamp))
    new.replace(venv / _STAMP)


def _is_ready(venv: Path, root: Path, extras: Set[str]) -> bool:
    made, wanted = _read_stamp(venv), _wanted_stamp(venv, root, extras)
    return (
        made[:2] == wanted[:2]
        and extras <= set(made.extras.split())
        and all(os.access(venv / "bin" / program, os.X_OK) for program in ("python", "mutebridge"))
    )


# --- making it -------------------------------------------------------------------------------------------------------


def _make_once(venv: Path, root: Path, extras: Set[str]) -> Path:
    try:
        with locked(venv.parent):
            if not _is_ready(venv, root, extras):  # another start may have been quicker
                _make(venv, root, extras)
    except OSError as error:
        raise SetUpError(f"{venv} cannot be made: {error}") from None
    return venv


def _make(venv: Path, root: Path, extras: Set[str]) -> None:
    made = _read_stamp(venv)
    wanted = _wanted_stamp(venv, root, extras | set(made.extras.split()))
    say(f"setting up {venv}, this once; it may take a minute")
    if made.identity not in ("", wanted.identity) or not _works(venv):
        create(venv)
    _write_stamp(venv, _UNFINISHED)
    _install(venv, root, wanted.extras.split())
    _write_stamp(venv, wanted)


def _works(venv: Path) -> bool:
    """Whether its Python runs, is of the version that runs this, stands where it was made, has pip."""
    probe = "import pip, sys; print(sys.version_info[:2], sys.prefix)"
    expected = f"{sys.version_info[:2]} {venv}\n"
    return run([venv / "bin" / "python", "-c", probe]) == (0, expected)


def create(venv: Path, *, with_pip: bool = True) -> None:
    """Make an empty environment of the base Python, in place of whatever is there."""
    _ensure_modules("venv", *(["ensurepip"] if with_pip else []))
    # A process of the base Python: within another environment, `venv` would link to that one.
    python = getattr(sys, "_base_executable", None) or sys.executable
    status, output = run([python, "-m", "venv", "--clear", *([] if with_pip else ["--without-pip"]), venv])
    if status != 0:
        raise SetUpError(f"{python} -m venv failed:\n{output}")


def pip(otherwise: Path | None = None) -> list[str]:
    """Return what makes any Python run the pip that comes along for new environments, without installing it there.

    To install it takes four times as long as all that it then installs. `otherwise`: a wheel of pip, for a Python whose
    own is in a package that is not installed.
    """
    wheel = otherwise if otherwise is not None and not find_spec("ensurepip") else pip_wheel()
    return [str(wheel / "pip"), "--disable-pip-version-check", "--no-input", "--quiet"]


def pip_wheel() -> Path:
    """Return the pip that comes along for new environments."""
    _ensure_modules("ensurepip")
    folders = [sysconfig.get_config_var("WHEEL_PKG_DIR"), Path(sysconfig.get_path("stdlib")) / "ensurepip/_bundled"]
    found = [wheel for folder in folders if folder for wheel in Path(folder).glob("pip-*.whl")]
    if not found:
        raise SetUpError(f"the Python in {sys.base_prefix} brings no pip for new environments")
    return found[0]


def _ensure_modules(*modules: str) -> None:
    """Install what Debian splits off from Python into a package of its own."""
    if all(map(find_spec, modules)):
        return
    package = "python{}.{}-venv".format(*sys.version_info)
    if not debian_packages.may_install():
        raise SetUpError(
            f"Python's module for virtual environments is missing. Type:\n    {debian_packages.line_to_type(package)}"
        )
    say(f"installing {package}")
    debian_packages.install(package)


def _install(venv: Path, root: Path, extras: Sequence[str]) -> None:
    project = f"{root}[{','.join(extras)}]" if extras else str(root)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    status, output = run([*pip, "install", "--quiet", "--editable", project], PIP_USER="0")
    if status != 0:
        raise SetUpError(
            f"pip could not install mutebridge with what it depends on:\n{output}\n"
            "This once it needs the network, to reach the package index that pip is configured for. If the lines above "
            "say that it could not connect, or found no version at all, see to the connection (or proxy), then start "
            "again."
        )


def run(command: Sequence[str | Path], **env: str) -> tuple[int, str]:
    """Run quietly to its end: exit status, with all that it printed. One that cannot be started has status 127."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
            text=True,
            errors="replace",
            check=False,
            close_fds=False,  # a lock is held until this program has ended, too
        )
    except OSError as error:
        return 127, str(error)
    return done.returncode, done.stdout


# --- where -----------------------------------------------------------------------------------------------------------


def _place_in_cache(root: Path) -> Path:
    """For a tree that cannot be written: a folder of the user's own, one per tree."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return cache / "mutebridge" / hashlib.sha256(bytes(root)).hexdigest()[:16] / "venv"


def _can_write(venv: Path) -> bool:
    """Found out by writing: permissions say little to root, nothing of a file system that is mounted read-only."""
    probe = (venv if venv.is_dir() else venv.parent) / f".mutebridge-{os.getpid()}"
    try:
        probe.mkdir(parents=True)
        probe.rmdir()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, after whoever holds it now."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(lock, True)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another start, which is setting up")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            say(f"{folder} is on a file system without locks: start only once at a time")
        yield
    finally:
        os.close(lock)
