"""mosquitto's password file and access list as texts: one user put in, or taken out, everything else left as it is.

Source: mosquitto.conf(5), `password_file` with `acl_file`. A line `user NAME` makes the `topic` lines after it that
user's; `pattern` lines are everybody's.
"""

from collections.abc import Iterable, Iterator

from mutebridge.core.access import Grant


def with_password(text: str, user: str, password_hash: str) -> str:
    """Return a password file in which the user has this hash."""
    entry = f"{user}:{password_hash}"
    lines = text.splitlines()
    places = [index for index, line in enumerate(lines) if _user_of_entry(line) == user]
    if not places:
        return _joined([*lines, entry])
    return _joined(
        [entry if index == places[0] else line for index, line in enumerate(lines) if index not in places[1:]]
    )


def without_password(text: str, user: str) -> str:
    """Return a password file that does not know the user."""
    if all(_user_of_entry(line) != user for line in text.splitlines()):
        return text
    return _joined([line for line in text.splitlines() if _user_of_entry(line) != user])


def access_lines(user: str, grants: Iterable[Grant]) -> list[str]:
    """Return what an access list says of the user."""
    return [f"user {user}", *(f"topic {grant.access.value} {grant.topic_filter}" for grant in grants)]


def with_grants(text: str, user: str, grants: Iterable[Grant]) -> str:
    """Return an access list in which the user has these grants, no others."""
    wanted = access_lines(user, grants)
    present = [_words(line) for line, owner in _owned(text) if owner == user and _keyword(line) == "topic"]
    if sorted(present) == sorted(_words(line) for line in wanted[1:]):
        return text
    before = without_grants(text, user).splitlines()
    return _joined([*before, *([""] if before and before[-1].strip() else []), *wanted])


def without_grants(text: str, user: str) -> str:
    """Return an access list that does not name the user."""
    kept: list[str] = []
    changed = False
    for line, owner in _owned(text):
        if owner == user and _keyword(line) in ("user", "topic"):
            if _keyword(line) == "user" and kept and not kept[-1].strip():
                kept.pop()
            changed = True
        else:
            kept.append(line)
    return _joined(kept) if changed else text


def _owned(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield each line with the user whose it is, as far as it is a `user` or `topic` line."""
    owner = None
    for line in text.splitlines():
        if _keyword(line) == "user":
            owner = line.split(maxsplit=1)[1].strip() if len(line.split()) > 1 else None
        yield line, owner


def _keyword(line: str) -> str:
    return line.split(maxsplit=1)[0] if line.strip() else ""


def _words(line: str) -> list[str]:
    return line.split(maxsplit=2)


def _user_of_entry(line: str) -> str | None:
    user, colon, _ = line.partition(":")
    return user if colon else None


def _joined(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
