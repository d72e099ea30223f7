"""The project's own service in the guest: its unit, its user, its udev rule, laid out as an installation does.

The programs run from the tree instead of from an installed copy.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.guest.units import shown, systemctl
from tests.lab.guest.waiting import wait_until

UNIT = "mutebridge.service"
USER = "mutebridge"
CONFIG = Path("/etc/mutebridge/mutebridge.yaml")
REPOSITORY = Path(__file__).resolve().parents[3]
_ENVIRONMENT = Path("/opt/mutebridge/venv")
_DROP_IN = Path("/run/systemd/system/mutebridge.service.d/lab.conf")


def lay_out() -> None:
    """Put everything in its place, once for a guest; the service does not run yet."""
    _make_environment()
    _copy("mutebridge.service", "/etc/systemd/system/mutebridge.service")
    _copy("mutebridge.sysusers", "/etc/sysusers.d/mutebridge.conf")
    subprocess.run(["systemd-sysusers"], check=True)
    CONFIG.parent.mkdir(exist_ok=True)
    _copy("70-mutebridge.rules", "/etc/udev/rules.d/70-mutebridge.rules")
    if Path("/run/udev/control").exists():
        subprocess.run(["udevadm", "control", "--reload"], check=True)
    systemctl("daemon-reload")


def configure(text: str) -> None:
    """Write the configuration as the installation does: for root to write and the service to read."""
    CONFIG.write_text(text)
    CONFIG.chmod(0o640)
    shutil.chown(CONFIG, "root", USER)


@contextmanager
def changed(drop_in: str) -> Iterator[None]:
    """With these lines in its section [Service]; it is stopped at the end."""
    _DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    _DROP_IN.write_text(f"[Service]\n{drop_in}")
    systemctl("daemon-reload")
    try:
        yield
    except BaseException:
        print(said())
        raise
    finally:
        systemctl("stop", UNIT)
        subprocess.run(["systemctl", "reset-failed", UNIT], stderr=subprocess.DEVNULL, check=False)
        _DROP_IN.unlink()
        systemctl("daemon-reload")


@contextmanager
def running(drop_in: str = "") -> Iterator[None]:
    """The service from its start to its stop."""
    with changed(drop_in):
        systemctl("start", UNIT)
        yield


def main_pid() -> int:
    return int(shown(UNIT, "MainPID"))


def wait_for_restart(restarts: int = 1) -> None:
    wait_until(
        lambda: int(shown(UNIT, "NRestarts")) >= restarts and shown(UNIT, "ActiveState") == "active",
        f"{restarts} restarts",
    )


def said(*options: str) -> str:
    """The service's part of the journal since the guest is up."""
    command = ["journalctl", "--no-pager", "--output=cat", f"--unit={UNIT}", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _make_environment() -> None:
    site = _ENVIRONMENT / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    site.mkdir(parents=True)
    (site / "lab.pth").write_text(f"{REPOSITORY}/daemon\n{os.environ['PYTHONPATH']}\n")
    python = _ENVIRONMENT / "bin/python"
    python.parent.mkdir()
    python.symlink_to(Path(sys.executable).resolve())
    (_ENVIRONMENT / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    command = python.with_name("mutebridge")
    command.write_text(f"#!{python}\nimport sys\nfrom mutebridge.cli import main\nsys.exit(main())\n")
    command.chmod(0o755)
    # As pip does it: the service may write nothing there.
    subprocess.run([python, "-m", "compileall", "-q", REPOSITORY / "daemon/mutebridge"], check=True)


def _copy(name: str, to: str) -> None:
    Path(to).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(REPOSITORY / "systemd" / name, to)
