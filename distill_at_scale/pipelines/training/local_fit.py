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
        DasError: too little memory or too few rows, no validation rows to choose on, a loss that is no number, a
            model that does not learn from what is synthetic.
    """
    if is_synthetic(data):
        return fit_synthetic(data, name, settings)
    model, dataset = create_model(name, settings), Dataset.open(data)
    model.check_memory(dataset.n_users, dataset.n_items, dataset.n_rows, model.config)
    if not model.by_gradients:
        train, validation = dataset.interactions("train"), dataset.interactions("validation")
        return model.fit(train, validation, item_space=dataset.manifest.item_space)
    # With torch, which the other models' processes are spared.
    from distill_at_scale.models.device import resolve_device
    from distill_at_scale.models.training.sources import ShardSource
    from distill_at_scale.models.training.torch_model import TorchRecommender
    from distill_at_scale.models.training.trainer import Trainer

    assert isinstance(model, TorchRecommender)
    source = ShardSource(dataset)
    trainer = Trainer(model, source, resolve_device(model.config.device))
    trainer.run()
    model.adopt(trainer, source.n_users, source.n_items, dataset.manifest.item_space)
    return model


def fit_synthetic(data: str, name: str, settings: Mapping[str, Any], progress: Progress | None = None) -> Recommender:
    """A model fitted on synthetic users or sequences; settings that are not given are those that came with them.

    Raises:
        DasError: no synthetic dataset, a model that does not learn from what it holds, too little memory.
    """
    from distill_at_scale.distillation.farzi import fit_sequences, settings_for
    from distill_at_scale.distillation.synthetic import SyntheticDataset

    synthetic = SyntheticDataset.open(data)
    made, space = synthetic.manifest.sequences, synthetic.manifest.parent.item_space
    if made is None:
        model = create_model(name, settings)
        model.refuse_rows()
        return model.fit_rows(synthetic.for_models(), progress=progress)
    settings = settings_for(name, settings, made.settings)
    return fit_sequences(synthetic.sequences(), name, settings, shuffled=made.shuffled, item_space=space)
