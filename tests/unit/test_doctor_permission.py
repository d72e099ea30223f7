"""Whether another user may use a file: the kernel is asked the same question, by that user."""

import contextlib
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mutebridge.doctor.facts import User
from mutebridge.doctor.permission import READ, WRITE, allows, may_use

SOMEBODY = User(name="somebody", uid=1000, gids=frozenset({1000, 20}))
OWNER, GROUP, OTHERS = (1000, 5), (5, 20), (5, 5)


def access_list(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


OWN, USER, OWN_GROUP, NAMED_GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32


@pytest.mark.parametrize(
    ("mode", "owner", "acl", "may"),
    [
        (0o600, OWNER, b"", True),
        (0o060, OWNER, b"", False),  # the owner's bits count alone
        (0o660, GROUP, b"", True),
        (0o640, GROUP, b"", False),
        (0o606, GROUP, b"", False),  # so do the group's
        (0o606, OTHERS, b"", True),
        (0o660, OTHERS, b"", False),
        (
            0o660,
            OTHERS,
            access_list((OWN, 6, 0), (USER, 6, 1000), (OWN_GROUP, 6, 0), (MASK, 6, 0), (OTHER, 0, 0)),
            True,
        ),
        (
            0o640,
            OTHERS,
            access_list((OWN, 6, 0), (USER, 6, 1000), (OWN_GROUP, 6, 0), (MASK, 4, 0), (OTHER, 0, 0)),
            False,
        ),
        (0o660, OTHERS, access_list((OWN, 6, 0), (USER, 6, 7), (OWN_GROUP, 6, 0), (MASK, 6, 0), (OTHER, 0, 0)), False),
        (
            0o660,
            OTHERS,
            access_list((OWN, 6, 0), (OWN_GROUP, 0, 0), (NAMED_GROUP, 6, 20), (MASK, 6, 0), (OTHER, 0, 0)),
            True,
        ),
        (
            0o660,
            OTHERS,
            access_list((OWN, 6, 0), (OWN_GROUP, 0, 0), (NAMED_GROUP, 6, 21), (MASK, 6, 0), (OTHER, 6, 0)),
            True,
        ),
        (
            0o640,
            OTHERS,
            access_list((OWN, 6, 0), (OWN_GROUP, 0, 0), (NAMED_GROUP, 6, 20), (MASK, 4, 0), (OTHER, 6, 0)),
            False,
        ),
        (0o660, OTHERS, b"not an access list", False),
    ],
)
def test_mode_and_access_list(mode: int, owner: tuple[int, int], acl: bytes, may: bool) -> None:
    assert allows(SOMEBODY, mode, owner, acl, READ | WRITE) is may


def test_root_may_all() -> None:
    assert allows(User(name="root", uid=0), 0, (5, 5), b"", READ | WRITE)


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
@pytest.mark.parametrize("folder_mode", [0o700, 0o711])
def test_the_kernel_agrees(mode: int, folder_mode: int) -> None:
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
        folder.chmod(folder_mode)
        for uid, gid in ((4001, 4000), (4002, 4002)) if root else ((os.geteuid(), os.getegid()),):
            with somebody(uid, gid) if root else contextlib.nullcontext():
                may = os.access(file, os.R_OK, effective_ids=True)
            assert may_use(User(name="", uid=uid, gids=frozenset({gid})), file, READ) == may


def test_what_is_not_there_may_not_be_used(tmp_path: Path) -> None:
    assert not may_use(User(name="root", uid=0), tmp_path / "none", READ)
    assert may_use(User(name="root", uid=0), tmp_path, READ)
