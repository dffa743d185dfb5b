"""Repeated header lines within a file, the result of concatenating files with ``cat``."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice, shown
from distill_at_scale.data.readers.lines import Parsed
from distill_at_scale.data.readers.quoting import Quoting
from distill_at_scale.data.readers.schema import Fragment, LogSchema
from distill_at_scale.errors import DasError

_WHAT: Final = "the header is repeated (concatenated files?) and left out"


class RepeatedHeader:
    """Detects repetitions of a fragment's header line.

    Args:
        fragment: Fragment of delimited text; without a header nothing is detected.
        schema: Schema with which the log is read.
        source: File name for messages.
    """

    def __init__(self, fragment: Fragment, schema: LogSchema, source: str) -> None:
        self._source = source
        self._line = fragment.header
        fields = Quoting.of(fragment, schema).fields(fragment.header) if fragment.header else None
        if len(fragment.delimiter or "") > 1:
            fields = fragment.header.split(fragment.delimiter) if fragment.header else None
        self._names = [field.strip().lower() for field in fields or []]
        self._own: dict[str, str] = {}
        if self._names and len(self._names) == len(fragment.names):
            self._own = {c: self._names[fragment.names.index(name)] for c, name in schema.columns.items()}

    def drop(self, parsed: Parsed, line: int | None) -> Parsed:
        """Removes header lines from a block's rows.

        Args:
            parsed: Rows of the block.
            line: Number of the block's first line, None if unknown.

        Raises:
            DasError: A header has the same columns in another order, which changes the meaning of the rows after it.
        """
        raw = parsed.raw
        # A header does not parse as numbers, so a block with one was read as text.
        if not self._own or any(raw[name].dtype != pl.String for name in self._own):
            return parsed
        users = raw[Columns.USER_ID].str.strip_chars().str.to_lowercase()
        if not users.is_in(self._names).any():
            return parsed
        stripped = raw.select(pl.col(name).str.strip_chars().str.to_lowercase() for name in self._own)
        is_own = stripped.select(pl.all_horizontal(pl.col(c) == name for c, name in self._own.items())).to_series()
        is_other = stripped.select(pl.all_horizontal(pl.col(c).is_in(self._names) for c in self._own)).to_series()
        is_other = is_other & ~is_own
        if is_other.any():
            raise DasError(self._other(parsed, int(is_other.arg_max() or 0), line))
        if not is_own.any():
            return parsed

        def numbers() -> tuple[np.ndarray | None, np.ndarray | None]:
            rows, broken = parsed.numbers()
            return None if rows is None else rows[~is_own.to_numpy()], broken

        notice = Notice(what=_WHAT, count=int(is_own.sum()), unit="line", example=shown(self._line))
        return Parsed(raw.filter(~is_own), parsed.broken, parsed.reasons, numbers, (*parsed.noticed, notice))

    def _other(self, parsed: Parsed, row: int, line: int | None) -> str:
        rows, _ = parsed.numbers()
        where = "" if rows is None or line is None else f" (line {line + int(rows[row]):,})"
        return (
            f"{self._source}: the file contains another header{where} that names the columns in another order than "
            f"the first one ({self._line[:80]}); the file was concatenated from files that differ: pass those instead."
        )
