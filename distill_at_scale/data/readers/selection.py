"""Which rows of a log are asked for, and what they weigh: ``--where``, ``--event`` and ``--weight``.

Rows that are not asked for are dropped before any rule looks at them, and counted. Values are compared as text, so
that the same rows are found in CSV, JSON lines and Parquet: a whole number is ``5`` however it is stored, and True is
``true``.
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
from distill_at_scale.data.values import as_text
from distill_at_scale.errors import SettingError
from distill_at_scale.validation import did_you_mean

EVENTS: Final = re.compile(
    r"(event|action|behaviou?r|interaction|feedback|activity)(_?(type|name|kind|code|flag))?|type"
)
"""Usual names, in small letters, of a column that tells kinds of events apart."""
_WHOLE: Final = r"^(-?[0-9]+)\.0+$"
_BOOLEANS: Final = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}


class Condition(BaseModel):
    """What the text of one column must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    """the column among the raw rows: a canonical name, or a key of :attr:`LogSchema.extra`"""

    name: str
    """the log's own name of it"""

    values: tuple[str, ...]
    """one of these, as :func:`plain` writes them"""

    option: Literal["where", "event"]

    weights: tuple[float, ...] = ()
    """of the values, which become the rows' ratings; empty where ratings are the log's own"""

    @property
    def label(self) -> str:
        """``event=view,purchase``."""
        return f"{self.name}={','.join(self.values)}"

    @property
    def left_out(self) -> str:
        """What is said of rows that do not match."""
        return f"not {self.label} (--{self.option}), so left out"


@dataclass(frozen=True)
class Selected:
    """The rows of a batch that are asked for.

    Attributes:
        raw: these rows, with ``rating`` where conditions give weights.
        kept: int64, their positions among all rows; None where that is every one.
        left_out: option → rows that it left out.
        seen: (key, value) of the values asked for that occur.
        noticed: the same in words.
    """

    raw: pl.DataFrame
    kept: np.ndarray | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    seen: frozenset[tuple[str, str]] = frozenset()
    noticed: tuple[Notice, ...] = ()


def select_rows(raw: pl.DataFrame, conditions: Sequence[Condition]) -> Selected:
    """The rows for which all conditions hold; a row that is left out counts for the first that does not."""
    if not conditions:
        return Selected(raw)
    stay = np.ones(raw.height, dtype=bool)
    left_out: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    noticed = []
    for condition in conditions:
        text = plain(as_text(raw[condition.key]), condition.values)
        matches = text.is_in(list(condition.values))
        seen |= {(condition.key, value) for value in text.filter(matches).unique().to_list()}
        gone = stay & ~matches.to_numpy()
        count = int(gone.sum())
        if count:
            left_out[condition.option] = left_out.get(condition.option, 0) + count
            example = shown(text[int(gone.argmax())])
            noticed.append(Notice(what=condition.left_out, count=count, example=example))
            stay &= ~gone
        if condition.weights:
            weights = text.replace_strict(
                list(condition.values), list(condition.weights), default=None, return_dtype=pl.Float64
            )
            raw = raw.with_columns(weights.alias(Columns.RATING))
    kept = None if stay.all() else np.flatnonzero(stay)
    rows = raw if kept is None else raw.filter(pl.Series(stay))
    return Selected(rows, kept, left_out, frozenset(seen), tuple(noticed))


def plain(text: pl.Series, wanted: Iterable[str]) -> pl.Series:
    """Text as it is compared: without blanks around it, ``5.0`` as ``5``, ``True`` as ``true``; null is empty.

    What cannot equal one of ``wanted`` may stay as it is.
    """
    text = text.fill_null("").str.strip_chars(" \t")
    if any(value[-1:].isdigit() for value in wanted):
        text = text.str.replace(_WHOLE, "$1")
    if any(value.lower() in _BOOLEANS.values() for value in wanted):
        text = text.replace(_BOOLEANS)
    return text


