"""A workstation in the guest: broker, softphone, and the daemon itself as a process."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.integration.mosquitto import OPEN, Mosquitto
from tests.lab.guest.waiting import DEADLINE_S, wait_until

from mutebridge import virtual_headset
from mutebridge.controller.session_controller import SessionController
from mutebridge.controller.softphone import SimulatedSoftphone
from mutebridge.edges.broker import BrokerSettings
from mutebridge.virtual_headset import MUTE_LED, OFF_HOOK_LED, Firmware

REPOSITORY = Path(__file__).resolve().parents[3]
STATION = "desk"
_STOP_S = 60.0


class Model:
    """The project's headset in software, as the firmware of one on a wire."""

    def __init__(self, firmware: Firmware) -> None:
        self.headset = virtual_headset.VirtualHeadset(firmware)
        self.told = 0  # presses that the headset told the host

    def on_output(self, report: bytes, now: float) -> Iterable[bytes]:
        self.headset.write(report, now)
        return self.headset.due(now)

    def on_time(self, now: float) -> tuple[Iterable[bytes], float | None]:
        return self.headset.due(now), self.headset.wake_at

    def press(self, now: float) -> Iterable[bytes]:
        self.told += self.headset.press(now)
        return self.headset.due(now)

    def press_hook(self, now: float) -> Iterable[bytes]:
        self.headset.press_hook(now)
        return self.headset.due(now)

    def opened(self, now: float) -> Iterable[bytes]:
        self.headset.opened(now)
        return self.headset.due(now)

    def arm_up(self, now: float) -> Iterable[bytes]:
        self.headset.arm(now, up=True)
        return self.headset.due(now)

    def arm_down(self, now: float) -> Iterable[bytes]:
        self.headset.arm(now, up=False)
        return self.headset.due(now)


class Desk:
    """Broker and softphone; `presses` counts what the daemon published of them. `broker`: lines of its own file."""

    def __init__(self, directory: Path, broker: str = OPEN) -> None:
        self.directory = directory
        self.broker = Mosquitto(directory, broker)
        self.softphone = SimulatedSoftphone()
        settings = BrokerSettings(host="127.0.0.1", port=self.broker.port)
        self._controller = SessionController(
            STATION,
            set_mute=self.softphone.mute_mic,
            answer=lambda _call_id: self.softphone.do("connect"),
            hang_up=lambda _call_id: self.softphone.do("end"),
            broker=settings,
        )
        self.softphone.on_state_change = self._controller.call_changed
        self.softphone.on_mic_state_change = self._controller.mic_changed
        self._said: list[dict[str, Any]] = []
        listen = ["mosquitto_sub", "-p", str(self.broker.port), "-t", f"mutebridge/v1/{STATION}/#", "-F", "%j"]
        self._sub = subprocess.Popen([*listen], stdout=subprocess.PIPE, text=True)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._controller.stop()
        self._sub.kill()
        self._sub.wait()
        self._listener.join(DEADLINE_S)
        print(*(f"{said['topic'].rpartition('/')[2]}: {said.get('payload')}" for said in self._said), sep="\n")
        self.broker.stop()

    @property
    def presses(self) -> int:
        events = [said for said in list(self._said) if said["topic"].endswith("/bridge/event")]
        return len({json.loads(event["payload"])["press"] for event in events})

    @property
    def commands(self) -> int:
        """How often the softphone was asked for something."""
        commands = [said for said in list(self._said) if said["topic"].endswith("/command")]
        return len({json.loads(command["payload"])["request_id"] for command in commands})

    def devices(self) -> dict[str, dict[str, Any]]:
        """What is published of each attached device."""
        found: dict[str, dict[str, Any]] = {}
        for said in list(self._said):
            if "/bridge/device/" in said["topic"]:
                name = said["topic"].rpartition("/")[2]
                found.pop(name, None)
                if said.get("payload"):
                    found[name] = json.loads(said["payload"])
        return found

    def wait_for_devices(self, count: int) -> set[str]:
        wait_until(lambda: len(self.devices()) == count, f"{count} devices")
        return set(self.devices())

    def _listen(self) -> None:
        assert self._sub.stdout
        with self._sub.stdout:
            for line in self._sub.stdout:
                self._said.append(json.loads(line))


