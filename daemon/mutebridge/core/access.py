"""Who may read and write which topic: the access rules of the contract.

A bridge's user is named as its station, a controller's `<name>@<station>`: no station has an '@' in its name, so no
controller can be taken for a bridge. The same grants hold in the embedded broker as in mosquitto's access list.
"""

import enum
from collections.abc import Iterable

import msgspec

from mutebridge.core.contract import Topics, valid_name


class Access(enum.Enum):
    """What a grant allows."""

    READ = "read"
    WRITE = "write"
    READ_WRITE = "readwrite"


class Grant(msgspec.Struct, frozen=True):
    """Allows `access` to every topic that `topic_filter` matches."""

    access: Access
    topic_filter: str


EVERYTHING = (Grant(Access.READ_WRITE, "#"),)


def controller_user(station: str, name: str) -> str:
    """Return the user of a controller; ValueError for names that cannot be."""
    return f"{valid_name('name', name)}@{valid_name('station', station)}"


def controller_of(user: str) -> tuple[str, str]:
    """Return station and name of a controller's user; ValueError where it is none."""
    name, _, station = user.partition("@")
    return valid_name("station", station), valid_name("name", name)


def controller_grants(topics: Topics, name: str) -> tuple[Grant, ...]:
    """What the controller `name` may do: say its own states, hear its own commands and the bridge.

    Its availability it reads too, to notice the late will of a connection that it had before.
    """
    own = {leaf: topics.controller(name, leaf) for leaf in ("call", "mic", "result", "command", "availability")}
    return (
        *(Grant(Access.WRITE, own[leaf]) for leaf in ("call", "mic", "result")),
        Grant(Access.READ, own["command"]),
        Grant(Access.READ_WRITE, own["availability"]),
        Grant(Access.READ, f"{topics.root}/bridge/#"),
    )


def may_write(grants: Iterable[Grant], topic: str) -> bool:
    return any(grant.access is not Access.READ and _covers(grant.topic_filter, topic) for grant in grants)


def may_read(grants: Iterable[Grant], topic_filter: str) -> bool:
    """Whether everything that the topic, or topic filter, matches may be read."""
    return any(grant.access is not Access.WRITE and _covers(grant.topic_filter, topic_filter) for grant in grants)


def _covers(granted: str, wanted: str) -> bool:
    """Whether each topic that `wanted` matches is matched by `granted`."""
    granted_levels, wanted_levels = granted.split("/"), wanted.split("/")
    for position, level in enumerate(granted_levels):
        if level == "#":  # also what is one level above it
            return True
        if position >= len(wanted_levels):
            return False
        other = wanted_levels[position]
        if other == "#" or level not in ("+", other):
            return False
    return len(granted_levels) == len(wanted_levels)
