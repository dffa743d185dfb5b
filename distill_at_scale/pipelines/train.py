"""train: the Ray Train loop of all gradient-trained models; `fit` runs it for them, `proxies` for samplers.

    every worker: its own shards, streamed ─► Trainer (gradients added up over the workers) ─► rank 0 saves the model

Checkpoints lie in `<output>/_work/<run>` until the model is saved. Workers that die are started again by Ray Train, a
driver that died by running the same command again; both go on from the newest checkpoint.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
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
from distill_at_scale.config import FitConfig
from distill_at_scale.data import recorded, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import WORK
from distill_at_scale.data.preparation import parts
from distill_at_scale.errors import DasError, rebuilt
from distill_at_scale.models import create_model
from distill_at_scale.models.training.sources import ShardSource
from distill_at_scale.models.training.torch_model import TorchRecommender
from distill_at_scale.models.training.trainer import Alone, Trainer
from distill_at_scale.models.warming import warm_up
from distill_at_scale.pipelines import cluster, overheard, progress, runs
from distill_at_scale.pipelines.checkpoints import Checkpoints
from distill_at_scale.pipelines.stages import ANYWHERE

# Deaths of workers that a run survives, a driver's are not counted; and what is waited before a worker starts again.
_MOST_DEATHS = 20
_BREATH_S = 0.5
# Workers of a run that is interrupted have so long to end.
_ABORT_S = 10.0
_FAILED, _CRASHED, _COSTS = "failed.json", "crashed", "costs.json"


@dataclass(frozen=True)
class Gang:
    """What is asked of Ray Train for a run."""

    workers: int
    gpu: bool
    work: str
    """folder of the run's checkpoints, and of what its workers leave for the driver"""
    checkpoint_every: int | None = None
    """steps; None: one epoch"""
    keep_checkpoints: int = 2
    threads: int = 1
    """of each worker"""


class Workers(Alone):
    """All workers of a run, as torch.distributed connects them; one alone is not connected."""

    earlier_cpu_s = 0.0
    """spent before the checkpoint that this life began with"""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if torch.distributed.is_initialized():
            self.rank, self.world = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def add(self, tensor: torch.Tensor) -> None:
        if self.world > 1:
            torch.distributed.all_reduce(tensor)


def work_folder(config: FitConfig, dataset: Dataset, output: str) -> str:
    """Where the checkpoints of this very run lie: same rows, model, settings and number of workers."""
    same = {
        "data": dataset.manifest.fingerprint,
        "model": config.model,
        "settings": config.set,
        "workers": config.workers,
        "versions": {name: runs.versions()[name] for name in ("distill_at_scale", "torch")},
    }
    digest = hashlib.sha256(json.dumps(same, sort_keys=True, default=str).encode()).hexdigest()
    return storage.join(output, WORK, digest[:16])


def train(record: runs.RunRecord, config: FitConfig, dataset: Dataset, output: str, tell: progress.Tell) -> None:
    """Trains a model and saves it at ``output``; goes on from the checkpoints of an earlier run that was killed.

    Raises:
        DasError: too few CPUs or GPUs, too little memory, a loss that is no number, too many dead workers.
    """
    gang = Gang(
        workers=config.workers,
        gpu=config.gpu,
        work=work_folder(config, dataset, output),
        checkpoint_every=config.checkpoint_every,
        keep_checkpoints=config.keep_checkpoints,
    )
    data, name, settings = dataset.uri, config.model, config.set

    def work(gang: Gang, workers: Workers) -> None:
        dataset, model = Dataset.open(data), create_model(name, settings)
        assert isinstance(model, TorchRecommender)
        source = ShardSource(dataset, workers.rank, workers.world)
        trainer = run_trainer(gang, workers, model, dataset, source, tell)
        model.adopt(trainer, source.n_users, source.n_items, dataset.manifest.item_space)
        if workers.rank == 0:
            model.save(output)

    run_gang(record, f"fit {config.model}", gang, work, functools.partial(warm_up, name, settings))
    storage.remove(storage.join(output, WORK))


def run_gang(
    record: runs.RunRecord,
    name: str,
    gang: Gang,
    work: Callable[[Gang, Workers], None],
    warm: Callable[[], None] | None = None,
) -> None:
    """Has every worker of a gang run ``work``, again from its checkpoints when one of them dies.

    Several workers are started, connected and watched over by Ray Train. One alone has nobody to be connected with: it
    is an actor of its own, which starts in a third of the time.

    Args:
        warm: called in each worker before its costs are counted, as :func:`~distill_at_scale.models.warming.warm_up`.

    Raises:
        DasError: the one that a worker raised; too few CPUs; too many deaths.
    """
    gang = replace(gang, threads=_cpus_each(gang.workers))
    failed = storage.join(gang.work, _FAILED)
    storage.remove(failed)
    storage.remove(storage.join(gang.work, _CRASHED))
    started = time.monotonic()
    loop = {"gang": gang, "work": work, "warm": warm}
    reason = _run_one(loop, failed) if gang.workers == 1 else _run_several(loop)
    if storage.exists(failed):
        failure = recorded.read_json(failed, parts.FIX)
        storage.remove(failed)
        kind, said = failure["kind"], failure["error"]
        raise rebuilt(kind, said) if kind else RuntimeError(f"{name}: {said}")
    if reason:
        last = " ".join(reason.split())[-300:]
        raise DasError(f"{name}: its workers died {_MOST_DEATHS + 1} times, the last time so: {last}")
    found = recorded.read_json(storage.join(gang.work, _COSTS), parts.FIX)
    overheard.repeat(found["warnings"])
    record.add(name, time.monotonic() - started, found["workers"])


