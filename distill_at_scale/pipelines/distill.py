"""distill: a few synthetic users or sequences out of a dataset, on Ray Train.

    every worker: its own shards' users ─► the distiller (the same numbers on each, gradients summed) ─► rank 0 writes

Checkpoints lie in `<output>/_work/distill` until the result is written. A run that was killed goes on from the newest
when the same command runs again, on as many workers as are asked for then: what is drawn does not depend on their
number.
"""

from __future__ import annotations

import functools
import time
from typing import Any, Literal

from pydantic import BaseModel

from distill_at_scale.config import DistillConfig
from distill_at_scale.config.values import worker_range
from distill_at_scale.data import recorded, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import NAME, WORK
from distill_at_scale.distillation import synthetic
from distill_at_scale.distillation.continuing import check_split, earlier_items
from distill_at_scale.distillation.distiller import Distiller
from distill_at_scale.distillation.privacy.settings import PrivacyRecord
from distill_at_scale.distillation.synthetic_manifest import SequencesRecord, is_synthetic
from distill_at_scale.errors import OutputExistsError, SettingError
from distill_at_scale.models.warming import warm_up
from distill_at_scale.pipelines.distilling.group_job import GroupJob, run_distiller
from distill_at_scale.pipelines.runtime import output_folder, progress, resources, run_record, session
from distill_at_scale.pipelines.runtime.own_settings import refuse_useless
from distill_at_scale.pipelines.runtime.verb import verb
from distill_at_scale.pipelines.training.worker_group import TorchCommunicator, WorkerGroupSpec, run_group
from distill_at_scale.registry import DISTILLERS

_FOLDER, _PLAN = "distill", "plan.json"
_STEPS = 100
# Settings of --set that decide the shape of a result, or what its numbers mean.
_SHAPE = ("rows", "rank", "model", "coupled", "width")


class DistillResult(BaseModel):
    """A synthetic dataset and how it came about."""

    uri: str
    method: str
    family: str
    kind: Literal["rows", "sequences"]
    users: int
    """Number of synthetic users or sequences."""
    real_users: int
    data: str
    """Fingerprint of the dataset."""
    metric: str
    curve: list[dict[str, float]]
    winner: str | None
    """Contender whose rows these are, the best on validation; None where nothing was compared."""
    contenders: dict[str, dict[str, float]]
    """Validation metric by contender and model."""
    settings: dict[str, dict[str, float]]
    """Settings selected on validation rows, by model."""
    sequences: SequencesRecord | None
    """Description of sequences, settings of a fit, and their validation metric: initial, learned and stored."""
    bytes: int
    """Bytes of the rows' or sequences' file."""
    real_bytes: int
    """Bytes of the dataset's shards."""
    wall_s: float
    cpu_s: float
    peak_mib: float
    """Peak memory of the largest worker."""
    privacy: PrivacyRecord | None
    """What a private result guarantees; None without --privacy."""
    notes: list[str]
    """What to know of what was chosen, as sentences."""


@verb(DistillConfig, "data", "method")
def distill(config: DistillConfig) -> DistillResult:
    """Distills a dataset; see :class:`~distill_at_scale.config.DistillConfig` for the settings.

    Raises:
        DasError: no dataset, a wrong setting, more users than there are or longer sequences than theirs, an output
            that exists or in which another run has begun, too little memory, a loss that is NaN.
    """
    earlier = None if config.from_ is None else synthetic.SyntheticDataset.open(config.from_)
    distiller = distiller_of(config, earlier)
    least, most = worker_range(config.workers)
    dataset = Dataset.open(config.data)
    output = storage.normalise(config.output)
    if earlier is not None:
        earlier_items(earlier, dataset)
        check_split(earlier, dataset)
        output_folder.check_apart(output, earlier.uri)
    begun = None if config.overwrite else _begun(output)
    if begun and begun.get("method") == config.method:
        # The number of workers may change on the way, what they do together may not.
        kept = {name: begun[name] for name in distiller.for_workers(most) if name not in config.set}
        distiller = type(distiller)(distiller.config.model_copy(update=kept))
    distiller.earlier = earlier
    distiller.check(dataset, most)
    _claim(config, distiller.config, dataset, output, earlier)
    if config.teachers_at is not None:
        storage.check_writable(storage.join(storage.normalise(config.teachers_at), "teacher.safetensors"))
    record = run_record.RunRecord("distill", config.model_dump(mode="json", exclude={"address", "overwrite"}))
    group = WorkerGroupSpec(
        workers=most,
        gpu=config.gpu,
        work=storage.join(output, WORK, _FOLDER),
        checkpoint_every=config.checkpoint_every,
        keep_checkpoints=config.keep_checkpoints,
        least=least,
    )
    data, name, method = dataset.uri, f"distill by {config.method}", config.method
    # What travels is the name and plain settings: workers import the distiller for themselves.
    own = distiller.config.model_dump()
    shared = None if config.teachers_at is None else storage.normalise(config.teachers_at)
    start = None if earlier is None else earlier.uri
    with session.ensure(config.address):
        if config.gpu:
            resources.require_gpu()
        with progress.stage(name, _STEPS) as stage, progress.relay(stage, _STEPS) as on_progress:

            def work(group: WorkerGroupSpec, communicator: TorchCommunicator) -> None:
                job = GroupJob(group, communicator, Dataset.open(data), on_progress, shared)
                distiller = DISTILLERS.find(method).create(own, method)
                distiller.earlier = None if start is None else synthetic.SyntheticDataset.open(start)
                run_distiller(distiller, job, method, output)

            run_group(record, name, group, work, functools.partial(warm_up, distiller.warm_model))
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
        metric=distiller.config.metric,
        curve=made.curve,
        winner=made.winner,
        contenders=made.contenders,
        settings=made.settings,
        sequences=made.sequences,
        bytes=made.data.bytes,
        real_bytes=sum(shard.data.bytes for shard in dataset.shards),
        wall_s=round(time.time() - record.started, 3),
        cpu_s=round(made.cost["cpu_s"], 3),
        peak_mib=record.stages[-1].peak_mib,
        privacy=made.privacy,
        notes=made.notes + [f"{model}: {said}" for model, of in made.chosen.items() if (said := of.warning())],
    )


