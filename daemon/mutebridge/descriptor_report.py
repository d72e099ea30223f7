"""What `mutebridge devices --descriptor` answers: report descriptors that a person has at hand, explained.

A file may be anything that `core.descriptor_text` knows. A path in /sys, a node such as /dev/hidraw0 (which is not
opened), or a file that is called after its device, such as 046d_0a37.bin, also tells whose descriptor it is, and with
that which profiles are known for it.
"""

import errno
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from mutebridge.config import load_profiles
from mutebridge.core.descriptor_explanation import explain
from mutebridge.core.descriptor_text import MAX_CONTENT_BYTES, DescriptorTextError, FoundDescriptor, find_descriptors
from mutebridge.core.headset_protocol import HeadsetProtocol, headset_protocol
from mutebridge.core.profiles import DeviceNode
from mutebridge.core.report_descriptor import DescriptorError, parse

Ids = tuple[str | None, str | None]

# The kernel names a HID device bus:vendor:product.number.
_HID_DEVICE = re.compile(r"/[0-9A-F]{4}:([0-9A-F]{4}):([0-9A-F]{4})\.[0-9A-F]+(?=/)")
# What people call the file of a device after; its ids at the end.
_NAMED_AFTER = re.compile(r"(?:.*[^0-9A-Za-z])?([0-9A-Fa-f]{4})[_:-]([0-9A-Fa-f]{4})")
_HEXADECIMAL = re.compile(r"""[0-9a-fA-FxX\s,;:_|\\'"{}()\[\]-]+""")


class DescriptorReportError(Exception):
    """There is nothing to explain; the message is for people, `exit_code` is one of sysexits."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def reports(given: str, ids: Ids | None = None, *, as_json: bool = False) -> Iterator[str]:
    """Yield the answer for each descriptor of a file, of hexadecimal text, or of `-`, standard input.

    `ids`, vendor and product, stand above those that are told beside it. DescriptorReportError, at any time.
    """
    path, ids_by_path = _path_and_ids(given)
    content = _content(given, path)
    where = "standard input" if given == "-" else given[:80]
    try:
        for number, found in enumerate(find_descriptors(content)):
            vendor_id, product_id = ids or (found.vendor_id or ids_by_path[0], found.product_id or ids_by_path[1])
            node = DeviceNode(
                path=path,
                subsystem="hidraw",
                product=found.name,
                vendor_id=vendor_id,
                product_id=product_id,
                report_descriptor=found.descriptor,
            )
            parsed = parse(found.descriptor)
            protocol = headset_protocol(node, load_profiles())
            if as_json:
                yield msgspec.json.encode(_described(protocol)).decode() + "\n"
            else:
                told = _title(found, node) + explain(parsed, protocol.telephony, protocol.layers)
                yield ("\n" if number else "") + told + _bytes_note(protocol)
    except (DescriptorTextError, DescriptorError) as error:
        raise DescriptorReportError(f"{where}: {error}", os.EX_DATAERR) from None


def _described(protocol: HeadsetProtocol) -> dict[str, Any]:
    """`read_by_bytes`: the profile says which bytes mean what, and nothing else of this counts."""
    return {
        **protocol.telephony.described(),
        "profiles": protocol.layers,
        "read_by_bytes": protocol.profile.byte_patterns is not None,
    }


def _bytes_note(protocol: HeadsetProtocol) -> str:
    if protocol.profile.byte_patterns is None:
        return ""
    return f"\nNone of this counts: {protocol.layers[-1]} is read {protocol.why['mute_button']}.\n"


def _title(found: FoundDescriptor, node: DeviceNode) -> str:
    ids = ":".join(part for part in (node.vendor_id, node.product_id) if part)
    name = " ".join(part for part in (found.name, f"({ids})" if ids else "") if part)
    return f"{f'{name}: ' if name else ''}a report descriptor of {len(found.descriptor)} bytes\n"


def _path_and_ids(given: str) -> tuple[str, Ids]:
    """Return which file is meant, and what its path says of the device."""
    if "\0" in given:
        return given, (None, None)
    path = given
    if node := re.fullmatch(r"/dev/(hidraw[0-9]+)", os.path.realpath(given)):
        path = f"/sys/class/hidraw/{node[1]}/device/report_descriptor"  # reading the node would wait for a press
    if named := _HID_DEVICE.findall(os.path.realpath(path)):
        return path, (named[-1][0].lower(), named[-1][1].lower())
    is_file = os.path.isfile(path)  # noqa: PTH113 (a path may be anything here)
    if is_file and (after := _NAMED_AFTER.fullmatch(Path(path).stem)):
        return path, (after[1].lower(), after[2].lower())
    return path, (None, None)


def _content(given: str, path: str) -> bytes:
    """Return a little more than is allowed at most; what is no file may be the bytes."""
    try:
        if given == "-":
            return sys.stdin.buffer.read(MAX_CONTENT_BYTES + 1)
        with open(path, "rb") as file:  # noqa: PTH123 (a path may be anything here)
            return file.read(MAX_CONTENT_BYTES + 1)
    except (OSError, ValueError) as error:
        if _HEXADECIMAL.fullmatch(given):
            return given.encode()
        number = getattr(error, "errno", None) or errno.EINVAL
        raise DescriptorReportError(
            f"{given[:80]!r} cannot be read, and is not hexadecimal: {os.strerror(number)}",
            os.EX_NOPERM if number in (errno.EACCES, errno.EPERM) else os.EX_NOINPUT,
        ) from None
