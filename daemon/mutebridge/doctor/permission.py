"""Whether a user may use a file, by its mode and its access list (acl(5)), for somebody else than who asks."""

from pathlib import Path

from mutebridge.doctor.facts import User
from mutebridge.edges import access_list
from mutebridge.edges.access_list import GROUP, GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, Entries

READ, WRITE, SEARCH = 4, 2, 1


def may_use(user: User, path: Path, rights: int) -> bool:
    """Whether `user` gets to `path` and has `rights` there; False when nothing is there."""
    try:
        real = path.resolve(strict=True)
        return all(_allows(user, folder, SEARCH) for folder in real.parents) and _allows(user, real, rights)
    except OSError:
        return False


def allows(user: User, owner: tuple[int, int], entries: Entries, rights: int) -> bool:
    """Whether a file with this owner (uid, gid) and these entries gives `user` these rights.

    The order is the kernel's: the first kind of entry that fits decides, and of groups any that gives all.
    """
    if user.uid == 0:
        return True
    mask = next((may for (tag, _), may in entries.items() if tag == MASK), READ | WRITE | SEARCH)
    if user.uid == owner[0]:
        return _gives(entries, USER_OBJ, rights)
    if (named := entries.get((USER, user.uid))) is not None:
        return named & mask & rights == rights
    groups = [
        may & mask
        for (tag, gid), may in entries.items()
        if (tag == GROUP and gid in user.gids) or (tag == GROUP_OBJ and owner[1] in user.gids)
    ]
    if groups:
        return any(may & rights == rights for may in groups)
    return _gives(entries, OTHER, rights)


def _allows(user: User, path: Path, rights: int) -> bool:
    found = path.stat()
    return allows(user, (found.st_uid, found.st_gid), access_list.read(str(path)), rights)


def _gives(entries: Entries, wanted: int, rights: int) -> bool:
    return any(tag == wanted and may & rights == rights for (tag, _), may in entries.items())
