"""Entries of udev's hardware database that take the mute key of headsets from the desktop for good.

For those who prefer that to the daemon's taking it during calls: the key then never reaches the desktop. An entry names
one model; one for all of USB would take the key of every keyboard.
"""

from collections.abc import Iterable

_HEAD = """\
# The mute button of these headsets is mutebridge's, never the desktop's. Keep it as
# /etc/udev/hwdb.d/70-mutebridge.hwdb, then: systemd-hwdb update && udevadm trigger
"""


def entries(models: Iterable[tuple[str, str, str]]) -> str:
    """Return the file for models of a name, a vendor and a product id, both of four hexadecimal digits."""
    named = {(vendor.upper(), product.upper()): name for name, vendor, product in models}
    return _HEAD + "".join(
        f"\n# {_one_line(name)}\nevdev:input:b*v{vendor}p{product}*\n KEYBOARD_KEY_b002f=reserved\n"
        for (vendor, product), name in sorted(named.items())
    )


def _one_line(name: str) -> str:
    return "".join(character if character.isprintable() else " " for character in name)
