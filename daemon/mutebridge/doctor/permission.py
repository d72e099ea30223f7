"""Whether a user may use a file, by its mode and its access list (acl(5)), for somebody else than who asks."""

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from mutebridge.doctor.facts import User

READ, WRITE, SEARCH = 4, 2, 1
# <linux/posix_acl_xattr.h>: the version, then (tag, rights, id) for each entry.
_ACCESS_LIST = "system.posix_acl_access"
_VERSION, _HEADER, _ENTRY = 2, struct.Struct("<I"), struct.Struct("<HHI")
_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


def may_use(user: User, path: Path, rights: int) -> bool:
    """Whether `user` gets to `path` and has `rights` there; False when nothing is there."""
    try:
        real = path.resolve(strict=True)
        return all(_allows(user, folder, SEARCH) for folder in real.parents) and _allows(user, real, rights)
    except OSError:
        return False


def allows(user: User, mode: int, owner: tuple[int, int], access_list: bytes, rights: int) -> bool:
    """Whether a file with this mode, owner (uid, gid) and access list (b"" for none) gives `user` these rights.

    The order is the kernel's: the first kind of entry that fits decides, and of groups any that gives all.
    """
    if user.uid == 0:
        return True
    entries = list(_entries(access_list)) or _entries_of_mode(mode)
    mask = next((given for tag, given, _ in entries if tag == _MASK), 7)
    if user.uid == owner[0]:
        return _gives(entries, _OWNER, rights)
    named = [given & mask for tag, given, uid in entries if tag == _USER and uid == user.uid]
    if named:
        return named[0] & rights == rights
    groups = [
        given & mask
        for tag, given, gid in entries
        if (tag == _GROUP and gid in user.gids) or (tag == _OWNING_GROUP and owner[1] in user.gids)
    ]
    if groups:
        return any(given & rights == rights for given in groups)
    return _gives(entries, _OTHER, rights)


def _allows(user: User, path: Path, rights: int) -> bool:
    found = path.stat()
    try:
        access_list = os.getxattr(path, _ACCESS_LIST)
    except OSError:  # there is none, or this file system has none
        access_list = b""
    return allows(user, stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid), access_list, rights)


def _entries(access_list: bytes) -> Iterator[tuple[int, int, int]]:
    if len(access_list) >= _HEADER.size and _HEADER.unpack_from(access_list)[0] == _VERSION:
        body = access_list[_HEADER.size :]
        yield from _ENTRY.iter_unpack(body[: len(body) - len(body) % _ENTRY.size])


def _entries_of_mode(mode: int) -> list[tuple[int, int, int]]:
    return [(_OWNER, mode >> 6 & 7, 0), (_OWNING_GROUP, mode >> 3 & 7, 0), (_OTHER, mode & 7, 0)]


def _gives(entries: list[tuple[int, int, int]], wanted: int, rights: int) -> bool:
    return any(tag == wanted and given & rights == rights for tag, given, _ in entries)
