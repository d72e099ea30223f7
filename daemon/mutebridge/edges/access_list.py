"""A group's entry in the access list of a device node.

The list is POSIX.1e's, as the kernel keeps it in an extended attribute (<linux/posix_acl_xattr.h>), and as logind uses
it to give devices to the user at the seat. An entry is added beside the others, so nothing is taken from anybody. Only
root, or the owner of the node, can change it. Errors are OSErrors; ENOTSUP where /dev has no access lists.
"""

import errno
import os
import stat
import struct

_ATTRIBUTE = "system.posix_acl_access"
_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")  # tag, permissions, id
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NOBODY = 0xFFFFFFFF  # the id of an entry that names nobody
_READ_WRITE = 6

Entries = dict[tuple[int, int], int]


def grant(path: str, group: int) -> bool:
    """Let a group read and write; return whether it could not before."""
    entries = read(path)
    if entries.get((GROUP, group)) == _READ_WRITE and entries.get((MASK, _NOBODY)) == _READ_WRITE:
        return False
    _write(path, entries | {(GROUP, group): _READ_WRITE})
    return True


def revoke(path: str, group: int) -> bool:
    """Remove the entry of a group; return whether there was one."""
    entries = read(path)
    if entries.pop((GROUP, group), None) is None:
        return False
    _write(path, entries)
    return True


def read(path: str) -> Entries:
    """Return what each entry, by its tag and its user or group, may; of a node without a list, what its mode says."""
    try:
        data = os.getxattr(path, _ATTRIBUTE, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
        mode = stat.S_IMODE(os.lstat(path).st_mode)
        return {(USER_OBJ, _NOBODY): mode >> 6 & 7, (GROUP_OBJ, _NOBODY): mode >> 3 & 7, (OTHER, _NOBODY): mode & 7}
    if data[:4] != _VERSION or len(data) % _ENTRY.size != 4:
        raise OSError(errno.EINVAL, "an access list of an unknown kind", path)
    return {(tag, who): may for tag, may, who in _ENTRY.iter_unpack(data[4:])}


def _write(path: str, entries: Entries) -> None:
    """Write the list, with the mask that hides nothing of it; one that names nobody becomes plain mode bits."""
    entries = {key: may for key, may in entries.items() if key[0] != MASK}
    named = [may for (tag, _), may in entries.items() if tag in (USER, GROUP)]
    if named:
        mask = entries[GROUP_OBJ, _NOBODY]
        for may in named:
            mask |= may
        entries[MASK, _NOBODY] = mask
    data = b"".join(_ENTRY.pack(tag, may, who) for (tag, who), may in sorted(entries.items()))
    os.setxattr(path, _ATTRIBUTE, _VERSION + data, follow_symlinks=False)
