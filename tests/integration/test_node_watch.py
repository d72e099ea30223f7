"""Who writes to a device node: seen on a terminal, which is one as well."""

import os
import pty
import select
import tty
from collections.abc import Iterator

import pytest

from mutebridge.node_watch import NodeWatch

DEADLINE_S = 10.0


class Node:
    """A device node that two programs have open."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        tty.setraw(slave)
        self.ours = slave
        self.theirs = os.open(os.ttyname(slave), os.O_RDWR | os.O_NOCTTY)
        self.watch = NodeWatch(self.ours)

    def is_told(self, within_s: float) -> bool:
        return bool(select.select([self.watch.fd], [], [], within_s)[0])


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.watch.close()
    made.watch.close()
    for fd in (made.master, made.ours, made.theirs):
        os.close(fd)


def test_a_write_of_another_is_heard_once(node: Node) -> None:
    node.watch.listen()
    os.write(node.theirs, b"x")
    assert node.is_told(DEADLINE_S)
    assert node.watch.heard()
    assert not node.watch.heard()
    assert not node.is_told(0)


def test_it_is_deaf_while_this_program_writes_and_at_first(node: Node) -> None:
    os.write(node.theirs, b"x")
    node.watch.listen()
    for _ in range(3):
        node.watch.deafen()
        os.write(node.ours, b"x")
        node.watch.listen()
    assert not node.is_told(0)
    os.write(node.theirs, b"x")
    assert node.is_told(DEADLINE_S)
    assert node.watch.heard()


def test_what_was_written_before_it_was_deaf_is_heard_all_the_same(node: Node) -> None:
    node.watch.listen()
    os.write(node.theirs, b"x")
    node.watch.deafen()
    node.watch.listen()
    assert node.is_told(DEADLINE_S)
    assert node.watch.heard()


def test_reading_and_opening_are_not_writing(node: Node) -> None:
    node.watch.listen()
    os.write(node.master, b"x")
    assert os.read(node.theirs, 1) == b"x"
    os.close(os.open(os.ttyname(node.ours), os.O_RDWR | os.O_NOCTTY))
    assert not node.is_told(0)


def test_a_file_that_is_gone_is_no_error() -> None:
    watch = NodeWatch(999_999)
    watch.listen()
    watch.deafen()
    assert not watch.heard()
    watch.close()
