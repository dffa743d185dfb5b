"""The workers of `distill` for synthetic users: Distill-CF and the sketch."""

from __future__ import annotations

import time

import torch

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation import synthetic
from distill_at_scale.distillation.distill_cf import DistillCF
from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
from distill_at_scale.distillation.select_lambda import choose
from distill_at_scale.distillation.sketch import SketchConfig, initial_rows
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.models.memory import require_memory
from distill_at_scale.models.training.sources import ShardSource
from distill_at_scale.pipelines.runtime import progress, run_record
from distill_at_scale.pipelines.runtime.checkpoints import Checkpoints
from distill_at_scale.pipelines.training.worker_group import TorchCommunicator, WorkerGroupSpec


def bytes_needed(method: DistillCFConfig | SketchConfig, dataset: Dataset, workers: int) -> int:
    """Of memory, by each of so many workers."""
    n_items, batch, users = dataset.n_items, getattr(method, "batch_size", 0), method.users
    # Histories, their kernel and predictions; rows with gradient, moments and copies; the share of the users.
    numbers = 6 * batch * n_items + 12 * users * n_items + 16 * users * (users + batch)
    return 4 * numbers + 12 * dataset.n_rows // workers


def distill_rows(
    group: WorkerGroupSpec,
    communicator: TorchCommunicator,
    data: str,
    method: DistillCFConfig | SketchConfig,
    output: str,
    on_progress: progress.OnProgress,
) -> None:
    """One worker's part; the first one writes the result."""
    started, cpu = time.monotonic(), time.process_time()
    dataset = Dataset.open(data)
    needed = bytes_needed(method, dataset, communicator.world_size)
    require_memory(f"distilling {method.users:,} users", needed, None, "set fewer users, or more workers")
    users = RealUsers(
        ShardSource(dataset, communicator.rank, communicator.world_size),
        communicator,
        method.seed,
        method.validation_users,
        communicator.device,
    )
    curve: list[dict[str, float]] = []
    if isinstance(method, DistillCFConfig):
        distiller = _train(group, communicator, DistillCF(method, users, communicator.device), on_progress)
        rows, chosen = distiller.result()
        curve = [{"step": point.step, "metric": point.metric, "lam": point.lam} for point in distiller.points]
        name, family, spent = "distill_cf", distiller.family, distiller.cpu_s
    else:
        values = initial_rows("sketch", method.users, users, method.seed).cpu().numpy()
        rows, chosen = choose(values, None, users, method.metric)
        name, family, spent = "sketch", "free", time.process_time() - cpu
    (cpu_s,) = users.added(spent)
    if communicator.rank == 0:
        described = {
            "method": name,
            "family": family,
            "config": method.model_dump(mode="json"),
            "curve": curve,
            "chosen": chosen,
            "settings": {model: dict(values) for model, values in rows.chosen.items()},
            "cost": {"cpu_s": cpu_s, "wall_s": time.monotonic() - started, "peak_mib": run_record.peak_mib()},
            "made_with": run_record.made_with(),
            "n_rows": users.n_rows,
        }
        synthetic.write(output, rows.values, dataset, described)


def _train(
    group: WorkerGroupSpec, communicator: TorchCommunicator, distiller: DistillCF, on_progress: progress.OnProgress
) -> DistillCF:
    """Runs a distiller to its end, from the newest checkpoint on."""
    checkpoints = Checkpoints(group.work, group.keep_checkpoints)
    # One worker looks, all go by what it saw.
    newest = torch.tensor([checkpoints.newest() if communicator.rank == 0 else 0], device=communicator.device)
    communicator.all_reduce(newest)
    if newest.item():
        distiller.restore(checkpoints.read(int(newest.item())))

    def after_step() -> None:
        if distiller.step % (group.checkpoint_every or 1) == 0 and communicator.rank == 0:
            checkpoints.write(distiller.step, distiller.state())

    distiller.run(on_progress, after_step)
    checkpoints.wait()
    return distiller
