"""sample: a part of a dataset's train rows becomes a dataset, one for each budget.

    (learn, train a proxy, or deal given scores, for some samplers) ─► score every shard
        ─► narrow down where each budget ends ─► one pass writes all budgets ─► items, manifests

A sampler gives every row or user a number; a budget is a threshold on it, found by histograms that add up, so the
log is never on one machine and nothing depends on how it was cut. All that is unfinished lies in
`<output>/_work/<sampler>`: a run that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import polars as pl
from pydantic import BaseModel

from distill_at_scale.config import SampleConfig
from distill_at_scale.data import recorded, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.dataset_ref import TrainDataRef
from distill_at_scale.data.manifest import NAME as MANIFEST
from distill_at_scale.data.manifest import WORK, Manifest, Parent
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.shard_records import ShardRecords
from distill_at_scale.errors import BudgetError, DamagedFileError, DasError, SettingError
from distill_at_scale.pipelines.runtime import output_folder, run_record, session
from distill_at_scale.pipelines.runtime.dealt_values import FOLDERS as VALUE_FOLDERS
from distill_at_scale.pipelines.runtime.map_reduce import FOLDER as LEARNED
from distill_at_scale.pipelines.runtime.own_settings import refuse_proxy_settings
from distill_at_scale.pipelines.runtime.results import Result
from distill_at_scale.pipelines.runtime.tasks import run_stage
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.pipelines.sampling.item_counts import write_items
from distill_at_scale.pipelines.sampling.shard_scores import TOGETHER, ShardScores, score_shards, scores_uri
from distill_at_scale.registry import file_name
from distill_at_scale.samplers import find_sampler, thresholds, writer
from distill_at_scale.samplers.budget_search import BudgetSearch, Question
from distill_at_scale.samplers.column import find_column
from distill_at_scale.samplers.sampler import Sampler
from distill_at_scale.samplers.scores import Threshold, read_scores
from distill_at_scale.samplers.writer import SampledItems, SubsetsRecord

_SUBSETS = "subsets"


class SampleRecord(BaseModel):
    """One sample: the dataset at ``uri``."""

    uri: str
    budget: float
    """Share of the train rows asked for."""
    rows: int
    """Train rows kept."""
    share: float
    """Share of the parent's train rows."""
    users: int
    """Users with train rows."""
    items: int
    """Items with train rows."""
    fingerprint: str


class Samples(Result):
    """The samples of one run, the largest budget first."""

    sampler: str
    seed: int
    data: TrainDataRef
    """The dataset sampled from."""
    samples: list[SampleRecord]
    wall_s: float
    cpu_s: float

    def headline(self) -> str:
        """Sampler, seed and dataset."""
        return f"{self.sampler}, seed {self.seed}, of {self.data.uri} with {self.data.train_rows:,} train rows"

    def to_frame(self) -> pl.DataFrame:
        """budget · rows · share · users · items · uri · fingerprint, a row for each sample."""
        return pl.DataFrame([one.model_dump() for one in self.samples])


@verb(SampleConfig, "data", "sampler")
def sample(config: SampleConfig) -> Samples:
    """Samples a dataset; see :class:`~distill_at_scale.config.SampleConfig` for the settings.

    Raises:
        DasError: no dataset, unknown sampler, a budget that leaves nothing, an output that exists.
    """
    return _Sample(config).run()