def agree(desk: Desk, model: Model, muted: bool | None = None) -> bool:
    """Whether microphone, mute lamp and the headset's own state are one, in a call that the headset shows.

    And the bridge knows it: before it heard of the microphone the lamp is as dark as for a live one.
    """
    lamps, mic = model.headset.lamps, desk.softphone.mic
    own = model.headset.muted if not model.headset.firmware.maintained else mic
    states = {mic, bool(lamps & MUTE_LED), own} | (set() if muted is None else {muted})
    known = {device["lights"]["mic"] for device in desk.devices().values()}
    return len(states) == 1 and bool(lamps & OFF_HOOK_LED) and known == {"muted" if mic else "live"}


def wait_until_agreed(desk: Desk, model: Model, muted: bool | None = None) -> None:
    def seen() -> str:
        shown = [device["lights"]["mic"] for device in desk.devices().values()]
        return f"mic {desk.softphone.mic}, lamps {model.headset.lamps:#x}, headset {model.headset.muted}, shown {shown}"

    try:
        wait_until(lambda: agree(desk, model, muted), "agreement", 30)
    except TimeoutError:
        raise AssertionError(f"no agreement on {muted}: {seen()}") from None


def wait_until_lit(model: Model, muted: bool) -> None:
    wait_until(lambda: bool(model.headset.lamps & MUTE_LED) is muted, f"mute lamp {muted}")


def begin_call(desk: Desk) -> None:
    desk.softphone.do("ring")
    desk.softphone.do("connect")


class Daemon:
    """The daemon as a process; as a context manager it has to end in order."""

    def __init__(self, desk: Desk, config: str = "", *, user: int | None = None) -> None:
        self._config = desk.directory / "mutebridge.yaml"
        self._config.write_text(
            f"station: {STATION}\nlog_level: debug\nbroker: {{host: 127.0.0.1, port: {desk.broker.port}}}\n{config}"
        )
        self._user = user
        self._killed = False
        self.log: list[str] = []

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command("run"),
            env=self._environment,
            stderr=subprocess.PIPE,
            text=True,
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user is not None else None,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        code = self.process.wait(_STOP_S)
        self._reader.join(DEADLINE_S)
        if self._killed:
            return
        if error is not None:
            print("".join(self.log))
        else:
            assert code == 0, "".join(self.log)
            assert "Traceback" not in "".join(self.log), "".join(self.log)

    def kill(self) -> None:
        self._killed = True
        self.process.kill()
        self.process.wait(_STOP_S)
        self._reader.join(DEADLINE_S)

    def count(self, pattern: str) -> int:
        return sum(bool(re.search(pattern, line)) for line in list(self.log))

    def wait_for_log(self, pattern: str, times: int = 1) -> None:
        wait_until(lambda: self.count(pattern) >= times, f"{times} x {pattern!r} in {''.join(self.log)}")

    def devices(self, *options: str) -> str:
        """What `mutebridge devices` prints."""
        return subprocess.run(
            self._command("devices", *options),
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user is not None else None,
        ).stdout

    def _command(self, command: str, *options: str) -> list[str]:
        return [sys.executable, "-m", "mutebridge", command, "--config", str(self._config), *options]

    @property
    def _environment(self) -> dict[str, str]:
        paths = (str(REPOSITORY / "daemon"), os.environ.get("PYTHONPATH"))
        return {**os.environ, "PYTHONPATH": ":".join(path for path in paths if path)}

    def _read(self) -> None:
        assert self.process.stderr
        with self.process.stderr:
            for line in self.process.stderr:
                self.log.append(line)
