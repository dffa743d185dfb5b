"""making: the small datasets of a sweep, by samplers and distillers alike.

One run of a sampler serves all budgets, and one training of a proxy all samplers that go by it; so a *batch* is what
has to be made together. What a batch made is written down beside it, and a sweep that goes on makes nothing twice.
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
"""Folders of a sweep: what became of each batch, the small datasets, and full-data models that distillers learn from"""
FOLDERS = (RECORDS, DATA, TEACHERS)
TRAIN_ROWS = "train rows"
"""What the budget of a sampler counts."""
_PROXY_STAGES = ("train", "write row scores")


class SmallDataset(BaseModel):
    """A small dataset, or why there is none."""

    method: str
    budget: float
    seed: int
    failed: str = ""
    """Why it cannot be made; then the rest says nothing."""
    again: bool = False
    """Whether it failed for what may pass, as dead workers, and is tried again when the sweep runs again."""
    uri: str = ""
    fingerprint: str = ""
    rows: int = 0
    """Train rows; of a distiller synthetic users or sequences."""
    share: float = 0.0
    """Share of the full dataset's train rows; for a distiller, of its users."""
    bytes: int = 0
    """Bytes of the train rows' files."""
    cpu_s: float = 0.0
    """CPU-seconds of making it alone, except for what selecting other budgets in the same pass added."""
    wall_s: float = 0.0


@dataclass(frozen=True)
class SmallDatasetJob:
    """What is made together: methods that share a proxy at all budgets, or one distiller: at one budget, or, where it
    has teachers, at all."""

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
        """Tells it apart; part of file names."""
        content = [self.methods, self.budgets, {name: dict(self.settings.get(name, {})) for name in self.methods}]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        name = self.methods[0] if len(self.methods) == 1 else f"{self.methods[0]}-and-others"
        return f"{file_name(name)}-{self.seed}-{digest}"

    @property
    def record(self) -> str:
        """File for what was made."""
        return storage.join(self.output, RECORDS, f"{self.key}.json")

    def read(self) -> list[SmallDataset] | None:
        """What was made, if it was."""
        found = restartable.read_record(self.record)
        return None if found is None else [SmallDataset.model_validate(one) for one in found["made"]]

    @property
    def is_done(self) -> bool:
        """Whether all was made, or never can be."""
        found = self.read()
        return found is not None and not any(one.again for one in found)


