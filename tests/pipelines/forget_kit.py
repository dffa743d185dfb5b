"""forget without Ray, and small logs for it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch

from distill_at_scale.config import DistillConfig
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.pipelines import distill as distill_verb
from distill_at_scale.pipelines import forget as verb
from distill_at_scale.pipelines.distill import distiller_of
from distill_at_scale.pipelines.distilling.group_job import GroupJob, SingleWorker, run_distiller
from distill_at_scale.pipelines.forget import ForgetResult
from distill_at_scale.pipelines.training.worker_group import WorkerGroupSpec


def inline_forget(**settings: Any) -> ForgetResult:
    """forget's own driver over its own parts, with plain calls in the places where Ray schedules."""

    def run_stage(run: Any, name: str, work: Any, items: Any, shared: Any = (), **_: Any) -> Any:
        return [work(item, *shared) for item in items]

    def distill(config: DistillConfig) -> Any:
        return SimpleNamespace(notes=distilled(config).manifest.notes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verb, "run_stage", run_stage)
        patch.setattr(verb, "load", lambda function, *arguments: function(*arguments))
        patch.setattr(verb, "compute", lambda function, *arguments: function(*arguments))
        patch.setattr(verb, "run_alone", lambda record, name, work, *arguments: work(*arguments))
        patch.setattr(distill_verb, "distill", distill)
        patch.setattr(verb.session, "ensure", lambda address: contextlib.nullcontext())
        patch.setattr(verb.ray, "get", lambda value: value)
        return verb.forget(**settings)


def distilled(config: DistillConfig) -> SyntheticDataset:
    """distill's worker, in this process."""
    earlier = None if config.from_ is None else SyntheticDataset.open(config.from_)
    distiller = distiller_of(config, earlier)
    distiller.earlier = earlier
    group = WorkerGroupSpec(workers=1, gpu=False, work=f"{config.output}/_work", checkpoint_every=100)
    job = GroupJob(group, SingleWorker(torch.device("cpu")), Dataset.open(config.data), lambda share, what: None)
    run_distiller(distiller, job, config.method, config.output)
    return SyntheticDataset.open(config.output)


def users_of(dataset: Dataset) -> pl.Series:
    return pl.concat([dataset.users(shard)["user_id"] for shard in range(len(dataset.shards))])


def file_of(folder: Path, ids: list[Any]) -> str:
    (folder / "ids.txt").write_text("\n".join(map(str, ids)))
    return str(folder / "ids.txt")
