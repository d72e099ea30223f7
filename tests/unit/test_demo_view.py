"""What the demo's live view shows of a state."""

import io

import msgspec
import pytest
from rich.console import Console

from mutebridge.core.contract import DeviceState
from mutebridge.demo.scene import Moment
from mutebridge.demo.view import KEYS, Picture, render


def moment(number: int) -> Moment:
    return Moment(at_s=number / 10, who="press", text=f"number {number}", call="connected", muted=True, lit=True)


PICTURE = Picture(
    broker="mosquitto, at 127.0.0.1:1883",
    bridge_online=True,
    call="connected",
    muted=True,
    lit=True,
    light="muted",
    allowed=True,
    devices=(
        DeviceState(
            name="Pedal",
            kind="serial",
            press_mode="push_to_talk",
            can=["press"],
            lights={"mic": "muted", "pending": None, "rejected": False, "off_hook": True},
        ),
    ),
    moments=tuple(map(moment, range(100))),
)


def shown(picture: Picture, rows: int = 40, columns: int = 120) -> list[str]:
    console = Console(width=columns, height=rows, file=io.StringIO())
    with console.capture() as captured:
        console.print(render(picture, rows))
    return captured.get().splitlines()


def test_it_shows_call_microphone_light_devices_and_keys() -> None:
    text = "\n".join(shown(PICTURE))
    for part in (
        "connected",
        "muted",
        "● on",
        "online",
        "127.0.0.1:1883",
        "every light told the truth",
        *(meaning for key, meaning in KEYS.items() if key not in "po"),
    ):
        assert part in text
    assert "Pedal    serial   push to talk   mic muted, off_hook" in text
    assert "headset" not in text


@pytest.mark.parametrize(("lit", "light"), [(True, "● on"), (False, "○ dark")])
def test_a_virtual_headset_has_its_light_and_its_key(lit: bool, light: str) -> None:
    picture = msgspec.structs.replace(PICTURE, lit=not lit, light="live", headset_lit=lit)
    lines = shown(picture)
    heads, values = ([cell.strip() for cell in lines[row].split("│")[1:-1]] for row in (2, 4))
    assert dict(zip(heads, values, strict=True))["headset light"] == light
    assert "p press the headset" in "\n".join(lines)


def test_a_page_has_its_key() -> None:
    assert "o page" in "\n".join(shown(msgspec.structs.replace(PICTURE, has_page=True)))
    assert "o page" not in "\n".join(shown(PICTURE))


@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (40, 120)])
def test_the_timeline_fills_the_terminal_with_the_newest_at_the_end(rows: int, columns: int) -> None:
    lines = shown(PICTURE, rows, columns)
    numbers = [line.split("number ")[1].split()[0] for line in lines if "number " in line]
    assert numbers == [str(number) for number in range(100 - len(numbers), 100)]
    assert len(lines) == rows - 1
    assert all(key in lines[-1] for key in KEYS)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"lit": False, "light": "wait"}, "○ wait"),
        ({"muted": False}, "live"),
        ({"allowed": False}, "lacks the scope"),
        ({"bridge_online": False}, "offline"),
        ({"lies": ("button: lit for 2 s",)}, "button: lit for 2 s"),
        ({"devices": ()}, "● on"),
    ],
)
def test_it_shows_what_is_otherwise(changes: dict[str, object], text: str) -> None:
    assert text in "\n".join(shown(msgspec.structs.replace(PICTURE, **changes)))
