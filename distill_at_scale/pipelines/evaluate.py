"""evaluate: compares every user's ranking of all items with the held-out rows, shard by shard."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from math import isnan

import numpy as np
import polars as pl
from pydantic import BaseModel, Field

from distill_at_scale.config import EvaluateConfig
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.dataset_ref import DatasetRef
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.data.row_values import ValueFiles, ValueSource, read_values
from distill_at_scale.data.splits import leak_note
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.evaluation import EvaluationResult, RankingEvaluator, inverse_propensities
from distill_at_scale.evaluation.bootstrap import Resampled, UserBootstrap
from distill_at_scale.evaluation.off_policy import LoggedRows, OffPolicySums
from distill_at_scale.evaluation.slices import SliceSums, popularity_slices
from distill_at_scale.evaluation.top_lists import TopLists
from distill_at_scale.evaluation.user_sample import LEVEL, UserSample, evaluation_rows, interval, rows_of_sample
from distill_at_scale.models import Recommender
from distill_at_scale.pipelines.runtime import resources, run_record, session, used_model
from distill_at_scale.pipelines.runtime.dealt_values import dealt_values
from distill_at_scale.pipelines.runtime.output_folder import refuse_others_file
from distill_at_scale.pipelines.runtime.results import Result
from distill_at_scale.pipelines.runtime.shard_groups import shard_groups
from distill_at_scale.pipelines.runtime.tasks import load as load_shared
from distill_at_scale.pipelines.runtime.tasks import run_merged
from distill_at_scale.pipelines.runtime.used_model import ModelRef
from distill_at_scale.pipelines.runtime.verb import verb

# Tasks at least, where there are as many shards; and tasks for each CPU, so that the last ones do not leave many idle.
_TASKS, _TASKS_PER_CPU = 64, 8
# How the files that are written here begin.
_METRICS = re.compile(rb'\{\s*"metrics":')


class SampledUsers(BaseModel):
    """The users whom an evaluation drew, and what measuring only them leaves open."""

    asked: int
    """As --users."""
    drawn: int
    """Users drawn, with and without held-out rows."""
    of: int
    """Users of the dataset."""
    level: float = LEVEL
    """Confidence level of the intervals."""
    intervals: dict[str, tuple[float, float]]
    """Interval of each average over all users; none for auc and mse, which are over rows."""


class Evaluation(Result):
    """Metrics (fractions, not percent) of a model on a split, and where they come from."""

    metrics: dict[str, float]
    """Averages over the users who have held-out rows (auc, and mse of models that predict ratings: over rows)."""
    metrics_all_users: dict[str, float]
    """The same with users without held-out rows counted as 0."""
    standard_errors: dict[str, float | None]
    """Standard errors of the averages, over users; None for a single user."""
    resampled: Resampled | None = None
    """Ranking metrics averaged over resampled users, if requested."""
    sampled: SampledUsers | None = None
    """The sample of users, if one was requested; all averages and counts are of these users."""
    n_users: int
    """Number of users with held-out rows."""
    n_users_all: int
    n_heldout: int
    slices: dict[str, dict[str, float]] = Field(default_factory=dict)
    """head, middle, tail (each with a third of the train rows, by falling popularity of the items) → averages over the
    users with held-out items in it, and the share of all recommendations"""
    off_policy: dict[str, float] = Field(default_factory=dict)
    """Estimates of the mean reward from logged propensities, if requested: ips, snips and their errors, rows, matched,
    effective_rows, and unsupported, the share of the model's actions that the log never took"""
    tied_hits: float
    """Share of the hits whose score is tied with another item, so that a hash determined their rank."""
    tied_in_time: float | None = None
    """Share of the held-out rows that a draw chose among the user's rows with the same time; None where the split does
    not go by a user's order in time."""
    notes: list[str] = Field(default_factory=list)
    """What to know of the figures, as sentences."""
    split: str
    model: ModelRef
    data: DatasetRef
    seed: int
    wall_s: float
    cpu_s: float

    def resampled_intervals(self) -> dict[str, tuple[float, float]]:
        """90 % interval of each resampled metric: the 5th and 95th of 100 ordered averages; empty without resamples."""
        found = {}
        for name, values in (self.resampled or {}).items():
            if whole := [value for value in values if not isnan(value)]:
                low, high = np.quantile(whole, (0.05, 0.95))
                found[name] = (float(low), float(high))
        return found

    def headline(self) -> str:
        """Which model, and on what."""
        users = f"{self.n_users:,} users" if self.sampled is None else f"{self.n_users:,} users drawn from those"
        return f"{self.model.name} on the {self.split} rows of {users} of {self.data.uri}"

    def to_frame(self) -> pl.DataFrame:
        """metric · mean (over users with held-out rows) · standard_error · all_users, a row for each metric."""
        rows = [
            (name, value, self.standard_errors.get(name), self.metrics_all_users.get(name))
            for name, value in self.metrics.items()
        ]
        schema = {"metric": pl.String, **dict.fromkeys(("mean", "standard_error", "all_users"), pl.Float64)}
        return pl.DataFrame(rows, schema=schema, orient="row")


