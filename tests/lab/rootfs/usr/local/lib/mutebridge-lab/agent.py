"""Does inside the guest what the host asks, one JSON object a line over one port.

    host                                             guest
                                                     {"up": seconds since boot}             once
    {"clock": seconds since 1970}                    {"done": 0}
    {"run": [program, ...], "cwd": dir, "env": {}}   {"out": text} {"report": object} {"alive": seconds} ...
                                                     {"done": status}                       at the end
    {"pytest": [argument, ...], ...}                 the same, by a fork of this process

What a job writes to the file descriptor in MUTEBRIDGE_LAB_REPORTS, one JSON object a line, is passed on as `report`.
`alive` comes every second while a job runs: its absence tells the host that the machine hangs, not the job.

Python is slow to start under emulation, so pytest and the daemon's libraries are imported here, once, before the
machine's memory is saved; a test run is a fork that has them already.
"""

import importlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Request = dict[str, Any]

SITE = "/opt/lab/site"
HEARTBEAT_S = 1.0
PRELOADED = ("hidraw", "serial", "paho.mqtt.client", "msgspec.json", "msgspec.yaml", "yaml", "pyudev")


class Port:
    def __init__(self, path: str) -> None:
        if Path(path).is_socket():
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            self._fd = connection.detach()
        else:
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def say(self, **message: object) -> None:
        unsent = json.dumps(message).encode() + b"\n"
        while unsent:
            unsent = unsent[os.write(self._fd, unsent) :]

    def requests(self) -> Iterator[Request]:
        for line in _lines(self._fd):
            yield json.loads(line)


def _lines(fd: int) -> Iterator[bytes]:
    unfinished = b""
    while True:
        got = os.read(fd, 65536)
        if not got:
            # A virtio port without its host says "end of file"; while a machine is restored that is so for a moment.
            time.sleep(0.05)
        *lines, unfinished = (unfinished + got).split(b"\n")
        yield from lines


def main() -> None:
    sys.path.insert(0, SITE)
    _preload()
    port = Port(sys.argv[1])
    port.say(up=time.clock_gettime(time.CLOCK_BOOTTIME))
    for request in port.requests():
        if "clock" in request:
            time.clock_settime(time.CLOCK_REALTIME, request["clock"])
            port.say(done=0)
        else:
            port.say(done=_carry_out(request, port))


def _preload() -> None:
    pytest_config = importlib.import_module("_pytest.config")
    builtin_plugins = [f"_pytest.{name}" for name in pytest_config.default_plugins]
    for name in ("pytest", *builtin_plugins, *PRELOADED):
        importlib.import_module(name)


def _carry_out(request: Request, port: Port) -> int:
    """Run a job to its end; returns its exit status, or minus the signal that ended it."""
    out, job_out = os.pipe()
    reports, job_reports = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(request, job_out, job_reports)
    os.close(job_out)
    os.close(job_reports)
    try:
        _relay(pid, out, reports, port)
    finally:
        os.close(out)
        os.close(reports)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _become(request: Request, out: int, reports: int) -> None:
    """Turn this fork into the job; never returns."""
    status = 70
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.set_inheritable(reports, True)
        os.chdir(request.get("cwd", "/"))
        os.environ.update({"PYTHONPATH": SITE, "MUTEBRIDGE_LAB_REPORTS": str(reports), **request.get("env", {})})
        if "run" in request:
            os.execvp(request["run"][0], request["run"])
        sys.path.insert(0, request["cwd"])
        status = int(sys.modules["pytest"].main(request["pytest"]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _relay(pid: int, out: int, reports: int, port: Port) -> None:
    """Pass on what the job writes until it has ended; what it started in the background may keep the pipes open."""
    with selectors.DefaultSelector() as waiting:
        ended = os.pidfd_open(pid)
        unfinished = {out: b"", reports: b""}
        for fd in (ended, out, reports):
            waiting.register(fd, selectors.EVENT_READ)
        running = True
        while True:
            ready = {key.fd for key, _ in waiting.select(HEARTBEAT_S if running else 0)}
            if not ready and not running:
                break
            if not ready:
                port.say(alive=time.clock_gettime(time.CLOCK_BOOTTIME))
            if ended in ready:
                running = False
                waiting.unregister(ended)
            for fd in ready & unfinished.keys():
                got = os.read(fd, 65536)
                if not got:
                    waiting.unregister(fd)
                elif fd == out:
                    port.say(out=got.decode(errors="replace"))
                else:
                    *lines, unfinished[reports] = (unfinished[reports] + got).split(b"\n")
                    for line in lines:
                        port.say(report=json.loads(line))
        os.close(ended)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    main()
