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

    Availability first, so that what a dead controller left is known for that; every call before any mic state, so that
    no light comes on for one muted call before another, live one is known.
    """
    leaves = [("availability", 1), ("call", 1), ("mic", 1), ("result", 1)]
    return [(topics.controller("+", leaf), qos) for leaf, qos in leaves] + [
        (topics.bridge_availability, 1),
        (topics.bridge_device("+"), 1),
    ]


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
