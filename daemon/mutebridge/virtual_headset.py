"""A headset in software: what its firmware does with presses and with the lamps that the host writes.

For the demo and for tests, which stand in front of no hardware. It does no I/O: `press`, `arm` and `write` tell it what
happens, `due` returns the input reports that it has sent by then, `wake_at` says when the next one is. Moments are
seconds of one monotonic clock.

The report descriptor is this project's own, in the form that most headsets share: one application collection, input and
output report 2, in that order: hook switch, phone mute; off-hook, mute, ring and hold lamp.
"""

import heapq
import itertools

import msgspec

REPORT_ID = 2
HOOK, MUTE = 0x01, 0x02
OFF_HOOK_LED, MUTE_LED, RING_LED, HOLD_LED = 0x01, 0x02, 0x04, 0x08

_TOGGLE, _STATE = "06", "22"  # Input: Data, Variable and Relative, or No Preferred

PULSE_S = 0.001


class Firmware(msgspec.Struct, frozen=True, kw_only=True):
    """How a model behaves, as seen on real ones; times in seconds, 0 for never. The default is a plain headset.

    `needs_off_hook`, `needs_same_mute`: sends its mute button only while Off-Hook is lit, and only while the mute state
    that the host wrote is its own. `repeats_s`: sends a press again until the host's mute state is its own.
    `doubles_s`: sends each press twice, this far apart. `echoes_s`: answers each change of the mute lamp with a mute
    report, with `echoes_every_write` also one that is written as it was. `hook_echoes_s`: answers each change of
    Off-Hook by its hook switch. `maintained`: the mute button is a switch that stays; its report is the state.
    """

    needs_off_hook: bool = False
    needs_same_mute: bool = False
    repeats_s: float = 0.0
    doubles_s: float = 0.0
    echoes_s: float = 0.0
    echoes_every_write: bool = False
    hook_echoes_s: float = 0.0
    maintained: bool = False


PLAIN = Firmware()
JABRA = Firmware(needs_off_hook=True, needs_same_mute=True, repeats_s=0.86, hook_echoes_s=0.5)
PLANTRONICS = Firmware(doubles_s=0.003)
ECHOING = Firmware(echoes_s=0.01)
ECHOING_ALWAYS = Firmware(echoes_s=0.01, echoes_every_write=True)
MAINTAINED = Firmware(maintained=True)


def descriptor(firmware: Firmware = PLAIN) -> bytes:
    """Return the report descriptor of such a headset."""
    mute = _STATE if firmware.maintained else _TOGGLE
    return bytes.fromhex(
        "05 0b 09 05 a1 01"  # Telephony, Headset, Application collection
        f"85 {REPORT_ID:02x} 15 00 25 01 75 01 95 01"  # report id; bits of 0..1
        f"09 20 81 {_STATE} 09 2f 81 {mute}"  # Hook Switch, Phone Mute
        "95 06 81 03"  # padding
        "05 08 09 17 09 09 09 18 09 20 95 04 91 22"  # LEDs: Off-Hook, Mute, Ring, Hold
        "95 04 91 03 c0"  # padding; end
    )


class VirtualHeadset:
    """One headset; `muted` is the mute state of its own, `lamps` what the host wrote last."""

    def __init__(self, firmware: Firmware = PLAIN) -> None:
        self.firmware = firmware
        self.muted = False
        self.arm_up = False
        self.lamps = 0
        self.refused = 0  # how often it has told that its arm is up
        self._hook = False
        self._unanswered = 0  # counts up with each press that may be repeated
        self._queue: list[tuple[float, int, int | None, bytes]] = []
        self._order = itertools.count()

    @property
    def off_hook(self) -> bool:
        return bool(self.lamps & OFF_HOOK_LED)

    @property
    def host_muted(self) -> bool:
        """The mute state that the host wrote."""
        return bool(self.lamps & MUTE_LED)

    # --- what a person does

    def press(self, now: float) -> bool:
        """Press the mute button; returns whether the headset told the host."""
        if self.arm_up or (self.firmware.needs_off_hook and not self.off_hook):
            return False
        agreed = self.muted is self.host_muted
        self.muted = not self.muted
        if self.firmware.needs_same_mute and not agreed:
            self._unanswered += 1
            return False
        self._tell_mute(now)
        return True

    def arm(self, now: float, *, up: bool) -> bool:
        """Swing the boom arm; up is muted. Returns whether the headset told the host."""
        if not up:
            self.arm_up = False
        told = self.muted is not up and self.press(now)
        self.arm_up = up
        return told

    def press_hook(self, now: float) -> None:
        """Press the call button: takes the call, or ends it."""
        self._hook = not self._hook
        self._send(now, 0)

    # --- what the host does

    def opened(self, now: float) -> None:
        """The host opens the device: a maintained switch says where it stands."""
        if self.firmware.maintained:
            self._send(now, MUTE if self.muted else 0)

    def write(self, report: bytes, now: float) -> None:
        """Take an output report; one of another length is none of its own."""
        if len(report) != 2 or report[0] != REPORT_ID:
            return
        before, self.lamps = self.lamps, report[1]
        changed = before ^ self.lamps
        if changed & OFF_HOOK_LED:
            self._hook = self.off_hook
            if self.firmware.hook_echoes_s:
                self._send(now + self.firmware.hook_echoes_s, 0)
        if self.firmware.maintained:
            return
        if self.arm_up and not self.host_muted:
            if changed & (MUTE_LED | OFF_HOOK_LED) and (self.off_hook or not self.firmware.needs_off_hook):
                self.refused += 1
                self._tell_mute(now + 0.05)
            return
        self.muted = self.host_muted
        self._unanswered += 1
        if (changed & MUTE_LED or self.firmware.echoes_every_write) and self.firmware.echoes_s:
            self._pulse(now + self.firmware.echoes_s)

    # --- what it sends

    @property
    def wake_at(self) -> float | None:
        return self._queue[0][0] if self._queue else None

    def due(self, now: float) -> list[bytes]:
        """Return the input reports sent by now."""
        reports = []
        while self._queue and self._queue[0][0] <= now:
            at, _, unanswered, report = heapq.heappop(self._queue)
            if unanswered is None:
                reports.append(report)
            elif unanswered == self._unanswered:
                self._pulse(at)
                self._repeat(at)
        return reports

    def _tell_mute(self, at: float) -> None:
        if self.firmware.maintained:
            self._send(at, MUTE if self.muted else 0)
            return
        self._unanswered += 1
        self._pulse(at)
        self._repeat(at)

    def _repeat(self, at: float) -> None:
        if self.firmware.repeats_s:
            heapq.heappush(self._queue, (at + self.firmware.repeats_s, next(self._order), self._unanswered, b""))

    def _pulse(self, at: float) -> None:
        """1 and 0 at once, as most headsets do; the whole again for one that doubles."""
        for begin in (at, at + self.firmware.doubles_s) if self.firmware.doubles_s else (at,):
            self._send(begin, MUTE)
            self._send(begin + PULSE_S, 0)

    def _send(self, at: float, bits: int) -> None:
        report = bytes([REPORT_ID, bits | (HOOK if self._hook else 0)])
        heapq.heappush(self._queue, (at, next(self._order), None, report))
