"""distill: a few synthetic users or sequences out of a dataset, on Ray Train.

    every worker: its own shards' users ─► DistillCF (rows the same on each, gradients added up) ─► rank 0 writes
                  its own trajectories  ─► Farzi (latent sequences the same on each)             ─► rank 0 writes

Checkpoints lie in `<output>/_work/distill` until the result is written. A run that was killed goes on from the newest
when the same command runs again, on as many workers as are asked for then: what is drawn does not depend on their
number.
"""

from __future__ import annotations

import functools
import time
from typing import Any, Literal, cast

from pydantic import BaseModel

from distill_at_scale.config import DistillConfig
from distill_at_scale.data import recorded, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import NAME, WORK
from distill_at_scale.distillation import synthetic
from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
from distill_at_scale.distillation.farzi import FarziConfig
from distill_at_scale.distillation.sketch import SketchConfig
from distill_at_scale.distillation.synthetic_manifest import SequencesRecord, is_synthetic
from distill_at_scale.errors import DasError, OutputExistsError, SettingError
from distill_at_scale.models.warming import warm_up
from distill_at_scale.pipelines.distilling.rows import distill_rows
from distill_at_scale.pipelines.distilling.sequences import check_farzi, distill_farzi
from distill_at_scale.pipelines.runtime import output_folder, progress, resources, run_record, session
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.pipelines.training.worker_group import TorchCommunicator, WorkerGroupSpec, run_group
from distill_at_scale.registry import DISTILLERS
from distill_at_scale.settings import parse

Method = DistillCFConfig | SketchConfig | FarziConfig

_FOLDER, _PLAN = "distill", "plan.json"
_STEPS = 100
# The options that say what a method makes; those of the others are refused.
_MAKES: dict[str, tuple[str, ...]] = {
    "distill_cf": ("users",),
    "sketch": ("users",),
    "farzi": ("sequences", "length", "student"),
}
# And those that say nothing about it.
_BESIDE: dict[str, tuple[str, ...]] = {"farzi": ("teachers_at",)}


class DistillResult(BaseModel):
    """A synthetic dataset and how it came about."""

    uri: str
    method: str
    family: str
    kind: Literal["rows", "sequences"]
    users: int
    """synthetic ones, or sequences"""
    real_users: int
    data: str
    """fingerprint of the dataset"""
    metric: str
    curve: list[dict[str, float]]
    settings: dict[str, dict[str, float]]
    """chosen on validation, by model"""
    sequences: SequencesRecord | None
    """of sequences: what they are, what a fit takes, and their validation metric at the start, learned and stored"""
    bytes: int
    """of the rows' or sequences' file"""
    real_bytes: int
    """of the dataset's shards"""
    wall_s: float
    cpu_s: float
    peak_mib: float
    """of the largest worker"""
    notes: list[str]
    """what to know of what was chosen, as sentences"""


