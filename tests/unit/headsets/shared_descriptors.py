"""Descriptors of real devices, read where they lie beside the repository; they are not part of it."""

import functools
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[4] / "shared" / "descriptors"


@functools.cache
def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def devices() -> list[Any]:
    """Return a pytest parameter for each device file."""
    return [pytest.param(_read(path), id=path.stem) for path in sorted(FOLDER.glob("[!_]*.yaml"))]


def edge_cases() -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in _read(FOLDER / "_edge_cases.yaml")]


def edge_case_bytes(case: dict[str, Any]) -> bytes:
    if "descriptor" in case:
        return bytes.fromhex(case["descriptor"].replace(" ", ""))
    repeat = case["descriptor_repeat"]
    return bytes.fromhex(repeat.get("first", "") + repeat["byte"] * repeat["times"] + repeat["then"])
