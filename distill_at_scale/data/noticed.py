"""Notices: what planning, reading and validating a log skipped, changed or found unusual, with counts and examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel, ConfigDict

from distill_at_scale.facts import count_of

# Examples are for display only.
_MAX_EXAMPLE: Final = 120


class Notice(BaseModel):
    """One kind of irregularity in a log, with its count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    """Clause that says what is unusual and how it was handled; notices with the same text are merged."""

    count: int
    """Number of occurrences, in ``unit``."""

    unit: str = "row"
    """Unit of ``count`` in the singular: row, line, file, value …"""

    example: str = ""
    """First occurrence, if it can be shown."""

    def __str__(self) -> str:
        """Formats the notice: ``12 rows: user_id is 'NULL' … (e.g. NULL)``."""
        return f"{self.amount}: {self.text}"

    @property
    def amount(self) -> str:
        """Count with its unit, such as ``12 rows``."""
        return count_of(self.count, self.unit)

    @property
    def text(self) -> str:
        """Clause with the example."""
        return self.what + (f" (e.g. {self.example})" if self.example else "")


def shown(value: str) -> str:
    """Formats a log's value as an example: quoted, invisible characters escaped, cut to a readable length."""
    # NBSP and similar characters print as blanks, but `ascii` would also escape every umlaut.
    text = "".join(c if c.isprintable() and (c == " " or not c.isspace()) else ascii(c)[1:-1] for c in value)
    return f"'{text[:_MAX_EXAMPLE]}'" + (" …" if len(text) > _MAX_EXAMPLE else "")


def merge(groups: Iterable[Iterable[Notice]]) -> list[Notice]:
    """Merges notices with the same text: counts are summed, the first example and the order of appearance are kept."""
    merged: dict[tuple[str, str], Notice] = {}
    for group in groups:
        for notice in group:
            key = (notice.what, notice.unit)
            if key not in merged:
                merged[key] = notice
                continue
            before = merged[key]
            update = {"count": before.count + notice.count, "example": before.example or notice.example}
            merged[key] = before.model_copy(update=update)
    return list(merged.values())
