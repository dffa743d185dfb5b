"""Tables (Parquet, Arrow, ORC) on the driver: columns, types, struct fields and fragments."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.readers.schema import FileFormat, Fragment
from distill_at_scale.errors import DasError, SettingError

FRAGMENT_ROWS: Final = 1_500_000
BATCH_ROWS: Final = 1 << 20
# Minimum number of rows with lists that are read at a time; their lists may be long.
_LIST_ROWS: Final = 1 << 10
KINDS: Final[dict[str, str]] = {"parquet": "Parquet", "arrow": "Arrow", "arrow_stream": "Arrow", "orc": "ORC"}


@dataclass(frozen=True)
class TableHead:
    """Footer (or first message) of a table's file.

    Attributes:
        file: The file.
        format: Its format.
        schema: Its columns and types.
        group_rows: Rows of each row group, record batch or stripe; estimates unless ``exact``.
        exact: Whether ``group_rows`` are exact.
    """

    file: storage.FileInfo
    format: FileFormat
    schema: pa.Schema
    group_rows: tuple[int, ...]
    exact: bool = True

    @property
    def names(self) -> list[str]:
        """Column names; fields of structs (or of lists of structs) appear as ``column.field``."""
        return [name for field in self.schema for name in _leaves(field.name, field.type)]


def _leaves(name: str, dtype: pa.DataType) -> list[str]:
    inner = dtype.value_type if is_list(dtype) else dtype
    if pa.types.is_struct(inner):
        return [leaf for field in inner for leaf in _leaves(f"{name}.{field.name}", field.type)]
    return [name]


def field_type(schema: pa.Schema, name: str) -> tuple[pa.DataType, int]:
    """Returns the value type of a column or nested field, and its depth of list nesting."""
    top, steps = find_column(schema, name)
    dtype = schema.field(top).type
    depth = 0
    while True:
        if is_list(dtype):
            dtype, depth = dtype.value_type, depth + 1
        elif pa.types.is_dictionary(dtype):
            dtype = dtype.value_type
        elif isinstance(dtype, pa.BaseExtensionType):
            dtype = dtype.storage_type
        elif pa.types.is_struct(dtype) and steps:
            dtype, steps = dtype.field(steps[0]).type, steps[1:]
        else:
            return dtype, depth


def find_column(schema: pa.Schema, name: str) -> tuple[str, list[str]]:
    """Splits a name into its column (whose name may contain dots) and the fields below it."""
    if name in schema.names:
        return name, []
    parts = name.split(".")
    for size in range(len(parts) - 1, 0, -1):
        top = ".".join(parts[:size])
        if top in schema.names:
            return top, parts[size:]
    raise KeyError(name)


def top_column(schema: pa.Schema, name: str) -> str:
    """Returns the file's column that holds a nested field."""
    return find_column(schema, name)[0]


def check_types(head: TableHead, columns: dict[str, str]) -> None:
    """Rejects columns whose type does not suit what they are mapped to.

    Raises:
        DasError: Names the file, column and type.
    """
    for canonical, name in columns.items():
        dtype, depth = field_type(head.schema, name)
        decimal = pa.types.is_decimal(dtype) and not pa.types.is_decimal256(dtype)
        number = pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or decimal
        text = is_text(dtype)
        time = pa.types.is_timestamp(dtype) or pa.types.is_date(dtype)
        known = number or text or pa.types.is_null(dtype) or (canonical == Columns.TIMESTAMP and time)
        if known and depth <= 1:
            continue
        place = storage.redact(head.file.uri)
        if depth > 1:
            raise DasError(
                f"{place}: column '{name}' holds lists of lists; only one level of lists is read, so flatten it first "
                f"(e.g. in Polars: df.explode('{top_column(head.schema, name)}'))."
            )
        choices = [f"name another with --map {canonical}=COLUMN"]
        if canonical == Columns.RATING:
            choices.append("use --weight COLUMN")
            if pa.types.is_boolean(dtype):
                choices.append(f"give each value its number with --event false:0 true:1 --event-column {name}")
        if canonical in (Columns.RATING, Columns.TIMESTAMP):
            choices.append(f"ignore it with --map {canonical}= (empty)")
        mend = ", or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))
        raise DasError(f"{place}: column '{name}' has the type {dtype}, which cannot be read as {canonical}; {mend}.")


def check_compared(head: TableHead, names: Iterable[str], own: Iterable[str]) -> None:
    """Rejects columns whose values cannot be compared as text, or that hold several values per row.

    Args:
        head: Head of the file.
        names: Columns that are compared.
        own: Columns that are read as ids, ratings or times.

    Raises:
        SettingError: Names the file, column and type.
    """
    lists = any(name in head.names and is_list_column(head, name) for name in own)
    for name in names:
        dtype, depth = field_type(head.schema, name)
        if pa.types.is_nested(dtype) or depth > (1 if lists else 0):
            what = "lists" if depth else f"values of the type {dtype}"
            raise SettingError(
                f"{storage.redact(head.file.uri)}: column '{name}' holds {what}, which --where and --event cannot "
                f"compare; name a column with one value per row."
            )


