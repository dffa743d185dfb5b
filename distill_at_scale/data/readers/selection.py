"""Row selection and weights: ``--where``, ``--event`` and ``--weight``.

Rows that do not match are dropped before validation, and counted. Values are compared as text, so that the same rows
match in CSV, JSON lines and Parquet: an integer is ``5`` however it is stored, and True is ``true``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice, shown
from distill_at_scale.data.readers.options import LogOptions
from distill_at_scale.data.values import as_text, fold
from distill_at_scale.errors import SettingError
from distill_at_scale.validation import did_you_mean

EVENTS: Final = re.compile(
    r"(event|action|behaviou?r|interaction|feedback|activity)(_?(type|name|kind|code|flag))?|type"
)
"""Usual names, in lower case, of a column with the kind of event."""
_WHOLE: Final = r"^(-?[0-9]+)\.0+$"
_BOOLEANS: Final = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}


class Condition(BaseModel):
    """Condition on the text of one column."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    """Column of the raw rows: a canonical name, or a key of :attr:`LogSchema.extra`."""

    name: str
    """Name of the column in the log."""

    values: tuple[str, ...]
    """Accepted values, in the form that :func:`plain` gives."""

    option: Literal["where", "event"]

    weights: tuple[float, ...] = ()
    """Weights of the values, which become the rows' ratings; empty if the ratings are the log's own."""

    @property
    def label(self) -> str:
        """Condition as text: ``event=view,purchase``."""
        return f"{self.name}={','.join(self.values)}"

    @property
    def blanks(self) -> str:
        """Text of the notice about matching values with blanks around them."""
        return f"column '{self.name}' has blanks around the value, which --{self.option} does not compare"

    @property
    def near(self) -> str:
        """Text of the notice about values that are the requested ones in other letters."""
        return (
            f"not {self.label} (--{self.option}) only because of capital letters or odd blanks, so left out; name such "
            f"values too if they mean the same"
        )

    @property
    def left_out(self) -> str:
        """Text of the notice about rows that do not match."""
        return f"not {self.label} (--{self.option}), so left out"


@dataclass(frozen=True)
class Selected:
    """The rows of a batch that match all conditions.

    Attributes:
        raw: The matching rows, with ``rating`` if conditions give weights.
        kept: int64, positions of the matching rows among all rows; None if all match.
        left_out: Option → number of rows that it left out.
        seen: (key, value) pairs of the requested values that occur.
        noticed: Notices about the rows that were left out.
    """

    raw: pl.DataFrame
    kept: np.ndarray | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    seen: frozenset[tuple[str, str]] = frozenset()
    noticed: tuple[Notice, ...] = ()


def select_rows(raw: pl.DataFrame, conditions: Sequence[Condition]) -> Selected:
    """Selects the rows for which all conditions hold; a row is counted under the first condition that fails."""
    if not conditions:
        return Selected(raw)
    stay = np.ones(raw.height, dtype=bool)
    left_out: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    noticed = []
    for condition in conditions:
        given = as_text(raw[condition.key])
        text = plain(given, condition.values)
        matches = text.is_in(list(condition.values))
        seen |= {(condition.key, value) for value in text.filter(matches).unique().to_list()}
        gone = stay & ~matches.to_numpy()
        count = int(gone.sum())
        if count:
            left_out[condition.option] = left_out.get(condition.option, 0) + count
            example = shown(text[int(gone.argmax())])
            noticed.append(Notice(what=condition.left_out, count=count, example=example))
            noticed += _near_misses(condition, text.filter(pl.Series(gone)))
            stay &= ~gone
        noticed += _blanks(condition, given.filter(matches))
        if condition.weights:
            weights = text.replace_strict(
                list(condition.values), list(condition.weights), default=None, return_dtype=pl.Float64
            )
            raw = raw.with_columns(weights.alias(Columns.RATING))
    kept = None if stay.all() else np.flatnonzero(stay)
    rows = raw if kept is None else raw.filter(pl.Series(stay))
    return Selected(rows, kept, left_out, frozenset(seen), tuple(noticed))


def _blanks(condition: Condition, given: pl.Series) -> list[Notice]:
    """Reports matching values that have blanks around them in the log."""
    kinds = given.unique(maintain_order=True)
    odd = kinds.filter(kinds != kinds.str.strip_chars(" \t"))
    if not len(odd):
        return []
    return [Notice(what=condition.blanks, count=int(given.is_in(odd.to_list()).sum()), example=shown(odd[0]))]


def _near_misses(condition: Condition, left_out: pl.Series) -> list[Notice]:
    """Reports values that were left out although only case or odd blanks distinguish them from a requested one."""
    kinds = left_out.unique(maintain_order=True)
    wanted = fold(pl.Series(condition.values, dtype=pl.String)).str.strip_chars()
    near = kinds.filter(fold(kinds).str.strip_chars().is_in(wanted.to_list()))
    if not len(near) or "" in wanted:
        return []
    return [Notice(what=condition.near, count=int(left_out.is_in(near.to_list()).sum()), example=shown(near[0]))]


def plain(text: pl.Series, wanted: Iterable[str]) -> pl.Series:
    """Normalises text for comparison: blanks stripped, ``5.0`` as ``5``, ``True`` as ``true``, null as empty.

    Text that cannot equal one of ``wanted`` may stay unchanged.
    """
    text = text.fill_null("").str.strip_chars(" \t")
    if any(value[-1:].isdigit() for value in wanted):
        text = text.str.replace(_WHOLE, "$1")
    if any(value.lower() in _BOOLEANS.values() for value in wanted):
        text = text.replace(_BOOLEANS)
    return text


def unseen(conditions: Sequence[Condition], seen: Iterable[Sequence[str]]) -> list[Notice]:
    """Returns notices about requested values that no row has."""
    present = {(key, value) for key, value in seen}
    return [
        Notice(what=f"--{c.option} asks for {c.name}={value}, which no row has", count=1, unit="value")
        for c in conditions
        for value in c.values
        if (c.key, value) not in present
    ]


def none_left(conditions: Sequence[Condition], noticed: Iterable[Notice], bad: int) -> str:
    """Explains as a clause why no rows are left.

    Args:
        conditions: Conditions of the log.
        noticed: Notices from all rows.
        bad: Number of matching rows that are bad.
    """
    noticed = list(noticed)
    said = {condition.left_out for condition in conditions}
    gone = [notice for notice in noticed if notice.what in said]
    why = [f"{notice.count:,} are {notice.text}" for notice in gone]
    near = {condition.near for condition in conditions}
    why += [f"of these {notice.count:,} are {notice.text}" for notice in noticed if notice.what in near]
    why += [f"{bad:,} are bad"] if bad else []
    return f"of {sum(notice.count for notice in gone) + bad:,} rows {'; '.join(why)}"


# -- planning -----------------------------------------------------------------------------------------------


def map_of(options: LogOptions) -> dict[str, str]:
    """Returns ``--map`` extended by the rating column that ``--weight`` or ``--event`` imply."""
    if options.weight is not None:
        return {**options.map, Columns.RATING: options.weight}
    return {**options.map, Columns.RATING: ""} if options.event else options.map


def meaning_of_ratings(conditions: Sequence[Condition], options: LogOptions) -> str | None:
    """Returns the meaning of ratings that are weights; None if the ratings are the log's own."""
    for c in conditions:
        if c.weights:
            return f"weight of {c.name}: " + ", ".join(f"{v} {w:g}" for v, w in zip(c.values, c.weights))
    return None if options.weight is None else f"weight: column '{options.weight}'"


