"""The doctor on a machine with a real headset, other programs that hold it, and systemd."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.mosquitto import Mosquitto
from tests.lab.guest.desk import Model
from tests.lab.guest.firmware import Identity
from tests.lab.guest.headset import VirtualHeadset
from tests.lab.guest.uhid import Uhid
from tests.lab.guest.units import installed, shown, systemctl
from tests.lab.guest.waiting import wait_until

from mutebridge import virtual_headset
from mutebridge.virtual_headset import PLAIN

SOURCE = Path(__file__).resolve().parents[2] / "daemon"
PATHS = ":".join(path for path in (str(SOURCE), os.environ.get("PYTHONPATH")) if path)
UNIT = "mutebridge.service"
SERVICE = f"""
[Service]
Type=notify
Environment=PYTHONPATH={PATHS}
ExecStart={sys.executable} -m mutebridge run --config {{config}}
User=nobody
"""
# In this one the kernel's input layer finds the mute key.
DESCRIPTOR = bytes.fromhex("05 0c 09 01 a1 01 05 0b") + virtual_headset.descriptor(PLAIN)[6:]

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def headset() -> Iterator[VirtualHeadset]:
    wire = Uhid(Identity(vendor=0x1209, product=0x0E04, name="Phones", serial="DOC"), DESCRIPTOR)
    with VirtualHeadset(wire, Model(PLAIN)) as plugged:
        yield plugged.plug()


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    for folder in (tmp_path, *tmp_path.parents[:2]):  # for a daemon, or a doctor, that is nobody
        folder.chmod(0o755)
    with Mosquitto(tmp_path) as broker:
        file = tmp_path / "mutebridge.yaml"
        file.write_text(f"station: desk\nbroker: {{host: 127.0.0.1, port: {broker.port}}}\n")
        file.chmod(0o644)
        yield file
        broker.stop()


class Checks:
    """What one run of the doctor said, by check."""

    def __init__(self, config: Path, user: str | None = None) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "mutebridge", "doctor", "--json", "--timeout", "120", "--config", str(config)],
            env={**os.environ, "PYTHONPATH": PATHS},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            user=user,
            group="nogroup" if user else None,
            extra_groups=[] if user else None,
            cwd="/",
        )
        assert done.stderr == ""
        report = json.loads(done.stdout)
        assert done.returncode == {"ok": 0, "warning": 1, "problem": 2}[report["state"]]
        self.checks: list[dict[str, Any]] = report["checks"]

    def said(self, name: str) -> tuple[str, str]:
        """State and finding of a check that comes once."""
        (check,) = [check for check in self.checks if check["name"] == name]
        return check["state"], check["finding"]


def test_root_is_told_which_program_holds_the_headset(headset: VirtualHeadset, config: Path) -> None:
    node = headset.node
    assert Checks(config).said("other_program") == ("ok", "no other program has it open")
    with Path(node).open("r+b", buffering=0) as opened, subprocess.Popen(["sleep", "1000"], stdin=opened) as other:
        opened.close()
        try:
            state, finding = Checks(config).said("other_program")
            seen_by_nobody = Checks(config, user="nobody")
        finally:
            other.kill()
    assert (state, finding.partition(" has it open too")[0]) == ("warning", f"sleep ({other.pid})")
    assert seen_by_nobody.said("other_program") == ("cannot_tell", "other users' programs are seen only by root")
    assert seen_by_nobody.said("device") == ("problem", "the daemon's user nobody may not open it")
    assert seen_by_nobody.said("library")[0] == "ok"


def test_the_service_its_user_and_its_headset(headset: VirtualHeadset, config: Path) -> None:
    node = Path(headset.node)
    assert Checks(config).said("service") == ("not_applicable", "not installed")
    with installed(UNIT, SERVICE.format(config=config)):
        assert Checks(config).said("service") == ("problem", "it does not run")
        systemctl("start", UNIT)
        checks = wait_until(lambda: _online(config), "the bridge is online")
        assert checks is not None
        assert checks.said("service") == ("ok", f"it runs, process {shown(UNIT, 'MainPID')}")
        assert checks.said("files") == ("ok", "the user nobody may read it")
        assert checks.said("device") == ("problem", "the daemon's user nobody may not open it")
        assert checks.said("mute_key")[0] == "ok"  # no desktop runs here
        assert "the user nobody may not read its event node" in checks.said("mute_key")[1]
        assert checks.said("udev_rule")[0] == "warning"

        node.chmod(0o666)
        systemctl("restart", UNIT)
        wait_until(lambda: Checks(config).said("device") == ("ok", "the daemon has it open"), "the headset is open")
        assert Checks(config).said("other_program") == ("ok", "no other program has it open")

        config.chmod(0o600)
        assert Checks(config).said("files") == ("problem", "the daemon's user nobody may not read it")
        systemctl("kill", "--signal=KILL", UNIT)
        wait_until(lambda: shown(UNIT, "ActiveState") == "failed", "the service has failed")
        assert Checks(config).said("service") == ("problem", "it has failed: signal 9 ended it")
        systemctl("reset-failed", UNIT)


def _online(config: Path) -> Checks | None:
    checks = Checks(config)
    return checks if checks.said("bridge") == ("ok", "online") else None
