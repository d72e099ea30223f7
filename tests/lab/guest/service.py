"""A stand-in for a daemon: tells systemd that it is ready, and in its status which of some nodes it could open.

    service.py NODE...

It never feeds a watchdog. Run as a program by the units of the lab's own tests.
"""

import json
import os
import signal
import socket
import sys


def main() -> None:
    found = {"uid": os.getuid(), **{node: _open(node) for node in sys.argv[1:]}}
    _notify(f"READY=1\nSTATUS={json.dumps(found)}")
    while True:
        signal.pause()


def _open(node: str) -> str:
    try:
        os.close(os.open(node, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "open"


def _notify(state: str) -> None:
    """Speak to the service manager as sd_notify(3) says; an `@` stands for an abstract name's zero byte."""
    address = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


if __name__ == "__main__":
    main()
