"""Columns in few bytes: integers by their distance from the least, values that repeat by runs or a dictionary.

Ids and times of a log have 8 bytes each. In unfinished files a time takes as many bytes as its span in its own unit
needs, a rating 1, an item's number 3, and a user's id is there once for adjacent rows. Codes are compressed where that
pays. A chunk of rows becomes a record batch of one row, which has two lists for each column: its values and its codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa

_CODES = ".codes"
# What a code is: the distance from the least value in units, twice the value, the value's position in a dictionary, or
# the number of adjacent rows with the value.
_SPAN, _HALVES, _DICTIONARY, _RUNS = 1, 2, 3, 4
# int64 numbers before the codes: what they are, bytes of each, their number, the unit, and whether they are compressed.
_HEADER = 5 * 8
# Parts of a second in nanoseconds, the coarsest first; other integers have the unit 1.
_UNITS = (1_000_000_000, 1_000_000, 1_000)
# Bytes that are compressed to learn whether it pays, and the share that must remain at most.
_SAMPLE, _PAYS = 1 << 14, 0.875
# Share of the bytes that a dictionary must leave at most: its hash table is what costs most here.
_DICTIONARY_PAYS = 0.6
_MOST_DISTINCT = 1 << 16
# Runs of a row at most, where numbers have a short span and where they have none; and rows that show if there are more.
_LONG_RUNS, _ANY_RUNS, _LOOKED_AT = 0.1, 0.6, 1024
_WHOLE = (1, 2, 4)
_zstd = pa.Codec("zstd", 1)


@dataclass
class Condenser:
    """What pays for the columns of a file, learned from its first chunk."""

    _repeats: dict[str, bool] = field(default_factory=dict)
    _compresses: dict[str, bool] = field(default_factory=dict)

    def condense(self, rows: pa.RecordBatch | pa.Table | Mapping[str, np.ndarray]) -> pa.RecordBatch:
        """Returns columns as a record batch of one row; :func:`restored` makes columns of it again.

        Args:
            rows: Columns of equal length.
        """
        names = list(rows) if isinstance(rows, Mapping) else rows.schema.names
        lists = [_one_list(one) for name in names for one in self._coded(name, _as_array(rows[name]))]
        return pa.RecordBatch.from_arrays(lists, lists_of(names))

    def _coded(self, name: str, array: pa.Array) -> tuple[pa.Array, pa.Array]:
        """The values of a column and its codes, of which there may be none."""
        if not len(array) or array.null_count:
            return array, pa.array([], pa.uint8())
        kind = array.type
        if pa.types.is_float32(kind):
            halves = _halves(array.to_numpy())
            if halves is not None:
                return pa.array([], kind), self._packed(name, _HALVES, halves)
        runs = None
        if pa.types.is_integer(kind):
            runs = _runs(array, _LONG_RUNS)
            span = None if runs is not None else _span(array.to_numpy())
            if span is not None and _width(span.codes) < array.nbytes // len(array):
                return pa.array([span.base], kind), self._packed(name, _SPAN, span.codes, span.unit)
        if runs is None and not pa.types.is_floating(kind):
            runs = _runs(array, _ANY_RUNS)
        if runs is not None:
            heads, lengths = runs
            return array.take(pa.array(heads)), self._packed(name, _RUNS, lengths)
        if self._repeats.get(name, True):
            found = array.dictionary_encode()
            bytes_ = found.dictionary.nbytes + 2 * len(array)
            pays = len(found.dictionary) <= _MOST_DISTINCT and bytes_ < _DICTIONARY_PAYS * array.nbytes
            self._repeats.setdefault(name, pays)
            if pays:
                which = found.indices.to_numpy().astype(np.uint8 if len(found.dictionary) <= 1 << 8 else np.uint16)
                return found.dictionary, self._packed(name, _DICTIONARY, which)
        return array, pa.array([], pa.uint8())

    def _packed(self, name: str, how: int, codes: np.ndarray, unit: int = 1) -> pa.Array:
        """uint8 array: a header and the codes, those that are compressed byte by byte (see :func:`_planes`)."""
        width = _width(codes)
        if name not in self._compresses and width:
            sample = pa.py_buffer(_planes(codes[: _SAMPLE // width], width))
            self._compresses[name] = _zstd.compress(sample).size < _PAYS * sample.size
        compressed = bool(width) and self._compresses[name]
        if compressed:
            content = np.frombuffer(_zstd.compress(pa.py_buffer(_planes(codes, width))), np.uint8)
        else:
            content = (
                codes.astype(f"<u{width}", copy=False).view(np.uint8) if width in _WHOLE else _planes(codes, width)
            )
        header = np.array([how, width, len(codes), unit, compressed], dtype=np.int64).view(np.uint8)
        return pa.array(np.concatenate([header, content]))


def restored(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the columns that :meth:`Condenser.condense` was given."""
    names = [name for name in batch.schema.names if not name.endswith(_CODES)]
    columns = [_decoded(batch.column(name).flatten(), batch.column(name + _CODES).flatten()) for name in names]
    return pa.RecordBatch.from_arrays(columns, names)


