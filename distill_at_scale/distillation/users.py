"""The real users of a distillation: one worker's share, with batches and masks that do not depend on the workers.

Every random draw is a hash of (seed, step, user, item). So workers need no communication for it, a resumed run
continues exactly as an uninterrupted one, and any number of workers sees the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse as sp
import torch

from distill_at_scale.data import hashing, ragged
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation.item_blocks import BlockScorer
from distill_at_scale.models.selection import Validated, evaluator_of, with_both
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.sources import Source
from distill_at_scale.models.training.validation import merged_metric

_FEISTEL_ROUNDS = 4


class ValidationUsers:
    """The validation users of one worker's share, with their rows, and the log's size.

    These are users with train and validation rows; users with validation rows, if none has both.

    Attributes:
        n_users, n_items: Size of the whole dataset.
        n_rows: Number of train rows over all workers.
        has_validation: Whether any validation user has validation rows.

    Args:
        source: This worker's share.
        communicator: Connection to the other workers.
        seed: Random seed.
        validation_users: Approximate number of validation users over all workers, drawn by hash.
        device: Device on which sums over the workers are computed.
        progress: Called with the share that is read.

    Raises:
        DasError: No worker has train rows.
    """

    def __init__(
        self,
        source: Source,
        communicator: Communicator | None = None,
        seed: int = 0,
        validation_users: int = 3000,
        device: torch.device | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        self.communicator, self.device = communicator or Communicator(), device or torch.device("cpu")
        self.n_users, self.n_items = source.n_users, source.n_items
        self._seed = seed
        self._validation: list[tuple[Interactions, Interactions]] = []
        judges = 0
        for piece in range(source.n_pieces):
            rows, heldout = source.train(piece), source.validation(piece)
            self._read(rows)
            if heldout is not None:
                judges += int(with_both(rows, heldout).sum())
                # At least those that are drawn once all judges are counted.
                self._keep_judges(rows, heldout, judges, validation_users)
            if progress:
                progress((piece + 1) / source.n_pieces)
        judges = int(self.added(judges)[0])
        read, self._validation = self._validation, []
        for rows, heldout in read:
            self._keep_judges(rows, heldout, judges, validation_users)
        judged = sum(len(heldout) for _, heldout in self._validation)
        n_rows, n_judged = self.added(self._rows_read(), judged)
        self.n_rows, self.has_validation = int(n_rows), n_judged > 0
        if not self.n_rows:
            raise DasError("There are no train rows to distill.")

    _n_rows = 0

    def _read(self, rows: Interactions) -> None:
        """Takes what is needed of the train rows of a piece."""
        self._n_rows += rows.n_rows

    def _rows_read(self) -> int:
        """Returns the number of this worker's train rows, once all are read."""
        return self._n_rows

    def added(self, *numbers: float) -> list[float]:
        """Returns the sum of each number over the workers."""
        totals = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        self.communicator.all_reduce(totals)
        return totals.tolist()

    def validation_metric(
        self, score: BlockScorer | Callable[[Interactions], np.ndarray], metric: str, name: str
    ) -> float:
        """Returns a metric over the validation users of all workers, the same on each worker; see :meth:`validated`."""
        return self.validated(score, metric, name).metric

    def validated(self, score: BlockScorer | Callable[[Interactions], np.ndarray], metric: str, name: str) -> Validated:
        """Evaluates the validation users of all workers; the result is the same on each worker.

        Args:
            score: Function from histories to scores [b, n_items], or a scorer by blocks of items.
            metric: Ranking metric, such as ``ndcg@10``.
            name: Name in messages.
        """
        evaluator = evaluator_of(metric, np.ones(self.n_items), name)
        for train, heldout in self._validation:
            evaluator.add_all(score, train, heldout)
        return merged_metric(evaluator, metric, self.communicator, self.device)

    def _keep_judges(self, rows: Interactions, heldout: Interactions, judges: int, validation_users: int) -> None:
        """Keeps the validation users among some users, by a draw from ``judges``.

        They have train and validation rows: to a user without a history, as most are in a sample of users, linear
        models give equal scores for all items. Where there is none with both (``judges`` is 0), all with validation
        rows are asked.
        """
        asked = with_both(rows, heldout) if judges else heldout.counts > 0
        begin = hashing.stream("distillation/judged users", self._seed)
        share = validation_users / max(judges or self.n_users, 1)
        chosen = np.flatnonzero(asked & hashing.drawn(begin, heldout.users, share))
        self._validation.append((rows.take(chosen, timestamps=False), heldout.take(chosen, timestamps=False)))


