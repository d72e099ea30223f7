"""The documents that softphone developers get say what the types say."""

import json
from typing import Any

import jsonschema
import pytest
from tests.house.contract_documents import FOLDER, documents

from mutebridge.core import contract
from mutebridge.core.contract import Action, Call, CallState, Command, DeviceState, Mic, Outcome, PressEvent, Result

MESSAGES: dict[str, list[contract.Message]] = {
    "call": [Call(state=CallState.CONNECTED, call_id="c", epoch="e", seq=7, at=1.7e12, heartbeat_s=5)],
    "mic": [Mic(muted=True), Mic(muted=False, call_id="c", epoch="e", seq=8, at=1.7e12, request_id="r")],
    "command": [Command(request_id="r", action=Action.SET_MUTE, muted=True, expires_at=1.7e12)],
    "result": [
        Result(request_id="r", ok=True),
        Result(request_id="r", ok=False, error=contract.CommandError.STALE, detail="d"),
    ],
    "event": [PressEvent(press="p", device="d", gesture="press", outcome=Outcome.IGNORED, reason="not_connected")],
    "device": [DeviceState(name="n", kind="serial", press_mode="toggle", can=["mute_button"], lights={"mic": "off"})],
}


@pytest.mark.parametrize("name", documents())
def test_the_files_are_what_the_types_say(name: str) -> None:
    """Mend with: python3 tests/house/contract_documents.py."""
    assert (FOLDER / name).read_text() == documents()[name]


@pytest.mark.parametrize("name", MESSAGES)
def test_a_payload_is_valid(name: str) -> None:
    for message in MESSAGES[name]:
        jsonschema.validate(json.loads(contract.encode(message)), _schema(name))


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("call", {"state": "transferring"}),
        ("call", {"state": "connected", "seq": -1}),
        ("mic", {"muted": "yes"}),
        ("mic", {}),
        ("command", {"request_id": "r", "action": "toggle", "expires_at": 0}),
        ("result", {"request_id": "", "ok": True}),
    ],
)
def test_a_payload_that_breaks_the_contract_is_not(name: str, payload: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(payload, _schema(name))


def test_unknown_fields_and_null_are_allowed() -> None:
    jsonschema.validate({"muted": True, "call_id": None, "later": 1}, _schema("mic"))


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = json.loads((FOLDER / "asyncapi.json").read_text())
    references = list(_references(document))
    assert len(references) > 20
    for reference in references:
        if not reference.startswith("#/"):
            assert (FOLDER / reference).is_file()
            continue
        place = document
        for level in reference[2:].split("/"):
            place = place[level]


def test_a_controller_sends_what_is_retained_by_the_contract() -> None:
    document = json.loads((FOLDER / "asyncapi.json").read_text())
    retained = {name for name, op in document["operations"].items() if op["bindings"]["mqtt"].get("retain")}
    assert retained == {"send_availability", "send_call", "send_mic"}


def _schema(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.schema.json").read_text())


def _references(value: Any) -> Any:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)
