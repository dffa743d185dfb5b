"""SyntheticRows: distilled users as the models see them, real-valued rows with what is known of their origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from distill_at_scale.errors import DasError


@dataclass(frozen=True)
class SyntheticRows:
    """A few users in the place of many.

    Attributes:
        values: float32 [users, n_items]; of any sign.
        n_users: users of the dataset they stand for.
        n_rows: its train rows, distinct pairs of user and item.
        item_space: fingerprint of the item numbering, None where none was given.
        chosen: settings chosen on that dataset's validation rows, by model.
    """

    values: np.ndarray
    n_users: int
    n_rows: int
    item_space: str | None = None
    chosen: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or not self.values.size:
            raise DasError(f"Synthetic rows of shape {self.values.shape} are no users × items.")
        if not np.isfinite(self.values).all():
            raise DasError("The synthetic rows hold numbers that are not finite; distill them again.")
        if not self.values.any():
            raise DasError("The synthetic rows are all zero, so there is nothing to learn from; distill them again.")

    def __len__(self) -> int:
        """The number of synthetic users."""
        return len(self.values)

    @property
    def n_items(self) -> int:
        """Size of the item space."""
        return self.values.shape[1]

    def setting(self, model: str, name: str, given: float | None) -> float:
        """A setting of a model: the one given, else the one that was chosen when the rows were made.

        Raises:
            DasError: when there is neither.
        """
        found = self.chosen.get(model, {}).get(name) if given is None else given
        if found is None:
            raise DasError(f"{model}: no {name} was chosen for these synthetic rows; set it (--set {name}=…).")
        return found
