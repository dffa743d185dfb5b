"""Common to `forecast` and `tune`: a run that fits models on samples of one dataset and can be resumed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distill_at_scale.config import ForecastConfig, TuneConfig
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.dataset_ref import TrainDataRef
from distill_at_scale.pipelines.runtime import own_settings, resources, session
from distill_at_scale.pipelines.sweeps.claimed_output import claim, describe
from distill_at_scale.pipelines.sweeps.evaluations import EvaluationTask, Trained
from distill_at_scale.pipelines.sweeps.mlflow_runs import open_runs
from distill_at_scale.pipelines.sweeps.trial_runs import TrialRuns, task_name
from distill_at_scale.settings import seconds


class ModelTrials:
    """One run.

    Attributes:
        started: Start, by :func:`time.time`.
        deadline: End of the time budget; None without one.
        dataset: The dataset.
        models: Names of the models, each once.
        settings: The given settings, by model.
        output: Folder of the run, normalised.
        trials: Runs the trials.
        mlflow: Runs of MLflow; open during :meth:`session`.
    """

    name: str
    """File in the output that describes the run."""
    fix: str
    """Remedy for damage of that file, as the end of a sentence."""
    what: str
    """What the output holds, such as "a search"."""
    writes: tuple[str, ...]
    """Other files and folders in the output."""

    def __init__(self, config: ForecastConfig | TuneConfig) -> None:
        self.started = time.time()
        self.deadline = None if config.time_budget is None else self.started + seconds(config.time_budget)
        self.dataset = Dataset.open(config.data)
        self.models = list(dict.fromkeys(config.models))
        self.settings = own_settings.by_owner(config.set, self.models, f"{self.models[0]}.NAME=VALUE")
        self.output = storage.normalise(config.output)
        self.trials = TrialRuns(self.output, self.deadline, config.gpu)
        self.mlflow = open_runs(config.mlflow, self.output)
        self._config = config

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Connects to Ray and MLflow.

        Raises:
            ClusterError: No cluster can be reached, or it lacks a GPU for a run that needs one.
        """
        with session.ensure(self._config.address), self.mlflow:
            if self._config.gpu:
                resources.require_gpu()
            yield

    def fit(self, tasks: Sequence[EvaluationTask], params: Mapping[str, Mapping[str, Any]]) -> None:
        """Fits and evaluates those that are left, unless the time budget has ended; all are runs of MLflow.

        Args:
            tasks: What is to be done, and what was done before.
            params: Parameters in TensorBoard and MLflow, by the tasks' records.
        """

        def began(task: EvaluationTask) -> None:
            self.mlflow.begin(params[task.record])

        def record(task: EvaluationTask, done: Trained | None) -> None:
            figures = {} if done is None else {**done.metrics, "fit_cpu_s": done.fit_cpu_s}
            self.mlflow.write(params[task.record], figures, "FAILED" if done is None else "FINISHED")

        def ended(task: EvaluationTask) -> None:
            record(task, None if task_name(task) in self.trials.failed else task.read())

        before = [(task, task.read()) for task in tasks]
        for task, done in before:
            if done is not None and not self.mlflow.has(params[task.record]):
                record(task, done)
        left = [task for task, done in before if done is None]
        if self.deadline is None or time.time() < self.deadline:
            self.trials.fit(left, len(tasks), lambda task: params[task.record], ended, began)

    def claim(self) -> None:
        """Makes the output this run's, or goes on with it."""
        claim(self.output, self.name, self.fix, self.what, self.dataset, self.writes, self._config.overwrite)
        self.describe({})

    def describe(self, more: dict[str, Any]) -> None:
        """Writes the file that describes the run."""
        file = storage.join(self.output, self.name)
        describe(file, TrainDataRef.of(self.dataset), self._config, more, without=["mlflow"])
