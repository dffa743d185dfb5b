"""The manifest of a prepared dataset, from what its stages tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distill_at_scale.data.manifest import Manifest, QuarantineRecord
from distill_at_scale.data.noticed import merge
from distill_at_scale.data.preparation import described
from distill_at_scale.data.preparation.buckets import BucketRecord
from distill_at_scale.data.preparation.fragments import FragmentRecord
from distill_at_scale.data.preparation.shards import SplitChoice, WrittenItems, WrittenShard
from distill_at_scale.data.readers import LogEstimate, LogSchema
from distill_at_scale.data.readers.selection import meaning_of_ratings, unseen
from distill_at_scale.pipelines.preparing.job import PrepareJob
from distill_at_scale.pipelines.runtime import run_record


@dataclass(frozen=True)
class Prepared:
    """What the stages did."""

    read: Sequence[FragmentRecord]
    sorted: Sequence[BucketRecord]
    written: Sequence[WrittenShard]
    items: WrittenItems
    split: SplitChoice


def manifest_of(job: PrepareJob, schema: LogSchema, estimate: LogEstimate, prepared: Prepared) -> Manifest:
    """Describes a dataset whose files are written."""
    read, written, items = prepared.read, prepared.written, prepared.items
    records = [one.shard for one in written if one.shard]
    reasons, tied = run_record.total(one.reasons for one in read), run_record.total(one.tied for one in written)
    dropped = [one.left_out for one in read] + [one.dropped for one in prepared.sorted] + [one.lost for one in written]
    return Manifest(
        n_users=sum(record.n_users for record in records),
        n_items=items.n_items,
        item_space=items.item_space,
        n_rows=sum(record.rows for record in records),
        splits=run_record.total(record.splits for record in records),
        split_rule=_rule(job, prepared.split),
        tied=tied,
        has_ratings=schema.has_rating,
        rating_meaning=meaning_of_ratings(schema.conditions, job.config),
        has_timestamps=schema.has_timestamp,
        id_types=schema.id_types,
        items=items.file,
        shards=records,
        dropped=run_record.total(dropped),
        quarantine=QuarantineRecord(
            rows=sum(reasons.values()),
            reasons=reasons,
            files=[one.quarantine for one in read if one.quarantine],
        ),
        source={
            "inputs": job.content["input"],
            "files": estimate.files,
            "rows": sum(one.rows + sum(one.left_out.values()) for one in read),
            "skipped": [list(skipped) for skipped in estimate.skipped],
            "read_as": [way.model_dump() for way in estimate.read_as],
            "columns": schema.columns,
            "time_unit": described.time_unit(schema),
            **described.times(schema, estimate, read),
        },
        noticed=merge(
            [
                estimate.noticed,
                unseen(schema.conditions, [pair for one in read for pair in one.seen]),
                *(one.noticed for one in read),
                *(one.noticed for one in prepared.sorted),
                described.ties(tied),
            ]
        ),
        config=job.content,
        made_with=run_record.made_with(),
    )


def _rule(job: PrepareJob, split: SplitChoice) -> dict[str, Any]:
    rule: dict[str, Any] = {"name": split.rule}
    if job.rule.shuffles:
        rule["seed"] = split.seed
    if job.rule.at_times:
        rule |= {"validation_from": split.validation_from, "test_from": split.test_from}
    return rule
