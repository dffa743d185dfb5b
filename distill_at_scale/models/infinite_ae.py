"""∞-AE: an autoencoder of infinite width, equivalent to kernel ridge regression with a neural tangent kernel."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, PositiveFloat

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation.item_blocks import BlockScores
from distill_at_scale.evaluation.metric_names import SelectionMetric
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.models.base import ModelConfig, Precision, Recommender
from distill_at_scale.models.device import Device, resolve_device
from distill_at_scale.models.kernel.krr import KernelRidge
from distill_at_scale.models.kernel.landmarks import draw_landmarks, leverage_weights
from distill_at_scale.models.kernel.ntk import FactoredUsers, SyntheticUsers, TrainUsers, ntk_diagonal
from distill_at_scale.models.kernel.nystrom import fit_nystrom
from distill_at_scale.models.kernel.pcg import Sharing
from distill_at_scale.models.kernel.pcg_fit import PcgFit, PcgSettings, Shelf
from distill_at_scale.models.kernel.solvers import (
    NYSTROM_LANDMARKS,
    PCG_LANDMARKS,
    Size,
    Solver,
    choose_solver,
    measure_speed,
    memory,
)
from distill_at_scale.models.linalg import FLOAT32_CONDITION
from distill_at_scale.models.memory import available_memory
from distill_at_scale.models.saved import expect_shape
from distill_at_scale.models.selection import Progress, Selection, Validated, select, validation_metric
from distill_at_scale.models.synthetic_rows import FactoredRows, SyntheticRows
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.sources import MemorySource, Source, filled

DRAWS = ("uniform", "leverage")
"""Methods of drawing landmarks, unless they are given."""


class InfiniteAEConfig(ModelConfig):
    """Settings of ∞-AE."""

    lam: float | None = Field(default=None, gt=0)
    """λ > 0, relative to the kernel's mean diagonal; None: selected on validation rows."""
    grid: tuple[PositiveFloat, ...] = Field(default=(1, 2, 5, 10, 20, 50, 100), min_length=1)
    """Values of λ tried on validation rows; the search continues beyond an edge that is best."""
    metric: SelectionMetric = PRIMARY
    """Validation metric by which λ is selected. The reference implementation uses hr@100."""
    dtype: Precision = "auto"
    """Precision of kernel and solve; auto: float64 where float32 could lose more than three digits."""
    device: Device = "auto"
    """Device for kernel and solve of the exact solver; auto: a GPU if available."""
    solver: Solver = "auto"
    """Solver: exact (users × users in memory), pcg (the same answer with less memory and more time), nystrom (an
    approximation by landmarks), or auto, which chooses by users, items, memory and workers."""
    landmarks: int | None = Field(default=None, ge=1)
    """Number of landmark users for nystrom, or for the preconditioner of pcg, at most all users with rows; None: 2,000
    for nystrom, 500 for pcg."""
    draw: str = "uniform"
    """Method of drawing landmarks: uniform, or leverage (by approximate ridge leverage scores); or the URI of a
    synthetic dataset, whose rows become the landmarks (nystrom)."""
    tolerance: float = Field(default=1e-5, gt=0, lt=1)
    """Relative residual at which pcg stops."""
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    """Random seed of the landmarks."""


