"""Tells a person what a report descriptor offers to a mute button, in words.

First the verdict, then each button and lamp with the reason why it was found or is not offered, then all fields.
"""

from collections.abc import Iterator, Sequence

from mutebridge.core.report_descriptor import Direction, Field, ReportDescriptor
from mutebridge.core.telephony import LampName, Telephony
from mutebridge.core.usages import usage_name

_MAX_FIELDS = 400
_MAX_USAGES = 4

_HEADINGS = ("byte", "report", "bit", "size", "count", "values", "flags", "usages")


def explain(descriptor: ReportDescriptor, telephony: Telephony, profile_ids: Sequence[str] = ()) -> str:
    """Return some lines of text; `profile_ids` are the profiles that were applied."""
    lines = [_verdict(telephony), f"profiles: {', '.join(profile_ids) or 'none is known for it'}", ""]
    width = max(map(len, telephony.why), default=0) + 2
    lines += [f"{name.replace('_', ' ') + ':':<{width}}{why}" for name, why in telephony.why.items()]
    lines += ["", "fields (bits are counted from the first byte after the report id)", *_table(descriptor)]
    return "\n".join(lines) + "\n"


def _verdict(telephony: Telephony) -> str:
    button, lamp = telephony.mute_button, LampName.MUTE in telephony.lamps
    if button is not None:
        kind = button.kind.value.replace("_", " ")
        return f"It has a mute button, a {kind}, {'with' if lamp else 'but no'} mute LED. It can: {_can(telephony)}."
    if lamp:
        return f"It has a mute LED, but no mute button. It can: {_can(telephony)}."
    return "It has nothing that a mute button needs." + (f" It can: {_can(telephony)}." if telephony.can else "")


def _can(telephony: Telephony) -> str:
    return ", ".join(telephony.can)


# --- the fields


def _table(descriptor: ReportDescriptor) -> Iterator[str]:
    rows = [_HEADINGS, *(_row(field) for field in descriptor.fields[:_MAX_FIELDS])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS) - 1)]
    for row in rows:
        yield "  " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
    left = len(descriptor.fields) - _MAX_FIELDS
    if left > 0:
        yield f"  and {left} more"


def _row(field: Field) -> tuple[str, ...]:
    report = f"{field.direction.value} {field.report_id}" if field.report_id else field.direction.value
    values = f"{field.logical_min}..{field.logical_max}"
    numbers = (field.offset, report, field.bit, field.size, field.count, values, _flags(field))
    return (*map(str, numbers), _usages(field))


def _flags(field: Field) -> str:
    words = {
        "Constant": field.constant,
        "Array": field.array,
        "Relative": field.relative,
        "No Preferred": field.no_preferred and field.direction is Direction.INPUT,
        "Null State": field.null_state,
    }
    return ", ".join(word for word, holds in words.items() if holds)


def _usages(field: Field) -> str:
    told = []
    for usages in field.usages[:_MAX_USAGES]:
        first, last = (usage_name((usages.page, usage)) for usage in (usages.first, usages.last))
        told.append(first if usages.first == usages.last else f"{first} to {last}")
    left = len(field.usages) - _MAX_USAGES
    return ", ".join(told) + (f" and {left} more" if left > 0 else "")
