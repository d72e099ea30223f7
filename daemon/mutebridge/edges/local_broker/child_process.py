"""How a child process is started that must not outlive this one."""

import shutil
from collections.abc import Sequence


def dying_with_parent(command: Sequence[str]) -> list[str]:
    """Return the command with which the kernel ends the child, by SIGTERM, when the thread that starts it ends.

    So it ends with this process, SIGKILL included. Through a program of util-linux: a function between fork and exec is
    not safe in a process with threads. The child must not change its user, which would undo it.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--", *command] if setpriv else list(command)