def check_weight(options: LogOptions, files: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Rejects a ``--weight`` column that some file lacks; ``files`` as in :func:`find_conditions`.

    Raises:
        SettingError: Names the file and its columns.
    """
    if options.weight is not None:
        _check_present(f"--weight {options.weight}", options.weight, files)


def _check_present(said: str, name: str, files: Sequence[tuple[str, Sequence[str]]]) -> None:
    for place, names in files:
        if name not in names:
            raise SettingError(
                f"{said}: {place} has no column '{name}'; it has the columns {', '.join(names)}."
                f"{did_you_mean(name, names)}"
            )
        if list(names).count(name) > 1:
            raise SettingError(f"{said}: {place} has the column '{name}' twice; rename one of them.")


def find_conditions(
    options: LogOptions, files: Sequence[tuple[str, Sequence[str]]], columns: dict[str, str]
) -> tuple[list[Condition], dict[str, str]]:
    """Translates the options into conditions.

    Args:
        options: Reader options.
        files: For each file its name in messages and its columns, including partition columns.
        columns: Canonical name → the log's own name, for the columns that are read anyway.

    Returns:
        The conditions, and key → the log's own name of the columns that are read only for them.

    Raises:
        SettingError: A column is missing, duplicated or ambiguous.
    """
    asked: list[tuple[Literal["where", "event"], str, str, tuple[str, ...], tuple[float, ...]]] = []
    for name, wanted in options.where.items():
        asked.append(("where", f"--where {name}={','.join(wanted)}", name, _values(wanted), ()))
    if options.event:
        column = options.event_column or _event_column(files, columns, options)
        kinds = options.kinds
        said = f"--event-column {column}" if options.event_column else "--event"
        asked.append(("event", said, column, _values(kinds), tuple(kinds.values())))
    keys = {name: canonical for canonical, name in columns.items()}
    conditions, extra = [], {}
    for option, said, name, values, weights in asked:
        _check_present(said, name, files)
        key = keys.setdefault(name, f"column:{name}")
        if key not in columns:
            extra[key] = name
        if weights and len(weights) > len(values):
            raise SettingError(f"--event {' '.join(options.event)}: two of the kinds are equal.")
        conditions.append(Condition(key=key, name=name, values=values, option=option, weights=weights))
    return conditions, extra


def _values(given: Iterable[str]) -> tuple[str, ...]:
    texts = list(given)
    values: list[Any] = plain(pl.Series(texts, dtype=pl.String), [text.strip() for text in texts]).to_list()
    return tuple(dict.fromkeys(values))


def _event_column(files: Sequence[tuple[str, Sequence[str]]], columns: dict[str, str], options: LogOptions) -> str:
    place, names = files[0]
    matches = [name for name in names if EVENTS.fullmatch(name.lower()) and name not in columns.values()]
    if len(matches) == 1:
        return matches[0]
    if matches:
        choices = " or ".join(f"--event-column {name}" for name in matches)
        raise SettingError(f"{place}: several columns could hold the kind of event; choose one with {choices}.")
    raise SettingError(
        f"--event {' '.join(options.event)}: {place} has no column with a usual name for the kind of event; it has the "
        f"columns {', '.join(names)}: name the right one with --event-column."
    )
