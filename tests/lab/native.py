"""A systemd of its own as PID 1 of some namespaces: no devices and no kernel of its own, but the host's speed.

It starts in half a second from the same root file system as the virtual machine, under an overlay that is thrown away.
Its memory limits do not hold; everything else of a unit file does. Only root can make it.
"""

import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.lab import image, installable, prerequisites, tree
from tests.lab.channel import Agent, GuestHungError
from tests.lab.image import Say
from tests.lab.prerequisites import PrerequisiteError, tool

UP_S = 30.0
_NAMESPACES = ("--pid", "--fork", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--kill-child")


def starter(say: Say) -> Callable[[bool], "Container"]:
    """What starts containers, with all built that they need; raises `PrerequisiteError`."""
    if os.geteuid() != 0:
        raise PrerequisiteError(
            "namespaces with a systemd of their own are made by root only: type: sudo pytest tests/lab"
        )
    prerequisites.require(to_build=not image.is_built(), say=say)
    root = image.root(say)
    wheels = installable.wheels(say)
    return lambda _again: Container(root, wheels)


class Container:
    """A running systemd with the tree at /repo; whoever made it closes it."""

    def __init__(self, root: Path, wheels: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mutebridge-lab-"))
        tree.pack(self._folder / "tree.tar", wheels)
        self._cgroup = _new_cgroup()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self._folder / "socket"))
            listener.listen()
            self._unshare = self._enter(root)
            try:
                self.agent = self._await(listener)
            except GuestHungError as hung:
                hung.add_note(self.last_words())
                self.close()
                raise

    def _enter(self, root: Path) -> "subprocess.Popen[bytes]":
        # The shell is in the cgroup before the namespace is made, which takes that for its root.
        join = ("/bin/sh", "-euc", 'echo $$ >"$0/cgroup.procs"; exec "$@"', str(self._cgroup))
        init = (sys.executable, str(tree.LAB / "container_init.py"), str(root), str(self._folder))
        command = [*join, tool("setpriv"), "--pdeathsig", "KILL", "--", tool("unshare"), *_NAMESPACES, "--", *init]
        with (self._folder / "log").open("wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    def _await(self, listener: socket.socket) -> Agent:
        deadline = time.monotonic() + UP_S
        ended = os.pidfd_open(self._unshare.pid)
        ready, _, _ = select.select([listener.fileno(), ended], [], [], UP_S)
        os.close(ended)
        if listener.fileno() not in ready:
            raise GuestHungError("systemd ended at once" if ready else f"systemd started no agent within {UP_S:g} s")
        agent = Agent(listener.accept()[0])
        agent.wait_until_up(deadline)
        return agent

    def last_words(self) -> str:
        """The end of what PID 1 wrote, for a container that failed."""
        return "\n".join((self._folder / "log").read_text(errors="replace").splitlines()[-30:])

    def close(self) -> None:
        self._unshare.kill()
        self._unshare.wait()
        if hasattr(self, "agent"):
            self.agent.close()
        _remove_cgroup(self._cgroup)
        shutil.rmtree(self._folder)


def _new_cgroup() -> Path:
    """A group of its own for the container, whose processes then all are in it."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    hierarchy = next((fields[1] for fields in mounts if fields[2] == "cgroup2"), None)
    if hierarchy is None:
        raise PrerequisiteError("this host has no cgroup2 hierarchy mounted")
    return Path(tempfile.mkdtemp(prefix="mutebridge-lab-", dir=hierarchy))


def _remove_cgroup(group: Path) -> None:
    """Remove a group whose processes are dying; the kernel says when the last is gone."""
    with (group / "cgroup.events").open() as events:
        changed = select.poll()
        changed.register(events, select.POLLPRI)
        while "populated 1" in events.read() and changed.poll(UP_S * 1000):
            events.seek(0)
    for folder, _, _ in os.walk(group, topdown=False):
        Path(folder).rmdir()
