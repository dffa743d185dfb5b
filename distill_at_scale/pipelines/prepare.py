"""prepare: a raw log becomes a Dataset.

    fragments of the log ─ read, check, deal by user ─► buckets ─ sort, de-duplicate ─► k-core rounds
        ─► number, split, write shards ─► items, manifest

Everything passes from stage to stage through `<output>/_work` on storage, part by part, each with a record
once it is whole: a run that was killed goes on where it was, and no process ever holds more than a fragment's
batch, a bucket, or one number for each item. The manifest is written last.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from fractions import Fraction
from typing import Any

import polars as pl
import ray

from distill_at_scale.config import PrepareConfig
from distill_at_scale.data import hashing, recorded, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import NAME as MANIFEST
from distill_at_scale.data.manifest import WORK, Manifest, QuarantineRecord
from distill_at_scale.data.noticed import Notice, merge
from distill_at_scale.data.preparation import buckets, described, fragments, kcore, quantiles, restartable, shards
from distill_at_scale.data.readers import Fragment, LogEstimate, LogSchema, plan_log
from distill_at_scale.data.readers.selection import meaning_of_ratings, none_left, unseen
from distill_at_scale.data.splits import Split
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.runtime import output_folder, run_record, session
from distill_at_scale.pipelines.runtime.tasks import load as load_shared
from distill_at_scale.pipelines.runtime.tasks import run_stage, run_tree, take
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.registry import SPLIT_RULES

ROWS_A_SHARD = 1_000_000
_BUCKETS_A_GROUP = 16
# What decides where and how the job runs, but not what comes out of it.
_NOT_CONTENT = {"output", "address", "overwrite", "max_bad_share"}


@verb(PrepareConfig, "input")
def prepare(config: PrepareConfig) -> Dataset:
    """Makes a Dataset of raw logs; see :class:`~distill_at_scale.config.PrepareConfig` for the settings.

    Raises:
        DasError: bad settings, unreadable input, too many bad rows, no rows left, an output that exists.
    """
    return _Prepare(config).run()


def prepare_parts(config: PrepareConfig, origin: str) -> Dataset:
    """Prepares files that are removed afterwards; the manifest names ``origin`` in their place."""
    return _Prepare(config, [origin]).run()


class _Prepare:
    """One run: what every stage needs to know."""

    def __init__(self, config: PrepareConfig, origin: list[str] | None = None) -> None:
        self.config = config.model_copy(update={"input": [storage.normalise(uri) for uri in config.input]})
        self.output = storage.normalise(config.output)
        self.work = storage.join(self.output, WORK)
        content = self.config.model_dump(mode="json", exclude=_NOT_CONTENT)
        self.content = {**content, "input": origin or [storage.redact(uri) for uri in self.config.input]}
        self.record = run_record.RunRecord("prepare", self.content)
        self.rule: Split = SPLIT_RULES.find(config.split)
        self.short = self.rule.shortest

    def run(self) -> Dataset:
        config = self.config
        self._check_places()
        schema, pieces, estimate = plan_log(config, want_split=self.rule.in_log)
        self._check_columns(schema)
        if not pieces:
            raise DasError(f"no rows in the input ({', '.join(self.content['input'])}).")
        if self._begin(schema, pieces):
            return self._finish()
        with session.ensure(config.address):
            read = self._read(schema, pieces, estimate)
            n_shards = config.shards or _power_of_two(sum(r["good"] for r in read) / ROWS_A_SHARD)
            item_ids, n_ids = self._item_ids(read)
            sorted_ = self._sort(n_shards, read, self._n_dealt(estimate), item_ids, schema.positions)
            numbering, users = self._core(n_shards, n_ids, item_ids)
            self._check_left(read, sorted_, users)
            choice = self._split(schema, n_shards, numbering)
            written = self._write(n_shards, numbering, users, choice)
            self._check_train_rows(written)
            items = self._items(written, item_ids, numbering)
        self._manifest(schema, estimate, read, sorted_, written, items, choice)
        return self._finish()

    # -- what happens before any row is read ---------------------------------------------------------------

    def _check_places(self) -> None:
        for uri, shown in zip(self.config.input, self.content["input"]):
            if f"{self.output}/".startswith(uri.rstrip("/") + "/"):
                raise DasError(
                    f"{storage.redact(self.output)} lies in the input {shown}, so its files would be read as part "
                    "of the log; choose an --output outside of it."
                )
        output_folder.check(self.output, self.config.overwrite)
        storage.check_writable(storage.join(self.work, output_folder.PLAN))

    def _check_columns(self, schema: LogSchema) -> None:
        config = self.config
        if self.rule.by_time and not schema.has_timestamp:
            raise DasError(
                f"--split {config.split} goes by time, but the log has no timestamp column; name it with "
                "--map timestamp=COLUMN, say --order file if its lines are in the order of time, or use "
                "--split 20_percent_hist."
            )
        if config.min_rating is not None and not schema.has_rating:
            raise DasError(
                "--min-rating is set, but the log has no rating column; name it with --map rating=COLUMN, or --weight."
            )

    def _begin(self, schema: LogSchema, pieces: list[Fragment]) -> bool:
        """Takes up the work of an earlier run of the same job or starts again; True if all is done."""
        plan = {
            "config": self.content,
            "schema": schema.model_dump(mode="json"),
            "fragments": [piece.model_dump(mode="json") for piece in pieces],
            "versions": run_record.made_with(),
        }
        digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
        plan_uri = storage.join(self.work, output_folder.PLAN)
        finished = storage.exists(storage.join(self.output, MANIFEST))
        if output_folder.planned(plan_uri) == digest:
            return finished
        if finished and not self.config.overwrite:
            raise output_folder.holds_dataset(self.output)
        # A plan without a digest marks the place as ours while what an earlier run left is removed.
        recorded.write_json(plan_uri, {"digest": None})
        output_folder.clear(self.output)
        recorded.write_json(plan_uri, {"digest": digest, "config": self.content})
        return False

    def _n_dealt(self, estimate: LogEstimate) -> int:
        """Into how many buckets rows are dealt; more than shards does no harm, so a guess of the rows will do."""
        guess = estimate.rows if estimate.exact else 2 * estimate.rows
        return self.config.shards or _power_of_two(guess / ROWS_A_SHARD)

    # -- stages -------------------------------------------------------------------------------------------

    def _read(self, schema: LogSchema, pieces: list[Fragment], estimate: LogEstimate) -> list[dict[str, Any]]:
        output, work, n_dealt = self.output, self.work, self._n_dealt(estimate)

        def partition(item: dict[str, Any]) -> dict[str, Any]:
            piece = Fragment.model_validate(item["fragment"])
            return fragments.partition(output, work, item["index"], piece, schema, n_dealt)

        items = [{"index": k, "fragment": piece.model_dump()} for k, piece in enumerate(pieces)]
        read = run_stage(self.record, "read the log", partition, items)
        rows, good = sum(r["rows"] for r in read), sum(r["good"] for r in read)
        if good == 0 and any(r["left_out"] for r in read):
            notices = merge([Notice.model_validate(n) for n in r["noticed"]] for r in read)
            why = none_left(schema.conditions, notices, rows)
            raise DasError(f"no rows are left of the input ({', '.join(self.content['input'])}): {why}.")
        if rows - good > self.config.max_bad_share * rows:
            reasons = run_record.total(r["reasons"] for r in read)
            worst = ", ".join(f"{n:,} {why}" for why, n in sorted(reasons.items(), key=lambda r: -r[1])[:3])
            where = storage.join(storage.redact(self.output), fragments.QUARANTINE)
            read_as = "; ".join(str(way) for way in estimate.read_as)
            raise DasError(
                f"{rows - good:,} of {rows:,} rows are bad ({worst}), more than --max-bad-share "
                f"{self.config.max_bad_share:g} allows; look at them in {where}, mend the log or raise the share. "
                f"The log was read as {read_as}."
            )
        if good == 0:
            raise DasError(f"no good rows in the input ({', '.join(self.content['input'])}): {rows:,} rows, all bad.")
        return read

    def _item_ids(self, read: list[dict[str, Any]]) -> tuple[ray.ObjectRef[Any], int]:
        folder = storage.join(self.work, fragments.FOLDER)
        sources = [restartable.part(folder, k, ".items.arrow") for k, r in enumerate(read) if r["has_items"]]
        last = run_tree(
            self.record,
            "collect item ids",
            fragments.merge_item_ids,
            sources,
            lambda level, k: storage.join(self.work, "items", f"level-{level}-{k:05d}.arrow"),
        )
        ids = load_shared(_load_ids, last)
        return ids, take(load_shared(len, ids))

    def _sort(
        self, n_shards: int, read: list[dict[str, Any]], n_dealt: int, ids: ray.ObjectRef[Any], positions: bool
    ) -> list[dict[str, Any]]:
        n_fragments = len(read)
        starts = list(itertools.accumulate((r["good"] for r in read), initial=0)) if positions else None
        work, keep, min_rating, seed = self.work, self.config.duplicates, self.config.min_rating, self.config.seed

        def build(bucket: int, item_ids: pl.Series) -> dict[str, Any]:
            return buckets.build_bucket(
                work, bucket, n_shards, n_dealt, n_fragments, item_ids, keep, min_rating, seed, starts
            )

        return run_stage(self.record, "sort by user", build, list(range(n_shards)), [ids])

    def _core(self, n_shards: int, n_ids: int, item_ids: ray.ObjectRef[Any]) -> tuple[ray.ObjectRef[Any], list[int]]:
        """The items that survive, and how many users do in each bucket."""
        work, config, short = self.work, self.config, self.short
        groups: list[dict[str, Any]] = [
            {"group": k, "buckets": list(range(start, min(start + _BUCKETS_A_GROUP, n_shards)))}
            for k, start in enumerate(range(0, n_shards, _BUCKETS_A_GROUP))
        ]
        alive: list[ray.ObjectRef[Any]] = []
        for round_ in range(1_000_000):

            def count(item: dict[str, Any], alive_items: Any = None, round_: int = round_) -> dict[str, Any]:
                return kcore.count_round(
                    work, round_, item["group"], item["buckets"], n_ids, alive_items, config.min_user, short
                )

            counted = run_stage(self.record, f"filter, round {round_ + 1}", count, groups, alive)
            folder = storage.join(work, kcore.FOLDER, f"round-{round_:03d}")
            total = run_tree(
                self.record,
                "sum item counts",
                restartable.sum_counts,
                [restartable.part(folder, g["group"], ".arrow") for g in groups],
                lambda level, k, folder=folder: storage.join(folder, f"sum-{level}-{k:05d}.arrow"),  # type: ignore[misc]
            )
            decided = take(load_shared(kcore.decide, work, round_, total, n_ids, config.min_item))
            if decided["settled"]:
                break
            alive = [load_shared(kcore.load_alive, work, round_)]
        numbering = load_shared(
            _load_numbering, work, round_, config.min_item, item_ids if self.rule.shuffles else None
        )
        return numbering, [n for record in counted for n in record["users"]]

    def _check_left(self, read: list[dict[str, Any]], sorted_: list[dict[str, Any]], users: list[int]) -> None:
        if sum(users):
            return
        gone = run_record.total(r["dropped"] for r in sorted_)
        out = sum(run_record.total(r["left_out"] for r in read).values())
        asked = f"{out:,} were left out by --where or --event, " if out else ""
        rows, good = sum(r["rows"] for r in read), sum(r["good"] for r in read)
        left = sum(r["kept"] for r in sorted_)
        config = self.config
        asks = f"--min-user {config.min_user}, --min-item {config.min_item}"
        if self.short > config.min_user:
            asks += f" and --split {config.split} (at least {self.short} rows a user)"
        raise DasError(
            f"no rows are left: of {rows + out:,} rows {asked}{rows - good:,} "
            f"were bad, {gone['duplicates']:,} duplicates, {gone['min_rating']:,} below --min-rating, "
            f"{gone['split']:,} in no split, and {left:,} went to {asks}."
        )

    def _split(self, schema: LogSchema, n_shards: int, numbering: ray.ObjectRef[Any]) -> shards.SplitChoice:
        config = self.config
        if not self.rule.at_times:
            return shards.SplitChoice(config.split, config.seed)
        work = self.work
        groups = [list(range(s, min(s + _BUCKETS_A_GROUP, n_shards))) for s in range(0, n_shards, _BUCKETS_A_GROUP)]
        ranges = [(0, (1 << 63) - 1)] * 2
        ranks: list[int] | None = None
        while any(low < high for low, high in ranges):
            wanted = ranges

            def count(group: list[int], shared: shards.Numbering, wanted: Any = wanted) -> dict[str, Any]:
                counted = shards.times_histogram(work, list(group), shared, config.min_user, wanted)
                return {"counts": counted}

            found = run_stage(self.record, "find split times", count, groups, [numbering])
            counts = [sum(record["counts"][k] for record in found) for k in range(2)]
            if ranks is None:
                n = int(counts[0].sum())
                # Fractions of what was written: 1 - .3 - .4 in binary falls short of .3, and so would a row.
                test, validation = Fraction(str(config.test_share)), Fraction(str(config.validation_share))
                ranks = [int(n * (1 - test - validation)), int(n * (1 - test))]
            narrowed = [quantiles.narrow(c, *r, k) for c, r, k in zip(counts, ranges, ranks)]
            ranges, ranks = [(low, high) for low, high, _ in narrowed], [rank for *_, rank in narrowed]
        return shards.SplitChoice(config.split, config.seed, ranges[0][0], ranges[1][0])

    def _write(
        self, n_shards: int, numbering: ray.ObjectRef[Any], users: list[int], choice: shards.SplitChoice
    ) -> list[dict[str, Any]]:
        output, work, min_user = self.output, self.work, self.config.min_user
        first = [0, *itertools.accumulate(users)]

        def build(item: dict[str, Any], shared: shards.Numbering) -> dict[str, Any]:
            return shards.build_shard(output, work, item["bucket"], shared, item["first_user"], choice, min_user)

        items = [{"bucket": k, "first_user": first[k]} for k in range(n_shards)]
        return run_stage(self.record, "number, split, write", build, items, [numbering])

    def _check_train_rows(self, written: list[dict[str, Any]]) -> None:
        splits = run_record.total(r["shard"]["splits"] for r in written if r["shard"])
        if splits["train"] == 0:
            found = ", ".join(f"{n:,} {name}" for name, n in splits.items())
            raise DasError(
                f"--split {self.config.split} leaves no train rows ({found}); choose another --split, or other shares."
            )

    def _items(
        self, written: list[dict[str, Any]], ids: ray.ObjectRef[Any], numbering: ray.ObjectRef[Any]
    ) -> dict[str, Any]:
        folder = storage.join(self.work, shards.FOLDER)
        total = run_tree(
            self.record,
            "count items",
            restartable.sum_counts,
            [restartable.part(folder, k, ".counts.arrow") for k, r in enumerate(written) if r["shard"]],
            lambda level, k: storage.join(folder, f"sum-{level}-{k:05d}.arrow"),
        )
        return take(load_shared(shards.write_items, self.output, ids, numbering, total))

    # -- the end ------------------------------------------------------------------------------------------

    def _manifest(
        self,
        schema: LogSchema,
        estimate: LogEstimate,
        read: list[dict[str, Any]],
        sorted_: list[dict[str, Any]],
        written: list[dict[str, Any]],
        items: dict[str, Any],
        choice: shards.SplitChoice,
    ) -> None:
        records = [r["shard"] for r in written if r["shard"]]
        rule: dict[str, Any] = {"name": choice.rule}
        if self.rule.shuffles:
            rule["seed"] = choice.seed
        if self.rule.at_times:
            rule |= {"validation_from": choice.validation_from, "test_from": choice.test_from}
        reasons = run_record.total(r["reasons"] for r in read)
        manifest = Manifest.model_validate(
            {
                "n_users": sum(r["n_users"] for r in records),
                "n_items": items["n_items"],
                "item_space": items["item_space"],
                "n_rows": sum(r["rows"] for r in records),
                "splits": run_record.total(r["splits"] for r in records),
                "split_rule": rule,
                "tied": run_record.total(r["tied"] for r in written),
                "has_ratings": schema.has_rating,
                "rating_meaning": meaning_of_ratings(schema.conditions, self.config),
                "has_timestamps": schema.has_timestamp,
                "id_types": schema.id_types,
                "items": items["file"],
                "shards": records,
                "dropped": run_record.total(
                    [*(r["left_out"] for r in read), *(r["dropped"] for r in sorted_), *(r["lost"] for r in written)]
                ),
                "quarantine": QuarantineRecord(
                    rows=sum(reasons.values()),
                    reasons=reasons,
                    files=[r["quarantine"] for r in read if r["quarantine"]],
                ),
                "source": {
                    "inputs": self.content["input"],
                    "files": estimate.files,
                    "rows": sum(r["rows"] + sum(r["left_out"].values()) for r in read),
                    "skipped": [list(skipped) for skipped in estimate.skipped],
                    "read_as": [way.model_dump() for way in estimate.read_as],
                    "columns": schema.columns,
                    "time_unit": described.time_unit(schema),
                    **described.times(schema, estimate, read),
                },
                "noticed": merge(
                    [
                        estimate.noticed,
                        unseen(schema.conditions, [pair for r in read for pair in r["seen"]]),
                        *([Notice.model_validate(n) for n in r["noticed"]] for r in (*read, *sorted_)),
                        described.ties(run_record.total(r["tied"] for r in written)),
                    ]
                ),
                "config": self.content,
                "made_with": run_record.made_with(),
            }
        )
        self.record.write(self.output)
        output_folder.remove_strays(self.output, manifest)
        manifest.write(self.output)

    def _finish(self) -> Dataset:
        output_folder.remove_work(self.output)
        return Dataset.open(self.output)


def _load_ids(uri: str) -> pl.Series:
    return pl.DataFrame(pl.from_arrow(restartable.read_arrow(uri))).to_series()


def _load_numbering(work: str, round_: int, min_item: int, item_ids: pl.Series | None) -> shards.Numbering:
    item_hash = None if item_ids is None else hashing.hash_ids(item_ids)
    return shards.Numbering(kcore.load_alive(work, round_), min_item > 1, item_hash)


def _power_of_two(at_least: float) -> int:
    """The smallest power of two that is not below ``at_least``, at most 65,536."""
    return next((1 << k for k in range(16) if 1 << k >= at_least), 1 << 16)
