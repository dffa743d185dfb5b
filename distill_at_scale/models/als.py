"""iALS: implicit alternating least squares, in closed form, with users folded in when they are scored."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field, PositiveFloat

from distill_at_scale.data import hashing
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation.metric_names import SelectionMetric
from distill_at_scale.evaluation.metrics import inverse_propensities
from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.models.base import ModelConfig
from distill_at_scale.models.device import Device
from distill_at_scale.models.saved import expect_shape
from distill_at_scale.models.selection import Progress, Validated, evaluator_of, select
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.least_squares import add_item_sums, solve_items, solve_users
from distill_at_scale.models.training.sources import Source
from distill_at_scale.models.training.streamed import NotResumable, Resumable, StreamedRecommender
from distill_at_scale.models.training.validation import merged_metric

# The sums of the items' half step hold this many numbers if the block is not set, but a block has at least 16.
_SUMS = 1 << 28
_LEAST_BLOCK = 16
# Subspace iterations of the SVD that the half steps start from.
_SVD_PASSES = 3
# Vectors rotated at once.
_AT_ONCE = 1 << 14


class AlsConfig(ModelConfig):
    """Settings of iALS."""

    dim: int = Field(default=128, ge=1)
    """Width of the vectors."""
    lam: float | None = Field(default=None, gt=0)
    """λ, weight of the regularisation; None: selected on validation rows."""
    grid: tuple[PositiveFloat, ...] = Field(default=(0.0025, 0.005, 0.01, 0.02), min_length=1)
    """Values of λ tried on validation rows; the search continues beyond an edge that is best."""
    metric: SelectionMetric = PRIMARY
    """Validation metric by which λ is selected."""
    alpha: float = Field(default=0.3, gt=0)
    """α, weight of a pair that is not in the rows, relative to one that is."""
    exponent: float = Field(default=1.0, ge=0)
    """ν, exponent of the frequency by which λ is scaled: λ (n + α N)^ν for a user or item with n of N rows."""
    epochs: int = Field(default=2, ge=1)
    """Passes, each a half step of all users and one of all items."""
    block: int | None = Field(default=None, ge=1)
    """Dimensions of the item vectors that are solved at once, by a pass over the rows for each block; a small block
    needs less memory. Default: as many as fit into 1 GiB, but at least 16."""
    seed: int = Field(default=0, ge=0)
    """Random seed of the SVD from which the item vectors start."""
    device: Device = "auto"
    """Device for training; scoring uses a GPU if available, unless this is cpu."""


class Als(StreamedRecommender):
    """Minimises Σ_(u,i) in rows (p_u·q_i − 1)² + α Σ_all (p_u·q_i)² + λ (Σ_u #u^ν ‖p_u‖² + Σ_i #i^ν ‖q_i‖²).

    #u = n_u + α · items and #i = n_i + α · users are frequencies. Scores are p_u·q_i, where p_u is the optimum for the
    user's history: users have no stored vectors, so new ones are served as known ones are. A half step solves every
    user exactly; item vectors are solved exactly, or by blocks of dimensions one after another (``block``). They start
    from a truncated SVD of the rows, from which two or three passes do what takes ten from random vectors.

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
    config: AlsConfig

    @classmethod
    def memory_needed(cls, n_users: int, n_items: int, n_rows: int, config: Any) -> int:
        block = _block(config, n_items)
        # Item vectors, a copy while they are saved, and the best ones of the search.
        vectors = (2 if config.lam is not None else 3) * n_items * config.dim
        sums = n_items * (block * (block + 3) // 2)
        users = min(n_users, n_rows) * config.dim
        return 4 * (vectors + sums + users) + 64 * n_rows + (128 << 20)

    def fit_source(
        self,
        source: Source,
        communicator: Communicator,
        device: torch.device,
        progress: Progress | None = None,
        resumable: Resumable | None = None,
    ) -> None:
        fit = _Fit(self.config, source, communicator, device, resumable or NotResumable())
        if self.config.lam is not None:
            self._keep(fit.item_vectors(self.config.lam, progress), self.config.lam)
            return
        self._validation_or_refuse(source.validation(0), "lam")
        weights = inverse_propensities(fit.item_counts, int(fit.item_counts.sum()))

        def try_value(lam: float) -> tuple[Validated, torch.Tensor]:
            items = fit.item_vectors(lam)
            self._keep(items, lam)
            evaluator = evaluator_of(self.config.metric, weights, self.name)
            for piece in range(source.n_pieces):
                heldout = source.validation(piece)
                if heldout is not None:
                    evaluator.add_all(
                        lambda histories: self._score(histories).astype(np.float32), source.train(piece), heldout
                    )
            return merged_metric(evaluator, self.config.metric, communicator, device), items

        self.selection, items = select("lam", self.config.metric, self.config.grid, try_value, progress=progress)
        self._keep(items, self.selection.chosen)

    def _keep(self, items: torch.Tensor, lam: float) -> None:
        """Takes item vectors [n_items + 1, d], in a basis in which QᵀQ is diagonal; the last row is 0."""
        self._items, self._lam = items, lam
        self._squares = self.config.alpha * items.square().sum(dim=0)

    def _score(self, histories: Interactions) -> np.ndarray:
        device = torch.device("cuda" if self.config.device != "cpu" and torch.cuda.is_available() else "cpu")
        self._items, self._squares = self._items.to(device), self._squares.to(device)
        matrix = histories.to_csr()
        ridge = _ridge(self.config, self._lam, np.diff(matrix.indptr), histories.n_items, device)
        users = solve_users(matrix.indptr.astype(np.int64), matrix.indices, self._items, self._squares, ridge)
        return (users @ self._items[:-1].T).cpu().numpy()

    def _weights(self) -> dict[str, np.ndarray]:
        return {"items": self._items[:-1].cpu().numpy(), "lam": np.array([self._lam])}

    def _set_weights(self, weights: dict[str, np.ndarray], n_items: int) -> None:
        vectors = expect_shape(weights, "items", (n_items, self.config.dim))
        items = torch.zeros(n_items + 1, self.config.dim)
        items[:-1] = torch.from_numpy(vectors)
        self._keep(items, float(expect_shape(weights, "lam", (1,))[0]))


class _Fit:
    """The half steps over one worker's share of the rows.

    Attributes:
        item_counts: int64 [n_items], number of users with the item, over all workers.
    """

    def __init__(
        self,
        config: AlsConfig,
        source: Source,
        communicator: Communicator,
        device: torch.device,
        resumable: Resumable,
    ) -> None:
        self._config, self._source, self._device = config, source, device
        self._communicator, self._resumable = communicator, resumable
        self._kept: tuple[int, sp.csr_array, sp.csr_array] | None = None
        counts = torch.zeros(source.n_items + 1, dtype=torch.int64, device=device)
        for piece in range(source.n_pieces):
            by_user, by_item = self._rows(piece)
            counts[:-1] += torch.from_numpy(np.diff(by_item.indptr)).to(device)
            counts[-1] += int((np.diff(by_user.indptr) > 0).sum())
        communicator.all_reduce(counts)
        self.item_counts, self._n_users = counts[:-1].cpu().numpy(), int(counts[-1])

    def item_vectors(self, lam: float, progress: Progress | None = None) -> torch.Tensor:
        """Returns item vectors float32 [n_items + 1, d], in a basis in which QᵀQ is diagonal; the last row is 0."""
        config, name = self._config, f"lam={lam:g}"
        found = self._resumable.read(name)
        done, items = found if found else (0, self._initial())
        items = items.to(self._device)
        for epoch in range(done, config.epochs):
            if progress:
                progress(epoch / config.epochs, f"epoch {epoch + 1}")
            self._pass(items, lam)
            if not bool(torch.isfinite(items).all()):
                raise DasError(f"als: the vectors became NaN or infinite in epoch {epoch + 1}; set a larger lam.")
            self._resumable.write(name, epoch + 1, items)
        return items

    def _initial(self) -> torch.Tensor:
        """Returns V Σ^½ of the truncated SVD X ≈ U Σ Vᵀ, by subspace iteration; half steps from there need few passes.

        The last row is 0, and so are items without rows and dimensions beyond the rank.
        """
        source, dim = self._source, self._config.dim
        rng = np.random.default_rng(hashing.stream("als/item vectors", self._config.seed))
        items = torch.zeros(source.n_items + 1, dim)
        items[:-1] = torch.from_numpy(rng.standard_normal((source.n_items, dim), dtype=np.float32))
        for _ in range(_SVD_PASSES):
            total = np.zeros((source.n_items, dim), dtype=np.float32)
            for piece in range(source.n_pieces):
                by_user, by_item = self._rows(piece)
                total += by_item @ (by_user @ items[:-1].numpy())
            items[:-1] = self._summed(torch.from_numpy(total))
            _diagonalise(items, power=-1.0)
        gram = np.zeros((dim, dim))
        for piece in range(source.n_pieces):
            users = self._rows(piece)[0] @ items[:-1].numpy()
            gram += users.T @ users
        _rotate(items, self._summed(torch.from_numpy(gram)), power=0.5)
        _diagonalise(items)
        return items

    def _summed(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the sum over all workers, on the CPU."""
        tensor = tensor.to(self._device)
        self._communicator.all_reduce(tensor)
        return tensor.cpu()

    def _pass(self, items: torch.Tensor, lam: float) -> None:
        """One half step of all users and one of all items, the latter in place."""
        config, source, dim = self._config, self._source, self._config.dim
        ridge = _ridge(config, lam, self.item_counts, self._n_users, self._device)
        size = _block(config, source.n_items)
        blocks = [slice(start, min(start + size, dim)) for start in range(0, dim, size)]
        gram = torch.zeros(dim, dim, device=self._device)
        with _Vectors(keep=len(blocks) > 1, in_memory=source.n_pieces == 1) as vectors:
            for block in blocks:
                width = block.stop - block.start
                sums = torch.zeros(source.n_items, width * (width + 3) // 2, device=self._device)
                for piece in range(source.n_pieces):
                    by_user, by_item = self._rows(piece)
                    users = vectors.get(piece, self._device)
                    if users is None:
                        users = self._users(by_user, items, lam)
                        gram += config.alpha * (users.T @ users)
                        vectors.put(piece, users)
                    add_item_sums(sums, by_item.indptr, by_item.indices, users, items, block)
                self._communicator.all_reduce(sums)
                if block.start == 0:
                    self._communicator.all_reduce(gram)
                solve_items(sums, items[:-1], gram, ridge, block)
        _diagonalise(items)

    def _users(self, by_user: sp.csr_array, items: torch.Tensor, lam: float) -> torch.Tensor:
        """Returns the users' optimal vectors [n + 1, d]; the last row is 0."""
        squares = self._config.alpha * items.square().sum(dim=0)
        ridge = _ridge(self._config, lam, np.diff(by_user.indptr), self._source.n_items, self._device)
        users = solve_users(by_user.indptr, by_user.indices, items, squares, ridge)
        return torch.cat((users, users.new_zeros(1, users.shape[1])))

    def _rows(self, piece: int) -> tuple[sp.csr_array, sp.csr_array]:
        """Returns the distinct pairs of a piece, by user and by item; only the last ones are cached."""
        if self._kept is None or self._kept[0] != piece:
            self._kept = None
            by_user = self._source.train(piece).to_csr()
            by_item = by_user.T.tocsr()
            for matrix in (by_user, by_item):
                matrix.indptr = matrix.indptr.astype(np.int64)
            self._kept = (piece, by_user, by_item)
        return self._kept[1:]


class _Vectors:
    """The users' vectors of a pass, kept for its further blocks: in memory, or on disk if there are several pieces."""

    def __init__(self, keep: bool, in_memory: bool) -> None:
        self._keep, self._memory = keep, in_memory
        self._held: torch.Tensor | None = None
        self._files: set[int] = set()

    def __enter__(self) -> _Vectors:
        if self._keep and not self._memory:
            self._folder = tempfile.TemporaryDirectory(prefix="das-als-")
        return self

    def __exit__(self, *failure: object) -> None:
        if self._keep and not self._memory:
            self._folder.cleanup()

    def get(self, piece: int, device: torch.device) -> torch.Tensor | None:
        if self._memory:
            return self._held
        if piece not in self._files:
            return None
        return torch.from_numpy(np.load(self._file(piece))).to(device)

    def put(self, piece: int, vectors: torch.Tensor) -> None:
        if not self._keep:
            return
        if self._memory:
            self._held = vectors
        else:
            np.save(self._file(piece), vectors.cpu().numpy())
            self._files.add(piece)

    def _file(self, piece: int) -> Path:
        return Path(self._folder.name, f"{piece}.npy")


def _block(config: AlsConfig, n_items: int) -> int:
    """Number of dimensions of a block: b (b + 3) / 2 numbers for each item."""
    if config.block is not None:
        return min(config.block, config.dim)
    fitting = int((2 * _SUMS / max(n_items, 1) + 2.25) ** 0.5 - 1.5)
    return min(max(fitting, _LEAST_BLOCK), config.dim)


def _ridge(config: AlsConfig, lam: float, counts: np.ndarray, n_others: int, device: torch.device) -> torch.Tensor:
    """λ #^ν of users or items with so many rows, float32 [n]."""
    frequency = counts + config.alpha * n_others
    return torch.from_numpy((lam * frequency**config.exponent).astype(np.float32)).to(device)


def _diagonalise(items: torch.Tensor, power: float = 0.0) -> None:
    """Rotates item vectors [n, d] in place, so that QᵀQ is diagonal; this changes no product of two vectors.

    Args:
        power: -1: also scales each dimension to length 1, so that QᵀQ = I but for dimensions beyond the rank.
    """
    gram = torch.zeros(items.shape[1], items.shape[1], dtype=torch.float64, device=items.device)
    for some in _runs(items):
        gram += (some.T @ some).double()
    _rotate(items, gram, power)


def _rotate(items: torch.Tensor, gram: torch.Tensor, power: float) -> None:
    """Multiplies item vectors [n, d] in place by E S^power, where gram = E S² Eᵀ with S descending; S below 1e-4 of
    the largest counts as 0, also to a negative power."""
    values, basis = torch.linalg.eigh(gram)
    values, basis = values.flip(0).clamp(min=0).sqrt(), basis.flip(1)
    if power:
        basis = basis * torch.where(values > 1e-4 * values[0], values**power, 0.0)
    basis = basis.to(items.dtype)
    for some in _runs(items):
        some.copy_(some @ basis)


def _runs(items: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yields views of successive rows."""
    yield from items.split(_AT_ONCE)
