"""iALS: implicit alternating least squares, in closed form, with users folded in when they are scored."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.evaluation.item_blocks import BlockScorer, BlockScores
from distill_at_scale.evaluation.metrics import inverse_propensities
from distill_at_scale.models.als_config import AlsConfig
from distill_at_scale.models.base import ModelConfig
from distill_at_scale.models.saved import expect_shape
from distill_at_scale.models.selection import Progress, Validated, evaluator_of, select
from distill_at_scale.models.training.alternating import FEW, AlternatingFit, block_size, holds_all, ridge_of
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.least_squares import solve_users
from distill_at_scale.models.training.sources import Source, most_rows
from distill_at_scale.models.training.streamed import NotResumable, Resumable, StreamedRecommender
from distill_at_scale.models.training.validation import JudgedUsers, merged_metric


class Als(StreamedRecommender):
    """Minimises Σ_(u,i) in rows (p_u·q_i − 1)² + α Σ_all (p_u·q_i)² + λ (Σ_u #u^ν ‖p_u‖² + Σ_i #i^ν ‖q_i‖²).

    #u = n_u + α · items and #i = n_i + α · users are frequencies. α follows from the setting ``unseen``: with one α for
    all logs, the other pairs would outweigh the rows where these are few. Scores are p_u·q_i, where p_u is the optimum
    for the user's history: users have no stored vectors, so new ones are served as known ones are. A half step solves
    every user exactly; item vectors are solved exactly, or by blocks of dimensions one after another (``block``). They
    start from a truncated SVD of the rows, from which two or three passes do what takes ten from random vectors.

    With the setting ``weights`` a row counts as its weight says, relative to their mean, in the first sum and in the
    frequencies: twice its weight is the row twice. If all rows of each user have one weight, as in samples of users, it
    is the whole user who counts: twice the weight is a second user with the same rows.

    Source: Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets" (ICDM 2008); the frequencies
    are those of Rendle, Krichene, Zhang, Koren, "Revisiting the performance of iALS on item recommendation benchmarks"
    (RecSys 2022), equations 3 and 4; the blocks those of Rendle, Krichene, Zhang, Koren, "iALS++: speeding up matrix
    factorization with subspace optimization" (2021).

    Practical limits: any number of users, and as many items as memory holds vectors for: 10 million items of 128
    numbers take about 16 GiB, with blocks of 16. Rows are streamed; workers exchange the items' sums.
    """

    name: ClassVar[str] = "als"
    Config: ClassVar[type[ModelConfig]] = AlsConfig
    memory_hint: ClassVar[str] = (
        "set a smaller dim or block, drop rare items (--min-item), or use a machine with more memory"
    )
    by_blocks: ClassVar[bool] = True
    config: AlsConfig

    @classmethod
    def fit_work(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> float:
        # Sums of outer products, and a system of equations for each user and item.
        one = 2.0 * n_rows * config.dim**2 + (n_users + n_items) * config.dim**3 / 3
        return one * config.epochs * (1 if config.lam is not None else len(config.grid))

    @classmethod
    def stored_bytes(cls, n_users: int, n_items: int, config: Any) -> int:
        return 4 * n_items * config.dim

    @classmethod
    def memory_needed(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> int:
        block = block_size(config, n_items)
        # Item vectors, the sums that they start from, and the best ones of the search.
        vectors = (2 if config.lam is not None else 3) * n_items * config.dim
        sums = 0 if holds_all(config, n_users, n_rows) else n_items * (block * (block + 3) // 2)
        users = min(n_users, n_rows) * config.dim
        return 4 * (vectors + sums + users) + (56 if config.weights else 40) * n_rows + (64 << 20)

    @classmethod
    def rows_held(cls, dataset: Dataset, workers: int = 1, config: Any = None) -> int:
        settings: Any = cls.Config() if config is None else config
        if workers == 1 and holds_all(settings, dataset.n_users, dataset.n_rows):
            return dataset.n_rows
        # Else a piece of few rows would be taken for a log that is held at once.
        least = FEW + 1 - dataset.n_users * settings.dim if settings.block is None else 0
        return max(most_rows(dataset, workers), least)

    def fit_source(
        self,
        source: Source,
        communicator: Communicator,
        device: torch.device,
        progress: Progress | None = None,
        resumable: Resumable | None = None,
    ) -> None:
        fit = AlternatingFit(self.config, source, communicator, device, resumable or NotResumable())
        if self.config.lam is not None:
            self._keep(fit.item_vectors(self.config.lam, progress), self.config.lam, fit.alpha)
            return
        self._validation_or_refuse(source.validation(0), "lam")
        weights = inverse_propensities(fit.item_counts, int(fit.item_counts.sum()))
        judged = JudgedUsers(source, communicator, device)

        def try_value(lam: float) -> tuple[Validated, torch.Tensor]:
            items = fit.item_vectors(lam)
            self._keep(items, lam, fit.alpha)
            evaluator = evaluator_of(self.config.metric, weights, self.name)
            judged.add_to(evaluator, BlockScorer(self._block_scores))
            return merged_metric(evaluator, self.config.metric, communicator, device), items

        self.selection, items = select("lam", self.config.metric, self.config.grid, try_value, progress=progress)
        self._keep(items, self.selection.chosen, fit.alpha)

    def _keep(self, items: torch.Tensor, lam: float, alpha: float) -> None:
        """Takes item vectors [n_items + 1, d], in a basis in which QᵀQ is diagonal; the last row is 0."""
        self._items, self._lam, self._alpha = items, lam, alpha
        self._squares = alpha * items.square().sum(dim=0)

    def _score(self, histories: Interactions) -> np.ndarray:
        return self._block_scores(histories)(0, histories.n_items)

    def _block_scores(self, histories: Interactions) -> BlockScores:
        device = torch.device("cuda" if self.config.device != "cpu" and torch.cuda.is_available() else "cpu")
        self._items, self._squares = self._items.to(device), self._squares.to(device)
        matrix = histories.to_csr()
        ridge = ridge_of(self.config, self._alpha, self._lam, np.diff(matrix.indptr), histories.n_items, device)
        users = solve_users(matrix.indptr.astype(np.int64), matrix.indices, self._items, self._squares, ridge)
        return lambda first, last: (users @ self._items[first:last].T).cpu().numpy()

    def _weights(self) -> dict[str, np.ndarray]:
        return {"items": self._items[:-1].cpu().numpy(), "lam": np.array([self._lam]), "alpha": np.array([self._alpha])}

    def _set_weights(self, weights: dict[str, np.ndarray], n_items: int) -> None:
        vectors = expect_shape(weights, "items", (n_items, self.config.dim))
        items = torch.zeros(n_items + 1, self.config.dim)
        items[:-1] = torch.from_numpy(vectors)
        given = self.config.alpha
        # Models saved before α could follow from the rows have it among their settings alone.
        alpha = float(expect_shape(weights, "alpha", (1,))[0]) if given is None else given
        self._keep(items, float(expect_shape(weights, "lam", (1,))[0]), alpha)
