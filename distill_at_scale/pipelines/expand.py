"""expand: a log of any size that looks like a dataset, some users of one block of users a task.

    a sample of the users ─► keep rates [a, b]
    each (block of users, shard, range of its users): copies of rows, block of items by block ─► log/part-00042.parquet

<output>/log/*.parquet     user_id · item_id (Int64) · rating and timestamp, where the dataset has them
         run.json          how the run went
         expansion.json    what it made, written last
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import ray
import scipy.sparse as sp

from distill_at_scale.config import ExpandConfig
from distill_at_scale.data import storage
from distill_at_scale.data.columns import SPLITS, Columns
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.dataset_ref import DatasetRef
from distill_at_scale.data.expansion import expand as expanded
from distill_at_scale.data.expansion import keep_rates
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.errors import SettingError, StorageError
from distill_at_scale.facts import byte_size
from distill_at_scale.pipelines.runtime import output_folder, run_record, session
from distill_at_scale.pipelines.runtime.parts_output import PartsOutput, PartsResult, parquet_bytes
from distill_at_scale.pipelines.runtime.tasks import compute, run_stage
from distill_at_scale.pipelines.runtime.verb import verb

log = logging.getLogger(__name__)

MANIFEST = "expansion.json"
LOG = "log"
# Rows of the sample that the keep rates are computed from: some seconds, and some hundred MiB.
_SAMPLE_ROWS = 5_000_000
# Rows of a part: about two seconds of work and 100 MiB.
_PART_ROWS = 2_000_000
# A prepared dataset numbers items in 32 bits, and users in 64.
_MOST_ITEMS, _MOST_USERS = (1 << 31) - 1, (1 << 63) - 1
# Bytes of a row in a Parquet file, to compare with the space on a disk: measured 5.5 with ratings and times.
ROW_BYTES = 6


class Expansion(PartsResult):
    """The log that was made, and of what."""

    log: str
    """Folder of the log's Parquet files, for `das prepare --input`."""
    by: str
    """Blocks of users x blocks of items."""
    rows: int
    users: int
    """Users who have a row."""
    items: int
    """Number of item ids; some may have no row."""
    mean_rate: float
    """Mean over the blocks of the share of the rows that a block keeps."""
    data: DatasetRef
    files: int


@dataclass(frozen=True)
class _Part:
    """Users of the log: positions start … stop - 1 of a shard, in one block of users."""

    number: int
    block: int
    shard: int
    start: int
    stop: int


@dataclass(frozen=True)
class _Expanded(PartRecord):
    """A part of the log that was written."""

    file: FileRecord
    rows: int
    users: int
    """Users who have a row."""


@verb(ExpandConfig, "data")
def expand(config: ExpandConfig) -> Expansion:
    """Makes a log of any size that looks like a dataset; see :class:`~distill_at_scale.config.ExpandConfig`.

        das.expand(dataset, by="32x64", output="s3://bucket/rehearsal").log

    How active users and how popular items are, and what users have in common, is as in the dataset (see
    `data.expansion`). The log depends on the dataset and the settings alone. Run again after a kill, the same command
    keeps the parts that are done.

    Raises:
        SettingError: more blocks than users or items, or more items than a dataset can number.
        DasError: no dataset, an output that exists, a local disk without room for the log.
    """
    started = time.time()
    output = PartsOutput(storage.normalise(config.output), MANIFEST, "an expansion", rf"{LOG}/part-\d{{5,}}\.parquet")
    output.check(config.overwrite)
    dataset = Dataset.open(config.data)
    output_folder.check_outside(output.uri, dataset.uri, "the dataset to expand")
    check_blocks(config, dataset)
    record = run_record.RunRecord("expand", config.model_dump(mode="json", exclude={"address", "overwrite"}))
    uri, n_users, seed = dataset.uri, dataset.n_users, config.seed
    with session.ensure(config.address):
        rates: np.ndarray = compute(rates_of, uri, config.blocks, seed)
        expected = int(rates.sum() * dataset.n_rows)
        log.info("expanding %s rows to about %s", f"{dataset.n_rows:,}", f"{expected:,}")
        _check_room(output.uri, expected)
        plan = {"data": dataset.manifest.fingerprint, **config.model_dump(include={"by", "seed"})}
        output.begin(plan)

        def work(part: _Part, rates: np.ndarray) -> _Expanded:
            def build() -> _Expanded:
                frame = _rows(dataset, part, rates[part.block], n_users, seed)
                file = output.write(f"{LOG}/part-{part.number:05d}.parquet", parquet_bytes(frame))
                return _Expanded(file, frame.height, frame[Columns.USER_ID].n_unique())

            return output.once(part.number, _Expanded, build)

        parts = run_stage(record, "expand", work, list(parts_of(dataset, rates)), [ray.put(rates)], light=True)
    files, stage = [part.file for part in parts], record.stages[-1]
    made = Expansion(
        uri=output.uri,
        log=output.place(LOG),
        by=config.by,
        rows=sum(part.rows for part in parts),
        users=sum(part.users for part in parts),
        items=config.blocks[1] * dataset.n_items,
        mean_rate=round(float(rates.mean()), 6),
        data=DatasetRef.of(dataset),
        files=len(files),
        bytes=sum(file.bytes for file in files),
        reused_parts=stage.reused,
        wall_s=round(time.time() - started, 3),
        cpu_s=stage.cpu_s,
        peak_mib=stage.peak_mib,
    )
    manifest = {
        "format": "distill_at_scale/expansion",
        "version": 1,
        **made.model_dump(mode="json", include={"by", "rows", "users", "items", "mean_rate", "data"}),
        "rates": rates.tolist(),
        "files": [file.model_dump() for file in files],
    }
    output.finish(record, manifest, [file.path for file in files])
    return made


