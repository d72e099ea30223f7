"""A visit to the broker that disturbs nobody: tries what the bridge needs there, and listens to its controllers.

Every message of the visit is one that nobody acts on:

* It comes under a client id of its own, so the daemon's connection stands (unless the broker makes the user's name the
  client id of all its clients: then the daemon has to connect anew, within a second).
* `P/bridge/availability` gets an empty message, not retained: controllers wait for the words, and what is retained
  stays.
* `P/bridge/device/{id}` gets what takes a device away, for one that never was there.
* `P/bridge/event` gets an event of the contract, of a press that was ignored, by a device named like the doctor.
* `C/command` gets a command that has expired, for a controller whose name no controller can have.
"""

import math
import secrets
import time
from collections.abc import Sequence

from mutebridge.config import Config
from mutebridge.core import contract, messages
from mutebridge.core.contract import Action, CallState, Command, Outcome, PayloadError, PressEvent, Source, Topics
from mutebridge.doctor.facts import BrokerFacts
from mutebridge.edges.broker.rights import Heard, Trial, visit

# Of the controllers' heartbeats, which are 5 s apart, one comes in this time.
LISTEN_S = 6.0


def visit_broker(config: Config, timeout_s: float) -> BrokerFacts:
    """Try everything that the bridge needs; takes as long as a heartbeat where a call is connected."""
    topics = Topics(config.station, config.prefix)
    name = f"doctor-{secrets.token_hex(6)}"
    # No controller's name has a tilde, so the daemon passes over it, and no controller listens there.
    command_topic = topics.controller(f"~{name}", "command")
    device_topic = topics.bridge_device(name)
    trials = [
        Trial(topics.bridge_availability, b""),
        Trial(device_topic, b"", retain=True),
        Trial(topics.bridge_event, contract.encode(_event(name))),
        Trial(command_topic, contract.encode(_command(name))),
    ]
    needed = [topic for topic, _ in messages.subscriptions(topics)]
    commands = topics.controller("+", "command")
    found = visit(
        config.broker,
        client_id=f"mutebridge-{name}",
        subscriptions=[*needed, commands, topics.bridge_event],
        trials=trials,
        enough=lambda heard: _alive(topics, heard),
        timeout_s=timeout_s,
    )
    shown = {
        topics.bridge_availability: topics.bridge_availability,
        device_topic: topics.bridge_device("+"),
        topics.bridge_event: topics.bridge_event,
        command_topic: commands,
    }
    return BrokerFacts(
        settings=config.broker,
        topics=topics,
        visit=found,
        publish=shown,
        subscribe=tuple(needed),
        proof_of_reading=command_topic,
        commands=commands,
        now_ms=time.time() * 1000,
    )


def _event(name: str) -> PressEvent:
    return PressEvent(
        press=name,
        device=name,
        gesture="none",
        outcome=Outcome.IGNORED,
        reason="doctor",
        detail="no press: mutebridge doctor tries whether this may be published",
    )


def _command(name: str) -> Command:
    return Command(
        request_id=name, action=Action.SET_MUTE, muted=True, expires_at=0, call_id=name, source=Source(device=name)
    )


def _alive(topics: Topics, heard: Sequence[Heard]) -> bool:
    """Whether every controller whose connected call has a heartbeat was heard, or cannot be in time."""
    awaited = {}
    for each in heard:
        controller, leaf = _split(topics, each.topic)
        if leaf == "call":
            awaited[controller] = _heartbeat_s(each) <= LISTEN_S
        elif leaf == "mic" and not each.retained:
            awaited[controller] = False
    return not any(awaited.values())


def _split(topics: Topics, topic: str) -> tuple[str, str]:
    levels = topic.removeprefix(f"{topics.root}/").split("/")
    return (levels[1], levels[2]) if len(levels) == 3 and levels[0] == "controller" else ("", "")


def _heartbeat_s(heard: Heard) -> float:
    """In a connected call, else infinity."""
    try:
        call = contract.decode_call(heard.topic, heard.payload)
    except PayloadError:
        return math.inf
    connected = call is not None and call.state is CallState.CONNECTED
    return call.heartbeat_s or math.inf if call is not None and connected else math.inf
