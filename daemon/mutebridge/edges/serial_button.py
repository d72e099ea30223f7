"""One serial button: a port that is opened, listened to, and told what to show.

The button's thread (`attached_device`) opens the port, which may block, waits until the board has booted, and reads.
`show` writes from the thread that calls it, because the light's latency is what a person sees; what the port does not
take at once is finished by the button's thread, the newest light last and nothing in between. So a port that takes
nothing delays nobody.

Modem lines: a second thread sleeps in TIOCMIWAIT where the driver has it. Nothing but a change of the lines or an
unplug wakes that call, so at `stop` this thread is left behind, a daemon thread holding a duplicate of the descriptor,
until the next change or the end of the process; the lock on the port is given up all the same. Drivers without it are
looked at every 50 ms. Lamps on modem lines are switched by the button's thread: on USB that is a transfer that blocks.
"""

import contextlib
import errno
import fcntl
import logging
import os
import select
import stat
import struct
import termios
import threading
from collections.abc import Callable

import serial

from mutebridge.attached_device import AttachedDevice, Bell, DeviceError, PressLimit, group_of, remedy_by_group
from mutebridge.core.button_protocol import ButtonDecoder, SerialProtocol
from mutebridge.core.events import Device, Event
from mutebridge.core.lights import DARK, Lights
from mutebridge.real_path import real_path

READ_BYTES = 4096  # as much as a tty holds for a reader
# A port with so much to say is flooding, and is read no faster than this. Twenty reads a second empty what the kernel
# holds back, 64 KiB, in less than a second: a press in the middle of noise is not told late.
FLOOD_BYTES = READ_BYTES // 2
FLOOD_PAUSE_S = 0.05
EVENTS_PER_SECOND = 4000
LINE_POLL_S = 0.05
DRAIN_LOOK_S = 0.005
# TIOCMIWAIT sees no change between two calls of it, so a change is followed by a second of looking.
LINE_POLL_AFTER_CHANGE_S = 1.0
# A beginning dropped with the boot noise this shortly before the end of settling has its rest dropped too.
SAME_LINE_S = 0.05

_LINES = {"cts": termios.TIOCM_CTS, "dsr": termios.TIOCM_DSR, "dcd": termios.TIOCM_CAR, "ri": termios.TIOCM_RNG}
_LAMPS = {"dtr": termios.TIOCM_DTR, "rts": termios.TIOCM_RTS}
_TIOCMIWAIT = 0x545C  # <asm-generic/ioctls.h>; termios has no name for it

_log = logging.getLogger(__name__)


