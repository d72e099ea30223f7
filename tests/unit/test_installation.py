"""Installing below a folder: real environments by the real pip, of a small project that needs no network."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import installation

SOURCE = Path(__file__).resolve().parents[2] / "daemon"
DEADLINE_S = 110

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "mutebridge"
version = "0.1.0"
"""

BACKEND = """\
import zipfile
from pathlib import Path

INFO = "mutebridge-0.1.0.dist-info"
ABOUT = {
    "METADATA": "Metadata-Version: 2.1\\nName: mutebridge\\nVersion: 0.1.0\\nProvides-Extra: none\\n",
    "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "entry_points.txt": "[console_scripts]\\nmutebridge = mutebridge:main\\n",
}

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "mutebridge-0.1.0-py3-none-any.whl"
    files = {f"{INFO}/{file}": text for file, text in ABOUT.items()}
    for file in Path("daemon/mutebridge").rglob("*.py"):
        files[str(file.relative_to("daemon"))] = file.read_text()
    files[f"{INFO}/RECORD"] = "".join(f"{path},,\\n" for path in [*files, f"{INFO}/RECORD"])
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return name

build_editable = build_wheel
"""
SYSTEM_FILES = {
    "mutebridge.service": "[Service]\n",
    "mutebridge.sysusers": 'u mutebridge - "mutebridge"\n',
    "70-mutebridge.rules": "# rules\n",
    "mutebridge-genesys-cloud.service": "# of this version only\n",
    "other": "not for the machine\n",
}
INSTALLED = {
    "etc/mutebridge/mutebridge.yaml",
    "etc/systemd/system/mutebridge.service",
    "etc/sysusers.d/mutebridge.conf",
    "etc/udev/rules.d/70-mutebridge.rules",
    "opt/mutebridge/manifest.json",
    "opt/mutebridge/venv",
    "usr/local/bin/mutebridge",
}
OLD = "etc/systemd/user/mutebridge-genesys-cloud.service"