class RealUsers(ValidationUsers):
    """Train rows of one worker's users as a sparse matrix, and the validation rows of the validation users.

    Practical limits: 8 bytes per train row of the users learned from and 16 per such user of this worker's share stay
    in memory, and three times as much while they are read.

    Attributes:
        share: Share of the users that is learned from.
        n_rows: Number of train rows over all workers, as distinct pairs, of the users learned from, as all below.
        n_filled: Number of users with train rows over all workers.
        n_splittable: Number of users with at least two train rows over all workers; one row can be an input and
            another a target.
        numbers: int64 [u], this worker's users with train rows, ascending.
        matrix: float32 CSR [u, n_items], their train rows, binary.

    Args:
        source, communicator, seed, validation_users, device, progress: As for :class:`ValidationUsers`.
        share: Share of the users that is learned from, drawn by hash; validation users are drawn from all.

    Raises:
        DasError: No worker has train rows.
    """

    def __init__(
        self,
        source: Source,
        communicator: Communicator | None = None,
        seed: int = 0,
        validation_users: int = 3000,
        device: torch.device | None = None,
        progress: Callable[[float], None] | None = None,
        share: float = 1.0,
    ) -> None:
        self.share = share
        self._numbers, self._matrices = [np.empty(0, np.int64)], [sp.csr_array((0, source.n_items), dtype=np.float32)]
        super().__init__(source, communicator, seed, validation_users, device, progress)
        splittable = int((np.diff(self.matrix.indptr) > 1).sum())
        self.n_filled, self.n_splittable = (int(total) for total in self.added(len(self.numbers), splittable))

    def _read(self, rows: Interactions) -> None:
        if self.share < 1.0:
            begin = hashing.stream("distillation/users learned from", self._seed)
            rows = rows.take(np.flatnonzero(hashing.drawn(begin, rows.users, self.share)), timestamps=False)
        self._numbers.append(rows.users)
        self._matrices.append(rows.to_csr())

    def _rows_read(self) -> int:
        found, stacked = np.concatenate(self._numbers), sp.vstack(self._matrices, format="csr")
        del self._numbers, self._matrices
        order = np.argsort(found, kind="stable")
        order = order[np.diff(stacked.indptr)[order] > 0]
        self.numbers, self.matrix = found[order], sp.csr_array(stacked[order])
        return int(self.matrix.nnz)

    def batch(self, step: int, size: int) -> tuple[sp.csr_array, np.ndarray]:
        """Returns this worker's users of the batch of a step.

        Each epoch visits every user once, in a new random order.

        Args:
            step: Number of the step, from 0.
            size: Number of positions in the batch over all workers; those of users without train rows stay empty.

        Returns:
            Their train rows, CSR [b, n_items], and their numbers [b].
        """
        positions = step * size + np.arange(size, dtype=np.uint64)
        rounds, places = np.divmod(positions, np.uint64(self.n_users))
        return self._own(
            _permuted(places, self.n_users, hashing.stream("distillation/order of users", self._seed), rounds)
        )

    def hide(
        self, rows: sp.csr_array, users: np.ndarray, step: int, share: float, hide_single: bool = False
    ) -> tuple[sp.csr_array, sp.csr_array]:
        """Splits train rows at random into inputs and hidden targets.

        Each row is hidden independently with probability ``share``. A user with at least two rows has at least one
        input and at least one target, unless the share is 0.

        Args:
            rows, users: Rows and users of a batch.
            step: Number of the step.
            share: Share of the rows to hide, in [0, 1).
            hide_single: Whether the only row of a user is hidden; otherwise it is visible.

        Returns:
            (inputs, hidden), CSR [b, n_items] each.
        """
        counts = np.diff(rows.indptr)
        owners = np.repeat(users, counts).astype(np.uint64)
        begin = hashing.stream("distillation/hidden rows", self._seed, step)
        draws = hashing.uniform(hashing.combine(begin, owners, rows.indices.astype(np.uint64)))
        hidden = draws < share
        if share and len(draws):
            filled = np.flatnonzero(counts)
            starts, lengths = rows.indptr[filled], counts[filled]
            smallest, largest = (
                np.repeat(extreme.reduceat(draws, starts), lengths) for extreme in (np.minimum, np.maximum)
            )
            single = np.repeat(lengths == 1, lengths)
            # The smallest draw is the first to be hidden, the largest the last.
            hidden = np.where(single, hide_single, (hidden | (draws == smallest)) & (draws < largest))
        return _keep(rows, ~hidden), _keep(rows, hidden)

    def drawn(self, n: int) -> torch.Tensor:
        """Returns the train rows of ``n`` distinct random users, float32 [n, n_items], the same on every worker.

        Raises:
            DasError: Fewer than ``n`` users have train rows.
        """
        rows = torch.zeros(n, self.n_items, device=self.device)
        for where, places in self._drawn_places(n):
            rows[where.to(self.device)] = torch.from_numpy(self.matrix[places].toarray()).to(self.device)
        self.communicator.all_reduce(rows)
        return rows

    def drawn_products(self, n: int, vectors: np.ndarray) -> torch.Tensor:
        """Returns the rows of :meth:`drawn` times vectors [n_items, r], float32 [n, r], the same on every worker."""
        rows = torch.zeros(n, vectors.shape[1], device=self.device)
        for where, places in self._drawn_places(n):
            rows[where.to(self.device)] = torch.from_numpy(self.matrix[places] @ vectors).to(self.device)
        self.communicator.all_reduce(rows)
        return rows

    def _drawn_places(self, n: int) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
        """Yields the numbers of drawn users, and the rows of this worker's matrix that are theirs."""
        self._require_filled(n)
        placed = start = 0
        begin = hashing.stream("distillation/initial users", self._seed)
        while placed < n:
            positions = np.arange(start, min(start + 2 * n, self.n_users), dtype=np.uint64)
            places = self._places(_permuted(positions, self.n_users, begin, np.zeros_like(positions)))
            chosen = np.flatnonzero(self.added(*(places >= 0)))[: n - placed]
            mine = places[chosen] >= 0
            yield torch.from_numpy(placed + np.flatnonzero(mine)), places[chosen][mine]
            placed, start = placed + len(chosen), start + 2 * n

    def most_active(self, n: int) -> torch.Tensor:
        """Returns the train rows of the ``n`` most active users, float32 [n, n_items], the same on every worker.

        A draw decides between equally active users.

        Raises:
            DasError: Fewer than ``n`` users have train rows.
        """
        self._require_filled(n)
        counts = np.diff(self.matrix.indptr)
        begin = hashing.stream("distillation/most active users", self._seed)
        draws = hashing.uniform(hashing.combine(begin, self.numbers.astype(np.uint64)))
        own = np.lexsort((draws, -counts))[:n]
        world, rank = self.communicator.world_size, self.communicator.rank
        # Every worker proposes its first n; each fills its own part of the table of all.
        table = torch.zeros(world, n, 2, dtype=torch.float64, device=self.device)
        proposed = np.stack((counts[own], draws[own]), axis=1).astype(np.float64)
        table[rank, : len(own)] = torch.from_numpy(proposed).to(self.device)
        self.communicator.all_reduce(table)
        proposals = table.cpu().numpy().reshape(world * n, 2)
        chosen = np.lexsort((proposals[:, 1], -proposals[:, 0]))[:n]
        mine = np.flatnonzero(chosen // n == rank)
        rows = torch.zeros(n, self.n_items, device=self.device)
        values = self.matrix[own[chosen[mine] % n]].toarray()
        rows[torch.from_numpy(mine).to(self.device)] = torch.from_numpy(values).to(self.device)
        self.communicator.all_reduce(rows)
        return rows

    def copied(self, values: np.ndarray) -> int:
        """Returns how many rows [n, n_items] equal the train rows of a real user learned from, the same on every
        worker."""
        # Row by row: the values may be of millions of items.
        binary = [k for k, row in enumerate(values) if row.any() and ((row == 0) | (row == 1)).all()]
        rows = sp.csr_array(values[binary])
        lengths = np.diff(rows.indptr)
        able = self.matrix[np.isin(np.diff(self.matrix.indptr), lengths)]
        shared = sp.coo_array(rows @ able.T)
        same = (shared.data == lengths[shared.row]) & (shared.data == np.diff(able.indptr)[shared.col])
        found = np.zeros(len(binary))
        found[shared.row[same]] = 1
        return sum(total > 0 for total in self.added(*found)) if len(binary) else 0

    def _require_filled(self, n: int) -> None:
        if n > self.n_filled:
            whose = " that are learned from; set fewer, or a larger real_rows." if self.share < 1 else "; set fewer."
            raise DasError(f"--users {n:,} is more than the {self.n_filled:,} users with train rows{whose}")

    def _own(self, users: np.ndarray) -> tuple[sp.csr_array, np.ndarray]:
        here = self._places(users)
        mine = here >= 0
        return sp.csr_array(self.matrix[here[mine]]), users[mine].astype(np.int64)

    def _places(self, users: np.ndarray) -> np.ndarray:
        """Returns the row of each user in this worker's matrix; -1 for users of other workers or without rows."""
        wanted = users.astype(np.int64)
        places = np.minimum(np.searchsorted(self.numbers, wanted), max(len(self.numbers) - 1, 0))
        if not len(self.numbers):
            return np.full(len(wanted), -1)
        return np.where(self.numbers[places] == wanted, places, -1)


def _permuted(places: np.ndarray, n: int, begin: hashing.Stream, rounds: np.ndarray) -> np.ndarray:
    """Applies a random permutation of 0 … n − 1, one for each round, without storing it.

    A Feistel network permutes numbers with twice ``half`` bits; it is applied again to results outside [0, n)
    (Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002).
    """
    half = max(1, (max(n - 1, 1).bit_length() + 1) // 2)
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    result = places.astype(np.uint64)
    todo = np.ones(len(result), dtype=bool)
    while todo.any():
        left, right, own = result[todo] >> shift, result[todo] & mask, rounds[todo]
        for k in range(_FEISTEL_ROUNDS):
            left, right = right, left ^ (hashing.combine(begin, k, own, right) & mask)
        result[todo] = left << shift | right
        todo = result >= np.uint64(n)
    return result


def _keep(rows: sp.csr_array, entries: np.ndarray) -> sp.csr_array:
    """Returns a CSR matrix with only the marked entries."""
    before = ragged.offsets(entries)
    values = rows.data[entries]
    return sp.csr_array((values, rows.indices[entries], before[rows.indptr]), shape=rows.shape)
