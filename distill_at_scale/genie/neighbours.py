"""Nearest training datasets of a dataset, and the test whether it lies outside the training distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distill_at_scale.genie.features import feature_vector
from distill_at_scale.genie.table import Scaler

# A dataset is outside if its nearest distance exceeds the largest one among training datasets by this factor.
_MARGIN = 1.5
# Names of the features that are logarithms of counts; messages show the counts.
_COUNTS = {
    "log_rows": "train rows",
    "log_users": "users",
    "log_items": "items",
    "log_user_mean": "rows a user",
    "log_item_mean": "rows an item",
}


@dataclass(frozen=True)
class Neighbours:
    """The training datasets as points of standardised features; distances are root mean squares over features.

    Attributes:
        names: Names of the features.
        fingerprints: Fingerprints of the datasets.
        points: float64 [datasets, features], not standardised.
        scaler: Scaler of the points.
        limit: Largest distance to the nearest training dataset at which a dataset still counts as similar.
    """

    names: tuple[str, ...]
    fingerprints: tuple[str, ...]
    points: np.ndarray
    scaler: Scaler
    limit: float

    @classmethod
    def fit(cls, features: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> Neighbours:
        """Builds the index from the training datasets' features by fingerprint."""
        points = np.stack([feature_vector(one, names) for one in features.values()])
        scaler = Scaler.fit(points)
        scaled = (points - scaler.mean) / scaler.deviation
        between = np.sqrt(((scaled[:, None] - scaled[None]) ** 2).mean(2))
        np.fill_diagonal(between, np.inf)
        nearest = between.min(1)
        limit = _MARGIN * float(nearest[np.isfinite(nearest)].max(initial=0.0))
        return cls(tuple(names), tuple(features), points, scaler, limit)

    def nearest(self, features: Mapping[str, float], k: int = 3) -> list[tuple[str, float]]:
        """Returns fingerprint and distance of the ``k`` nearest training datasets, the nearest first."""
        point = (feature_vector(features, self.names) - self.scaler.mean) / self.scaler.deviation
        distance = np.sqrt((((self.points - self.scaler.mean) / self.scaler.deviation - point) ** 2).mean(1))
        return [(self.fingerprints[i], float(distance[i])) for i in np.argsort(distance, kind="stable")[:k]]

    def outside(self, features: Mapping[str, float]) -> str | None:
        """Returns a warning that names the most unusual features if no training dataset is similar; None otherwise."""
        if self.nearest(features, 1)[0][1] <= self.limit:
            return None
        point = feature_vector(features, self.names)
        low, high = self.scaler.low, self.scaler.high
        beyond = np.maximum(np.maximum(low - point, point - high), 0) / self.scaler.deviation
        shown = [k for k in np.argsort(-beyond, kind="stable") if beyond[k] > 0][:3]
        parts = [self._told(k, point[k]) for k in shown]
        what = f" ({'; '.join(parts)})" if parts else ""
        return (
            f"these data are far outside what Data-Genie was trained on{what}: its intervals do not hold here; "
            "das sweep measures on the data themselves."
        )

    def _told(self, k: int, value: float) -> str:
        name, low, high = self.names[k], self.scaler.low[k], self.scaler.high[k]
        if name in _COUNTS:
            return f"{np.exp(value):,.0f} {_COUNTS[name]}, trained on {np.exp(low):,.0f} to {np.exp(high):,.0f}"
        return f"{name} {value:.3g}, trained on {low:.3g} to {high:.3g}"
