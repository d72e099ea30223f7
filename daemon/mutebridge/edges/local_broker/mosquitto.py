"""mosquitto as a child process, which ends with this one."""

import contextlib
import os
import pwd
import queue
import shutil
import socket
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from mutebridge.edges.local_broker.child_process import dying_with_parent
from mutebridge.edges.local_broker.listening import LOOPBACK, Listening, LocalBroker, LocalBrokerError, probe

_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_FREE_PORT_TRIES = 5


def find() -> str | None:
    """Return the path of the mosquitto program; Debian keeps it where only an administrator's PATH leads."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def child(program: str) -> Iterator[LocalBroker]:
    """Yield the broker that `program` is, on a free port of loopback, for anonymous clients."""
    with tempfile.TemporaryDirectory(prefix="mutebridge-broker-") as folder:
        child = _start_on_free_port(program, Path(folder))
        try:
            yield LocalBroker(what="mosquitto, started for this run", host=LOOPBACK, port=child.port)
        finally:
            child.stop()


def _start_on_free_port(program: str, folder: Path) -> "_MosquittoChild":
    for _ in range(_FREE_PORT_TRIES):
        child = _MosquittoChild(program, folder, _free_port())
        if child.is_ready():
            return child
        child.stop()
        if "in use" not in child.said():  # else another process took the port first
            break
    raise LocalBrokerError(f"{program} did not start; it said:\n{child.said()}")


class _MosquittoChild:
    """The process. It ends with this one, however this one ends."""

    def __init__(self, program: str, folder: Path, port: int) -> None:
        self.port = port
        self._said: deque[str] = deque(maxlen=50)
        self._ready: queue.SimpleQueue[bool] = queue.SimpleQueue()
        config = folder / "mosquitto.conf"
        config.write_text(_mosquitto_config(port))
        self._process = subprocess.Popen(  # noqa: S603 - found on PATH
            dying_with_parent([program, "-c", str(config)]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._listener = threading.Thread(target=self._listen, name="mosquitto's log", daemon=True)
        self._listener.start()

    def is_ready(self) -> bool:
        """Wait until it serves; False when it ended instead, or said nothing for long.

        It says that it runs just before it does, while a SIGTERM would still be lost: only an answer proves it.
        """
        try:
            runs = self._ready.get(timeout=_START_TIMEOUT_S)
        except queue.Empty:
            return False
        return runs and probe(LOOPBACK, self.port, _START_TIMEOUT_S) is Listening.OPEN_BROKER

    def said(self) -> str:
        return "".join(self._said)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._said.append(line)
                if line.rstrip().endswith(" running"):
                    self._ready.put(True)
        self._ready.put(False)


def _mosquitto_config(port: int) -> str:
    # It keeps the user it was started as: giving up root would also undo `dying_with_parent`, and it serves nobody but
    # this machine.
    user = pwd.getpwuid(os.geteuid()).pw_name
    return f"""\
per_listener_settings true
user {user}
persistence false
sys_interval 0
set_tcp_nodelay true
connection_messages false
log_dest stderr
log_timestamp false
log_type error
log_type warning
log_type notice
log_type information
listener {port} {LOOPBACK}
allow_anonymous true
"""


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        port: int = taken.getsockname()[1]
        return port
