"""A fit by conjugate gradients: one λ after another, columns in chunks, with the state of the running chunk on a shelf.

Finished results are stored on the shelf in parts, one per λ, chunk and worker. A run that resumes from a shelf gives
the same result as an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.models.kernel.landmarks import mean_diagonal
from distill_at_scale.models.kernel.ntk import TrainUsers
from distill_at_scale.models.kernel.pcg import (
    MOST_ITERATIONS,
    ConjugateGradients,
    Preconditioner,
    Sharing,
    StreamedKernel,
)
from distill_at_scale.models.selection import Progress, Selection, Validated, evaluator_of, select
from distill_at_scale.models.training.sources import MemorySource
from distill_at_scale.models.training.validation import item_weights, merged_metric

# The selection of λ need not be exact: at this residual rankings differ in the fourth digit.
_TUNING_TOLERANCE = 1e-3
_BATCH_USERS = 1024
# Number of a checkpoint: number of the solve times this, plus the iteration.
_SOLVE = 1000


@dataclass(frozen=True)
class PcgSettings:
    """Settings of the solver.

    Attributes:
        tolerance: Relative residual at which a chunk is done.
        chunk: Number of columns solved at once.
        every: Number of iterations between checkpoints.
    """

    tolerance: float
    chunk: int
    every: int = 1


class Shelf:
    """Storage of a worker's parts of the solution and its checkpoints; this class uses memory, without checkpoints."""

    def __init__(self) -> None:
        self._parts: dict[str, np.ndarray] = {}

    def newest(self) -> int:
        """Returns the number of this worker's newest checkpoint; 0: none."""
        return 0

    def checkpoint(self, place: int) -> dict[str, np.ndarray]:
        """Returns the arrays of a checkpoint."""
        raise KeyError(place)

    def keep(self, place: int, arrays: dict[str, np.ndarray]) -> None:
        """Stores a checkpoint."""

    def has(self, name: str) -> bool:
        """Returns whether a part exists."""
        return name in self._parts

    def put(self, name: str, array: np.ndarray) -> None:
        """Stores a part."""
        self._parts[name] = array

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Returns some rows of a part."""
        return self._parts[name][start:stop]

    def drop(self, name: str) -> None:
        """Deletes a part."""
        del self._parts[name]


class PcgFit:
    """Computes α for every requested λ; all workers create one and make the same calls.

    Args:
        everyone: Train rows of every worker's users, by rank.
        heldout: Validation rows of the own users; None if the dataset has none.
        landmarks: Landmarks of the preconditioner.
        dtype: Type of the solution.
        settings: Settings of the solver.
        communicator: Communicator of the workers.
        shelf: This worker's shelf.
        progress: Function called with the share done and the step.
    """

    def __init__(
        self,
        everyone: Sequence[Interactions],
        heldout: Interactions | None,
        landmarks: TrainUsers,
        dtype: np.dtype | type,
        settings: PcgSettings,
        communicator: Sharing,
        shelf: Shelf,
        progress: Progress | None = None,
    ) -> None:
        self._rows, self._heldout = everyone[communicator.rank], heldout
        self._settings, self._communicator, self._shelf, self._progress = settings, communicator, shelf, progress
        n_items = self._rows.n_items
        self._chunks = [slice(k, min(k + settings.chunk, n_items)) for k in range(0, n_items, settings.chunk)]
        self._diagonal, _ = mean_diagonal(MemorySource(self._rows, None), communicator)
        self._kernel = StreamedKernel(everyone, dtype, communicator)
        self._preconditioner = Preconditioner(landmarks, self._rows, dtype, communicator)
        self._columns = self._kernel.own.tocsc()
        self._item_weights = item_weights([self._rows], n_items, communicator)
        self._solves, self._expected, self._told = 0, len(self._chunks), 0.0
        newest = torch.zeros(communicator.world_size, dtype=torch.int64)
        newest[communicator.rank] = shelf.newest()
        communicator.all_reduce(newest)
        # Workers are at most one iteration apart, and all keep the last few checkpoints.
        self._newest = int(newest.min())

    def fit(self, grid: Sequence[float], metric: str, lowest: float = 0.0) -> tuple[Selection | None, float]:
        """Solves for the λ that is best on validation rows, or for the only one.

        Args:
            grid: Values of λ, relative to the mean diagonal of all users' kernel.
            metric: Metric of the selection.
            lowest: Lower bound of the values tried (exclusive).

        Returns:
            The selection of λ, and λ; its parts (:meth:`part_names`) are on the shelves.

        Raises:
            DasError: The solver did not converge.
        """
        if len(grid) == 1:
            self._solve(grid[0], self._settings.tolerance)
            return None, grid[0]
        self._expected = (len(grid) + 1) * len(self._chunks)
        bounds = (lowest, math.inf)
        record, _ = select("lam", metric, grid, lambda lam: (self._try(lam, metric), lam), bounds=bounds)
        self._solve(record.chosen, self._settings.tolerance)
        return record, record.chosen

    def part_names(self, lam: float) -> list[str]:
        """Returns the names of the parts of α for a λ, in column order; each holds the own users' rows."""
        return self._names(lam, self._settings.tolerance)

    def _try(self, lam: float, metric: str) -> Validated:
        """Returns the validation metric for a λ, from P = X - λ' α."""
        done = f"validated-{lam!r}"
        if not self._on_all_shelves([done]):
            names = self._solve(lam, _TUNING_TOLERANCE)
            evaluator, shift = evaluator_of(metric, self._item_weights, "infinite_ae"), lam * self._diagonal
            for start in range(0, 0 if self._heldout is None else len(self._rows), _BATCH_USERS):
                histories = self._rows.slice(start, start + _BATCH_USERS)
                stop = start + len(histories)
                scores = histories.to_csr().toarray()
                for columns, name in zip(self._chunks, names):
                    scores[:, columns] -= shift * self._shelf.rows(name, start, stop)
                evaluator.add(scores, histories, self._heldout.slice(start, stop))  # type: ignore[union-attr]
            result = merged_metric(evaluator, metric, self._communicator)
            sums = np.full_like(result.counts, np.nan) if result.sums is None else result.sums
            self._shelf.put(done, np.stack([np.full_like(sums, result.metric), result.counts, sums]))
        else:
            self._solves += len(self._chunks)
        for name in self._names(lam, _TUNING_TOLERANCE):
            if self._shelf.has(name):
                self._shelf.drop(name)
        (value, *_), counts, sums = self._shelf.rows(done, 0, 3)
        return Validated(float(value), counts, None if np.isnan(sums).any() else sums)

    def _solve(self, lam: float, tolerance: float) -> list[str]:
        """Solves all chunks that are not yet on the shelves."""
        shift, names = lam * self._diagonal, self._names(lam, tolerance)
        fresh = True
        for columns, name in zip(self._chunks, names):
            self._solves += 1
            if self._on_all_shelves([name]):
                continue
            if fresh:
                self._preconditioner.set_shift(shift)
                fresh = False
            solver = ConjugateGradients(
                self._kernel, self._preconditioner, self._columns[:, columns], shift, self._communicator
            )
            if self._newest // _SOLVE == self._solves:
                solver.restore(self._shelf.checkpoint(self._newest))
            while solver.residual > tolerance:
                if solver.iteration == MOST_ITERATIONS:
                    raise DasError(
                        f"infinite_ae: no convergence after {MOST_ITERATIONS} iterations (residual "
                        f"{solver.residual:.1e}); use a larger lam, more landmarks, or dtype=float64."
                    )
                solver.step()
                if solver.iteration % self._settings.every == 0 or solver.residual <= tolerance:
                    self._shelf.keep(self._solves * _SOLVE + solver.iteration, solver.state())
                self._report(lam, solver.residual, tolerance)
            self._shelf.put(name, solver.alpha)
        return names

    def _report(self, lam: float, residual: float, tolerance: float) -> None:
        # The residual falls by about the same factor in every iteration.
        done = math.log(min(max(residual, tolerance), 1.0)) / math.log(tolerance)
        share = (self._solves - 1 + done) / max(self._expected, self._solves)
        self._told = max(self._told, min(share, 0.999))
        if self._progress:
            self._progress(self._told, f"lam={lam:g}, residual {residual:.1e}")

    def _names(self, lam: float, tolerance: float) -> list[str]:
        return [f"alpha-{lam!r}-{tolerance!r}-{number:05d}" for number in range(len(self._chunks))]

    def _on_all_shelves(self, names: Sequence[str]) -> bool:
        """Returns whether all parts exist on every worker."""
        missing = torch.tensor([float(not all(self._shelf.has(name) for name in names))])
        self._communicator.all_reduce(missing)
        return not missing.item()
