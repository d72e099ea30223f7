"""How the scene looks on a terminal: a picture of the facts in, something for rich out."""

import msgspec
from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mutebridge.core.contract import DeviceState
from mutebridge.demo.scene import Moment

KEYS = {
    "space": "press",
    "p": "press the headset",
    "r": "ring",
    "c": "connect",
    "h": "hold",
    "e": "end",
    "m": "mute by hand",
    "s": "scope",
    "q": "quit",
    "o": "page",
}
_CALL_STYLE = {"connected": "bold green", "ringing": "bold yellow", "dialing": "bold yellow", "held": "bold blue"}
_ROWS_AROUND_THE_TIMELINE = 13


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to see. `light` is what the virtual button's lamp was told, in words.

    `headset_lit` is None where there is no virtual headset.
    """

    broker: str
    bridge_online: bool
    call: str
    muted: bool | None
    lit: bool
    light: str
    allowed: bool
    devices: tuple[DeviceState, ...]
    moments: tuple[Moment, ...]
    lies: tuple[str, ...] = ()
    headset_lit: bool | None = None
    has_page: bool = False


def render(picture: Picture, rows: int) -> RenderableType:
    """Return all of it, for a terminal of so many rows."""
    room = max(1, rows - _ROWS_AROUND_THE_TIMELINE - len(picture.devices) - len(picture.lies))
    return Group(
        _facts(picture),
        _devices(picture.devices),
        Panel(_timeline(picture.moments[-room:]), title="what happened", title_align="left", box=box.ROUNDED),
        _truth(picture.lies),
        _keys(without={"p" if picture.headset_lit is None else "", "" if picture.has_page else "o"}),
    )


def _facts(picture: Picture) -> Table:
    facts = Table(box=box.ROUNDED, expand=True, title="mutebridge demo", title_style="bold")
    cells = {
        "call": Text(picture.call, _CALL_STYLE.get(picture.call, "dim")),
        "microphone": _microphone(picture.muted),
        "virtual light": _lamp(picture.lit, picture.light),
        "bridge": Text("online" if picture.bridge_online else "offline", "green" if picture.bridge_online else "red"),
    }
    if picture.headset_lit is not None:
        cells["headset light"] = _lamp(picture.headset_lit, "dark")
    for head in cells:
        facts.add_column(head, ratio=1, justify="center")
    facts.add_row(*cells.values())
    facts.caption = picture.broker if picture.allowed else Text("the softphone lacks the scope to mute", "bold yellow")
    return facts


def _microphone(muted: bool | None) -> Text:
    return Text("-", "dim") if muted is None else Text("muted", "bold red") if muted else Text("live", "bold green")


def _lamp(lit: bool, word: str) -> Text:
    return Text("● on", "bold red") if lit else Text(f"○ {word or 'dark'}", "dim")


def _devices(devices: tuple[DeviceState, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 1), show_header=bool(devices), header_style="dim")
    for head in ("device", "kind", "press mode", "its lights, as the bridge wrote them"):
        table.add_column(head)
    for device in devices:
        lights = ", ".join(key if value is True else f"{key} {value}" for key, value in device.lights.items() if value)
        table.add_row(device.name, device.kind, device.press_mode.replace("_", " "), lights)
    return table


def _timeline(moments: tuple[Moment, ...]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), expand=True)
    table.add_column(justify="right", style="dim", no_wrap=True, width=8)
    table.add_column(no_wrap=True, width=10, style="cyan")
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for moment in moments:
        table.add_row(f"{moment.at_s:.3f}", moment.who, moment.text)
    return table


def _truth(lies: tuple[str, ...]) -> Text:
    if not lies:
        return Text("So far every light told the truth.", "green")
    return Text("\n".join(lies), "bold red")


def _keys(*, without: set[str]) -> Text:
    keys = Text(no_wrap=True, overflow="crop")
    for key, meaning in KEYS.items():
        if key in without:
            continue
        keys.append(key, "reverse").append(f" {meaning}  ")
    return keys
