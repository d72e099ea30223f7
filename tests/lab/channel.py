"""Speaks with the guest's agent, JSON objects a line over one socket, every wait with a deadline.

The messages are described where they are carried out: rootfs/usr/local/lib/mutebridge-lab/agent.py.
"""

import json
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

Message = dict[str, Any]

# The agent speaks every second while a job runs, however busy the job is.
SILENCE_S = 30.0


class GuestHungError(Exception):
    """The machine does not answer, or is gone: nothing is known about what it was doing."""


class Lines:
    """JSON objects, one a line, over a stream socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._unread: list[bytes] = []
        self._unfinished = b""

    def send(self, message: Message) -> None:
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise GuestHungError(f"the machine took no request: {error}") from error

    def receive(self, deadline: float) -> Message:
        """The next message; raises `GuestHungError` when there is none before `deadline` (of `time.monotonic`)."""
        while not self._unread:
            wait_s = deadline - time.monotonic()
            if wait_s < 0 or not select.select([self._socket], [], [], wait_s)[0]:
                raise GuestHungError("the machine said nothing in time")
            try:
                got = self._socket.recv(1 << 20)
            except OSError as error:
                raise GuestHungError(f"the machine is gone: {error}") from error
            if not got:
                raise GuestHungError("the machine is gone")
            *self._unread, self._unfinished = (self._unfinished + got).split(b"\n")
        message = json.loads(self._unread.pop(0))
        assert isinstance(message, dict)
        return message

    def close(self) -> None:
        self._socket.close()


class Agent:
    """The guest's agent as the host sees it."""

    def __init__(self, connection: socket.socket, silence_s: float = SILENCE_S) -> None:
        self._lines = Lines(connection)
        self.silence_s = silence_s

    def wait_until_up(self, deadline: float) -> float:
        """Wait for a booting guest; returns the seconds that it took inside."""
        return float(self._lines.receive(deadline)["up"])

    def set_clock(self, deadline: float) -> None:
        """Give the guest the host's date; a restored one lives in the past."""
        self._lines.send({"clock": time.time()})
        self._lines.receive(deadline)

    def run(self, job: Message) -> Iterator[Message]:
        """Run a job; yields `out`, `report`, `alive` and at last `done` messages as they come."""
        self._lines.send(job)
        while True:
            message = self._lines.receive(time.monotonic() + self.silence_s)
            yield message
            if "done" in message:
                return

    def shell(self, script: str, timeout_s: float = 60) -> tuple[int, str]:
        """Run a script; returns its status and all that it wrote."""
        overdue = time.monotonic() + timeout_s
        written = ""
        for message in self.run({"run": ["/bin/sh", "-c", script]}):
            written += message.get("out", "")
            if "done" in message:
                return int(message["done"]), written
            if time.monotonic() > overdue:
                break
        raise GuestHungError(f"{script!r} took longer than {timeout_s:g} s: {written}")

    def close(self) -> None:
        self._lines.close()
