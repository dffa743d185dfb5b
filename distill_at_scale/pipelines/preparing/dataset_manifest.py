"""The manifest of a prepared dataset, from what its stages tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distill_at_scale.data import storage
from distill_at_scale.data.log_record import LogRecord, Reading, TakenFile
from distill_at_scale.data.manifest import Manifest, QuarantineRecord
from distill_at_scale.data.noticed import Notice, merge
from distill_at_scale.data.preparation import described
from distill_at_scale.data.preparation.buckets import BucketRecord
from distill_at_scale.data.preparation.fragments import SourceRecord
from distill_at_scale.data.preparation.odd_ids import notice_users
from distill_at_scale.data.preparation.shards import SplitChoice, WrittenItems, WrittenShard
from distill_at_scale.data.readers import Fragment, LogEstimate, LogSchema
from distill_at_scale.data.readers.selection import meaning_of_ratings, unseen
from distill_at_scale.data.shard_records import ShardRecords
from distill_at_scale.pipelines.preparing.job import PrepareJob
from distill_at_scale.pipelines.runtime import run_record


@dataclass(frozen=True)
class Prepared:
    """What the stages did."""

    read: Sequence[SourceRecord]
    sorted: Sequence[BucketRecord]
    written: Sequence[WrittenShard]
    items: WrittenItems
    split: SplitChoice
    n_shards: int
    odd_items: Sequence[Notice]


def reading_of(
    job: PrepareJob, schema: LogSchema, estimate: LogEstimate, pieces: Sequence[Fragment], prepared: Prepared
) -> Reading:
    """What reading the files of the dataset gave, those of earlier runs included."""
    read, sorted_ = prepared.read, prepared.sorted
    gone = run_record.total(one.dropped for one in sorted_)
    # Rows below the minimum rating that still replace others are stored, and an append counts them again.
    for_good = ("duplicates", "split") if job.config.duplicates != "all" else ("duplicates", "split", "min_rating")
    versions = {storage.redact(piece.uri): piece.version for piece in pieces}
    times = [time for one in read for time in one.times]
    new = Reading(
        files=() if job.in_memory else tuple(TakenFile(uri=uri, version=v) for uri, v in versions.items()),
        n_files=estimate.files,
        fragments=len(pieces),
        rows=sum(one.rows for one in read),
        good=sum(one.good for one in read),
        reasons=run_record.total(one.reasons for one in read),
        quarantine=tuple(path for one in read for path in one.quarantine),
        times=(min(times), max(times)) if times else (),
        left_out=run_record.total(one.left_out for one in read),
        seen=tuple(sorted({pair for one in read for pair in one.seen})),
        skipped=estimate.skipped,
        read_as=estimate.read_as,
        gone={name: gone[name] for name in for_good},
        noticed=tuple(merge([estimate.noticed, *(one.noticed for one in read), *(one.noticed for one in sorted_)])),
    )
    return job.earlier_reading + new


def manifest_of(job: PrepareJob, schema: LogSchema, reading: Reading, prepared: Prepared) -> Manifest:
    """Describes a dataset whose files are written."""
    written, items = prepared.written, prepared.items
    records = ShardRecords.of(one.shard for one in written if one.shard)
    tied = run_record.total(one.tied for one in written)
    dropped = run_record.total(
        [reading.left_out, *(one.dropped for one in prepared.sorted), *(o.lost for o in written)]
    )
    return Manifest(
        n_users=int(records.n_users.sum()),
        n_items=items.n_items,
        item_space=items.item_space,
        n_rows=int(records.rows.sum()),
        splits=records.rows_of_splits(),
        split_rule=_rule(job, prepared.split),
        tied=tied,
        has_ratings=schema.has_rating,
        rating_meaning=meaning_of_ratings(schema.conditions, job.config),
        has_timestamps=schema.has_timestamp,
        id_types=schema.id_types,
        items=items.file,
        shards=records,
        dropped={**dropped, **reading.gone},
        quarantine=QuarantineRecord(
            rows=sum(reading.reasons.values()), reasons=reading.reasons, files=list(reading.quarantine)
        ),
        source={
            "inputs": job.content["input"],
            "files": reading.n_files,
            "rows": reading.rows + sum(reading.left_out.values()),
            "skipped": [list(skipped) for skipped in reading.skipped],
            "read_as": [way.model_dump() for way in reading.read_as],
            "columns": schema.columns,
            "time_unit": described.time_unit(schema),
            **described.times(schema, reading),
        },
        noticed=merge(
            [
                unseen(schema.conditions, reading.seen),
                reading.noticed,
                notice_users([one.summary for one in prepared.sorted]),
                prepared.odd_items,
                described.ties(tied),
            ]
        ),
        config=job.content,
        made_with=run_record.made_with(),
    )


def log_record_of(manifest: Manifest, schema: LogSchema, reading: Reading, prepared: Prepared) -> LogRecord:
    """Describes the log for a later append."""
    return LogRecord(
        fingerprint=manifest.fingerprint,
        read_with=schema,
        buckets=prepared.n_shards,
        reading=reading,
        rest=tuple(one.rest for one in prepared.written if one.rest),
    )


def _rule(job: PrepareJob, split: SplitChoice) -> dict[str, Any]:
    rule: dict[str, Any] = {"name": split.rule}
    if job.rule.shuffles:
        rule["seed"] = split.seed
    if job.rule.at_times:
        rule |= {"validation_from": split.validation_from, "test_from": split.test_from}
    return rule
