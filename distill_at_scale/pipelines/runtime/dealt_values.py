"""Deals numbers from outside, such as scores and propensities, to the shards that they are of."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import polars as pl
import ray

from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation.dealt import MERGED
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.row_values import DealtValues, ValueFiles, ValueSource
from distill_at_scale.data.row_values.dealt import FOLDER
from distill_at_scale.data.row_values.files import numbered_items
from distill_at_scale.data.temporary import temporary_folder
from distill_at_scale.pipelines.runtime import resources, run_record, session
from distill_at_scale.pipelines.runtime.tasks import load, run_stage

FOLDERS = (FOLDER, MERGED)
"""Folders of unfinished work."""
FEW_SHARDS = 8
"""Number of shards up to which each reads all files: dealing takes as long as this many readings."""


def are_dealt(files: ValueFiles, dataset: Dataset) -> bool:
    """Whether dealing costs less than reading all files for each shard."""
    return len(dataset.shards) > FEW_SHARDS and bool(files.pieces)


def stage_of(files: ValueFiles) -> str:
    """Name of the stage that deals numbers."""
    return f"deal {files.column} by user"


def deal_values(record: run_record.RunRecord, dataset: Dataset, files: ValueFiles, work: str) -> ValueSource:
    """Deals the numbers of a dataset's rows by user, in one pass over their files. Needs a Ray session.

    Args:
        record: is told time and memory.
        dataset: Dataset whose rows they are of.
        files: Files of the numbers.
        work: Folder of the run's unfinished work; receives :data:`FOLDERS`.

    Returns:
        Where each shard finds its numbers: the files themselves, for a dataset of few shards.

    Raises:
        DasError: A file is damaged, or has changed.
    """
    if not are_dealt(files, dataset):
        return files
    dealt, uri = DealtValues.plan(files, dataset, work), dataset.uri
    shared: list[ray.ObjectRef[Any]] = [load(_numbers, uri)] if files.with_items else []

    def deal(index: int, numbers: pl.DataFrame | None = None) -> PartRecord:
        return dealt.deal(index, numbers)

    run_stage(record, stage_of(files), deal, list(range(dealt.tasks)), shared)
    return dealt


@contextlib.contextmanager
def dealt_values(
    record: run_record.RunRecord, dataset: Dataset, files: ValueFiles | None, output: str | None
) -> Iterator[ValueSource | None]:
    """Deals numbers for the time of a block, as :func:`deal_values`.

    They lie in a folder beside the output or, on a single machine, in a temporary one. On several machines without an
    output, each shard reads all files.

    Args:
        record, dataset: As in :func:`deal_values`.
        files: Files of the numbers; None: nothing is dealt.
        output: File that the verb writes; None: none.
    """
    if files is None or (output is None and not _is_one_machine()):
        yield files
        return
    if output is None:
        work = temporary_folder(FOLDER)
    else:
        folder, name = storage.normalise(output).rsplit("/", 1)
        work = storage.join(folder, f"{name}.{FOLDER}-{uuid.uuid4().hex[:8]}")
    try:
        yield deal_values(record, dataset, files, work)
    finally:
        storage.remove(work)


def _is_one_machine() -> bool:
    capacity = resources.could_be()
    return not session.is_client() and not capacity.growth and sum(nodes.most for nodes in capacity.nodes) <= 1


def _numbers(uri: str) -> pl.DataFrame:
    return numbered_items(Dataset.open(uri))
