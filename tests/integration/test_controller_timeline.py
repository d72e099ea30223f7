"""The project's own controller and its softphone play the call that every controller plays."""

from pathlib import Path

import pytest
from tests.integration import controller_timeline
from tests.integration.daemon_softphone import Softphone
from tests.integration.daemon_station import Station
from tests.integration.mosquitto import Mosquitto

from mutebridge.controller.softphone import MUTE_SCOPE

pytestmark = pytest.mark.broker


class SimulatedFar:
    """The softphone of `mutebridge simulate`."""

    name = "phone"

    def __init__(self, softphone: Softphone) -> None:
        self._phone = softphone.phone

    def do(self, step: str) -> None:
        match step:
            case "mute" | "unmute":
                self._phone.hand(step == "mute")
            case "take_scope":
                self._phone.scopes.discard(MUTE_SCOPE)
            case "give_scope":
                self._phone.scopes.add(MUTE_SCOPE)
            case _:
                self._phone.do(step)

    def is_muted(self) -> bool | None:
        return self._phone.mic


def test_the_simulated_softphone_plays_the_timeline(tmp_path: Path, mosquitto: Mosquitto) -> None:
    with Station(tmp_path, mosquitto.port) as station:
        played = controller_timeline.play(station, SimulatedFar(station.softphone))
    assert played == [str(step) for step in controller_timeline.read()]