@verb(DistillConfig, "data", "method")
def distill(config: DistillConfig) -> DistillResult:
    """Distills a dataset; see :class:`~distill_at_scale.config.DistillConfig` for the settings.

    Raises:
        DasError: no dataset, a wrong setting, more users than there are or longer sequences than theirs, an output
            that exists or in which another run has begun, too little memory, a loss that is no number.
    """
    method = method_config(config)
    dataset = Dataset.open(config.data)
    option = _MAKES[config.method][0]
    wanted = getattr(method, option)
    if wanted > dataset.n_users:
        raise DasError(
            f"--{option} {wanted:,} is more than the {dataset.n_users:,} users of "
            f"{storage.redact(dataset.uri)}; set fewer."
        )
    output = storage.normalise(config.output)
    if isinstance(method, FarziConfig):
        begun = _begun(output)
        if "parallel" not in config.set and begun and not config.overwrite and begun.get("method") == config.method:
            # The number of workers may change on the way, what they do together may not.
            method = method.model_copy(update={"parallel": begun["parallel"]})
        check_farzi(method, dataset, config.workers)
    _claim(config, method, dataset, output)
    if config.teachers_at is not None:
        storage.check_writable(storage.join(storage.normalise(config.teachers_at), "teacher.safetensors"))
    record = run_record.RunRecord("distill", config.model_dump(mode="json", exclude={"address", "overwrite"}))
    group = WorkerGroupSpec(
        workers=config.workers,
        gpu=config.gpu,
        work=storage.join(output, WORK, _FOLDER),
        checkpoint_every=config.checkpoint_every,
        keep_checkpoints=config.keep_checkpoints,
    )
    data, name = dataset.uri, f"distill by {config.method}"
    kept = None if config.teachers_at is None else storage.normalise(config.teachers_at)
    with session.ensure(config.address):
        if config.gpu:
            resources.require_gpu()
        with progress.stage(name, _STEPS) as stage, progress.relay(stage, _STEPS) as on_progress:

            def work(group: WorkerGroupSpec, communicator: TorchCommunicator) -> None:
                if isinstance(method, FarziConfig):
                    distill_farzi(group, communicator, data, method, output, on_progress, kept)
                else:
                    distill_rows(group, communicator, data, method, output, on_progress)

            run_group(record, name, group, work, functools.partial(warm_up, "infinite_ae"))
    record.write(output)
    storage.remove(storage.join(output, WORK))
    made = synthetic.SyntheticDataset.open(output).manifest
    return DistillResult(
        uri=output,
        method=made.method,
        family=made.family,
        kind=made.kind,
        users=made.n_users,
        real_users=made.parent.n_users,
        data=made.parent.fingerprint,
        metric=method.metric,
        curve=made.curve,
        settings=made.settings,
        sequences=made.sequences,
        bytes=made.data.bytes,
        real_bytes=sum(shard.data.bytes for shard in dataset.shards),
        wall_s=round(time.time() - record.started, 3),
        cpu_s=round(made.cost["cpu_s"], 3),
        peak_mib=record.stages[-1]["peak_mib"],
        notes=[f"{model}: {said}" for model, of in made.chosen.items() if (said := of.warning())],
    )


def method_config(config: DistillConfig) -> Method:
    """The method's own settings; of Farzi's pools there is one a worker where nothing else is set.

    Raises:
        SettingError: for a wrong one, naming it.
    """
    kind, own = DISTILLERS[config.method], _MAKES[config.method]
    every = {name for names in (*_MAKES.values(), *_BESIDE.values()) for name in names}
    if foreign := sorted(config.model_fields_set & (every - {*own, *_BESIDE.get(config.method, ())})):
        takes = ", ".join(f"--{name}" for name in own)
        option = foreign[0].replace("_", "-")
        raise SettingError(f"--{option} is not of {config.method}, which takes {takes}; leave it out.")
    if twice := sorted(config.set.keys() & {*own, "seed"}):
        raise SettingError(f"{twice[0]} is given by --{twice[0]}, not by --set.")
    given = {**config.set, **{name: getattr(config, name) for name in own}, "seed": config.seed}
    if kind is FarziConfig:
        given = {"parallel": config.workers, **given}
    return cast(Method, parse(config.method, kind, given))


def _begun(output: str) -> dict[str, Any] | None:
    """The plan of an unfinished run at the output."""
    plan = storage.join(output, WORK, _PLAN)
    try:
        return recorded.read_json(plan, "start anew with --overwrite, or remove it")
    except FileNotFoundError:
        return None


def _claim(config: DistillConfig, method: Method, dataset: Dataset, output: str) -> None:
    """Makes the output this run's: refuses what is finished, or begun with other settings, unless told."""
    plan = {
        "data": dataset.manifest.fingerprint,
        "method": config.method,
        **method.model_dump(mode="json"),
        "versions": {name: run_record.versions()[name] for name in ("distill_at_scale", "torch")},
    }
    place, work = storage.redact(output), storage.join(output, WORK)
    found = _begun(output)
    storage.check_writable(storage.join(output, NAME))
    if found is not None and found != plan:
        differing = sorted(key for key in plan.keys() | found.keys() if plan.get(key) != found.get(key))
        if not config.overwrite:
            raise OutputExistsError(
                f"{place} holds an unfinished run with other settings ({', '.join(differing)}); take those, another "
                "--output, or start anew with --overwrite."
            )
        storage.remove(work)
    elif found is None and storage.exists(storage.join(output, NAME)):
        if not is_synthetic(output):
            raise OutputExistsError(f"{place} holds a dataset; choose another --output.")
        if not config.overwrite:
            raise output_folder.holds_already(output, "a synthetic dataset")
    recorded.write_json(storage.join(work, _PLAN), plan)
