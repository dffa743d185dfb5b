"""The k-core stages of `prepare`: which users and items survive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from distill_at_scale.data import hashing, storage
from distill_at_scale.data.preparation import kcore, restartable
from distill_at_scale.data.preparation.buckets import BucketRecord
from distill_at_scale.data.preparation.fragments import SourceRecord
from distill_at_scale.data.preparation.item_ids import ItemIds
from distill_at_scale.data.preparation.kcore import CountRecord, RoundRecord
from distill_at_scale.data.preparation.shards import Numbering
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.preparing.earlier_log import EarlierLog
from distill_at_scale.pipelines.preparing.job import PrepareJob
from distill_at_scale.pipelines.preparing.read_log import Vocabulary
from distill_at_scale.pipelines.runtime import run_record
from distill_at_scale.pipelines.runtime.tasks import compute, run_stage, run_tree
from distill_at_scale.pipelines.runtime.tasks import load as load_shared


@dataclass(frozen=True)
class Survivors:
    """Items that survive, numbered, on the cluster; and the number of users who do in each bucket."""

    numbering: ray.ObjectRef[Any]
    users: list[int]


@dataclass(frozen=True)
class _Group:
    index: int
    buckets: list[int]


def find_survivors(
    job: PrepareJob, n_shards: int, vocabulary: Vocabulary, first: Sequence[CountRecord | None]
) -> Survivors:
    """Filters users and items in rounds, until a round changes nothing.

    Args:
        job, n_shards, vocabulary: As in the stages before.
        first: What the first round counted in each bucket while it was sorted; None: it has to be counted.
    """
    work, config, short, n_ids = job.work, job.config, job.rule.shortest, vocabulary.size
    groups = [_Group(k, group) for k, group in enumerate(kcore.bucket_groups(n_shards))]
    alive: list[ray.ObjectRef[Any]] = []
    for round_ in range(1_000_000):

        def count(group: _Group, alive_items: np.ndarray | None = None, round_: int = round_) -> CountRecord:
            return kcore.count_round(
                work, round_, group.index, group.buckets, n_ids, alive_items, config.min_user, short
            )

        known = {k: one for k, one in enumerate(first) if one is not None} if round_ == 0 else {}
        left = [group for group in groups if group.index not in known]
        known |= dict(
            zip(
                (group.index for group in left),
                run_stage(job.record, f"filter, round {round_ + 1}", count, left, alive),
            )
        )
        counted = [known[group.index] for group in groups]
        folder = storage.join(work, kcore.FOLDER, f"round-{round_:03d}")
        total = run_tree(
            job.record,
            "sum item counts",
            restartable.sum_counts,
            [restartable.read_once(folder, group.index, ".arrow") for group in groups],
            lambda level, k, folder=folder: storage.join(folder, f"sum-{level}-{k:05d}.arrow"),  # type: ignore[misc]
        )
        decided: RoundRecord = compute(kcore.decide, work, round_, total, n_ids, config.min_item)
        restartable.free(folder)
        if decided.settled:
            break
        alive = [load_shared(kcore.load_alive, work, round_)]
    numbering = load_shared(
        _load_numbering, work, round_, config.min_item, job.rule.shuffles, job.earlier, vocabulary.ids
    )
    return Survivors(numbering, [n for record in counted for n in record.users])


def _load_numbering(
    work: str, round_: int, min_item: int, shuffles: bool, earlier: EarlierLog | None, item_ids: ItemIds
) -> Numbering:
    item_hash = hashing.hash_ids(item_ids.ids) if shuffles else None
    given = None if earlier is None else earlier.numbers(item_ids)
    return Numbering.of(kcore.load_alive(work, round_), min_item > 1, item_hash, given)


def check_left(
    job: PrepareJob, read: Sequence[SourceRecord], sorted_: Sequence[BucketRecord], survivors: Survivors
) -> None:
    """Refuses a log of which no user survives.

    Raises:
        DasError: saying where the rows went.
    """
    if sum(survivors.users):
        return
    gone = run_record.total(r.dropped for r in sorted_)
    before = job.earlier_reading
    out = sum(run_record.total([before.left_out, *(r.left_out for r in read)]).values())
    asked = f"{out:,} were left out by --where or --event, " if out else ""
    rows, good = before.rows + sum(r.rows for r in read), before.good + sum(r.good for r in read)
    left = sum(r.kept for r in sorted_)
    config, short = job.config, job.rule.shortest
    asks = f"--min-user {config.min_user}, --min-item {config.min_item}"
    if short > config.min_user:
        asks += f" and --split {config.split} (at least {short} rows a user)"
    raise DasError(
        f"no rows are left: of {rows + out:,} rows {asked}{rows - good:,} "
        f"were bad, {gone['duplicates']:,} duplicates, {gone['min_rating']:,} below --min-rating, "
        f"{gone['split']:,} in no split, and {left:,} went to {asks}."
    )
