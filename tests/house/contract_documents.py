"""Writes the documents of the contract for softphone developers: `python3 tests/house/contract_documents.py`."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "config" / "contract"
sys.path.insert(0, str(ROOT / "daemon"))

from mutebridge import __version__  # noqa: E402 -- found by the line above
from mutebridge.core.contract_documents import asyncapi, schemas  # noqa: E402


def documents() -> dict[str, str]:
    """Return the text of each file, by its name."""
    made = {f"{name}.schema.json": schema for name, schema in schemas().items()}
    made["asyncapi.json"] = asyncapi(__version__)
    return {name: json.dumps(document, indent=2) + "\n" for name, document in made.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in documents().items():
        (FOLDER / name).write_text(text)
