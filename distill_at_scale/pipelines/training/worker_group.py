"""Worker groups: the same function on one worker or several, connected, supervised and restarted by Ray Train.

Used by `torch_fit`, `kernel_fit`, `svp_row_scores` and `distilling`. Workers that die are restarted; after a driver's
death, the same command is run again. Both resume from the newest checkpoint in the group's work folder.

An elastic group has a least and a most number of workers. When nodes come or go, Ray Train starts it again with as many
as there is room for, and it resumes from that checkpoint.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import ray
import torch
import torch.distributed

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.preparation import restartable
from distill_at_scale.errors import ClusterError, DasError, PluginError, rebuilt
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.pipelines.runtime import plugins, progress, resources, run_record, waiting, worker_warnings
from distill_at_scale.pipelines.runtime.task_answers import DEATHS
from distill_at_scale.pipelines.runtime.tasks import ANYWHERE

log = logging.getLogger(__name__)

# Number of worker deaths that a run survives (per driver), and the delay before a restart in seconds.
_MOST_DEATHS = 20
_BREATH_S = 0.5
# Least time between two reports to Ray Train, in seconds.
_REPORT_S = 5.0
_FIX_GPU = "install there a driver and the CUDA build of PyTorch, or leave out --gpu"
_FAILED, _CRASHED, _COSTS = "failed.json", "crashed", "costs.json"


@dataclass(frozen=True)
class WorkerGroupSpec:
    """Resources and checkpointing of a worker group."""

    workers: int
    """Number of workers, the most if they may come and go."""
    gpu: bool
    work: str
    """Folder of the run's checkpoints, and of the workers' messages to the driver."""
    checkpoint_every: int | None = None
    """Number of steps between checkpoints; None: one epoch."""
    keep_checkpoints: int = 2
    threads: int = 1
    """Number of threads of each worker."""
    least: int | None = None
    """The least number of workers, if they may come and go; None: the same number throughout."""

    @property
    def elastic(self) -> bool:
        return self.least is not None and self.least < self.workers


class TorchCommunicator(Communicator):
    """Communicator over torch.distributed; a single worker needs no connection."""

    earlier_cpu_s = 0.0
    """CPU-seconds spent before the checkpoint that this process resumed from."""
    _report_at = 0.0

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if torch.distributed.is_initialized():
            self.rank, self.world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def all_reduce(self, tensor: torch.Tensor) -> None:
        if self.world_size > 1:
            torch.distributed.all_reduce(tensor)

    def report(self, metrics: Mapping[str, float]) -> None:
        """Reports figures of the run to Ray Train, and so to Ray's dashboard; all workers of a group must call this.

        Ray Train takes one report in about two seconds, and a worker waits until its last one is taken: figures that
        follow one another sooner are left out. A single worker runs without Ray Train.
        """
        if self.world_size == 1:
            return
        now = time.monotonic()
        due = torch.tensor([float(self.rank == 0 and now >= self._report_at)], device=self.device)
        self.all_reduce(due)
        if due.item():
            import ray.train

            ray.train.report({**metrics, "workers": self.world_size})
            self._report_at = now + _REPORT_S


@dataclass(frozen=True)
class _Loop:
    """What a worker of a group is given."""

    group: WorkerGroupSpec
    work: Callable[[WorkerGroupSpec, TorchCommunicator], None]
    warm: Callable[[], None] | None
    board: Any
    """Actor that the worker's warnings go to; None where the driver shows none."""


def run_group(
    record: run_record.RunRecord,
    name: str,
    group: WorkerGroupSpec,
    work: Callable[[WorkerGroupSpec, TorchCommunicator], None],
    warm: Callable[[], None] | None = None,
) -> None:
    """Runs ``work`` on every worker of a group; restarts it from its checkpoints if a worker dies.

    Ray Train starts, connects and supervises several workers. A single worker is a plain task, in a process of Ray's
    pool that may have loaded what it needs.

    Args:
        record: Record of the run, which collects time and memory.
        name: Name of the stage.
        group: Resources and checkpointing.
        work: Function that each worker runs.
        warm: Called in each worker before its costs are measured, such as
            :func:`~distill_at_scale.models.warming.warm_up`.

    Raises:
        DasError: A worker raised one, there are too few CPUs, or workers died too often.
    """
    least = group.least or group.workers
    group = replace(group, threads=resources.cpus_of_some(least, group.workers, group.gpu))
    failed = storage.join(group.work, _FAILED)
    storage.remove(failed)
    storage.remove(storage.join(group.work, _CRASHED))
    started = time.monotonic()
    loop = _Loop(group, work, warm, progress.board())
    with waiting.provided(resources.Need(least, group.threads, int(group.gpu))):
        if group.workers == 1:
            reason = _run_one(loop, failed)
        else:
            # It loads Ray Train, which takes a second.
            from distill_at_scale.pipelines.training.ray_train_group import run_several

            reason = run_several(
                _on_ray_trains_worker,
                loop,
                group.work,
                workers=(least, group.workers) if group.elastic else group.workers,
                cpus=group.threads,
                gpu=group.gpu,
                deaths=_MOST_DEATHS,
            )
    if storage.exists(failed):
        failure = recorded.read_json(failed, restartable.FIX)
        storage.remove(failed)
        kind, said = failure["kind"], failure["error"]
        raise rebuilt(kind, said) if kind else RuntimeError(f"{name}: {said}")
    if reason:
        last = " ".join(reason.split())[-300:]
        raise DasError(f"{name}: its workers died {_MOST_DEATHS + 1} times, the last time with: {last}")
    found = recorded.read_json(storage.join(group.work, _COSTS), restartable.FIX)
    worker_warnings.repeat(found["warnings"])
    costs = [run_record.TaskCost(one["cpu_s"], one["peak_mib"]) for one in found["workers"]]
    record.add(name, time.monotonic() - started, costs)


