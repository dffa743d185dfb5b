"""tune: which model with which settings is the best for a dataset?

    candidates (models × settings) ─► fit all on a small sample, the better ones on a larger one, …, a few on everything
        ─► the winner and the runner-up, judged on the test rows

Successive halving whose resource is the share of the data: samples of whole users are nested, so a rung costs a third
of the next. Only validation rows choose. Samples, fits and their records are those of a sweep; a search that was
interrupted goes on where it was when the same command runs again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from pydantic import BaseModel

from distill_at_scale.config import TuneConfig
from distill_at_scale.data import recorded, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.dataset_ref import TrainDataRef
from distill_at_scale.data.preparation import restartable
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation.bootstrap import Resampled
from distill_at_scale.evaluation.promotion import ETA, FINALISTS, difference_interval, promote, ranking_shift
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.genie.trials import FULL
from distill_at_scale.models import find_model
from distill_at_scale.models.saved import MODEL_FILE
from distill_at_scale.pipelines.evaluate import evaluate
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.pipelines.sweeps import candidates, small_datasets
from distill_at_scale.pipelines.sweeps.candidate_runs import CandidateRun, by_progress, full_cost, spent, tau_with_next
from distill_at_scale.pipelines.sweeps.candidates import Candidate, SettingsSearch
from distill_at_scale.pipelines.sweeps.evaluations import RECORDS, EvaluationTask, lotteries
from distill_at_scale.pipelines.sweeps.model_trials import ModelTrials
from distill_at_scale.pipelines.sweeps.small_datasets import SmallDataset
from distill_at_scale.pipelines.sweeps.trial_plan import key_of
from distill_at_scale.pipelines.sweeps.trial_runs import task_name
from distill_at_scale.pipelines.sweeps.tune import LOGS
from distill_at_scale.pipelines.sweeps.tune_result import FIX, NAME, Difference, Judged, RungResult, TuneResult

METHOD = "random_users"
RUNGS = (0.01, 0.03, 0.09, 0.27)
"""Shares of the train rows before the last rung, which is everything."""
MODELS_AT, JUDGED = "models", "judged"
"""Folders of the fits on everything, of which that of the winner stays, and of what finalists are on the test rows."""
_LEAST_USERS = 100
"""Mean number of users of the smallest sample; fewer say little about settings."""
_LEAST_JUDGES, _MOST_JUDGES, _JUDGES = 300, 20_000, 0.05
"""Users who validate the first rung: a share of all, at least and at most that many."""


class _OnTest(BaseModel):
    """What a finalist is worth on the test rows."""

    metrics: dict[str, float]
    resampled: Resampled
    cpu_s: float

    @property
    def of_users(self) -> np.ndarray:
        """The metric over resampled users, float64 [n]."""
        return np.array(self.resampled[PRIMARY], dtype=np.float64)


@verb(TuneConfig, "data", "models")
def tune(config: TuneConfig) -> TuneResult:
    """Finds the best model and its settings; see :class:`~distill_at_scale.config.TuneConfig`.

    Raises:
        SettingError: A model or setting is unknown.
        DasError: No dataset, no validation or test rows, or an output that holds something else.
    """
    return _Tune(config).run()


class _Tune(ModelTrials):
    """One run."""

    name, fix, what = NAME, FIX, "a search"
    writes = (*small_datasets.FOLDERS, RECORDS, candidates.RECORDS, MODELS_AT, JUDGED, LOGS)

    def __init__(self, config: TuneConfig) -> None:
        super().__init__(config)
        self.config = config
        place = storage.redact(self.dataset.uri)
        for split in ("validation", "test"):
            if not self.dataset.manifest.splits.get(split):
                raise DasError(f"{place} has no {split} rows, by which models are compared; prepare it with others.")
        self.searches = [
            SettingsSearch(model, self.settings.get(model, {}), config.search, config.seed, self.output)
            for model in self.models
        ]
        self.rungs = rungs(self.dataset) if sum(one.total for one in self.searches) > 1 else [1.0]
        self.runs: list[CandidateRun] = []
        self.told: list[RungResult] = []
        self.made: dict[float, SmallDataset] = {}

    def run(self) -> TuneResult:
        self.claim()
        with self.session():
            if self.rungs[:-1]:
                self._sample()
            alive = self._first()
            for share, after in zip(self.rungs, self.rungs[1:]):
                if self._late(alive, share):
                    break
                alive = self._promote(alive, share, after)
                self._fit(alive, after)
            ended = not self._late(alive, 1.0)
            finalists = sorted((run for run in alive if run.is_on(1.0)), key=by_progress)[:2]
            judged = [self._judge(run, run is finalists[0]) for run in finalists] if ended else []
        return self._finish(alive, ended, finalists, judged)

    # -- rungs ------------------------------------------------------------------------------------------------

    def _sample(self) -> None:
        uri = self.dataset.uri
        jobs = small_datasets.jobs([METHOD], self.rungs[:-1], self.config.seed, uri, self.output, {})
        made = self.trials.make(jobs)
        for job in jobs:
            if job.key in self.trials.failed:
                raise DasError(f"the samples could not be made: {self.trials.failed[job.key].strip()}")
            self.made |= {one.budget: one for one in made[job.key] or () if not one.failed}
        self.rungs = [share for share in self.rungs if share == 1.0 or share in self.made]

    def _first(self) -> list[CandidateRun]:
        """All candidates, measured on the first rung: the proposals of one half rest on the results of the other."""
        share = self.rungs[0]
        spread = {search.model: self._add(search.spread()) for search in self.searches}
        self._fit([run for runs in spread.values() for run in runs], share)
        proposed = []
        for search in self.searches:
            tried = [(run.candidate, run.quality if run.is_on(share) else None) for run in spread[search.model]]
            if not self._late(spread[search.model], share):
                proposed += self._add(search.proposed(tried))
        self._fit(proposed, share)
        return list(self.runs)

    def _add(self, found: Sequence[Candidate]) -> list[CandidateRun]:
        known = {(run.candidate.model, *sorted(run.candidate.searched.items())) for run in self.runs}
        added: list[CandidateRun] = []
        for one in found:
            # Whole numbers may be proposed twice.
            key = (one.model, *sorted(one.searched.items()))
            if key not in known:
                known.add(key)
                added.append(CandidateRun(one, len(self.runs) + len(added)))
        self.runs += added
        return added

    def _task(self, run: CandidateRun, share: float) -> EvaluationTask:
        one, manifest = run.candidate, self.dataset.manifest
        judges, settings = judging_users(self.dataset, share), dict(one.settings)
        if share < 1 and "validation_users" in find_model(one.model).Config.model_fields:
            # After each epoch as many as judge it: measuring all of them would cost more than a small sample saves.
            settings.setdefault("validation_users", judges)
        small = self.made.get(share)
        return EvaluationTask.of(
            self.dataset.uri if small is None else small.uri,
            manifest.fingerprint if small is None else small.fingerprint,
            self.dataset,
            one.model,
            self.output,
            "validation",
            self.config.seed,
            model_seed=self.config.seed,
            resample=True,
            settings=settings,
            users=judges,
            models_at=storage.join(self.output, MODELS_AT) if small is None else "",
        )

    def _fit(self, runs: Sequence[CandidateRun], share: float) -> None:
        tasks = {run.candidate.name: self._task(run, share) for run in runs}
        params = {tasks[run.candidate.name].record: self._params(run.candidate, share) for run in runs}
        self.fit(list(tasks.values()), params)
        for run in runs:
            task = tasks[run.candidate.name]
            run.model_at = task.model_at
            if (trained := task.read()) is not None:
                run.measured.append((share, trained))
            elif reason := self.trials.failed.get(task_name(task), ""):
                run.dropped = f"failed: {reason.strip().splitlines()[-1]}"
        self.describe({})

    def _params(self, candidate: Candidate, share: float) -> dict[str, Any]:
        """What tells a trial apart in TensorBoard and MLflow."""
        method = FULL if share == 1.0 else METHOD
        key = key_of(self.dataset, method, share, candidate.model, self.config.seed)
        return {**key.as_dict(), "split": "validation", **candidate.searched}

    def _late(self, runs: Sequence[CandidateRun], share: float) -> bool:
        """Whether the time budget ended before this rung was measured."""
        return any(not run.dropped and not run.is_on(share) for run in runs)

    def _promote(self, runs: Sequence[CandidateRun], share: float, after: float) -> list[CandidateRun]:
        measured = [run for run in runs if run.is_on(share)]
        standings = [run.standing() for run in measured]
        shift = ranking_shift(standings)
        steps_left = float(np.log(1.0 / share) / np.log(ETA))
        finalists = FINALISTS if after == 1.0 else None
        for run, reason in zip(measured, promote(standings, shift, steps_left, finalists)):
            run.dropped = reason
        kept = [run for run in measured if not run.dropped]
        # What fails on a small sample, for want of rows, may do well on a larger one.
        for model in {run.candidate.model for run in runs} - {run.candidate.model for run in measured}:
            again = [run for run in runs if run.candidate.model == model][: -(-len(runs) // (3 * len(self.models)))]
            for run in again:
                run.dropped = ""
            kept += again
        self._tell(runs, share, len(kept), shift)
        return sorted(kept, key=lambda run: run.order)

    def _tell(self, runs: Sequence[CandidateRun], share: float, kept: int, shift: float | None) -> None:
        self.told.append(
            RungResult(
                share=share,
                users=judging_users(self.dataset, share),
                tried=len(runs),
                kept=kept,
                shift=shift,
                tau=None,
                cpu_s=round(spent(runs, share), 3),
            )
        )

    # -- the end ----------------------------------------------------------------------------------------------

    def _judge(self, run: CandidateRun, winner: bool) -> _OnTest:
        """Evaluates a finalist on the test rows, once."""
        place = storage.join(self.output, JUDGED, f"{PurePosixPath(run.model_at).name}.json")
        before = restartable.read_record(place)
        there = storage.exists(storage.join(run.model_at, MODEL_FILE))
        if not there and (winner or before is None):
            # An earlier search left it out, and did not keep it.
            task = self._task(run, 1.0)
            storage.remove(task.record)
            self.trials.fit([task], 1, lambda task: run.candidate.searched, lambda task: None)
            if reason := self.trials.failed.get(task_name(task)):
                raise DasError(f"{run.candidate.name}: {reason.strip()}")
        if before is not None:
            return _OnTest.model_validate(before)
        measured = evaluate(
            data=self.dataset.uri, model=run.model_at, split="test", seed=self.config.seed, resample=True
        )
        found = _OnTest(metrics=measured.metrics, resampled=measured.resampled or {}, cpu_s=measured.cpu_s)
        recorded.write_json(place, found.model_dump(mode="json"))
        return found

    def _finish(
        self,
        alive: Sequence[CandidateRun],
        ended: bool,
        finalists: Sequence[CandidateRun],
        judged: Sequence[_OnTest],
    ) -> TuneResult:
        late = not ended and self.deadline is not None
        if ended:
            self._tell(alive, 1.0, min(len(judged), 1), None)
        ranked = sorted((run for run in alive if run.is_on(1.0)), key=by_progress)
        for rank, run in enumerate(ranked[2:], 3):
            run.dropped = f"rank {rank} of {len(ranked)} on everything"
        told = [rung.model_copy(update={"tau": tau_with_next(self.runs, rung.share)}) for rung in self.told]
        best = [_judged(run, of) for run, of in zip(finalists, judged)]
        model = finalists[0].model_at if judged else None
        validation = test = None
        if len(judged) == 2:
            first, second = finalists
            validation = _difference(first.quality, second.quality, first.resampled, second.resampled)
            one, two = judged
            test = _difference(one.metrics[PRIMARY], two.metrics[PRIMARY], one.of_users, two.of_users)
        made = max((one.cpu_s for one in self.made.values()), default=0.0)
        result = TuneResult(
            ok=bool(best) or late,
            uri=self.output,
            data=TrainDataRef.of(self.dataset),
            metric=PRIMARY,
            models=self.models,
            search=self.config.search,
            proposals="spread and optuna" if any(one.by_optuna for one in self.searches) else "spread",
            rungs=told,
            candidates=[run.result() for run in sorted(self.runs, key=by_progress)],
            winner=best[0] if best else None,
            model=model,
            runner_up=best[1] if len(best) == 2 else None,
            on_validation=validation,
            on_test=test,
            spent_cpu_s=round(made + sum(rung.cpu_s for rung in told) + sum(of.cpu_s for of in judged), 2),
            full_cpu_s=round(full_cost(self.runs), 2) if ended else None,
            left_out=self._left_out(),
            notes=self._notes(late, len(judged)),
            wall_s=round(time.time() - self.started, 1),
        )
        self.describe({"result": result.model_dump(mode="json")})
        if model is not None:
            for run in self.runs:
                if run.model_at and run.model_at != model:
                    storage.remove(run.model_at)
        return result

    def _left_out(self) -> list[str]:
        found = []
        for model in self.models:
            own = [run for run in self.runs if run.candidate.model == model]
            if own and not any(run.measured for run in own):
                reason = next((run.dropped for run in own if run.dropped), "the time budget did not suffice")
                found.append(f"{model}: {reason.removeprefix('failed: ')}")
        return found

    def _notes(self, late: bool, judged: int) -> list[str]:
        notes = []
        if late:
            notes.append("The time budget ended the search; run the same command again to go on.")
        if len(self.rungs) == 1 and len(self.runs) > 1:
            notes.append(
                f"The dataset has {self.dataset.n_users:,} users, too few for smaller samples, so every candidate was "
                "fitted on everything."
            )
        if judged == 1:
            notes.append("A single candidate was fitted on everything, so the winner has no runner-up.")
        at_all = ((run.candidate.model, of) for run in self.runs for share, of in run.measured if share == 1.0)
        return notes + [f"{sentence}." for sentence in lotteries(at_all)]


def rungs(dataset: Dataset) -> list[float]:
    """Shares of the train rows, ascending; those with too few users are left out, and the last is 1."""
    return [*(share for share in RUNGS if share * dataset.n_users >= _LEAST_USERS), 1.0]


def judging_users(dataset: Dataset, share: float) -> int:
    """Number of users who validate a rung."""
    users = dataset.n_users
    least = min(max(round(_JUDGES * users), _LEAST_JUDGES), _MOST_JUDGES)
    return min(max(round(share * users), least), users)


def _judged(run: CandidateRun, of: _OnTest) -> Judged:
    one = run.candidate
    return Judged(name=one.name, model=one.model, settings=dict(one.searched), validation=run.quality, test=of.metrics)


def _difference(first: float, second: float, resampled: np.ndarray, others: np.ndarray) -> Difference:
    value, low, high = difference_interval(first, second, resampled, others)
    return Difference(value=value, low=low, high=high)
