"""The formats that a log is exported in: which files there are, and how rows become their bytes.

Ids keep all digits in each of them: Parquet has them as they are, CSV as decimal text (a spreadsheet that opens it
rounds beyond 15 digits), RecBole as tokens, which are text. RecBole holds times as floats, so times beyond 2^53 are
refused there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Final

import polars as pl
import pyarrow.parquet as pq

from distill_at_scale.data.columns import Columns
from distill_at_scale.data.preparation.restartable import to_table
from distill_at_scale.errors import DasError

_RECBOLE_TYPES: Final = {
    Columns.USER_ID: "token",
    Columns.ITEM_ID: "token",
    Columns.RATING: "float",
    Columns.TIMESTAMP: "float",
    Columns.WEIGHT: "float",
}
RECBOLE_SPLITS: Final = {"train": "train", "validation": "valid", "test": "test"}
_BREAKS: Final = r"[\t\r\n]"
_EXACT: Final = 2**53


@dataclass(frozen=True)
class ExportFile:
    """One file of an export.

    Attributes:
        path: relative to the output.
        splits: whose rows it holds; () for a log without splits.
        shards: whose rows it holds, in this order.
    """

    path: str
    splits: tuple[str, ...]
    shards: tuple[int, ...]


@dataclass(frozen=True)
class Format:
    """A format of an export.

    Attributes:
        files: from the output's name, the number of shards and the splits to the files.
        owned: pattern of the paths of such files.
        write: writes the rows of a file, which come shard by shard.
        by_split: whether each split has files of its own, so that rows need not say theirs.
    """

    files: Callable[[str, int, Sequence[str]], list[ExportFile]]
    owned: str
    write: Callable[[IO[bytes], Iterable[pl.DataFrame]], None]
    by_split: bool


def _by_shard(suffix: str) -> Callable[[str, int, Sequence[str]], list[ExportFile]]:
    def files(name: str, n_shards: int, splits: Sequence[str]) -> list[ExportFile]:
        if not splits:
            return [ExportFile(f"interactions.{suffix}", (), (0,))]
        return [
            ExportFile(f"interactions/part-{shard:05d}.{suffix}", tuple(splits), (shard,)) for shard in range(n_shards)
        ]

    return files


def _recbole_files(name: str, n_shards: int, splits: Sequence[str]) -> list[ExportFile]:
    if not splits:
        return [ExportFile(f"{name}.inter", (), (0,))]
    every = tuple(range(n_shards))
    return [ExportFile(f"{name}.{RECBOLE_SPLITS[split]}.inter", (split,), every) for split in splits]


def _hub_files(name: str, n_shards: int, splits: Sequence[str]) -> list[ExportFile]:
    return [
        ExportFile(
            f"data/{split or 'train'}-{shard:05d}-of-{n_shards:05d}.parquet", (split,) if split else (), (shard,)
        )
        for split in splits or ("",)
        for shard in range(n_shards)
    ]


def _write_parquet(sink: IO[bytes], parts: Iterable[pl.DataFrame]) -> None:
    writer: pq.ParquetWriter | None = None
    try:
        for part in parts:
            table = to_table(part)
            writer = writer or pq.ParquetWriter(sink, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _write_csv(sink: IO[bytes], parts: Iterable[pl.DataFrame]) -> None:
    for number, part in enumerate(parts):
        sink.write(part.write_csv(include_header=number == 0).encode())


def _write_recbole(sink: IO[bytes], parts: Iterable[pl.DataFrame]) -> None:
    for number, part in enumerate(parts):
        for name in (Columns.USER_ID, Columns.ITEM_ID):
            _require_one_line(part[name])
        if Columns.TIMESTAMP in part.columns and part.height:
            _require_exact(part[Columns.TIMESTAMP])
        typed = part.rename({name: f"{name}:{_RECBOLE_TYPES[name]}" for name in part.columns})
        sink.write(typed.write_csv(include_header=number == 0, separator="\t", quote_style="never").encode())


def _require_one_line(ids: pl.Series) -> None:
    """Fields of .inter files are not quoted."""
    if ids.dtype == pl.String and len(broken := ids.filter(ids.str.contains(_BREAKS))):
        raise DasError(
            f"the {ids.name.removesuffix('_id')} id {broken[0]!r} has a tab or line end, which a .inter file cannot "
            "hold; export --format parquet, or with --escape-formulas, which makes them blanks."
        )


def _require_exact(times: pl.Series) -> None:
    if times.abs().max() > _EXACT:  # type: ignore[operator]
        raise DasError(
            "a .inter file holds times as floats, which would lose digits of a time beyond 2^53 ms; export --format "
            "parquet."
        )


FORMATS: Final[dict[str, Format]] = {
    "parquet": Format(_by_shard("parquet"), r"interactions(/part-\d{5,})?\.parquet", _write_parquet, by_split=False),
    "csv": Format(_by_shard("csv"), r"interactions(/part-\d{5,})?\.csv", _write_csv, by_split=False),
    "recbole": Format(_recbole_files, r"[^/]+\.inter", _write_recbole, by_split=True),
    "hf": Format(
        _hub_files,
        r"README\.md|croissant\.json|data/(train|validation|test)-\d{5,}-of-\d{5,}\.parquet",
        _write_parquet,
        by_split=True,
    ),
}
OWNED: Final = "|".join(f"(?:{form.owned})" for form in FORMATS.values())
"""Pattern of what any format writes."""
