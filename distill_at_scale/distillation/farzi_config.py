"""Settings of Farzi: those of the loop, and those of a whole distillation including its initialisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from distill_at_scale.evaluation.metric_names import RankingMetric
from distill_at_scale.evaluation.retention import PRIMARY

if TYPE_CHECKING:
    from distill_at_scale.data.interactions import Interactions

# Selected on ml-100k. A coupled token is both input and target: the longer students train on such tokens, the more
# they learn to predict the input itself.
_COUPLED = {"rate": 4e-3, "sharpness": 2.0, "horizon": 100, "student_rate": 0.02, "shuffled": False}
# One teacher gives the codes.
_CODES = {"teachers": 1, "consensus": 0, "inputs": "items"}
# Defaults of students; the models' own defaults are tuned for logs.
_STUDENT: dict[str, dict[str, Any]] = {
    "sasrec": {"dim": 32, "blocks": 1, "heads": 1, "dropout": 0.0},
    "gru4rec": {"dim": 32, "hidden": 64, "dropout": 0.0},
}
_LEAST_LENGTH = 50
LATER: dict[str, Any] = {"objective": "unrolled", "fitted": 0}
"""Settings that earlier versions lacked, with what they did. These values are not recorded, so that runs and results of
earlier versions go on as those of this one."""


class FarziLoopConfig(BaseModel):
    """Settings of the distillation loop, without those of the student and the initialisation."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    steps: int = Field(default=100, ge=1)
    """Maximum number of outer steps."""
    objective: Literal["unrolled", "states", "gradients"] = "unrolled"
    """What an outer step improves: unrolled, the outer loss of a student after a window of training on the sequences;
    states, how well the moments of its states and targets match those on real sequences (distribution matching); or
    gradients, how well its gradient matches that of the outer loss (gradient matching). The last two take less memory
    and a third and a half of the time of a step. (On ml-100k, 20 sequences of 50, one seed, none improved on the
    default start, and states at the default rate lost 31 %: set a smaller one with it.)"""
    rate: float = Field(default=2e-3, gt=0)
    """Learning rate of the outer Adam; falls to a twentieth along a cosine."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Maximum norm of an outer gradient."""
    average: float = Field(default=0.95, ge=0, lt=1)
    """Weight of the past in the running mean of the sequences, which is validated and returned."""
    batch: int = Field(default=10, ge=1)
    """Sequences per student step."""
    student_rate: float = Field(default=0.01, gt=0)
    """Learning rate of the student's Adam."""
    rate_spread: float = Field(default=1.0, ge=1)
    """Spread of the trajectories' learning rates: between student_rate divided by this and times this."""
    shuffled: bool = True
    """Whether each trajectory uses the sequences in random orders, else in turn."""
    window: int = Field(default=10, ge=1)
    """Number of student steps that are differentiated through; with other objectives, those from one outer step on a
    trajectory to the next."""
    horizon: int = Field(default=800, ge=1)
    """Number of steps after which a trajectory restarts; also the number of training steps of validation students."""
    first_horizon: int | None = Field(default=None, ge=1)
    """Initial length of a trajectory in steps; it grows linearly up to the horizon in the first half of the outer
    steps. None: the horizon from the start."""
    learned_rates: int = Field(default=0, ge=0)
    """Number of parts of a student's training with their own learning rate, learned with the sequences and stored with
    them; 0: one rate, as set."""
    pretrained: float = Field(default=0.0, ge=0, le=1)
    """Share of the trajectories that begin with a teacher's parameters after 1, 2, 4, … epochs of its training; the
    others begin with random parameters. (Ω of the paper.)"""
    pool: int = Field(default=5, ge=1)
    """Number of trajectories in progress; initially the k-th is at the k-th part of the horizon."""
    parallel: int = Field(default=1, ge=1)
    """Number of pools; each step advances one trajectory of each, on its own outer batch, and uses the mean
    gradient."""
    lesson_users: int = Field(default=128, ge=1)
    """Windows of real sequences in an outer batch."""
    lesson_places: int = Field(default=1024, ge=1)
    """Maximum number of positions predicted in them."""
    least_context: int = Field(default=8, ge=1)
    """Minimum number of items before a predicted position."""
    teacher_share: float = Field(default=0.8, ge=0, le=1)
    """Weight of the teachers' predictions in the outer loss; the rest is that of the actual next items."""
    alignment: float = Field(default=0.0, ge=0)
    """Weight, in the outer loss, of the dissimilarity of the student's and the teachers' states (1 − linear CKA)."""
    mixed: bool | None = None
    """Whether students run in bfloat16, except in a trajectory's first window; parameters and optimizers stay float32.
    None: on a GPU. (On ml-100k a gradient then makes an angle of 1° with that in float32, but of 61° in a first
        window.)"""
    validate_every: int = Field(default=50, ge=1)
    """Outer steps between validations."""
    validation_students: int = Field(default=4, ge=1)
    """Number of students whose mean metric is the validation's; on ml-100k they differ by 3 %."""
    patience: int = Field(default=6, ge=1)
    """Number of validations without improvement after which it stops."""
    seed: int = Field(default=0, ge=0)
    """Random seed."""

    @model_validator(mode="after")
    def _only_the_unrolled_objective_has_a_training(self) -> FarziLoopConfig:
        for name in ("learned_rates", "alignment"):
            if self.objective != "unrolled" and getattr(self, name):
                raise ValueError(f"{name} needs objective=unrolled; leave {name} out")
        return self

    @model_serializer(mode="wrap")
    def _as_earlier_versions(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out what is as earlier versions had it; see :data:`LATER`."""
        found: dict[str, Any] = handler(self)
        return {name: value for name, value in found.items() if name not in LATER or value != LATER[name]}


class FarziConfig(FarziLoopConfig):
    """Settings of Farzi, from the log to the sequences."""

    sequences: int = Field(default=50, ge=1)
    """μ, number of sequences."""
    length: int = Field(default=20, ge=2)
    """ξ, positions of a sequence."""
    start: Literal["teachers", "random"] = "teachers"
    """Initialisation of the sequences: real ones as the teachers see them, or noise."""
    joined: bool | None = None
    """Whether the real sequences of the initialisation are several users' concatenated, else one user's each; None:
    joined if a user has fewer train rows than positions on average. (On Amazon Beauty, 200 x 20, the initial sequences
    then have validation ndcg@10 0.062 instead of 0.056: long sequences are few there, and unlike the others.)"""
    student: Literal["sasrec", "gru4rec"] = "sasrec"
    """Model that is trained on the sequences."""
    model: dict[str, Any] = Field(default_factory=dict)
    """Settings of the student's architecture, such as {dim: 64}; default: one layer, dim 32, no dropout."""
    coupled: bool = False
    """Whether the next token is a position's target, as in the paper; else each position has its own target."""
    inputs: Literal["soft", "items"] = "soft"
    """Inputs of a position: a soft token that is learned, or the real item of the initialisation, which takes about as
    many bytes as the logarithm of the number of items has bits, divided by eight."""
    items: Literal["own", "codes"] = "own"
    """Item vectors of the student and the teacher, as in models: own, one per item; or codes, sums of shared vectors
    (residual k-means of the items' singular vectors). With codes a soft token is a distribution for each book of shared
    vectors instead of one over all items; it needs one teacher, without consensus, and inputs=items."""
    books: int = Field(default=4, ge=1)
    """Number of shared vectors that are summed (items=codes)."""
    book_size: int = Field(default=256, ge=2)
    """Number of vectors to choose each of them from (items=codes)."""
    sampled: int = Field(default=0, ge=0)
    """Number of items drawn at each step in place of all (items=codes), by students, teacher and outer loss; 0: all. A
    step's time and memory then do not grow with the catalogue."""
    bits: float = Field(default=8.0, gt=0, le=8)
    """Bits of a stored number: 8, for each latent dimension by itself; or fewer, as the mean over numbers, of which
    those that contribute more to the tokens get more."""
    width: int | None = Field(default=None, ge=1)
    """d, width of a token, at most the number of tokens and of items; None: as the initialisation needs: the student's
    dim (times the number of teachers without a consensus), plus 1 for popularity."""
    fitted: int = Field(default=0, ge=0)
    """Passes over the tokens in which a start that is narrower than the predictions, or of few bits, is fitted to their
    distributions; the singular value decomposition before it fits logits."""
    sharpness: float = Field(default=20.0, gt=0)
    """Initial sharpness of an item's own token: this times the similarity of others to it; coupled: 2."""
    foresight: float = Field(default=1.0, ge=0)
    """Initial weight of the teachers' predictions."""
    popularity: float = Field(default=0.0, ge=0)
    """Initial weight of the items' log counts."""
    teachers: int = Field(default=3, ge=1)
    """Number of models of the student's architecture, trained on the full data, for initialisation and outer loss."""
    consensus: int = Field(default=400, ge=0)
    """Number of steps in which one such model learns the teachers' mean prediction, for the initialisation; 0: the
    sequences are initialised from the mean of the teachers, which needs more width."""
    teacher: dict[str, Any] = Field(default_factory=dict)
    """Settings of the teachers' training, such as {epochs: 50}."""
    metric: RankingMetric = PRIMARY
    """Validation metric by which the teachers' epochs and the best sequences are selected."""
    validation_users: int = Field(default=3000, ge=1)
    """Maximum number of users, drawn by hash, on whom the metric is measured."""
    real_users: int = Field(default=100_000, ge=1)
    """Maximum number of users, drawn by hash, from whose rows sequences and outer batches are made."""

    @model_validator(mode="before")
    @classmethod
    def _of_the_format(cls, given: Any) -> Any:
        return {**_COUPLED, **given} if isinstance(given, dict) and given.get("coupled") is True else given

    @model_validator(mode="before")
    @classmethod
    def _of_the_codes(cls, given: Any) -> Any:
        return {**_CODES, **given} if isinstance(given, dict) and given.get("items") == "codes" else given

    @model_validator(mode="after")
    def _codes_are_of_one_teacher(self) -> FarziConfig:
        if self.items == "own" and self.sampled:
            raise ValueError("sampled needs items=codes")
        wanted = {"teachers": 1, "consensus": 0, "inputs": "items", "popularity": 0.0}
        if self.items == "codes":
            for name, value in wanted.items():
                if getattr(self, name) != value:
                    raise ValueError(f"items=codes needs {name}={value}; leave {name} out")
        for name in ("items", "books", "book_size", "sampled", "own_items"):
            if name in self.model or name in self.teacher:
                raise ValueError(f"set {name} of the distillation, not of its model or teacher")
        return self

    @model_validator(mode="after")
    def _items_are_inputs_only(self) -> FarziConfig:
        if self.coupled and self.inputs == "items":
            raise ValueError("inputs=items needs coupled=false: a coupled token is input and target")
        return self

    @model_validator(mode="after")
    def _states_have_positions(self) -> FarziConfig:
        places = self.length - self.coupled
        if self.objective == "states" and places < self.least_context:
            raise ValueError(
                f"objective=states compares states after least_context={self.least_context} items or more, and a "
                f"sequence has {places} positions; set least_context to at most {places}"
            )
        return self

    @model_validator(mode="after")
    def _only_predictions_are_fitted(self) -> FarziConfig:
        if self.fitted and (self.start == "random" or self.items == "codes"):
            other = "start=random" if self.start == "random" else "items=codes"
            raise ValueError(
                f"fitted={self.fitted} fits the teachers' predictions over items, which {other} has not; "
                "leave fitted out"
            )
        return self

    @property
    def places_read(self) -> int:
        """Number of items read of each real sequence for the initialisation; the last may only be a target."""
        return self.length if self.coupled else self.length + 1

    @property
    def n_tokens(self) -> int:
        """Number of soft tokens."""
        return self.sequences * self.length * (1 if self.coupled or self.inputs == "items" else 2)

    @property
    def token_width(self) -> int:
        """d as set, or the width that the initialisation needs."""
        models = 1 if self.consensus else self.teachers
        return self.width or models * int(self.student_settings()["dim"]) + (self.popularity > 0)

    def is_joined(self, rows: Interactions) -> bool:
        """Returns :attr:`joined` as set, or its default for these train rows."""
        return self.joined if self.joined is not None else rows.n_rows < self.places_read * len(rows)

    def student_settings(self) -> dict[str, Any]:
        """Returns the settings of the student's model."""
        composed: dict[str, Any] = {}
        if self.items == "codes":
            composed = {"items": "codes", "books": self.books, "book_size": self.book_size, "own_items": 0}
            composed["sampled"] = self.sampled
        return {"length": max(self.length, _LEAST_LENGTH), **_STUDENT.get(self.student, {}), **composed, **self.model}

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

        Sequences are learned along trajectories of ``horizon`` steps, since longer ones cost more, but longer trainings
        on them are even better (on ml-100k, 50 and 20 sequences, three seeds each: validation ndcg@10 0.1263 and 0.1224
        after ``horizon`` steps, 0.1282 and 0.1250 after twice as many). This does not hold for coupled sequences.
        """
        per_pass = -(-self.sequences // self.batch)
        training = {"batch_size": self.batch, "learning_rate": self.student_rate}
        times = 1 if self.coupled else 2
        return {**self.student_settings(), **training, "epochs": max(1, round(times * self.horizon / per_pass))}
