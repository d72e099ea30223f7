"""Tells the host of each test report, from the pytest that runs inside the guest."""

import json
import os

import pytest


class Reporting:
    """Writes the reports to the descriptor that the guest's agent made for them."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._fd = int(os.environ["MUTEBRIDGE_LAB_REPORTS"])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        unsent = json.dumps(data).encode() + b"\n"
        while unsent:
            unsent = unsent[os.write(self._fd, unsent) :]
