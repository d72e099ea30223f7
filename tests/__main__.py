"""`python3 tests`: set up all that the tests need, then run every tier in one pytest run.

    python3 tests                       every tier but the lab
    python3 tests unit scenarios        these tiers
    python3 tests unit -k lights -x     whatever else is given goes to pytest
    python3 tests --lab                 only the lab: a virtual machine with real USB, udev and systemd
    python3 tests --ci                  every tier and the lab, and nothing may be skipped

The tiers are the folders beside this file. A run of all of them also measures coverage, which must be complete for the
core. Nothing but the standard library is needed to start: this makes `.venv`, fetches the MQTT broker's programs where
they are missing, then becomes pytest.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the one place where an older one arrives
    sys.exit("mutebridge's tests need Python 3.11 or newer; this is {}.{}.{}".format(*sys.version_info))

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
sys.path.insert(0, str(ROOT / "daemon"))

import bootstrap  # noqa: E402 - found by the line above
import debian_packages  # noqa: E402

TIERS = ["house", "unit", "scenarios", "properties", "integration"]
# The programs that tiers need but pip cannot bring, with the Debian packages that have them. Those of packages that
# would start a service are unpacked below `.venv`; the others are installed, where this is root.
UNPACKED = {
    "mosquitto": ["mosquitto"],
    "mosquitto_passwd": ["mosquitto"],
    "mosquitto_pub": ["mosquitto-clients"],
    "mosquitto_sub": ["mosquitto-clients"],
}
INSTALLED = {
    "cc": ["gcc", "libc6-dev"],
    "openssl": ["openssl"],
    "node": ["nodejs"],
    "npm": ["npm"],
    "chromium": ["chromium"],
}


def main(args: list[str]) -> None:
    if "-h" in args or "--help" in args:
        print(__doc__)
        return
    venv = bootstrap.set_up({"test"})
    os.environ["PATH"] = _path_with_programs(venv)
    python = str(venv / "bin" / "python")
    command = [python, "-m", "pytest", *_pytest_args(args)]
    os.chdir(ROOT)
    os.execv(python, command)


def _pytest_args(args: list[str]) -> list[str]:
    rest = ["lab" if arg == "--lab" else arg for arg in args if arg != "--ci"]
    tiers = [*TIERS, "lab"] if "--ci" in args else TIERS
    chosen = [_tier_or_path(arg) for arg in rest]
    given = ["--ci"] if "--ci" in args else []
    if any(Path(arg.partition("::")[0]).exists() for arg in chosen):
        return given + chosen
    given += chosen + [str(TESTS / tier) for tier in tiers if (TESTS / tier).is_dir()]
    if not rest:
        given += ["--cov", "--cov-report=term-missing:skip-covered", "--complete-core"]
    return given


def _tier_or_path(arg: str) -> str:
    """Paths are the caller's, while pytest runs in the project's root."""
    path, colons, node = arg.partition("::")
    for found in (TESTS / path, Path(path).absolute()):
        if path and not path.startswith("-") and found.exists():
            return f"{found}{colons}{node}"
    return arg


def _path_with_programs(venv: Path) -> str:
    """Return the PATH on which the tests find what they need, got first where it was missing."""
    path = debian_packages.search_path()
    unpacked = venv / "debian"
    with bootstrap.locked(venv):
        if missing := _missing(INSTALLED, path):
            _get(missing, _packages(INSTALLED, missing), None)
        missing = _missing(UNPACKED, path)
        if _missing(missing, str(unpacked / "bin")):
            _get(missing, _packages(UNPACKED, missing), unpacked)
    return f"{unpacked / 'bin'}{os.pathsep}{path}"


def _missing(programs: Iterable[str], path: str) -> list[str]:
    return [program for program in programs if not shutil.which(program, path=path)]


def _packages(table: dict[str, list[str]], programs: list[str]) -> list[str]:
    return sorted({package for program in programs for package in table[program]})


def _get(programs: list[str], packages: list[str], folder: Path | None) -> None:
    """Unpack the packages into the folder, else install them; where neither can be, tell what to type."""
    line = debian_packages.line_to_type(*packages)
    try:
        if folder is not None:
            bootstrap.say(f"fetching {' '.join(packages)} for the tests, into {folder}")
            debian_packages.unpack(programs, packages, folder)
        elif debian_packages.may_install():
            bootstrap.say(f"installing {' '.join(packages)} for the tests")
            debian_packages.install(*packages)
        else:
            bootstrap.say(f"tests that need {', '.join(programs)} are skipped. To have them, type:\n    {line}")
    except debian_packages.PackageError as error:
        bootstrap.say(
            f"{error}\nThe tests that need {', '.join(programs)} are skipped. To have them, type:\n    {line}"
        )


if __name__ == "__main__":
    with bootstrap.errors_for_people():
        main(sys.argv[1:])
