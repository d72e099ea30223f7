"""A private mosquitto on a free loopback port, to be stopped, killed, frozen and started again."""

import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

EXECUTABLE = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")

OPEN = "allow_anonymous true"
DEADLINE_S = 10.0


def free_port() -> int:
    """Return a TCP port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Mosquitto:
    """One broker, running once made (also as a context manager); `port` stays the same over restarts.

    `conf` is more lines of mosquitto.conf; those in `listener` follow the `listener` line, which matters for TLS.
    """

    def __init__(self, directory: Path, conf: str = OPEN, *, listener: str = "", nodelay: bool = True) -> None:
        self.port = free_port()
        self.log: list[str] = []
        self._grown = threading.Condition()
        self._conf = directory / f"mosquitto-{self.port}.conf"
        lines = [
            "user root",  # read our files where the tests run as root; without effect elsewhere
            f"set_tcp_nodelay {str(nodelay).lower()}",
            conf,
            f"listener {self.port} 127.0.0.1",
            listener,
        ]
        self._conf.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self.start()

    def start(self) -> None:
        """Start and wait until it listens; the log goes on."""
        assert EXECUTABLE is not None
        seen = len(self.log)
        command = [EXECUTABLE, "-c", str(self._conf), "-v"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        self.wait_for_log(r"mosquitto version \S+ running", since=seen)

    def stop(self) -> None:
        """End in order (SIGTERM)."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End without a word (SIGKILL); the kernel closes the connections."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: the kernel goes on accepting and acknowledging, nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def reload(self) -> None:
        """Read the password file again (SIGHUP)."""
        self._signal(signal.SIGHUP)

    def wait_for_log(self, pattern: str, *, since: int = 0, timeout_s: float = DEADLINE_S) -> str:
        """Return the first line from number `since` on in which `pattern` is found."""
        deadline = time.monotonic() + timeout_s
        with self._grown:
            while True:
                for line in self.log[since:]:
                    if re.search(pattern, line):
                        return line
                if not self._grown.wait(max(0.0, deadline - time.monotonic())):
                    raise AssertionError(f"mosquitto did not log {pattern!r}; it did:\n" + "\n".join(self.log[since:]))

    def __enter__(self) -> "Mosquitto":
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self.kill()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                with self._grown:
                    self.log.append(line.rstrip("\n"))
                    self._grown.notify_all()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._reader is not None:
            self._reader.join()
        self._process = None


def write_passwords(path: Path, passwords: Mapping[str, str]) -> None:
    """Write a password file for mosquitto's `password_file`."""
    path.write_text("".join(f"{user}:{password}\n" for user, password in passwords.items()))
    tool = shutil.which("mosquitto_passwd")
    assert tool is not None
    subprocess.run([tool, "-U", str(path)], check=True, capture_output=True)
