"""Fits a sequential model on latent sequences, with the training procedure for which they were learned."""

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

# Settings of training on a log that do not apply here.
_OF_LOGS = ("betas", "eps", "metric", "patience", "validation_users", "weight_decay")


def settings_for(name: str, given: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a model's settings: the given ones, and those recorded with the sequences that the model has.

    Raises:
        SettingError: The model cannot be trained on sequences, or a setting does not apply to them.
    """
    create_student(name, 1)
    if useless := sorted(given.keys() & set(_OF_LOGS)):
        raise SettingError(f"{useless[0]} is a setting for logs and does not apply to latent sequences; leave it out.")
    known = find_model(name).Config.model_fields
    return {**{key: value for key, value in recorded.items() if key in known}, **given}


def fit_sequences(
    latent: LatentSequences, name: str, settings: dict[str, Any], *, shuffled: bool, item_space: str | None
) -> SequentialRecommender:
    """Trains a model on latent sequences for ``epochs`` passes over them.

    Args:
        latent: Sequences, on the CPU.
        name: Name of the model, sasrec or gru4rec.
        settings: Settings from :func:`settings_for`.
        shuffled: Whether each pass has its own random order.
        item_space: Fingerprint of the item numbering.

    Raises:
        SettingError: Another model, or a setting that it refuses.
        NotEnoughMemoryError: The fit needs more memory than there is.
        DasError: The sequences are longer than the model reads, or the training diverged.
    """
    c = find_model(name).parse_config(settings)
    books = latent.books
    codes, composed = (None, ("own",)) if books is None else (books.codes, ("codes", books.n_books, books.size))
    if composed != ((c.items, c.books, c.book_size) if c.items == "codes" else (c.items,)):
        made = "items=own" if books is None else f"items=codes books={books.n_books} book_size={books.size}"
        raise SettingError(f"{name}: these sequences were distilled with {made}; leave the settings of items out.")
    student = create_student(name, latent.n_items, settings, codes)
    # Input and target tokens of one stretch of steps, and several copies of a batch in the backward pass.
    places, width = 2 * latent.inputs.shape[1], len(latent.decoder) + c.dim
    held = places * min(len(latent), STRETCH * c.batch_size)
    columns = latent.n_items if books is None else books.n_books * books.size
    numbers = numbers_needed(columns, held, 6 * places * c.batch_size, width)
    if books is not None:
        # Scores of a step, and item vectors.
        numbers += 3 * places * c.batch_size * (c.sampled or latent.n_items) + 2 * latent.n_items * c.dim
    require_memory(f"{name} on {len(latent)} sequences", 4 * numbers, None, "take more memory")
    device = resolve_device(c.device)
    on_device = latent.with_tensors([tensor.to(device) for tensor in latent.tensors])
    inner_loop = InnerLoop(c.batch_size, c.learning_rate, shuffled, c.seed, mixed=device.type == "cuda")
    n_steps = c.epochs * -(-len(latent) // c.batch_size)
    trained = train_student(student, on_device, inner_loop, n_steps, c.seed)
    if not all(bool(value.isfinite().all()) for value in trained.values()):
        raise DasError(f"{name}: the parameters became NaN or infinite; set a smaller learning_rate.")
    return student.recommender(trained, item_space)
