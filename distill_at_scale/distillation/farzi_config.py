"""Settings of Farzi: of its loop, and of a whole distillation: what is made, for whom, where it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from distill_at_scale.evaluation.metric_names import RankingMetric
from distill_at_scale.evaluation.retention import PRIMARY

if TYPE_CHECKING:
    from distill_at_scale.data.interactions import Interactions

# Chosen on ml-100k. A coupled token must be item and target at once: students learn from it that what is asked for is
# what is there, and the longer the more.
_COUPLED = {"rate": 4e-3, "sharpness": 2.0, "horizon": 100, "student_rate": 0.02, "shuffled": False}
# Of students where nothing else is asked for; not the models' own, which are meant for logs.
_STUDENT: dict[str, dict[str, Any]] = {
    "sasrec": {"dim": 32, "blocks": 1, "heads": 1, "dropout": 0.0},
    "gru4rec": {"dim": 32, "hidden": 64, "dropout": 0.0},
}
_LEAST_LENGTH = 50


class FarziLoopConfig(BaseModel):
    """Settings of the distillation, not of the student or of where it starts."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    steps: int = Field(default=100, ge=1)
    """Outer steps at most."""
    rate: float = Field(default=2e-3, gt=0)
    """Learning rate of the outer Adam; falls to a twentieth along a cosine."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of an outer gradient."""
    average: float = Field(default=0.95, ge=0, lt=1)
    """Weight of the past in the running mean of the sequences, which is what is validated and returned."""
    batch: int = Field(default=10, ge=1)
    """Sequences of a student's step."""
    student_rate: float = Field(default=0.01, gt=0)
    """Learning rate of the student's Adam."""
    rate_spread: float = Field(default=1.0, ge=1)
    """Trajectories have rates between student_rate over this and times this."""
    shuffled: bool = True
    """Whether each trajectory takes the sequences in random orders, else in turn."""
    window: int = Field(default=10, ge=1)
    """Student's steps that are differentiated through."""
    horizon: int = Field(default=800, ge=1)
    """Number of steps after which a trajectory restarts; also the steps of a student in validation."""
    first_horizon: int | None = Field(default=None, ge=1)
    """Initial length of a trajectory in steps; it grows with the outer steps, and reaches all of
    the horizon once half of the outer steps are done; None: after all of it from the first."""
    learned_rates: int = Field(default=0, ge=0)
    """Parts of a student's training that have a learning rate of their own, learned with the sequences and stored with
    them; 0: one rate, as it is set."""
    pretrained: float = Field(default=0.0, ge=0, le=1)
    """Share of the trajectories that begin where a teacher was after 1, 2, 4, … epochs of its training; the others have
    random parameters at first. (Ω of the paper.)"""
    pool: int = Field(default=5, ge=1)
    """Trajectories under way; at first the k-th stands at the k-th part of the horizon."""
    parallel: int = Field(default=1, ge=1)
    """Pools; each step goes on with one trajectory of each, on lessons of their own, and takes the mean gradient."""
    lesson_users: int = Field(default=128, ge=1)
    """Windows of real sequences in a lesson."""
    lesson_places: int = Field(default=1024, ge=1)
    """Places asked in them, at most."""
    least_context: int = Field(default=8, ge=1)
    """Items that stand before a place that is asked."""
    teacher_share: float = Field(default=0.8, ge=0, le=1)
    """Weight of the teachers' predictions in the outer loss; the items that came next have the rest."""
    alignment: float = Field(default=0.0, ge=0)
    """Weight, in the outer loss, of how unlike the student's states are to the teachers' (1 − linear CKA)."""
    mixed: bool | None = None
    """Whether students' passes are made in bfloat16, but for a trajectory's first window, parameters and optimizers
    staying float32; None: on a GPU. (On ml-100k a gradient then makes an angle of 1° with that in float32, but of 61°
    in a first window.)"""
    validate_every: int = Field(default=50, ge=1)
    """Outer steps between validations."""
    validation_students: int = Field(default=4, ge=1)
    """Students whose mean metric is the validation's; one differs from the next by 3 % on ml-100k."""
    patience: int = Field(default=6, ge=1)
    """Validations without a better one after which it stops."""
    seed: int = Field(default=0, ge=0)
    """Random seed."""


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
    """d, width of a token, at most the number of tokens and of items; None: what the initialisation needs, the
    student's dim, without a consensus as much for every teacher, and one more for popularity."""
    sharpness: float = Field(default=20.0, gt=0)
    """Initial sharpness of an item's own token: this times the similarity of others to it; coupled: 2."""
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
    metric: RankingMetric = PRIMARY
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
        """Returns the settings of the student's model."""
        return {"length": max(self.length, _LEAST_LENGTH), **_STUDENT.get(self.student, {}), **self.model}

    def teacher_settings(self) -> dict[str, Any]:
        """Returns the settings of a teacher's model and its training, except its seed."""
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
        """Returns the settings of a model fitted on the sequences like the students in validation, for twice as many
        steps.

        Sequences are learned along trajectories of ``horizon`` steps, since longer ones cost more, but serve longer
        trainings better still (on ml-100k, 50 sequences and 20, three seeds each: validation ndcg@10 .1263 and .1224
        after the horizon, .1282 and .1250 after twice as many). Coupled ones do not.
        """
        per_pass = -(-self.sequences // self.batch)
        training = {"batch_size": self.batch, "learning_rate": self.student_rate}
        times = 1 if self.coupled else 2
        return {**self.student_settings(), **training, "epochs": max(1, round(times * self.horizon / per_pass))}
