"""Fills a folder with all that pip needs to install this tree on a machine without network.

The folder holds wheels only, so that no workstation needs a compiler, with the project's own among them, and pip, which
Debian has in a package beside its Python. It may be filled for several versions of Python, one after the other. Like
`bootstrap` this runs with the standard library alone.
"""

import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import bootstrap


def fill(
    folder: Path, extras: Sequence[str] = (), python_version: str | None = None, root: Path = bootstrap.ROOT
) -> None:
    """Put the wheels of the project and of what it depends on into `folder`, for Python `python_version` ("3.11").

    Needs what pip needs to reach its package index; raises `bootstrap.SetUpError` with what pip said.
    """
    pip = [sys.executable, "-I", *bootstrap.pip()]
    folder.mkdir(parents=True, exist_ok=True)
    # Pip would take the old one for the new one where the version is the same.
    for old in (*folder.glob("mutebridge-*.whl"), *folder.glob("pip-*.whl")):
        old.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        _run([*pip, "wheel", "--no-deps", "--wheel-dir", scratch, str(root)])
        for_python = ["--python-version", python_version] if python_version else []
        (wheel,) = Path(scratch).glob("*.whl")
        wanted = with_extras(wheel, extras)
        or_own_pip = ["--find-links", str(bootstrap.pip_wheel().parent)]  # of an index that has none
        _run([*pip, "download", "--only-binary=:all:", *for_python, *or_own_pip, "--dest", str(folder), wanted, "pip"])


def with_extras(project: Path, extras: Sequence[str]) -> str:
    """Return how pip is told of a tree or wheel with some of its optional dependencies."""
    return f"{project}[{','.join(extras)}]" if extras else str(project)


def pip(folder: Path) -> Path | None:
    """Return the pip in a folder that was filled; None if somebody has taken it out."""
    return next(folder.glob("pip-*.whl"), None)


def wheel_of_tree(folder: Path, root: Path = bootstrap.ROOT) -> Path:
    """Return the project's own wheel in `folder`; raises `bootstrap.SetUpError` unless it was made from this tree."""
    wheel = folder / f"mutebridge-{version(root)}-py3-none-any.whl"
    try:
        same = _is_of_tree(wheel, root)
    except (OSError, zipfile.BadZipFile) as error:
        raise bootstrap.SetUpError(f"{folder} is no folder of wheels: {error}. {_remedy(folder)}") from None
    if not same:
        raise bootstrap.SetUpError(f"{wheel} was made from another version of this tree. {_remedy(folder)}")
    return wheel


def version(root: Path = bootstrap.ROOT) -> str:
    """Return the project's version."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def sources(root: Path = bootstrap.ROOT) -> list[Path]:
    """Return what of the tree is installed, in a fixed order."""
    files = (root / "daemon" / "mutebridge").rglob("*")
    return sorted(file for file in files if file.is_file() and "__pycache__" not in file.parts)


def _is_of_tree(wheel: Path, root: Path) -> bool:
    """Whether all modules of one are in the other, and no file that both have differs."""
    here = {file.relative_to(root / "daemon").as_posix(): file for file in sources(root)}
    with zipfile.ZipFile(wheel) as archive:
        there = set(archive.namelist())
        modules = {name for name in here if name.endswith(".py")}
        packed = {name for name in there if name.startswith("mutebridge/") and name.endswith(".py")}
        return modules == packed and all(archive.read(name) == here[name].read_bytes() for name in there & here.keys())


def _remedy(folder: Path) -> str:
    return f"On a machine with network, type:\n    python3 daemon wheels {folder}"


def _run(command: list[str]) -> None:
    status, output = bootstrap.run(command, PIP_USER="0")
    if status != 0:
        raise bootstrap.SetUpError(f"pip could not get the wheels:\n{output}")