class InfiniteAE(Recommender):
    """P = K(histories, train) (K(train, train) + λ' I)^-1 X with λ' = λ · mean diagonal of K.

    Source: Sachdeva, Dhaliwal, Wu, McAuley, "Infinite recommendation networks: a data-centric approach"
    (NeurIPS 2022), equation 2. New users need no new fit: their history is compared with the train users'. Users
    without train rows are excluded; their all-zero rows would bias predictions towards zero (on samples of whole users
    of ml-1m, ndcg@10 0.20 instead of 0.28).

    Practical limits of the exact solver: kernel and factor are users × users, the solution users × items. 6,040
    users × 3,706 items take 0.6 GiB and a minute on one core with the grid; 40,000 users × 20,000 items take 21 GiB and
    hours. The flops are U³/3 + 2 U² I per λ. The other solvers distribute the users over workers; see :mod:`.solvers`.

    After a fit by nystrom, the "train users" that histories are compared with are the landmarks, and α is W.
    """

    name: ClassVar[str] = "infinite_ae"
    solvers: ClassVar[tuple[str, ...]] = ("exact", "nystrom", "pcg")
    Config: ClassVar[type[ModelConfig]] = InfiniteAEConfig
    by_blocks: ClassVar[bool] = True
    memory_hint: ClassVar[str] = (
        "fit it on a sample of the users, or choose a model whose memory does not grow with users × users "
        "(ease, svd_ae, popularity)"
    )
    learns_from_rows: ClassVar[bool] = True
    config: InfiniteAEConfig
    _users: TrainUsers | SyntheticUsers

    @classmethod
    def size(cls, n_users: int, n_items: int, n_rows: int, config: Any, workers: int = 1) -> Size:
        """Returns the quantities that determine the solvers' costs."""
        lams = config.grid if config.lam is None else (config.lam,)
        itemsize = 4 if all(_dtype(config, n_users, lam) == torch.float32 for lam in lams) else 8
        return Size(n_users, n_items, n_rows, len(lams), config.landmarks, itemsize, workers)

    @classmethod
    def stored_bytes(cls, n_users: int, n_items: int, config: Any) -> int:
        return 4 * n_items * (config.landmarks or n_users)

    @classmethod
    def memory_needed(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> int:
        size = cls.size(n_users, n_items, n_rows, config)
        possible = ("exact", "pcg", "nystrom") if config.solver == "auto" else (config.solver,)
        return min(memory(solver, size) for solver in possible)

    def _fit(self, train: Interactions, validation: Interactions | None, progress: Progress | None) -> None:
        train, validation = filled(train, validation)
        solver = self.config.solver
        if solver == "auto":
            size, free = self.size(len(train), train.n_items, train.n_rows, self.config), available_memory()
            solver = "exact"
            if memory(solver, size) > free:
                solver = choose_solver(size, free, free, measure_speed(train.n_items, train.n_rows / len(train))).solver
        if solver == "exact":
            self._fit_exact(train, validation, progress)
            return
        source = MemorySource(train, validation)
        if solver == "nystrom":
            self.selection, self._alpha = self.fit_nystrom(source, Communicator(), progress)
            return
        shelf = Shelf()
        self.selection, names = self.fit_pcg([train], source, Sharing(), shelf, progress)
        self._users = TrainUsers(train)
        self._set_alpha(np.hstack([shelf.rows(name, 0, len(train)) for name in names]))

    def fit_nystrom(
        self,
        source: Source,
        communicator: Communicator,
        progress: Progress | None = None,
        given: np.ndarray | None = None,
    ) -> tuple[Selection | None, np.ndarray]:
        """Runs a worker's part of a fit by landmarks, which the model keeps; see :func:`~.nystrom.fit_nystrom`.

        Args:
            source: The worker's rows.
            communicator: Communicator of the worker group.
            progress: Function called with the share done and the step.
            given: float32 [M, n_items], given landmarks instead of drawn ones: rows of synthetic users.

        Returns:
            The selection of λ; W [M, n_items].
        """
        self._refuse_without_validation(source, communicator)
        self._users = self._draw(source, communicator, NYSTROM_LANDMARKS) if given is None else SyntheticUsers(given)
        dtype = np.float64 if self.config.dtype == "float64" else np.float32
        return fit_nystrom(source, self._users, self._lams, self.config.metric, dtype, communicator, progress)

    def fit_pcg(
        self,
        everyone: list[Interactions],
        source: Source,
        communicator: Sharing,
        shelf: Shelf,
        progress: Progress | None = None,
        every: int = 1,
    ) -> tuple[Selection | None, list[str]]:
        """Runs a worker's part of a fit by conjugate gradients; see :class:`~.pcg_fit.PcgFit`.

        Args:
            everyone: Train rows of every worker's users, by rank.
            source: Rows of this worker's users, in the same pieces of train and validation rows as in ``everyone``.
            communicator: Communicator of the worker group.
            shelf: Storage of the parts of α.
            progress: Function called with the share done and the step.
            every: Iterations between checkpoints.

        Returns:
            The selection of λ; the names of the parts of α on the shelf.
        """
        self._refuse_without_validation(source, communicator)
        n_users = sum(map(len, everyone))
        size = self.size(
            n_users, source.n_items, sum(rows.n_rows for rows in everyone), self.config, communicator.world_size
        )
        dtype = np.float32 if size.itemsize == 4 else np.float64
        heldout = [source.validation(piece) for piece in range(source.n_pieces)]
        fit = PcgFit(
            everyone,
            Interactions.concatenate([rows for rows in heldout if rows is not None], source.n_items, items_only=True)
            if None not in heldout
            else None,
            self._draw(source, communicator, PCG_LANDMARKS),
            dtype,
            PcgSettings(self.config.tolerance, size.chunk, every),
            communicator,
            shelf,
            progress,
        )
        selection, lam = fit.fit(self._lams, self.config.metric, self._lowest(n_users))
        return selection, fit.part_names(lam)

    def adopt(
        self,
        alpha: np.ndarray,
        selection: Selection | None,
        n_items: int,
        item_space: str | None,
        users: TrainUsers | None = None,
    ) -> None:
        """Takes over the result of a fit that several workers shared.

        Args:
            alpha: [U, n_items], or W of the model's landmarks.
            selection: The selection of λ.
            n_items: Number of items.
            item_space: Fingerprint of the item numbering.
            users: Users that α belongs to, unless they are those landmarks.
        """
        if users is not None:
            self._users = users
        self._set_alpha(alpha)
        self.selection, self.n_items, self.item_space = selection, n_items, item_space

    @property
    def _lams(self) -> tuple[float, ...]:
        return self.config.grid if self.config.lam is None else (self.config.lam,)

    def _lowest(self, n_users: int) -> float:
        """Returns the lower bound of λ beyond the grid: no value may need float64, since memory was not checked for
        it."""
        lowest = n_users / FLOAT32_CONDITION
        return lowest if self.config.dtype == "auto" and min(self.config.grid) > lowest else 0.0

    def _refuse_without_validation(self, source: Source, communicator: Communicator) -> None:
        if self.config.lam is None:
            rows_of_pieces = (source.validation(piece) for piece in range(source.n_pieces))
            n_rows = torch.tensor([sum(rows.n_rows for rows in rows_of_pieces if rows is not None)])
            communicator.all_reduce(n_rows)
            if not n_rows.item():
                self._validation_or_refuse(None, "lam")

    def _draw(self, source: Source, communicator: Communicator, most: int) -> TrainUsers:
        """Draws the requested number of landmarks, or ``most``, at most all users with rows."""
        n, seed = self.config.landmarks or most, self.config.seed
        if self.config.draw not in DRAWS:
            raise DasError(
                f"infinite_ae: landmarks cannot be drawn by '{self.config.draw}' here; set draw to uniform or leverage."
            )
        weights = None
        if self.config.draw == "leverage":
            weights = leverage_weights(source, sorted(self._lams)[len(self._lams) // 2], n, seed, communicator)
        return TrainUsers(draw_landmarks(source, n, seed, communicator, weights))

    def _fit_exact(self, train: Interactions, validation: Interactions | None, progress: Progress | None) -> None:
        users = TrainUsers(train)
        self._users = users
        mean_diagonal = float(ntk_diagonal(users.norms, train.n_items).mean())
        device = resolve_device(self.config.device)
        if self.config.lam is not None:
            lam = self.config.lam
            ridge = self._ridge(users, _dtype(self.config, len(users), lam), device)
            self._set_alpha(ridge.solve(lam * mean_diagonal))
            return
        heldout = self._validation_or_refuse(validation, "lam")
        ridges: dict[torch.dtype, KernelRidge] = {}

        def try_value(lam: float) -> tuple[Validated, np.ndarray]:
            dtype = _dtype(self.config, len(users), lam)
            if dtype not in ridges:
                ridges.clear()
                ridges[dtype] = self._ridge(users, dtype, device)
            alpha = ridges[dtype].solve(lam * mean_diagonal)
            reconstruct = _Reconstruction(users, train.users, alpha, lam * mean_diagonal)
            return validation_metric(reconstruct, train, heldout, self.config.metric, self.name), alpha

        if progress:
            progress(0.0, "kernel")
        bounds = (self._lowest(len(users)), math.inf)
        self.selection, alpha = select(
            "lam", self.config.metric, self.config.grid, try_value, bounds=bounds, progress=progress
        )
        ridges.clear()
        self._set_alpha(alpha)

    def _fit_rows(self, rows: SyntheticRows, progress: Progress | None) -> None:
        factors = rows.factors
        self._users = users = SyntheticUsers(rows.values) if factors is None else FactoredUsers(factors)
        shift = rows.setting(self.name, "lam", self.config.lam) * float(ntk_diagonal(users.norms, rows.n_items).mean())
        # float64 unless set otherwise: these few users cost little, and similar rows are ill-conditioned.
        dtype = torch.float32 if self.config.dtype == "float32" else torch.float64
        kernel = users.kernel(dtype, resolve_device(self.config.device))
        # α is (K + λ' I)^-1 S; of factored rows (K + λ' I)^-1 Z is kept, and scores are (K α) Vᵀ.
        targets = rows.values if factors is None else factors.z
        self._set_alpha(KernelRidge(kernel, targets, self.name).solve(shift).astype(np.float32))

    @classmethod
    def rows_memory(cls, rows: SyntheticRows, config: Any) -> int:
        if rows.factors is None:
            return super().rows_memory(rows, config)
        return 4 * (rows.factors.v.size + 4 * rows.factors.z.size) + 4 * 8 * len(rows) ** 2

    def _ridge(self, users: TrainUsers, dtype: torch.dtype, device: torch.device) -> KernelRidge:
        return KernelRidge(users.kernel(dtype, device), users.matrix, self.name)

    def _set_alpha(self, alpha: np.ndarray) -> None:
        if not np.isfinite(alpha).all():
            raise DasError(f"{self.name}: the solution is not finite; use a larger lam, or dtype=float64.")
        self._alpha = np.ascontiguousarray(alpha)

    def _score(self, histories: Interactions) -> np.ndarray:
        return self._block_scores(histories)(0, histories.n_items)

    def _block_scores(self, histories: Interactions) -> BlockScores:
        device = resolve_device(self.config.device)
        alpha = torch.from_numpy(self._alpha)
        kernel = self._users.kernel_with(histories.to_csr(), alpha.dtype, device)
        if isinstance(self._users, FactoredUsers):
            v, coordinates = self._users.factors.v, kernel.cpu().numpy() @ self._alpha
            return lambda first, last: coordinates @ v[first:last].T
        if device.type == "cpu":
            return lambda first, last: kernel.numpy() @ self._alpha[:, first:last]
        return lambda first, last: (kernel @ alpha[:, first:last].to(device)).cpu().numpy()

    def _weights(self) -> dict[str, np.ndarray]:
        if isinstance(self._users, FactoredUsers):
            factors = self._users.factors
            return {"alpha": self._alpha, "rows_z": factors.z, "rows_v": factors.v}
        if isinstance(self._users, SyntheticUsers):
            return {"alpha": self._alpha, "rows": self._users.rows}
        return {
            "alpha": self._alpha,
            "train_items": self._users.matrix.indices.astype(np.int32),
            "train_offsets": self._users.matrix.indptr.astype(np.int64),
        }

    def _set_weights(self, weights: dict[str, np.ndarray], n_items: int) -> None:
        if "rows_v" in weights:
            v = expect_shape(weights, "rows_v", (n_items, None))
            z = expect_shape(weights, "rows_z", (None, v.shape[1]))
            self._alpha = expect_shape(weights, "alpha", z.shape)
            self._users = FactoredUsers(FactoredRows(z, v))
            return
        self._alpha = expect_shape(weights, "alpha", (None, n_items))
        if "rows" in weights:
            self._users = SyntheticUsers(expect_shape(weights, "rows", self._alpha.shape))
            return
        items = expect_shape(weights, "train_items", (None,))
        offsets = expect_shape(weights, "train_offsets", (len(self._alpha) + 1,))
        if offsets[0] != 0 or offsets[-1] != len(items) or (np.diff(offsets) < 0).any():
            raise ValueError("weight 'train_offsets' does not divide 'train_items'")
        if len(items) and not 0 <= items.min() <= items.max() < n_items:
            raise ValueError("weight 'train_items' names items that do not exist")
        self._users = TrainUsers(Interactions(np.arange(len(self._alpha)), offsets, items, n_items))


class _Reconstruction:
    """Scores of train users from α alone: P = K α = X - λ' α."""

    def __init__(self, users: TrainUsers, numbers: np.ndarray, alpha: np.ndarray, shift: float) -> None:
        """``numbers``, int64 [U], are the ascending user numbers of ``users``."""
        self._users, self._numbers, self._alpha, self._shift = users, numbers, alpha, shift

    def __call__(self, histories: Interactions) -> np.ndarray:
        rows = np.searchsorted(self._numbers, histories.users)
        scores = self._users.matrix[rows].toarray()
        scores -= self._shift * self._alpha[rows]
        return scores


def _dtype(config: InfiniteAEConfig, n_users: int, lam: float) -> torch.dtype:
    if config.dtype != "auto":
        return torch.float32 if config.dtype == "float32" else torch.float64
    # The trace bounds the largest eigenvalue: condition ≤ U · mean diagonal / λ' = U / λ.
    return torch.float64 if n_users / lam > FLOAT32_CONDITION else torch.float32
