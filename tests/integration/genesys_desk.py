"""The project's controller for Genesys Cloud, as a child process before the stand-in, with its login on disk."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.integration.daemon_record import DEADLINE_S, Record
from tests.integration.genesys_stand_in import CLIENT_ID, GenesysStandIn

from mutebridge.controller.genesys_cloud.login import Login, write_stored

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "mutebridge", "controller", "genesys-cloud"]


class Desk:
    """`mutebridge controller genesys-cloud` of a user who has logged in, once it is entered."""

    name = "genesys-cloud"

    def __init__(self, directory: Path, genesys: GenesysStandIn, broker_port: int, *options: str) -> None:
        self.genesys = genesys
        self.login_file = directory / "genesys" / "login.json"
        self.log: Record[str] = Record("what the controller logged")
        self._options = [
            *("--api-url", genesys.url, "--login-url", genesys.url, "--client-id", CLIENT_ID),
            *("--login-file", str(self.login_file), "--station", "desk", "--broker", f"mqtt://127.0.0.1:{broker_port}"),
            *options,
        ]
        self.log_in()

    def log_in(self, *, refreshable: bool = True) -> None:
        """Somebody logs in, as far as the file tells."""
        refresh_token = self.genesys.issue_refresh_token() if refreshable else None
        login = Login(
            access_token=self.genesys.issue_token(),
            refresh_token=refresh_token,
            expires_at=time.time() + self.genesys.token_s,
        )
        write_stored(self.login_file, login)

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [*COMMAND, *self._options],
            env={**os.environ, "PYTHONPATH": str(ROOT / "daemon")},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(self, _t: type[BaseException] | None, error: BaseException | None, _tb: TracebackType | None) -> None:
        if error is not None:
            error.add_note("the controller said:\n" + "\n".join(self.log.all()[-40:]))
            error.add_note("the stand-in saw:\n" + "\n".join(map(str, self.genesys.requests.all()[-40:])))
        self.stop()

    def stop(self) -> int:
        """Ask it to end; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join()

    def wait_log(self, text: str, *, since: int = 0) -> str:
        return self.log.wait(lambda line: text in line, since=since)

    # --- the softphone, as the timeline wants it ----------------------------------------------------------------------

    def do(self, step: str) -> None:
        match step:
            case "take_scope":
                self.genesys.take_scope()
            case "give_scope":
                self.genesys.give_scope()
            case _:
                self.genesys.do(step)

    def is_muted(self) -> bool | None:
        return self.genesys.muted

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self.log.add(line.rstrip("\n"))
