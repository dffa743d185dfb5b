"""Settings of ALS."""

from __future__ import annotations

from pydantic import Field, PositiveFloat

from distill_at_scale.evaluation.metric_names import SelectionMetric
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.models.base import ModelConfig
from distill_at_scale.models.device import Device


class AlsConfig(ModelConfig):
    """Settings of iALS."""

    dim: int = Field(default=96, ge=1)
    """Width of the vectors."""
    lam: float | None = Field(default=None, gt=0)
    """λ, weight of the regularisation; None: selected on validation rows."""
    grid: tuple[PositiveFloat, ...] = Field(default=(0.0025, 0.005, 0.01, 0.02), min_length=1)
    """Values of λ tried on validation rows; the search continues beyond an edge that is best."""
    metric: SelectionMetric = PRIMARY
    """Validation metric by which λ is selected."""
    unseen: float = Field(default=8.0, gt=0)
    """Weight of all of a user's pairs that are not in the rows, relative to her rows, in the mean over users: α is this
    times the share of all pairs that are in the rows, and 1 at most."""
    alpha: float | None = Field(default=None, gt=0)
    """α, weight of a pair that is not in the rows, relative to one that is; None: by ``unseen``."""
    exponent: float = Field(default=1.0, ge=0)
    """ν, exponent of the frequency by which λ is scaled: λ (n + α N)^ν for a user or item with n of N rows."""
    epochs: int = Field(default=2, ge=1)
    """Passes, each a half step of all users and one of all items."""
    block: int | None = Field(default=None, ge=1)
    """Dimensions of the item vectors that are solved at once, by a pass over the rows for each block; a small block
    needs less memory. Default: as many as fit into 1 GiB, but at least 16."""
    weights: bool = False
    """Whether train rows count by their weights, where a sample has them. At a tenth of the rows of ml-100k it makes no
    difference beyond chance."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the SVD from which the item vectors start."""
    device: Device = "auto"
    """Device for training; scoring uses a GPU if available, unless this is cpu."""
