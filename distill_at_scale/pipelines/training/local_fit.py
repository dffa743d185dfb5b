"""Fits in the calling process, used by tasks of a stage; the verb `fit` starts workers instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation.synthetic_manifest import is_synthetic
from distill_at_scale.models import Recommender, create_model
from distill_at_scale.models.selection import Progress


def fit_here(data: str, name: str, settings: Mapping[str, Any]) -> Recommender:
    """Fits a model on a dataset, or on synthetic users or sequences, like `fit` with one worker.

    Raises:
        DasError: There are too few rows, or no validation rows for a selection; the loss became NaN; or the model
            cannot be trained on this kind of synthetic data.
        NotEnoughMemoryError: The fit needs more memory than there is.
    """
    if is_synthetic(data):
        return fit_synthetic(data, name, settings)
    return create_model(name, settings).fit(Dataset.open(data))


def fit_synthetic(data: str, name: str, settings: Mapping[str, Any], progress: Progress | None = None) -> Recommender:
    """Fits a model on synthetic users or sequences; settings that are not given default to the recorded ones.

    Raises:
        DasError: ``data`` is not a synthetic dataset, or the model cannot be trained on its kind of data.
        NotEnoughMemoryError: The fit needs more memory than there is.
    """
    from distill_at_scale.distillation.synthetic import SyntheticDataset

    return create_model(name, settings).fit(SyntheticDataset.open(data), progress=progress)
