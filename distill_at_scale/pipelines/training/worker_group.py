"""Worker groups: the same function on one worker or several, connected, watched over and restarted by Ray Train.

The callers say what the workers do: `torch_fit`, `kernel_fit`, `svp_row_scores` and `distilling`.
Workers that die are started again, a driver that died by running the same command again; what they go on from is the
newest checkpoint in the group's work folder.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ray
import ray.train
import torch
import torch.distributed
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from distill_at_scale import signals
from distill_at_scale.data import recorded, storage
from distill_at_scale.data.preparation import restartable
from distill_at_scale.errors import DasError, PluginError, rebuilt
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.pipelines.runtime import plugins, resources, run_record, worker_warnings
from distill_at_scale.pipelines.runtime.tasks import ANYWHERE

# Deaths of workers that a run survives, a driver's are not counted; and what is waited before a worker starts again.
_MOST_DEATHS = 20
_BREATH_S = 0.5
# Workers of a run that is interrupted have so long to end.
_ABORT_S = 10.0
_FAILED, _CRASHED, _COSTS = "failed.json", "crashed", "costs.json"


@dataclass(frozen=True)
class WorkerGroupSpec:
    """What is asked of Ray Train for a run."""

    workers: int
    gpu: bool
    work: str
    """Folder of the run's checkpoints, and of what its workers leave for the driver."""
    checkpoint_every: int | None = None
    """Steps; None: one epoch."""
    keep_checkpoints: int = 2
    threads: int = 1
    """Threads of each worker."""


class TorchCommunicator(Communicator):
    """All workers of a run, as torch.distributed connects them; one alone is not connected."""

    earlier_cpu_s = 0.0
    """CPU-seconds spent before the checkpoint that this process resumed from."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if torch.distributed.is_initialized():
            self.rank, self.world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def all_reduce(self, tensor: torch.Tensor) -> None:
        if self.world_size > 1:
            torch.distributed.all_reduce(tensor)


def run_group(
    record: run_record.RunRecord,
    name: str,
    group: WorkerGroupSpec,
    work: Callable[[WorkerGroupSpec, TorchCommunicator], None],
    warm: Callable[[], None] | None = None,
) -> None:
    """Has every worker of a group run ``work``, again from its checkpoints when one of them dies.

    Several workers are started, connected and watched over by Ray Train. One alone has nobody to be connected with: it
    is an actor of its own, which starts in a third of the time.

    Args:
        warm: called in each worker before its costs are counted, as :func:`~distill_at_scale.models.warming.warm_up`.

    Raises:
        DasError: the one that a worker raised; too few CPUs; too many deaths.
    """
    group = replace(group, threads=_cpus_each(group.workers))
    failed = storage.join(group.work, _FAILED)
    storage.remove(failed)
    storage.remove(storage.join(group.work, _CRASHED))
    started = time.monotonic()
    loop = {"group": group, "work": work, "warm": warm}
    reason = _run_one(loop, failed) if group.workers == 1 else _run_several(loop)
    if storage.exists(failed):
        failure = recorded.read_json(failed, restartable.FIX)
        storage.remove(failed)
        kind, said = failure["kind"], failure["error"]
        raise rebuilt(kind, said) if kind else RuntimeError(f"{name}: {said}")
    if reason:
        last = " ".join(reason.split())[-300:]
        raise DasError(f"{name}: its workers died {_MOST_DEATHS + 1} times, the last time so: {last}")
    found = recorded.read_json(storage.join(group.work, _COSTS), restartable.FIX)
    worker_warnings.repeat(found["warnings"])
    record.add(name, time.monotonic() - started, found["workers"])


def _run_several(loop: dict[str, Any]) -> str:
    """Runs a group by Ray Train. Returns why its workers died once too often, or ""."""
    group: WorkerGroupSpec = loop["group"]
    with tempfile.TemporaryDirectory(prefix="das-train-") as scratch:
        trainer = _Trainer(
            _on_worker,
            train_loop_config=loop,
            torch_config=TorchConfig(backend="nccl" if group.gpu else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=group.workers,
                use_gpu=group.gpu,
                resources_per_worker={"CPU": group.threads, **({"GPU": 1} if group.gpu else {})},
            ),
            run_config=ray.train.RunConfig(
                name="das",
                storage_path=scratch,
                failure_config=ray.train.FailureConfig(max_failures=_MOST_DEATHS),
            ),
        )
        try:
            with signals.kept():
                trainer.fit()
        except ray.train.TrainingFailedError as error:
            return str(error)
    return ""


class _Trainer(TorchTrainer):
    """Ends its workers when it is interrupted, and raises.

    Ray Train itself installs a handler for SIGINT that it never takes back, and which exits with 0. This method is
    private to it: tests/system/test_terminal.py interrupts a fit by two workers.
    """

    def _register_sigint_handler(self, controller: Any) -> None:
        self._controller = controller

    def fit(self) -> ray.train.Result:
        try:
            return super().fit()
        except KeyboardInterrupt:
            with contextlib.suppress(AttributeError, ray.exceptions.RayError):
                ray.get(self._controller.abort.remote(), timeout=_ABORT_S)
            raise


def _run_one(loop: dict[str, Any], failed: str) -> str:
    """Runs a group of one. Returns why its worker died once too often, or ""."""
    group: WorkerGroupSpec = loop["group"]
    start = ray.remote(num_cpus=group.threads, num_gpus=1 if group.gpu else 0, scheduling_strategy=ANYWHERE)(_One)
    reason = ""
    for death in range(_MOST_DEATHS + 1):
        time.sleep(min(death, 1) * _BREATH_S)
        worker: Any = start.remote()
        try:
            ray.get(worker.run.remote(loop))
            return ""
        except (ray.exceptions.RayActorError, ray.exceptions.RayTaskError) as error:
            reason = str(error)
            if storage.exists(failed):
                return ""
        finally:
            ray.kill(worker)
    return reason


class _One:
    """The worker of a group of one: an actor whose death is reported, not repaired by Ray."""

    def run(self, loop: dict[str, Any]) -> None:
        _on_worker(loop)


def _on_worker(loop: dict[str, Any]) -> None:
    """What each worker of a group runs, from the start or again after a death."""
    group: WorkerGroupSpec = loop["group"]
    failed = storage.join(group.work, _FAILED)
    if storage.exists(failed):
        return
    resources.use_threads(group.threads)
    # A worker sees the GPUs that it was given, so one alone takes the first.
    device = torch.device("cpu")
    if group.gpu:
        device = get_device() if group.workers > 1 else torch.device("cuda")
    if loop["warm"] is not None:
        loop["warm"]()
    cpu, communicator = time.process_time(), TorchCommunicator(device)
    try:
        with worker_warnings.overhear() as heard:
            loop["work"](group, communicator)
    except DasError as error:
        said = plugins.elsewhere(error) if isinstance(error, PluginError) else error
        # It would come again: the next attempt sees this file and ends, and the driver says the sentence.
        recorded.write_json(failed, {"error": str(said), "kind": type(said).__name__})
        raise
    except Exception as error:
        # A storage that was away comes back, and a peer's death looks like any error of torch.distributed; of all
        # else, what the same worker says twice in the same words would come again and again.
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


def _cpus_each(workers: int) -> int:
    """Returns the most CPUs that each of this many workers can have on the nodes that are up.

    Raises:
        DasError: when there is not one for each.
    """
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    for cpus in range(max(nodes, default=0), 0, -1):
        if sum(node // cpus for node in nodes) >= workers:
            return cpus
    raise DasError(f"--workers {workers} needs a CPU for each, but the cluster has {sum(nodes)}; set fewer.")
