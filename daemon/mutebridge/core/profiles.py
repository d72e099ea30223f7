"""What is known of kinds of devices, read from the files in `devices/`.

A profile names a kind of board, says how it is recognised among the device nodes, and how it speaks. A file there is a
mapping of profile ids to profiles. A profile with `match` is tried on every node; one without is used only where the
configuration names it, because nothing on the outside tells such a board from any other.

The vendor and product ids of a USB-serial bridge chip say nothing about the button behind it, so ids alone never select
a serial device: some string or path has to match too. A headset's ids are its own, and its descriptor says the rest, so
a headset's profile is a layer: all that match apply, the closest last. The globs know `*`, `?` and `[...]` and ignore
case.
"""

import enum
import fnmatch
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from mutebridge.core.button_protocol import SerialProtocol
from mutebridge.core.events import PressMode
from mutebridge.core.headset_profile import HeadsetProfile

Globs = str | tuple[str, ...]


class DeviceNode(msgspec.Struct, frozen=True, kw_only=True):
    """A device node that is there: `path` in /dev, the udev links to it, and what USB says of the device behind it.

    `vendor_id` and `product_id` are four lower-case hexadecimal digits; `links` are full paths, sorted.
    `physical_path` is the socket it is plugged into, as the kernel names it. `report_descriptor` is a HID device's.
    """

    path: str
    subsystem: str
    links: tuple[str, ...] = ()
    manufacturer: str | None = None
    product: str | None = None
    serial_number: str | None = None
    vendor_id: str | None = None
    product_id: str | None = None
    physical_path: str | None = None
    report_descriptor: bytes = b""
    driver: str | None = None

    @property
    def label(self) -> str:
        """How a person would name it."""
        return " ".join(part for part in (self.manufacturer, self.product) if part) or self.path


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a device is recognised: every condition that is given has to hold, each by one of its globs.

    `by_id` and `by_path` are names in /dev/serial/by-id and /dev/serial/by-path, with or without the directory.
    """

    by_id: Globs | None = None
    by_path: Globs | None = None
    manufacturer: Globs | None = None
    product: Globs | None = None
    serial_number: Globs | None = None
    vendor_id: Globs | None = None
    product_id: Globs | None = None

    def __post_init__(self) -> None:
        if not any(msgspec.structs.astuple(self)):
            raise ValueError(f"match: at least one of {', '.join(self.__struct_fields__)} is needed")
        for key in ("vendor_id", "product_id"):
            for glob in _each(getattr(self, key)):
                if not re.fullmatch(r"[0-9a-fA-F*?]{1,4}", glob):
                    raise ValueError(f'match: {key} {glob!r}: four hexadecimal digits in quotes, such as "239a"')

    @property
    def tells_more_than_ids(self) -> bool:
        """Whether a string or path selects the device, not only ids or wildcards."""
        strings = (self.by_id, self.by_path, self.manufacturer, self.product, self.serial_number)
        return any(re.search(r"[^*?]", glob) for globs in strings for glob in _each(globs))

    @property
    def closeness(self) -> int:
        """The more conditions without wildcards, the closer."""
        given = (getattr(self, key) for key in self.__struct_fields__)
        return sum(globs is not None and all(not re.search(r"[*?[]", glob) for glob in _each(globs)) for globs in given)

    def fits(self, node: DeviceNode) -> bool:
        own = {
            "by_id": _names(node.links, "/by-id/"),
            "by_path": _names(node.links, "/by-path/"),
            "manufacturer": (node.manufacturer or "",),
            "product": (node.product or "",),
            "serial_number": (node.serial_number or "",),
            "vendor_id": (node.vendor_id or "",),
            "product_id": (node.product_id or "",),
        }
        return all(
            any(_same(glob, value) for glob in _each(globs) for value in own[key])
            for key in self.__struct_fields__
            if (globs := getattr(self, key)) is not None
        )


Matches = Match | tuple[Match, ...]


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One kind of device. `source` says who saw that it behaves so; several `match` rules are alternatives.

    `serial` is how it speaks on a serial port, `headset` how it deviates from its report descriptor: one of the two.
    """

    id: str
    name: str
    source: str
    match: Matches | None = None
    press_mode: PressMode | None = None
    serial: SerialProtocol | None = None
    headset: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.headset is not None:
            if self.serial is not None:
                raise ValueError("'serial' and 'headset' are two ways to speak: give one")
            resolve_headset([self])
            return
        if self.serial is None:
            raise ValueError("'serial' is missing, or 'headset': it says how the device speaks")
        check_serial_matches(self.match)
        if not self.serial.does_something:
            raise ValueError("serial: it neither says what the button sends nor what to send to it")
        self.serial.check_press_mode(self.press_mode or self.serial.natural_press_mode)

    def fits(self, node: DeviceNode) -> bool:
        return self.closeness(node) is not None

    def closeness(self, node: DeviceNode) -> int | None:
        """How closely it describes this node; None: not at all."""
        if (node.subsystem == "hidraw") is not (self.headset is not None):
            return None
        return max((match.closeness for match in each_match(self.match) if match.fits(node)), default=None)


