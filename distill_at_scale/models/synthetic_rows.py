"""SyntheticRows: distilled users as the models see them, real-valued rows with facts about their origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from distill_at_scale.errors import DasError


@dataclass(frozen=True)
class FactoredRows:
    """Synthetic rows S = Z Vᵀ, as two factors that are far smaller than S for many items.

    Attributes:
        z: float32 [users, rank], coordinates of the synthetic users.
        v: float32 [n_items, rank], vectors of the items.
    """

    z: np.ndarray
    v: np.ndarray

    def __len__(self) -> int:
        return len(self.z)

    @property
    def rank(self) -> int:
        """Number of coordinates."""
        return self.z.shape[1]

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.v)

    def dense(self) -> np.ndarray:
        """Returns S, float32 [users, n_items]."""
        rows: np.ndarray = self.z @ self.v.T
        return rows


RowValues = np.ndarray | FactoredRows
"""Values of synthetic rows: float32 [users, n_items], or two factors."""


@dataclass(frozen=True)
class SyntheticRows:
    """A few synthetic users that replace many real ones.

    Attributes:
        given: Their values, of any sign: float32 [users, n_items], or factors.
        n_users: Number of users of the original dataset.
        n_rows: Number of its train rows, distinct pairs of user and item.
        item_space: Fingerprint of the item numbering, None if not given.
        chosen: Settings selected on that dataset's validation rows, by model.
        n_filled: Number of users with these train rows; None: all.
    """

    given: RowValues
    n_users: int
    n_rows: int
    item_space: str | None = None
    chosen: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    n_filled: int | None = None

    def __post_init__(self) -> None:
        arrays = (self.given.z, self.given.v) if isinstance(self.given, FactoredRows) else (self.given,)
        for values in arrays:
            if values.ndim != 2 or not values.size:
                raise DasError(f"Synthetic rows of shape {values.shape} are not users × items.")
            if not np.isfinite(values).all():
                raise DasError("The synthetic rows hold numbers that are not finite; distill them again.")
            if not values.any():
                raise DasError(
                    "The synthetic rows are all zero, so there is nothing to learn from; distill them again."
                )

    def __len__(self) -> int:
        """Number of synthetic users."""
        return len(self.given)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self.given.n_items if isinstance(self.given, FactoredRows) else self.given.shape[1]

    @property
    def rows_a_user(self) -> float:
        """Train rows of a real user on average, of those who have some."""
        return self.n_rows / (self.n_filled or self.n_users)

    @property
    def factors(self) -> FactoredRows | None:
        """The factors; None if the rows were not given as such."""
        return self.given if isinstance(self.given, FactoredRows) else None

    @cached_property
    def values(self) -> np.ndarray:
        """All values, float32 [users, n_items]; computed from the factors at the first use."""
        return self.given.dense() if isinstance(self.given, FactoredRows) else self.given

    def setting(self, model: str, name: str, given: float | None) -> float:
        """Returns a setting of a model: the given value, else the value selected during distillation.

        Raises:
            DasError: Neither exists.
        """
        value = self.chosen.get(model, {}).get(name) if given is None else given
        if value is None:
            raise DasError(
                f"{model}: no {name} was selected for these synthetic rows; set it (--set {name}=…, in a sweep or "
                f"comparison {model}.{name}=…)."
            )
        return value
