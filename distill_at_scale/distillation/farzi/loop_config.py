"""Settings of Farzi's loop."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FarziLoopConfig(BaseModel):
    """Settings of the distillation, not of the student or of where it starts."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    steps: int = Field(default=100, ge=1)
    """Outer steps at most."""
    rate: float = Field(default=2e-3, gt=0)
    """Of the outer Adam; falls to a twentieth along a cosine."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest norm of an outer gradient."""
    average: float = Field(default=0.95, ge=0, lt=1)
    """Weight of the past in the running mean of the sequences, which is what is validated and returned."""
    batch: int = Field(default=10, ge=1)
    """Sequences of a student's step."""
    student_rate: float = Field(default=0.01, gt=0)
    """Of the student's Adam."""
    rate_spread: float = Field(default=1.0, ge=1)
    """Trajectories have rates between student_rate over this and times this."""
    shuffled: bool = True
    """Whether each trajectory takes the sequences in random orders, else in turn."""
    window: int = Field(default=10, ge=1)
    """Student's steps that are differentiated through."""
    horizon: int = Field(default=800, ge=1)
    """Steps after which a trajectory begins anew; also those of a student that is validated."""
    first_horizon: int | None = Field(default=None, ge=1)
    """Trajectories begin anew after so many steps at first, after more from outer step to outer step, and after all of
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
