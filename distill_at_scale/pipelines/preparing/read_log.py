"""First stages of `prepare`: fragments of the log are read and dealt by user, and each bucket is sorted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import ray

from distill_at_scale.data import storage
from distill_at_scale.data.columns import Columns
from distill_at_scale.data.noticed import Notice, merge
from distill_at_scale.data.preparation import buckets, fragments, kcore, restartable
from distill_at_scale.data.preparation.buckets import BucketRecord
from distill_at_scale.data.preparation.dealt import DealtRows
from distill_at_scale.data.preparation.earlier import EarlierRows
from distill_at_scale.data.preparation.exchange import Exchange
from distill_at_scale.data.preparation.fragments import Source, SourceRecord
from distill_at_scale.data.preparation.item_ids import ItemIds
from distill_at_scale.data.preparation.kcore import CountRecord
from distill_at_scale.data.preparation.odd_ids import notice_items
from distill_at_scale.data.preparation.packed import pack
from distill_at_scale.data.preparation.part_record import PartRecord
from distill_at_scale.data.preparation.sorted_rows import SortedRows
from distill_at_scale.data.readers import Fragment, LogEstimate, LogSchema
from distill_at_scale.data.readers.selection import none_left
from distill_at_scale.errors import DamagedFileError, DasError
from distill_at_scale.facts import count_of
from distill_at_scale.pipelines.preparing.job import PrepareJob
from distill_at_scale.pipelines.runtime import run_record
from distill_at_scale.pipelines.runtime.tasks import compute, run_stage, run_tree
from distill_at_scale.pipelines.runtime.tasks import load as load_shared


@dataclass(frozen=True)
class Vocabulary:
    """The :class:`ItemIds` of the log, on the cluster."""

    ids: ray.ObjectRef[Any]
    size: int
    noticed: list[Notice]


def read_log(
    job: PrepareJob, schema: LogSchema, pieces: Sequence[Fragment], estimate: LogEstimate, exchange: Exchange
) -> list[SourceRecord]:
    """Reads the fragments and deals their good rows by user, as ``exchange`` plans.

    Raises:
        DasError: no good rows, or more bad ones than are allowed.
    """
    output, work, before = job.output, job.work, job.earlier_reading.fragments

    def partition(source: Source) -> SourceRecord:
        return fragments.partition(output, work, source, schema, exchange)

    items = []
    for k in range(exchange.sources):
        own = exchange.fragments_of(k, len(pieces))
        items.append(Source(k, pieces[own.start : own.stop], before + own.start))
    read = run_stage(job.record, "read the log", partition, items)
    _check_rows(job, schema, estimate, read)
    return read


def _check_rows(job: PrepareJob, schema: LogSchema, estimate: LogEstimate, read: Sequence[SourceRecord]) -> None:
    rows, good = sum(r.rows for r in read), sum(r.good for r in read)
    if good == 0 and any(r.left_out for r in read):
        why = none_left(schema.conditions, merge(r.noticed for r in read), rows)
        raise DasError(f"no rows are left of the input ({job.inputs}): {why}.")
    if rows - good > job.config.max_bad_share * rows:
        reasons = run_record.total(r.reasons for r in read)
        by_count = sorted(reasons.items(), key=lambda r: -r[1])
        worst = ", ".join(f"{n:,} {why}" for why, n in by_count[:3])
        reason, path = next((by_count[0][0], r.quarantine) for r in read if by_count[0][0] in r.reasons)
        first = compute(fragments.first_bad, job.output, path, reason)
        where = storage.join(storage.redact(job.output), fragments.QUARANTINE)
        column = reason.split(" ")[0]
        ignore = ""
        if by_count[0][1] == rows and column in (Columns.RATING, Columns.TIMESTAMP):
            ignore = f", or ignore the column with --map {column}= (empty)"
        read_as = "; ".join(str(way) for way in estimate.read_as)
        are = "is" if rows - good == 1 else "are"
        raise DasError(
            f"{rows - good:,} of {count_of(rows, 'row')} {are} bad ({worst}), more than --max-bad-share "
            f"{job.config.max_bad_share:g} allows (the first: {first}); look at them in {where}, correct the log or "
            f"raise the share{ignore}. The log was read as {read_as}."
        )
    if good == 0:
        raise DasError(f"no good rows in the input ({job.inputs}): {count_of(rows, 'row')}, all bad.")


def collect_item_ids(job: PrepareJob, read: Sequence[SourceRecord]) -> Vocabulary:
    """Merges the item ids of all fragments."""
    folder = storage.join(job.work, fragments.FOLDER)
    sources = [fragments.items_of(folder, k) for k, r in enumerate(read) if r.has_items]
    if job.earlier is not None:
        sources.append(storage.join(job.work, "items", "earlier.arrow"))
        compute(job.earlier.write_item_ids, sources[-1])
    try:
        last = run_tree(
            job.record,
            "collect item ids",
            fragments.merge_item_ids,
            sources,
            lambda level, k: storage.join(job.work, "items", f"level-{level}-{k:05d}.arrow"),
        )
    except DamagedFileError:
        # If what they were merged into is damaged and they are gone, the next run reads all of these fragments again.
        for uri in sources:
            if not storage.exists(uri):
                restartable.discard(uri)
        raise
    ids = load_shared(_load_ids, last)
    size, noticed = compute(_describe_ids, ids)
    restartable.free(folder)
    return Vocabulary(ids, size, noticed)


def _describe_ids(item_ids: ItemIds) -> tuple[int, list[Notice]]:
    return len(item_ids.ids), notice_items(item_ids.ids)


def _load_ids(uri: str) -> ItemIds:
    return ItemIds.of(pl.DataFrame(pl.from_arrow(restartable.read_arrow(uri))).to_series())


def sort_by_user(
    job: PrepareJob,
    n_shards: int,
    exchange: Exchange,
    read: Sequence[SourceRecord],
    vocabulary: Vocabulary,
    schema: LogSchema,
    pieces: Sequence[Fragment],
) -> tuple[list[BucketRecord], list[CountRecord | None]]:
    """Sorts and de-duplicates each bucket; and counts its items for the first round of filters, where it does that."""
    before, earlier = job.earlier_reading.good, job.earlier
    starts = list(itertools.accumulate((r.good for r in read), initial=before)) if schema.positions else None
    shared = [vocabulary.ids] if earlier is None else [vocabulary.ids, load_shared(earlier.rows, vocabulary.ids)]
    dealt = fragments.dealt_rows(job.work, exchange, n_shards, starts)
    work, keep, min_rating, seed = job.work, job.config.duplicates, job.config.min_rating, job.config.seed

    min_user, short, counts = job.config.min_user, job.rule.shortest, kcore.counted_while_sorted(n_shards)

    def build(bucket: int, item_ids: ItemIds, old: EarlierRows | None = None) -> _Sorted:
        counted: list[CountRecord] = []

        def count(made: SortedRows) -> None:
            none = np.zeros(0, dtype=np.int32)
            user, item = made.columns.get(Columns.USER, none), made.columns.get(Columns.ITEM, none)
            n_users, n_items = len(made.users), len(item_ids.ids)
            counted.append(kcore.count_first(work, bucket, user, item, n_users, n_items, min_user, short))

        on_rows = count if counts else None
        record = buckets.build_bucket(work, bucket, dealt, item_ids, keep, min_rating, seed, old, on_rows)
        return _Sorted(record, counted[0] if counted else None, reused=record.reused)

    if exchange.merges:
        _merge(job, schema, pieces, read, dealt, vocabulary, starts)
    freed = _Freed(dealt)
    made = run_stage(job.record, "sort by user", build, list(range(n_shards)), shared, on_done=freed.done)
    return [one.bucket for one in made], [one.counted for one in made]


@dataclass(frozen=True)
class _Sorted(PartRecord):
    bucket: BucketRecord
    counted: CountRecord | None


@dataclass(frozen=True)
class _Group:
    index: int
    sources: range
    rows: int
    fragments: list[Fragment]
    starts: list[int]


def _merge(
    job: PrepareJob,
    schema: LogSchema,
    pieces: Sequence[Fragment],
    read: Sequence[SourceRecord],
    dealt: DealtRows,
    vocabulary: Vocabulary,
    starts: Sequence[int] | None,
) -> None:
    """Reads the log again, now that its item ids have numbers, and deals its rows by group."""

    def merge(group: _Group, item_ids: ItemIds) -> PartRecord:
        def rows_of(source: int) -> Iterator[pl.DataFrame]:
            k = source - group.sources.start
            return fragments.good_rows(group.fragments[k], schema, group.starts[k])

        return dealt.merge(group.index, rows_of, lambda rows: pack(rows, item_ids), group.rows)

    groups = [
        _Group(
            k,
            sources,
            sum(read[s].good for s in sources),
            [pieces[s] for s in sources],
            [starts[s] if starts else 0 for s in sources],
        )
        for k, sources in enumerate(dealt.exchange.groups)
    ]
    run_stage(job.record, "deal by user", merge, groups, [vocabulary.ids])


class _Freed:
    """Removes what buckets were read from as soon as all that share it are sorted."""

    def __init__(self, dealt: DealtRows) -> None:
        self._dealt = dealt
        self._left = [set(needed_by) for needed_by in dealt.removable]
        self._lots_of: dict[int, list[int]] = {}
        for lot, needed_by in enumerate(self._left):
            for bucket in needed_by:
                self._lots_of.setdefault(bucket, []).append(lot)

    def done(self, bucket: int) -> None:
        """Takes note of a sorted bucket."""
        for lot in self._lots_of[bucket]:
            self._left[lot].discard(bucket)
            if not self._left[lot]:
                self._dealt.remove(lot)
