"""What a HID device says of its reports: where in which report a usage is found.

A report descriptor (HID 1.11, 6.2.2) is a list of items: *Global* ones set values that stay, *Local* ones describe the
next *Main* item, and Main items declare data fields or open and close collections. `parse` turns the bytes into
`Field`s, one for each Input, Output or Feature item that has a usage; items without one are padding and only take room.

What a field keeps is what the descriptor says, never multiplied out: usages stay ranges, a thousand bits stay a count.
So time and memory grow with the bytes of the descriptor, not with the numbers in it.

Three rules are easily got wrong, and real headsets depend on each:

* A Constant field with a usage is live. Some headsets flag their Hook Switch and Phone Mute so, and still change them.
* The usage page binds at the Main item (6.2.2.8), but some devices and programs read the one in force at the Usage
  item. `UsageRange` keeps both; a lookup goes by the rule unless it asks for either.
* With fewer usages than fields, the last one is repeated; with more, the rest is void.

A descriptor is untrusted input. `DescriptorError` is the only error, and says at which byte.
"""

import enum
from collections.abc import Iterator

import msgspec

from mutebridge.core.usages import Usage

MAX_DESCRIPTOR_BYTES = 4096  # what Linux' hidraw can hand out (HID_MAX_DESCRIPTOR_SIZE)
MAX_REPORT_BYTES = 16384  # what Linux' HID core transfers at most (HID_MAX_BUFFER_SIZE)

_LONG_ITEM = 0xFE
_DATA_BYTES = (0, 1, 2, 4)  # by size code: 3 means 4 bytes


class DescriptorError(ValueError):
    """A descriptor that cannot be read. `offset` is the byte at which the item in question starts."""

    def __init__(self, offset: int, problem: str) -> None:
        super().__init__(f"byte {offset} of the report descriptor: {problem}")
        self.offset = offset
        self.problem = problem


class Direction(enum.Enum):
    INPUT = "input"
    OUTPUT = "output"
    FEATURE = "feature"


class UsageRange(msgspec.Struct, frozen=True):
    """The usages `first` to `last` of `page`; `page_at_usage` differs if the page was changed before the Main item."""

    page: int
    first: int
    last: int
    page_at_usage: int

    def __len__(self) -> int:
        return self.last - self.first + 1


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One Input, Output or Feature item that has a usage.

    `bit` is its offset in bits from the first byte after the report id, or from the first byte in a report without id.
    `size` is the bits of one control, `count` the number of controls; an array has `count` slots, each of which names
    one of its usages by number, starting from `logical_min`. `report_id` is 0 for none. `alternatives` are further
    usages for the control at a position (the rest of a delimited set). `application` is the innermost Application
    collection, `top_level` the outermost collection of any type. `offset` is the item's byte in the descriptor.
    """

    direction: Direction
    report_id: int
    bit: int
    size: int
    count: int
    usages: tuple[UsageRange, ...]
    alternatives: tuple[tuple[int, UsageRange], ...] = ()
    logical_min: int
    logical_max: int
    flags: int
    application: Usage | None
    top_level: Usage | None
    offset: int

    @property
    def constant(self) -> bool:
        return bool(self.flags & 0x01)

    @property
    def array(self) -> bool:
        """A Constant one without the Variable bit is none: its author wanted single bits (hid-tools reads it so)."""
        return not self.flags & 0x03

    @property
    def relative(self) -> bool:
        return bool(self.flags & 0x04)

    @property
    def no_preferred(self) -> bool:
        return bool(self.flags & 0x20)

    @property
    def null_state(self) -> bool:
        return bool(self.flags & 0x40)

    def positions(self) -> int:
        """How many usages the field has room for: of a variable its controls, of an array the values that fit."""
        if not self.array or not self.count:
            return self.count
        # Without slots the size may be any number; of one slot it is at most a report's.
        signed = self.logical_min < 0
        fits = (1 << max(self.size - signed, 0)) - 1
        return max(0, min(self.logical_max, fits) - self.logical_min + 1)

    def position_of(self, usage: Usage, *, either_page: bool = False) -> int | None:
        """Return the first position of a usage, or None; with `either_page` by both readings of the usage page."""
        page, usage_id = usage
        room = self.positions()
        start = 0
        for usages in self.usages:
            if start >= room:
                break
            if _has(usages, page, usage_id, either_page):
                position = start + usage_id - usages.first
                return position if position < room else None
            start += len(usages)
        for position, usages in self.alternatives:
            if position < room and _has(usages, page, usage_id, either_page):
                return position
        return None


class Place(msgspec.Struct, frozen=True):
    """Where a usage is: the control at `position` of a variable field, the value that selects it in an array."""

    field: Field
    position: int

    @property
    def bit(self) -> int:
        return self.field.bit + (0 if self.field.array else self.position * self.field.size)

    @property
    def value(self) -> int:
        """The value that stands for the usage in the slots of an array."""
        return self.field.logical_min + self.position


class ReportDescriptor(msgspec.Struct, frozen=True, kw_only=True):
    """`fields` in the order of the descriptor; `report_bits` is the length of each report without the id byte."""

    fields: tuple[Field, ...]
    report_bits: dict[tuple[Direction, int], int]

    def numbered(self, direction: Direction) -> bool:
        """Whether the reports of this direction start with an id byte."""
        return any(report_id for of, report_id in self.report_bits if of is direction)

    def report_bytes(self, direction: Direction, report_id: int) -> int:
        """Return the length of a report without its id byte."""
        return (self.report_bits.get((direction, report_id), 0) + 7) // 8

    def find(self, usage: Usage, direction: Direction, *, either_page: bool = False) -> Iterator[Place]:
        """Yield where a usage is, the first place in each field that has it."""
        for field in self.fields:
            if field.direction is direction:
                position = field.position_of(usage, either_page=either_page)
                if position is not None:
                    yield Place(field, position)


def parse(descriptor: bytes) -> ReportDescriptor:
    """Read a report descriptor; DescriptorError says at which byte it is broken, and how."""
    if len(descriptor) > MAX_DESCRIPTOR_BYTES:
        raise DescriptorError(
            MAX_DESCRIPTOR_BYTES, f"it is {len(descriptor)} bytes long, where {MAX_DESCRIPTOR_BYTES} are the most"
        )
    return _Parser().parse(descriptor)


def _has(usages: UsageRange, page: int, usage_id: int, either_page: bool) -> bool:
    if not usages.first <= usage_id <= usages.last:
        return False
    return usages.page == page or (either_page and usages.page_at_usage == page)


class _Globals(msgspec.Struct, frozen=True):
    """The Global state, whole: Push saves it and Pop restores it, the report id included."""

    page: int = 0
    logical_min: int = 0
    logical_max_data: bytes = b""
    size: int = 0
    count: int = 0
    report_id: int = 0


class _LocalUsage(msgspec.Struct, frozen=True):
    """Usages before the Main item; `page` is None where the Main item's will bind."""

    page: int | None
    first: int
    last: int
    page_at_usage: int

    def bound(self, page: int) -> UsageRange:
        return UsageRange(page if self.page is None else self.page, self.first, self.last, self.page_at_usage)