class SerialButton(AttachedDevice["_Port"]):
    """A button at `port`, a path."""

    def __init__(
        self,
        device: Device,
        port: str,
        protocol: SerialProtocol,
        feed: Callable[[Event], None],
        now: Callable[[], float],
    ) -> None:
        super().__init__(device, port, feed, now, _log)
        self.protocol = protocol
        self._light = _Light(self._bell)

    def show(self, lights: Lights) -> None:
        self._light.show(self.protocol.encode(lights), self.protocol.lamp_level(lights))

    # --- the button's thread ------------------------------------------------------------------------------------------

    def _open(self) -> "_Port":
        return _Port(self.port, self.protocol)

    def _serve(self, port: "_Port") -> str:
        """Settle, attach, listen; return why that ended."""
        decoder = ButtonDecoder(self.protocol, self.device.id)
        try:
            self._settle(port, decoder)
            self._light.attach(port)
            if self._stop_by is None:
                self._listen(port, decoder)
            self._finish(port)
        except DeviceError as error:
            return str(error)
        finally:
            self._light.detach()
            port.close()
        return "stopped"

    def _settle(self, port: "_Port", decoder: ButtonDecoder) -> None:
        """Drop what the board says while it boots."""
        until = self._now() + self.protocol.settle_time_s
        last, last_at = b"\n", float("-inf")
        while self._stop_by is None and (left := until - self._now()) > 0:
            self._bell.wait(left, {port.fd: select.POLLIN})
            while data := port.read():
                last, last_at = data[-1:], self._now()
        if last not in (b"\r", b"\n") and self._now() - last_at < SAME_LINE_S:
            decoder.start_mid_line()

    def _listen(self, port: "_Port", decoder: ButtonDecoder) -> None:
        contact = _ModemContact(port, decoder, self._bell) if port.line else None
        flood, presses = _Flood(), PressLimit(EVENTS_PER_SECOND)
        refresh_s = self.protocol.refresh_s
        refresh_at = None if refresh_s is None else self._now() + refresh_s
        noise = _Noise(self.device.name)
        try:
            # Before anyone knows of the device, so that whatever changes from then on is a press.
            at_rest = contact.look(self._now()) if contact is not None else []
            self._attach()
            self._tell(at_rest, presses)
            while self._stop_by is None:
                now = self._now()
                if refresh_at is not None and refresh_s is not None and now >= refresh_at:
                    refresh_at = now + refresh_s
                    self._light.refresh()
                self._light.push()
                self._tell(decoder.timed(now), presses)
                if contact is not None:
                    self._tell(contact.look(now), presses)
                paused = now < flood.paused_until
                due = (
                    decoder.wake_at,
                    refresh_at,
                    flood.paused_until if paused else None,
                    contact.look_at if contact is not None else None,
                )
                left = min((at for at in due if at is not None), default=None)
                wanted = (0 if paused else select.POLLIN) | (select.POLLOUT if self._light.backlog else 0)
                self._bell.wait(None if left is None else max(0.0, left - now), {port.fd: wanted})
                if not paused and (data := port.read()):
                    now = self._now()
                    self._tell(decoder.feed(data, now), presses)
                    flood.note_read(len(data), now)
                    noise.report(decoder)
                self._take_new_name()
        finally:
            if contact is not None:
                contact.end()

    def _tell(self, events: list[Event], presses: PressLimit) -> None:
        if events:
            presses.note(len(events), self._now())
            for event in events:
                self._feed(event)

    def _finish(self, port: "_Port") -> None:
        """Show the last lights and give the port the time there is to send them."""
        assert self._stop_by is not None
        self._light.finish(self.protocol.encode(self._final), self.protocol.lamp_level(self._final))
        while (left := self._stop_by - self._now()) > 0:
            self._light.push()
            if self._light.backlog:
                self._bell.wait(left, {port.fd: select.POLLOUT})
            elif port.unsent():
                self._bell.wait(min(left, DRAIN_LOOK_S))
            else:
                return


