"""Makes small datasets, and fits models on them as trials of Ray Tune: common to `sweep`, `forecast` and `tune`.

What is done is written down beside it and not done again, so a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distill_at_scale.errors import DasError
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
        on_done: Callable[[EvaluationTask], None],
        on_start: Callable[[EvaluationTask], None] = lambda task: None,
    ) -> None:
        """Fits and evaluates.

        Args:
            tasks: Those that are left.
            total: Their number with those that are done.
            params: Parameters of a task in TensorBoard.
            on_done: Called after each task, whether it failed or not.
            on_start: Called before each task.
        """
        by_name = {task_name(task): task for task in tasks}
        self._fit(
            [(task,) for task in tasks],
            total,
            params,
            lambda key: on_done(by_name[key]),
            lambda key: on_start(by_name[key]),
        )

    def fit_in_turn(
        self,
        chains: Sequence[Sequence[EvaluationTask]],
        total: int,
        params: Callable[[EvaluationTask], Mapping[str, Any]],
    ) -> None:
        """Fits and evaluates chains of tasks, each task after the one before it, whose record it may need.

        Args:
            chains: Those that are left; none is empty.
            total: Their number with those that are done.
            params: Parameters of a chain in TensorBoard, from its last task.
        """
        self._fit(chains, total, params, lambda key: None, lambda key: None)

    def _fit(
        self,
        chains: Sequence[Sequence[EvaluationTask]],
        total: int,
        params: Callable[[EvaluationTask], Mapping[str, Any]],
        on_done: Callable[[str], None],
        on_start: Callable[[str], None],
    ) -> None:
        trials, by_name = [], {}
        for chain in chains:
            last = chain[-1]
            kind = find_model(last.model)
            beside = all(fits_beside_others(task) for task in chain)
            gpu = self.gpu and (kind.by_gradients or kind.by_passes)
            work = functools.partial(_train, chain, beside, gpu)
            labels = {"data": last.data.rsplit("/", 1)[-1], "model": last.model}
            held = computing(gpu) if beside else DRIVER
            trials.append(Trial(task_name(last), work, held, labels, params(last)))
            by_name[task_name(last)] = chain

        def ended(key: str, failed: str) -> None:
            if failed:
                self.failed[key] = failed
                self.failed.update({task_name(task): failed for task in by_name[key] if task.read() is None})
            on_done(key)

        if trials:
            board = TrialTable("fit", total, total - len(trials), PRIMARY)
            with board.shown():
                run_trials(trials, board, ended, output=self.output, deadline=self.deadline, on_start=on_start)


def task_name(task: EvaluationTask) -> str:
    """Returns the name of an evaluation's trial."""
    return "-".join(task.record.removesuffix(".json").rsplit("/", 2)[1:])


def _train(chain: Sequence[EvaluationTask], beside: bool, gpu: bool) -> dict[str, float]:
    failed: DasError | None = None
    for task in chain:
        if task.read() is None:
            try:
                if beside:
                    train_here(task)
                else:
                    train_apart(task, gpu)
            except DasError as error:
                # What fails on few rows may work on more.
                failed = failed or error
    if failed is not None:
        raise failed
    done = [trained for task in chain if (trained := task.read()) is not None]
    return {**done[-1].metrics, "fit_cpu_s": sum(one.fit_cpu_s for one in done)}
