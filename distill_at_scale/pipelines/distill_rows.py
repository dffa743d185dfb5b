"""The workers of `distill` for synthetic users: Distill-CF and the sketch."""

from __future__ import annotations

import time

import torch

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation import synthetic
from distill_at_scale.distillation.choices import choose
from distill_at_scale.distillation.distill_cf import DistillCF, DistillCFConfig
from distill_at_scale.distillation.sketch import SketchConfig, initial_rows
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.models.memory import require_memory
from distill_at_scale.models.training.sources import ShardSource
from distill_at_scale.pipelines import progress, runs
from distill_at_scale.pipelines.checkpoints import Checkpoints
from distill_at_scale.pipelines.train import Gang, Workers


def bytes_needed(method: DistillCFConfig | SketchConfig, dataset: Dataset, workers: int) -> int:
    """Of memory, by each of so many workers."""
    n_items, batch, users = dataset.n_items, getattr(method, "batch_size", 0), method.users
    # Histories, their kernel and predictions; rows with gradient, moments and copies; the share of the users.
    numbers = 6 * batch * n_items + 12 * users * n_items + 16 * users * (users + batch)
    return 4 * numbers + 12 * dataset.n_rows // workers


def distill_rows(
    gang: Gang,
    workers: Workers,
    data: str,
    method: DistillCFConfig | SketchConfig,
    output: str,
    tell: progress.Tell,
) -> None:
    """One worker's part; the first one writes the result."""
    started, cpu = time.monotonic(), time.process_time()
    dataset = Dataset.open(data)
    needed = bytes_needed(method, dataset, workers.world)
    require_memory(f"distilling {method.users:,} users", needed, None, "set fewer users, or more workers")
    users = RealUsers(
        ShardSource(dataset, workers.rank, workers.world),
        workers,
        method.seed,
        method.validation_users,
        workers.device,
    )
    curve: list[dict[str, float]] = []
    if isinstance(method, DistillCFConfig):
        distiller = _train(gang, workers, DistillCF(method, users, workers.device), tell)
        rows, chosen = distiller.result()
        curve = [{"step": point.step, "metric": point.metric, "lam": point.lam} for point in distiller.points]
        name, family, spent = "distill_cf", distiller.family, distiller.cpu_s
    else:
        values = initial_rows("sketch", method.users, users, method.seed).cpu().numpy()
        rows, chosen = choose(values, None, users, method.metric)
        name, family, spent = "sketch", "free", time.process_time() - cpu
    (cpu_s,) = users.added(spent)
    if workers.rank == 0:
        described = {
            "method": name,
            "family": family,
            "config": method.model_dump(mode="json"),
            "curve": curve,
            "chosen": chosen,
            "settings": {model: dict(values) for model, values in rows.chosen.items()},
            "cost": {"cpu_s": cpu_s, "wall_s": time.monotonic() - started, "peak_mib": runs.peak_mib()},
            "made_with": runs.made_with(),
            "n_rows": users.n_rows,
        }
        synthetic.write(output, rows.values, dataset, described)


def _train(gang: Gang, workers: Workers, distiller: DistillCF, tell: progress.Tell) -> DistillCF:
    """Runs a distiller to its end, from the newest checkpoint on."""
    checkpoints = Checkpoints(gang.work, gang.keep_checkpoints)
    # One worker looks, all go by what it saw.
    newest = torch.tensor([checkpoints.newest() if workers.rank == 0 else 0], device=workers.device)
    workers.add(newest)
    if newest.item():
        distiller.restore(checkpoints.read(int(newest.item())))

    def after_step() -> None:
        if distiller.step % (gang.checkpoint_every or 1) == 0 and workers.rank == 0:
            checkpoints.write(distiller.step, distiller.state())

    distiller.run(tell, after_step)
    checkpoints.wait()
    return distiller