def _run_several(loop: dict[str, Any]) -> str:
    """Runs a gang by Ray Train; why its workers died once too often, or ""."""
    gang: Gang = loop["gang"]
    with tempfile.TemporaryDirectory(prefix="das-train-") as scratch:
        trainer = _Trainer(
            _on_worker,
            train_loop_config=loop,
            torch_config=TorchConfig(backend="nccl" if gang.gpu else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=gang.workers,
                use_gpu=gang.gpu,
                resources_per_worker={"CPU": gang.threads, **({"GPU": 1} if gang.gpu else {})},
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
    """Runs a gang of one; why its worker died once too often, or ""."""
    gang: Gang = loop["gang"]
    start = ray.remote(num_cpus=gang.threads, num_gpus=1 if gang.gpu else 0, scheduling_strategy=ANYWHERE)(_One)
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
    """The worker of a gang of one: an actor, whose death is told and not mended behind our back."""

    def run(self, loop: dict[str, Any]) -> None:
        _on_worker(loop)


def run_trainer(
    gang: Gang,
    workers: Workers,
    model: TorchRecommender,
    dataset: Dataset,
    source: ShardSource,
    tell: progress.Tell,
    after_epoch: Callable[[Trainer], None] | None = None,
) -> Trainer:
    """Trains on this worker's share, from the newest checkpoint on.

    Args:
        after_epoch: called after each epoch, before its checkpoint.
    """
    rows = -(-dataset.n_rows // workers.world)
    model.check_memory(dataset.n_users, dataset.n_items, rows, model.config)
    trainer = Trainer(model, source, workers.device, workers)
    checkpoints = Checkpoints(gang.work, gang.keep_checkpoints)
    every = gang.checkpoint_every or trainer.steps_per_epoch
    # One worker looks, all go by what it saw.
    newest = torch.tensor([checkpoints.newest() if workers.rank == 0 else 0], device=workers.device)
    workers.add(newest)
    if newest.item():
        trainer.restore(checkpoints.read(int(newest.item())))
        workers.earlier_cpu_s = trainer.earlier_cpu_s

    def after_step() -> None:
        if trainer.step == 0 and after_epoch:
            after_epoch(trainer)
        steps = trainer.epoch * trainer.steps_per_epoch + trainer.step
        if steps % every == 0 and workers.rank == 0:
            checkpoints.write(steps, trainer.state())

    trainer.run(tell, after_step)
    checkpoints.wait()
    return trainer


def _on_worker(loop: dict[str, Any]) -> None:
    """What each worker of a gang runs, from the start or again after a death."""
    gang: Gang = loop["gang"]
    failed = storage.join(gang.work, _FAILED)
    if storage.exists(failed):
        return
    cluster.use_threads(gang.threads)
    # A worker sees the GPUs that it was given, so one alone takes the first.
    device = torch.device("cpu")
    if gang.gpu:
        device = get_device() if gang.workers > 1 else torch.device("cuda")
    if loop["warm"] is not None:
        loop["warm"]()
    cpu, workers = time.process_time(), Workers(device)
    try:
        with overheard.overhear() as heard:
            loop["work"](gang, workers)
    except DasError as error:
        # It would come again: the next attempt sees this file and ends, and the driver says the sentence.
        recorded.write_json(failed, {"error": str(error), "kind": type(error).__name__})
        raise
    except Exception as error:
        # A storage that was away comes back, and a peer's death looks like any error of torch.distributed; of all
        # else, what the same worker says twice in the same words would come again and again.
        passing = OSError if workers.world == 1 else (OSError, RuntimeError)
        if not isinstance(error, passing):
            crashed = storage.join(gang.work, _CRASHED, f"{workers.rank}.json")
            words = {"error": f"{type(error).__name__}: {error}"}
            if parts.read_record(crashed) == words:
                recorded.write_json(failed, {"error": traceback.format_exc(), "kind": None})
            recorded.write_json(crashed, words)
        raise
    costs = torch.zeros(workers.world, 2, dtype=torch.float64, device=workers.device)
    spent = workers.earlier_cpu_s + time.process_time() - cpu
    costs[workers.rank, 0], costs[workers.rank, 1] = spent, runs.peak_mib()
    workers.add(costs)
    if workers.rank == 0:
        each = [{"cpu_s": seconds, "peak_mib": peak} for seconds, peak in costs.tolist()]
        recorded.write_json(storage.join(gang.work, _COSTS), {"workers": each, "warnings": heard})


def _cpus_each(workers: int) -> int:
    """The most CPUs that each of so many workers can have on the nodes that are up.

    Raises:
        DasError: when there is not one for each.
    """
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    for cpus in range(max(nodes, default=0), 0, -1):
        if sum(node // cpus for node in nodes) >= workers:
            return cpus
    raise DasError(f"--workers {workers} needs a CPU for each, but the cluster has {sum(nodes)}; set fewer.")