def _run_one(loop: _Loop, failed: str) -> str:
    """Runs a single worker. Returns the reason if it died too often, else ""."""
    group = loop.group
    # Its death is handled here, not by Ray.
    task = ray.remote(
        num_cpus=group.threads, num_gpus=1 if group.gpu else 0, max_retries=0, scheduling_strategy=ANYWHERE
    )(_on_worker)
    reason = ""
    for death in range(_MOST_DEATHS + 1):
        time.sleep(min(death, 1) * _BREATH_S)
        worker = task.remote(loop)
        try:
            ray.get(worker)
            return ""
        except (ray.exceptions.RayTaskError, *DEATHS) as error:
            reason = str(error)
            if storage.exists(failed):
                return ""
        except BaseException:
            # Interrupted. Not otherwise: Ray aborts this process if a task is cancelled while its end is on its way.
            ray.cancel(worker, force=True)
            raise
    return reason


def _on_ray_trains_worker(config: dict[str, _Loop]) -> None:
    _on_worker(config["loop"])


def _on_worker(loop: _Loop) -> None:
    """Runs on each worker of a group, initially and after each restart."""
    with worker_warnings.overhear(loop.board) as heard:
        _attempt(loop, heard)


def _attempt(loop: _Loop, heard: list[str]) -> None:
    group = loop.group
    failed = storage.join(group.work, _FAILED)
    if storage.exists(failed):
        return
    resources.use_threads(group.threads)
    if group.gpu and not torch.cuda.is_available():
        node = ray.util.get_node_ip_address()
        return _tell(failed, ClusterError(f"Node {node} gives Ray a GPU that PyTorch cannot use; {_FIX_GPU}."))
    # A worker sees only the GPUs assigned to it, so a single worker uses the first.
    device = torch.device("cpu")
    if group.gpu:
        device = torch.device("cuda")
        if group.workers > 1:
            from ray.train.torch import get_device

            device = get_device()
    if loop.warm is not None:
        loop.warm()
    cpu, communicator = time.process_time(), TorchCommunicator(device)
    if group.elastic and communicator.rank == 0:
        # A warning, since those reach the driver at once.
        log.warning("%d of %d workers are there and go on", communicator.world_size, group.workers)
    try:
        loop.work(group, communicator)
    except DasError as error:
        said = plugins.elsewhere(error) if isinstance(error, PluginError) else error
        _tell(failed, said)
        raise
    except Exception as error:
        # Storage errors may be temporary, and a peer's death looks like an error of torch.distributed. Any other error
        # that the same worker raises twice with the same message is permanent.
        passing = OSError if communicator.world_size == 1 else (OSError, RuntimeError)
        if not isinstance(error, passing):
            crashed = storage.join(group.work, _CRASHED, f"{communicator.rank}.json")
            words = {"error": f"{type(error).__name__}: {error}"}
            if restartable.read_record(crashed) == words:
                recorded.write_json(failed, {"error": traceback.format_exc(), "kind": None})
            recorded.write_json(crashed, words)
        raise
    costs = torch.zeros(communicator.world_size, 2, dtype=torch.float64, device=communicator.device)
    spent = communicator.earlier_cpu_s + time.process_time() - cpu
    costs[communicator.rank, 0], costs[communicator.rank, 1] = spent, run_record.peak_mib()
    communicator.all_reduce(costs)
    if communicator.rank == 0:
        each = [{"cpu_s": seconds, "peak_mib": peak} for seconds, peak in costs.tolist()]
        recorded.write_json(storage.join(group.work, _COSTS), {"workers": each, "warnings": heard})


def _tell(failed: str, error: DasError) -> None:
    """Leaves an error for the driver. It would recur: the next attempt sees this file and ends."""
    recorded.write_json(failed, {"error": str(error), "kind": type(error).__name__})
