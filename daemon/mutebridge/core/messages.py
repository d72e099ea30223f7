"""What a message from the broker means to the bridge: topic and payload in, event out.

A payload that cannot be read becomes an event as well (`Unreadable`), because it makes a state unknown.
"""

from collections.abc import Callable
from typing import TypeVar

from mutebridge.core import contract
from mutebridge.core.contract import PayloadError, Topics
from mutebridge.core.events import (
    AvailabilityChanged,
    CallStateChanged,
    CommandAnswered,
    Event,
    MicStateChanged,
    OwnAvailabilitySeen,
    OwnDeviceSeen,
    Unreadable,
)

_T = TypeVar("_T")


def subscriptions(topics: Topics) -> list[tuple[str, int]]:
    """Topic filters and QoS, in the order in which a broker answers with what it has retained.

    At QoS 0: no session outlives a connection, and within one TCP loses nothing; the states are retained, so that a new
    connection begins with the last ones. An acknowledgement of each message would only cost time.
    Availability first, so that what a dead controller left is known for that; every call before any mic state, so that
    no light comes on for one muted call before another, live one is known.
    """
    said_by_controllers = [topics.controller("+", leaf) for leaf in ("availability", "call", "mic", "result")]
    return [(topic, 0) for topic in (*said_by_controllers, topics.bridge_availability, topics.bridge_device("+"))]


def event_of(topics: Topics, topic: str, payload: bytes, *, retained: bool) -> Event | None:
    """Read one message; None where it says nothing to the bridge."""
    levels = topic.removeprefix(topics.root + "/").split("/")
    match levels:
        case ["controller", name, leaf]:
            return _from_controller(name, leaf, topic, payload, retained=retained)
        case ["bridge", "availability"] if payload:
            return OwnAvailabilitySeen(online=payload.strip() == b"online")
        case ["bridge", "device", device_id] if payload and retained:
            return OwnDeviceSeen(device_id)
    return None


def _from_controller(name: str, leaf: str, topic: str, payload: bytes, *, retained: bool) -> Event | None:
    try:
        contract.valid_name("controller", name)
    except ValueError:
        return None
    match leaf:
        case "availability":
            return AvailabilityChanged(name, _read(contract.decode_availability, topic, payload))
        case "call":
            return CallStateChanged(name, _read(contract.decode_call, topic, payload), retained)
        case "mic":
            return MicStateChanged(name, _read(contract.decode_mic, topic, payload), retained)
        case "result":
            return CommandAnswered(name, _read(contract.decode_result, topic, payload))
    return None


def _read(decode: Callable[[str, bytes], _T], topic: str, payload: bytes) -> _T | Unreadable:
    try:
        return decode(topic, payload)
    except PayloadError as error:
        return Unreadable(str(error))
