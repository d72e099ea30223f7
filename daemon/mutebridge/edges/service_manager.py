"""Tells the service manager (systemd) how the daemon is doing.

The protocol is sd_notify(3): datagrams of `NAME=value` lines to the AF_UNIX socket that `$NOTIFY_SOCKET` names, a path
or, with a leading `@`, an abstract name. Without that variable every call does nothing, so the daemon runs the same
from a terminal.

Nothing here can hold the daemon up: a status or a sign of life that the socket has no room for is dropped, since the
next one says more; the few messages that change the state of the unit wait at most `_PATIENCE_S`.
"""

import logging
import os
import socket
import struct
import time
from collections.abc import Mapping, MutableMapping

_LOG = logging.getLogger(__name__)

_PATIENCE_S = 1
_MAX_STATUS_CHARACTERS = 200
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class ServiceNotifier:
    """One datagram socket to the service manager; every method may be called from any thread.

    `watchdog_interval_s` is how often a sign of life is due: half of what the unit asks for, as sd_watchdog_enabled(3)
    recommends; None when nobody watches.
    """

    def __init__(self, address: str | None, watchdog_interval_s: float | None = None) -> None:
        self.watchdog_interval_s = watchdog_interval_s
        self._address = address
        self._trouble_told = False
        self._fed_at = float("-inf")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        if self._socket is not None:
            # The kernel's own timeout: Python's would wait even where MSG_DONTWAIT asks it not to.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _PATIENCE_S, 0))

    @classmethod
    def from_environment(
        cls, environ: MutableMapping[str, str] = os.environ, pid: int | None = None
    ) -> "ServiceNotifier":
        """Read what the service manager asked for and remove it, so that no child speaks in the daemon's name."""
        notifier = cls(notify_address(environ), watchdog_interval_s(environ, os.getpid() if pid is None else pid))
        for name in _VARIABLES:
            environ.pop(name, None)
        return notifier

    def ready(self, status: str = "") -> None:
        """Started, or done with a reload."""
        self._send(["READY=1", *_status(status)])

    def reloading(self) -> None:
        """A reload began; `ready` ends it. The time stamp is what `Type=notify-reload` tells old from new by."""
        self._send(["RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"])

    def stopping(self, status: str = "") -> None:
        self._send(["STOPPING=1", *_status(status)])

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(_status(text), may_wait=False)

    def feed_watchdog(self) -> None:
        """Give a sign of life, if one is due."""
        if self.watchdog_in_s() == 0:
            self._fed_at = time.monotonic()
            self._send(["WATCHDOG=1"], may_wait=False)

    def watchdog_in_s(self) -> float | None:
        """How long until the next sign of life is due; None when nobody watches."""
        if self.watchdog_interval_s is None:
            return None
        return max(0.0, self._fed_at + self.watchdog_interval_s - time.monotonic())

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _send(self, lines: list[str], *, may_wait: bool = True) -> None:
        sender, address = self._socket, self._address
        if sender is None or address is None or not lines:
            return
        target = "\0" + address[1:] if address.startswith("@") else address
        try:
            # Addressed anew each time: the service manager may have made its socket again meanwhile.
            sender.sendto("\n".join(lines).encode(), 0 if may_wait else socket.MSG_DONTWAIT, target)
            self._trouble_told = False
        except OSError as error:
            self._tell_once(f"cannot notify the service manager at {address!r}: {error.strerror or error}")

    def _tell_once(self, trouble: str) -> None:
        if not self._trouble_told:
            self._trouble_told = True
            _LOG.warning("%s", trouble)


def notify_address(environ: Mapping[str, str]) -> str | None:
    """The socket that `$NOTIFY_SOCKET` names; None when there is none or it is of a kind that is not spoken here."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return None
    if address[0] not in "/@" or len(address) < 2:
        _LOG.warning(
            "NOTIFY_SOCKET=%r is neither a path nor an abstract name; the service manager is told nothing", address
        )
        return None
    return address


def watchdog_interval_s(environ: Mapping[str, str], pid: int) -> float | None:
    """How often the service manager wants a sign of life from this process; None: not at all."""
    asked, of_pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not asked or (of_pid and of_pid != str(pid)):
        return None
    if not (asked.isascii() and asked.isdigit() and int(asked) > 0):
        _LOG.warning("WATCHDOG_USEC=%r is not a whole number of microseconds; no watchdog", asked)
        return None
    return int(asked) / 2 / 1e6


def _status(text: str) -> list[str]:
    # A line break would start another assignment.
    line = " ".join(text.split())[:_MAX_STATUS_CHARACTERS]
    return [f"STATUS={line}"] if line else []