class Machine:
    """A folder to install below, and a tree to install from."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        for name in ("etc", "opt"):
            (self.root / name).mkdir(parents=True)
        self.config = self.root / "etc/mutebridge/mutebridge.yaml"
        self.tree = folder / "a tree"
        (self.tree / "daemon/mutebridge").mkdir(parents=True)
        for name in ("__main__.py", "bootstrap.py", "debian_packages.py", "installation.py", "wheelhouse.py"):
            shutil.copy(SOURCE / name, self.tree / "daemon")
        for folder_name, files in {
            "systemd": SYSTEM_FILES,
            "config": {"mutebridge.yaml": "# the example\n"},
            ".": {"pyproject.toml": PYPROJECT, "backend.py": BACKEND},
        }.items():
            (self.tree / folder_name).mkdir(exist_ok=True)
            for name, text in files.items():
                (self.tree / folder_name / name).write_text(text)
        self.say("first")

    def say(self, word: str) -> None:
        """Make it another version of the program."""
        (self.tree / "daemon/mutebridge/__init__.py").write_text(f"def main(): print({word!r})\n")

    def start(self, *args: str, **env: str) -> "subprocess.Popen[str]":
        """Type a command."""
        return subprocess.Popen(
            [sys.executable, str(self.tree / "daemon"), *args],
            cwd="/",
            env={**os.environ, "PIP_NO_INDEX": "1", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *args: str, status: int = 0, **env: str) -> str:
        """Type a command; returns all that it said."""
        with self.start(*args, **env) as typed:
            said = typed.communicate(timeout=DEADLINE_S)[0]
        assert typed.returncode == status, said
        assert "Traceback" not in said
        return said

    def install(self, *args: str, status: int = 0, **env: str) -> str:
        return self.run("install", "--root", str(self.root), *args, status=status, **env)

    def uninstall(self, *args: str) -> str:
        return self.run("uninstall", "--root", str(self.root), *args)

    def files(self) -> set[str]:
        """All but what is inside of environments."""
        paths = (path.relative_to(self.root) for path in self.root.rglob("*") if path.is_symlink() or path.is_file())
        return {str(path) for path in paths if path.parts[:3] != ("opt", "mutebridge", "versions")}

    def tree_files(self) -> list[Path]:
        """All but what Python leaves wherever it runs."""
        return sorted(path for path in self.tree.rglob("*") if "__pycache__" not in path.parts)

    def environments(self) -> list[Path]:
        return list((self.root / "opt/mutebridge/versions").iterdir())

    def command(self) -> str:
        """Run what is on the PATH of everyone."""
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        program = self.root / "usr/local/bin/mutebridge"
        return subprocess.run([program], env=env, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The first installation; its command has run in a tree that nothing was written to."""
    machine = Machine(tmp_path_factory.mktemp("installed"))
    before = machine.tree_files()
    os.umask(0o077)
    try:
        said = machine.install()
    finally:
        os.umask(0o022)
    assert "changed  " in said
    assert machine.tree_files() == before
    return machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine on which nothing is installed."""
    return Machine(tmp_path)


@pytest.fixture
def installed(first: Machine, tmp_path: Path) -> Iterator[Machine]:
    """A machine with the first version; put back afterwards, since an environment holds the path that it has."""
    saved = shutil.copytree(first.root.parent, tmp_path / "saved", symlinks=True)
    yield first
    shutil.rmtree(first.root.parent)
    shutil.move(saved, first.root.parent)


def test_everything_is_there_and_readable_by_all(installed: Machine) -> None:
    assert installed.files() == INSTALLED | {OLD}
    assert installed.command() == "first"
    paths = [path for path in installed.root.rglob("*") if not path.is_symlink()]
    assert all(path.stat().st_mode & (0o055 if path.is_dir() else 0o044) for path in paths)


def test_nothing_points_back_into_the_tree(installed: Machine) -> None:
    shutil.rmtree(installed.tree)
    assert installed.command() == "first"


def test_a_second_run_changes_nothing(installed: Machine) -> None:
    before = {path: path.lstat().st_mtime_ns for path in installed.root.rglob("*")}
    said = installed.install()
    assert "changed  " not in said
    assert "mutebridge 0.1.0 is installed: 0 changes" in said
    assert {path: path.lstat().st_mtime_ns for path in installed.root.rglob("*")} == before


def test_an_upgrade_keeps_the_configuration_and_nothing_of_the_old_version(installed: Machine) -> None:
    installed.say("second")
    (installed.tree / "systemd/mutebridge-genesys-cloud.service").unlink()
    (installed.tree / "config/mutebridge.yaml").write_text("# another example\n")
    (old,) = installed.environments()
    would = installed.install("--check")
    assert installed.command() == "first"
    said = installed.install()
    assert would.replace("would be", "is") == said
    assert installed.files() == INSTALLED
    assert installed.command() == "second"
    assert installed.config.read_text() == "# the example\n"
    assert old not in installed.environments()
    assert "changed  " not in installed.install()


def test_an_upgrade_keeps_the_optional_libraries(installed: Machine) -> None:
    (plain,) = installed.environments()
    installed.install("--with", "none")
    assert plain not in installed.environments()
    assert "changed  " not in installed.install()


def test_what_was_damaged_is_mended(installed: Machine) -> None:
    unit = installed.root / "etc/systemd/system/mutebridge.service"
    unit.write_text("[Service]\nUser=somebody\n")
    (installed.root / "usr/local/bin/mutebridge").unlink()
    (environment,) = installed.environments()
    shutil.rmtree(environment)
    said = installed.install()
    assert said.count("changed  ") == 3
    assert unit.read_text() == "[Service]\n"
    assert installed.command() == "first"


def test_a_check_touches_nothing(machine: Machine) -> None:
    assert f"changed  {machine.config}" in machine.install("--check")
    assert machine.files() == set()


def test_what_pip_failed_at_is_told_and_the_next_run_goes_on(installed: Machine) -> None:
    installed.say("second")
    backend = installed.tree / "backend.py"
    backend.write_text("def build_wheel(*_): raise SystemExit('no space left')\nbuild_editable = build_wheel\n")
    said = installed.install(status=os.EX_UNAVAILABLE)
    assert "no space left" in said
    assert "the same command goes on from there" in said
    assert installed.command() == "first"
    assert len(installed.environments()) == 1, "what is of no use takes no room"
    backend.write_text(BACKEND)
    installed.install()
    assert installed.command() == "second"
    assert len(installed.environments()) == 1


def test_pip_that_outlives_its_installer_is_waited_for(machine: Machine) -> None:
    """Two of them in one environment would leave whatever comes out of it."""
    backend, reached, go_on = (machine.tree / name for name in ("backend.py", "reached", "go on"))
    os.mkfifo(reached)
    os.mkfifo(go_on)
    backend.write_text(f"open({str(reached)!r}, 'w').close()\nopen({str(go_on)!r}).close()\n{BACKEND}")
    with machine.start("install", "--root", str(machine.root)) as killed:
        reached.open().close()
        killed.kill()
    with machine.start("install", "--root", str(machine.root)) as second:
        assert second.stdout
        assert second.stdout.readline() == "mutebridge: waiting for another start, which is setting up\n"
        backend.write_text(BACKEND)
        go_on.open("w").close()
        said = second.communicate(timeout=DEADLINE_S)[0]
    assert second.returncode == 0, said
    assert machine.command() == "first"


def test_a_removal_follows_no_link_to_what_may_be_others_too(installed: Machine) -> None:
    elsewhere = installed.root.parent / "elsewhere"
    for path in ("etc/mutebridge", "var/lib/mutebridge", "opt/mutebridge"):
        place, target = installed.root / path, elsewhere / path
        target.parent.mkdir(parents=True)
        if place.exists():
            place.rename(target)
        else:
            target.mkdir()
            place.parent.mkdir(parents=True)
        place.symlink_to(target)
    (elsewhere / "etc/mutebridge/mutebridge.yaml").write_text("station: here\n")
    assert f"/etc/mutebridge removed, a link; {elsewhere}" in installed.uninstall("--purge")
    assert installed.files() == set()
    assert (elsewhere / "etc/mutebridge/mutebridge.yaml").read_text() == "station: here\n"
    assert not (elsewhere / "opt/mutebridge").exists()


def test_a_removal_leaves_nothing(installed: Machine) -> None:
    would = installed.uninstall("--check")
    assert installed.command() == "first"
    assert would.replace("would be", "is") == installed.uninstall()
    assert {path.name for path in installed.root.rglob("*")} == {"etc", "opt"}
    assert "mutebridge is removed: 0 changes" in installed.uninstall()


def test_a_configuration_that_was_written_in_is_kept_unless_purged(installed: Machine) -> None:
    installed.config.write_text("station: here\n")
    said = installed.uninstall()
    assert "--purge" in said
    assert installed.files() == {"etc/mutebridge/mutebridge.yaml"}
    installed.install()
    assert installed.config.read_text() == "station: here\n"
    installed.uninstall()
    installed.uninstall("--purge")
    assert installed.files() == set()


def test_a_removal_that_was_cut_short_goes_on(installed: Machine) -> None:
    manifest = installed.root / "opt/mutebridge/manifest.json"
    kept = manifest.read_bytes()
    assert OLD in json.loads(kept)["files"]
    (installed.root / OLD).unlink()
    shutil.rmtree(installed.root / "opt/mutebridge/versions")
    installed.uninstall()
    assert installed.files() == set()


@pytest.mark.parametrize("content", ["", "[1]", '{"files": ['])
def test_a_damaged_manifest_is_told(installed: Machine, content: str) -> None:
    manifest = installed.root / "opt/mutebridge/manifest.json"
    manifest.write_text(content)
    for command in ("install", "uninstall"):
        said = installed.run(command, "--root", str(installed.root), status=os.EX_UNAVAILABLE)
        assert f"{manifest} is damaged. Remove it" in said
    manifest.unlink()
    installed.install()
    installed.config.unlink()
    installed.uninstall()
    assert installed.files() == set()


def test_another_programs_command_is_left_alone(machine: Machine) -> None:
    other = machine.root / "usr/local/bin/mutebridge"
    other.parent.mkdir(parents=True)
    other.write_text("another's")
    assert "move it away" in machine.install(status=os.EX_UNAVAILABLE)
    assert machine.files() == {"usr/local/bin/mutebridge"}


def with_debians_python(machine: Machine) -> None:
    """Hide what Debian has in a package of its own, as a module that cannot be found does."""
    program = machine.tree / "daemon/__main__.py"
    hidden = "import importlib.util as u; find = u.find_spec; u.find_spec = lambda n: n != 'ensurepip' and find(n)\n"
    program.write_text(hidden + program.read_text())


def test_without_network_from_a_folder_of_wheels(machine: Machine, tmp_path: Path) -> None:
    wheels = tmp_path / "the wheels"
    wheels.mkdir()
    wheel = wheels / "mutebridge-0.1.0-py3-none-any.whl"
    wheel.write_text("an older one of the same name")
    machine.run("wheels", str(wheels), "--python-version", "{}.{}".format(*sys.version_info))
    assert {file.name.partition("-")[0] for file in wheels.iterdir()} == {"mutebridge", "pip"}
    (machine.tree / "backend.py").unlink()  # nothing is built
    with_debians_python(machine)
    machine.install("--wheels", str(wheels), PATH=str(tmp_path))
    assert machine.command() == "first"

    machine.say("second")
    said = machine.install("--wheels", str(wheels), status=os.EX_UNAVAILABLE)
    assert f"python3 daemon wheels {wheels}" in said
    assert machine.command() == "first"
    assert "is no folder of wheels" in machine.install("--wheels", str(machine.root), status=os.EX_UNAVAILABLE)


def test_a_python_that_somebody_can_change_is_a_persons(tmp_path: Path) -> None:
    """The service runs it, and udev does as root."""
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, -1)
    (tmp_path / "python").mkdir()
    assert installation._is_a_persons(tmp_path / "python")
    assert not installation._is_a_persons(Path("/usr"))


def test_only_root_installs_on_the_machine_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit) as ended:
        installation.main(["uninstall", "--purge"])
    assert ended.value.code == os.EX_NOPERM
    assert f"    sudo python3 {SOURCE} uninstall --purge" in capsys.readouterr().err
