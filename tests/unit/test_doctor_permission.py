"""Whether another user may use a file: the kernel is asked the same question, by that user."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mutebridge.doctor.facts import User
from mutebridge.doctor.permission import READ, WRITE, allows, may_use
from mutebridge.edges import access_list
from mutebridge.edges.access_list import GROUP, GROUP_OBJ, MASK, OTHER, USER, USER_OBJ, Entries

SOMEBODY = User(name="somebody", uid=1000, gids=frozenset({1000, 20}))
OWNER, GROUP_OF, OTHERS = (1000, 5), (5, 20), (5, 5)


NOBODY = 0xFFFFFFFF


def mode(bits: int) -> Entries:
    return {(USER_OBJ, NOBODY): bits >> 6, (GROUP_OBJ, NOBODY): bits >> 3 & 7, (OTHER, NOBODY): bits & 7}


@pytest.mark.parametrize(
    ("owner", "entries", "may"),
    [
        (OWNER, mode(0o600), True),
        (OWNER, mode(0o060), False),  # the owner's bits count alone
        (GROUP_OF, mode(0o660), True),
        (GROUP_OF, mode(0o640), False),
        (GROUP_OF, mode(0o606), False),  # so do the group's
        (OTHERS, mode(0o606), True),
        (OTHERS, mode(0o660), False),
        (OTHERS, mode(0o660) | {(USER, 1000): 6, (MASK, NOBODY): 6}, True),
        (OTHERS, mode(0o660) | {(USER, 1000): 6, (MASK, NOBODY): 4}, False),
        (OTHERS, mode(0o660) | {(USER, 7): 6, (MASK, NOBODY): 6}, False),
        (OTHERS, mode(0o606) | {(USER, 1000): 0, (MASK, NOBODY): 6}, False),
        (OTHERS, mode(0o600) | {(GROUP, 20): 6, (MASK, NOBODY): 6}, True),
        (OTHERS, mode(0o606) | {(GROUP, 20): 6, (MASK, NOBODY): 4}, False),
        (OTHERS, mode(0o606) | {(GROUP, 21): 0, (MASK, NOBODY): 6}, True),
        (GROUP_OF, mode(0o660) | {(USER, 7): 6, (MASK, NOBODY): 4}, False),
    ],
)
def test_mode_and_access_list(owner: tuple[int, int], entries: Entries, may: bool) -> None:
    assert allows(SOMEBODY, owner, entries, READ | WRITE) is may


def test_root_may_all() -> None:
    assert allows(User(name="root", uid=0), (5, 5), mode(0), READ | WRITE)


@contextlib.contextmanager
def somebody(uid: int, gid: int) -> Iterator[None]:
    """Be this user, as far as the kernel looks at files; only root can."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.mark.parametrize("mode", [0o600, 0o604, 0o640])
@pytest.mark.parametrize("given_to", [None, 4002])
@pytest.mark.parametrize("folder_mode", [0o700, 0o711])
def test_the_kernel_agrees(mode: int, given_to: int | None, folder_mode: int) -> None:
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as top:
        Path(top).chmod(0o755)
        folder = Path(top, "folder")
        folder.mkdir()
        file = folder / "file"
        file.touch()
        file.chmod(mode)
        if root:
            os.chown(file, 0, 4000)
        if given_to is not None:
            access_list.grant(str(file), given_to)
        folder.chmod(folder_mode)
        for uid, gid in ((4001, 4000), (4002, 4002)) if root else ((os.geteuid(), os.getegid()),):
            with somebody(uid, gid) if root else contextlib.nullcontext():
                may = os.access(file, os.R_OK, effective_ids=True)
            assert may_use(User(name="", uid=uid, gids=frozenset({gid})), file, READ) == may


def test_what_is_not_there_may_not_be_used(tmp_path: Path) -> None:
    assert not may_use(User(name="root", uid=0), tmp_path / "none", READ)
    assert may_use(User(name="root", uid=0), tmp_path, READ)
