"""A moment to wait for beside file descriptors that goes on to come while the workstation sleeps.

The timeouts of select(2) and poll(2) stand still meanwhile: a light that should have gone dark would stay on for the
rest of its time once the lid is opened. A timerfd on CLOCK_BOOTTIME is due at once then (timerfd_create(2)).
"""

import ctypes
import math
import os
import time

_CLOEXEC, _NONBLOCK, _ABSTIME = os.O_CLOEXEC, os.O_NONBLOCK, 1
_NS_PER_S = 1_000_000_000


class _Timespec(ctypes.Structure):
    _fields_ = (("s", ctypes.c_long), ("ns", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class Alarm:
    """Readable from the moment it is set to, until it is set anew."""

    def __init__(self) -> None:
        """OSError when there are no more file descriptors."""
        # Python has no name for it before 3.13.
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = _checked(self._libc.timerfd_create(time.CLOCK_BOOTTIME, _CLOEXEC | _NONBLOCK))

    def fileno(self) -> int:
        return self._fd

    def set(self, at_s: float | None) -> None:
        """Set it to a moment of CLOCK_BOOTTIME, which may be past; None: to no moment."""
        # Zero would be none, too early would only be waited for again.
        ns = 0 if at_s is None else max(1, math.ceil(at_s * _NS_PER_S))
        wanted = _Itimerspec(value=_Timespec(*divmod(ns, _NS_PER_S)))
        _checked(self._libc.timerfd_settime(self._fd, _ABSTIME, ctypes.byref(wanted), None))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
