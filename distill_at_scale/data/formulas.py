"""Text ids that a spreadsheet would take for formulas, made harmless."""

from __future__ import annotations

import polars as pl

from distill_at_scale.errors import DasError

_FORMULA = r"^[=+\-@\t\r\n]"
_ESCAPED = r"^'[=+\-@ ]"
_BREAKS = r"[\t\r\n]"


def without_formulas(ids: pl.Series) -> pl.Series:
    """Text ids with a ' before those that begin as formulas do, tabs and line ends in them as blanks; numbers as they
    are.

    Raises:
        DasError: two ids that become one.
    """
    if ids.dtype != pl.String:
        return ids
    quoted = pl.when(ids.str.contains(_FORMULA)).then("'" + ids).otherwise(ids)
    found = pl.select(quoted.alias(ids.name)).to_series().str.replace_all(_BREAKS, " ")
    if found.n_unique() < ids.n_unique():
        both = pl.DataFrame({"id": ids, "as": found}).filter(pl.col("as").is_duplicated()).sort("as", "id")["id"]
        raise _alike(both[0], both[1])
    return found


def users_without_formulas(ids: pl.Series) -> pl.Series:
    """:func:`without_formulas` for the ids of one shard's users, of whom others are elsewhere.

    Raises:
        DasError: an id that is written as another would be escaped, or that has a tab or line end inside.
    """
    if ids.dtype != pl.String:
        return ids
    odd = ids.filter(ids.str.contains(_ESCAPED) | ids.str.slice(1).str.contains(_BREAKS))
    if len(odd):
        raise DasError(
            f"--escape-formulas could write the user id {odd[0]!r} and another alike; export without it, or rename it "
            "in the log."
        )
    return without_formulas(ids)


def _alike(one: str, other: str) -> DasError:
    return DasError(
        f"--escape-formulas writes the ids {one!r} and {other!r} alike; export without it, or rename one of "
        "them in the log."
    )