class _Sample:
    """One run: what every stage needs to know."""

    def __init__(self, config: SampleConfig) -> None:
        self.config = config
        # What is wrong with the settings is found before a cluster is started for them.
        self.sampler: Sampler = find_sampler(config.sampler)
        refuse_proxy_settings(config, config.sampler, self.sampler.proxy)
        self.dataset = Dataset.open(config.data)
        self.sampler.check(self.dataset)
        self.scores = None if config.scores is None else storage.normalise(config.scores)
        self.column = None
        if self.sampler.column is not None:
            self.column = find_column(self.dataset, self.sampler.column, self.scores)
        elif config.scores is not None:
            raise SettingError(f"--scores is of --sampler column=NAME; leave it out for {config.sampler}.")
        self.budgets = config.budgets
        self.n_rows = self.dataset.manifest.splits["train"]
        if not self.n_rows:
            raise DasError(
                f"{storage.redact(self.dataset.uri)} has no train rows; prepare the log with another --split."
            )
        for budget in self.budgets:
            if thresholds.target_rows(budget, self.n_rows) == 0:
                raise BudgetError(
                    budget,
                    f"{storage.redact(self.dataset.uri)} has {self.n_rows:,} train rows; the smallest budget is "
                    f"{1 / self.n_rows:.2g}.",
                )
        output = storage.normalise(config.output)
        output_folder.check_outside(output, self.dataset.uri, "the dataset sampled from")
        folder = file_name(config.sampler)
        self.outputs = [storage.join(output, f"{folder}-{budget:.12g}") for budget in self.budgets]
        self.work = storage.join(output, WORK, folder)
        # Of the parent its content, not its place: it may be moved between a run and its resumption.
        self.content: dict[str, Any] = {"sampler": config.sampler, "seed": config.seed}
        if self.scores is not None:
            self.content |= {"scores": storage.redact(self.scores)}
        if self.sampler.proxy:
            self.content |= {"objective": config.objective, "proxy_epochs": config.proxy_epochs}
            if config.objective == "explicit" and not self.dataset.manifest.has_ratings:
                raise DasError(
                    f"--objective explicit goes by ratings, but {storage.redact(self.dataset.uri)} has none; "
                    "take --objective implicit."
                )
        self.record = run_record.RunRecord("sample", {**self.content, "budget": self.budgets, "data": config.data})
        self.shards = list(range(len(self.dataset.shards)))

    def run(self) -> Samples:
        self._begin()
        with session.ensure(self.config.address):
            target = thresholds.target_rows(self.budgets[0], self.n_rows)
            scored = score_shards(self.record, self.config, self.dataset, self.work, target, self.column)
            written = self._write(self._thresholds(scored))
            items = self._items()
        return self._finish(written, items)

    def _begin(self) -> None:
        """Takes up the work of an earlier run of the same job or starts again."""
        fingerprint = self.dataset.manifest.fingerprint
        plan = {**self.content, "budgets": self.budgets, "parent": fingerprint, "versions": run_record.made_with()}
        if self.sampler.inclusion is not None:
            # Scores of versions without weights have no parameters.
            plan["weights"] = True
        if self.scores is not None:
            # A run is not resumed on scores that have changed.
            plan["files"] = [(file.uri, file.version) for file in storage.list_files(self.scores)]
        digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
        plan_uri = storage.join(self.work, output_folder.PLAN)
        if output_folder.planned(plan_uri) == digest:
            return
        storage.check_writable(plan_uri)
        for output in self.outputs:
            output_folder.check(output, self.config.overwrite)
            if storage.exists(storage.join(output, MANIFEST)) and not self.config.overwrite:
                raise output_folder.holds_dataset(output)
        storage.remove(self.work)
        for output in self.outputs:
            # Marks the place as ours while what an earlier run left is removed.
            recorded.write_json(storage.join(output, WORK, output_folder.PLAN), {"digest": None})
            output_folder.clear(output)
        recorded.write_json(plan_uri, {"digest": digest, **plan})

    # -- stages -------------------------------------------------------------------------------------------

    def _thresholds(self, scored: list[ShardScores]) -> list[Threshold]:
        wanted = [thresholds.target_rows(budget, self.n_rows) for budget in self.budgets]
        if self.sampler.one_a_user:
            users = sum(shard.users for shard in scored)
            wanted = [max(target, users) for target in wanted]
        search, work = BudgetSearch(wanted, [shard.histogram for shard in scored]), self.work
        while questions := search.questions:

            def ask(shard: int, questions: list[Question] = questions) -> list[Any]:
                scores = read_scores(scores_uri(work, shard))
                return [question(scores) for question in questions]

            search.answer(run_stage(self.record, "settle budgets", ask, self.shards, light=True, together=TOGETHER))
        found = search.thresholds()
        for threshold, budget, target in zip(found, self.budgets, wanted):
            if threshold is None:
                raise BudgetError(
                    budget,
                    f"the first unit that {self.sampler.name} would keep has more than twice the {target:,} rows "
                    "asked for; choose a larger --budget.",
                )
        return [threshold for threshold in found if threshold is not None]

    def _write(self, thresholds: list[Threshold]) -> list[SubsetsRecord]:
        dataset, work, places, name = self.dataset, self.work, self.outputs, self.config.sampler

        def write(shard: int) -> SubsetsRecord:
            return restartable.once(
                restartable.part(storage.join(work, _SUBSETS), shard, ".json"),
                SubsetsRecord,
                lambda: writer.write_subsets(dataset, shard, work, thresholds, places, find_sampler(name).inclusion),
            )

        return run_stage(self.record, "write samples", write, self.shards, together=TOGETHER)

    def _items(self) -> list[SampledItems]:
        try:
            return write_items(self.record, self.dataset, self.work, self.outputs)
        except DamagedFileError:
            # Counts are written with the rows, which the next run writes again.
            storage.remove(storage.join(self.work, _SUBSETS))
            raise

    # -- the end ------------------------------------------------------------------------------------------

    def _manifest(self, k: int, written: list[SubsetsRecord], items: SampledItems) -> Manifest:
        parent = self.dataset.manifest
        uri = storage.redact(self.dataset.uri)
        records = ShardRecords.of(record.shards[k] for record in written)
        splits = records.rows_of_splits()
        weights = [parent.weight_meaning] if parent.weight_meaning else []
        if self.sampler.inclusion is not None:
            weights.append(f"1 / probability of being kept by {self.config.sampler}")
        return Manifest(
            **parent.model_dump(include=set(_INHERITED)),
            weight_meaning=" × ".join(weights) or None,
            n_rows=int(records.rows.sum()),
            splits=splits,
            items=items.file,
            shards=records,
            dropped={"sampler": self.n_rows - splits["train"]},
            source={"inputs": [uri], "rows": parent.n_rows, "skipped": []},
            config={**self.content, "budget": self.budgets[k]},
            parent=Parent(uri=uri, fingerprint=parent.fingerprint),
            made_with=run_record.made_with(),
        )

    def _finish(self, written: list[SubsetsRecord], items: list[SampledItems]) -> Samples:
        manifests = [self._manifest(k, written, found) for k, found in enumerate(items)]
        for output, manifest in zip(self.outputs, manifests):
            self.record.write(output)
            output_folder.remove_strays(output, manifest)
            manifest.write(output)
        self._tidy()
        samples = [
            SampleRecord(
                uri=output,
                budget=budget,
                rows=manifest.splits["train"],
                share=round(manifest.splits["train"] / self.n_rows, 6),
                users=sum(record.users[k] for record in written),
                items=items[k].items,
                fingerprint=manifest.fingerprint,
            )
            for k, (output, budget, manifest) in enumerate(zip(self.outputs, self.budgets, manifests))
        ]
        return Samples(
            sampler=self.config.sampler,
            seed=self.config.seed,
            data=TrainDataRef.of(self.dataset),
            samples=samples,
            wall_s=round(time.time() - self.record.started, 3),
            cpu_s=round(sum(stage.cpu_s for stage in self.record.stages), 3),
        )

    def _tidy(self) -> None:
        """Removes what the stages left; the plan goes last, for by it a run that was killed here is known again."""
        for output in self.outputs:
            output_folder.remove_work(output)
        for name in (LEARNED, *VALUE_FOLDERS, writer.SCORES, writer.COUNTS, _SUBSETS):
            storage.remove(storage.join(self.work, name))
        storage.remove(self.work)
        together = storage.join(storage.normalise(self.config.output), WORK)
        # Another sampler may be at work beside this one.
        if not storage.list_files(together):
            storage.remove(together)


_NUMBERED = ("n_users", "n_items", "item_space", "id_types", "has_ratings", "rating_meaning")
_INHERITED = (*_NUMBERED, "has_timestamps", "timestamp_unit", "split_rule")
