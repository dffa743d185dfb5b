"""Fitting in the process that asks: what a task of a stage does, where `fit` would have workers of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation.synthetic_manifest import is_synthetic
from distill_at_scale.models import Recommender, create_model
from distill_at_scale.models.selection import Progress


def fit_here(data: str, name: str, settings: Mapping[str, Any]) -> Recommender:
    """A model fitted on a dataset, or on synthetic users or sequences, as `fit` with one worker makes it.

    Raises:
        DasError: too little memory or too few rows, no validation rows to choose on, a loss that is NaN, a
            model that does not learn from what is synthetic.
    """
    if is_synthetic(data):
        return fit_synthetic(data, name, settings)
    return create_model(name, settings).fit(Dataset.open(data))


def fit_synthetic(data: str, name: str, settings: Mapping[str, Any], progress: Progress | None = None) -> Recommender:
    """A model fitted on synthetic users or sequences; settings that are not given are those that came with them.

    Raises:
        DasError: no synthetic dataset, a model that does not learn from what it holds, too little memory.
    """
    from distill_at_scale.distillation.synthetic import SyntheticDataset

    return create_model(name, settings).fit(SyntheticDataset.open(data), progress=progress)
