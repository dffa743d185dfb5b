"""The small datasets of a sweep, made by samplers and distillers.

One run of a sampler serves all budgets, and one training of a proxy serves all samplers that use it; a *job* is a set
of small datasets that are made together. The result of a job is recorded beside it, so a resumed sweep repeats
nothing.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import restartable
from distill_at_scale.distillation.distiller import SIZES, Distiller
from distill_at_scale.errors import BudgetError, DasError
from distill_at_scale.models import find_model
from distill_at_scale.pipelines.runtime import run_record
from distill_at_scale.pipelines.sample import Samples, sample
from distill_at_scale.registry import DISTILLERS, METHODS, SAMPLERS, file_name

RECORDS, DATA, TEACHERS = "made", "data", "teachers"
"""Folders of a sweep: records of the jobs, small datasets, and full-data models that distillers use."""
FOLDERS = (RECORDS, DATA, TEACHERS)
TRAIN_ROWS = "train rows"
"""Unit of a sampler's budget."""
_PROXY_STAGES = ("train", "write row scores")


class SmallDataset(BaseModel):
    """A small dataset, or the reason why it could not be made."""

    method: str
    budget: float
    seed: int
    failed: str = ""
    """Reason why it cannot be made; the other fields are then undefined."""
    again: bool = False
    """Whether the failure may be temporary, such as dead workers; the sweep then tries again when it is run again."""
    uri: str = ""
    fingerprint: str = ""
    rows: int = 0
    """Number of train rows; for a distiller, of synthetic users or sequences."""
    share: float = 0.0
    """Share of the full dataset's train rows; for a distiller, of its users."""
    bytes: int = 0
    """Bytes of the train rows' files."""
    cpu_s: float = 0.0
    """CPU-seconds of making it alone, except for what selecting other budgets in the same pass added."""
    wall_s: float = 0.0


@dataclass(frozen=True)
class SmallDatasetJob:
    """Small datasets that are made together: methods that share a proxy, at all budgets; or one distiller, at one
    budget (with teachers: at all budgets)."""

    methods: tuple[str, ...]
    budgets: tuple[float, ...]
    seed: int
    data: str
    output: str
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings by method."""
    gpu: bool = False
    """Whether proxies and distillers have a GPU for each worker."""

    @property
    def key(self) -> str:
        """Identifier of the job, a part of file names."""
        content = [self.methods, self.budgets, {name: dict(self.settings.get(name, {})) for name in self.methods}]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        name = self.methods[0] if len(self.methods) == 1 else f"{self.methods[0]}-and-others"
        return f"{file_name(name)}-{self.seed}-{digest}"

    @property
    def record(self) -> str:
        """File of the job's record."""
        return storage.join(self.output, RECORDS, f"{self.key}.json")

    def read(self) -> list[SmallDataset] | None:
        """Returns the recorded small datasets, if any."""
        found = restartable.read_record(self.record)
        return None if found is None else [SmallDataset.model_validate(one) for one in found["made"]]

    @property
    def is_done(self) -> bool:
        """Returns whether all small datasets are made, or permanently failed."""
        found = self.read()
        return found is not None and not any(one.again for one in found)


def jobs(
    methods: Sequence[str],
    budgets: Sequence[float],
    seed: int,
    data: str,
    output: str,
    settings: Mapping[str, Mapping[str, Any]],
    gpu: bool = False,
) -> list[SmallDatasetJob]:
    """How methods and budgets are best made together; those that take longest first."""
    shared: dict[str, list[str]] = {}
    distillers: dict[str, type[Distiller]] = {}
    for name in methods:
        if METHODS.find(name) is SAMPLERS:
            shared.setdefault(SAMPLERS[name].proxy or name, []).append(name)
        else:
            distillers[name] = DISTILLERS[name]
    of_samplers = [
        SmallDatasetJob(tuple(names), tuple(budgets), seed, data, output, settings, gpu) for names in shared.values()
    ]
    each = [(budget,) for budget in sorted(budgets, reverse=True)]
    of_distillers = [
        SmallDatasetJob((name,), together, seed, data, output, settings, gpu)
        for name, distiller in distillers.items()
        # One after another, what has teachers trains them once.
        for together in ([tuple(budgets)] if distiller.shares_teachers else each)
    ]
    with_proxy = [job for job in of_samplers if SAMPLERS[job.methods[0]].proxy]
    return [*of_distillers, *with_proxy, *(job for job in of_samplers if job not in with_proxy)]


def learns(model: str, method: str) -> bool:
    """Returns whether a model can be trained on the small datasets of a method."""
    if method in SAMPLERS:
        return True
    kind = find_model(model)
    return kind.learns_from_sequences if DISTILLERS[method].makes == "sequences" else kind.learns_from_rows


def make(job: SmallDatasetJob) -> list[SmallDataset]:
    """Makes and records the missing small datasets of a job. Needs a Ray session; its tasks do the work, this process
    only waits.

    Raises:
        DasError: As for `sample` and `distill`.
    """
    full = Dataset.open(job.data)
    if METHODS.find(job.methods[0]) is DISTILLERS:
        there = {one.budget: one for one in job.read() or () if not one.again}
        found = [there.get(budget) or _distilled(job, budget, full) for budget in job.budgets]
    else:
        found = _sampled(job, full)
    recorded.write_json(job.record, {"made": [one.model_dump(mode="json") for one in found]})
    return found


