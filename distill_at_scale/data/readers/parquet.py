"""Parquet: footers on the driver, runs of row groups as fragments, row batches on the workers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distill_at_scale.data import storage
from distill_at_scale.data.cleaning import clean_rows
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.readers.schema import Batch, Fragment, LogSchema
from distill_at_scale.errors import DasError

FRAGMENT_ROWS: Final = 1_500_000
BATCH_ROWS: Final = 1 << 20
# Above this a run of row groups is not fetched whole ahead of its decoding: it may not fit in memory.
_PREFETCH_ROWS: Final = 4 * FRAGMENT_ROWS
_SAMPLE_ROWS: Final = 1000


@dataclass(frozen=True)
class ParquetHead:
    """What a Parquet file's footer says."""

    file: storage.FileInfo
    schema: pa.Schema
    metadata: pq.FileMetaData

    @property
    def names(self) -> list[str]:
        """Top-level columns."""
        return list(self.schema.names)


def read_footer(file: storage.FileInfo) -> ParquetHead:
    """Reads a file's footer.

    Raises:
        DasError: the file is no Parquet file, cut off, damaged or encrypted.
    """
    with _explain(file.uri), storage.open_input(file.uri, scattered=True) as source, pq.ParquetFile(source) as parquet:
        return ParquetHead(file, parquet.schema_arrow, parquet.metadata)


def check_types(head: ParquetHead, columns: dict[str, str]) -> None:
    """Refuses columns whose type cannot hold what they are mapped to.

    Raises:
        DasError: naming file, column and type.
    """
    for canonical, name in columns.items():
        dtype = _value_type(head.schema.field(name).type)
        decimal = pa.types.is_decimal(dtype) and not pa.types.is_decimal256(dtype)
        number = pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or decimal
        text = _is_text(dtype)
        time = pa.types.is_timestamp(dtype) or pa.types.is_date(dtype)
        if not (number or text or pa.types.is_null(dtype) or (canonical == Columns.TIMESTAMP and time)):
            raise DasError(
                f"{storage.redact(head.file.uri)}: column '{name}' has the type {dtype}, which cannot "
                f"be read as {canonical}; name another with --map {canonical}=COLUMN."
            )


def id_kind(head: ParquetHead, name: str) -> str | None:
    """``"int"`` or ``"string"`` by the declared type; None for a column of nulls."""
    dtype = _value_type(head.schema.field(name).type)
    if pa.types.is_null(dtype):
        return None
    return "string" if _is_text(dtype) else "int"


def sample_times(head: ParquetHead, name: str) -> list[Any] | None:
    """Some timestamps without a unit of their own, as numbers or text; None where the type has one."""
    dtype = _value_type(head.schema.field(name).type)
    if pa.types.is_timestamp(dtype) or pa.types.is_date(dtype):
        return None
    if head.metadata.num_rows == 0:
        return []
    with (
        _explain(head.file.uri),
        storage.open_input(head.file.uri, scattered=True) as source,
        pq.ParquetFile(source) as parquet,
    ):
        for batch in parquet.iter_batches(_SAMPLE_ROWS, columns=[name], use_threads=False):
            values = _plain(batch.column(0)).drop_null()
            if len(values):
                return (
                    values.to_pylist() if _is_text(values.type) else values.cast(pa.float64(), safe=False).to_pylist()
                )
    return []


def plan_fragments(head: ParquetHead) -> list[Fragment]:
    """Runs of consecutive row groups of about ``FRAGMENT_ROWS`` rows (a larger row group stays whole)."""
    metadata = head.metadata
    fragments: list[Fragment] = []
    groups: list[int] = []
    rows = 0
    first_row = 1
    for index in range(metadata.num_row_groups):
        in_group = metadata.row_group(index).num_rows
        if groups and rows + in_group > FRAGMENT_ROWS:
            fragments.append(_fragment(head, groups, rows, first_row))
            first_row += rows
            groups, rows = [], 0
        groups.append(index)
        rows += in_group
    if rows:
        fragments.append(_fragment(head, groups, rows, first_row))
    return fragments


def _fragment(head: ParquetHead, groups: list[int], rows: int, first_row: int) -> Fragment:
    return Fragment(
        uri=head.file.uri,
        format="parquet",
        version=head.file.version,
        rows=rows,
        # Sizes of single columns are left alone: asking for those of an encrypted one ends the process.
        bytes=head.file.size * rows // head.metadata.num_rows,
        row_groups=tuple(groups),
        first_row=first_row,
    )


def read_parquet(fragment: Fragment, schema: LogSchema) -> Iterator[Batch]:
    """The rows of a run of row groups, in batches of at most ``BATCH_ROWS``."""
    source_name = storage.redact(fragment.uri)
    row = fragment.first_row or 1
    prefetch = not storage.is_local(fragment.uri) and fragment.rows <= _PREFETCH_ROWS
    with (
        _explain(fragment.uri),
        _open(fragment.uri) as source,
        pq.ParquetFile(source, pre_buffer=prefetch, page_checksum_verification=True) as parquet,
    ):
        batches = parquet.iter_batches(
            BATCH_ROWS, list(fragment.row_groups), columns=list(schema.columns.values()), use_threads=False
        )
        for batch in batches:
            arrays = {canonical: _plain(batch.column(name)) for canonical, name in schema.columns.items()}
            raw = pl.DataFrame({name: pl.Series(name, array) for name, array in arrays.items()})
            good, bad = clean_rows(raw, schema.id_types, schema.time_unit, source_name, row)
            row += batch.num_rows
            yield Batch(good, bad)


def _open(uri: str) -> pa.NativeFile:
    if storage.is_local(uri):
        with storage.explain(uri):
            return pa.memory_map(storage.local_path(uri))
    return storage.open_input(uri, scattered=True)


def _value_type(dtype: pa.DataType) -> pa.DataType:
    return dtype.value_type if pa.types.is_dictionary(dtype) else dtype


def _is_text(dtype: pa.DataType) -> bool:
    return any(
        test(dtype)
        for test in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
            pa.types.is_fixed_size_binary,
        )
    )


def _plain(array: Any) -> Any:
    """Dictionaries decoded, bytes read as UTF-8, half floats widened: types that Polars takes as they are."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_float16(array.type):
        return array.cast(pa.float32())
    if not _is_text(array.type):
        return array
    if pa.types.is_fixed_size_binary(array.type):
        array = array.cast(pa.binary())
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type) or pa.types.is_binary_view(array.type):
        return pc.cast(array, pa.large_string())
    # Parquet does not promise that its strings are UTF-8, and Polars relies on it.
    array.validate(full=True)
    return array


@contextlib.contextmanager
def _explain(uri: str) -> Iterator[None]:
    place = storage.redact(uri)
    try:
        with storage.explain(uri):
            yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise DasError(f"{place}: the file is not there (any more).") from error
        text = str(error).split("\n")[0]
        if "utf8" in text.lower() or "utf-8" in text.lower():
            raise DasError(f"{place}: a text column is not valid UTF-8; write it anew as UTF-8.") from error
        if "encrypt" in text.lower():
            raise DasError(f"{place}: the Parquet file is encrypted; decrypt it first.") from error
        if "magic bytes" in text or "smaller than" in text or "footer" in text.lower():
            raise DasError(
                f"{place}: not a whole Parquet file (cut off, or another format, which --format names); fetch it again."
            ) from error
        raise DasError(f"{place}: the Parquet file is damaged ({text}); fetch it again.") from error
