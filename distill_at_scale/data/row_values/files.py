"""Files of numbers for rows: Parquet or CSV with the columns ``user_id``, ``item_id`` and the number's, in any order.

Without ``item_id`` the numbers are of users. Files are read in the parts in which `prepare` reads a log: row groups of
Parquet, byte ranges of CSV.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.ids import convert_id
from distill_at_scale.data.readers.delimited_formats import CSV
from distill_at_scale.data.readers.delimited_layout import header_bytes
from distill_at_scale.data.readers.layout import Head, TextLayout
from distill_at_scale.data.readers.log_format import format_of
from distill_at_scale.data.readers.parquet import PARQUET
from distill_at_scale.data.readers.plan import TEXT_FRAGMENT_BYTES
from distill_at_scale.data.readers.quoting import Quoting
from distill_at_scale.data.readers.schema import Fragment, LogSchema
from distill_at_scale.data.readers.table_rows import simple
from distill_at_scale.data.readers.tables import explain_table
from distill_at_scale.data.readers.text import BOM, HEAD_BYTES, blocks, check_utf8, read_start, read_text_head
from distill_at_scale.errors import DasError, SettingError

VALUE = "value"
PIECE = "piece"
_RAW = "raw"
_THREADS = 16
_MOST_SHOWN = 60


@dataclass(frozen=True)
class ValueFiles:
    """Files of numbers, of which only footers and first lines were read.

    Attributes:
        uri: File or folder.
        column: Name of the numbers' column.
        with_items: Whether the numbers are of rows; if not, they are of users.
        pieces: Parts of the files, each of which can be read alone.
    """

    uri: str
    column: str
    with_items: bool
    pieces: tuple[Fragment, ...]

    @classmethod
    def open(cls, uri: str, column: str, piece_bytes: int = TEXT_FRAGMENT_BYTES) -> ValueFiles:
        """Lists the files and checks that they have the columns.

        Args:
            uri: File or folder.
            column: Name of the numbers' column.
            piece_bytes: Approximate size of a part of a CSV file, in bytes.

        Raises:
            SettingError: A file or column is missing, or a file is neither Parquet nor CSV.
            DasError: Only some files have items, or a file is damaged.
        """
        files, place = storage.list_files(uri), storage.redact(uri)
        if not files:
            raise SettingError(f"{place}: no such file or folder of column '{column}'.")
        with ThreadPoolExecutor(_THREADS) as pool:
            heads = list(pool.map(lambda file: _head(file, column), files))
        with_items = {Columns.ITEM_ID in head.names for head in heads}
        if len(with_items) > 1:
            raise DasError(f"{place}: only some files have a column item_id; give all of them one, or none.")
        pieces = [piece for head in heads for piece in format_of(head).plan(head, piece_bytes, {}, 1.0)]
        return cls(uri, column, with_items.pop(), tuple(pieces))

    @property
    def files(self) -> ValueFiles:
        """The files themselves."""
        return self

    def rows_of(self, dataset: Dataset, users: pl.Series) -> Iterator[pl.DataFrame]:
        """Reads all files for the numbers of some users.

        Yields:
            user_id · item (Int32), if they are of rows · value (Float64, NaN where it is not finite) · piece.
        """
        known = pl.DataFrame({Columns.USER_ID: users})
        numbers = numbered_items(dataset) if self.with_items else None
        for index in range(len(self.pieces)):
            for frame in self.read(index, dataset.manifest.id_types):
                own = frame.join(known, on=Columns.USER_ID, how="semi")
                if len(own):
                    yield with_numbers(own, numbers)

    def read(self, index: int, id_types: Mapping[str, str]) -> Iterator[pl.DataFrame]:
        """Reads a part.

        Args:
            index: Position of the part.
            id_types: Types of the dataset's ids; rows whose ids are not of these types are left out.

        Yields:
            user_id · item_id, if the numbers are of rows · value (Float64, NaN where it is not finite) · piece.
        """
        for frame in self._raw(index, id_types):
            value = _numbers(frame[_RAW])
            yield frame.drop(_RAW).with_columns(value, pl.lit(index, pl.Int32).alias(PIECE))

    def not_finite(self, index: int, id_types: Mapping[str, str], user: object, item: object | None) -> DasError:
        """Returns the error that names what stands in a part where a finite number should."""
        place = storage.redact(self.pieces[index].uri)
        of = f"user {user!r}" if item is None else f"user {user!r} and item {item!r}"
        shown = "a value"
        for frame in self._raw(index, id_types):
            asked = pl.col(Columns.USER_ID) == user
            if item is not None:
                asked &= pl.col(Columns.ITEM_ID) == item
            bad = frame.filter(asked & _numbers(frame[_RAW]).is_nan())
            if len(bad):
                shown = f"'{str(bad[_RAW][0])[:_MOST_SHOWN]}'"
                break
        return DasError(
            f"{place}: {shown} in column '{self.column}' of {of} is not a finite number; give every row one."
        )

    def _raw(self, index: int, id_types: Mapping[str, str]) -> Iterator[pl.DataFrame]:
        """user_id · item_id · raw, the column as it stands in the file."""
        piece = self.pieces[index]
        names = {Columns.USER_ID: Columns.USER_ID, _RAW: self.column}
        if self.with_items:
            names[Columns.ITEM_ID] = Columns.ITEM_ID
        ids = {name: id_types[name] for name in names if name != _RAW}
        with storage.unchanged(piece.uri, piece.version):
            read = _table(piece, names) if piece.format == PARQUET.name else _lines(piece, names, ids)
            for frame in read:
                frame = frame.with_columns(convert_id(frame[name], kind) for name, kind in ids.items())
                yield frame.drop_nulls(list(ids)) if any(frame[name].null_count() for name in ids) else frame


def numbered_items(dataset: Dataset) -> pl.DataFrame:
    """item_id · item of every item."""
    return dataset.items().select(Columns.ITEM_ID, Columns.ITEM)


def with_numbers(frame: pl.DataFrame, numbers: pl.DataFrame | None) -> pl.DataFrame:
    """Puts numbers in place of item ids; rows of items that the dataset lacks are not asked for."""
    if numbers is None:
        return frame
    return frame.join(numbers, on=Columns.ITEM_ID, how="inner", maintain_order="left").drop(Columns.ITEM_ID)


def _numbers(values: pl.Series) -> pl.Series:
    """The column as numbers, NaN where they are none or not finite."""
    if values.dtype in (pl.String, pl.Boolean, pl.Null) or values.dtype.is_numeric():
        found = values.cast(pl.Float64, strict=False)
    else:
        found = pl.Series(VALUE, np.full(len(values), np.nan))
    finite = found.is_finite().fill_null(False)
    return (found if finite.all() else found.set(~finite, float("nan"))).alias(VALUE)


# -- formats ----------------------------------------------------------------------------------------------------------


def _head(file: storage.FileInfo, column: str) -> Head:
    place = storage.redact(file.uri)
    start = read_start(file, HEAD_BYTES)
    if start.startswith(PARQUET.magic):
        found: Head = PARQUET.read_schema(file)
        _require(found.schema.names, column, place)  # type: ignore[union-attr]
        return found
    head = read_text_head(file, start)
    if not head.has_line:
        raise SettingError(f"{place}: not a table (its first line has no end); give Parquet, or CSV with column names.")
    line = next((line for line in head.text.split("\n") if line.strip()), "").rstrip("\r")
    delimiter = max(",;\t|", key=line.count)
    names = Quoting(delimiter, "record", 0).fields(line) if line else []
    names = [name.strip() for name in (line.split(delimiter) if names is None else names)]
    _require(names, column, place)
    return TextLayout(head, CSV.name, tuple(names), delimiter, header_bytes(head), {}, True, line, "record")


def _require(names: Sequence[str], column: str, place: str) -> None:
    for name in (Columns.USER_ID, column):
        if name not in names:
            raise SettingError(f"{place}: missing column '{name}'; its columns are {', '.join(names) or 'none'}.")


def _table(piece: Fragment, names: Mapping[str, str]) -> Iterator[pl.DataFrame]:
    with explain_table(piece.uri):
        for batch in PARQUET.batches(piece, list(names.values())):
            yield pl.DataFrame({ours: pl.Series(ours, _plain(batch.column(theirs))) for ours, theirs in names.items()})


def _plain(array: pa.Array) -> pa.Array:
    # What is neither id nor number is shown as it stands.
    return array if pa.types.is_nested(array.type) else simple(array)


def _lines(piece: Fragment, names: Mapping[str, str], ids: Mapping[str, str]) -> Iterator[pl.DataFrame]:
    # Its number is read as prepare reads a rating: as a number, or as text where it is none.
    columns = {Columns.RATING if ours == _RAW else ours: theirs for ours, theirs in names.items()}
    schema = LogSchema.model_validate({"columns": columns, "id_types": ids})
    for block in blocks(piece, CSV.whole(piece, schema), CSV.block_bytes):
        if block.data.isspace():
            continue
        check_utf8(block.data, piece.uri, block.line)
        parsed = CSV.parse(block.data.removeprefix(BOM), piece, schema)
        if parsed.broken:
            raise DasError(
                f"{storage.redact(piece.uri)}: {parsed.reasons[0]}: '{parsed.broken[0][:_MOST_SHOWN]}'; correct the "
                "line, or remove it."
            )
        yield parsed.raw.rename({Columns.RATING: _RAW})
