"""train: the Ray Train loop of all gradient-trained models; `fit` runs it for them.

    every worker: its own shards, streamed ─► Trainer (gradients added up over the workers) ─► rank 0 saves the model

Checkpoints lie in `<output>/_work/<run>` until the model is saved. Workers that die are started again by Ray Train, a
driver that died by running the same command again; both go on from the newest checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import torch
import torch.distributed
from ray.train.torch import TorchTrainer, get_device

from distill_at_scale.config import FitConfig
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import WORK
from distill_at_scale.errors import DasError
from distill_at_scale.models import create_model
from distill_at_scale.models.sources import ShardSource
from distill_at_scale.models.torch_model import TorchRecommender
from distill_at_scale.models.trainer import Alone, Trainer
from distill_at_scale.pipelines import progress, runs
from distill_at_scale.pipelines.checkpoints import Checkpoints

# Deaths of workers that a run survives; a driver's are not counted.
_MOST_DEATHS = 20
_FAILED, _COSTS = "failed.json", "costs.json"


@dataclass(frozen=True)
class Job:
    """What every worker of a run is told."""

    data: str
    model: str
    settings: dict[str, Any]
    output: str
    work: str
    """folder of the run's checkpoints"""
    threads: int
    gpu: bool
    checkpoint_every: int | None
    keep_checkpoints: int


class Workers(Alone):
    """All workers of a run, as torch.distributed connects them."""

    def __init__(self) -> None:
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
    work = work_folder(config, dataset, output)
    threads = _cpus_each(config.workers)
    job = Job(
        data=dataset.uri,
        model=config.model,
        settings=config.set,
        output=output,
        work=work,
        threads=threads,
        gpu=config.gpu,
        checkpoint_every=config.checkpoint_every,
        keep_checkpoints=config.keep_checkpoints,
    )
    failed = storage.join(work, _FAILED)
    storage.remove(failed)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="das-train-") as scratch:
        trainer = TorchTrainer(
            _train_worker,
            train_loop_config={"job": job, "tell": tell},
            torch_config=ray.train.torch.TorchConfig(backend="nccl" if config.gpu else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=config.workers, use_gpu=config.gpu, resources_per_worker=_resources(threads, config.gpu)
            ),
            run_config=ray.train.RunConfig(
                name="fit",
                storage_path=scratch,
                failure_config=ray.train.FailureConfig(max_failures=_MOST_DEATHS),
            ),
        )
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as error:
            reason = " ".join(str(error).split())[-300:]
            raise DasError(
                f"fit {config.model}: its workers died {_MOST_DEATHS + 1} times, the last time so: {reason}"
            ) from error
    if storage.exists(failed):
        sentence = storage.read_json(failed)["error"]
        storage.remove(failed)
        raise DasError(sentence)
    costs = storage.read_json(storage.join(work, _COSTS))
    record.add(f"fit {config.model}", time.monotonic() - started, costs)
    storage.remove(storage.join(output, WORK))


def _train_worker(loop: dict[str, Any]) -> None:
    """What each worker of Ray Train runs, from the start or again after a death."""
    job: Job = loop["job"]
    if storage.exists(storage.join(job.work, _FAILED)):
        return
    try:
        _train(job, loop["tell"])
    except DasError as error:
        # It would come again: the next attempt sees this file and ends, and the driver says the sentence.
        storage.write_json(storage.join(job.work, _FAILED), {"error": str(error)})
        raise


def _train(job: Job, tell: progress.Tell) -> None:
    torch.set_num_threads(job.threads)
    cpu, workers = time.process_time(), Workers()
    dataset, model = Dataset.open(job.data), create_model(job.model, job.settings)
    assert isinstance(model, TorchRecommender)
    model.check_memory(dataset.n_users, dataset.n_items, -(-dataset.n_rows // workers.world), model.config)
    source = ShardSource(dataset, workers.rank, workers.world)
    device = get_device() if job.gpu else torch.device("cpu")
    trainer = Trainer(model, source, device, workers)
    checkpoints = Checkpoints(job.work, job.keep_checkpoints)
    every = job.checkpoint_every or trainer.steps_per_epoch
    # One worker looks, all go by what it saw.
    newest = torch.tensor([checkpoints.newest() if workers.rank == 0 else 0], device=device)
    workers.add(newest)
    if newest.item():
        trainer.restore(checkpoints.read(int(newest.item())))

    def after_step() -> None:
        steps = trainer.epoch * trainer.steps_per_epoch + trainer.step
        if steps % every == 0 and workers.rank == 0:
            checkpoints.write(steps, trainer.state())

    trainer.run(tell, after_step)
    checkpoints.wait()
    model.adopt(trainer, source.n_users, source.n_items, dataset.manifest.item_space)
    costs = torch.zeros(workers.world, 2, dtype=torch.float64, device=device)
    costs[workers.rank, 0], costs[workers.rank, 1] = time.process_time() - cpu, runs.peak_mib()
    workers.add(costs)
    if workers.rank == 0:
        each = [{"cpu_s": seconds, "peak_mib": peak} for seconds, peak in costs.tolist()]
        storage.write_json(storage.join(job.work, _COSTS), each)
        model.save(job.output)


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


def _resources(cpus: int, gpu: bool) -> dict[str, float]:
    return {"CPU": cpus, "GPU": 1} if gpu else {"CPU": cpus}
