"""The command line as a person or a program meets it: the real program, its output, its exit status."""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import mutebridge
from mutebridge import attachments, cli

needs_app = pytest.mark.skipif(find_spec("mutebridge.app") is None, reason="needs the daemon itself")

SOURCE = Path(mutebridge.__file__).parents[1]
DEADLINE_S = 60


def environment(**more: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MUTEBRIDGE_", "JOURNAL_", "COLUMNS", "PYTHON"))}
    return {**clean, "PYTHONPATH": str(SOURCE), **more}


def mutebridge_(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mutebridge", *map(str, arguments)],
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


# --- help and usage


@pytest.mark.parametrize("option", ["--help", "-h", "help"])
def test_the_help_teaches_the_first_steps(option: str) -> None:
    done = mutebridge_(option)
    assert (done.returncode, done.stderr) == (os.EX_OK, "")
    assert done.stdout.startswith("usage: mutebridge COMMAND")
    for command in ("run", "check", "devices", "doctor", "record", "simulate", "demo"):
        assert f"\n  {command} " in done.stdout
    assert "first steps:\n  mutebridge demo " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("command", ["run", "check", "devices", "doctor", "record"])
def test_each_command_explains_itself_with_an_example(command: str) -> None:
    done = mutebridge_(command, "--help")
    assert (done.returncode, done.stderr) == (os.EX_OK, "")
    assert done.stdout.startswith(f"usage: mutebridge {command}")
    assert f"\n  mutebridge {command}" in done.stdout


def test_the_version() -> None:
    done = mutebridge_("--version")
    assert (done.returncode, done.stdout) == (os.EX_OK, f"mutebridge {mutebridge.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage: mutebridge COMMAND"),
        (["rnu"], "mutebridge: unknown command 'rnu': did you mean 'run'? Commands: run, check, "),
        (["frobnicate"], "mutebridge: unknown command 'frobnicate'. Commands: run, check, "),
        (["--config", "x", "run"], "mutebridge: '--config' in front of the command; a command's options stand after"),
        (["check", "--jsn"], "mutebridge check: unknown argument '--jsn': did you mean '--json'?"),
        (["check", "--js"], "mutebridge check: unknown argument '--js'"),
        (["check", "file.yaml"], "mutebridge check: unknown argument 'file.yaml'."),
        (["check", "--config"], "mutebridge check: argument --config: expected one argument"),
        (["run", "--log-level", "loud"], "mutebridge run: argument --log-level: invalid choice: 'loud'"),
    ],
)
def test_wrong_usage_says_what_is_right(arguments: list[str], said: str) -> None:
    done = mutebridge_(*arguments)
    assert (done.returncode, done.stdout) == (os.EX_USAGE, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["rnu"], ["check", "--help"], ["run", "--help"]])
