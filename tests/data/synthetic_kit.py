"""Synthetic datasets without a distiller's run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation import synthetic
from distill_at_scale.distillation.distilled import Distilled
from distill_at_scale.distillation.synthetic import SyntheticDataset

_OF_THE_RUN = ("method", "config", "made_with")


def write_synthetic(uri: str, data: Any, parent: Dataset, described: Mapping[str, Any]) -> SyntheticDataset:
    """Writes rows or sequences with these fields of a result and of its manifest."""
    others = {name: value for name, value in described.items() if name not in (*_OF_THE_RUN, "cost")}
    made = Distilled(data=data, cpu_s=0.0, **others)
    run = {name: described[name] for name in _OF_THE_RUN}
    return synthetic.write(uri, made, parent, cost=described.get("cost", {}), **run)
