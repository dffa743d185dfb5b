"""Settings of a private distillation, and the record of what it guarantees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distill_at_scale.errors import SettingError
from distill_at_scale.validation import PlainWords, explain

PROTECTED = (
    "Neighbouring datasets differ by all train rows of one user: what is published is (ε, δ)-differentially private "
    "for adding or removing a user. Validation and test rows are not used."
)
PUBLIC = (
    "Taken as public: the items' ids and their order, the number of users, the settings, and what the run cost. The "
    "guarantee is of this one result; the ε of several results on the same users add up."
)


class _PrivacyWords(PlainWords):
    """Wording for the parts of the setting ``privacy``: ``epsilon -1 must be above 0``."""

    def value(self, field: str, given: str) -> str:
        return f"{field} {given}"


class Privacy(BaseModel):
    """ε and δ of a private distillation, and how they are spent."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    epsilon: float = Field(gt=0, allow_inf_nan=False)
    """ε, the bound on what one user's rows can change."""
    delta: float | None = Field(default=None, gt=0, lt=1)
    """δ, below 1/users; None: the largest power of ten that is at most 0.1/users."""
    clip: float = Field(default=0.01, gt=0, allow_inf_nan=False)
    """C, largest norm of a user's gradient; longer ones are cut to it."""
    batch_size: int | None = Field(default=None, ge=1)
    """Expected number of users of a step; None: a third of all, at most 2,048."""
    start: float = Field(default=0.7, gt=0, lt=1)
    """Share of ε that the noised start may spend alone; the steps get the rest."""

    @classmethod
    def of(cls, given: Mapping[str, float]) -> Self:
        """Creates it from plain numbers.

        Raises:
            ValueError: A name is unknown, a number is out of range, or ε is missing.
        """
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                raise ValueError(f"{name} is not of privacy, which takes {', '.join(cls.model_fields)}") from None
            if first["type"] == "missing":
                raise ValueError(f"privacy needs {name}, such as {name}=8") from None
            raise ValueError(explain(error, cls, _PrivacyWords())) from None

    def delta_of(self, n_users: int) -> float:
        """Returns δ for a number of users.

        Raises:
            SettingError: δ is not below 1/users; it would allow to publish a whole user.
        """
        if self.delta is None:
            return 10.0 ** -math.ceil(math.log10(10.0 * n_users))
        if self.delta >= 1 / n_users:
            raise SettingError(
                f"--privacy delta={self.delta:g} is not below 1/users, {1 / n_users:.2g} with {n_users:,} users; set a "
                "smaller delta, or leave it out."
            )
        return self.delta

    def sampling_rate(self, n_users: int) -> float:
        """Returns the probability with which a user is in a step."""
        return min(1.0, (self.batch_size or max(1, min(n_users // 3, 2048))) / n_users)


class PrivacyRecord(BaseModel):
    """What a private result guarantees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epsilon: float
    """ε that was spent, as the accountant finds it; at most what was asked for."""
    delta: float
    """δ"""
    noise_multiplier: float
    """Standard deviation of the noise of a step, in clips."""
    start_noise_multiplier: float
    """σ of a Gaussian mechanism with sensitivity 1 that spends as much as the start."""
    clip: float
    """C, largest norm of a user's gradient."""
    steps: int
    """Number of steps."""
    sampling_rate: float
    """Probability with which a user is in a step, independently of the others (Poisson sampling)."""
    accountant: str
    """Accountant and its version."""
    protected: str = PROTECTED
    """What is protected."""
    public: str = PUBLIC
    """What is taken as public."""

    @property
    def sentence(self) -> str:
        """The guarantee in one sentence."""
        return (
            f"The rows are (ε, δ)-differentially private for each user, with ε = {self.epsilon:.2f} and δ = "
            f"{self.delta:g}."
        )