def lists_of(names: list[str]) -> list[str]:
    """Names of the lists that hold columns."""
    return [one for name in names for one in (name, name + _CODES)]


def _decoded(values: pa.Array, packed: pa.Array) -> pa.Array:
    if not len(packed):
        return values
    content = packed.to_numpy()
    how, width, count, unit, compressed = (int(n) for n in content[:_HEADER].view(np.int64))
    content = content[_HEADER:]
    if compressed:
        content = np.frombuffer(_zstd.decompress(pa.py_buffer(content), count * width), np.uint8)
    if width in _WHOLE and not compressed:
        codes = content.view(f"<u{width}")
    else:
        size = 4 if width == 3 else max(width, 1)
        columns = np.zeros((count, size), dtype=np.uint8)
        columns[:, :width] = content.reshape(width, count).T
        codes = columns.reshape(-1).view(f"<u{size}")
    if how == _DICTIONARY:
        return values.take(pa.array(codes))
    if how == _RUNS:
        if pa.types.is_integer(values.type):
            return pa.array(np.repeat(values.to_numpy(), codes), values.type)
        return values.take(pa.array(np.repeat(np.arange(count), codes)))
    if how == _HALVES:
        return pa.array(_of_halves(codes))
    base = values.to_numpy()
    with np.errstate(over="ignore"):
        sums = codes.astype(np.int64) * np.int64(unit) + base.astype(np.int64)
    return pa.array(sums.astype(base.dtype, copy=False), values.type)


@dataclass(frozen=True)
class _Span:
    base: int
    unit: int
    codes: np.ndarray


def _span(values: np.ndarray) -> _Span | None:
    """Integers as codes, where their span needs at most 4 bytes."""
    low, high = int(values.min()), int(values.max())
    # Modulo 2⁶⁴: the distance of two integers may exceed the largest one.
    offsets = values.view(np.uint64) if values.itemsize == 8 else values.astype(np.int64).view(np.uint64)
    offsets = offsets - np.uint64(low % (1 << 64))
    unit = 1
    if high - low >= 1 << 24:
        for one in _UNITS:
            # Division is several times faster than the remainder.
            if not (offsets[:64] % np.uint64(one)).any():
                units = offsets // np.uint64(one)
                if np.array_equal(units * np.uint64(one), offsets):
                    offsets, unit = units, one
                    break
    span = (high - low) // unit
    if span >= 1 << 32:
        return None
    return _Span(low, unit, offsets.astype(np.uint8 if span < 1 << 8 else np.uint16 if span < 1 << 16 else np.uint32))


def _planes(codes: np.ndarray, width: int) -> np.ndarray:
    """uint8 [width · n]: the lowest byte of each code, then the next one of each …"""
    return codes.view(np.uint8).reshape(len(codes), codes.itemsize)[:, :width].T.reshape(-1)


def _width(codes: np.ndarray) -> int:
    """Bytes of the largest code."""
    return -(-int(codes.max()).bit_length() // 8)


def _halves(values: np.ndarray) -> np.ndarray | None:
    """Twice the values as bytes, if these are exact."""
    with np.errstate(invalid="ignore", over="ignore"):
        halves = (values * np.float32(2)).astype(np.uint8)
    # Bit by bit, since −0 and 0 are equal.
    return halves if np.array_equal(_of_halves(halves).view(np.int32), values.view(np.int32)) else None


def _of_halves(codes: np.ndarray) -> np.ndarray:
    return codes.astype(np.float32) * np.float32(0.5)


def _runs(array: pa.Array, most: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Positions of the first rows of runs of one value, and the runs' lengths, if there are ``most`` runs a row."""
    if pa.types.is_integer(array.type):
        values = array.to_numpy()
        head = values[:_LOOKED_AT]
        if np.count_nonzero(head[1:] != head[:-1]) > (most + 0.1) * len(head):
            return None
        changes = values[1:] != values[:-1]
    else:
        series = pl.Series(array)
        changes = (series != series.shift(1)).to_numpy()[1:]
    heads = np.concatenate([[0], np.flatnonzero(changes) + 1])
    if len(heads) > most * len(array):
        return None
    lengths = np.diff(heads, append=len(array))
    return heads, lengths.astype(np.uint8 if lengths.max() < 1 << 8 else np.uint32)


def _as_array(column: pa.Array | pa.ChunkedArray | np.ndarray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return column.combine_chunks()
    return pa.array(column) if isinstance(column, np.ndarray) else column


def _one_list(array: pa.Array) -> pa.Array:
    return pa.LargeListArray.from_arrays(pa.array([0, len(array)], pa.int64()), array)
