"""The usages of a parsed field one by one, as other parsers list them."""

from mutebridge.core.report_descriptor import Field
from mutebridge.core.usages import Usage


def usage_at(field: Field, position: int) -> Usage | None:
    """The usage at a position: of a variable the last is repeated; of an array, beyond them is None."""
    left = position
    for usages in field.usages:
        if left < len(usages):
            return usages.page, usages.first + left
        left -= len(usages)
    return None if field.array else (field.usages[-1].page, field.usages[-1].last)
