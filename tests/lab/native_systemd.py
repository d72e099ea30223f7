"""The lab's own proof for services at the host's speed: units live and die under a systemd that is PID 1."""

import json
import os
import signal
import subprocess
from pathlib import Path

from tests.lab.guest.units import installed, journal, shown, systemctl
from tests.lab.guest.waiting import wait_until

UNIT = "proof.service"
SERVICE = """
[Service]
Type=notify
ExecStart=/usr/bin/python3 /repo/tests/lab/guest/service.py
ExecStopPost=/bin/echo after the end: ${SERVICE_RESULT}
DynamicUser=yes
Restart=on-failure
RestartSec=100ms
"""


def test_systemd_is_the_first_process() -> None:
    assert Path("/proc/1/comm").read_text() == "systemd\n"
    assert systemctl("is-system-running") == "running"


def test_a_notifying_service_runs_as_a_dynamic_user() -> None:
    with installed(UNIT, SERVICE):
        systemctl("start", UNIT)
        assert json.loads(shown(UNIT, "StatusText"))["uid"] >= 61184


def test_a_killed_service_cleans_up_and_comes_back() -> None:
    with installed(UNIT, SERVICE):
        systemctl("start", UNIT)
        os.kill(int(shown(UNIT, "MainPID")), signal.SIGKILL)
        wait_until(lambda: shown(UNIT, "NRestarts") == "1" and shown(UNIT, "ActiveState") == "active", "a restart")
        assert "after the end: signal" in journal(UNIT)


def test_a_service_that_does_not_feed_its_watchdog_is_restarted() -> None:
    with installed(UNIT, SERVICE + "WatchdogSec=300ms\n"):
        systemctl("start", UNIT)
        wait_until(lambda: shown(UNIT, "NRestarts") != "0", "a restart")
        assert "after the end: watchdog" in journal(UNIT)


def test_the_kernel_is_the_hosts_and_out_of_reach() -> None:
    """Without this a unit of the guest could set the host's sysctls."""
    assert not os.access("/proc/sys/kernel/pid_max", os.W_OK)
    assert not Path("/dev/vda").exists()


def test_a_broker_listens_on_a_network_of_its_own() -> None:
    systemctl("start", "mosquitto.service")
    subprocess.run(["mosquitto_pub", "-t", "proof", "-m", "heard", "-r"], check=True, timeout=20)
    heard = subprocess.run(
        ["mosquitto_sub", "-t", "proof", "-C", "1"], check=True, timeout=20, capture_output=True, text=True
    )
    assert heard.stdout == "heard\n"
    systemctl("stop", "mosquitto.service")
