"""Lines put into mosquitto's files, and taken out, among those of other people."""

import pytest

from mutebridge.core.access import controller_grants
from mutebridge.core.contract import Topics
from mutebridge.core.mosquitto_lists import with_grants, with_password, without_grants, without_password

GRANTS = controller_grants(Topics("desk"), "phone")
USER = "phone@desk"
LINES = """\
user phone@desk
topic write mutebridge/v1/desk/controller/phone/call
topic write mutebridge/v1/desk/controller/phone/mic
topic write mutebridge/v1/desk/controller/phone/result
topic read mutebridge/v1/desk/controller/phone/command
topic readwrite mutebridge/v1/desk/controller/phone/availability
topic read mutebridge/v1/desk/bridge/#
"""
OTHERS = """\
# everybody
pattern read news/#

user somebody
topic readwrite home/#
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "phone@desk:NEW\n"),
        ("a:1", "a:1\nphone@desk:NEW\n"),
        ("a:1\nphone@desk:OLD\nb:2\n", "a:1\nphone@desk:NEW\nb:2\n"),
        ("phone@desk:OLD\na:1\nphone@desk:OLDER\n", "phone@desk:NEW\na:1\n"),
        ("phone@desk2:1\n# phone@desk\n", "phone@desk2:1\n# phone@desk\nphone@desk:NEW\n"),
    ],
)
def test_a_password_takes_the_place_of_the_one_before(before: str, after: str) -> None:
    assert with_password(before, USER, "NEW") == after
    assert with_password(after, USER, "NEW") == after


def test_a_password_is_taken_out() -> None:
    assert without_password("a:1\nphone@desk:OLD\nb:2\n", USER) == "a:1\nb:2\n"
    assert without_password("a:1", USER) == "a:1", "as it was, without a line break"


def test_grants_come_after_all_others_once() -> None:
    assert with_grants("", USER, GRANTS) == LINES
    assert with_grants(OTHERS, USER, GRANTS) == f"{OTHERS}\n{LINES}"
    assert with_grants(f"{OTHERS}\n{LINES}", USER, GRANTS) == f"{OTHERS}\n{LINES}"


def test_grants_that_are_there_in_other_words_stay() -> None:
    scattered = LINES.replace("topic write", "  topic   write").replace("topic read ", "# why\n\ntopic read ")
    assert with_grants(scattered, USER, GRANTS) == scattered


def test_grants_of_before_are_taken_back() -> None:
    more = LINES + "topic readwrite #\n"
    assert with_grants(f"{more}\n{OTHERS}", USER, GRANTS) == f"\n{OTHERS}\n{LINES}"


def test_taking_a_user_out_leaves_all_others() -> None:
    assert without_grants(f"{OTHERS}\n{LINES}", USER) == OTHERS
    assert without_grants(f"{LINES}pattern read x\n\n{OTHERS}", USER) == f"pattern read x\n\n{OTHERS}"
    assert without_grants(OTHERS, USER) == OTHERS
    assert without_grants("user\ntopic read a", USER) == "user\ntopic read a"
