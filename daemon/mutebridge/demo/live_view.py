"""The demo in a terminal: the scene live, with keys that play the person.

One thread, the caller's, which sleeps until a key, a change of the scene, another size of the terminal or a signal.
"""

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live

from mutebridge.demo.scene import Scene
from mutebridge.demo.view import Picture, render

_END_OF_TRANSMISSION = "\x04"  # Ctrl-D


def show(scene: Scene) -> int:
    """Show the scene until the person has enough; return 0 if all lights told the truth and 1 if not."""
    with _LiveView(scene) as view:
        view.run()
    scene.stop_daemon()
    lies = scene.lies()
    print("\n".join(lies) if lies else f"{len(scene.presses)} reports of presses; every light told the truth.")
    return 1 if lies else 0


class _LiveView:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._console = Console()
        self._ended = False
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._live = Live(console=self._console, screen=True, auto_refresh=False, redirect_stderr=False)
        self._stack = contextlib.ExitStack()
        self._keys: dict[str, Callable[[], object]] = {
            " ": scene.press,
            "p": scene.press_headset,
            "r": lambda: scene.call("ring"),
            "c": lambda: scene.call("connect"),
            "h": lambda: scene.call("resume" if scene.softphone.get_state() == "held" else "hold"),
            "e": lambda: scene.call("end"),
            "m": scene.mute_by_hand,
            "s": lambda: scene.allow(not scene.allowed),
            "o": scene.open_page,
            "q": self._end,
            _END_OF_TRANSMISSION: self._end,
        }

    def __enter__(self) -> "_LiveView":
        self._stack.enter_context(_keys_at_once(sys.stdin.fileno()))
        self._stack.enter_context(self._live)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._catch(number, self._end)
        self._catch(signal.SIGWINCH, self._wake)
        self._scene.on_change = self._wake
        return self

    def __exit__(self, *_: object) -> None:
        self._scene.on_change = lambda: None
        self._stack.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def run(self) -> None:
        stdin = sys.stdin.fileno()
        while not self._ended:
            self._live.update(render(self._picture(), self._console.height), refresh=True)
            readable, _, _ = select.select([stdin, self._wake_read], [], [])
            if self._wake_read in readable:
                os.read(self._wake_read, 4096)
            if stdin in readable:
                self._typed(os.read(stdin, 64).decode(errors="replace"))

    def _typed(self, keys: str) -> None:
        if not keys or keys.startswith("\x1b"):  # nobody is there; an arrow, or the like
            self._ended = self._ended or not keys
            return
        for key in keys:
            self._keys.get(key.lower(), lambda: None)()

    def _end(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it wakes anyway
            os.write(self._wake_write, b".")

    def _catch(self, number: signal.Signals, act: Callable[[], None]) -> None:
        before = signal.signal(number, lambda *_: act())
        self._stack.callback(signal.signal, number, before)

    def _picture(self) -> Picture:
        scene = self._scene
        return Picture(
            broker=f"{scene.broker.what}, at {scene.broker.host}:{scene.broker.port}",
            bridge_online=scene.bridge_online,
            call=scene.softphone.get_state(),
            muted=scene.truth.muted,
            lit=scene.button_lit,
            light=scene.button_told.lower(),
            headset_lit=scene.headset_lit,
            has_page=scene.page is not None,
            allowed=scene.allowed,
            devices=tuple(scene.devices.values()),
            moments=tuple(scene.moments),
            lies=tuple(scene.lies()),
        )


@contextlib.contextmanager
def _keys_at_once(terminal: int) -> Iterator[None]:
    """Have each key arrive when it is typed, without an echo."""
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
