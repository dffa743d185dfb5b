"""The real users that a distiller learns from: one worker's share of them, drawn and masked the same way on any number.

Everything drawn is a hash of its place (seed, step, user, item), so that workers need not agree on anything, a
run goes on after a kill as it would have gone on, and one worker and two see the same batches.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import torch

from distill_at_scale.data import hashing, ragged
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.models.selection import Validated, evaluator_of
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.sources import Source
from distill_at_scale.models.training.validation import merged_metric

_FEISTEL_ROUNDS = 4


class RealUsers:
    """The train rows of one worker's users as a sparse matrix, and the validation rows of those who are judged.

    Practical limits: 8 bytes a train row and 16 a user of this worker's share stay in memory. Users without train
    rows take their places in the batches all the same: in a sample of few of the users, set a larger batch_size.

    Attributes:
        n_users, n_items: Size of the whole dataset.
        n_rows: train rows of all workers' users, distinct pairs.
        n_filled: users with train rows, of all workers.
        numbers: int64 [u], this worker's users with train rows, ascending.
        matrix: float32 CSR [u, n_items], their train rows, binary.
        has_validation: whether there is anything to judge on.

    Args:
        source: this worker's share.
        communicator: the workers that distill together.
        seed: Random seed.
        judged: about how many users are judged on validation, of all workers; drawn by hash.
        device: where numbers are added up over the workers.
    """

    def __init__(
        self,
        source: Source,
        communicator: Communicator | None = None,
        seed: int = 0,
        judged: int = 3000,
        device: torch.device | None = None,
    ) -> None:
        self.communicator, self.device = communicator or Communicator(), device or torch.device("cpu")
        self.n_users, self.n_items = source.n_users, source.n_items
        self._seed = seed
        self._validation: list[tuple[Interactions, Interactions]] = []
        numbers, matrices = [np.empty(0, np.int64)], [sp.csr_array((0, self.n_items), dtype=np.float32)]
        for piece in range(source.n_pieces):
            rows, heldout = source.train(piece), source.validation(piece)
            numbers.append(rows.users)
            matrices.append(rows.to_csr())
            if heldout is not None:
                chosen = self._judged(heldout, judged)
                self._validation.append((rows.take(chosen, timestamps=False), heldout.take(chosen, timestamps=False)))
        found = np.concatenate(numbers)
        order = np.argsort(found, kind="stable")
        stacked = sp.vstack(matrices, format="csr")
        order = order[np.diff(stacked.indptr)[order] > 0]
        self.numbers, self.matrix = found[order], sp.csr_array(stacked[order])
        judged_users = sum(len(heldout) for _, heldout in self._validation)
        totals = self.added(self.matrix.nnz, len(self.numbers), judged_users)
        self.n_rows, self.n_filled, judged_users = (int(total) for total in totals)
        self.has_validation = judged_users > 0
        if not self.n_rows:
            raise DasError("There are no train rows to distill.")

    def added(self, *numbers: float) -> list[float]:
        """Each number's sum over the workers."""
        totals = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        self.communicator.all_reduce(totals)
        return totals.tolist()

    def batch(self, step: int, size: int) -> tuple[sp.csr_array, np.ndarray]:
        """This worker's users of the batch of a step.

        All users come once before any comes again, in an order that is drawn again each time.

        Args:
            step: counted from 0.
            size: users of the whole batch, over all workers.

        Returns:
            their train rows, CSR [b, n_items], and their numbers [b].
        """
        positions = step * size + np.arange(size, dtype=np.uint64)
        rounds, places = np.divmod(positions, np.uint64(self.n_users))
        return self._own(
            _permuted(places, self.n_users, hashing.stream("distillation/order of users", self._seed), rounds)
        )

    def hide(self, rows: sp.csr_array, users: np.ndarray, step: int, share: float) -> tuple[sp.csr_array, sp.csr_array]:
        """Splits train rows at random into what a step may see and what it must predict.

        Args:
            rows, users: Rows and users of a batch.
            share: Share of the rows that are hidden, in [0, 1).

        Returns:
            (inputs, hidden), CSR [b, n_items] each.
        """
        owners = np.repeat(users, np.diff(rows.indptr)).astype(np.uint64)
        begin = hashing.stream("distillation/hidden rows", self._seed, step)
        hidden = hashing.uniform(hashing.combine(begin, owners, rows.indices.astype(np.uint64))) < share
        return _keep(rows, ~hidden), _keep(rows, hidden)

    def drawn(self, n: int) -> torch.Tensor:
        """The train rows of ``n`` distinct users drawn at random, float32 [n, n_items], the same on every worker.

        Raises:
            DasError: when fewer than ``n`` have rows.
        """
        if n > self.n_filled:
            raise DasError(f"--users {n:,} is more than the {self.n_filled:,} users with train rows; set fewer.")
        rows = torch.zeros(n, self.n_items, device=self.device)
        placed = start = 0
        begin = hashing.stream("distillation/initial users", self._seed)
        while placed < n:
            positions = np.arange(start, min(start + 2 * n, self.n_users), dtype=np.uint64)
            places = self._places(_permuted(positions, self.n_users, begin, np.zeros_like(positions)))
            chosen = np.flatnonzero(self.added(*(places >= 0)))[: n - placed]
            mine = places[chosen] >= 0
            where = torch.from_numpy(placed + np.flatnonzero(mine)).to(self.device)
            rows[where] = torch.from_numpy(self.matrix[places[chosen][mine]].toarray()).to(self.device)
            placed, start = placed + len(chosen), start + 2 * n
        self.communicator.all_reduce(rows)
        return rows

    def judge(self, score: Callable[[Interactions], np.ndarray], metric: str, name: str) -> float:
        """A validation metric over all workers' judged users, the same number on each worker; arguments as of
        :meth:`validated`."""
        return self.validated(score, metric, name).metric

    def validated(self, score: Callable[[Interactions], np.ndarray], metric: str, name: str) -> Validated:
        """What the validation of all workers' judged users found, the same on each worker.

        Args:
            score: from histories to scores [b, n_items].
            metric: as ``ndcg@10``; of the ranking metrics.
            name: for messages.
        """
        evaluator = evaluator_of(metric, np.ones(self.n_items), name)
        for train, heldout in self._validation:
            evaluator.add_all(score, train, heldout)
        return merged_metric(evaluator, metric, self.communicator, self.device)

    def _own(self, users: np.ndarray) -> tuple[sp.csr_array, np.ndarray]:
        here = self._places(users)
        mine = here >= 0
        return sp.csr_array(self.matrix[here[mine]]), users[mine].astype(np.int64)

    def _places(self, users: np.ndarray) -> np.ndarray:
        """Row of each user in this worker's matrix, -1 where it is another worker's, or has no rows."""
        wanted = users.astype(np.int64)
        places = np.minimum(np.searchsorted(self.numbers, wanted), max(len(self.numbers) - 1, 0))
        if not len(self.numbers):
            return np.full(len(wanted), -1)
        return np.where(self.numbers[places] == wanted, places, -1)

    def _judged(self, heldout: Interactions, judged: int) -> np.ndarray:
        """Positions of the users that are judged."""
        begin = hashing.stream("distillation/judged users", self._seed)
        share = judged / max(self.n_users, 1)
        return np.flatnonzero((heldout.counts > 0) & hashing.drawn(begin, heldout.users, share))


def _permuted(places: np.ndarray, n: int, begin: hashing.Stream, rounds: np.ndarray) -> np.ndarray:
    """Where each of the places 0 … n − 1 goes in a random permutation, one for each round; nothing is stored.

    A Feistel network permutes numbers with twice this many bits; a number outside [0, n) passes through it again
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
    """The entries of a binary CSR that are marked."""
    before = ragged.offsets(entries)
    values = rows.data[entries]
    return sp.csr_array((values, rows.indices[entries], before[rows.indptr]), shape=rows.shape)
