"""The initial sequences of a distillation by Farzi, and the teachers from which they are initialised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.farzi.consensus import consensus
from distill_at_scale.distillation.farzi.initialisation import (
    Teacher,
    initialise_books,
    initialise_from_teachers,
    random_initialisation,
    real_sequences,
)
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.farzi.outer_loss import OuterBatches
from distill_at_scale.distillation.farzi_config import FarziConfig
from distill_at_scale.distillation.students import Parameters


def initial_teachers(
    config: FarziConfig, teachers: Sequence[Teacher], rows: Interactions, validate: Callable[[Parameters], float]
) -> list[Teacher]:
    """Returns the models from which the sequences are initialised: the teachers, or their consensus.

    Args:
        config: Settings of the distillation.
        teachers: Full-data models.
        rows: Train rows.
        validate: Returns the validation metric of parameters, the same on all workers.
    """
    if not config.consensus or config.start == "random":
        return list(teachers)
    outer_batches = OuterBatches(rows, teachers[0].student.length, 1, config.seed)
    return [consensus(teachers, outer_batches, config.consensus, validate)]


def initial_sequences(config: FarziConfig, teachers: Sequence[Teacher], rows: Interactions) -> LatentSequences:
    """Builds the initial sequences.

    Raises:
        DasError: As for :func:`initialise_from_teachers`.
    """
    books, joined, shape = teachers[0].student.books, config.is_joined(rows), (config.sequences, config.length)
    columns = rows.n_items if books is None else books.n_books * books.size
    width = min(config.token_width, config.n_tokens, columns)
    if config.start == "random":
        device = next(iter(teachers[0].parameters.values())).device
        noise = random_initialisation(*shape, width, columns, config.coupled, config.seed, device)
        if config.inputs == "items":
            items = real_sequences(rows, *shape, config.seed, joined=joined)
            noise = replace(noise, inputs=torch.from_numpy(items).to(device))
        return replace(noise, bits=config.bits, books=books)
    if books is not None:
        start = initialise_books(
            teachers[0], rows, *shape, width, foresight=config.foresight, seed=config.seed, joined=joined
        )
        return replace(start, bits=config.bits)
    start = initialise_from_teachers(
        teachers,
        rows,
        *shape,
        width,
        coupled=config.coupled,
        sharpness=config.sharpness,
        foresight=config.foresight,
        popularity=config.popularity,
        seed=config.seed,
        joined=joined,
        soft_inputs=config.inputs == "soft",
        fitted=config.fitted,
        bits=config.bits,
    )
    return replace(start, bits=config.bits)