def id_kind(head: TableHead, name: str) -> str | None:
    """Returns ``"int"`` or ``"string"`` by the declared type; None for nulls only, or without rows."""
    dtype, _ = field_type(head.schema, name)
    if pa.types.is_null(dtype) or (head.exact and not sum(head.group_rows)):
        return None
    return "string" if is_text(dtype) else "int"


def is_list_column(head: TableHead, name: str) -> bool:
    """Returns whether a column holds a list in each row."""
    return field_type(head.schema, name)[1] > 0


def plan_fragments(head: TableHead, rows_per_row: float = 1.0) -> list[Fragment]:
    """Divides a file into runs of row groups of about ``FRAGMENT_ROWS`` rows (a larger row group stays whole).

    Args:
        head: Head of the file.
        rows_per_row: Mean length of the lists, if one row of the file gives several rows.
    """
    fragments: list[Fragment] = []
    groups: list[int] = []
    rows = 0
    first_row = 1
    for index, in_group in enumerate(head.group_rows):
        if groups and (rows + in_group) * rows_per_row > FRAGMENT_ROWS:
            fragments.append(_fragment(head, groups, rows, first_row, rows_per_row))
            first_row += rows
            groups, rows = [], 0
        groups.append(index)
        rows += in_group
    if rows:
        fragments.append(_fragment(head, groups, rows, first_row, rows_per_row))
    return fragments


def _fragment(head: TableHead, groups: list[int], rows: int, first_row: int, rows_per_row: float) -> Fragment:
    return Fragment(
        uri=head.file.uri,
        format=head.format,
        version=head.file.version,
        rows=max(1, round(rows * rows_per_row)),
        # Sizes of single columns are not read: asking for those of an encrypted column ends the process.
        bytes=head.file.size * rows // max(1, sum(head.group_rows)),
        row_groups=tuple(groups),
        first_row=first_row if head.exact or first_row == 1 else None,
    )


def batch_rows(schema: pa.Schema, fragment: Fragment, columns: Iterable[str], rows: int) -> int:
    """Returns how many rows of the file to read at a time, so that their lists hold about ``BATCH_ROWS`` values."""
    if not any(field_type(schema, name)[1] for name in columns):
        return BATCH_ROWS
    mean = max(1.0, fragment.rows / max(1, rows))
    return int(min(BATCH_ROWS, max(_LIST_ROWS, BATCH_ROWS / mean / 4)))


def _is_any(dtype: pa.DataType, kinds: Iterable[str]) -> bool:
    """Returns whether a type is of one of the kinds that ``pyarrow.types`` tests for, by their names."""
    return any(getattr(pa.types, f"is_{kind}")(dtype) for kind in kinds)


def is_list(dtype: pa.DataType) -> bool:
    """Returns whether each value is a list."""
    return _is_any(dtype, ("list", "large_list", "fixed_size_list", "list_view", "large_list_view"))


def is_bytes(dtype: pa.DataType) -> bool:
    """Returns whether values are bytes."""
    return _is_any(dtype, ("binary", "large_binary", "binary_view", "fixed_size_binary"))


def is_text(dtype: pa.DataType) -> bool:
    """Returns whether values are text, or bytes that may be text."""
    strings = _is_any(dtype, ("string", "large_string", "string_view"))
    return strings or is_bytes(dtype)


@contextlib.contextmanager
def explain_table(uri: str, format: str = "parquet") -> Iterator[None]:
    """Turns the errors of a damaged, missing or unreachable table into one sentence."""
    name = storage.redact(uri)
    kind = KINDS.get(format, format)
    try:
        with storage.explain(uri):
            yield
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise DasError(f"{name}: the file no longer exists.") from error
        text = str(error).split("\n")[0]
        if "utf8" in text.lower() or "utf-8" in text.lower():
            raise DasError(f"{name}: a text column is not valid UTF-8; write it again as UTF-8.") from error
        if "encrypt" in text.lower():
            raise DasError(f"{name}: the {kind} file is encrypted; decrypt it first.") from error
        if "magic bytes" in text or "smaller than" in text or "footer" in text.lower():
            raise DasError(
                f"{name}: not a complete {kind} file (truncated, or another format: see --format); fetch it again."
            ) from error
        raise DasError(f"{name}: the {kind} file is damaged ({text}); fetch it again.") from error


def open_table(uri: str) -> pa.NativeFile:
    """Opens a table's file for reading in pieces; local files are memory-mapped."""
    if storage.is_local(uri) and not storage.is_member(uri):
        with storage.explain(uri):
            return pa.memory_map(storage.local_path(uri))
    return storage.open_input(uri, scattered=True)
