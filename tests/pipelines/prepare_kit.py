"""What the tests of prepare share: small logs, a driver without Ray, and a Dataset read back file by file."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import dealt, exchange
from distill_at_scale.pipelines import prepare as verb
from distill_at_scale.pipelines.preparing import read_log, split_times, survivors
from distill_at_scale.pipelines.runtime import tasks

LOG = ("user_id", "item_id", "rating", "timestamp", "split")
Row = tuple[Any, Any, float | None, int | None, int | None]


def random_rows(seed: int, n: int, users: int, items: int, strings: bool = False) -> list[Row]:
    """Rows with ratings and times (ms, whole seconds), many ties and duplicates among them."""
    rng = random.Random(seed)
    rows: list[Row] = []
    for _ in range(n):
        user, item = rng.randrange(users) * 7919, min(int(rng.paretovariate(0.8)), items) * 31
        ids = (f"u{user}", f"ä-{item}") if strings else (user, item)
        rows.append((*ids, rng.randrange(1, 11) / 2, (1_600_000_000 + rng.randrange(10 * n)) * 1000, None))
    return rows


def frame(rows: Iterable[Row]) -> pl.DataFrame:
    """The rows as a log, without the columns that are None throughout."""
    table = pl.DataFrame(list(rows), schema=list(LOG), orient="row", infer_schema_length=None)
    table = table.with_columns(pl.col("timestamp") // 1000) if table["timestamp"].dtype == pl.Int64 else table
    return table.select([name for name in LOG if table[name].dtype != pl.Null])


def write_logs(folder: Path, rows: Sequence[Row], n_files: int, suffix: str = ".csv") -> list[str]:
    """The rows, dealt over files of the same kind."""
    folder.mkdir(parents=True, exist_ok=True)
    table = frame(rows)
    paths = []
    for k in range(n_files):
        path = folder / f"log-{k:02d}{suffix}"
        part = table.gather_every(n_files, k)
        part.write_parquet(path) if suffix == ".parquet" else part.write_csv(path)
        paths.append(str(path))
    return paths


@contextlib.contextmanager
def without_ray() -> Iterator[None]:
    """prepare's own driver over its own parts, with a plain loop in the places where Ray schedules."""

    def run_stage(run: Any, name: str, work: Any, items: Any, shared: Any = (), on_done: Any = None, **_: Any) -> Any:
        done = []
        for index, item in enumerate(items):
            done.append(work(item, *shared))
            if on_done:
                on_done(index)
        return done

    with pytest.MonkeyPatch.context() as patch:
        for module in (tasks, verb, read_log, survivors, split_times):
            patch.setattr(module, "run_stage", run_stage)
            patch.setattr(module, "load_shared", lambda function, *arguments: function(*arguments), raising=False)
            patch.setattr(module, "compute", lambda function, *arguments: function(*arguments), raising=False)
        patch.setattr(verb.session, "ensure", lambda address: contextlib.nullcontext())
        yield


def two_levels(ranges: int = 2, groups: int = 3, held_rows: int = dealt.HELD_ROWS) -> None:
    """Plans two levels of the exchange even for a small log, in this process from now on."""
    exchange.ONE_LEVEL, exchange.TOGETHER, exchange._RANGES, exchange._GROUPS = 0, 0, ranges, groups
    dealt.HELD_ROWS = held_rows


def read_together(groups: int = 2, held_bytes: int = dealt.HELD_BYTES) -> None:
    """Plans to read fragments together even for a small log, in this process from now on."""
    exchange.ONE_LEVEL, exchange.TOGETHER, exchange._GROUPS = 0, 1 << 20, groups
    dealt.HELD_BYTES = held_bytes


def inline_prepare(**settings: Any) -> Dataset:
    """prepare, without Ray."""
    with without_ray():
        return verb.prepare(**settings)


def read_back(folder: str) -> dict[str, Any]:
    """A Dataset in the shape of the naive twin's, read file by file."""
    dataset = Dataset.open(folder)
    dataset.verify()
    m = dataset.manifest
    items = pq.read_table(f"{folder}/{m.items.path}").to_pylist()
    assert [row["item"] for row in items] == list(range(m.n_items))
    shards = []
    first = 0
    for record in m.shards:
        rows = pq.read_table(f"{folder}/{record.data.path}").to_pylist()
        users = pq.read_table(f"{folder}/{record.users.path}").to_pylist()
        assert (record.first_user, record.n_users, record.rows) == (first, len(users), len(rows))
        first += len(users)
        for name, total in record.splits.items():
            assert total == sum(user[name] for user in users)
        shards.append({"rows": [tuple(row.values()) for row in rows], "users": [tuple(u.values()) for u in users]})
    assert m.source["rows"] == m.quarantine.rows + sum(m.dropped.values()) + m.n_rows
    return {
        "n_users": m.n_users,
        "n_items": m.n_items,
        "n_rows": m.n_rows,
        "splits": m.splits,
        "dropped": m.dropped,
        "items": [(row["item_id"], row["train_count"]) for row in items],
        "shards": shards,
    }


def checksums(dataset: Dataset) -> list[str]:
    """Of everything that must be equal between runs."""
    m = dataset.manifest
    return [m.fingerprint, m.items.sha256, *(f.sha256 for s in m.shards for f in (s.data, s.users))]


def paths_below(folder: Path) -> set[str]:
    """Every file and folder below, relative."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
