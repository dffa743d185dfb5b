"""sweep: measures how much quality methods keep on one dataset: every method × budget × model × seed, on Ray Tune.

    (search settings, if requested) ─► make the small datasets (one pass or proxy serves many)
        ─► fit and evaluate every model on each, and on all rows

Shared work is done once: a scoring pass for all budgets, a proxy for all samplers that use it, a model on the full data
for all methods, a fit for all seeds that keep the same rows. Every trial that ends is a row in `trials.parquet`; an
interrupted sweep resumes when the same command is run again.
"""

from __future__ import annotations

import io
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import polars as pl

from distill_at_scale import extras
from distill_at_scale.config import SweepConfig
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.dataset_ref import EvaluatedDataRef
from distill_at_scale.data.recorded import FileRecord, record_of
from distill_at_scale.errors import DamagedFileError, DasError, OutputExistsError
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.genie.cells import CellSummary, cells
from distill_at_scale.genie.trials import (
    FULL,
    NAME,
    TRIALS,
    VERSION,
    SweepDescription,
    TrialRow,
    as_trials,
    read_description,
)
from distill_at_scale.models import MODELS
from distill_at_scale.pipelines.runtime import output_folder, own_settings, resources, session
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.pipelines.sweeps import hyperparameter_search, small_datasets
from distill_at_scale.pipelines.sweeps.claimed_output import describe
from distill_at_scale.pipelines.sweeps.evaluations import (
    RECORDS,
    EvaluationTask,
    Trained,
    lotteries,
    other_metrics,
)
from distill_at_scale.pipelines.sweeps.hyperparameter_search import Searched
from distill_at_scale.pipelines.sweeps.mlflow_runs import open_runs
from distill_at_scale.pipelines.sweeps.sweep_result import SweepResult
from distill_at_scale.pipelines.sweeps.trial_plan import PlannedTrial, plan_trials, training_data
from distill_at_scale.pipelines.sweeps.trial_runs import TrialRuns, task_name
from distill_at_scale.pipelines.sweeps.tune import LOGS
from distill_at_scale.registry import EVERYTHING, METHODS
from distill_at_scale.settings import seconds

log = logging.getLogger(__name__)

_WRITE_EVERY_S = 2.0


@verb(SweepConfig, "data")
def sweep(config: SweepConfig) -> SweepResult:
    """Tries methods at budgets with models; see :class:`~distill_at_scale.config.SweepConfig` for the settings.

    A failed trial is a row with its reason; it is repeated when the same command is run again.

    Raises:
        SettingError: A method or model is unknown.
        DasError: The dataset does not exist, or the output holds a sweep of another dataset.
    """
    return _Sweep(config).run()


