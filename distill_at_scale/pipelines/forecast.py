"""forecast: how good would models be on all rows, how many rows are enough, and what would a full fit cost?

    nested samples of whole users ─► fit and measure every model on each ─► learning curves to 100 %

Samples, fits and their records are those of a sweep; no model is ever fitted on all rows, unless --up-to 1 asks for it.
One that needs no rows but the items' counts, as popularity, is measured there and not forecast. A forecast that was
interrupted goes on where it was when the same command runs again.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from distill_at_scale.config import ForecastConfig
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.dataset_ref import TrainDataRef
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation.intervals import spread
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.genie.trials import TRIALS, TrialRow, as_trials
from distill_at_scale.learning_curves.calibration import packaged
from distill_at_scale.learning_curves.cost import cost_law
from distill_at_scale.learning_curves.ensemble import FEWEST
from distill_at_scale.learning_curves.forecast import Forecast, forecasts
from distill_at_scale.learning_curves.measured import Measured
from distill_at_scale.learning_curves.order import expected_tau
from distill_at_scale.learning_curves.rungs import LEAST_USERS, nested_shares
from distill_at_scale.models import find_model
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.pipelines.sweeps import small_datasets
from distill_at_scale.pipelines.sweeps.evaluations import RECORDS
from distill_at_scale.pipelines.sweeps.forecast_result import (
    FIX,
    NAME,
    CurvePoint,
    ForecastResult,
    ModelForecast,
    RowsNeeded,
)
from distill_at_scale.pipelines.sweeps.model_trials import ModelTrials
from distill_at_scale.pipelines.sweeps.trial_plan import PlannedTrial, TrainingData, plan_trials, training_data
from distill_at_scale.pipelines.sweeps.trial_runs import task_name
from distill_at_scale.pipelines.sweeps.tune import LOGS

METHOD = "random_users"


@verb(ForecastConfig, "data", "models")
def forecast(config: ForecastConfig) -> ForecastResult:
    """Forecasts models on all rows from nested samples; see :class:`~distill_at_scale.config.ForecastConfig`.

    Raises:
        DasError: No dataset, too few users for the rungs, unknown model, an output that holds something else.
    """
    return _Forecast(config).run()


class _Forecast(ModelTrials):
    """One run."""

    name, fix, what = NAME, FIX, "a forecast"
    writes = (TRIALS, *small_datasets.FOLDERS, RECORDS, LOGS)

    def __init__(self, config: ForecastConfig) -> None:
        super().__init__(config)
        self.config = config
        self.rungs = rungs(self.dataset, config.up_to, config.rungs)

    def run(self) -> ForecastResult:
        self.claim()
        output, uri = self.output, self.dataset.uri
        with self.session():
            jobs = [
                job
                for seed in range(self.config.seeds)
                for job in small_datasets.jobs([METHOD], self.rungs, seed, uri, output, {}, self.config.gpu)
            ]
            made = self.trials.make(jobs)
            samples = training_data(self.dataset, 0, jobs, made, self.trials.failed)
            whole = training_data(self.dataset, self.config.seeds, [], {}, {})
            counted = [model for model in self.models if find_model(model).rows_held(self.dataset) == 0]
            plan = in_turn([*self._plan(samples, self.models), *self._plan(whole, counted)])
            keys = {trial.task.record: trial.key(self.dataset) for trial in plan if trial.task is not None}
            # The smaller rungs of all models come first: a time budget leaves out the largest.
            tasks = {trial.task.record: trial.task for trial in plan if trial.task is not None}
            self.fit(list(tasks.values()), {record: key.as_dict() for record, key in keys.items()})
        return self._finish(plan)

    def _plan(self, found: Sequence[TrainingData], models: Sequence[str]) -> list[PlannedTrial]:
        return plan_trials(self.dataset, found, models, self.settings, self.output, small_datasets.learns)

    def _finish(self, plan: Sequence[PlannedTrial]) -> ForecastResult:
        trials = as_trials([row.columns() for trial in plan if (row := self._row(trial)) is not None])
        buffer = io.BytesIO()
        trials.write_parquet(buffer)
        storage.write_bytes(storage.join(self.output, TRIALS), buffer.getvalue())
        found_curves, left_out = [], []
        for model in self.models:
            found, reason = measured(trials, model, self.config.seeds, self.dataset.n_users)
            if found is None:
                left_out.append(f"{model}: {reason}")
            else:
                found_curves.append(found)
        curves = sorted(forecasts(found_curves, packaged()), key=lambda one: -one.at_all[0])
        told = [_told(one, self.dataset.manifest.splits["train"]) for one in curves]
        tau = expected_tau(curves)
        result = ForecastResult(
            ok=not left_out,
            uri=self.output,
            data=TrainDataRef.of(self.dataset),
            metric=PRIMARY,
            rungs=self.rungs,
            seeds=self.config.seeds,
            models=told,
            tau=None if tau is None else tau[0],
            tau_low=None if tau is None else tau[1],
            tau_high=None if tau is None else tau[2],
            spent_cpu_s=round(sum(one.spent_cpu_s for one in told), 2),
            full_cpu_s=round(sum(one.fit_cpu_s for one in told), 2),
            left_out=left_out,
            notes=self._notes(curves),
            wall_s=round(time.time() - self.started, 1),
        )
        self.describe({"result": result.model_dump(mode="json")})
        return result

    def _row(self, trial: PlannedTrial) -> TrialRow | None:
        task = trial.task
        if task is None:
            return trial.row(self.dataset, None, "")
        return trial.row(self.dataset, task.read(), self.trials.failed.get(task_name(task), ""))

    def _notes(self, curves: Sequence[Forecast]) -> list[str]:
        known = [one.measured.model for one in curves if one.largest >= 1.0]
        notes = []
        if known:
            notes.append(f"Measured on all rows, not forecast: {', '.join(known)}.")
        if len(curves) == 1:
            notes.append("A single model has neither an order nor τ.")
        if self.config.seeds == 1:
            notes.append(
                "With one seed intervals are over users and how curves go on, as wide as such forecasts of other logs "
                "were wrong; --seeds 3 measures what samples of this log vary by."
            )
        if len(self.rungs) < self.config.rungs:
            notes.append(
                f"Only {len(self.rungs)} of {self.config.rungs} rungs have {LEAST_USERS} users or more; "
                "a larger --up-to has more."
            )
        return notes


def in_turn(plan: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """Returns the trials in the order of their rungs, each with the record of the rung before it.

    A model selects its settings around those that a smaller sample chose: with all of the grid on every rung, most of a
    forecast's cost would be values that are known to be worse.
    """
    before: dict[tuple[str, int], str] = {}
    found = []
    for trial in sorted(plan, key=lambda one: one.source.budget):
        if trial.task is not None:
            key, record = (trial.model, trial.source.seed), trial.task.record
            trial = replace(trial, task=replace(trial.task, grid_from=before.get(key, "")))
            before[key] = record
        found.append(trial)
    return found


def rungs(dataset: Dataset, up_to: float, wanted: int) -> list[float]:
    """Shares of the train rows, ascending; see :func:`~distill_at_scale.learning_curves.rungs.nested_shares`.

    Raises:
        DasError: The dataset has too few users for three of them.
    """
    users = dataset.n_users
    found = nested_shares(users, up_to, wanted)
    if len(found) < FEWEST:
        least = min(LEAST_USERS * 2 ** (FEWEST - 1) / max(users, 1), 1.0)
        enough = users >= LEAST_USERS * 2 ** (FEWEST - 1)
        advice = f"--up-to {least:.2g} or more" if enough else "fit the models on all of it instead"
        raise DasError(
            f"{storage.redact(dataset.uri)} has {users:,} users, too few for {FEWEST} rungs up to {up_to:g} with "
            f"{LEAST_USERS} users each; {'choose ' if enough else ''}{advice}."
        )
    return found


def measured(trials: pl.DataFrame, model: str, seeds: int, n_users: int) -> tuple[Measured | None, str]:
    """The learning curve of a model, from the rungs that were measured with every seed.

    Args:
        trials: Those of all models; see :data:`~distill_at_scale.genie.trials.SCHEMA`.
        model: Name of the model.
        seeds: Number of seeds.
        n_users: Number of users of the whole dataset, of whom samples have their share.

    Returns:
        The curve, or None and why there is none.
    """
    own = trials.filter(model=model)
    done = own.filter(status="done").sort("budget", "seed")
    whole = [group for _, group in done.group_by("budget", maintain_order=True) if len(group) == seeds]
    if len(whole) < FEWEST:
        failed = own.filter(status="failed")["reason"].to_list()
        reason = failed[0].strip().splitlines()[-1] if failed else "the time budget did not suffice"
        return None, f"only {len(whole)} rungs were measured ({reason})"
    quality = np.array([group[PRIMARY].to_list() for group in whole]).T
    if not quality.any():
        return None, f"{PRIMARY} is 0 on every rung"
    resampled = np.array([[of[PRIMARY] for of in group["resampled"].to_list()] for group in whole], dtype=np.float64)
    # Of a few users some resamples have none.
    resampled = resampled[..., np.isfinite(resampled).all(axis=(0, 1))]
    shares = np.array([group["share"].mean() for group in whole], dtype=np.float64)
    cost = np.array([group["fit_cpu_s"].to_list() for group in whole]).T
    users, personal = n_users * float(shares[-1]), find_model(model).personal
    return Measured(model, shares, quality, np.swapaxes(resampled, 0, 1), cost, personal, users), ""


def _told(found: Forecast, train_rows: int) -> ModelForecast:
    """A forecast as a result."""
    of, curve, cost = found.measured, found.curve(), cost_law(found.measured.shares, found.measured.cost)
    quality, low, high = found.at_all
    needed = [
        RowsNeeded(
            keep=need.target,
            rows=round(need.share * train_rows),
            rows_low=round(need.low * train_rows),
            rows_high=round(need.high * train_rows),
            share=need.share,
        )
        for need in found.needs()
    ]
    return ModelForecast(
        model=of.model,
        quality=quality,
        low=low,
        high=high,
        needed=needed,
        fit_cpu_s=round(cost.at(1.0), 3),
        fit_cpu_s_low=round(cost.low, 3),
        fit_cpu_s_high=round(cost.high, 3),
        spent_cpu_s=round(float(of.cost.sum()), 3),
        forms=found.ensemble.by_name,
        doubt=found.doubt,
        rungs=[_rung(of, k) for k in range(len(of.shares))],
        curve=[
            CurvePoint(share=share, quality=value, low=least, high=most)
            for share, value, least, most in zip(*(part.tolist() for part in vars(curve).values()))
        ],
    )


def _rung(of: Measured, k: int) -> CurvePoint:
    """What one rung measured, with the interval of its mean over the seeds."""
    mean = float(of.quality[:, k].mean())
    found = None if of.resampled is None else spread(of.quality[:, k].tolist(), of.resampled[:, k])
    low, high = (mean, mean) if found is None else found.of_mean
    return CurvePoint(share=float(of.shares[k]), quality=mean, low=max(low, 0.0), high=high)