def _sampled(job: SmallDatasetJob, full: Dataset) -> list[SmallDataset]:
    found: list[SmallDataset] = []
    proxy = (0.0, 0.0)
    for method in job.methods:
        samples, failed = _samples(job, method)
        found += [SmallDataset(method=method, budget=b, seed=job.seed, failed=why) for b, why in failed.items()]
        if samples is None:
            continue
        stages = run_record.read_stages(samples.samples[0].uri)
        trained = [stage for stage in stages if stage.stage.startswith(_PROXY_STAGES)]
        if trained:
            proxy = (sum(stage.cpu_s for stage in trained), sum(stage.wall_s for stage in trained))
        # Every sampler is charged the scores, even if it found them already computed.
        extra = (0.0, 0.0) if trained else proxy
        found += [
            SmallDataset(
                method=method,
                budget=one.budget,
                seed=job.seed,
                uri=one.uri,
                fingerprint=one.fingerprint,
                rows=one.rows,
                share=one.rows / full.manifest.splits["train"],
                bytes=train_bytes(Dataset.open(one.uri)),
                cpu_s=round(samples.cpu_s + extra[0], 3),
                wall_s=round(samples.wall_s + extra[1], 3),
            )
            for one in samples.samples
        ]
    return found


def _samples(job: SmallDatasetJob, method: str) -> tuple[Samples | None, dict[float, str]]:
    """Makes the samples of one method; returns them, and the reasons for budgets that leave no rows."""
    failed: dict[float, str] = {}
    while left := [budget for budget in job.budgets if budget not in failed]:
        try:
            samples = sample(
                data=job.data,
                sampler=method,
                budget=list(map(repr, left)),
                # Samplers with the same proxy find its scores in the same folder.
                output=storage.join(job.output, DATA, f"seed-{job.seed}"),
                seed=job.seed,
                # What lies there unfinished or of other budgets is this sweep's own.
                overwrite=True,
                # The sampler's own settings may also contain it.
                **{"gpu": job.gpu and bool(SAMPLERS[method].proxy), **job.settings.get(method, {})},
            )
            return samples, failed
        except BudgetError as error:
            failed[error.budget] = str(error)
    return None, failed


def _distilled(job: SmallDatasetJob, budget: float, full: Dataset) -> SmallDataset:
    (method,) = job.methods
    from distill_at_scale.distillation.synthetic import SyntheticDataset
    from distill_at_scale.pipelines.distill import distill

    kind: type[Distiller] = DISTILLERS[method]
    users = kind.number(budget, full.n_users)
    settings = dict(job.settings.get(method, {}))
    more: dict[str, Any] = {name: settings.pop(name) for name in kind.options if name in settings}
    more[kind.size()] = users
    if kind.shares_teachers:
        more["teachers_at"] = storage.join(job.output, TEACHERS)
    try:
        made = distill(
            data=job.data,
            method=method,
            output=storage.join(job.output, DATA, f"seed-{job.seed}", f"{file_name(method)}-{budget:.12g}"),
            seed=job.seed,
            set=settings,
            overwrite=True,
            gpu=job.gpu,
            **more,
        )
    except DasError as error:
        if len(job.budgets) == 1:
            raise
        # For example, too few users with enough rows, or dead workers; other budgets may succeed.
        return SmallDataset(method=method, budget=budget, seed=job.seed, failed=str(error), again=True)
    return SmallDataset(
        method=method,
        budget=budget,
        seed=job.seed,
        uri=made.uri,
        fingerprint=SyntheticDataset.open(made.uri).manifest.data.sha256[:32],
        rows=users,
        share=users / full.n_users,
        bytes=made.bytes,
        cpu_s=made.cpu_s,
        wall_s=made.wall_s,
    )


def unit(method: str, units: Mapping[str, str] | None = None) -> str:
    """Returns the unit of a method's budget.

    Args:
        method: Name of the method; it may come from a file, so only trusted code is imported.
        units: Plugin -> unit, as the description of a sweep records it.
    """
    if method in DISTILLERS:
        return DISTILLERS[method].size()
    told = (units or {}).get(method)
    return told if told in SIZES.values() and told is not None else TRAIN_ROWS


def number(method: str, budget: float, n_users: int) -> int:
    """Returns the number of users or sequences of a distiller at a budget."""
    kind: type[Distiller] = DISTILLERS.get(method, Distiller)
    return kind.number(budget, n_users)


def command(data: str, method: str, budget: float, number: int, unit: str) -> str:
    """Returns the command line that makes a small dataset.

    Args:
        data: URI of the full dataset.
        number: Number of users or sequences of a distiller.
        unit: Unit of the budget, from :func:`unit`.
    """
    place = shlex.quote(storage.redact(data))
    if unit == TRAIN_ROWS:
        return f"das sample --data {place} --sampler {method} --budget {budget:g} --output samples"
    return f"das distill --data {place} --method {method} --{unit} {number} --output distilled"


def train_bytes(dataset: Dataset) -> int:
    """Returns the bytes of the train rows within the shards."""
    manifest = dataset.manifest
    total = sum(record.data.bytes for record in manifest.shards)
    return round(total * manifest.splits["train"] / max(manifest.n_rows, 1))


def suits(method: str, dataset: Dataset) -> bool:
    """Returns whether the dataset has the timestamps that a method needs."""
    by_time = SAMPLERS[method].timestamps if method in SAMPLERS else DISTILLERS[method].by_time
    return not by_time or dataset.manifest.has_timestamps
