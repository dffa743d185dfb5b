"""Gradient-boosted regression trees for small tables: squared error, histograms, complete trees of one depth.

Source: Friedman, "Greedy function approximation: a gradient boosting machine" (2001), with the regularised gain and the
histograms of Chen, Guestrin, "XGBoost" (KDD 2016).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from distill_at_scale.data import hashing
from distill_at_scale.genie.table import Table


class TreesConfig(BaseModel):
    """Settings of boosted trees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trees: int = Field(default=150, ge=1)
    depth: int = Field(default=4, ge=1, le=10)
    rate: float = Field(default=0.06, gt=0, le=1)
    """Shrinkage of every tree."""
    bins: int = Field(default=32, ge=2, le=255)
    """Number of histogram bins per column, bounded by quantiles of the training rows."""
    penalty: float = Field(default=5.0, ge=0)
    """λ added to the number of rows of a leaf, in its value and in the gain."""
    columns: float = Field(default=0.5, gt=0, le=1)
    """Share of the columns that a tree may split on."""
    rows: float = Field(default=0.7, gt=0, le=1)
    """Share of the rows that a tree is grown on."""
    seed: int = 0


class Trees:
    """Boosted trees; node k of a tree has the children 2k + 1 (value ≤ threshold) and 2k + 2.

    The method enters as one-hot columns beside the features.
    """

    def __init__(self, config: TreesConfig | None = None) -> None:
        self.config = config or TreesConfig()
        self._column = np.zeros((0, 0), dtype=np.int64)
        self._threshold = np.zeros((0, 0))
        self._value = np.zeros((0, 0))
        self._base = np.zeros(1)

    def fit(self, table: Table, y: np.ndarray) -> None:
        """Fits to targets float64 [n]."""
        config, x = self.config, _inputs(table)
        rng = np.random.default_rng(hashing.stream("genie/trees", config.seed))
        edges = [np.unique(np.quantile(column, np.linspace(0, 1, config.bins + 1)[1:-1])) for column in x.T]
        # A row's code is the number of edges below its value: value ≤ edge k if and only if code ≤ k.
        codes = np.stack([np.searchsorted(edge, column) for edge, column in zip(edges, x.T)], axis=1)
        n, p = codes.shape
        inner, leaves = 2**config.depth - 1, 2**config.depth
        self._column = np.zeros((config.trees, inner), dtype=np.int64)
        self._threshold = np.full((config.trees, inner), np.inf)
        self._value = np.zeros((config.trees, leaves))
        self._base = np.array([y.mean()])
        residual = y - self._base[0]
        for tree in range(config.trees):
            chosen = np.sort(rng.choice(n, max(1, round(config.rows * n)), replace=False))
            columns = np.sort(rng.choice(p, max(1, round(config.columns * p)), replace=False))
            self._grow(tree, codes[chosen][:, columns], residual[chosen], columns, edges)
            residual = residual - self._value[tree][self._leaves(tree, x)]

    def _grow(
        self, tree: int, codes: np.ndarray, residual: np.ndarray, columns: np.ndarray, edges: list[np.ndarray]
    ) -> None:
        """Grows one tree level by level; one histogram of rows and residuals serves all nodes of a level."""
        config = self.config
        n, p = codes.shape
        bins = config.bins
        node = np.zeros(n, dtype=np.int64)
        for level in range(config.depth):
            nodes = 2**level
            place = ((node[:, None] * p + np.arange(p)) * bins + codes).ravel()
            counts = np.bincount(place, minlength=nodes * p * bins).reshape(nodes, p, bins).astype(np.float64)
            sums = np.bincount(place, np.repeat(residual, p), nodes * p * bins).reshape(nodes, p, bins)
            left_n, left = counts.cumsum(2), sums.cumsum(2)
            all_n, total = left_n[..., -1:], left[..., -1:]
            gain = _score(left, left_n, config.penalty) + _score(total - left, all_n - left_n, config.penalty)
            gain = np.where((left_n > 0) & (left_n < all_n), gain - _score(total, all_n, config.penalty), 0.0)
            best = gain.reshape(nodes, -1).argmax(1)
            column, edge = best // bins, best % bins
            split = gain.reshape(nodes, -1)[np.arange(nodes), best] > 1e-12
            for k in np.flatnonzero(split):
                self._column[tree, nodes - 1 + k] = columns[column[k]]
                self._threshold[tree, nodes - 1 + k] = edges[columns[column[k]]][edge[k]]
            # A node that is not split sends all its rows to the left.
            right = split[node] & (codes[np.arange(n), column[node]] > edge[node])
            node = 2 * node + right
        rows = np.bincount(node, minlength=2**config.depth)
        value = np.bincount(node, residual, 2**config.depth) / np.maximum(rows + config.penalty, 1e-12)
        self._value[tree] = config.rate * value

    def _leaves(self, tree: int, x: np.ndarray) -> np.ndarray:
        node = np.zeros(len(x), dtype=np.int64)
        # The depth of the stored trees, which may have been grown with another setting.
        for _ in range(self._value.shape[1].bit_length() - 1):
            right = x[np.arange(len(x)), self._column[tree, node]] > self._threshold[tree, node]
            node = 2 * node + 1 + right
        return node - self._column.shape[1]

    def predict(self, table: Table) -> np.ndarray:
        """float64 [n]."""
        x = _inputs(table)
        return self._base[0] + sum(self._value[tree][self._leaves(tree, x)] for tree in range(len(self._value)))

    def arrays(self) -> dict[str, np.ndarray]:
        """For saving."""
        return {"column": self._column, "threshold": self._threshold, "value": self._value, "base": self._base}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """What was saved."""
        self._column, self._threshold = arrays["column"], arrays["threshold"]
        self._value, self._base = arrays["value"], arrays["base"]


def _inputs(table: Table) -> np.ndarray:
    return np.column_stack([table.x, table.one_hot])


def _score(total: np.ndarray, count: np.ndarray, penalty: float) -> np.ndarray:
    """Returns the reduction of the squared error by a leaf, up to a constant: total² / (count + λ)."""
    return total**2 / np.maximum(count + penalty, 1e-12)
