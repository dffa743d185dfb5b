"""Records of a dataset's shards, held as columns.

A record as an object takes 2 KB and 20 µs to parse, and every task of a stage would do that for every shard. As columns
65,536 records take 14 MB, which Ray hands to the processes of a node without a copy; an index makes one of them an
object.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from distill_at_scale.data import ragged, recorded, storage
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.facts import count_of

NAME = "shards.parquet"
"""File of the records of many shards, beside the manifest."""
_FILES = ("data", "users")
_COUNTS = ("first_user", "n_users", "rows")
_SPLIT = "split."
_AT_ONCE = 4096
# A path that `recorded.Inside` rejects, as a regular expression of RE2.
_OUTSIDE = r"^/|/$|//|^$|[\\:\x00]|(^|/)\.{1,2}(/|$)"


class ShardRecord(BaseModel):
    """A shard: whole users, their rows sorted by (user, timestamp); ties in time are broken by a draw."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: FileRecord
    users: FileRecord
    first_user: int = Field(ge=0)
    n_users: int = Field(ge=1)
    rows: int = Field(ge=0)
    splits: dict[str, Annotated[int, Field(ge=0)]]
    """Number of rows of each split."""


class ShardRecords(Sequence[ShardRecord]):
    """The records of a dataset's shards in user order; pickled without a copy of its columns.

    Attributes:
        file: The file that they were read from, if it is one of their own.
    """

    def __init__(self, table: pa.Table, file: FileRecord | None = None) -> None:
        self._table, self.file = table.combine_chunks(), file

    @classmethod
    def of(cls, records: Iterable[ShardRecord]) -> ShardRecords:
        """Returns the columns of some records.

        Raises:
            ValueError: A checksum is not hexadecimal, or a number exceeds 64 bits.
        """
        listed = list(records)
        columns: dict[str, pa.Array] = {}
        try:
            for name in _FILES:
                files: list[FileRecord] = [getattr(record, name) for record in listed]
                columns[f"{name}.path"] = pa.array([file.path for file in files], pa.string())
                columns[f"{name}.bytes"] = pa.array([file.bytes for file in files], pa.int64())
                columns[f"{name}.sha256"] = pa.array([bytes.fromhex(file.sha256) for file in files], pa.binary(32))
                digests = [bytes.fromhex(file.digest) if file.digest else None for file in files]
                columns[f"{name}.digest"] = pa.array(digests, pa.binary(32))
            for name in _COUNTS:
                columns[name] = pa.array([getattr(record, name) for record in listed], pa.int64())
            for split in dict.fromkeys(split for record in listed for split in record.splits):
                columns[_SPLIT + split] = pa.array([record.splits.get(split) for record in listed], pa.int64())
        except (pa.ArrowException, OverflowError) as error:
            raise ValueError(f"not a record of a shard: {error}") from None
        return cls(pa.table(columns))

    # -- as a sequence --------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> ShardRecord: ...
    @overload
    def __getitem__(self, index: slice) -> ShardRecords: ...
    def __getitem__(self, index: int | slice) -> ShardRecord | ShardRecords:
        chosen = range(len(self))[index]
        if isinstance(chosen, int):
            return self._records(chosen, 1)[0]
        if chosen.step == 1:
            return ShardRecords(self._table.slice(chosen.start, len(chosen)))
        return ShardRecords(self._table.take(pa.array(chosen, pa.int64())))

    def __iter__(self) -> Iterator[ShardRecord]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self._records(start, _AT_ONCE)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShardRecords) and bool(self._table.equals(other._table))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ShardRecords({len(self):,})"

    def _records(self, start: int, n: int) -> list[ShardRecord]:
        return [
            ShardRecord.model_validate(
                {
                    **{name: _file(row, name) for name in _FILES},
                    **{name: row[name] for name in _COUNTS},
                    "splits": {name: row[_SPLIT + name] for name in self.splits if row[_SPLIT + name] is not None},
                }
            )
            for row in self._table.slice(start, n).to_pylist()
        ]

    # -- as columns -----------------------------------------------------------------------------------------------

    @property
    def rows(self) -> np.ndarray:
        """Number of rows of each shard, int64 [shards]."""
        return self._numbers("rows")

    @property
    def n_users(self) -> np.ndarray:
        """Number of users of each shard, int64 [shards]."""
        return self._numbers("n_users")

    @property
    def first_user(self) -> np.ndarray:
        """Number of the first user of each shard, int64 [shards]."""
        return self._numbers("first_user")

    @property
    def splits(self) -> list[str]:
        """Names of the splits."""
        return [name.removeprefix(_SPLIT) for name in self._table.column_names if name.startswith(_SPLIT)]

    def split_rows(self, split: str) -> np.ndarray:
        """Number of rows of a split in each shard, int64 [shards]."""
        if split not in self.splits:
            return np.zeros(len(self), dtype=np.int64)
        return self._numbers(_SPLIT + split)

    def rows_of_splits(self) -> dict[str, int]:
        """Number of rows of each split in all shards."""
        return {split: int(self.split_rows(split).sum()) for split in self.splits}

    def bytes(self, file: str) -> np.ndarray:
        """Bytes of each shard's file, int64 [shards]; ``file``: ``data`` or ``users``."""
        return self._numbers(f"{file}.bytes")

    @property
    def paths(self) -> pa.Array:
        """Paths of all files: each shard's rows, then its users."""
        both = [self._column(f"{name}.path") for name in _FILES]
        order = np.arange(2 * len(self)).reshape(2, -1).T.ravel()
        return pa.concat_arrays(both).take(pa.array(order))

    def update(self, digest: hashlib._Hash) -> None:
        """Appends the checksums of all files, in hexadecimal: each shard's rows, then its users."""
        both = np.empty((len(self), 2, 32), dtype=np.uint8)
        for k, name in enumerate(_FILES):
            column = self._column(f"{name}.sha256")
            values = np.frombuffer(column.buffers()[1], np.uint8)[32 * column.offset :]
            both[:, k] = values[: 32 * len(self)].reshape(-1, 32)
        digest.update(both.tobytes().hex().encode())

    def contradiction(self, listed: str) -> str | None:
        """Returns an inconsistency within a shard or between two, as a clause; ``listed``: a path that no shard has."""
        paths = pa.concat_arrays([pa.array([listed]), self.paths])
        again = np.ones(len(paths), dtype=bool)
        again[np.unique(paths.dictionary_encode().indices, return_index=True)[1]] = False
        begin = ragged.offsets(self.n_users)[:-1]
        total = sum((self.split_rows(split) for split in self.splits), np.zeros(len(self), dtype=np.int64))
        listed_twice = np.logical_or(again[1::2], again[2::2])
        shards = np.flatnonzero(listed_twice | (self.first_user != begin) | (total != self.rows))
        if not len(shards):
            return None
        k = int(shards[0])
        if listed_twice[k]:
            return f"{paths[1 + 2 * k + int(not again[1 + 2 * k])]} is listed twice"
        if self.first_user[k] != begin[k]:
            ends = int(begin[k])
            return f"shard {k} begins with user {self.first_user[k]:,}, but the one before it ends before {ends:,}"
        return f"shard {k} has {count_of(self.rows[k], 'row')}, but its splits have {total[k]:,}"

    def _column(self, name: str) -> pa.Array:
        column = self._table[name]
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)

    def _numbers(self, name: str) -> np.ndarray:
        column = self._column(name)
        values: np.ndarray = (column.fill_null(0) if column.null_count else column).to_numpy()
        return values

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As a field, JSON's list of records."""

        def validate(value: Any, as_list: Callable[[Any], list[ShardRecord]]) -> ShardRecords:
            return value if isinstance(value, ShardRecords) else cls.of(as_list(value))

        def dump(value: ShardRecords) -> list[dict[str, Any]]:
            return [record.model_dump(mode="json") for record in value]

        return core_schema.no_info_wrap_validator_function(
            validate,
            handler.generate_schema(list[ShardRecord]),
            serialization=core_schema.plain_serializer_function_ser_schema(dump),
        )

    # -- on storage -----------------------------------------------------------------------------------------------

    def write(self, folder: str) -> FileRecord:
        """Writes ``shards.parquet`` into a folder."""
        sink = pa.BufferOutputStream()
        pq.write_table(self._table, sink, compression="zstd", use_dictionary=False)
        content = sink.getvalue()
        storage.write_bytes(storage.join(folder, NAME), content)
        return recorded.record_of(NAME, content)

    @classmethod
    def read(cls, folder: str, record: FileRecord, fix: str) -> ShardRecords:
        """Reads what :meth:`write` wrote.

        Raises:
            DamagedFileError: The file is missing, altered, or not of shards.
        """
        uri = storage.join(folder, record.path)
        table = recorded.read_parquet(folder, record, fix)
        with recorded.parsing(uri, fix):
            made = cls(table, record)
            made._check()
        return made

    def _check(self) -> None:
        """What :meth:`of` had from records.

        Raises:
            ValueError: A column is missing or of another type, or a value is out of range.
        """
        expected = ShardRecords.of([])._table.schema
        for field in expected:
            if self._table.schema.field(field.name).type != field.type:
                raise ValueError(f"column {field.name} is not of type {field.type}")
        least = {**dict.fromkeys(_COUNTS, 0), "n_users": 1, **{f"{name}.bytes": 0 for name in _FILES}}
        least |= {_SPLIT + split: 0 for split in self.splits}
        for name, low in least.items():
            if not pa.types.is_int64(self._table.schema.field(name).type):
                raise ValueError(f"column {name} is not of type int64")
            if (self._numbers(name) < low).any():
                raise ValueError(f"a number below {low} in column {name}")
        for field in expected:
            if not field.name.endswith(".digest") and self._table[field.name].null_count:
                raise ValueError(f"column {field.name} has gaps")
        outside = pc.match_substring_regex(self.paths, _OUTSIDE)
        if pc.any(outside).as_py():
            raise ValueError(f"path '{self.paths.filter(outside)[0]}' leads out of the dataset")


def _file(row: dict[str, Any], name: str) -> dict[str, Any]:
    digest = row[f"{name}.digest"]
    return {
        "path": row[f"{name}.path"],
        "bytes": row[f"{name}.bytes"],
        "sha256": row[f"{name}.sha256"].hex(),
        "digest": "" if digest is None else digest.hex(),
    }
