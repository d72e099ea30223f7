"""What only the Python controller says: for how long a softphone that is far away is still wanted to act."""

import pytest
from tests.unit.test_controller_protocol import Phone

from mutebridge.core.contract import CallState


def test_a_command_is_wanted_until_its_expiry_its_answer_or_the_end_of_the_call() -> None:
    phone = Phone(confirm_timeout_s=5.0).connect().call(CallState.CONNECTED).mic(False)
    assert phone.protocol.time_left_s(phone.now) == 0.0
    phone.command(muted=True)
    phone.begin()
    assert phone.protocol.time_left_s(phone.now) == pytest.approx(2.0)
    assert phone.protocol.time_left_s(phone.now + 3) == 0.0
    phone.call(CallState.HELD)
    assert phone.protocol.time_left_s(phone.now) == 0.0


def test_a_command_is_wanted_no_longer_than_its_answer_is_waited_for() -> None:
    phone = Phone(confirm_timeout_s=0.5).connect().call(CallState.CONNECTED).mic(False)
    phone.command(muted=True)
    phone.begin()
    assert phone.protocol.time_left_s(phone.now) == pytest.approx(0.5)
