"""Keeps one headset and the bridge of one mind: which report is a press, what is written when.

Between the reports of a device and the bridge. A headset is not a plain button: many keep a mute state of their own,
which a press changes before anybody knows; some wait for the host to answer; some answer what the host writes, in a
report that looks like a press. `HeadsetSession` tells these apart, for one device from its opening on. It does no I/O;
whoever owns the device gives it reports and lights, and writes what it returns.

What is written: all lamps when the device is opened and when a call connects, and from then on each report whose lamps
changed. The mute lamp is lit exactly when the microphone is known to be muted, with one exception:

* **Acknowledgement** (`host_must_ack_mute`). A press is answered at once with the mute state that the headset has taken
  by itself. The answer stands until the bridge has settled the press, one second at most; then the lamp tells the truth
  again, and the headset follows it.

After every press that leaves the lamp as it was (ignored, refused, timed out, taken back, or so soon after another that
it counts as its double), the lamp is written once more, because the headset's own state has moved. A device that
answers such rewrites with reports gets no more of them; one that is known to echo gets them when its person has let go
for a while, so that no press is taken for the echo.

What is not a press:

* **Echo** (`mute_echo_ms`). Each change of the mute lamp is good for one mute report that follows in time, no more: of
  an echo and a press within the window, one counts. So is a lamp that is written as it was, for a report that comes at
  once; if one ever did, in the whole window from then on. An unknown device that answers nine changes in a row at once
  is taken for one that echoes, so that it cannot press its own button for ever.
* **Refusal** (`boom_arm_refusal_ms`). Each time that the mute lamp goes dark, one mute report that follows in time
  asks for mute, instead of inverting: a boom arm that is up says so, and a person who presses again asks for the same.
* **Doubles** (`duplicate_within_ms`) and **repeats** of an unanswered press (`repeats_until_answered_ms`).
* **Hook echoes** (`hook_echo_ms`): whatever the hook switch says soon after the off-hook or hold lamp changed, while a
  call is held, and at any other time than when it means something: answer while it rings, end while off-hook is lit.

Nothing outlives a call: when one connects or ends, acknowledgements and expectations are dropped.
"""

from collections import deque

import msgspec

from mutebridge.core.events import (
    Event,
    HookChanged,
    MuteAsked,
    MutePressed,
    MuteReleased,
    MuteSwitched,
    MuteToggled,
    RejectPressed,
)
from mutebridge.core.headset_profile import ControlKind, HeadsetProfile
from mutebridge.core.lights import DARK, Lights, MicLight
from mutebridge.core.rewrites import Rewrites
from mutebridge.core.telephony import Act, Decoder, Key, LampName, Signal, Telephony

CONFIRM_TIMEOUT_S = 1.0

# A device that answers a lamp by itself does so within a few polls of its endpoint; a person does not, nine times over.
# An odd number: what was counted by mistake before undoes itself.
LEARNT_ECHO_S = 0.03
LEARNT_AFTER = 9
# The same of lamps that are written as they were.
REWRITES_ANSWERED = 3
# Longer than between two presses of somebody who goes on pressing.
QUIET_FOR_REWRITE_S = 0.75

# A write that failed is tried again so much later each time, then given up until the lights change.
RETRY_AFTER_S = (0.25, 1.0, 4.0)


