"""Finds the report descriptors in what a person has at hand.

`find_descriptors` takes the whole content of a file and tells by itself what it is:

* a binary file, as the kernel shows it (`/sys/class/hidraw/hidraw0/device/report_descriptor`);
* what hid-recorder prints: `R:`, the number of bytes in decimal, the bytes in hexadecimal; `N:` and `I:` tell the name
  and bus, vendor and product id, `D:` begins the next device;
* what usbhid-dump prints: a line such as `001:002:000:DESCRIPTOR 1372692415.123456`, lines of bytes below it;
* bytes in hexadecimal, with or without blanks, commas, `0x` and the comments and brackets of C.

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
_COMMENT = re.compile(rb"//[^\n]*|#[^\n]*|/\*.*?\*/", re.DOTALL)
_WORD = re.compile(rb"[^\s,;{}\[\]()]+")
_HEX = re.compile(rb"(?:0[xX])?([0-9a-fA-F]+)")
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
    found = _hexadecimal(content, start, len(content))
    if not found:
        raise DescriptorTextError(start, "there are only comments")
    return (FoundDescriptor(descriptor=found),)


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
        found = _hexadecimal(content, head.end(), end)
        if not found:
            raise DescriptorTextError(head.start(), "no bytes follow this line")
        yield FoundDescriptor(descriptor=found, name=f"interface {head[1].decode()}")
    if none:
        raise DescriptorTextError(heads[0].start(), "this is a dump without a DESCRIPTOR: usbhid-dump -e descriptor")


# --- hexadecimal


def _hexadecimal(content: bytes, start: int, end: int) -> bytes:
    """Read the bytes from `start` to `end`; comments become blanks, so that offsets stay."""
    text = _COMMENT.sub(lambda comment: b" " * len(comment[0]), content[start:end])
    found = bytearray()
    for word in _WORD.finditer(text):
        found += _bytes_of(word[0], start + word.start())
        if len(found) > MAX_DESCRIPTOR_BYTES:
            at = start + word.start()
            raise DescriptorTextError(at, f"a report descriptor has at most {MAX_DESCRIPTOR_BYTES} bytes")
    return bytes(found)


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