@verb(EvaluateConfig, "data", "model", objects=("model",))
def evaluate(config: EvaluateConfig, model: Recommender | None = None) -> Evaluation:
    """Evaluates a fitted model; see :class:`~distill_at_scale.config.EvaluateConfig` for the settings.

        das.evaluate(dataset, das.models.Ease(lam=400).fit(dataset)).metrics["ndcg@10"]

    The model may be in memory. A user's input is the train rows for the validation split, and the train and validation
    rows for the test split; these items are masked, and all others are ranked.

    Raises:
        DasError: The dataset or model does not exist, the model has another item numbering, the split or the sample
            of users has no rows, or the output is a file other than an earlier evaluation.
    """
    started = time.time()
    output = storage.normalise(config.output) if config.output else None
    if output is not None:
        storage.check_writable(output)
        refuse_others_file(output, _METRICS, "an evaluation")
    dataset = Dataset.open(config.data)
    of = used_model.described(config.model) if model is None else used_model.in_memory(model)
    of.check_items(dataset)
    if dataset.manifest.splits.get(config.split, 0) == 0:
        raise DasError(f"{storage.redact(dataset.uri)} has no {config.split} rows; choose another --split.")
    record = run_record.RunRecord("evaluate", config.model_dump(mode="json", exclude={"address"}))
    ks, seed, split, uri = tuple(config.ks), config.seed, config.split, dataset.uri
    resample = config.resample
    propensity = propensity_files(config, dataset)
    sample = None
    if config.users is not None and config.users < dataset.n_users:
        sample = UserSample(config.users / dataset.n_users, seed)

    with session.ensure(config.address):
        groups = groups_of(dataset, resources.cpus())
        threads = max(1, resources.node_cpus() // len(groups))

        shared = [of.shared(model, dataset), load_shared(weights, uri)]
        with dealt_values(record, dataset, propensity, config.output) as logged:

            def work(group: list[int], model: Recommender, weights: np.ndarray) -> RankingEvaluator:
                resources.use_threads(threads)
                bootstrap = UserBootstrap(seed) if resample else None
                return measure(dataset, group, model, weights, split, ks, seed, bootstrap, sample, logged)

            total: RankingEvaluator = run_merged(record, f"evaluate on {split}", work, groups, _merge, shared, threads)
    if sample is not None and not total.n_users:
        raise DasError(
            f"{storage.redact(dataset.uri)}: none of the {total.n_users_all:,} users drawn has {split} rows; set more "
            "--users."
        )
    averages = total.result()
    result = Evaluation(
        **{
            **asdict(averages),
            "standard_errors": {k: None if isnan(v) else v for k, v in averages.standard_errors.items()},
        },
        resampled=None if total.bootstrap is None else total.bootstrap.rounded_means(),
        sampled=None if sample is None else _sampled(config, dataset, averages),
        slices={} if total.slices is None else total.slices.result(),
        tied_in_time=dataset.manifest.tied_share(config.split),
        off_policy={} if total.off_policy is None else total.off_policy.result(),
        notes=of.foreign_note(dataset) + _sample_note(dataset) + leak_note(dataset.manifest.split_rule),
        split=config.split,
        model=of.ref(),
        data=DatasetRef.of(dataset),
        seed=config.seed,
        wall_s=round(time.time() - started, 3),
        cpu_s=record.stages[-1].cpu_s,
    )
    if output is not None:
        storage.write_json(output, {**result.model_dump(), "run": record.as_dict()})
    return result


def _sample_note(dataset: Dataset) -> list[str]:
    """Returns a note on a small dataset, in which most held-out rows are of users whose histories are not there."""
    parent = dataset.manifest.parent
    if parent is None:
        return []
    return [
        f"{storage.redact(dataset.uri)} is a sample, so the models get only what it holds of a user's history: "
        f"evaluate on {storage.redact(parent.uri)} to compare with models of all rows."
    ]


def _sampled(config: EvaluateConfig, dataset: Dataset, averages: EvaluationResult) -> SampledUsers:
    share = averages.n_users_all / dataset.n_users
    intervals = {
        name: interval(averages.metrics[name], error, share, averages.n_users)
        for name, error in averages.standard_errors.items()
        if not isnan(error)
    }
    return SampledUsers(asked=config.users or 0, drawn=averages.n_users_all, of=dataset.n_users, intervals=intervals)


def groups_of(dataset: Dataset, cpus: int) -> list[list[int]]:
    """The shards of each task, on a cluster of that size."""
    return shard_groups(dataset.shards.rows.tolist(), max(_TASKS, _TASKS_PER_CPU * cpus))


def _merge(evaluators: Sequence[RankingEvaluator]) -> RankingEvaluator:
    first, *others = evaluators
    for other in others:
        first.merge(other)
    return first


def weights(uri: str) -> np.ndarray:
    """Returns the inverse propensities of a dataset's items, float64 [items]."""
    dataset = Dataset.open(uri)
    return inverse_propensities(dataset.train_counts(), dataset.manifest.splits["train"])


def measure(
    dataset: Dataset,
    group: Sequence[int],
    model: Recommender,
    weights: np.ndarray,
    split: str,
    ks: tuple[int, ...],
    seed: int,
    bootstrap: UserBootstrap | None = None,
    sample: UserSample | None = None,
    propensity: ValueSource | None = None,
) -> RankingEvaluator:
    """Evaluates a model on the users of some shards, or on a sample of them; see :class:`EvaluateConfig`.

    Args:
        propensity: Where the logged propensities lie, for off-policy estimates.
    """
    ratings = model.predicts_ratings
    evaluator = RankingEvaluator(
        weights,
        ks,
        seed,
        ratings=ratings,
        name=model.name,
        bootstrap=bootstrap,
        slices=SliceSums(popularity_slices(dataset.train_counts())),
        lists=TopLists.of(dataset.n_users),
        off_policy=None if propensity is None else OffPolicySums(ks[0]),
    )
    model.check_item_space(dataset.n_items, dataset.manifest.item_space)
    for shard in group:
        if sample is None:
            histories, heldout, known = evaluation_rows(dataset, split, shard)
        else:
            histories, heldout, known = rows_of_sample(dataset, split, shard, sample)
        if evaluator.off_policy is not None and propensity is not None:
            evaluator.off_policy.logged = _logged(dataset, shard, heldout, propensity)
        evaluator.add_all(model.scorer, histories, heldout, known)
    if evaluator.off_policy is not None:
        evaluator.off_policy.logged = None
    evaluator.drop_items()
    return evaluator


def propensity_files(config: EvaluateConfig, dataset: Dataset) -> ValueFiles | None:
    """Files of the logged propensities, if they are asked for.

    Raises:
        SettingError: They are not there.
    """
    if config.propensity is None:
        if config.propensities is not None:
            raise SettingError("--propensities needs the name of their column: --propensity COLUMN.")
        return None
    if config.propensities is None:
        raise SettingError(
            f"{storage.redact(dataset.uri)} holds no propensities, and none can be made up afterwards: name the file "
            f"or folder with the logged ones in column '{config.propensity}' by --propensities URI."
        )
    found = ValueFiles.open(storage.normalise(config.propensities), config.propensity)
    if not found.with_items:
        place = storage.redact(found.uri)
        raise SettingError(f"{place}: missing column 'item_id'; a propensity is of a user and an item.")
    return found


def _logged(dataset: Dataset, shard: int, heldout: Interactions, source: ValueSource) -> LoggedRows:
    """Held-out rows of a shard's users with their propensities.

    Raises:
        DasError: One is missing, or no probability.
    """
    users, files = np.repeat(heldout.users, heldout.counts), source.files
    owner = users - dataset.shards[shard].first_user
    found = read_values(dataset, shard, owner, heldout.items, source, "held-out rows")
    if (bad := np.flatnonzero((found.values <= 0) | (found.values > 1))).size:
        raise DasError(
            f"{storage.redact(files.uri)}: {found.values[bad[0]]:g} in column '{files.column}' is not a propensity; "
            f"{len(bad):,} rows of shard {shard} have none above 0 and at most 1."
        )
    rewards = np.ones(len(users)) if heldout.ratings is None else heldout.ratings.astype(np.float64)
    return LoggedRows(users, heldout.items, found.values, rewards)
