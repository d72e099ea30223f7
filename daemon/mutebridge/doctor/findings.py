"""What the doctor says: findings, the report of all of them, and how a person and a program read it."""

import textwrap
from collections.abc import Sequence
from enum import Enum
from itertools import groupby

import msgspec


class State(Enum):
    """How well something is; a finding without a fault is OK, NOT_APPLICABLE or CANNOT_TELL."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    NOT_APPLICABLE = "not_applicable"
    CANNOT_TELL = "cannot_tell"


# As monitoring has it since Nagios: 0 well, 1 warning, 2 critical.
_EXIT_STATUS = {State.OK: 0, State.WARNING: 1, State.PROBLEM: 2}
_WORDS = {state: state.value for state in State} | {State.NOT_APPLICABLE: "-", State.CANNOT_TELL: "unknown"}
_COLOURS = {State.OK: "32", State.WARNING: "33", State.PROBLEM: "1;31", State.CANNOT_TELL: "36"}
_WORD_WIDTH, _NAME_WIDTH = 9, 15


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. `name` is the check, `about` which topic, device or file; one line each."""

    name: str
    state: State
    finding: str
    remedy: str | None = None
    about: str | None = None


class Report(msgspec.Struct, frozen=True):
    """All findings; `state` is the worst of them, where what is not known is no fault."""

    state: State
    checks: tuple[Finding, ...]

    @classmethod
    def of(cls, findings: Sequence[Finding]) -> "Report":
        worst = max((finding.state for finding in findings), key=lambda s: _EXIT_STATUS.get(s, 0), default=State.OK)
        return cls(worst if worst in _EXIT_STATUS else State.OK, tuple(findings))

    @property
    def exit_status(self) -> int:
        return _EXIT_STATUS[self.state]

    def as_json(self) -> str:
        """Return `{"state", "checks": [{"name", "state", "finding", "remedy", "about"}]}`, one line."""
        return msgspec.json.encode(self).decode() + "\n"

    def as_text(self, width: int, *, coloured: bool = False) -> str:
        """Return it for a person, at most `width` columns wide; the first line is all that monitoring shows."""
        lines = [self._summary(), ""]
        for finding in _folded(self.checks):
            lines += _shown(finding, width, coloured=coloured)
        return "\n".join(lines) + "\n"

    def _summary(self) -> str:
        counts = {state: sum(each.state is state for each in self.checks) for state in State}
        if self.state is not State.OK:
            return f"mutebridge: problems: {counts[State.PROBLEM]}, warnings: {counts[State.WARNING]}"
        unknown = counts[State.CANNOT_TELL]
        return "mutebridge: all is well" + (f", as far as can be told; unknown: {unknown}" if unknown else "")


def _folded(findings: Sequence[Finding]) -> list[Finding]:
    """Make one of neighbours that say the same, where that is no fault."""
    folded = []
    for (state, finding, remedy), group in groupby(findings, lambda each: (each.state, each.finding, each.remedy)):
        same = list(group)
        names = list(dict.fromkeys(each.name for each in same))
        if len(same) == 1 or state in (State.PROBLEM, State.WARNING):
            folded += same
        elif len(names) == 1:
            folded.append(Finding(names[0], state, f"all {len(same)}: {finding}", remedy))
        else:
            folded.append(Finding(names[0], state, finding, remedy, f"so with {', '.join(names[1:])}"))
    return folded


def _shown(finding: Finding, width: int, *, coloured: bool) -> list[str]:
    word = _WORDS[finding.state]
    indent = " " * (_WORD_WIDTH + _NAME_WIDTH)
    said = _harmless(f"{finding.about}: {finding.finding}" if finding.about else finding.finding)
    lines = _wrapped(f"{word:<{_WORD_WIDTH}}{finding.name:<{_NAME_WIDTH}}", indent, said, width)
    if finding.remedy:
        lines += _wrapped(f"{indent}> ", f"{indent}  ", _harmless(finding.remedy), width)
    if coloured and (colour := _COLOURS.get(finding.state)):
        lines[0] = f"\033[{colour}m{word}\033[0m" + lines[0][len(word) :]
    return lines


def _harmless(text: str) -> str:
    """What devices and programs call themselves says nothing to the terminal."""
    return "".join(each if each.isprintable() or each.isspace() else "?" for each in text)


def _wrapped(first: str, indent: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
