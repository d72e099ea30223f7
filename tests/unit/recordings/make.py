"""Records the headsets in software, in simulated time: `python3 -m tests.unit.recordings.make` writes the files here.

A person follows the script: waits, acts, waits again, and says so.
"""

from pathlib import Path

import msgspec

from mutebridge.core.headset_profile import GENERIC, HeadsetProfile
from mutebridge.core.recording import Act, Did, Entry, RecordedDevice, line
from mutebridge.core.recording_script import Script
from mutebridge.virtual_headset import ECHOING, JABRA, MAINTAINED, PLANTRONICS, Firmware, VirtualHeadset, descriptor

FOLDER = Path(__file__).parent
WAIT_S, BETWEEN_S = 3.0, 0.15


def _acknowledging(firmware: Firmware) -> Firmware:
    """One that answers a change of its off-hook lamp by its hook switch, as the real ones that were seen."""
    return msgspec.structs.replace(firmware, hook_echoes_s=0.5)


MODELS: dict[str, tuple[Firmware, HeadsetProfile]] = {
    "virtual_acknowledged": (JABRA, HeadsetProfile(host_must_ack_mute=True, repeats_until_answered_ms=860)),
    "virtual_doubling": (_acknowledging(PLANTRONICS), HeadsetProfile(duplicate_within_ms=5)),
    "virtual_echoing": (_acknowledging(ECHOING), HeadsetProfile(mute_echo_ms=200)),
    "virtual_switch": (_acknowledging(MAINTAINED), GENERIC),
}


class Desk:
    """One recording in the making."""

    def __init__(self, name: str) -> None:
        firmware, profile = MODELS[name]
        self.now = 0.0
        self.entries: list[Entry] = []
        self.device = RecordedDevice.of(name, descriptor(firmware), profile)
        self._headset = VirtualHeadset(firmware)
        self._session = self.device.session(self.entries.append)
        self._script = Script(self.device.protocol.can)

    def record(self) -> list[Entry]:
        self._headset.opened(self.now)
        self._show()
        while (step := self._script.step) is not None:
            self._wait(WAIT_S)
            for act in step.acts:
                self._act(act)
                self._wait(BETWEEN_S)
            self._wait(WAIT_S)
            self.entries.append(Did(at=round(self.now, 6), acts=self._script.done(""), remark=step.ask))
            self._show()
        return self.entries

    def _act(self, act: Act) -> None:
        if act == "press":
            self._headset.press(self.now)
        else:
            self._headset.press_hook(self.now)

    def _show(self) -> None:
        self._write(self._session.show(self._script.lights, self.now))

    def _wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (moment := self._next()) <= end:
            self.now = max(self.now, moment)
            if self._session.wake_at is not None and self._session.wake_at <= self.now:
                self._write(self._session.timed(self.now)[1])
            for report in self._headset.due(self.now):
                events, writes = self._session.report(report, self.now)
                self._write(writes)
                for event in events:
                    self._script.heard(event)
                    self._show()
        self.now = end

    def _next(self) -> float:
        return min((m for m in (self._headset.wake_at, self._session.wake_at) if m is not None), default=float("inf"))

    def _write(self, reports: list[bytes]) -> None:
        for report in reports:
            self._headset.write(report, self.now)
            self._session.written(report, self.now, ok=True)


def recorded(name: str) -> bytes:
    """Return the file of one model."""
    desk = Desk(name)
    return b"".join(map(line, [desk.device, *desk.record()]))


if __name__ == "__main__":
    for each in MODELS:
        (FOLDER / f"{each}.rec").write_bytes(recorded(each))
