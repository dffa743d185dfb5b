"""What fits on nested samples measured: the points of a learning curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Measured:
    """Fits of one model on nested samples.

    Attributes:
        model: Name of the model.
        shares: float64 [rungs], ascending shares of the train rows.
        quality: float64 [seeds, rungs], in [0, 1].
        resampled: float64 [seeds, rungs, resamples], the same over resampled users, who are the same for all models;
            None if it was not measured.
        cost: float64 [seeds, rungs], CPU-seconds of a fit.
        personal: Whether the model ranks by a user's history; see :class:`~distill_at_scale.models.base.Recommender`.
        users: Mean number of users of the largest rung; None if it is not known.
    """

    model: str
    shares: np.ndarray
    quality: np.ndarray
    resampled: np.ndarray | None
    cost: np.ndarray
    personal: bool = True
    users: float | None = None

    @property
    def n_seeds(self) -> int:
        """Number of seeds."""
        return len(self.quality)

    def of_resampled_users(self) -> np.ndarray:
        """The curves over resampled users, seed by seed: float64 [seeds · resamples, rungs]."""
        if self.resampled is None:
            return np.empty((0, len(self.shares)))
        return np.moveaxis(self.resampled, 2, 1).reshape(-1, len(self.shares))

    @property
    def curves(self) -> np.ndarray:
        """The seeds' curves, and those over resampled users: float64 [curves, rungs]."""
        return np.concatenate([self.quality, self.of_resampled_users()])
