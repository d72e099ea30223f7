"""The daemon as a child process, with its log."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.integration.daemon_record import DEADLINE_S, Record

SOURCE = Path(__file__).parents[2] / "daemon"


class Logged(NamedTuple):
    at: float
    text: str


class Daemon:
    """`mutebridge run`, running once made; it is killed on leaving if it has not ended by then."""

    def __init__(self, config: Path, *options: str, environ: dict[str, str] | None = None) -> None:
        self.log: Record[Logged] = Record("the log of the daemon")
        self.started_at = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "mutebridge", "run", "--config", str(config), *options],
            env=os.environ | {"PYTHONPATH": str(SOURCE)} | (environ or {}),
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="daemon log", daemon=True)
        self._reader.start()

    def wait_log(self, text: str, *, since: int = 0, timeout_s: float = DEADLINE_S) -> Logged:
        return self.log.wait(lambda line: text in line.text, since=since, timeout_s=timeout_s)

    def logged(self, text: str) -> int:
        """How many lines hold `text` so far."""
        return sum(text in line.text for line in self.log.all())

    def reload(self) -> None:
        self._process.send_signal(signal.SIGHUP)

    def terminate(self, *, timeout_s: float = DEADLINE_S) -> int:
        """SIGTERM; return the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        self._process.kill()
        self.wait()

    def wait(self, timeout_s: float = DEADLINE_S) -> int:
        """Return the exit code, once it has ended and all that it said was read."""
        code = self._process.wait(timeout_s)
        self._reader.join(DEADLINE_S)
        return code

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        if self.runs:
            self.kill()
        self.wait()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self.log.add(Logged(time.monotonic(), line.rstrip("\n")))
