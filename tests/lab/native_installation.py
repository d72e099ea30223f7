"""Installing and removing on a pristine system, with its users and units at the host's speed; it has no devices."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.lab.guest.machine import CONFIG, REPOSITORY, administer, everything, install
from tests.lab.guest.units import journal, shown, systemctl

UNIT = "mutebridge.service"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    return everything()


@pytest.fixture(scope="module")
def installed(before: dict[str, str]) -> str:  # noqa: ARG001 - to be looked at before anything is
    """What the first installation said. Each test leaves it as it was, but the last."""
    return install()


def pid() -> str:
    return shown(UNIT, "MainPID")


def version() -> str:
    return str(Path("/opt/mutebridge/venv").readlink())


@pytest.fixture
def another_version() -> Iterator[str]:
    """The folder of a tree that has something new in it, whose wheels are made from it."""
    tree = Path("/var/tmp/another tree")
    shutil.copytree(REPOSITORY, tree)
    (tree / "daemon/mutebridge/news.py").write_text('"""What is new."""\n')
    (tree / "systemd/70-mutebridge.rules").unlink()
    unit = tree / "systemd" / UNIT
    unit.write_text(unit.read_text().replace("Description=", "Description=New: "))
    administer("wheels", "wheels", tree=tree, PIP_NO_INDEX="1", PIP_FIND_LINKS="/opt/lab/wheels")
    yield str(tree)
    shutil.rmtree(tree)


def test_it_runs_now_and_after_the_next_boot(installed: str) -> None:
    assert systemctl("is-enabled", UNIT) == "enabled"
    assert systemctl("is-active", UNIT) == "active"
    assert Path(f"/proc/{pid()}").owner() == "mutebridge"
    assert f"changed  {UNIT} running\n" in installed


def test_a_second_run_changes_nothing(installed: str) -> None:
    runs, was = pid(), everything()
    said = install()
    assert said == re.sub(r"\d+ changes", "0 changes", installed).replace("changed  ", "ok       ")
    assert (pid(), everything()) == (runs, was)


@pytest.mark.usefixtures("installed")
def test_an_upgrade_keeps_the_configuration_and_what_was_switched_off(another_version: str) -> None:
    CONFIG.write_text("station: here\n")
    runs, old = pid(), version()
    install(tree=Path(another_version))
    assert version() != old
    assert [path.name for path in Path("/opt/mutebridge/versions").iterdir()] == [Path(version()).name]
    assert shown(UNIT, "Description").startswith("New: ")
    assert not Path("/etc/udev/rules.d/70-mutebridge.rules").exists()
    assert CONFIG.read_text() == "station: here\n"
    assert pid() not in (runs, "0")

    systemctl("disable", "--now", UNIT)
    assert f"ok       {UNIT} is disabled, and left so" in install()
    assert version() == old
    assert (systemctl("is-enabled", UNIT, status=1), pid()) == ("disabled", "0")
    systemctl("enable", "--now", UNIT)


@pytest.mark.usefixtures("installed")
def test_a_service_that_does_not_start_is_told_and_the_next_run_goes_on() -> None:
    CONFIG.write_text("no_such_key: 1\n")
    systemctl("stop", UNIT)
    said = install(status=69)
    assert f"{UNIT} does not start" in said
    assert "no_such_key" in said
    CONFIG.write_text("# better\n")
    assert f"changed  {UNIT} running" in install()
    assert systemctl("is-active", UNIT) == "active"


@pytest.mark.usefixtures("installed")
def test_a_service_that_was_started_too_often_is_started_all_the_same() -> None:
    for _ in range(11):
        subprocess.run(["systemctl", "restart", UNIT], stderr=subprocess.DEVNULL, check=False)
    assert shown(UNIT, "ActiveState") == "failed"
    assert f"changed  {UNIT} running" in install()


@pytest.mark.usefixtures("installed")
def test_a_removal_keeps_what_a_person_wrote() -> None:
    CONFIG.write_text("station: here\n")
    assert f"{CONFIG.parent} is kept" in administer("uninstall")
    assert CONFIG.read_text() == "station: here\n"
    assert "changed  user mutebridge\n" in install()


@pytest.mark.usefixtures("installed")
def test_a_removal_leaves_nothing(before: dict[str, str]) -> None:
    administer("uninstall", "--purge")
    after = everything()
    assert {path: about for path, about in after.items() if before.get(path) != about} == {}
    assert before.keys() == after.keys()
    assert shown(UNIT, "LoadState") == "not-found"
    assert "Traceback" not in journal(UNIT)
    assert "mutebridge is removed: 0 changes" in administer("uninstall")
