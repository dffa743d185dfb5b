"""Makes the small datasets of a sweep, each job in a plain task of Ray.

A job waits for the tasks of its stages most of the time. A plain task runs in a process of Ray's pool, which the next
job, and the stages of others, use again; a trial of Ray Tune would start one of its own, which takes longer than a
small job.
"""

from __future__ import annotations

import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from distill_at_scale.data import storage
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.runtime import resources, waiting
from distill_at_scale.pipelines.runtime.task_answers import DEATHS
from distill_at_scale.pipelines.runtime.tasks import ANYWHERE
from distill_at_scale.pipelines.sweeps import small_datasets
from distill_at_scale.pipelines.sweeps.small_datasets import SmallDatasetJob
from distill_at_scale.pipelines.sweeps.trial_events import died
from distill_at_scale.pipelines.sweeps.trial_table import TrialTable
from distill_at_scale.pipelines.sweeps.tune import DRIVER, LIVES, LOGS, run_name, seconds_left


def make_datasets(
    jobs: Sequence[SmallDatasetJob],
    board: TrialTable,
    on_failed: Callable[[str, str], None],
    *,
    output: str,
    at_once: int,
    deadline: float | None,
) -> None:
    """Runs jobs in their order, at most ``at_once`` at the same time. Needs a Ray session.

    Args:
        board: Trial table that shows the progress.
        on_failed: Called in this process with the key of each job that failed, and the reason.
        output: Folder for the logs, in ``tensorboard/``.
        deadline: Time (:func:`time.time`) at which running jobs are killed; they count as not done.
    """
    if not jobs or (deadline is not None and time.time() >= deadline):
        return
    # Deaths are counted here: Ray would repeat a task whose node has too little memory without end.
    task = ray.remote(num_cpus=0, memory=DRIVER["memory"], max_retries=0, scheduling_strategy=ANYWHERE)(_made)
    logs = storage.join(output, LOGS, run_name())
    left, running, deaths = deque(jobs), dict[ray.ObjectRef[Any], SmallDatasetJob](), Counter[str]()
    try:
        with waiting.provided(resources.Need(1, 1)):
            while left or running:
                while left and len(running) < at_once:
                    job = left.popleft()
                    board.begin(job.key, _labels(job))
                    running[task.remote(job)] = job
                ready, _ = ray.wait(list(running), timeout=seconds_left(deadline))
                if not ready:
                    return
                job = running.pop(ready[0])
                try:
                    found, failed = ray.get(ready[0])
                except DEATHS:
                    deaths[job.key] += 1
                    if deaths[job.key] < LIVES:
                        left.appendleft(job)
                        continue
                    found, failed = {}, died(LIVES)
                if failed:
                    on_failed(job.key, failed)
                else:
                    _log(storage.join(logs, job.key), {**_labels(job), "key": job.key}, found)
                board.end(job.key, failed, found)
    finally:
        for ref in running:
            # With what it waits for, in a session that goes on.
            ray.cancel(ref, force=True)


def _labels(job: SmallDatasetJob) -> dict[str, Any]:
    return {"method": job.methods[0]}


def _made(job: SmallDatasetJob) -> tuple[dict[str, float], str]:
    """Makes the small datasets of a job. A failure is returned, not raised, since it would recur."""
    try:
        return {"cpu_s": sum(one.cpu_s for one in small_datasets.make(job))}, ""
    except DasError as error:
        return {}, str(error)
    except Exception:
        return {}, traceback.format_exc()


def _log(folder: str, params: Mapping[str, Any], values: Mapping[str, float]) -> None:
    """Writes one step of values for TensorBoard, as Ray Tune does for the fits."""
    from tensorboardX import SummaryWriter
    from tensorboardX.summary import hparams

    named = {f"ray/tune/{name}": value for name, value in values.items()}
    with tempfile.TemporaryDirectory() as local:
        writer = SummaryWriter(local)
        for name, value in named.items():
            writer.add_scalar(name, value, 1)
        for part in hparams({f"trial/{name}": value for name, value in params.items()}, named):
            writer.file_writer.add_summary(part)
        writer.close()
        for file in Path(local).iterdir():
            storage.write_bytes(storage.join(folder, file.name), file.read_bytes())
