"""Makes small datasets, and fits models on them as trials of Ray Tune: common to `sweep`, `forecast` and `tune`.

What is done is written down beside it and not done again, so a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.models import find_model
from distill_at_scale.pipelines.runtime import resources
from distill_at_scale.pipelines.sweeps.dataset_tasks import make_datasets
from distill_at_scale.pipelines.sweeps.evaluations import EvaluationTask, fits_beside_others, train_apart, train_here
from distill_at_scale.pipelines.sweeps.small_datasets import SmallDataset, SmallDatasetJob
from distill_at_scale.pipelines.sweeps.trial_table import TrialTable
from distill_at_scale.pipelines.sweeps.tune import DRIVER, Trial, computing, run_trials


@dataclass
class TrialRuns:
    """The trials of one run of a verb.

    Attributes:
        output: Folder of the run.
        deadline: By :func:`time.time`; None for no limit.
        gpu: Whether models trained by gradients get a GPU each.
        failed: Why trials failed in this run, by key.
    """

    output: str
    deadline: float | None = None
    gpu: bool = False
    failed: dict[str, str] = field(default_factory=dict)

    def make(self, jobs: Sequence[SmallDatasetJob]) -> dict[str, list[SmallDataset] | None]:
        """Makes the small datasets of jobs; returns what is there, by the jobs' keys."""
        todo = [job for job in jobs if not job.is_done]
        if todo:
            board = TrialTable("make", len(jobs), len(jobs) - len(todo))
            # Two at least, for one waits most of the time; but hundreds would only take memory.
            at_once = min(max(resources.cpus() // 2, 2), 64)
            with board.shown():
                make_datasets(
                    todo, board, self.failed.__setitem__, output=self.output, at_once=at_once, deadline=self.deadline
                )
        return {job.key: job.read() for job in jobs}

    def fit(
        self,
        tasks: Sequence[EvaluationTask],
        total: int,
        params: Callable[[EvaluationTask], Mapping[str, Any]],
        on_done: Callable[[EvaluationTask], None] = lambda task: None,
        on_start: Callable[[EvaluationTask], None] = lambda task: None,
    ) -> None:
        """Fits and evaluates, in this order; a task that names another one's record starts when that has ended.

        Args:
            tasks: Those that are left.
            total: Their number with those that are done.
            params: Parameters of a task in TensorBoard.
            on_done: Called after each task, whether it failed or not.
            on_start: Called before each task.
        """
        by_name = {task_name(task): task for task in tasks}
        if not by_name:
            return
        name_of = {task.record: name for name, task in by_name.items()}
        after = {name: name_of[task.grid_from] for name, task in by_name.items() if task.grid_from in name_of}

        def ended(name: str, failed: str) -> None:
            if failed:
                self.failed[name] = failed
            on_done(by_name[name])

        board = TrialTable("fit", total, total - len(by_name), PRIMARY)
        with board.shown():
            run_trials(
                [self._trial(task, params(task)) for task in by_name.values()],
                board,
                ended,
                output=self.output,
                deadline=self.deadline,
                on_start=lambda name: on_start(by_name[name]),
                after=after,
            )

    def _trial(self, task: EvaluationTask, params: Mapping[str, Any]) -> Trial:
        kind = find_model(task.model)
        beside = fits_beside_others(task)
        gpu = self.gpu and (kind.by_gradients or kind.by_passes)
        work = functools.partial(_train, task, beside, gpu)
        labels = {"data": task.data.rsplit("/", 1)[-1], "model": task.model}
        return Trial(task_name(task), work, computing(gpu) if beside else DRIVER, labels, params)


def task_name(task: EvaluationTask) -> str:
    """Returns the name of an evaluation's trial."""
    return "-".join(task.record.removesuffix(".json").rsplit("/", 2)[1:])


def _train(task: EvaluationTask, beside: bool, gpu: bool) -> dict[str, float]:
    if task.read() is None:  # a worker that died may have written it
        if beside:
            train_here(task)
        else:
            train_apart(task, gpu)
    trained = task.read()
    assert trained is not None, "it has just been written"
    return {**trained.metrics, "fit_cpu_s": trained.fit_cpu_s}
