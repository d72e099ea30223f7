"""Finds the report descriptors in what a person has at hand.

`find_descriptors` takes the whole content of a file and tells by itself what it is:

* a binary file, as the kernel shows it (`/sys/class/hidraw/hidraw0/device/report_descriptor`);
* what hid-recorder prints: `R:`, the number of bytes in decimal, the bytes in hexadecimal; `N:` and `I:` tell the name
  and bus, vendor and product id, `D:` begins the next device;
* what usbhid-dump prints: a line such as `001:002:000:DESCRIPTOR 1372692415.123456`, lines of bytes below it;
* what hexdump, xxd and od print, with their offsets;
* bytes in hexadecimal, with or without blanks, commas, colons or `0x`, or as an array in a program, with its comments;
  what the kernel adds to them in /sys/kernel/debug/hid/*/rdesc is passed over.

The content is untrusted. `DescriptorTextError` is the only error, and says at which byte of it. What the bytes of a
descriptor mean is the business of `report_descriptor`.
"""

import re
from collections.abc import Iterator

import msgspec

from mutebridge.core.report_descriptor import MAX_DESCRIPTOR_BYTES

MAX_CONTENT_BYTES = 4 << 20  # hid-recorder goes on with every report that comes
MAX_DESCRIPTORS = 64

