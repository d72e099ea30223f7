"""Setting up: a real virtual environment by the real pip, of a small project that needs no network."""

import functools
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

import bootstrap
import debian_packages

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

METADATA = '''Metadata-Version: 2.1
Name: mutebridge
Version: 0.1.0
Provides-Extra: demo
Provides-Extra: test
Provides-Extra: nowhere
Requires-Dist: no-such-project ; extra == 'nowhere'
'''
FILES = {
    "told.py": "import sys\\ndef main(): print('told', *sys.argv[1:])\\n",
    "mutebridge-0.1.0.dist-info/METADATA": METADATA,
    "mutebridge-0.1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "mutebridge-0.1.0.dist-info/entry_points.txt": "[console_scripts]\\nmutebridge = told:main\\n",
}

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "mutebridge-0.1.0-py3-none-any.whl"
    record = "mutebridge-0.1.0.dist-info/RECORD"
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as wheel:
        for path, text in FILES.items():
            wheel.writestr(path, text)
        wheel.writestr(record, "".join(f"{path},,\\n" for path in [*FILES, record]))
    return name

build_wheel = build_editable
"""


def make_project(root: Path) -> Path:
    (root / "daemon").mkdir(parents=True)
    for name in ("__main__.py", "bootstrap.py", "debian_packages.py"):
        shutil.copy(SOURCE / name, root / "daemon")
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "backend.py").write_text(BACKEND)
    return root


def start(root: Path, *args: str, before: tuple[str, ...] = (), **env: str) -> "subprocess.CompletedProcess[str]":
    """What a person types, from another folder."""
    command = [*before, sys.executable, str(root / "daemon"), *args]
    environment = {**os.environ, "PIP_NO_INDEX": "1", **env}
    return subprocess.run(
        command, cwd="/", env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


class Made(NamedTuple):
    root: Path
    said: list[tuple[str, str]]  # standard output, standard error of each of the first starts


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A project that two starts at the same time have set up."""
    root = make_project(tmp_path_factory.mktemp("made") / "a project")
    command = [sys.executable, str(root / "daemon"), "demo", "--what", "with a blank"]
    env = {**os.environ, "PIP_NO_INDEX": "1"}
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, cwd="/", env=env, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    return Made(root, [process.communicate(timeout=DEADLINE_S) for process in both])