def check_blocks(config: ExpandConfig, dataset: Dataset) -> None:
    """Refuses blocks that the dataset is too small for, and ids that overflow.

    Raises:
        SettingError: naming the largest number that is possible.
    """
    for of, asked, there, most in zip(
        ("users", "items"), config.blocks, (dataset.n_users, dataset.n_items), (_MOST_USERS, _MOST_ITEMS)
    ):
        possible = min(there, most // there)
        if asked > possible:
            why = f"the dataset has {there:,} {of}" if possible == there else f"a dataset holds at most {most:,} {of}"
            raise SettingError(f"--by {config.by}: at most {possible:,} blocks of {of} are possible; {why}.")


def _check_room(uri: str, rows: int) -> None:
    """Refuses a local disk that has less room than the log would take.

    Raises:
        StorageError: saying how much is wanted.
    """
    if not os.path.isabs(uri):
        return
    there = Path(uri)
    while not there.exists():
        there = there.parent
    free, wanted = shutil.disk_usage(there).free, rows * ROW_BYTES
    if wanted > free:
        raise StorageError(
            f"{uri}: about {byte_size(wanted)} are needed for {rows:,} rows, and the disk has "
            f"{byte_size(free)} free; choose smaller --by or another --output."
        )


def rates_of(uri: str, by: tuple[int, int], seed: int) -> np.ndarray:
    """Keep rates, float64 [a, b], from as many shards as a sample needs; users are dealt to shards at random."""
    dataset = Dataset.open(uri)
    rows = 0
    samples: list[sp.csr_array] = []
    for shard in range(len(dataset.shards)):
        samples.append(dataset.interactions(*SPLITS, shards=[shard]).to_csr())
        rows += samples[-1].nnz
        if rows >= _SAMPLE_ROWS and sum(sample.shape[0] for sample in samples) >= by[0]:
            break
    return keep_rates(sp.csr_array(sp.vstack(samples)), by, seed)


def parts_of(dataset: Dataset, rates: np.ndarray) -> Iterator[_Part]:
    """Ranges of users that are expected to have about two million rows each."""
    number = 0
    for block, times in enumerate(rates.sum(axis=1).tolist()):
        for shard, record in enumerate(dataset.shards):
            pieces = min(max(1, round(record.rows * times / _PART_ROWS)), record.n_users)
            bounds = np.linspace(0, record.n_users, pieces + 1).round().astype(int).tolist()
            for start, stop in itertools.pairwise(bounds):
                yield _Part(number, block, shard, start, stop)
                number += 1


def _rows(dataset: Dataset, part: _Part, rates: np.ndarray, n_users: int, seed: int) -> pl.DataFrame:
    """user_id · item_id · rating · timestamp of a part, by user; the last two where the dataset has them."""
    rows = dataset.interactions(*SPLITS, shards=[part.shard])
    found = [
        _columns(rows, copy.users, copy.items, copy.sources)
        for copy in expanded(rows, (part.start, part.stop), part.block, rates, n_users, seed)
    ]
    return pl.concat(found).sort(Columns.USER_ID, maintain_order=True)


def _columns(rows: Interactions, users: np.ndarray, items: np.ndarray, sources: np.ndarray) -> pl.DataFrame:
    columns = {Columns.USER_ID: users, Columns.ITEM_ID: items}
    if rows.ratings is not None:
        columns[Columns.RATING] = rows.ratings[sources]
    frame = pl.DataFrame(columns)
    if rows.timestamps is None:
        return frame
    # As a type that says its unit.
    times = pl.Series(Columns.TIMESTAMP, rows.timestamps[sources]).cast(pl.Datetime("ms", "UTC"))
    return frame.with_columns(times)
