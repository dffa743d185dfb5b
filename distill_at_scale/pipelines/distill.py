"""distill: a few synthetic users out of a dataset, on Ray Train.

    every worker: its own shards' users ─► DistillCF (rows the same on each, gradients added up) ─► rank 0 writes

Checkpoints lie in `<output>/_work/distill` until the result is written. A run that was killed goes on from the newest
when the same command runs again, on as many workers as are asked for then: batches do not depend on their number.
"""

from __future__ import annotations

import time
from typing import Any

import ray
import torch
from pydantic import BaseModel

from distill_at_scale.config import DistillConfig, settle
from distill_at_scale.data import storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import NAME, WORK
from distill_at_scale.distillation import synthetic
from distill_at_scale.distillation.choices import choose
from distill_at_scale.distillation.distill_cf import DistillCF, DistillCFConfig
from distill_at_scale.distillation.sketch import SketchConfig, initial_rows
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.errors import DasError, wrong_setting
from distill_at_scale.models.memory import require_memory
from distill_at_scale.models.sources import ShardSource
from distill_at_scale.pipelines import cluster, progress, runs
from distill_at_scale.pipelines.checkpoints import Checkpoints
from distill_at_scale.pipelines.train import Gang, Workers, run_gang

_FOLDER, _PLAN = "distill", "plan.json"
_STEPS = 100
_CONFIGS: dict[str, type[DistillCFConfig] | type[SketchConfig]] = {
    "distill_cf": DistillCFConfig,
    "sketch": SketchConfig,
}


class DistillResult(BaseModel):
    """A synthetic dataset and how it came about."""

    uri: str
    method: str
    family: str
    users: int
    real_users: int
    data: str
    """fingerprint of the dataset"""
    metric: str
    curve: list[dict[str, float]]
    settings: dict[str, dict[str, float]]
    """chosen on validation, by model"""
    bytes: int
    """of the rows' file"""
    wall_s: float
    cpu_s: float
    peak_mib: float
    """of the largest worker"""


def distill(config: DistillConfig | None = None, /, **settings: Any) -> DistillResult:
    """Distills a dataset; see :class:`~distill_at_scale.config.DistillConfig` for the settings.

    Raises:
        DasError: no dataset, a wrong setting, more users than there are, an output that exists or in which another
            run has begun, too little memory, a loss that is no number.
    """
    config = settle(DistillConfig, config, settings)
    method = method_config(config)
    dataset = Dataset.open(config.data)
    if config.users > dataset.n_users:
        raise DasError(
            f"--users {config.users:,} is more than the {dataset.n_users:,} users of "
            f"{storage.redact(dataset.uri)}; set fewer."
        )
    output = storage.normalise(config.output)
    _claim(config, method, dataset, output)
    record = runs.RunRecord("distill", config.model_dump(mode="json", exclude={"address", "overwrite"}))
    gang = Gang(
        workers=config.workers,
        gpu=config.gpu,
        work=storage.join(output, WORK, _FOLDER),
        checkpoint_every=config.checkpoint_every,
        keep_checkpoints=config.keep_checkpoints,
    )
    data, name = dataset.uri, f"distill by {config.method}"
    with cluster.session(config.address):
        if config.gpu and not ray.cluster_resources().get("GPU"):
            raise DasError("--gpu is set, but the cluster has no GPU; leave it out, or add a GPU node.")
        with progress.stage(name, _STEPS) as stage, progress.relay(stage, _STEPS) as tell:

            def work(gang: Gang, workers: Workers) -> None:
                _distill(gang, workers, data, method, output, tell)

            run_gang(record, name, gang, work)
    record.write(output)
    storage.remove(storage.join(output, WORK))
    made = synthetic.SyntheticDataset.open(output).manifest
    return DistillResult(
        uri=output,
        method=made.method,
        family=made.family,
        users=made.n_users,
        real_users=made.parent.n_users,
        data=made.parent.fingerprint,
        metric=method.metric,
        curve=made.curve,
        settings=made.settings,
        bytes=made.data.bytes,
        wall_s=round(time.time() - record.started, 3),
        cpu_s=round(made.cost["cpu_s"], 3),
        peak_mib=record.stages[-1]["peak_mib"],
    )


def method_config(config: DistillConfig) -> DistillCFConfig | SketchConfig:
    """The method's own settings.

    Raises:
        DasError: for a wrong one, naming it.
    """
    kind = _CONFIGS[config.method]
    if twice := sorted(config.set.keys() & {"users", "seed"}):
        raise DasError(f"{twice[0]} is given by --{twice[0]}, not by --set.")
    try:
        return kind(**config.set, users=config.users, seed=config.seed)
    except ValueError as error:
        _, problem = wrong_setting(error, kind)  # type: ignore[arg-type]
        raise DasError(f"{config.method}: {problem}.") from error


def _claim(config: DistillConfig, method: DistillCFConfig | SketchConfig, dataset: Dataset, output: str) -> None:
    """Makes the output this run's: refuses what is finished, or begun with other settings, unless told."""
    plan = {
        "data": dataset.manifest.fingerprint,
        "method": config.method,
        **method.model_dump(mode="json"),
        "versions": {name: runs.versions()[name] for name in ("distill_at_scale", "torch")},
    }
    place, work = storage.redact(output), storage.join(output, WORK)
    begun = storage.join(work, _PLAN)
    found = storage.read_json(begun) if storage.exists(begun) else None
    if found is not None and found != plan:
        differing = sorted(key for key in plan.keys() | found.keys() if plan.get(key) != found.get(key))
        if not config.overwrite:
            raise DasError(
                f"{place} holds an unfinished run with other settings ({', '.join(differing)}); take those, another "
                "--output, or start anew with --overwrite."
            )
        storage.remove(work)
    elif found is None and storage.exists(storage.join(output, NAME)):
        if not synthetic.is_synthetic(output):
            raise DasError(f"{place} holds a dataset; choose another --output.")
        if not config.overwrite:
            raise DasError(
                f"{place} holds a synthetic dataset already; choose another --output, or replace it with --overwrite."
            )
    storage.write_json(begun, plan)


def _distill(
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
    # Histories, their kernel and predictions; rows with gradient, moments and copies; the share of the users.
    batch = getattr(method, "batch_size", 0)
    numbers = (
        6 * batch * dataset.n_items + 12 * method.users * dataset.n_items + 16 * method.users * (method.users + batch)
    )
    share = 12 * dataset.n_rows // workers.world
    require_memory(f"distilling {method.users:,} users", 4 * numbers + share, None, "set fewer users, or more workers")
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
