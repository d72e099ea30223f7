"""`python3 tests`: set up all that the tests need, then run every tier in one pytest run.

    python3 tests                       every tier but the lab
    python3 tests unit scenarios        these tiers
    python3 tests unit -k lights -x     whatever else is given goes to pytest
    python3 tests --lab                 the lab too: a virtual machine with real USB, udev and systemd
    python3 tests --ci                  the lab too, and nothing may be skipped

The tiers are the folders beside this file. A run of all of them also measures coverage, which must be complete for the
core. Nothing but the standard library is needed to start: this makes `.venv`, fetches the MQTT broker's programs where
they are missing, then becomes pytest.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - the one place where an older one arrives
    sys.exit("mutebridge's tests need Python 3.11 or newer; this is {}.{}.{}".format(*sys.version_info))

import os
import shutil
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
sys.path.insert(0, str(ROOT / "daemon"))

import bootstrap  # noqa: E402 - found by the line above
import debian_packages  # noqa: E402

TIERS = ["house", "unit", "scenarios", "properties", "integration"]
# Each program that a tier needs but pip cannot bring, with the Debian package that it is in.
PROGRAMS = {"mosquitto": "mosquitto", "mosquitto_pub": "mosquitto-clients", "mosquitto_sub": "mosquitto-clients"}


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
    rest = [arg for arg in args if arg not in ("--ci", "--lab")]
    tiers = [*TIERS, "lab"] if {"--lab", "--ci"}.intersection(args) else TIERS
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
    path = debian_packages.search_path()
    missing = [program for program in PROGRAMS if not shutil.which(program, path=path)]
    if not missing:
        return path
    unpacked = venv / "debian"
    with bootstrap.locked(venv):
        if not all(shutil.which(program, path=str(unpacked / "bin")) for program in missing):
            packages = sorted({PROGRAMS[program] for program in missing})
            bootstrap.say(f"fetching {' '.join(packages)} for the tests, into {unpacked}")
            try:
                debian_packages.unpack(missing, packages, unpacked)
            except debian_packages.PackageError as error:
                line = debian_packages.line_to_type(*packages)
                bootstrap.say(f"{error}\nThe tests that need a broker are skipped. To have them, type:\n    {line}")
    return f"{unpacked / 'bin'}{os.pathsep}{path}"


if __name__ == "__main__":
    with bootstrap.errors_for_people():
        main(sys.argv[1:])