class _Light:
    """What a port is to show, written by whoever says so first, finished by the button's thread."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._lock = threading.Lock()
        self._port: _Port | None = None
        self._closing = False
        self._rest = b""  # of a message that was begun
        self._next: bytes | None = None  # the newest message that was not
        self._shown = b""
        self._lamp: bool | None = None
        self._lamp_shown: bool | None = None
        self._failure: DeviceError | None = None

    @property
    def backlog(self) -> bool:
        return bool(self._rest) or self._next is not None

    def attach(self, port: "_Port") -> None:
        with self._lock:
            self._port, self._closing, self._failure = port, False, None
            self._rest, self._next, self._shown = b"", None, b""
            self._lamp = self._lamp_shown = None

    def detach(self) -> None:
        with self._lock:
            self._port = None

    def show(self, message: bytes, lamp: bool) -> None:
        with self._lock:
            if self._port is None or self._closing:
                return
            self._take(message, lamp)
            self._write(self._port)
            if self.backlog or self._failure is not None or self._lamp != self._lamp_shown:
                self._bell.ring()

    def refresh(self) -> None:
        with self._lock:
            if self._shown and not self.backlog:
                self._next = self._shown

    def finish(self, message: bytes, lamp: bool) -> None:
        """Take the last message; nothing is shown after it."""
        with self._lock:
            self._closing = True
            self._take(message, lamp)

    def push(self) -> None:
        """Write what is left; DeviceError when the port is gone."""
        with self._lock:
            port = self._port
            if port is None:
                return
            self._write(port)
            if self._failure is not None:
                raise self._failure
            lamp = self._lamp
        # Outside the lock, because on USB it waits for the board.
        if lamp is not None and lamp != self._lamp_shown:
            port.switch_lamp(lamp)
            self._lamp_shown = lamp

    def _take(self, message: bytes, lamp: bool) -> None:
        self._next = self._shown = message
        if self._port is not None and self._port.has_lamp:
            self._lamp = lamp

    def _write(self, port: "_Port") -> None:
        try:
            if self._rest:
                self._rest = self._rest[port.write(self._rest) :]
            if not self._rest and self._next is not None:
                done = port.write(self._next)
                if done or not self._next:
                    self._rest, self._next = self._next[done:], None
        except DeviceError as error:
            self._failure = error


class _Port:
    """An open serial port that never blocks; DeviceError for everything that can be wrong with it."""

    def __init__(self, path: str, protocol: SerialProtocol) -> None:
        self.path = path
        modem = protocol.modem
        self.line = _LINES[modem.line] if modem is not None and modem.line is not None else 0
        self._lamp = _LAMPS.get(modem.lamp, 0) if modem is not None else 0
        self.has_lamp = bool(self._lamp)
        _look_at(path)
        if modem is not None and modem.line == "cts" and _driver(path) == "cdc_acm":
            raise DeviceError(
                f"{path}: a USB board of this kind (cdc_acm) has no CTS line: use dsr or dcd", hopeless=True
            )
        self._serial = _open(path, protocol)
        self.fd: int = self._serial.fileno()
        if self.line or self._lamp:
            try:
                self.levels()
            except DeviceError:
                self.close()
                raise

    def read(self) -> bytes:
        """Return what is there, up to READ_BYTES; empty when nothing is."""
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise _gone(self.path, error) from None
        if not data:
            raise DeviceError(f"{self.path}: unplugged")
        return data

    def write(self, data: bytes) -> int:
        """Return how many bytes were taken."""
        if not data:
            return 0
        try:
            return os.write(self.fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _gone(self.path, error) from None

    def unsent(self) -> int:
        """Return how many bytes the port has taken but not sent yet."""
        try:
            return _get_int(self.fd, termios.TIOCOUTQ)
        except OSError as error:
            raise _gone(self.path, error) from None

    def levels(self) -> int:
        """Return the modem lines as the TIOCM bits."""
        try:
            return _get_int(self.fd, termios.TIOCMGET)
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL):
                raise DeviceError(f"{self.path}: this port has no modem lines", hopeless=True) from None
            raise _gone(self.path, error) from None

    def switch_lamp(self, high: bool) -> None:
        try:
            request = termios.TIOCMBIS if high else termios.TIOCMBIC
            fcntl.ioctl(self.fd, request, struct.pack("I", self._lamp))
        except OSError as error:
            raise _gone(self.path, error) from None

    def close(self) -> None:
        # Unsent bytes would hold the close for up to 30 s. Without any, a flush could only hit what a pty passed on.
        with contextlib.suppress(DeviceError, termios.error):
            if self.unsent():
                termios.tcflush(self.fd, termios.TCOFLUSH)
        # The duplicate of a line thread would keep the lock.
        with contextlib.suppress(OSError):
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        with contextlib.suppress(OSError, serial.SerialException):
            self._serial.close()


def _look_at(path: str) -> None:
    """DeviceError when `path` is not a character device; opening could have side effects."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a string in, a number out
    except PermissionError:
        raise DeviceError(f"{path}: permission denied on its directory") from None
    except OSError:
        raise DeviceError(f"{path}: not plugged in", absent=True) from None
    if not stat.S_ISCHR(mode):
        raise DeviceError(f"{path}: this is not a serial port", hopeless=True)


def _open(path: str, protocol: SerialProtocol) -> serial.Serial:
    dark = protocol.lamp_level(DARK)
    modem = protocol.modem
    port = serial.Serial(port=None, baudrate=protocol.baud, timeout=0, write_timeout=0, exclusive=True)
    port.dtr = dark if modem is not None and modem.lamp == "dtr" else protocol.dtr
    port.rts = dark if modem is not None and modem.lamp == "rts" else protocol.rts
    port.port = path
    try:
        port.open()
        # Without this an empty read would mean both that nothing is there and that the port is gone.
        attributes = termios.tcgetattr(port.fileno())
        attributes[6][termios.VMIN] = 1
        termios.tcsetattr(port.fileno(), termios.TCSANOW, attributes)
    except (OSError, ValueError, OverflowError, termios.error) as error:  # SerialException is an OSError
        port.close()
        raise _explain(path, error, protocol.baud) from None
    return port


