"""Tells when another program writes to a device node that this one has open.

The kernel shows the writes of one program to no other, but inotify says that there was one. It says so of this
program's own too, so the watch is deaf while this one writes. A write of another program in that very time is missed.
"""

import contextlib
import ctypes
import os
import struct

# From <sys/inotify.h>.
_IN_MODIFY, _IN_MOVE_SELF = 0x002, 0x800  # no device node is ever moved
_EVENT = struct.Struct("iIII")
_READ_BYTES = 4096


class NodeWatch:
    """A watch on an open file; `fd` is to be waited for, -1 where there is no inotify. It begins deaf. Thread-safe."""

    def __init__(self, opened: int) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = f"/proc/self/fd/{opened}".encode()
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)

    def listen(self) -> None:
        self._watch(_IN_MODIFY)

    def deafen(self) -> None:
        self._watch(_IN_MOVE_SELF)

    def heard(self) -> bool:
        """Return whether another program has written."""
        masks = []
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.fd, _READ_BYTES):
                masks += [mask for _, mask, _, _ in _EVENT.iter_unpack(data)]  # of a file: no names
        return any(mask & _IN_MODIFY for mask in masks)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _watch(self, mask: int) -> None:
        # Without inotify, and without the file, nothing is heard, which is all that can be done about it.
        if self.fd >= 0:
            self._libc.inotify_add_watch(self.fd, self._file, mask)
