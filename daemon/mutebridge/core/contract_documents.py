"""The contract as documents for softphone developers: JSON Schemas, and an AsyncAPI 3 description.

Made from the types in `contract`, so that they cannot say something else; the files in `config/contract/` are what
this returns. The AsyncAPI document describes a session controller: what it sends, what it receives.
"""

from typing import Any

import msgspec

from mutebridge.core import contract
from mutebridge.core.contract import (
    MAX_PAYLOAD_BYTES,
    Call,
    CallState,
    Command,
    DeviceState,
    Mic,
    PressEvent,
    Result,
)

_MESSAGES: dict[str, type] = {
    "call": Call,
    "mic": Mic,
    "command": Command,
    "result": Result,
    "event": PressEvent,
    "device": DeviceState,
}
_BARE_WORDS = {
    "call": [state.value for state in CallState],
    "mic": ["muted", "unmuted"],
}
_CONTROLLER = "{prefix}/{station}/controller/{name}"
_BRIDGE = "{prefix}/{station}/bridge"

# channel: address, who sends, retained, QoS, what it is
_CHANNELS = {
    "availability": (f"{_CONTROLLER}/availability", "send", True, 1, "`online` or `offline`; also the will"),
    "call": (f"{_CONTROLLER}/call", "send", True, 1, "The call that uses the microphone"),
    "mic": (f"{_CONTROLLER}/mic", "send", True, 1, "What the microphone does, the only source of it"),
    "result": (f"{_CONTROLLER}/result", "send", False, 1, "The answer to one command"),
    "command": (f"{_CONTROLLER}/command", "receive", False, 0, "What a press asks for: absolute, and it expires"),
    "bridgeAvailability": (
        f"{_BRIDGE}/availability",
        "receive",
        True,
        1,
        "`online` or `offline`; at `online` publish mic, call and availability again",
    ),
    "event": (f"{_BRIDGE}/event", "receive", False, 0, "What became of a press, and why"),
    "device": (f"{_BRIDGE}/device/{{device}}", "receive", True, 1, "One attached device; empty when detached"),
}
_PARAMETERS = {
    "prefix": {"default": contract.DEFAULT_PREFIX, "description": "Levels separated by slashes"},
    "station": {"description": "The workstation, by default its host name: [a-z0-9._-]{1,64}"},
    "name": {"description": "The session controller: [a-z0-9._-]{1,64}"},
    "device": {"description": "The id of a device"},
}


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema (2020-12) of each JSON payload, by the last level of its topic."""
    return {name: _schema(name, kind) for name, kind in _MESSAGES.items()}


def asyncapi(version: str) -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document; it refers to the schemas as files beside it."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "mutebridge session controller",
            "version": version,
            "description": (
                "Between mutebridge, one per workstation, and whatever owns the softphone's microphone. "
                f"UTF-8, at most {MAX_PAYLOAD_BYTES} bytes; unknown fields are ignored, null means absent, an empty "
                "retained payload deletes."
            ),
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(name) for name in _CHANNELS},
        "operations": {f"{_CHANNELS[name][1]}_{name}": _operation(name) for name in _CHANNELS},
        "components": {"messages": {name: _message(name) for name in _CHANNELS}},
    }


def _schema(name: str, kind: type) -> dict[str, Any]:
    (made,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    defs = dict(components)
    top = defs.pop(made["$ref"].rpartition("/")[2])
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": name}
    return head | {k: v for k, v in top.items() if k != "title"} | ({"$defs": defs} if defs else {})


def _channel(name: str) -> dict[str, Any]:
    address, *_, what = _CHANNELS[name]
    return {
        "address": address,
        "description": what,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "parameters": {key: value for key, value in _PARAMETERS.items() if f"{{{key}}}" in address},
    }


def _operation(name: str) -> dict[str, Any]:
    _, action, retained, qos, _ = _CHANNELS[name]
    binding = {"qos": qos, "retain": retained} if action == "send" else {"qos": qos}
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
        "bindings": {"mqtt": binding | {"bindingVersion": "0.2.0"}},
    }


def _message(name: str) -> dict[str, Any]:
    if name.lower().endswith("availability"):
        return {"contentType": "text/plain", "payload": {"type": "string", "enum": ["online", "offline"]}}
    payload: dict[str, Any] = {"$ref": f"{name}.schema.json"}
    if name not in _BARE_WORDS:
        return {"payload": payload}
    words = {"type": "string", "enum": _BARE_WORDS[name], "description": "The bare word, without quotes"}
    return {"payload": {"oneOf": [payload, words]}}
