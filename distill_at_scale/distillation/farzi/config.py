"""The recipe of a whole distillation by Farzi: what is made, for whom, where it starts, and how it is learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.farzi.consensus import consensus
from distill_at_scale.distillation.farzi.initialisation import Teacher, random_start, start_from_teachers
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.farzi.loop_config import FarziLoopConfig
from distill_at_scale.distillation.farzi.outer_loss import OuterBatches
from distill_at_scale.distillation.students import Parameters
from distill_at_scale.evaluation.retention import PRIMARY

# Chosen on ml-100k. A coupled token must be item and target at once: students learn from it that what is asked for is
# what is there, and the longer the more.
_COUPLED = {"rate": 4e-3, "sharpness": 2.0, "horizon": 100, "student_rate": 0.02, "shuffled": False}
# Of students where nothing else is asked for; not the models' own, which are meant for logs.
_STUDENT: dict[str, dict[str, Any]] = {
    "sasrec": {"dim": 32, "blocks": 1, "heads": 1, "dropout": 0.0},
    "gru4rec": {"dim": 32, "hidden": 64, "dropout": 0.0},
}
_LEAST_LENGTH = 50


class FarziConfig(FarziLoopConfig):
    """Settings of Farzi, from the log to the sequences."""

    sequences: int = Field(default=50, ge=1)
    """μ."""
    length: int = Field(default=20, ge=2)
    """ξ, places of a sequence."""
    start: Literal["teachers", "random"] = "teachers"
    """What the sequences are before they are learned: real ones as the teachers see them, or noise."""
    joined: bool | None = None
    """Whether real sequences that synthetic ones start from are several users' laid end to end, else one user's each;
    None: where a user has fewer train rows than places on average. (On Amazon Beauty, 200 x 20, the start then has
    validation ndcg@10 .062 instead of .056: long sequences are few there, and unlike the others.)"""
    student: Literal["sasrec", "gru4rec"] = "sasrec"
    """The model that is taught."""
    model: dict[str, Any] = Field(default_factory=dict)
    """Settings of the student's architecture, as {dim: 64}; those not given: one layer, dim 32, no dropout."""
    coupled: bool = False
    """Whether the token after a place is its target, as in the paper; else each place has a target of its own."""
    width: int | None = Field(default=None, ge=1)
    """d, numbers of a token, as far as there are so many tokens and items; None: what the start needs, the student's
    dim, without a consensus as much for every teacher, and one more for popularity."""
    sharpness: float = Field(default=20.0, gt=0)
    """Of an item's own token at the start: this times the likeness of others to it; coupled: 2."""
    foresight: float = Field(default=1.0, ge=0)
    """Weight of the teachers' predictions at the start."""
    popularity: float = Field(default=0.0, ge=0)
    """Weight of the items' log counts at the start."""
    teachers: int = Field(default=3, ge=1)
    """Models of the student's architecture, trained on the full data, that the sequences start from and learn from."""
    consensus: int = Field(default=400, ge=0)
    """Steps in which one model of that kind learns what the teachers agree on, for the sequences to start from; 0: they
    start from the mean of the teachers, which needs more width."""
    teacher: dict[str, Any] = Field(default_factory=dict)
    """Settings of their training, as {epochs: 50}."""
    metric: str = Field(default=PRIMARY, pattern=r"^(hr|recall|precision|ndcg|mrr)@[1-9][0-9]*$")
    """By which the teachers' epochs and the best sequences are chosen on validation rows."""
    validation_users: int = Field(default=3000, ge=1)
    """Users, drawn by hash, on whom it is measured; all where there are fewer."""
    real_users: int = Field(default=100_000, ge=1)
    """Users, drawn by hash, of whose rows sequences and lessons are made; all where there are fewer."""

    @model_validator(mode="before")
    @classmethod
    def _of_the_format(cls, given: Any) -> Any:
        return {**_COUPLED, **given} if isinstance(given, dict) and given.get("coupled") is True else given

    @property
    def places_read(self) -> int:
        """Items of each real sequence that a synthetic one starts from: the last may be a target alone."""
        return self.length if self.coupled else self.length + 1

    @property
    def token_width(self) -> int:
        """d as set, or what the start needs."""
        models = 1 if self.consensus else self.teachers
        return self.width or models * int(self.student_settings()["dim"]) + (self.popularity > 0)

    def is_joined(self, rows: Interactions) -> bool:
        """:attr:`joined` as set, or for these train rows."""
        return self.joined if self.joined is not None else rows.n_rows < self.places_read * len(rows)

    def student_settings(self) -> dict[str, Any]:
        """Of the student's model."""
        return {"length": max(self.length, _LEAST_LENGTH), **_STUDENT.get(self.student, {}), **self.model}

    def teacher_settings(self) -> dict[str, Any]:
        """Of a teacher's model and its training, but for its seed."""
        training = {
            "dropout": 0.2,
            "learning_rate": 3e-3,
            "batch_size": 64,
            "patience": 8,
            "metric": self.metric,
            "validation_users": self.validation_users,
        }
        return {**self.student_settings(), **training, **self.teacher}

    def fit_settings(self) -> dict[str, Any]:
        """Of a model that is fitted on the sequences as the students in validation are, but for twice as many steps.

        Sequences are learned along trajectories of ``horizon`` steps, since longer ones cost more, but serve longer
        trainings better still (on ml-100k, 50 sequences and 20, three seeds each: validation ndcg@10 .1263 and .1224
        after the horizon, .1282 and .1250 after twice as many). Coupled ones do not.
        """
        per_pass = -(-self.sequences // self.batch)
        training = {"batch_size": self.batch, "learning_rate": self.student_rate}
        times = 1 if self.coupled else 2
        return {**self.student_settings(), **training, "epochs": max(1, round(times * self.horizon / per_pass))}


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
