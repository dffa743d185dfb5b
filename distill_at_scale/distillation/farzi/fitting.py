"""Fitting an ordinary model on latent sequences: by the training that they were made for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_at_scale.distillation.farzi.inner_loop import STRETCH, InnerLoop, train_student
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.soft_tokens import numbers_needed
from distill_at_scale.distillation.students import create_student
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.models import find_model
from distill_at_scale.models.device import resolve_device
from distill_at_scale.models.memory import require_memory
from distill_at_scale.models.training.sequential import SequentialRecommender

# Settings of a training on a log that have no meaning here.
_OF_LOGS = ("betas", "metric", "patience", "validation_users", "weight_decay")


def settings_for(name: str, given: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """A model's settings: those given, and of those recorded with the sequences the ones that it knows.

    Raises:
        DasError: for a model that cannot learn from sequences, or a setting that says nothing here.
    """
    create_student(name, 1)
    if useless := sorted(given.keys() & set(_OF_LOGS)):
        raise SettingError(f"{useless[0]} is a setting for logs, without a meaning on latent sequences; leave it out.")
    known = find_model(name).Config.model_fields
    return {**{key: value for key, value in recorded.items() if key in known}, **given}


def fit_sequences(
    latent: LatentSequences, name: str, settings: dict[str, Any], *, shuffled: bool, item_space: str | None
) -> SequentialRecommender:
    """A model with its own architecture, trained on latent sequences for ``epochs`` passes over them.

    Args:
        latent: on the CPU.
        name: Name of the model, sasrec or gru4rec.
        settings: as :func:`settings_for` gives them.
        shuffled: whether each pass has an order of its own.
        item_space: fingerprint of the item numbering.

    Raises:
        DasError: for another model, a setting that it refuses, sequences longer than it reads, too little memory.
    """
    student = create_student(name, latent.n_items, settings)
    c = find_model(name).parse_config(settings)
    # A stretch's tokens, inputs and targets, and some copies of one batch's on the way back.
    places, narrow = 2 * latent.inputs.shape[1], len(latent.decoder) + c.dim
    held = places * min(len(latent), STRETCH * c.batch_size)
    numbers = numbers_needed(latent.n_items, held, 6 * places * c.batch_size, narrow)
    require_memory(f"{name} on {len(latent)} sequences", 4 * numbers, None, "take more memory")
    device = resolve_device(c.device)
    there = latent.with_tensors([tensor.to(device) for tensor in latent.tensors])
    inner_loop = InnerLoop(c.batch_size, c.learning_rate, shuffled, c.seed, mixed=device.type == "cuda")
    n_steps = c.epochs * -(-len(latent) // c.batch_size)
    trained = train_student(student, there, inner_loop, n_steps, c.seed)
    if not all(bool(value.isfinite().all()) for value in trained.values()):
        raise DasError(f"{name}: its parameters are no numbers any more; set a smaller learning_rate.")
    return student.recommender(trained, item_space)
