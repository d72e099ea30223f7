"""A lab in which USB, HID, udev and systemd are real, as single tests of pytest.

    python3 tests --lab     builds what is missing, runs everything here, and nothing else

Three kinds of test files:

    guest_*.py      run inside a virtual machine with a kernel of its own: devices, udev, systemd
    native_*.py     run beside a systemd of their own in namespaces of this kernel: no devices, but the host's speed
    test_*.py       run here, and test the lab

The first two are collected here like any test file, so that `-k`, `::name`, parameters and marks work as ever, and only
their running is handed over: each module gets a fresh guest with a copy of the working tree, the same pytest runs
there, and its reports come back one by one (`plugin`, `runner`). The guest's half of this file sends them
(`guest/reporting`); the conftest of all tests is not read there.

What is slow to make is cached outside the tree (`cache`): a Debian root file system with kernel (`image`), and the
memory of a machine that has booted (`vm`). A prerequisite that is missing skips the tests with the line to type; with
`--ci`, or MUTEBRIDGE_CI=1 in the environment, it fails them.
"""

import os

import pytest
from tests.lab.guest.reporting import Reporting
from tests.lab.plugin import LabPlugin


def pytest_configure(config: pytest.Config) -> None:
    inside = os.environ.get("MUTEBRIDGE_LAB") == "guest"
    config.pluginmanager.register(Reporting(config) if inside else LabPlugin(config), "mutebridge-lab")
