"""The trials of a sweep: their description before they run, and their rows in `trials.parquet` after they end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.genie.trials import FULL, TrialKey, TrialRow
from distill_at_scale.pipelines.sweeps import small_datasets
from distill_at_scale.pipelines.sweeps.evaluations import EvaluationTask, Trained
from distill_at_scale.pipelines.sweeps.small_datasets import SmallDataset, SmallDatasetJob


@dataclass(frozen=True)
class TrainingData:
    """The data that a trial's model is fitted on.

    Attributes:
        method, budget, seed: Origin of the data; ``FULL`` with budget 1 for the whole dataset.
        made: Small dataset; None while it does not exist.
        failed: Reason why it could not be made, or "".
    """

    method: str
    budget: float
    seed: int
    made: SmallDataset | None
    failed: str = ""


def key_of(full: Dataset, method: str, budget: float, model: str, seed: int) -> TrialKey:
    """Returns what tells a trial on a part of ``full`` apart."""
    return TrialKey(full.uri.rsplit("/", 1)[-1], full.manifest.fingerprint, method, budget, model, seed)


@dataclass(frozen=True)
class PlannedTrial:
    """One model on one source.

    Attributes:
        task: Fit and evaluation; None if the source does not exist.
    """

    source: TrainingData
    model: str
    task: EvaluationTask | None

    def key(self, full: Dataset) -> TrialKey:
        """What tells it apart; ``full`` is the dataset of the sweep."""
        return key_of(full, self.source.method, self.source.budget, self.model, self.source.seed)

    def row(self, full: Dataset, trained: Trained | None, failed: str) -> TrialRow | None:
        """The row of `trials.parquet`, or None while the trial has not ended.

        Args:
            full: the dataset of the sweep.
            trained: what the task measured, if it is done.
            failed: why the task failed in this run, or "".
        """
        source, made = self.source, self.source.made
        row = TrialRow(self.key(full), "failed", failed if self.task is not None else source.failed)
        if made is not None:
            row = replace(
                row,
                rows=made.rows,
                share=made.share,
                bytes=made.bytes,
                make_cpu_s=made.cpu_s,
                make_wall_s=made.wall_s,
            )
        if trained is not None:
            return replace(
                row,
                status="done",
                reason="",
                fit_cpu_s=trained.fit_cpu_s,
                fit_wall_s=trained.fit_wall_s,
                metrics=trained.metrics,
                resampled=trained.resampled,
            )
        return row if row.reason else None


def training_data(
    full: Dataset,
    seeds: int,
    jobs: Sequence[SmallDatasetJob],
    made: Mapping[str, Sequence[SmallDataset] | None],
    failed: Mapping[str, str],
) -> list[TrainingData]:
    """Returns the training data: the full dataset once per seed, then every small dataset of ``jobs``.

    Args:
        made: Key of a job -> its small datasets, made or impossible.
        failed: Key of a job -> reason of its failure in this run.
    """
    manifest = full.manifest
    whole = SmallDataset(
        method=FULL,
        budget=1.0,
        seed=0,
        uri=full.uri,
        fingerprint=manifest.fingerprint,
        rows=manifest.splits["train"],
        share=1.0,
        bytes=small_datasets.train_bytes(full),
    )
    found = [TrainingData(FULL, 1.0, seed, whole) for seed in range(seeds)]
    for job in jobs:
        by_cell = {(one.method, one.budget): one for one in made[job.key] or ()}
        for method in job.methods:
            for budget in job.budgets:
                one = by_cell.get((method, budget))
                reason = one.failed if one is not None else failed.get(job.key, "")
                found.append(TrainingData(method, budget, job.seed, None if one is None or one.failed else one, reason))
    return found


def plan_trials(
    full: Dataset,
    found: Sequence[TrainingData],
    models: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
    output: str,
    learns: Callable[[str, str], bool],
) -> list[PlannedTrial]:
    """Returns the trials of every model on every source on which it can be trained.

    Args:
        settings: Settings of the models, by name.
        output: folder of the sweep.
        learns: whether a model can be fitted on what a method makes.
    """
    plan: list[PlannedTrial] = []
    for source in found:
        for model in models:
            if source.method != FULL and not learns(model, source.method):
                continue
            task = None
            if source.made is not None:
                task = EvaluationTask.of(
                    source.made.uri,
                    source.made.fingerprint,
                    full,
                    model,
                    output,
                    "test",
                    model_seed=source.seed,
                    resample=True,
                    settings=settings.get(model, {}),
                )
            plan.append(PlannedTrial(source, model, task))
    return plan
