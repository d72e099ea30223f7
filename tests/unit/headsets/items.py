"""Report descriptors written as a list of named items, so that a test shows what it is about.

Tags and prefixes are those of HID 1.11, 6.2.2.4 to 6.2.2.8. Data takes the fewest bytes, unless `width` says more.
"""

PHYSICAL, APPLICATION, LOGICAL = 0x00, 0x01, 0x02
CONSTANT, ARRAY, VARIABLE, RELATIVE, NO_PREFERRED, NULL_STATE = 0x01, 0x00, 0x02, 0x04, 0x20, 0x40


def item(prefix: int, value: int, width: int | None = None) -> bytes:
    """Return one short item; `prefix` without the size code."""
    if width is None:
        width = next(w for w in (1, 2, 4) if -(1 << 8 * w - 1) <= value < 1 << 8 * w)
    data = (value & (1 << 8 * width) - 1).to_bytes(width, "little") if width else b""
    return bytes([prefix | {0: 0, 1: 1, 2: 2, 4: 3}[width]]) + data


def usage_page(page: int, width: int | None = None) -> bytes:
    return item(0x04, page, width)


def logical(minimum: int, maximum: int) -> bytes:
    return item(0x14, minimum) + item(0x24, maximum)


def size(bits: int) -> bytes:
    return item(0x74, bits)


def count(controls: int) -> bytes:
    return item(0x94, controls)


def report_id(number: int, width: int | None = None) -> bytes:
    return item(0x84, number, width)


def push() -> bytes:
    return item(0xA4, 0, 0)


def pop() -> bytes:
    return item(0xB4, 0, 0)


def usage(*usages: int, width: int | None = None) -> bytes:
    return b"".join(item(0x08, u, width) for u in usages)


def usages(first: int, last: int, width: int | None = None) -> bytes:
    return item(0x18, first, width) + item(0x28, last, width)


def delimited(*alternatives: int) -> bytes:
    return item(0xA8, 1) + usage(*alternatives) + item(0xA8, 0)


def input_(flags: int) -> bytes:
    return item(0x80, flags)


def output(flags: int) -> bytes:
    return item(0x90, flags)


def feature(flags: int) -> bytes:
    return item(0xB0, flags)


def collection(kind: int, *content: bytes) -> bytes:
    return item(0xA0, kind) + b"".join(content) + item(0xC0, 0, 0)


def headset(*content: bytes) -> bytes:
    """Return a Headset application collection, with bits of 0..1 until the content says otherwise."""
    return usage_page(0x0B) + usage(0x05) + collection(APPLICATION, logical(0, 1), size(1), count(1), *content)
