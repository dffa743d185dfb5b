"""prepare: a raw log becomes a Dataset.

    fragments of the log ─ read, check, deal by user ─► buckets ─ sort, de-duplicate ─► k-core rounds
        ─► number, split, write shards ─► items, manifest

Everything passes from stage to stage through `<output>/_work` on storage, part by part, each with a record
once it is whole: a run that was killed goes on where it was, and no process ever holds more than a fragment's
batch, a bucket, or one number for each item. The manifest is written last. The stages are in `preparing`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from distill_at_scale.config import PrepareConfig
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import restartable, shards
from distill_at_scale.data.preparation.shards import WrittenItems, WrittenShard
from distill_at_scale.data.readers import plan_log
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.preparing.dataset_manifest import Prepared, manifest_of
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
    schema, pieces, estimate = plan_log(job.config, want_split=job.rule.in_log)
    job.check_columns(schema)
    if not pieces:
        raise DasError(f"no rows in the input ({job.inputs}).")
    if not job.begin(schema, pieces):
        with session.ensure(job.config.address):
            read = read_log(job, schema, pieces, estimate)
            n_shards = job.n_shards(sum(one.good for one in read))
            vocabulary = collect_item_ids(job, read)
            sorted_ = sort_by_user(job, n_shards, job.n_dealt(estimate), read, vocabulary, schema.positions)
            survivors = find_survivors(job, n_shards, vocabulary)
            check_left(job, read, sorted_, survivors)
            split = choose_split(job, n_shards, survivors)
            written = _write_shards(job, n_shards, survivors, split)
            _check_train_rows(job, written)
            items = _write_items(job, written, vocabulary, survivors)
        manifest = manifest_of(job, schema, estimate, Prepared(read, sorted_, written, items, split))
        job.record.write(job.output)
        output_folder.remove_strays(job.output, manifest)
        manifest.write(job.output)
    output_folder.remove_work(job.output)
    return Dataset.open(job.output)


@dataclass(frozen=True)
class _Shard:
    bucket: int
    first_user: int


def _write_shards(
    job: PrepareJob, n_shards: int, survivors: Survivors, split: shards.SplitChoice
) -> list[WrittenShard]:
    output, work, min_user = job.output, job.work, job.config.min_user

    def build(shard: _Shard, numbering: shards.Numbering) -> WrittenShard:
        return shards.build_shard(output, work, shard.bucket, numbering, shard.first_user, split, min_user)

    first = itertools.accumulate(survivors.users, initial=0)
    items = [_Shard(bucket, first_user) for bucket, first_user in zip(range(n_shards), first)]
    return run_stage(job.record, "number, split, write", build, items, [survivors.numbering])


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
        [restartable.part(folder, k, ".counts.arrow") for k, one in enumerate(written) if one.shard],
        lambda level, k: storage.join(folder, f"sum-{level}-{k:05d}.arrow"),
    )
    items: WrittenItems = compute(shards.write_items, job.output, vocabulary.ids, survivors.numbering, total)
    return items