class _Sweep:
    """One run of a sweep."""

    def __init__(self, config: SweepConfig) -> None:
        self.config = config
        self.started = time.time()
        self.deadline = None if config.time_budget is None else self.started + seconds(config.time_budget)
        self.dataset = Dataset.open(config.data)
        self.models = list(dict.fromkeys(config.models))
        self.left_out: list[str] = []
        self.methods = self._methods()
        self.settings = self._settings()
        self.output = storage.normalise(config.output)
        self.runs = open_runs(config.mlflow, self.output)
        self.trials = TrialRuns(self.output, self.deadline, config.gpu)
        self.failed = self.trials.failed
        """Key -> reason of the jobs and trials that failed in this run."""
        self.known: dict[str, Trained | None] = {}
        """Cache of the records of evaluations, so that each is read once."""
        self.records: list[FileRecord] = []
        """File records of trials.parquet: of its current content and, while it is replaced, of the next."""
        self.searched: list[Searched] = []
        self._written = 0.0

    def _methods(self) -> list[str]:
        asked = list(METHODS) if "all" in self.config.methods else list(dict.fromkeys(self.config.methods))
        place = storage.redact(self.dataset.uri)
        kept = []
        for name in asked:
            if not small_datasets.suits(name, self.dataset):
                self.left_out.append(f"{name} goes by time, but {place} has no timestamps")
                continue
            deaf = [model for model in self.models if not small_datasets.learns(model, name)]
            if len(deaf) == len(self.models):
                able = " or ".join(sorted(model for model in MODELS if small_datasets.learns(model, name)))
                self.left_out.append(f"{name}: none of the models learns from what it makes; add {able} to the models")
                continue
            if deaf:
                self.left_out.append(f"{', '.join(deaf)} on {name}: cannot learn from what it makes")
            kept.append(name)
        if not kept:
            raise DasError(f"no method is left: {'; '.join(self.left_out)}.")
        return kept

    def _settings(self) -> dict[str, dict[str, Any]]:
        return own_settings.by_owner(self.config.set, (*METHODS, *MODELS), "distill_cf.steps=100 or mf.epochs=5")

    # -- the run ------------------------------------------------------------------------------------------

    def run(self) -> SweepResult:
        if self.config.search:
            extras.require("--search", "Optuna", "optuna", "search")
        self._claim()
        uri = self.dataset.uri
        with session.ensure(self.config.address), self.runs:
            if self.config.gpu:
                resources.require_gpu()
            if self.config.search:
                self._search()
            jobs = [
                job
                for seed in range(self.config.seeds)
                for job in small_datasets.jobs(
                    self.methods, self.config.shares, seed, uri, self.output, self.settings, self.config.gpu
                )
            ]
            made = self.trials.make(jobs)
            found = training_data(self.dataset, self.config.seeds, jobs, made, self.failed)
            plan = plan_trials(self.dataset, found, self.models, self.settings, self.output, small_datasets.learns)
            pairs = {trial.task.record: trial.task for trial in plan if trial.task is not None}
            self.known = {record: pair.read() for record, pair in pairs.items()}
            left = [pair for record, pair in pairs.items() if self.known[record] is None]
            self._fit(left, len(pairs), plan)
        return self._finish(plan, len(pairs))

    def _search(self) -> None:
        """Replaces defaults by what is best on validation."""
        for owner in filter(hyperparameter_search.searchable, (*self.models, *self.methods)):
            if self.deadline is not None and time.time() >= self.deadline:
                return
            found = hyperparameter_search.search(
                owner,
                self.dataset,
                self.settings.get(owner, {}),
                budget=self.config.shares[0],
                trials=self.config.search,
                output=self.output,
                deadline=self.deadline,
                runs=self.runs,
            )
            if found is not None:
                self.searched.append(found)
                self.settings[owner] = {**found.chosen, **self.settings.get(owner, {})}
            elif self.deadline is None or time.time() < self.deadline:
                self.left_out.append(f"the search for settings of {owner}: all its trials failed")

    def _fit(self, pairs: list[EvaluationTask], total: int, plan: list[PlannedTrial]) -> None:
        self.runs.add(self._rows(plan))
        # Small datasets that are the same, of several budgets or methods, are fitted once.
        planned: dict[str, list[PlannedTrial]] = defaultdict(list)
        for trial in plan:
            if trial.task is not None:
                planned[trial.task.record].append(trial)

        def began(pair: EvaluationTask) -> None:
            self.runs.start([trial.key(self.dataset) for trial in planned[pair.record]])

        def ended(pair: EvaluationTask) -> None:
            if task_name(pair) not in self.failed:
                self.known[pair.record] = pair.read()
            self.runs.end(self._rows(planned[pair.record]))
            # Every trial is a row at once; of several in a moment one write is enough.
            if time.monotonic() - self._written >= _WRITE_EVERY_S:
                self._write(plan)
                self._written = time.monotonic()

        def params(pair: EvaluationTask) -> Mapping[str, Any]:
            return planned[pair.record][0].key(self.dataset).as_dict()

        self.trials.fit(pairs, total, params, ended, began)

    # -- results ------------------------------------------------------------------------------------------

    def _rows(self, plan: list[PlannedTrial]) -> list[TrialRow]:
        """Returns the rows of all trials that have ended."""
        rows = []
        for trial in plan:
            task = trial.task
            trained, failed = (
                (None, "") if task is None else (self.known.get(task.record), self.failed.get(task_name(task), ""))
            )
            rows.append(trial.row(self.dataset, trained, failed))
        return [row for row in rows if row is not None]

    def _write(self, plan: list[PlannedTrial]) -> pl.DataFrame:
        trials = as_trials([row.columns() for row in self._rows(plan)])
        buffer = io.BytesIO()
        trials.write_parquet(buffer)
        # The description always matches the trials file, even for concurrent readers or after a kill.
        self.records = [*self.records[-1:], record_of(TRIALS, buffer.getvalue())]
        self._describe({})
        storage.write_bytes(storage.join(self.output, TRIALS), buffer.getvalue())
        return trials

    def _claim(self) -> None:
        """Initialises the output for this sweep, or resumes it."""
        output_folder.check_apart(self.output, self.dataset.uri)
        where = storage.redact(self.output)
        place = storage.join(self.output, NAME)
        storage.check_writable(place)
        found: SweepDescription | None = None
        try:
            found = read_description(self.output)
        except FileNotFoundError:
            pass
        except DamagedFileError:
            # The trials' records are kept; their names contain the datasets.
            log.warning("%s is damaged and made again.", storage.redact(place))
        if found is not None:
            if found.data.fingerprint != self.dataset.manifest.fingerprint and not self.config.overwrite:
                raise OutputExistsError(
                    f"{where} holds a sweep of another dataset ({found.data.uri}); choose another --output, or "
                    "replace it with --overwrite."
                )
            if self.config.overwrite:
                for ours in (TRIALS, *small_datasets.FOLDERS, hyperparameter_search.RECORDS, RECORDS, LOGS, NAME):
                    storage.remove(storage.join(self.output, ours))
            else:
                self.records = list(found.trials)
        self._describe({})

    def _describe(self, more: Mapping[str, Any]) -> None:
        foreign = {m: small_datasets.unit(m) for m in self.methods if not EVERYTHING.is_built_in(m)}
        # Recorded so that readers of the sweep need not import plugins.
        units = {"units": foreign} if foreign else {}
        content = {"version": VERSION, "trials": [one.model_dump() for one in self.records], **units, **more}
        describe(
            storage.join(self.output, NAME), EvaluatedDataRef.of(self.dataset), self.config, content, without=["mlflow"]
        )

    def _finish(self, plan: list[PlannedTrial], fits: int) -> SweepResult:
        trials = self._write(plan)
        failed = trials.filter(pl.col("status") == "failed")
        reasons = failed["reason"].value_counts(sort=True)
        left = len(plan) - len(trials)
        in_time = self.deadline is None or time.time() < self.deadline
        result = SweepResult(
            ok=not len(failed) and not (left and in_time),
            uri=self.output,
            data=EvaluatedDataRef.of(self.dataset),
            methods=self.methods,
            budgets=self.config.shares,
            models=self.models,
            seeds=self.config.seeds,
            trials=len(plan),
            done=len(trials) - len(failed),
            failed=len(failed),
            left=left,
            failures={row["reason"]: row["count"] for row in reasons.iter_rows(named=True)},
            fits=fits,
            searched={found.owner: found.chosen for found in self.searched},
            left_out=self.left_out,
            notes=[*other_metrics(self.settings, PRIMARY), *_without_quality(trials), *self._lotteries(plan)],
            metric=PRIMARY,
            cells=[CellSummary(**cell) for cell in cells(trials).to_dicts()],
            wall_s=round(time.time() - self.started, 1),
        )
        self.records = self.records[-1:]
        self._describe({"result": result.model_dump(mode="json", exclude={"cells"})})
        return result

    def _lotteries(self, plan: list[PlannedTrial]) -> list[str]:
        models = {trial.task.record: trial.model for trial in plan if trial.task is not None}
        known = ((model, self.known.get(record)) for record, model in models.items())
        return lotteries((model, one) for model, one in known if one is not None)


def _without_quality(trials: pl.DataFrame) -> list[str]:
    """Returns what to say of models that find nothing even when fitted on all data."""
    whole = trials.filter(pl.col("method") == FULL, pl.col("status") == "done")
    named = sorted({row["model"] for row in whole.iter_rows(named=True) if not row[PRIMARY]})
    return [f"{model}: {PRIMARY} is 0 on all data, so nothing of it can be kept; it is not compared" for model in named]
