"""The scripted call of the demo: presses before it, during it, after it, each with what has to become of it.

Nothing here waits for a time to pass, only for what has to happen, up to a deadline. After each step the scene comes to
rest: then every lamp must show just what the microphone does.
"""

import contextlib
import sys
from collections import Counter
from typing import NoReturn

from mutebridge.core.contract import Outcome, PressEvent
from mutebridge.demo.scene import BUTTON_ID, HEADSET_ID, Moment, Scene

DEADLINE_S = 10.0
_HEAD = f"{'seconds':>8}  {'call':<12}  {'microphone':<10}  {'light':<5}  what happened"


def play(scene: Scene) -> int:
    """Play the call, print the timeline as it happens, return 0 if all lights told the truth and 1 if not."""
    return _Script(scene).play()


class _GoneWrongError(Exception):
    """There is no point in going on."""


class _Script:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._wrong: list[str] = []
        self._rests = 0
        self._nobody_reads = False

    def play(self) -> int:
        self._say(_HEAD)
        for moment in self._scene.moments:
            self._say(_line(moment))
        self._scene.on_moment = lambda moment: self._say(_line(moment))
        with contextlib.suppress(_GoneWrongError):
            self._before()
            self._during()
            self._after()
        return self._verdict()

    def _before(self) -> None:
        self._chapter("before the call")
        # Whether the daemon has heard of the softphone by now is left to chance.
        self._press(Outcome.IGNORED, "not_connected", "no_controller")
        self._chapter("it rings")
        self._scene.call("ring")
        self._rest(muted=None)
        self._press(Outcome.IGNORED, "not_connected")

    def _during(self) -> None:
        scene = self._scene
        self._chapter("connected")
        scene.call("connect")
        self._rest(muted=False)
        self._press(Outcome.CONFIRMED, muted=True)
        self._press(Outcome.CONFIRMED, muted=False)
        self._chapter("by hand, on the softphone's page")
        scene.mute_by_hand()
        self._rest(muted=True)
        scene.mute_by_hand()
        self._rest(muted=False)
        self._press(Outcome.CONFIRMED, muted=True)
        self._chapter("on hold")
        scene.call("hold")
        self._rest(muted=None)
        self._press(Outcome.IGNORED, "not_connected")
        scene.call("resume")
        self._rest(muted=True)
        self._chapter("a permission is missing")
        scene.allow(False)
        self._press(Outcome.REJECTED, "missing_scope", muted=True)
        self._chapter("all is well again")
        scene.allow(True)
        self._press(Outcome.CONFIRMED, muted=False)
        self._press(Outcome.CONFIRMED, muted=True)
        if scene.has_headset:
            self._chapter("by the headset")
            self._press(Outcome.CONFIRMED, muted=False, device=HEADSET_ID)
            self._press(Outcome.CONFIRMED, muted=True, device=HEADSET_ID)

    def _after(self) -> None:
        self._chapter("after the call")
        self._scene.call("end")
        self._rest(muted=None)
        self._press(Outcome.IGNORED, "not_connected")
        self._chapter("the daemon ends")
        status = self._scene.stop_daemon()
        if status != 0:
            self._went_wrong(f"the daemon ended with {status} instead of 0")
        self._rest(muted=None)

    def _chapter(self, title: str) -> None:
        self._say(f"          -- {title}")
        if self._nobody_reads:
            raise BrokenPipeError

    def _say(self, text: str) -> None:
        """Write a line in one piece, from whichever thread; a reader who went away is noticed at the next chapter."""
        try:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        except BrokenPipeError:
            self._nobody_reads = True

    def _press(self, outcome: Outcome, *reasons: str, muted: bool | None = None, device: str = BUTTON_ID) -> None:
        """Press; see that this becomes of it, that the microphone is so afterwards, that the lights show it."""
        scene, before = self._scene, len(self._scene.presses)
        if device == HEADSET_ID:
            scene.press_headset()
        else:
            scene.press()

        def end() -> PressEvent | None:
            mine = (event for event in scene.presses[before:] if event.device == device)
            return next((event for event in mine if event.outcome is not Outcome.SENT), None)

        scene.wait_for(end, DEADLINE_S)
        became = end()
        if became is None or became.outcome is not outcome or (reasons and became.reason not in reasons):
            found = f"{became.outcome.value}, {became.reason}" if became else "nothing"
            self._went_wrong(f"a press had to be {outcome.value} {'or '.join(reasons)}; it became {found}")
        self._rest(muted=muted)

    def _rest(self, *, muted: bool | None) -> None:
        """See that the microphone is so, each lamp with it; `muted` None: no call is connected."""
        scene = self._scene
        self._rests += 1
        if not scene.wait_for(lambda: scene.truth.muted is muted and scene.at_rest, DEADLINE_S):
            lamps = ", ".join(f"{name} {'on' if lit else 'dark'}" for name, lit in scene.truth.lit.items())
            self._went_wrong(f"at rest the microphone is {_microphone(scene.truth.muted)}; the lights: {lamps}")

    def _went_wrong(self, what: str) -> NoReturn:
        self._wrong.append(what)
        raise _GoneWrongError

    def _verdict(self) -> int:
        scene = self._scene
        wrong = self._wrong + scene.lies()
        ends = Counter(event.outcome.value for event in scene.presses if event.outcome is not Outcome.SENT)
        counted = ", ".join(f"{number} {outcome}" for outcome, number in sorted(ends.items()))
        self._say(f"\n{sum(ends.values())} presses: {counted}; {self._rests} times at rest.")
        self._say(
            f"A lit lamp lagged behind a microphone that went live by {scene.truth.longest_lag_s * 1e3:.1f} ms at most."
        )
        if wrong:
            self._say("\n".join(["The lights did not tell the truth, or not all went as it must:", *wrong]))
            sys.stderr.write("".join(scene.daemon_said))
            return 1
        self._say("Every light told the truth.")
        return 0


def _line(moment: Moment) -> str:
    light = "on" if moment.lit else "dark"
    state = f"{moment.call:<12}  {_microphone(moment.muted):<10}  {light:<5}"
    return f"{moment.at_s:8.3f}  {state}  {moment.who}: {moment.text}"


def _microphone(muted: bool | None) -> str:
    return "-" if muted is None else "muted" if muted else "live"
