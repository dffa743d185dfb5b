"""EASE: a linear item-item model in closed form; its zero diagonal keeps items from recommending themselves."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field, PositiveFloat

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.evaluation.metric_names import SelectionMetric
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.models.base import ModelConfig, Precision, Recommender
from distill_at_scale.models.ease_dual import MOST_USERS, DualEase, TrainRows, design_matrix
from distill_at_scale.models.linalg import FLOAT32_CONDITION, inverse_in_place
from distill_at_scale.models.saved import expect_shape
from distill_at_scale.models.selection import Progress, Validated, select, validation_metric
from distill_at_scale.models.synthetic_rows import SyntheticRows

# Rows of the Gram matrix computed at a time.
_BLOCK_ITEMS = 512


class EaseConfig(ModelConfig):
    """Settings of EASE."""

    lam: float | None = Field(default=None, gt=0)
    """λ, added to the diagonal of XᵀX; None: selected on validation rows."""
    grid: tuple[PositiveFloat, ...] = Field(default=(50, 100, 200, 400, 800, 1600), min_length=1)
    """Values of λ tried on validation rows; the search continues beyond an edge that is best."""
    metric: SelectionMetric = PRIMARY
    """Validation metric by which λ is selected."""
    dtype: Precision = "auto"
    """Precision of the inverse; auto: float64 where float32 could lose more than three digits."""
    weights: bool = False
    """Whether train rows count by their weights, where a sample has them. Worth it for samples of rows by sensitivity
    (at a tenth of the rows of ml-100k and ml-1m validation ndcg@10 is 3 to 5 % higher), not for samples of users by
    sensitivity_users or density (1 to 3 % lower)."""


class Ease(Recommender):
    """B = argmin ‖X - XB‖² + λ‖B‖² with zero diagonal; scores are X B.

    Source: Steck, "Embarrassingly shallow autoencoders for sparse data" (WWW 2019), equation 8.

    Practical limits: any number of users, but items × items matrices. With the search for λ, 10,000 items take 1.1 GiB
    in float32 (estimated at 1.9 GiB if float64 may be used) and 100,000 items 112 GiB; time grows with the cube of the
    items. On samples with fewer users than half of the items it grows with items × users² only; see
    :mod:`.ease_dual`.
    """

    name: ClassVar[str] = "ease"
    Config: ClassVar[type[ModelConfig]] = EaseConfig
    memory_hint: ClassVar[str] = (
        "choose a model whose memory does not grow with items × items (elsa, als; svd_ae where all rows fit), drop "
        "rare items (--min-item), or use a machine with more memory"
    )
    learns_from_rows: ClassVar[bool] = True
    config: EaseConfig

    @classmethod
    def memory_needed(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> int:
        # Gram matrix; inverse, with a float32 copy if it is float64, else a copy that includes items without train
        # rows; the best solution of the search.
        entry = 4 + (8 if config.dtype == "float32" else 12) + (4 if config.lam is None else 0)
        # Of few users with weights, the rows without them and the product of both.
        entry += 3 if config.weights else 0
        return entry * n_items**2 + 24 * n_rows + 16 * _BLOCK_ITEMS * n_items

    @classmethod
    def fit_work(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> float:
        values = 1 if config.lam is not None else len(config.grid)
        if n_users <= MOST_USERS * n_items:
            # A system of the users for each value, and once the product with their rows.
            return 2.0 * n_items * (values * float(n_users) ** 2 + n_rows)
        return values * float(n_items) ** 3

    @classmethod
    def stored_bytes(cls, n_users: int, n_items: int, config: Any) -> int:
        return 4 * n_items**2

    def _fit(self, train: Interactions, validation: Interactions | None, progress: Progress | None) -> None:
        # An item without train rows has a zero row and column in XᵀX, and hence in B, so only the others are solved
        # for.
        live = np.flatnonzero(train.item_counts() > 0)
        if TrainRows.suit(train, live):
            weights = self._fit_few_users(TrainRows(train, live), train, validation, progress)
            self._item_weights = _spread(weights, live, train.n_items)
            return
        gram = _item_gram(train, live)
        if self.config.lam is not None:
            self._item_weights = _spread(self._solve(gram, self.config.lam), live, train.n_items)
            return
        heldout = self._validation_or_refuse(validation, "lam")

        def try_value(lam: float) -> tuple[Validated, np.ndarray]:
            weights = _spread(self._solve(gram, lam), live, train.n_items)
            metric = self.config.metric
            return validation_metric(lambda h: _linear(h, weights), train, heldout, metric, self.name), weights

        self.selection, self._item_weights = select(
            "lam", self.config.metric, self.config.grid, try_value, progress=progress
        )

    def _fit_few_users(
        self, rows: TrainRows, train: Interactions, validation: Interactions | None, progress: Progress | None
    ) -> np.ndarray:
        """Returns B of the live items, from a users × users matrix."""
        # As for XᵀX, which has the same eigenvalues.
        largest = float(np.abs(rows.kernel).sum(axis=1, dtype=np.float64).max())

        def solved(lam: float) -> DualEase:
            return DualEase(rows, lam, self._wide(largest / lam), self.name)

        if self.config.lam is not None:
            return solved(self.config.lam).weights()
        heldout = self._validation_or_refuse(validation, "lam")

        def try_value(lam: float) -> tuple[Validated, DualEase]:
            one, metric = solved(lam), self.config.metric
            return validation_metric(lambda h: rows.of_users(one.scores, h), train, heldout, metric, self.name), one

        self.selection, best = select("lam", self.config.metric, self.config.grid, try_value, progress=progress)
        return best.weights()

    def _fit_rows(self, rows: SyntheticRows, progress: Progress | None) -> None:
        lam = rows.setting(self.name, "lam", self.config.lam)
        # S replaces X, rescaled so that tr SᵀS = tr XᵀX: λ then has the same meaning as on the full data.
        scale = rows.n_rows / float(np.square(rows.values, dtype=np.float64).sum())
        self._item_weights = self._solve(scale * (rows.values.T @ rows.values), lam)

    def _solve(self, gram: np.ndarray, lam: float) -> np.ndarray:
        """Returns B, float32 [n_items, n_items]."""
        # The largest eigenvalue is at most the largest row sum; λ bounds the smallest from below.
        condition = float(np.abs(gram).sum(axis=1, dtype=np.float64).max()) / lam
        inverse: np.ndarray = gram.astype(np.float64 if self._wide(condition) else np.float32)
        diagonal: np.ndarray = inverse.reshape(-1)[:: len(inverse) + 1]  # a view
        np.add(diagonal, lam, out=diagonal)
        inverse_in_place(inverse, self.name)  # P
        np.divide(inverse, np.negative(diagonal), out=inverse)  # B_ij = -P_ij / P_jj
        diagonal[:] = 0.0
        return inverse.astype(np.float32, copy=False)

    def _wide(self, condition: float) -> bool:
        """Returns whether a matrix needs float64."""
        return self.config.dtype == "float64" or (self.config.dtype == "auto" and condition > FLOAT32_CONDITION)

    def _score(self, histories: Interactions) -> np.ndarray:
        return _linear(histories, self._item_weights)

    def _weights(self) -> dict[str, np.ndarray]:
        return {"item_weights": self._item_weights}

    def _set_weights(self, weights: dict[str, np.ndarray], n_items: int) -> None:
        self._item_weights = expect_shape(weights, "item_weights", (n_items, n_items))


def _item_gram(train: Interactions, live: np.ndarray) -> np.ndarray:
    """Computes XᵀX of the items ``live``, float32 [n, n], exact below 2^24 common users; of rows with weights X̃ᵀX̃."""
    matrix = design_matrix(train)[:, live]
    transposed = matrix.T.tocsr()
    gram = np.empty((len(live), len(live)), dtype=np.float32)
    for start in range(0, len(live), _BLOCK_ITEMS):
        stop = min(start + _BLOCK_ITEMS, len(live))
        gram[start:stop] = (transposed[start:stop] @ matrix).toarray()
    return gram


def _spread(weights: np.ndarray, live: np.ndarray, n_items: int) -> np.ndarray:
    """Expands weights among the items ``live`` to all items, float32 [n_items, n_items]."""
    if len(live) == n_items:
        return weights
    every = np.zeros((n_items, n_items), dtype=np.float32)
    every[np.ix_(live, live)] = weights
    return every


def _linear(histories: Interactions, weights: np.ndarray) -> np.ndarray:
    return histories.to_csr() @ weights
