"""A mosquitto of the bench's own, on loopback, on a free port, with Nagle off."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

HOST = "127.0.0.1"
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 10.0


class BenchError(Exception):
    """Something that the bench needs is missing or does not work; the message says what."""


@contextlib.contextmanager
def private_broker(folder: Path) -> Iterator[int]:
    """Run mosquitto with its files in `folder`; gives the port."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise BenchError("mosquitto is not installed (Debian package mosquitto)")
    port = _free_port()
    settings = folder / "mosquitto.conf"
    settings.write_text(
        f"listener {port} {HOST}\nallow_anonymous true\nset_tcp_nodelay true\npersistence false\nlog_type error\n"
    )
    log = folder / "mosquitto.log"
    with log.open("w") as log_file:
        process = subprocess.Popen([program, "-c", str(settings)], stdout=log_file, stderr=log_file)
    try:
        _wait_until_it_listens(process, port, log)
        yield port
    finally:
        process.terminate()
        process.wait(_STOP_TIMEOUT_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((HOST, port), 1):
            return
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
        break
    raise BenchError(f"mosquitto does not listen on port {port}: {log.read_text().strip()}")