_MAIN = {0x8: Direction.INPUT, 0x9: Direction.OUTPUT, 0xB: Direction.FEATURE}
_COLLECTION, _END_COLLECTION = 0xA, 0xC
_APPLICATION = 0x01


class _Parser:
    def __init__(self) -> None:
        self._globals = _Globals()
        self._pushed: list[_Globals] = []
        self._open: list[tuple[Usage | None, int, int]] = []  # usage, type, offset of each open collection
        self._application: list[Usage | None] = [None]
        self._fields: list[Field] = []
        self._bits: dict[tuple[Direction, int], int] = {}
        self._offset = 0
        self._forget_locals()

    def parse(self, descriptor: bytes) -> ReportDescriptor:
        by_type = (self._main, self._global, self._local)
        end = len(descriptor)
        at = 0
        while at < end:
            self._offset = at
            prefix = descriptor[at]
            if prefix == _LONG_ITEM:
                at = self._after_long_item(descriptor)
                continue
            size = _DATA_BYTES[prefix & 0x03]
            data = descriptor[at + 1 : at + 1 + size]
            if len(data) < size:
                raise self._error(f"the item 0x{prefix:02x} needs {size} bytes of data and {len(data)} are left")
            item_type = prefix >> 2 & 0x03
            if item_type < 3:  # type 3 is reserved
                by_type[item_type](prefix >> 4, data)
            at += 1 + size
        if self._open:
            raise DescriptorError(self._open[-1][2], "the collection that starts here is never closed")
        return ReportDescriptor(fields=tuple(self._fields), report_bits=self._bits)

    def _error(self, problem: str) -> DescriptorError:
        return DescriptorError(self._offset, problem)

    def _after_long_item(self, descriptor: bytes) -> int:
        """Long items carry nothing that is defined: skip (6.2.2.3: prefix, size, tag, data)."""
        start = self._offset
        if start + 3 > len(descriptor) or start + 3 + descriptor[start + 1] > len(descriptor):
            raise self._error("the long item runs past the end")
        return start + 3 + descriptor[start + 1]

    # --- Main items

    def _main(self, tag: int, data: bytes) -> None:
        if self._maximum is not None:  # its minimum never came
            self._add_range((None, 0), self._maximum)
        direction = _MAIN.get(tag)
        if direction is not None:
            self._add_field(direction, int.from_bytes(data, "little"))
        elif tag == _COLLECTION:
            self._open_collection(int.from_bytes(data, "little"))
        elif tag == _END_COLLECTION:
            self._close_collection()
        self._forget_locals()

    def _open_collection(self, kind: int) -> None:
        usage = None
        if self._usages:
            first = self._usages[0].bound(self._globals.page)
            usage = (first.page, first.first)
        self._open.append((usage, kind, self._offset))
        if kind == _APPLICATION:
            self._application.append(usage)

    def _close_collection(self) -> None:
        if not self._open:
            raise self._error("an End Collection with no collection open")
        if self._open.pop()[1] == _APPLICATION:
            self._application.pop()

    def _add_field(self, direction: Direction, flags: int) -> None:
        state = self._globals
        bit = self._bits.get((direction, state.report_id), 0)
        end = bit + state.size * state.count
        if end > 8 * MAX_REPORT_BYTES:
            raise self._error(
                f"{state.count} controls of {state.size} bits make the {direction.value} report {state.report_id}"
                f" longer than {MAX_REPORT_BYTES} bytes"
            )
        self._bits[direction, state.report_id] = end
        if not self._usages:
            return
        self._fields.append(
            Field(
                direction=direction,
                report_id=state.report_id,
                bit=bit,
                size=state.size,
                count=state.count,
                usages=tuple([usage.bound(state.page) for usage in self._usages]),
                alternatives=tuple([(at, usage.bound(state.page)) for at, usage in self._alternatives]),
                logical_min=state.logical_min,
                logical_max=_logical_max(state),
                flags=flags,
                application=self._application[-1],
                top_level=self._open[0][0] if self._open else None,
                offset=self._offset,
            )
        )

    # --- Global items

    def _global(self, tag: int, data: bytes) -> None:
        match tag:
            case 0x0:
                self._set(page=int.from_bytes(data, "little") & 0xFFFF)
            case 0x1:
                self._set(logical_min=int.from_bytes(data, "little", signed=True))
            case 0x2:
                self._set(logical_max_data=data)
            case 0x7:
                self._set(size=int.from_bytes(data, "little"))
            case 0x8:
                self._set(report_id=self._valid_report_id(int.from_bytes(data, "little")))
            case 0x9:
                self._set(count=int.from_bytes(data, "little"))
            case 0xA:
                self._pushed.append(self._globals)
            case 0xB:
                if not self._pushed:
                    raise self._error("a Pop without a Push before it")
                self._globals = self._pushed.pop()

    def _set(self, **values: object) -> None:
        self._globals = msgspec.structs.replace(self._globals, **values)

    def _valid_report_id(self, report_id: int) -> int:
        if not 1 <= report_id <= 255:
            raise self._error(f"report id {report_id}; an id is 1 to 255")
        return report_id

    # --- Local items

    def _forget_locals(self) -> None:
        self._usages: list[_LocalUsage] = []
        self._alternatives: list[tuple[int, _LocalUsage]] = []
        self._positions = 0
        self._minimum: tuple[int | None, int] | None = None
        self._maximum: tuple[int | None, int] | None = None  # one that came before its minimum
        self._delimited: int | None = None  # usages seen in the open set

    def _local(self, tag: int, data: bytes) -> None:
        match tag:
            case 0x0:
                page, usage = _page_and_usage(data)
                self._add_usages(page, usage, usage)
            case 0x1:
                self._minimum = _page_and_usage(data)
                if self._maximum is not None:
                    self._add_range(self._minimum, self._maximum)
                    self._minimum = self._maximum = None
            case 0x2:
                maximum = _page_and_usage(data)
                if self._minimum is None:
                    self._maximum = maximum
                else:
                    self._add_range(self._minimum, maximum)
            case 0xA:
                self._delimit(opens=int.from_bytes(data, "little") == 1)

    def _add_range(self, minimum: tuple[int | None, int], maximum: tuple[int | None, int]) -> None:
        page = maximum[0] if minimum[0] is None else minimum[0]
        self._add_usages(page, minimum[1], maximum[1])

    def _add_usages(self, page: int | None, first: int, last: int) -> None:
        if last < first:
            return
        usages = _LocalUsage(page, first, last, self._globals.page if page is None else page)
        if self._delimited:
            self._alternatives.append((self._positions - 1, usages))
        else:
            self._usages.append(usages)
            self._positions += last - first + 1
        if self._delimited is not None:
            self._delimited += 1

    def _delimit(self, *, opens: bool) -> None:
        if opens == (self._delimited is not None):
            raise self._error("a delimiter inside another" if opens else "the end of a delimited set that never began")
        self._delimited = 0 if opens else None


def _page_and_usage(data: bytes) -> tuple[int | None, int]:
    """A usage of 4 bytes brings its page (6.2.2.8)."""
    usage = int.from_bytes(data, "little")
    return (usage >> 16, usage & 0xFFFF) if len(data) == 4 else (None, usage)


def _logical_max(state: _Globals) -> int:
    """Signed; but a maximum below a minimum that is not negative was coded unsigned, as in `15 00 25 FF`."""
    data = state.logical_max_data
    signed = int.from_bytes(data, "little", signed=True)
    if state.logical_min >= 0 and signed < state.logical_min:
        return int.from_bytes(data, "little")
    return signed
