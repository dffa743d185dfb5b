"""Alternating least squares over one worker's share of the rows: half steps of all users, and of all items.

A pass reads every piece once for each block of dimensions. Users' vectors are solved piece by piece and dropped; what
is summed over pieces and workers is one small system for each item. A single worker with few rows holds all of them and
solves items as it solves users: one with few users then costs a system of the users.

Rows with weights w are held as √w, by which a pair's vector and its target 1 are multiplied in the normal equations.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch

from distill_at_scale.data import hashing
from distill_at_scale.errors import DasError
from distill_at_scale.models.als_config import AlsConfig
from distill_at_scale.models.selection import Progress
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.item_svd import diagonalise, singular_item_vectors
from distill_at_scale.models.training.least_squares import add_item_sums, solve_items, solve_users
from distill_at_scale.models.training.row_weights import RowWeights
from distill_at_scale.models.training.sources import Source
from distill_at_scale.models.training.streamed import Resumable

# The sums of the items' half step hold this many numbers if the block is not set, but a block has at least 16.
_SUMS = 1 << 28
_LEAST_BLOCK = 16
# Rows and numbers of the users' vectors of a small dataset, which are held: about 40 MB.
FEW = 1 << 21


class AlternatingFit:
    """The half steps over one worker's share of the rows.

    Attributes:
        item_counts: int64 [n_items], number of users with the item, over all workers.
        alpha: α, weight of a pair that is not in the rows.
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
        self._n_pieces, self._weights = source.n_pieces, RowWeights.of(source, communicator, device)
        counts = torch.zeros(source.n_items + 1, dtype=torch.int64, device=device)
        weighted = torch.zeros(0 if self._weights is None else len(counts), dtype=torch.float64, device=device)
        for piece in range(source.n_pieces):
            by_user, by_item = self._rows(piece)
            counts[:-1] += torch.from_numpy(np.diff(by_item.indptr)).to(device)
            counts[-1] += int((np.diff(by_user.indptr) > 0).sum())
            if self._weights is not None:
                weighted[:-1] += torch.from_numpy(_row_sums(by_item)).to(device)
                weighted[-1] += float(self._weights.of_each_user(by_user).sum())
        communicator.all_reduce(counts)
        self.item_counts, self._n_users = counts[:-1].cpu().numpy(), int(counts[-1])
        pairs = max(self._n_users, 1) * max(source.n_items, 1)
        by_rows = min(config.unseen * max(int(self.item_counts.sum()), 1) / pairs, 1.0)
        self.alpha = by_rows if config.alpha is None else config.alpha
        # As the rows and users count; without weights each counts 1.
        self._item_rows, self._all_users = self.item_counts, float(self._n_users)
        if self._weights is not None:
            communicator.all_reduce(weighted)
            self._item_rows, self._all_users = weighted[:-1].cpu().numpy(), float(weighted[-1])
        # An item without rows has the vector 0 before and after each half step: a small sample costs what it holds.
        self._live = np.flatnonzero(self.item_counts)
        few = holds_all(config, self._n_users, int(self.item_counts.sum()))
        self._holds_all = few and communicator.world_size == 1
        if self._holds_all:
            pieces = [self._rows(piece)[0] for piece in range(source.n_pieces)]
            by_user = sp.csr_array(sp.vstack([rows[np.diff(rows.indptr) > 0] for rows in pieces], format="csr"))
            self._kept, self._n_pieces = (0, *_both(by_user)), 1

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
        """Returns the items' singular vectors; half steps from there need few passes."""
        source, rng = self._source, np.random.default_rng(hashing.stream("als/item vectors", self._config.seed))
        return singular_item_vectors(
            self._rows, self._n_pieces, source.n_items, self._config.dim, rng, self._communicator, self._device
        )

    def _pass(self, items: torch.Tensor, lam: float) -> None:
        """One half step of all users and one of all items, the latter in place."""
        config, source, dim = self._config, self._source, self._config.dim
        ridge = ridge_of(config, self.alpha, lam, self._item_rows[self._live], self._all_users, self._device)
        live = torch.from_numpy(self._live).to(self._device)
        if self._holds_all:
            self._solve_items(items, live, ridge, lam)
            return
        size = block_size(config, source.n_items)
        blocks = [slice(start, min(start + size, dim)) for start in range(0, dim, size)]
        gram = torch.zeros(dim, dim, device=self._device)
        with _Vectors(keep=len(blocks) > 1, in_memory=source.n_pieces == 1) as vectors:
            for block in blocks:
                width = block.stop - block.start
                sums = torch.zeros(len(live), width * (width + 3) // 2, device=self._device)
                for piece in range(source.n_pieces):
                    by_user, by_item = self._rows(piece)
                    users = vectors.get(piece, self._device)
                    if users is None:
                        users = self._users(by_user, items, lam)
                        counted = self._counted(by_user, users)
                        gram += self.alpha * (counted.T @ counted)
                        vectors.put(piece, users)
                    # Rows between two of these items belong to none: each begins where the one before it ends.
                    offsets = by_item.indptr[np.append(self._live, source.n_items)]
                    add_item_sums(sums, offsets, by_item.indices, users, items, live, block, self._roots(by_item))
                self._communicator.all_reduce(sums)
                if block.start == 0:
                    self._communicator.all_reduce(gram)
                solve_items(sums, items, live, gram, ridge, block)
        diagonalise(items, self._communicator, self._device)

    def _solve_items(self, items: torch.Tensor, live: torch.Tensor, ridge: torch.Tensor, lam: float) -> None:
        """The pass of a worker that holds all rows, in place."""
        by_user, by_item = self._rows(0)
        users = self._users(by_user, items, lam)
        # In a basis in which PᵀP is diagonal, an item's optimum has the form of a user's.
        counted = self._counted(by_user, users)
        values, basis = torch.linalg.eigh((counted.T @ counted).double())
        squares = self.alpha * values.clamp(min=0).to(users.dtype)
        offsets = by_item.indptr[np.append(self._live, self._source.n_items)]
        turned = users @ basis.to(users.dtype)
        items[live] = solve_users(offsets, by_item.indices, turned, squares, ridge, self._roots(by_item))
        diagonalise(items, self._communicator, self._device)

    def _users(self, by_user: sp.csr_array, items: torch.Tensor, lam: float) -> torch.Tensor:
        """Returns the users' optimal vectors [n + 1, d]; the last row is 0."""
        squares = self.alpha * items.square().sum(dim=0)
        # A user who counts several times, as a whole, has the same optimum each time.
        roots = None if self._weights is None or self._weights.of_users else by_user.data
        rows = np.diff(by_user.indptr) if roots is None else _row_sums(by_user)
        ridge = ridge_of(self._config, self.alpha, lam, rows, self._source.n_items, self._device)
        users = solve_users(by_user.indptr, by_user.indices, items, squares, ridge, roots)
        return torch.cat((users, users.new_zeros(1, users.shape[1])))

    def _counted(self, by_user: sp.csr_array, users: torch.Tensor) -> torch.Tensor:
        """Returns the users' vectors times the root of how often each counts."""
        if self._weights is None or not self._weights.of_users:
            return users
        roots = np.sqrt(np.append(self._weights.of_each_user(by_user), 0.0)).astype(np.float32)
        return users * torch.from_numpy(roots).to(self._device)[:, None]

    def _roots(self, matrix: sp.csr_array) -> np.ndarray | None:
        """Returns √w of each pair; None without weights."""
        return None if self._weights is None else matrix.data

    def _rows(self, piece: int) -> tuple[sp.csr_array, sp.csr_array]:
        """Returns the distinct pairs of a piece, by user and by item, with √w or 1; only the last ones are cached."""
        if self._kept is None or self._kept[0] != piece:
            self._kept = None
            rows, weights = self._source.train(piece), self._weights
            self._kept = (piece, *_both(rows.to_csr() if weights is None else weights.roots(rows)))
        return self._kept[1:]


def _both(by_user: sp.csr_array) -> tuple[sp.csr_array, sp.csr_array]:
    """Returns distinct pairs by user and by item."""
    by_item = by_user.T.tocsr()
    for matrix in (by_user, by_item):
        matrix.indptr = matrix.indptr.astype(np.int64)
    return by_user, by_item


def _row_sums(roots: sp.csr_array) -> np.ndarray:
    """Returns Σ w of each row of a matrix of √w, float64."""
    found: np.ndarray = roots.multiply(roots).astype(np.float64).sum(axis=1)
    return found


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


def holds_all(config: AlsConfig, n_users: int, n_rows: int) -> bool:
    """Whether a single worker holds all rows, and solves items without sums over users."""
    return config.block is None and n_rows + n_users * config.dim <= FEW


def block_size(config: AlsConfig, n_items: int) -> int:
    """Number of dimensions of a block: b (b + 3) / 2 numbers for each item."""
    if config.block is not None:
        return min(config.block, config.dim)
    fitting = int((2 * _SUMS / max(n_items, 1) + 2.25) ** 0.5 - 1.5)
    return min(max(fitting, _LEAST_BLOCK), config.dim)


def ridge_of(
    config: AlsConfig, alpha: float, lam: float, counts: np.ndarray, n_others: float, device: torch.device
) -> torch.Tensor:
    """Returns λ #^ν of users or items with the given numbers of rows, float32 [n]."""
    frequency = counts + alpha * n_others
    return torch.from_numpy((lam * frequency**config.exponent).astype(np.float32)).to(device)