def batches(
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
    with_proxy = [batch for batch in of_samplers if SAMPLERS[batch.methods[0]].proxy]
    return [*of_distillers, *with_proxy, *(batch for batch in of_samplers if batch not in with_proxy)]


def learns(model: str, method: str) -> bool:
    """Whether a model can be fitted on what a method makes."""
    if method in SAMPLERS:
        return True
    kind = find_model(model)
    return kind.learns_from_sequences if DISTILLERS[method].makes == "sequences" else kind.learns_from_rows


def make(batch: SmallDatasetJob) -> list[SmallDataset]:
    """Makes what is not there of a batch and writes it down. Needs a Ray session; its tasks do the work, this process
    only waits.

    Raises:
        DasError: as `sample` and `distill`.
    """
    full = Dataset.open(batch.data)
    if METHODS.find(batch.methods[0]) is DISTILLERS:
        there = {one.budget: one for one in batch.read() or () if not one.again}
        found = [there.get(budget) or _distilled(batch, budget, full) for budget in batch.budgets]
    else:
        found = _sampled(batch, full)
    recorded.write_json(batch.record, {"made": [one.model_dump(mode="json") for one in found]})
    return found


def _sampled(batch: SmallDatasetJob, full: Dataset) -> list[SmallDataset]:
    found: list[SmallDataset] = []
    proxy = (0.0, 0.0)
    for method in batch.methods:
        samples, failed = _samples(batch, method)
        found += [SmallDataset(method=method, budget=b, seed=batch.seed, failed=why) for b, why in failed.items()]
        if samples is None:
            continue
        stages = run_record.read(samples.samples[0].uri)["stages"]
        trained = [stage for stage in stages if str(stage["stage"]).startswith(_PROXY_STAGES)]
        if trained:
            proxy = (sum(stage["cpu_s"] for stage in trained), sum(stage["wall_s"] for stage in trained))
        # Whoever found the scores there would have had to make them.
        extra = (0.0, 0.0) if trained else proxy
        found += [
            SmallDataset(
                method=method,
                budget=one.budget,
                seed=batch.seed,
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


def _samples(batch: SmallDatasetJob, method: str) -> tuple[Samples | None, dict[float, str]]:
    """The samples of one method, and which budgets leave none and why."""
    failed: dict[float, str] = {}
    while left := [budget for budget in batch.budgets if budget not in failed]:
        try:
            samples = sample(
                data=batch.data,
                sampler=method,
                budget=list(map(repr, left)),
                # Samplers with the same proxy find its scores in the same folder.
                output=storage.join(batch.output, DATA, f"seed-{batch.seed}"),
                seed=batch.seed,
                # What lies there unfinished or of other budgets is this sweep's own.
                overwrite=True,
                # A sampler's own settings may say it too.
                **{"gpu": batch.gpu and bool(SAMPLERS[method].proxy), **batch.settings.get(method, {})},
            )
            return samples, failed
        except BudgetError as error:
            failed[error.budget] = str(error)
    return None, failed


def _distilled(batch: SmallDatasetJob, budget: float, full: Dataset) -> SmallDataset:
    (method,) = batch.methods
    from distill_at_scale.distillation.synthetic import SyntheticDataset
    from distill_at_scale.pipelines.distill import distill

    kind: type[Distiller] = DISTILLERS[method]
    users = kind.number(budget, full.n_users)
    settings = dict(batch.settings.get(method, {}))
    more: dict[str, Any] = {name: settings.pop(name) for name in kind.options if name in settings}
    more[kind.size()] = users
    if kind.shares_teachers:
        more["teachers_at"] = storage.join(batch.output, TEACHERS)
    try:
        made = distill(
            data=batch.data,
            method=method,
            output=storage.join(batch.output, DATA, f"seed-{batch.seed}", f"{file_name(method)}-{budget:.12g}"),
            seed=batch.seed,
            set=settings,
            overwrite=True,
            gpu=batch.gpu,
            **more,
        )
    except DasError as error:
        if len(batch.budgets) == 1:
            raise
        # As where too few users have as many rows, or workers died; other budgets may do.
        return SmallDataset(method=method, budget=budget, seed=batch.seed, failed=str(error), again=True)
    return SmallDataset(
        method=method,
        budget=budget,
        seed=batch.seed,
        uri=made.uri,
        fingerprint=SyntheticDataset.open(made.uri).manifest.data.sha256[:32],
        rows=users,
        share=users / full.n_users,
        bytes=made.bytes,
        cpu_s=made.cpu_s,
        wall_s=made.wall_s,
    )


def unit(method: str, described: Mapping[str, Any] | None = None) -> str:
    """What the budget of a method counts.

    Args:
        method: its name, which may come from a file: nothing is imported that nobody vouches for.
        described: what a sweep says of itself; it knows the units of methods from outside the package that it ran.
    """
    if method in DISTILLERS:
        return DISTILLERS[method].size()
    told = (described or {}).get("units", {}).get(method)
    return str(told) if told in SIZES.values() else TRAIN_ROWS


def number(method: str, budget: float, n_users: int) -> int:
    """How many users or sequences a distiller makes at a budget."""
    kind: type[Distiller] = DISTILLERS.get(method, Distiller)
    return kind.number(budget, n_users)


def command(data: str, method: str, budget: float, number: int, unit: str) -> str:
    """The command line that makes a small dataset.

    Args:
        data: URI of the full one.
        number: Number of users or sequences of a distiller.
        unit: as :func:`unit` gives it.
    """
    place = shlex.quote(storage.redact(data))
    if unit == TRAIN_ROWS:
        return f"das sample --data {place} --sampler {method} --budget {budget:g} --output samples"
    return f"das distill --data {place} --method {method} --{unit} {number} --output distilled"


def train_bytes(dataset: Dataset) -> int:
    """The train rows' part of the shards."""
    manifest = dataset.manifest
    total = sum(record.data.bytes for record in manifest.shards)
    return round(total * manifest.splits["train"] / max(manifest.n_rows, 1))


def suits(method: str, dataset: Dataset) -> bool:
    """Whether the dataset has what the method goes by."""
    by_time = SAMPLERS[method].timestamps if method in SAMPLERS else DISTILLERS[method].by_time
    return not by_time or dataset.manifest.has_timestamps