class HeadsetSession:
    """One headset since it was opened. Moments are seconds of one monotonic clock.

    Not thread-safe. `notice` is something worth a line in the log, set once.
    """

    def __init__(self, telephony: Telephony, profile: HeadsetProfile, device_id: str) -> None:
        self._telephony = telephony
        self._profile = profile
        self._device_id = device_id
        self._decoder = Decoder(telephony)
        self._lights = DARK
        self._lit: set[LampName] = set()
        self._written: dict[int, bytes] = {}
        self._mute_report = telephony.lamps[LampName.MUTE].report_id if LampName.MUTE in telephony.lamps else None
        self._press = _Press()
        self._echo = _Echo(profile.mute_echo_ms / 1000, learns=not profile.host_must_ack_mute)
        self._refusals_until: deque[float] = deque(maxlen=16)
        self._hook_quiet_until = 0.0
        self._down = False
        self._may_rewrite = True
        self._rewrote_at: float | None = None  # until it is answered
        self._rewrites_answered = 0
        self._resync_at: float | None = None
        self._retries = 0
        self._retry_at: float | None = None
        self._rewrites = Rewrites()
        self.notice: str | None = None

    # --- what the owner of the device calls

    def report(self, data: bytes, now: float) -> tuple[list[Event], list[bytes]]:
        """Take one input report; returns what the person did, and what to write at once."""
        events: list[Event] = []
        for signal in self._decoder.decode(data):
            match signal.key:
                case Key.MUTE:
                    events += self._mute(signal, now)
                case Key.HOOK:
                    events += self._hook(signal, now)
                case _:
                    events += self._reject(signal)
        return events, self._changes(now)

    def show(self, lights: Lights, now: float) -> list[bytes]:
        """Take what is to be shown; returns what to write."""
        before, self._lights = self._lights, lights
        connected, connects = before.mic is not MicLight.OFF, lights.mic is not MicLight.OFF
        if connected is not connects or before.off_hook is not lights.off_hook:
            self._forget()
        if self._press.open and lights.pending is None:
            return self._settle(now)
        return self._changes(now, every=connects and not connected)

    def timed(self, now: float) -> tuple[list[Event], list[bytes]]:
        """Do what `wake_at` was for."""
        if self._rewrites.has_come(now):
            return [], self._changes(now, every=True)
        if self._resync_at is not None and now >= self._resync_at:
            return [], self._resync(now)
        if self._press.until is not None and now >= self._press.until:
            return [], self._settle(now) if self._lights.pending is None else self._withdraw(now)
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
        return [], self._changes(now)

    @property
    def wake_at(self) -> float | None:
        """The moment at which `timed` is wanted; None: no moment."""
        moments = (self._press.until, self._retry_at, self._rewrites.at, self._resync_at)
        return min((moment for moment in moments if moment is not None), default=None)

    def written(self, report: bytes, now: float, *, ok: bool) -> None:
        """Hear what became of a write; one that failed is due again."""
        if ok:
            self._retries = 0
            if report[0] == self._mute_report:
                self._press.answered = True
                self._echo.written(now)
        elif self._written.get(report[0]) == report:
            del self._written[report[0]]
            if self._retries < len(RETRY_AFTER_S):
                self._retry_at = now + RETRY_AFTER_S[self._retries]
                self._retries += 1

    def disturbed(self, now: float) -> list[bytes]:
        """Somebody else may have written lamps; returns them once more, now or in a while, boundedly."""
        return self._changes(now, every=True) if self._rewrites.now_due(now) else []

    # --- the mute button

    def _mute(self, signal: Signal, now: float) -> list[Event]:
        match signal.act:
            case Act.TOGGLED | Act.PRESSED:
                return self._pressed(signal.act, now)
            case Act.RELEASED:
                was, self._down = self._down, False
                return [MuteReleased(self._device_id)] if was else []
        return self._says(signal, now)

    def _pressed(self, act: Act, now: float) -> list[Event]:
        before, self._press.at = self._press.at, now
        if before is not None and now - before < self._profile.duplicate_within_ms / 1000:
            self._press.doubles += 1
            if self._press.doubles > 1 and self._may_rewrite:  # there was another press among them
                self._resync_at = now + QUIET_FOR_REWRITE_S
            return []
        self._press.doubles = 0
        if self._echo.takes(now):
            self._learn()
            return []
        if before is not None and self._is_repeat(now - before):
            self._forget_written_mute()
            return []
        self._note_answer_to_rewrite(now)
        refused = act is Act.TOGGLED and self._is_refusal(now)
        self._open_press(refused=refused, now=now)
        if refused:
            return [MuteAsked(self._device_id, muted=True)] if self._lights.off_hook else []
        if act is Act.TOGGLED:
            return [MuteToggled(self._device_id)]
        self._down = True
        return [MutePressed(self._device_id)]

    def _is_refusal(self, now: float) -> bool:
        while self._refusals_until and self._refusals_until[0] <= now:
            self._refusals_until.popleft()
        if not self._refusals_until:
            return False
        self._refusals_until.popleft()
        return True

    def _is_repeat(self, after_s: float) -> bool:
        """Whether the last press was not answered yet, and this comes as long after it as the headset's repeats do."""
        every_s = self._profile.repeats_until_answered_ms / 1000
        return bool(every_s) and not self._press.answered and abs(after_s - every_s) <= every_s / 4

    def _open_press(self, *, refused: bool, now: float) -> None:
        """The press is under way until the bridge has settled it; the headset's own state has moved."""
        self._resync_at = None
        self._press.open = True
        self._press.wrote_mute = False
        self._press.until = now + CONFIRM_TIMEOUT_S
        if self._profile.host_must_ack_mute and self._lights.off_hook:
            self._press.answer = refused or LampName.MUTE not in self._lit
            self._press.answered = self._press.answer is (LampName.MUTE in self._lit)

    def _says(self, signal: Signal, now: float) -> list[Event]:
        """The button says muted or live: as a wish, or as where it stands."""
        muted = signal.act is Act.ON
        button = self._telephony.mute_button
        assert button is not None
        if button.wish or button.kind is ControlKind.ON_OFF_BUTTONS:
            return [MuteAsked(self._device_id, muted)]
        echo = muted is (LampName.MUTE in self._lit) and self._echo.takes(now)
        return [MuteSwitched(self._device_id, muted, baseline=signal.first or echo)]

    def _learn(self) -> None:
        if self._echo.learnt and self.notice is None:
            self._may_rewrite = False
            self.notice = (
                f"{self._device_id} answers its mute lamp with a mute report, which is not counted as a press;"
                " say so in its profile: mute_echo_ms"
            )

    # --- hook switch and reject

    def _hook(self, signal: Signal, now: float) -> list[Event]:
        lights = self._lights
        if now < self._hook_quiet_until or lights.hold or signal.act is Act.RELEASED:
            return []
        answers = lights.ring and signal.act is not Act.OFF
        ends = lights.off_hook and not lights.ring and signal.act is not Act.ON
        return [HookChanged(self._device_id, off_hook=answers)] if answers or ends else []

    def _reject(self, signal: Signal) -> list[Event]:
        pressed = signal.act in (Act.TOGGLED, Act.PRESSED, Act.ON)
        return [RejectPressed(self._device_id)] if pressed and self._lights.ring else []

    # --- lamps

    def _settle(self, now: float) -> list[bytes]:
        """The bridge is done with the press: from now on the lamp tells the truth, written if only to be heard."""
        self._press.close()
        if self._press.wrote_mute or not self._may_rewrite or LampName.MUTE in self._lit ^ self._wanted():
            return self._changes(now)
        if self._echo.expected:
            assert self._press.at is not None
            self._resync_at = self._press.at + QUIET_FOR_REWRITE_S
            return self._changes(now)
        if self._rewrote_at is not None:  # the last one was not answered
            self._rewrites_answered = 0
        self._rewrote_at = now
        return self._resync(now)

    def _resync(self, now: float) -> list[bytes]:
        """Write the mute lamp as it is: the headset's own state may be another."""
        self._resync_at = None
        self._forget_written_mute()
        return self._changes(now)

    def _note_answer_to_rewrite(self, now: float) -> None:
        if self._rewrote_at is not None and now - self._rewrote_at <= LEARNT_ECHO_S:
            self._rewrote_at = None
            self._rewrites_answered += 1
            self._may_rewrite = self._rewrites_answered < REWRITES_ANSWERED

    def _withdraw(self, now: float) -> list[bytes]:
        """The answer has stood for long enough, though the bridge is not done."""
        self._press.answer = self._press.until = None
        return self._changes(now)

    def _forget(self) -> None:
        """A call began or ended: nothing that was waited for matters any more."""
        self._press.close()
        self._press.answered = True
        self._echo.forget()
        self._refusals_until.clear()
        self._resync_at = None

    def _forget_written_mute(self) -> None:
        if self._mute_report is not None:
            self._written.pop(self._mute_report, None)

    def _wanted(self) -> set[LampName]:
        lights, call = self._lights, self._profile.follows_call
        shown = {
            LampName.MUTE: lights.mic is MicLight.MUTED if self._press.answer is None else self._press.answer,
            LampName.OFF_HOOK: call and lights.off_hook,
            LampName.RING: call and lights.ring,
            LampName.HOLD: call and lights.hold,
            LampName.RINGER: call and lights.ring and self._profile.rings_with_lamp,
        }
        return {lamp for lamp, on in shown.items() if on and lamp in self._telephony.lamps}

    def _changes(self, now: float, *, every: bool = False) -> list[bytes]:
        """Return the reports that differ from what was written last, or all."""
        before, self._lit = self._lit, self._wanted()
        reports = self._telephony.encode(self._lit)
        due = {number: report for number, report in reports.items() if every or self._written.get(number) != report}
        if self._mute_report in due:
            self._expect_mute_reports(
                now, changed=LampName.MUTE in before ^ self._lit, again=self._mute_report not in self._written or every
            )
        if LampName.OFF_HOOK in before ^ self._lit:
            self._decoder.off_hook_written(lit=LampName.OFF_HOOK in self._lit)
        if {LampName.OFF_HOOK, LampName.HOLD} & (before ^ self._lit):
            self._hook_quiet_until = now + self._profile.hook_echo_ms / 1000
        self._written |= due
        return list(due.values())

    def _expect_mute_reports(self, now: float, *, changed: bool, again: bool) -> None:
        """What the device may send because the mute lamp is written, although nobody touches it."""
        self._press.wrote_mute = True
        self._resync_at = None
        self._echo.expect(now, changed=changed)
        if (changed or again) and LampName.MUTE not in self._lit:
            self._refusals_until.append(now + self._profile.boom_arm_refusal_ms / 1000)