_TEXT = re.compile(rb"[\t\n\r\x20-\x7e]*")
_RECORDER = re.compile(rb"^R:", re.MULTILINE)
_DUMP = re.compile(rb"^([0-9]{3}:[0-9]{3}:[0-9]{3}):([A-Z]+)\b.*$", re.MULTILINE)
_LINE = re.compile(rb"[^\r\n]+")
_COMMENT = re.compile(rb"//[^\n]*|#[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_WORD = re.compile(rb"[^\s,;:_|\\'\"{}\[\]()-]+")
_HEX = re.compile(rb"(?:0?[xX])?([0-9a-fA-F]+)")
_BYTES_LITERAL = re.compile(rb"\bb(?=['\"])")
_LABEL = re.compile(rb"\s*+['\"]?[\w .]{0,40}?[g-zG-Z][\w .]{0,40}['\"]?\s?[:=]\s*(?:\([0-9]+ bytes\))?")
_ARRAY = re.compile(rb"[{\[(]\s*(?=0[xX][0-9a-fA-F]{1,2}\s*,)")
_END_OF_ARRAY = re.compile(rb"[}\])]")
_KERNELS_READING = re.compile(rb"\n[ \t]{0,8}(?:INPUT|OUTPUT|FEATURE)(?:\([0-9]+\))?\[")
_OFFSET = re.compile(rb"[ \t]*([0-9a-fA-F]{6,8})(:?)(?=\s|$)")
_DUMPED = re.compile(rb"[ \t]+((?:[0-9a-fA-F]{4}|[0-9a-fA-F]{2})(?![^\s|>]))")
_IDS = re.compile(rb"\s*[0-9a-fA-F]+\s+([0-9a-fA-F]{4})\s+([0-9a-fA-F]{4})\s*")
_BOM = b"\xef\xbb\xbf"


class DescriptorTextError(ValueError):
    """Content without a report descriptor that can be read. `offset` is the byte of the content in question."""

    def __init__(self, offset: int, problem: str) -> None:
        super().__init__(f"byte {offset}: {problem}")
        self.offset = offset


class FoundDescriptor(msgspec.Struct, frozen=True, kw_only=True):
    """One report descriptor, and what was said of its device; ids are four lower-case hexadecimal digits."""

    descriptor: bytes
    name: str | None = None
    vendor_id: str | None = None
    product_id: str | None = None


def find_descriptors(content: bytes) -> tuple[FoundDescriptor, ...]:
    """Return all that are there, at least one; DescriptorTextError."""
    if len(content) > MAX_CONTENT_BYTES:
        raise DescriptorTextError(MAX_CONTENT_BYTES, f"there is more than the {MAX_CONTENT_BYTES} bytes that are read")
    if not content.strip():
        raise DescriptorTextError(0, "there is nothing")
    # A name may hold anything, so these two are known by their lines.
    if _RECORDER.search(content):
        return _bounded(_in_recording(content))
    if _DUMP.search(content):
        return _bounded(_in_dump(content))
    start = len(_BOM) if content.startswith(_BOM) else 0
    if not _TEXT.fullmatch(content, start):
        return (FoundDescriptor(descriptor=content),)
    if (offset := _OFFSET.match(content, start)) and not offset[1].strip(b"0"):
        return (FoundDescriptor(descriptor=_with_offsets(content, start)),)
    reading = _KERNELS_READING.search(content, start)
    return _bounded(_in_text(content, start, reading.start() if reading else len(content)))


def _bounded(found: Iterator[FoundDescriptor]) -> tuple[FoundDescriptor, ...]:
    return tuple(one for one, _ in zip(found, range(MAX_DESCRIPTORS), strict=False))


# --- hid-recorder


def _in_recording(content: bytes) -> Iterator[FoundDescriptor]:
    """Yield one for each `R:`; a device's `N:` and `I:` follow it or stand before it, up to the next `D:`."""
    device: dict[str, str] = {}
    descriptor: bytes | None = None
    for line in _LINE.finditer(content):
        kind, said = line[0][:2], line[0][2:]
        if descriptor is not None and kind in (b"D:", b"R:"):
            yield FoundDescriptor(descriptor=descriptor, **device)
            descriptor, device = None, {}
        match kind:
            case b"R:":
                descriptor = _counted(content, line.start() + 2, line.end())
            case b"N:":
                device["name"] = said.decode(errors="replace").strip()
            case b"I:" if ids := _IDS.fullmatch(said):
                device["vendor_id"], device["product_id"] = ids[1].decode().lower(), ids[2].decode().lower()
    if descriptor is not None:
        yield FoundDescriptor(descriptor=descriptor, **device)


def _counted(content: bytes, start: int, end: int) -> bytes:
    count = re.compile(rb"\s*([0-9]{1,9})(?=\s|$)").match(content, start, end)
    if count is None:
        raise DescriptorTextError(start, "after 'R:' the number of bytes is expected, in decimal")
    found = _hexadecimal(content, count.end(), end)
    if len(found) != int(count[1]):
        raise DescriptorTextError(count.start(1), f"{int(count[1])} bytes are announced, and {len(found)} follow")
    return found


# --- usbhid-dump


def _in_dump(content: bytes) -> Iterator[FoundDescriptor]:
    heads = list(_DUMP.finditer(content))
    ends = [head.start() for head in heads[1:]] + [len(content)]
    none = True
    for head, end in zip(heads, ends, strict=True):
        if head[2] != b"DESCRIPTOR":
            continue
        none = False
        found = b"".join(
            _hexadecimal(content, line.start(), line.end())
            for line in _LINE.finditer(content, head.end(), end)
            if line[0][:1].isspace()  # others are messages of the program
        )
        if not found:
            raise DescriptorTextError(head.start(), "no bytes follow this line")
        yield FoundDescriptor(descriptor=found, name=f"interface {head[1].decode()}")
    if none:
        raise DescriptorTextError(heads[0].start(), "this is a dump without a DESCRIPTOR: usbhid-dump -e descriptor")


# --- hexdump, xxd, od


def _with_offsets(content: bytes, start: int) -> bytes:
    """Read lines of an offset and bytes; the offsets, in whichever base, have to agree with the bytes."""
    found = bytearray()
    for line in _LINE.finditer(content, start):
        offset = _OFFSET.match(line[0])
        if offset is None:
            said = (
                "some lines were left out: -v prints them all" if line[0].strip() == b"*" else "an offset is expected"
            )
            raise DescriptorTextError(line.start(), said)
        if len(found) not in _read_as(offset[1]):
            # hexdump and od fill up their last pair of bytes, and tell the length below.
            if len(found) - 1 not in _read_as(offset[1]):
                raise DescriptorTextError(line.start(), f"the offset is not {len(found)}, which are the bytes so far")
            del found[-1]
        at, end = offset.end(), len(line[0])
        if offset[2]:  # two blanks before the column of characters
            end = line[0].find(b"  ", at) if b"  " in line[0][at:] else end
        while dumped := _DUMPED.match(line[0], at, end):
            pair = bytes.fromhex(dumped[1].decode())
            found += pair if offset[2] else pair[::-1]  # without a colon, pairs are numbers, the low byte first
            at = dumped.end()
            if len(found) > MAX_DESCRIPTOR_BYTES:
                raise _too_long(line.start())
    return bytes(found)


def _read_as(offset: bytes) -> set[int]:
    digits = offset.decode().lower()
    return {int(digits, base) for base in (8, 10, 16) if max(digits) < "0123456789abcdefg"[base]}


# --- hexadecimal


def _in_text(content: bytes, start: int, end: int) -> Iterator[FoundDescriptor]:
    """Yield one for each array of a program; without any, all is one."""
    text = b" " * start + _COMMENT.sub(_blanks, content[start:end])
    arrays = list(_ARRAY.finditer(text))
    for array in arrays:
        closed = _END_OF_ARRAY.search(text, array.end())
        yield FoundDescriptor(descriptor=_hexadecimal(text, array.end(), closed.start() if closed else end))
    if arrays:
        return
    label = _LABEL.match(text, start)
    found = _hexadecimal(_BYTES_LITERAL.sub(b" ", text), label.end() if label else start, end)
    if not found:
        raise DescriptorTextError(start, "there are only comments")
    yield FoundDescriptor(descriptor=found)


def _blanks(comment: re.Match[bytes]) -> bytes:
    """In the place of a comment, so that offsets stay."""
    return b" " * len(comment[0])


def _hexadecimal(content: bytes, start: int, end: int) -> bytes:
    """Read the bytes from `start` to `end`."""
    found = bytearray()
    for word in _WORD.finditer(content, start, end):
        found += _bytes_of(word[0], word.start())
        if len(found) > MAX_DESCRIPTOR_BYTES:
            raise _too_long(word.start())
    return bytes(found)


def _too_long(offset: int) -> DescriptorTextError:
    return DescriptorTextError(offset, f"a report descriptor has at most {MAX_DESCRIPTOR_BYTES} bytes")


def _bytes_of(word: bytes, offset: int) -> bytes:
    digits = _HEX.match(word)
    if digits is None or digits.end() < len(word):
        wrong = digits.end() if digits is not None else 0
        raise DescriptorTextError(offset + wrong, f"{_shown(word[wrong:])} is not hexadecimal")
    if len(digits[1]) == 1:
        return bytes([int(digits[1], 16)])
    if len(digits[1]) % 2:
        raise DescriptorTextError(offset, f"{_shown(word)} has {len(digits[1])} digits: a byte has two")
    return bytes.fromhex(digits[1].decode())


def _shown(word: bytes) -> str:
    return repr(word[:20].decode(errors="replace"))