def distiller_of(config: DistillConfig, earlier: synthetic.SyntheticDataset | None = None) -> Distiller:
    """The distiller with its settings: those of options, of --set, those that follow from the number of workers, and
    those of an earlier result to start from.

    Raises:
        SettingError: for a wrong one, naming it.
    """
    kind: type[Distiller] = DISTILLERS.find(config.method)
    own = (kind.size(), *kind.options)
    takes = {*own, "teachers_at"} if kind.shares_teachers else set(own)
    if foreign := sorted(config.model_fields_set & (set(DistillConfig.of_some_methods) - takes)):
        options = ", ".join(f"--{name}" for name in own)
        option = foreign[0].replace("_", "-")
        raise SettingError(f"--{option} is not of {config.method}, which takes {options}; leave it out.")
    if not kind.checkpoints:
        reason = f"is of methods that learn in steps, not of {config.method}"
        refuse_useless(config, ("checkpoint_every", "keep_checkpoints"), reason)
    if twice := sorted(config.set.keys() & {*own, "seed"}):
        raise SettingError(f"{twice[0]} is given by --{twice[0]}, not by --set.")
    # Where no number is given, the distiller has its own.
    given = {name: value for name in own if (value := getattr(config, name)) is not None}
    _, most = worker_range(config.workers)
    kept = {}
    if earlier is not None:
        kept = _kept_settings(kind, config, earlier)
        given = {name: value for name, value in given.items() if name in config.model_fields_set}
    settings = {**kept, **kind.for_workers(most), **config.set, **given, "seed": config.seed}
    return kind.create(settings, config.method)


def _kept_settings(kind: type[Distiller], config: DistillConfig, earlier: synthetic.SyntheticDataset) -> dict[str, Any]:
    """The settings of an earlier result to start from, which those that decide its shape may not contradict."""
    made, place = earlier.manifest, storage.redact(earlier.uri)
    if not kind.continues:
        raise SettingError(f"--from: {config.method} does not start from an earlier result; leave --from out.")
    if made.method != config.method:
        made_by = DISTILLERS.get(made.method)
        told = f"was made by {made.method}, and --method is {config.method}; take --method {made.method}, or leave"
        if made_by is not None and not made_by.continues:
            told = f"was made by {made.method}, from whose results no run starts; leave"
        raise SettingError(f"--from {place} {told} --from out.")
    if made.rank is not None:
        raise SettingError(f"--from {place} has rows with a rank, which cannot be a start; leave --from out.")
    kept = kind.settings_after(made)
    asked = {name: getattr(config, name) for name in (kind.size(), *kind.options) if name in config.model_fields_set}
    for name, value in {**asked, **{name: config.set[name] for name in _SHAPE if name in config.set}}.items():
        if value is not None and value != kept.get(name):
            raise SettingError(
                f"--from {place} has {name}={kept.get(name)}, and {name}={value} was asked for; leave {name} out, or "
                "distill without --from."
            )
    return kept


def _begun(output: str) -> dict[str, Any] | None:
    """The plan of an unfinished run at the output."""
    plan = storage.join(output, WORK, _PLAN)
    try:
        return recorded.read_json(plan, "start again with --overwrite, or remove it")
    except FileNotFoundError:
        return None


def _claim(
    config: DistillConfig,
    method: BaseModel,
    dataset: Dataset,
    output: str,
    earlier: synthetic.SyntheticDataset | None,
) -> None:
    """Makes the output this run's: refuses what is finished, or begun with other settings, unless told."""
    plan = {
        "data": dataset.manifest.fingerprint,
        "method": config.method,
        **method.model_dump(mode="json"),
        "versions": {name: run_record.versions()[name] for name in ("distill_at_scale", "torch")},
    }
    if earlier is not None:
        plan["from"] = earlier.manifest.data.sha256
    place, work = storage.redact(output), storage.join(output, WORK)
    found = _begun(output)
    storage.check_writable(storage.join(output, NAME))
    if found is not None and found != plan:
        differing = sorted(key for key in plan.keys() | found.keys() if plan.get(key) != found.get(key))
        if not config.overwrite:
            raise OutputExistsError(
                f"{place} holds an unfinished run with other settings ({', '.join(differing)}); take those, another "
                "--output, or start again with --overwrite."
            )
        storage.remove(work)
    elif found is None and storage.exists(storage.join(output, NAME)):
        if not is_synthetic(output):
            raise OutputExistsError(f"{place} holds a dataset; choose another --output.")
        if not config.overwrite:
            raise output_folder.holds_already(output, "a synthetic dataset")
    recorded.write_json(storage.join(work, _PLAN), plan)
