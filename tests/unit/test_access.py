"""Who may read and write which topic; the same in the code as in the example of mosquitto's access list."""

from pathlib import Path

import pytest

from mutebridge.core import mosquitto_lists
from mutebridge.core.access import (
    EVERYTHING,
    Access,
    Grant,
    controller_grants,
    controller_of,
    controller_user,
    may_read,
    may_write,
)
from mutebridge.core.contract import Topics

EXAMPLE = (Path(__file__).parents[2] / "config" / "mosquitto.acl").read_text()
SOFTPHONE = controller_grants(Topics("desk-17"), "softphone")
P = "mutebridge/v1/desk-17"


def test_the_example_of_an_access_list_says_the_same() -> None:
    assert mosquitto_lists.with_grants(EXAMPLE, "softphone@desk-17", SOFTPHONE) == EXAMPLE


@pytest.mark.parametrize("leaf", ["availability", "call", "mic", "result"])
def test_a_controller_writes_its_own_states(leaf: str) -> None:
    assert may_write(SOFTPHONE, f"{P}/controller/softphone/{leaf}")
    assert not may_write(SOFTPHONE, f"{P}/controller/other/{leaf}")
    assert not may_write(SOFTPHONE, f"mutebridge/v1/desk-18/controller/softphone/{leaf}")


@pytest.mark.parametrize(
    "topic", ["bridge/availability", "bridge/event", "bridge/device/x", "controller/softphone/command"]
)
def test_a_controller_reads_what_the_bridge_says_and_writes_none_of_it(topic: str) -> None:
    assert may_read(SOFTPHONE, f"{P}/{topic}")
    assert not may_write(SOFTPHONE, f"{P}/{topic}")


@pytest.mark.parametrize(
    ("granted", "wanted", "covered"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a", False),
        ("a/b", "a/b/c", False),
        ("a/b", "a/+", False),
        ("a/b", "a/#", False),
        ("a/b", "#", False),
        ("a/+", "a/b", True),
        ("a/+", "a/+", True),
        ("a/+", "a/#", False),
        ("a/+", "a", False),
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a/+/d", False),
        ("a/#", "a/b/c", True),
        ("a/#", "a/#", True),
        ("a/#", "a/+/c", True),
        ("a/#", "a", True),
        ("a/#", "ab", False),
        ("a/#", "#", False),
        ("#", "#", True),
    ],
)
def test_a_grant_covers_a_filter_only_as_a_whole(granted: str, wanted: str, covered: bool) -> None:
    assert may_read([Grant(Access.READ, granted)], wanted) is covered


def test_to_read_is_not_to_write() -> None:
    assert not may_write([Grant(Access.READ, "a")], "a")
    assert not may_read([Grant(Access.WRITE, "a")], "a")
    assert may_read(EVERYTHING, "a")
    assert may_write(EVERYTHING, "a")


def test_a_controllers_user_is_never_a_stations() -> None:
    assert controller_user("Desk-17", "Softphone") == "softphone@desk-17"
    assert controller_of("softphone@desk-17") == ("desk-17", "softphone")
    with pytest.raises(ValueError, match="station"):
        controller_of("desk-17")
    with pytest.raises(ValueError, match="station"):
        controller_of("a@b@c")
    with pytest.raises(ValueError, match="name"):
        controller_user("desk-17", "a@b")
