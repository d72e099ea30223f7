"""What only the browser's state machine has: a new start that knows the calls, a word on what became of a command."""

import base64
import json
from typing import Any

from tests.unit.javascript_protocol import JavaScript, needs_node

pytestmark = needs_node
C = "mutebridge/v1/desk/controller/phone"


def in_call(*, muted: bool) -> JavaScript:
    """At the broker, in a connected call."""
    protocol = JavaScript(
        station="desk",
        name="phone",
        epoch="e1",
        prefix="mutebridge/v1",
        heartbeatS=5,
        can=["set_mute"],
        clock={"wallMs": 0, "monotonicS": 0},
    )
    protocol.do("connected", 1)
    protocol.do("callChanged", "connected", "c1", 1)
    protocol.do("micChanged", muted, 1)
    return protocol


def command(protocol: JavaScript, **fields: Any) -> list[dict[str, Any]]:
    said = {"request_id": "r1", "action": "set_mute", "call_id": "c1", "epoch": "e1", "mic_seq": 99} | fields
    payload = json.dumps(said | {"expires_at": 3000}).encode()
    return protocol.do("received", f"{C}/command", base64.b64encode(payload).decode(), 1)


def test_a_new_start_knows_the_call_and_says_it_with_a_new_epoch() -> None:
    protocol = in_call(muted=True)
    protocol.do("renewed", "e2")
    assert protocol.state["up"] is False
    mic, call, online = (effect["payload"] for effect in protocol.do("connected", 2))
    assert (json.loads(mic)["muted"], json.loads(mic)["epoch"], json.loads(mic)["seq"]) == (True, "e2", 1)
    assert (json.loads(call)["state"], json.loads(call)["call_id"]) == ("connected", "c1")
    assert online == "online"
    assert protocol.do("callChanged", "ringing", "c2", 2) == [], "the first call still has the microphone"
    (refused,) = command(protocol, muted=True)
    assert json.loads(refused["payload"])["error"] == "stale", "it was meant for the start before"


def test_a_new_start_claims_no_muted_that_an_unmute_may_have_changed() -> None:
    protocol = in_call(muted=True)
    command(protocol, muted=False)
    assert protocol.do("begin", 1)
    protocol.do("renewed", "e2")
    assert protocol.do("connected", 2)[0]["payload"] == ""
    command(protocol, muted=True, epoch="e2")
    assert protocol.state["ready"] is False, "the softphone is still busy with the command before"
    protocol.do("performed", 2, None)
    assert protocol.state["ready"] is True


def test_what_became_of_a_command_is_told_once_and_without_a_broker_too() -> None:
    protocol = in_call(muted=False)
    command(protocol, muted=True)
    protocol.do("begin", 1)
    protocol.do("lost")
    protocol.do("micChanged", True, 1)
    (settled,) = protocol.settled()
    assert (settled["command"]["request_id"], settled["result"]["ok"]) == ("r1", True)
    protocol.do("connected", 2)
    command(protocol, muted=True)
    assert protocol.settled() == []
