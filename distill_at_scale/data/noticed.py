"""What planning, reading and cleaning a log skipped, changed or found odd: counted, each with an example."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel, ConfigDict

# An example is for the eye.
_MAX_EXAMPLE: Final = 120


class Notice(BaseModel):
    """One kind of thing that whoever reads a log's figures should know about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    """a clause: what is odd, and what was done about it; notices that say the same are one"""

    count: int
    """how many of ``unit``"""

    unit: str = "row"
    """what is counted, in the singular: row, line, file, value …"""

    example: str = ""
    """the first one, where one can be shown"""

    def __str__(self) -> str:
        """``12 rows: user_id is 'NULL' … (e.g. NULL)``."""
        return f"{self.amount}: {self.text}"

    @property
    def amount(self) -> str:
        """The count with its unit, as ``12 rows``."""
        return f"{self.count:,} {self.unit}" + ("" if self.count == 1 else "s")

    @property
    def text(self) -> str:
        """What, and the example."""
        return self.what + (f" (e.g. {self.example})" if self.example else "")


def shown(value: str) -> str:
    """A value of a log as an example: quoted, with invisible characters escaped, cut to a readable length."""
    # The NBSP and its like print as blanks, but `ascii` would also escape every umlaut.
    text = "".join(c if c.isprintable() and (c == " " or not c.isspace()) else ascii(c)[1:-1] for c in value)
    return f"'{text[:_MAX_EXAMPLE]}'" + (" …" if len(text) > _MAX_EXAMPLE else "")


def merge(groups: Iterable[Iterable[Notice]]) -> list[Notice]:
    """Counts of notices that say the same summed, the first example kept; in the order of their first appearance."""
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