def unseen(conditions: Sequence[Condition], seen: Iterable[Sequence[str]]) -> list[Notice]:
    """Values asked for that no row of the log has."""
    there = {(key, value) for key, value in seen}
    return [
        Notice(what=f"--{c.option} asks for {c.name}={value}, which no row has", count=1, unit="value")
        for c in conditions
        for value in c.values
        if (c.key, value) not in there
    ]


def none_left(conditions: Sequence[Condition], noticed: Iterable[Notice], bad: int) -> str:
    """Why no row of a log is left, as a clause.

    Args:
        conditions: what was asked for.
        noticed: what was noticed on all rows.
        bad: rows that were asked for, and are bad.
    """
    said = {condition.left_out for condition in conditions}
    gone = [notice for notice in noticed if notice.what in said]
    why = [f"{notice.count:,} are {notice.text}" for notice in gone]
    why += [f"{bad:,} are bad"] if bad else []
    return f"of {sum(notice.count for notice in gone) + bad:,} rows {'; '.join(why)}"


# -- planning -----------------------------------------------------------------------------------------------


def map_of(options: LogOptions) -> dict[str, str]:
    """``--map``, with the column of the ratings that ``--weight`` or ``--event`` decide."""
    if options.weight is not None:
        return {**options.map, Columns.RATING: options.weight}
    return {**options.map, Columns.RATING: ""} if options.event else options.map


def meaning_of_ratings(conditions: Sequence[Condition], options: LogOptions) -> str | None:
    """What ratings are where they are weights; None where they are the log's own."""
    for c in conditions:
        if c.weights:
            return f"weight of {c.name}: " + ", ".join(f"{v} {w:g}" for v, w in zip(c.values, c.weights))
    return None if options.weight is None else f"weight: column '{options.weight}'"


def check_weight(options: LogOptions, files: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Refuses a ``--weight`` that some file does not have; ``files`` as in :func:`find_conditions`.

    Raises:
        SettingError: naming file and columns.
    """
    if options.weight is not None:
        _check_there(f"--weight {options.weight}", options.weight, files)


def _check_there(said: str, name: str, files: Sequence[tuple[str, Sequence[str]]]) -> None:
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
    """The conditions that the options make, and the columns that are read for them alone.

    Args:
        options: what the user says.
        files: of each file its name for messages, and its columns (with those of its folders' names).
        columns: canonical name → the log's own name, of the columns that are read anyway.

    Returns:
        Conditions; key → the log's own name.

    Raises:
        SettingError: a column is not there, is there twice, or could be several.
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
        _check_there(said, name, files)
        key = keys.setdefault(name, f"column:{name}")
        if key not in columns:
            extra[key] = name
        if weights and len(weights) > len(values):
            raise SettingError(f"--event {' '.join(options.event)}: two of the kinds are the same.")
        conditions.append(Condition(key=key, name=name, values=values, option=option, weights=weights))
    return conditions, extra


def _values(given: Iterable[str]) -> tuple[str, ...]:
    texts = list(given)
    values: list[Any] = plain(pl.Series(texts, dtype=pl.String), [text.strip() for text in texts]).to_list()
    return tuple(dict.fromkeys(values))


def _event_column(files: Sequence[tuple[str, Sequence[str]]], columns: dict[str, str], options: LogOptions) -> str:
    place, names = files[0]
    found = [name for name in names if EVENTS.fullmatch(name.lower()) and name not in columns.values()]
    if len(found) == 1:
        return found[0]
    if found:
        choices = " or ".join(f"--event-column {name}" for name in found)
        raise SettingError(f"{place}: several columns could hold the kind of event; say which with {choices}.")
    raise SettingError(
        f"--event {' '.join(options.event)}: {place} has no column that is known to hold the kind of event; it has the "
        f"columns {', '.join(names)}: name the right one with --event-column."
    )