class _Press(msgspec.Struct):
    """The last press; it is `open` until the bridge has settled it. `answer` is the mute lamp that acknowledges it."""

    at: float | None = None
    open: bool = False
    until: float | None = None
    answer: bool | None = None
    answered: bool = True
    wrote_mute: bool = False
    doubles: int = 0  # that came after it

    def close(self) -> None:
        self.open = False
        self.answer = self.until = None


class _Expected(msgspec.Struct):
    """One report that may answer the lamp."""

    until: float
    window_s: float
    of_change: bool


class _Echo:
    """Tells which mute reports answer the mute lamp: for each time that it is written one, within the window.

    With a window of 0 it only watches, and learns one when every change is answered at once. `_of_every_write`: also a
    lamp that was written as it was has been answered.
    """

    def __init__(self, window_s: float, *, learns: bool) -> None:
        self._window_s = window_s
        self._learns = learns
        self._due: deque[_Expected] = deque(maxlen=16)
        self._changed_at: float | None = None
        self._in_a_row = 0
        self._of_every_write = False
        self.learnt = False

    @property
    def expected(self) -> bool:
        """Whether the device is known to echo."""
        return self._window_s > 0

    def expect(self, now: float, *, changed: bool) -> None:
        if changed:
            self._watch(now)
        if self._window_s:
            whole = changed or self._of_every_write
            window_s = self._window_s if whole else min(self._window_s, LEARNT_ECHO_S)
            self._due.append(_Expected(until=now + window_s, window_s=window_s, of_change=changed))

    def written(self, now: float) -> None:
        """The lamp, as it was last handed over, has reached the device only now."""
        if self._due:
            self._due[-1].until = now + self._due[-1].window_s

    def _watch(self, now: float) -> None:
        if self._changed_at is not None:  # the last change was not answered
            self._in_a_row = 0
            if self.learnt:
                self.learnt, self._window_s = False, 0.0
        self._changed_at = now

    def takes(self, now: float) -> bool:
        """Whether a mute report at this moment is an echo."""
        at_once = self._changed_at is not None and now - self._changed_at <= LEARNT_ECHO_S
        self._changed_at = None
        self._in_a_row = self._in_a_row + 1 if at_once else 0
        self._due = deque((due for due in self._due if due.until >= now), maxlen=16)
        if self._due:
            self._of_every_write |= not self._due.popleft().of_change
            return True
        if self._learns and not self._window_s and self._in_a_row >= LEARNT_AFTER:
            self.learnt, self._window_s = True, 4 * LEARNT_ECHO_S
            return True
        return False

    def forget(self) -> None:
        self._due.clear()
        self._changed_at = None
