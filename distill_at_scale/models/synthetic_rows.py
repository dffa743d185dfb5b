"""SyntheticRows: distilled users as the models see them, real-valued rows with facts about their origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from distill_at_scale.errors import DasError


@dataclass(frozen=True)
class SyntheticRows:
    """A few synthetic users that replace many real ones.

    Attributes:
        values: float32 [users, n_items]; of any sign.
        n_users: Number of users of the original dataset.
        n_rows: Number of its train rows, distinct pairs of user and item.
        item_space: Fingerprint of the item numbering, None if not given.
        chosen: Settings selected on that dataset's validation rows, by model.
    """

    values: np.ndarray
    n_users: int
    n_rows: int
    item_space: str | None = None
    chosen: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or not self.values.size:
            raise DasError(f"Synthetic rows of shape {self.values.shape} are not users × items.")
        if not np.isfinite(self.values).all():
            raise DasError("The synthetic rows hold numbers that are not finite; distill them again.")
        if not self.values.any():
            raise DasError("The synthetic rows are all zero, so there is nothing to learn from; distill them again.")

    def __len__(self) -> int:
        """Number of synthetic users."""
        return len(self.values)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self.values.shape[1]

    def setting(self, model: str, name: str, given: float | None) -> float:
        """Returns a setting of a model: the given value, else the value selected during distillation.

        Raises:
            DasError: Neither exists.
        """
        value = self.chosen.get(model, {}).get(name) if given is None else given
        if value is None:
            raise DasError(f"{model}: no {name} was selected for these synthetic rows; set it (--set {name}=…).")
        return value
