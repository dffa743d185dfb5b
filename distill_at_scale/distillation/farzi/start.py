"""Where a distillation by Farzi starts: whom the sequences start from, and the sequences themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.farzi.consensus import consensus
from distill_at_scale.distillation.farzi.initialisation import Teacher, random_start, start_from_teachers
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.farzi.outer_loss import OuterBatches
from distill_at_scale.distillation.farzi_config import FarziConfig
from distill_at_scale.distillation.students import Parameters


def starters(
    config: FarziConfig, teachers: Sequence[Teacher], rows: Interactions, validate: Callable[[Parameters], float]
) -> list[Teacher]:
    """Whom the sequences start from: the teachers, or their consensus.

    Args:
        rows: train rows.
        validate: the metric of parameters, the same on all workers.
    """
    if not config.consensus or config.start == "random":
        return list(teachers)
    lessons = OuterBatches(rows, teachers[0].student.length, 1, config.seed)
    return [consensus(teachers, lessons, config.consensus, validate)]


def start_by(config: FarziConfig, teachers: Sequence[Teacher], rows: Interactions) -> LatentSequences:
    """The sequences that a recipe starts from.

    Raises:
        DasError: as :func:`start_from_teachers`.
    """
    tokens = config.sequences * config.length * (1 if config.coupled else 2)
    width = min(config.token_width, tokens, rows.n_items)
    if config.start == "random":
        device = next(iter(teachers[0].parameters.values())).device
        return random_start(config.sequences, config.length, width, rows.n_items, config.coupled, config.seed, device)
    return start_from_teachers(
        teachers,
        rows,
        config.sequences,
        config.length,
        width,
        coupled=config.coupled,
        sharpness=config.sharpness,
        foresight=config.foresight,
        popularity=config.popularity,
        seed=config.seed,
        joined=config.is_joined(rows),
    )
