"""The controller for Genesys Cloud: real HTTP, WebSocket, broker, daemon and button, before a stand-in of the cloud."""

from pathlib import Path

import pytest
from tests.integration import controller_timeline
from tests.integration.daemon_station import Station
from tests.integration.genesys_desk import Desk
from tests.integration.genesys_stand_in import GenesysStandIn
from tests.integration.mosquitto import Mosquitto

pytestmark = pytest.mark.broker


def test_it_plays_the_timeline_of_every_controller(tmp_path: Path, mosquitto: Mosquitto) -> None:
    with (
        GenesysStandIn() as genesys,
        Station(tmp_path, mosquitto.port, softphone=False) as station,
        Desk(tmp_path, genesys, mosquitto.port) as desk,
    ):
        played = controller_timeline.play(station, desk)
    assert played == [str(step) for step in controller_timeline.read()]
