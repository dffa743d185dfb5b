"""Where Farzi starts: latent sequences made of real ones and of what full-data models would predict in them.

The logits of all tokens are written down, and a truncated SVD makes them D M. Inputs are a softened item; targets are
the teachers' predictions at that place. A student trained on these alone is already a distilled one (dark knowledge).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from distill_at_scale.data import hashing
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.farzi.latent import LatentSequences
from distill_at_scale.distillation.students import Parameters, Student
from distill_at_scale.errors import DasError

# Singular vectors beyond those asked for, and rounds, of the randomised SVD.
_OVERSAMPLED, _ROUNDS = 10, 6


@dataclass(frozen=True)
class Teacher:
    """A model trained on the full data."""

    student: Student
    parameters: Parameters

    def logits(self, items: torch.Tensor) -> torch.Tensor:
        """[b, w, n_items] after each of the items int64 [b, w], padded at the left with n_items."""
        with torch.no_grad():
            return self.student.states(self.parameters, items) @ self.student.table(self.parameters).T


def real_sequences(rows: Interactions, n_sequences: int, length: int, seed: int) -> np.ndarray:
    """int64 [n_sequences, length]: the newest items of users drawn by hash.

    Raises:
        DasError: when too few users have that many items.
    """
    long_enough = np.flatnonzero(rows.counts >= length)
    if len(long_enough) < n_sequences:
        raise DasError(
            f"Only {len(long_enough)} users have {length} train rows or more, {n_sequences} are needed; "
            "ask for fewer or shorter sequences."
        )
    drawn = hashing.combine(seed, rows.users[long_enough].astype(np.uint64))
    chosen = long_enough[np.argsort(drawn, kind="stable")[:n_sequences]]
    ends = rows.offsets[chosen + 1]
    return rows.items[ends[:, None] - length + np.arange(length)].astype(np.int64)


def start_from_teachers(
    teachers: Sequence[Teacher],
    rows: Interactions,
    n_sequences: int,
    length: int,
    width: int,
    *,
    coupled: bool,
    sharpness: float,
    foresight: float,
    popularity: float,
    seed: int,
) -> LatentSequences:
    """Latent sequences that stand for real ones.

    Args:
        teachers: at least one; their logits are averaged.
        rows: train rows.
        n_sequences, length, width: μ, ξ, d.
        coupled: whether a place's target is the next place's token. Then each token's logits are the sum of the three
            terms below; else inputs have the first, targets the other two.
        sharpness: of an item's own token: this times the cosine of the items' vectors.
        foresight: this times the teachers' logits for the place.
        popularity: this times the logarithm of the items' train rows.
        seed: of the users drawn.

    Raises:
        DasError: as :func:`real_sequences`, and for a width above what the tokens span.
    """
    items = torch.from_numpy(real_sequences(rows, n_sequences, length + 1 - coupled, seed))
    tables = [F.normalize(t.student.table(t.parameters), dim=1) for t in teachers]
    table = torch.cat(tables, dim=1) / len(tables) ** 0.5
    items = items.to(table.device)
    known = sharpness * table[items] @ table.T
    # What follows the last item is not asked for, and the places then lie as they do for a student.
    predicted = foresight * torch.stack([t.logits(items[:, :-1]) for t in teachers]).mean(dim=0)
    predicted = predicted + popularity * torch.from_numpy(np.log1p(rows.item_counts())).to(predicted)
    logits = [torch.cat((known[:, :1], known[:, 1:] + predicted), dim=1)] if coupled else [known[:, :-1], predicted]
    flat = torch.cat([part.reshape(-1, rows.n_items) for part in logits])
    if width > min(flat.shape):
        raise DasError(f"width={width} is more than {min(flat.shape)}, the sequences' tokens or items; set it smaller.")
    latent, decoder = _factorised(flat - flat.mean(dim=1, keepdim=True), width, seed)
    parts = [part.reshape(n_sequences, -1, width) for part in latent.split(n_sequences * logits[0].shape[1])]
    return LatentSequences(parts[0], decoder, None if coupled else parts[1])


def _factorised(matrix: torch.Tensor, rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best product of [n, rank] and [rank, m], their scales alike."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        left, values, right = torch.svd_lowrank(matrix, min(rank + _OVERSAMPLED, *matrix.shape), _ROUNDS)
    root = values[:rank].sqrt()
    return (left[:, :rank] * root).contiguous(), (right[:, :rank] * root).T.contiguous()