class Recorder:
    """Stands for the programs that make an environment: notes what was asked for, leaves what they would."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, command: Sequence[str | Path], **_: str) -> tuple[int, str]:
        words = [str(word) for word in command]
        if "venv" in words:
            self.asked.append("create")
            venv = Path(words[-1])
            shutil.rmtree(venv, ignore_errors=True)
            (venv / "bin").mkdir(parents=True)
            (venv / "bin" / "python").symlink_to(sys.executable)
        elif "install" in words:
            self.asked.append(f"install {Path(words[-1]).name}")
            (Path(words[0]).parent / "mutebridge").write_text("")
            (Path(words[0]).parent / "mutebridge").chmod(0o755)
        else:
            venv = Path(words[0]).parent.parent
            return (0, f"{sys.version_info[:2]} {venv}\n") if (venv / "bin" / "python").exists() else (127, "")
        return 0, ""


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(bootstrap, "run", recorder)
    return recorder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project")


# --- really made -----------------------------------------------------------------------------------------------------


def test_a_first_start_sets_up_then_hands_over(made: Made) -> None:
    assert [out for out, _ in made.said] == ["told demo --what with a blank\n"] * 2, made.said


def test_two_at_the_same_time_wait_for_one_another(made: Made) -> None:
    assert sum("setting up /" in err for _, err in made.said) == 1, made.said


def test_a_second_start_does_nothing(made: Made, recorder: Recorder) -> None:
    assert bootstrap.set_up({"demo"}, made.root) == made.root / ".venv"
    assert recorder.asked == []


def test_changed_settings_are_installed_into_what_is_there(made: Made) -> None:
    kept = made.root / ".venv" / "kept"
    kept.touch()
    (made.root / "pyproject.toml").write_text(f"{PYPROJECT}# changed\n")
    (made.root / "backend.py").write_text(BACKEND.replace("'told'", "'changed'"))
    assert start(made.root, "--version").stdout == "changed --version\n"
    assert kept.exists()
    assert (made.root / ".venv" / "mutebridge-stamp").read_text().endswith("\ndemo")


def test_what_pip_failed_at_is_shown_then_the_next_start_begins_anew(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(bootstrap.SetUpError) as told:
        bootstrap.set_up({"nowhere"}, made.root)
    assert "no-such-project" in str(told.value)
    assert "network" in str(told.value)
    rubbish = made.root / ".venv" / "rubbish"
    rubbish.touch()
    assert start(made.root, "--version").returncode == 0
    assert not rubbish.exists()


def test_a_tree_that_cannot_be_written_uses_the_cache(project: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before: tuple[str, ...] = ()
    if os.geteuid() == 0:  # whom no permission stops
        if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
            pytest.skip("root in a container that may not mount: there is no tree that it cannot write")
        read_only = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
        before = ("unshare", "--mount", "sh", "-ec", read_only, "sh", str(project))
    else:
        project.chmod(0o555)
    done = start(project, "--version", before=before, XDG_CACHE_HOME=str(cache))
    assert done.stdout == "told --version\n", done.stderr
    assert not (project / ".venv").exists()
    assert list(cache.glob("mutebridge/*/venv/mutebridge-stamp"))


# --- decided ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "installed"),
    [
        (["demo"], "install project[demo]"),
        (["run", "--embedded-broker"], "install project[demo]"),
        (["run", "--config", "demo"], "install project"),
        (["controller", "genesys-cloud"], "install project[genesys-cloud]"),
        ([], "install project"),
    ],
)
def test_only_what_needs_the_extra_installs_it(
    project: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, args: list[str], installed: str
) -> None:
    handed_over: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: handed_over.append(command))
    monkeypatch.setattr(bootstrap, "set_up", functools.partial(bootstrap.set_up, root=project))
    runpy.run_path(str(SOURCE / "__main__.py"))["main"](args)
    assert recorder.asked == ["create", installed]
    assert handed_over == [[str(project / ".venv/bin/mutebridge"), *args]]


def test_extras_add_up(project: Path, recorder: Recorder) -> None:
    bootstrap.set_up({"demo"}, project)
    bootstrap.set_up({"test"}, project)
    bootstrap.set_up({"demo", "test"}, project)
    bootstrap.set_up(set(), project)
    assert recorder.asked == ["create", "install project[demo]", "install project[demo,test]"]


def test_an_environment_of_the_persons_own_is_kept(project: Path, recorder: Recorder) -> None:
    recorder(["python", "-m", "venv", project / ".venv"])
    bootstrap.set_up(set(), project)
    assert recorder.asked == ["create", "install project"]


def break_off(venv: Path) -> None:
    (venv / "mutebridge-stamp").write_text("unfinished\n\n")


def lose_python(venv: Path) -> None:
    (venv / "bin" / "python").unlink()
    (venv / "bin" / "python").symlink_to("/nowhere/python")


def lose_everything_but_the_folder(venv: Path) -> None:
    shutil.rmtree(venv)
    venv.mkdir()


def be_of_another_python(venv: Path) -> None:
    stamp = venv / "mutebridge-stamp"
    stamp.write_text(stamp.read_text().replace("python 3.", "python 2."))


@pytest.mark.parametrize("damage", [break_off, lose_python, lose_everything_but_the_folder, be_of_another_python])
def test_a_broken_environment_is_made_anew(project: Path, recorder: Recorder, damage: Callable[[Path], None]) -> None:
    damage(bootstrap.set_up(set(), project))
    bootstrap.set_up(set(), project)
    assert recorder.asked == ["create", "install project"] * 2


def test_a_tree_that_was_moved_gets_one_that_knows_where_it_is(project: Path, recorder: Recorder) -> None:
    bootstrap.set_up(set(), project)
    bootstrap.set_up(set(), project.rename(project.with_name("moved")))
    assert recorder.asked == ["create", "install project", "create", "install moved"]


# --- what is told ----------------------------------------------------------------------------------------------------


def test_an_old_python_is_told(project: Path) -> None:
    code = "import runpy, sys; sys.version_info = (3, 9, 2); runpy.run_path(sys.argv[1], run_name='__main__')"
    for folder in (project / "daemon", SOURCE.parent / "tests"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        assert done.returncode != 0
        assert "3.11 or newer; this is 3.9.2" in done.stderr
        assert "Traceback" not in done.stderr


def test_without_root_the_missing_module_names_the_line_to_type(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "find_spec", lambda name: None if name == "ensurepip" else object())
    monkeypatch.setattr(debian_packages, "may_install", lambda: False)
    with pytest.raises(SystemExit) as ended, bootstrap.errors_for_people():
        bootstrap.set_up(set(), project)
    assert ended.value.code == 69
    package = f"python3.{sys.version_info.minor}-venv"
    assert f"    sudo apt install {package}\n" in capsys.readouterr().err


# --- Debian packages -------------------------------------------------------------------------------------------------

APT_GET = """\
#!/bin/sh
case "$*" in
    *--simulate*) echo 'Inst greeter (1.0 Debian [all])'; echo 'Conf greeter (1.0 Debian [all])' ;;
    download*) test "$(eval echo \\$$#)" = greeter; cp {deb} . ;;
    *) echo "unexpected: $*"; exit 100 ;;
esac
"""


def test_a_package_is_unpacked_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "greeter"
    (tree / "DEBIAN").mkdir(parents=True)
    control = "Package: greeter\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: x\n"
    (tree / "DEBIAN" / "control").write_text(control)
    (tree / "usr" / "sbin").mkdir(parents=True)
    (tree / "usr" / "lib" / "some-linux-gnu").mkdir(parents=True)
    program = tree / "usr" / "sbin" / "greet"
    program.write_text('#!/bin/sh\necho "$$" "$LD_LIBRARY_PATH" "$@"\n')
    program.chmod(0o755)
    deb = tmp_path / "greeter.deb"
    subprocess.run(["dpkg-deb", "--build", str(tree), str(deb)], check=True, capture_output=True)
    fake = tmp_path / "fake" / "apt-get"
    fake.parent.mkdir()
    fake.write_text(APT_GET.format(deb=deb))
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=os.pathsep)

    unpacked = tmp_path / "un packed"
    bin_ = debian_packages.unpack(["greet"], ["greeter"], unpacked)

    with subprocess.Popen([bin_ / "greet", "a b"], stdout=subprocess.PIPE, text=True) as greeting:
        out, _ = greeting.communicate(timeout=DEADLINE_S)
    assert out == f"{greeting.pid} {unpacked}/usr/lib/some-linux-gnu a b\n"
    with pytest.raises(debian_packages.PackageError, match="brought no other"):
        debian_packages.unpack(["other"], ["greeter"], unpacked)