def test_help_loads_no_library(arguments: list[str]) -> None:
    script = (
        "import sys; from mutebridge.cli import main; main(sys.argv[1:]);"
        "print(sorted({'msgspec', 'yaml', 'paho', 'serial', 'rich', 'asyncio', 'logging'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    assert done.stdout.endswith("[]\n")


# --- check


def test_check_prints_the_whole_configuration(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("station: desk\nbroker: {username: u, password: tell-nobody}\n")
    done = mutebridge_("check", "--config", file)
    assert (done.returncode, done.stderr) == (os.EX_OK, "")
    assert done.stdout.startswith(f"# {file} is well; in full:\nstation: desk\nprefix: mutebridge/v1\n")
    assert "keepalive_s: 10" in done.stdout
    assert "tell-nobody" not in done.stdout


def test_what_check_prints_can_be_checked(tmp_path: Path) -> None:
    first = tmp_path / "first.yaml"
    first.write_text(mutebridge_("check").stdout)
    as_yaml = mutebridge_("check", "--config", first)
    first.write_text(mutebridge_("check", "--json").stdout)
    as_json = mutebridge_("check", "--config", first)
    assert as_yaml.returncode == as_json.returncode == os.EX_OK
    assert as_yaml.stdout == as_json.stdout


def test_check_tells_all_that_is_wrong_one_line_each(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("brokr: {}\nlog_level: loud\n")
    done = mutebridge_("check", "--config", file)
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, "")
    first, second = done.stderr.splitlines()
    assert first.startswith(f"{file}:1:1: brokr: unknown key 'brokr': did you mean 'broker'?")
    assert second.startswith(f"{file}:2:12: log_level: unknown value 'loud'. Known: error, ")


def test_check_tells_a_program_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("brokr: {}\n")
    done = mutebridge_("check", "--json", MUTEBRIDGE_CONFIG=str(file))
    assert done.returncode == os.EX_CONFIG
    (problem,) = json.loads(done.stdout)["problems"]
    assert (problem["file"], problem["line"], problem["column"], problem["key"]) == (str(file), 1, 1, "brokr")


@pytest.mark.parametrize("command", ["check", "devices", pytest.param("run", marks=needs_app)])
def test_a_file_that_is_not_there_is_no_input(command: str, tmp_path: Path) -> None:
    file = tmp_path / "missing.yaml"
    done = mutebridge_(command, "--config", file)
    assert done.returncode == os.EX_NOINPUT
    assert f"{file}: cannot be read: No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["check", "devices", pytest.param("run", marks=needs_app)])
def test_a_wrong_configuration_stops_every_command(command: str, tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("brokr: {}\n")
    done = mutebridge_(command, "--config", file)
    assert done.returncode == os.EX_CONFIG
    assert f"{file}:1:1: brokr: unknown key" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_may_not_be_read_is_no_permission(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.touch(mode=0)
    # Root may read everything, so it becomes nobody, once all is imported that nobody might not be allowed to read.
    script = (
        "import os, sys; from mutebridge import cli; cli.main(['check', '--config', '/nowhere']);"
        "os.geteuid() or os.setuid(65534); sys.exit(cli.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "check", "--config", str(file)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == os.EX_NOPERM
    assert "cannot be read: Permission denied" in done.stderr


@needs_app
def test_in_the_journal_an_error_carries_its_priority(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("brokr: {}\n")
    log = tmp_path / "log"
    with log.open("w") as stream:
        status = os.fstat(stream.fileno())
        subprocess.run(
            [sys.executable, "-m", "mutebridge", "run", "--config", str(file)],
            env=environment(JOURNAL_STREAM=f"{status.st_dev}:{status.st_ino}"),
            stderr=stream,
            timeout=DEADLINE_S,
            check=False,
        )
    assert log.read_text().startswith(f"<3>{file}:1:1: brokr: unknown key")


# --- devices


def test_devices_lists_what_is_configured_and_why_it_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(f"devices:\n- {{id: desk, name: the desk, port: {tmp_path}/tty, profile: lines}}\n")
    done = mutebridge_("devices", "--config", file)
    assert (done.returncode, done.stderr) == (os.EX_OK, "")
    assert "desk: absent\n  why:       not plugged in\n" in done.stdout
    machine = mutebridge_("devices", "--config", file, "--json")
    desk = next(d for d in json.loads(machine.stdout)["devices"] if d["device_id"] == "desk")
    assert (desk["state"], desk["problem"]) == ("absent", "not plugged in")


def test_without_any_device_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(attachments, "SUBSYSTEMS", ())
    assert cli.main(["devices"]) == os.EX_OK
    assert "mutebridge demo" in capsys.readouterr().out


# --- how it ends


def test_a_reader_who_goes_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "mutebridge", "--help"],
            env=environment(),
            stdout=gone,
            stderr=subprocess.PIPE,
            timeout=DEADLINE_S,
            check=False,
        )
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_a_full_disk_is_told() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mutebridge", "check"],
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=DEADLINE_S,
            check=False,
        )
    assert done.returncode == os.EX_IOERR
    assert done.stderr == b"mutebridge: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("descriptor", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_closed_descriptors_are_no_crash(descriptor: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$0" -m mutebridge check --config /nowhere {descriptor}', sys.executable],
        env=environment(),
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == os.EX_NOINPUT
    assert b"Traceback" not in done.stderr


def test_ctrl_c_ends_it_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli._COMMANDS, "check", cli._COMMANDS["check"]._replace(carry_out=interrupted))
    assert cli.main(["check"]) == 128 + signal.SIGINT
    assert capsys.readouterr().err == ""


def test_a_bug_shows_where_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: object) -> int:
        raise RuntimeError("a bug")

    monkeypatch.setitem(cli._COMMANDS, "check", cli._COMMANDS["check"]._replace(carry_out=broken))
    assert cli.main(["check"]) == os.EX_SOFTWARE
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "status", "said"),
    [
        (
            "rich.live",
            os.EX_UNAVAILABLE,
            "mutebridge demo: needs 'rich.live', which the service does without: pip install",
        ),
        ("amqtt", os.EX_UNAVAILABLE, "mutebridge demo: needs 'amqtt', which the service does without: pip install"),
        ("mutebridge.lost", os.EX_SOFTWARE, "ModuleNotFoundError"),
    ],
)
def test_a_library_of_the_extra_that_is_missing_is_named(
    missing: str, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def imports(_: object) -> int:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setitem(cli._COMMANDS, "demo", cli._Command("a demo", lambda _: None, imports, ""))
    assert cli.main(["demo"]) == status
    assert said in capsys.readouterr().err
