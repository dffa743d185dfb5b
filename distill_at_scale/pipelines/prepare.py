"""prepare: a raw log becomes a Dataset.

    fragments of the log ─ read, check, deal by user ─► buckets ─ sort, de-duplicate ─► k-core rounds
        ─► number, split, write shards ─► items, manifest

Everything passes from stage to stage through `<output>/_work` on storage, part by part, each with a record
once it is whole: a run that was killed goes on where it was, and no process ever holds more than some batches of
fragments, a bucket, or one number for each item. The manifest is written last. The stages are in `preparing`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from distill_at_scale.config import PrepareConfig
from distill_at_scale.data import log_record, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import restartable, shards
from distill_at_scale.data.preparation.earlier import part_of
from distill_at_scale.data.preparation.item_ids import ItemIds
from distill_at_scale.data.preparation.shards import ShardPart, WrittenItems, WrittenShard
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.preparing.dataset_manifest import Prepared, log_record_of, manifest_of, reading_of
from distill_at_scale.pipelines.preparing.disk import require_space
from distill_at_scale.pipelines.preparing.earlier_log import EarlierLog
from distill_at_scale.pipelines.preparing.job import PrepareJob
from distill_at_scale.pipelines.preparing.read_log import Vocabulary, collect_item_ids, read_log, sort_by_user
from distill_at_scale.pipelines.preparing.split_times import choose_split
from distill_at_scale.pipelines.preparing.survivors import Survivors, check_left, find_survivors
from distill_at_scale.pipelines.runtime import output_folder, run_record, session
from distill_at_scale.pipelines.runtime.tasks import compute, run_stage, run_tree
from distill_at_scale.pipelines.runtime.verb import verb


@verb(PrepareConfig, "input")
def prepare(config: PrepareConfig) -> Dataset:
    """Makes a Dataset of raw logs; see :class:`~distill_at_scale.config.PrepareConfig` for the settings.

    Raises:
        DasError: bad settings, unreadable input, too many bad rows, no rows left, an output that exists.
    """
    return _run(PrepareJob.of(config))


def prepare_parts(config: PrepareConfig, origin: str) -> Dataset:
    """Prepares files that are removed afterwards; the manifest names ``origin`` in their place."""
    return _run(PrepareJob.of(config, [origin]))


def _run(job: PrepareJob) -> Dataset:
    job.check_places()
    schema, pieces, estimate = job.plan_log()
    exchange = job.exchange(len(pieces), estimate)
    require_space(job.output, estimate.rows, exchange, estimate.timed)
    if not job.begin(schema, pieces):
        with session.ensure(job.config.address):
            read = read_log(job, schema, pieces, estimate, exchange)
            n_shards = job.n_shards(job.earlier_reading.good + sum(one.good for one in read))
            vocabulary = collect_item_ids(job, read)
            sorted_, counted = sort_by_user(job, n_shards, exchange, read, vocabulary, schema, pieces)
            survivors = find_survivors(job, n_shards, vocabulary, counted)
            check_left(job, read, sorted_, survivors)
            split = choose_split(job, n_shards, survivors)
            written = _write_shards(job, n_shards, vocabulary, survivors, split)
            _check_train_rows(job, written)
            items = _write_items(job, written, vocabulary, survivors)
            _copy_quarantine(job)
        prepared = Prepared(read, sorted_, written, items, split, n_shards, vocabulary.noticed)
        reading = reading_of(job, schema, estimate, pieces, prepared)
        manifest = manifest_of(job, schema, reading, prepared)
        log = log_record_of(manifest, schema, reading, prepared)
        job.record.write(job.output)
        log.write(job.output)
        output_folder.remove_strays(job.output, manifest, [log_record.NAME, *(one.file.path for one in log.rest)])
        manifest.write(job.output)
    output_folder.remove_work(job.output)
    return Dataset.open(job.output)


def _write_shards(
    job: PrepareJob, n_shards: int, vocabulary: Vocabulary, survivors: Survivors, split: shards.SplitChoice
) -> list[WrittenShard]:
    output, work, min_user = job.output, job.work, job.config.min_user

    def build(part: ShardPart, numbering: shards.Numbering, item_ids: ItemIds) -> WrittenShard:
        return shards.build_shard(output, work, part, numbering, item_ids.ids, split, min_user)

    if job.earlier is not None and job.earlier.keeps_numbers:
        parts = _parts_after(job, job.earlier, n_shards, survivors, split)
    else:
        first = itertools.accumulate(survivors.users, initial=0)
        parts = [ShardPart(bucket, bucket, first_user) for bucket, first_user in zip(range(n_shards), first)]
    return run_stage(job.record, "number, split, write", build, parts, [survivors.numbering, vocabulary.ids])


def _parts_after(
    job: PrepareJob, earlier: EarlierLog, n_shards: int, survivors: Survivors, split: shards.SplitChoice
) -> list[ShardPart]:
    """The shards of an earlier dataset, whose users keep their numbers, and one more for each bucket's new users."""
    work, min_user, uri = job.work, job.config.min_user, earlier.dataset.uri
    known = [
        ShardPart(one.bucket, part_of(one.record), one.record.first_user, one.record, earlier=uri)
        for one in earlier.shards()
    ]
    after = -(-(max(part.part for part in known) + 1) // n_shards) * n_shards
    new = [
        ShardPart(bucket, after + bucket, 0, others=earlier.shards_of(bucket), earlier=uri)
        for bucket in range(n_shards)
    ]

    def count(part: ShardPart, numbering: shards.Numbering) -> int:
        return shards.count_new_users(work, part, numbering, min_user, split.rule)

    counts = run_stage(job.record, "count new users", count, new, [survivors.numbering])
    first = itertools.accumulate(counts, initial=earlier.dataset.n_users)
    return known + [replace(part, first_user=first_user) for part, first_user in zip(new, first)]


def _copy_quarantine(job: PrepareJob) -> None:
    """Copies the bad rows of an earlier dataset's log."""
    if job.earlier is None:
        return
    output, uri = job.output, job.earlier.dataset.uri

    def copy(path: str) -> None:
        storage.write_bytes(storage.join(output, path), storage.read_bytes(storage.join(uri, path)))

    run_stage(job.record, "copy quarantine", copy, job.earlier_reading.quarantine, shown=False, light=True)


def _check_train_rows(job: PrepareJob, written: Sequence[WrittenShard]) -> None:
    splits = run_record.total(one.shard.splits for one in written if one.shard)
    if splits["train"] == 0:
        found = ", ".join(f"{n:,} {name}" for name, n in splits.items())
        raise DasError(
            f"--split {job.config.split} leaves no train rows ({found}); choose another --split, or other shares."
        )


def _write_items(
    job: PrepareJob, written: Sequence[WrittenShard], vocabulary: Vocabulary, survivors: Survivors
) -> WrittenItems:
    folder = storage.join(job.work, shards.FOLDER)
    total = run_tree(
        job.record,
        "count items",
        restartable.sum_counts,
        [restartable.part(folder, part_of(one.shard), ".counts.arrow") for one in written if one.shard],
        lambda level, k: storage.join(folder, f"sum-{level}-{k:05d}.arrow"),
    )
    items: WrittenItems = compute(shards.write_items, job.output, vocabulary.ids, survivors.numbering, total)
    return items