def _explain(path: str, error: Exception, baud: int) -> DeviceError:
    number = getattr(error, "errno", None)
    if number in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        return DeviceError(f"{path}: not plugged in", absent=True)
    if number in (errno.EACCES, errno.EPERM):
        return DeviceError(f"{path}: permission denied: {remedy(path)}")
    if number in (errno.EBUSY, errno.EAGAIN):
        return DeviceError(f"{path}: another program has it open")
    if number == errno.EIO:
        return DeviceError(f"{path}: unplugged")
    if isinstance(error, (ValueError, OverflowError)):
        return DeviceError(f"{path}: it does not take {baud} baud", hopeless=True)
    return DeviceError(f"{path}: this is not a serial port ({error})", hopeless=number is None)


def remedy(path: str) -> str:
    """Say how the person gives this program the right to open `path`."""
    return remedy_by_group(group_of(path, otherwise="dialout"))


def _gone(path: str, error: OSError) -> DeviceError:
    if error.errno in (errno.EIO, errno.ENODEV, errno.ENXIO, errno.EPIPE):
        return DeviceError(f"{path}: unplugged")
    return DeviceError(f"{path}: {error.strerror}")


def _driver(path: str) -> str:
    name = os.path.basename(real_path(path))  # noqa: PTH119
    return os.path.basename(real_path(f"/sys/class/tty/{name}/device/driver"))  # noqa: PTH119


def _get_int(fd: int, request: int) -> int:
    value: int = struct.unpack("I", fcntl.ioctl(fd, request, bytes(4)))[0]
    return value


class _ModemContact:
    """Knows when to look at the modem line, and looks."""

    def __init__(self, port: _Port, decoder: ButtonDecoder, bell: Bell) -> None:
        self.look_at: float | None = None
        self._port = port
        self._decoder = decoder
        self._bell = bell
        self._level: bool | None = None
        self._look_until = 0.0
        self._sleeps = True
        self._ended = False
        # A descriptor of its own: the number stays this port's for as long as the thread may use it.
        self._fd = os.dup(port.fd)
        threading.Thread(target=self._sleep, name="modem line", daemon=True).start()

    def look(self, now: float) -> list[Event]:
        level = bool(self._port.levels() & self._port.line)
        if level != self._level:
            self._level, self._look_until = level, now + LINE_POLL_AFTER_CHANGE_S
        events = self._decoder.level(level, now)
        # Held, it is looked at too: no lost change may leave a push-to-talk live.
        looking = now < self._look_until or self._decoder.held or not self._sleeps
        self.look_at = now + LINE_POLL_S if looking else None
        return events

    def end(self) -> None:
        self._ended = True

    def _sleep(self) -> None:
        try:
            while not self._ended:
                fcntl.ioctl(self._fd, _TIOCMIWAIT, self._port.line)
                self._bell.ring()
        except OSError as error:
            self._sleeps = False
            self._bell.ring()
            if not self._ended and error.errno != errno.EIO:
                _log.info("%s: its driver cannot wait for modem lines: looking every 50 ms", self._port.path)
        finally:
            os.close(self._fd)


class _Flood:
    """Bounds what a port that never stops talking can cost."""

    def __init__(self) -> None:
        self.paused_until = float("-inf")

    def note_read(self, size: int, now: float) -> None:
        if size >= FLOOD_BYTES:
            self.paused_until = now + FLOOD_PAUSE_S


class _Noise:
    """Says once for each opening that there were words without a meaning."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._said: set[str] = set()

    def report(self, decoder: ButtonDecoder) -> None:
        if decoder.unknown and "unknown" not in self._said:
            self._said.add("unknown")
            _log.info("%s: it says %r, which means nothing here", self._name, decoder.last_unknown[:80])
        if decoder.overlong and "overlong" not in self._said:
            self._said.add("overlong")
            _log.warning("%s: dropped an over-long line; is the baud rate right?", self._name)