def each_match(matches: Matches | None) -> tuple[Match, ...]:
    if matches is None:
        return ()
    return matches if isinstance(matches, tuple) else (matches,)


def check_serial_matches(matches: Matches | None) -> None:
    """ValueError for a rule that would take any board with the same USB-serial chip."""
    for match in each_match(matches):
        if not match.tells_more_than_ids:
            raise ValueError(
                "match: ids say only which USB-serial chip it is, not which button: "
                "add by_id, by_path, manufacturer, product or serial_number"
            )


def headset_layers(profiles: Iterable[Profile], node: DeviceNode) -> tuple[Profile, ...]:
    """Return the profiles that fit a headset, the closest last; of equally close ones the later file counts more."""
    fitting = [(close, profile) for profile in profiles if (close := profile.closeness(node)) is not None]
    return tuple(profile for _, profile in sorted(fitting, key=lambda pair: pair[0]))


def resolve_headset(layers: Iterable[Profile], overrides: Mapping[str, Any] | None = None) -> HeadsetProfile:
    """Lay the profiles of a headset over one another, then the `headset` section of the configuration; ValueError."""
    keys = [profile.headset or {} for profile in layers] + [overrides or {}]
    return convert({key: value for layer in keys for key, value in layer.items()}, HeadsetProfile, "headset")


def profile_from_dict(raw: object, where: str) -> Profile:
    """Read one profile; ValueError says `where`, what is wrong and what is allowed."""
    return convert(raw, Profile, where)


def profiles_from_dict(raw: object, where: str) -> tuple[Profile, ...]:
    """Read a whole file of `devices/`: a mapping of profile ids to profiles; ValueError as above."""
    if not isinstance(raw, Mapping) or not raw:
        raise ValueError(f"{where}: a mapping of profile ids to profiles is expected")
    return tuple(_named_profile(key, body, where) for key, body in raw.items())


def _named_profile(key: object, body: object, where: str) -> Profile:
    if not re.fullmatch(r"[a-z0-9._-]{1,64}", str(key)):
        raise ValueError(f"{where}: {key!r}: a profile id has 1 to 64 of the letters a-z, digits, '.', '_' and '-'")
    return profile_from_dict({**body, "id": key} if isinstance(body, Mapping) else body, f"{where}: {key}")


_T = TypeVar("_T")


def convert(raw: object, kind: type[_T], where: str) -> _T:
    """Make a typed value of plain dicts and lists; ValueError says `where`, what is wrong and what is allowed."""
    try:
        return msgspec.convert(_unquoted_off(raw), kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{where}: {_explain(str(error), kind)}") from None


def _unquoted_off(raw: object) -> object:
    """YAML reads the bare key `off` as False."""
    if isinstance(raw, Mapping):
        return {"off" if key is False else key: _unquoted_off(value) for key, value in raw.items()}
    return raw


def _explain(message: str, kind: type[Any]) -> str:
    *outer, last = re.findall(r"[a-z_]+", message.rpartition("`$")[2]) or [""]
    if "unknown field" in message:
        struct = _struct_at(kind, (*outer, last))
        return f"{message}; allowed are {', '.join(struct.__struct_fields__)}"
    if "Invalid enum value" in message:
        words = _words_of(_struct_at(kind, outer).__annotations__.get(last))
        return f"{message}; allowed are {', '.join(words)}"
    if re.search(r"Expected `str[^`]*`, got `(int|bool|float)`", message):
        return f"{message}; a number, yes, no, on or off has to stand in quotes here"
    return message


def _struct_at(kind: type[msgspec.Struct], keys: Iterable[str]) -> type[msgspec.Struct]:
    """Return the struct in which `keys` end; where the way is lost, the last one that is known."""
    for key in keys:
        options = _options(kind.__annotations__.get(key))
        kind = next((o for o in options if isinstance(o, type) and issubclass(o, msgspec.Struct)), kind)
    return kind


def _options(annotation: object) -> tuple[object, ...]:
    return (annotation, *(inner for arg in getattr(annotation, "__args__", ()) for inner in _options(arg)))


def _words_of(annotation: object) -> list[str]:
    words: list[str] = []
    for option in _options(annotation):
        if isinstance(option, str):
            words.append(option)
        elif isinstance(option, type) and issubclass(option, enum.Enum):
            words += [str(member.value) for member in option]
    return words


def _each(globs: Globs | None) -> tuple[str, ...]:
    if globs is None:
        return ()
    return globs if isinstance(globs, tuple) else (globs,)


def _names(links: Iterable[str], directory: str) -> tuple[str, ...]:
    return tuple(form for link in links if directory in link for form in (link, link.rpartition("/")[2]))


def _same(glob: str, value: str) -> bool:
    return fnmatch.fnmatchcase(value.casefold(), glob.casefold())
