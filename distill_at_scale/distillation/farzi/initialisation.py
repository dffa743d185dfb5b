"""Initialisation of Farzi: latent sequences built from real sequences and the predictions of full-data models.

Inputs are smoothed items; targets are the teachers' predictions at that position. A student trained on these is already
a distilled one (dark knowledge). The logits of both are combinations of the items' vectors. So they equal a product D M
of narrow matrices, computed exactly by an SVD without ever building the logits. For this reason items are smoothed by
their Mahalanobis similarity in that space, and not by the cosine, whose logits need as many dimensions again and are
less sharp after truncation to the given width.
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
from distill_at_scale.distillation.farzi.narrow_factors import fitted_factors
from distill_at_scale.distillation.farzi.quantisation import BYTE
from distill_at_scale.distillation.students import Parameters, Student
from distill_at_scale.errors import DasError

# Scale of the random values in dimensions beyond the rank of the SVD.
_SPARE = 1e-3
# Smaller shares of a code in a teacher's predictions count as this one.
_LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class Teacher:
    """A model trained on the full data: its student form and parameters."""

    student: Student
    parameters: Parameters

    def states(self, items: torch.Tensor) -> torch.Tensor:
        """Returns the states [b, w, dim] after each of the items int64 [b, w], padded on the left with n_items."""
        with torch.no_grad():
            return self.student.states(self.parameters, items)


def most_sequences(rows: Interactions, length: int, *, joined: bool) -> int:
    """Returns how many sequences of a length :func:`real_sequences` can make of the train rows."""
    if not joined:
        return int((rows.counts >= length).sum())
    able = rows.counts[rows.counts >= 2]
    return int(np.minimum(able, length).sum() // length) if (able >= length).any() else 0


def real_sequences(rows: Interactions, n_sequences: int, length: int, seed: int, *, joined: bool = False) -> np.ndarray:
    """Returns int64 [n_sequences, length]: the newest items of users drawn by hash.

    Args:
        rows: Train rows.
        n_sequences, length: Number and length of the sequences.
        seed: Random seed.
        joined: Whether the users' newest items (2 to ``length`` of each) are concatenated and split into sequences;
            else each sequence is one user's.

    Raises:
        DasError: Too few users have that many items, or all users together have too few.
    """
    long_enough, needed = int((rows.counts >= length).sum()), 1 if joined else n_sequences
    if long_enough < needed:
        raise DasError(
            f"Only {long_enough} users have {length} train rows or more, {needed} {'is' if needed == 1 else 'are'} "
            "needed; set fewer or shorter sequences."
        )
    able = np.flatnonzero(rows.counts >= (2 if joined else length))
    drawn = hashing.combine(hashing.stream("farzi/start users", seed), rows.users[able].astype(np.uint64))
    chosen = able[np.argsort(drawn, kind="stable")]
    if not joined:
        chosen = chosen[:n_sequences]
    taken = np.minimum(rows.counts[chosen], length)
    if taken.sum() < n_sequences * length:
        raise DasError(
            f"{n_sequences} sequences of {length} items need more than the {taken.sum():,} train rows that are usable; "
            "set fewer or shorter sequences."
        )
    starts, offsets = rows.offsets[chosen + 1] - taken, np.cumsum(taken) - taken
    places = np.repeat(starts - offsets, taken) + np.arange(taken.sum())
    return rows.items[places[: n_sequences * length]].astype(np.int64).reshape(n_sequences, length)


def initialise_from_teachers(
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
    joined: bool = False,
    soft_inputs: bool = True,
    fitted: int = 0,
    bits: float = BYTE,
) -> LatentSequences:
    """Builds latent sequences from real ones and the teachers' predictions.

    Args:
        teachers: At least one; their logits are averaged.
        rows: Train rows.
        n_sequences, length, width: μ, ξ, d.
        coupled: Whether the next token is a position's target. Then each token's logits are the sum of the three
            terms below; else inputs have the first term, targets the other two.
        sharpness: Weight of the item's own term: the similarity of all items to it, by :func:`_similarity`.
        foresight: Weight of the teachers' logits at the position.
        popularity: Weight of the logarithm of the items' train rows.
        seed: Seed of the draw of users.
        joined: As in :func:`real_sequences`.
        soft_inputs: Whether inputs are soft tokens, else the items themselves; coupled tokens are always soft.
        fitted, bits: Passes in which D and M are fitted to the tokens' distributions, and bits of a stored number; see
            :func:`~distill_at_scale.distillation.farzi.narrow_factors.fitted_factors`.

    Raises:
        DasError: As for :func:`real_sequences`, or the width exceeds the number of tokens or items.
    """
    n_tokens = n_sequences * length * (2 if soft_inputs and not coupled else 1)
    if width > min(n_tokens, rows.n_items):
        most = min(n_tokens, rows.n_items)
        raise DasError(f"width={width} is more than {most}, the number of tokens or of items; set a smaller width.")
    items = torch.from_numpy(real_sequences(rows, n_sequences, length + 1 - coupled, seed, joined=joined))
    tables = [t.student.table(t.parameters) for t in teachers]
    items = items.to(tables[0].device)
    table = torch.cat(tables, dim=1)
    counts = torch.from_numpy(np.log1p(rows.item_counts())).to(table)
    # The tokens' logits are left @ right: combinations of the items' vectors, and popularity.
    right = torch.cat([table, counts[:, None]], dim=1).T
    # Softmax is invariant to a constant shift of the logits; centred logits are smaller.
    right = right - right.mean(dim=1, keepdim=True)
    known = F.pad(sharpness * _similarity(right[:-1].T, items), (0, 1))
    # The last item has no target; without it, positions are aligned as for a student.
    states = torch.cat([t.states(items[:, :-1]) for t in teachers], dim=2) * (foresight / len(teachers))
    predicted = F.pad(states, (0, 1), value=popularity)
    if coupled:
        left = [torch.cat((known[:, :1], known[:, 1:] + predicted), dim=1)]
    else:
        left = [known[:, :-1], predicted] if soft_inputs else [predicted]
    flat = torch.cat([part.flatten(0, 1) for part in left])
    latent, decoder = _factorised(flat, right, width, seed)
    if fitted:
        latent, decoder = fitted_factors(latent, decoder, flat, right, passes=fitted, bits=bits, seed=seed)
    parts = [part.reshape(n_sequences, -1, width) for part in latent.split(n_sequences * left[0].shape[1])]
    if not soft_inputs:
        parts = [items[:, :-1].contiguous(), *parts]
    return LatentSequences(parts[0], decoder, None if coupled else parts[1])


def initialise_books(
    teacher: Teacher,
    rows: Interactions,
    n_sequences: int,
    length: int,
    width: int,
    *,
    foresight: float,
    seed: int,
    joined: bool = False,
) -> LatentSequences:
    """Builds latent sequences over a teacher's books: real items, and at each position the distributions over the codes
    of each book of the items that the teacher predicts there.

    Args, Raises: As for :func:`initialise_from_teachers`.
    """
    books = teacher.student.books
    assert books is not None
    table = teacher.student.table(teacher.parameters)
    drawn = real_sequences(rows, n_sequences, length + 1, seed, joined=joined)
    items = torch.from_numpy(drawn[:, :-1].copy()).to(table.device)
    shares = books.marginals(foresight * teacher.states(items).flatten(0, 1), table).clamp(min=_LEAST_SHARE)
    logs, mean = (part.unflatten(-1, (books.n_books, books.size)) for part in (shares.log(), shares.mean(dim=0)))
    # Softmax is invariant to a constant shift of a book's logits. An error of a logit counts by the code's share: the
    # divergence of a softmax is, to second order, half the variance of its logits' error.
    logs = logs - (logs * mean).sum(dim=2, keepdim=True) / mean.sum(dim=1, keepdim=True)
    root = mean.flatten().sqrt()
    latent, decoder = _factorised(logs.flatten(1) * root, torch.diag(torch.ones_like(root)), width, seed)
    decoder = (decoder / root).contiguous()
    return LatentSequences(items, decoder, latent.reshape(n_sequences, length, width), books=books)


def random_initialisation(
    n_sequences: int, length: int, width: int, n_items: int, coupled: bool, seed: int, device: torch.device
) -> LatentSequences:
    """Returns latent sequences of noise with logits of variance 1; for arguments see
    :func:`initialise_from_teachers`."""
    generator = torch.Generator().manual_seed(hashing.stream("farzi/random start", seed))
    latents = [torch.randn(n_sequences, length, width, generator=generator) for _ in range(1 if coupled else 2)]
    decoder = torch.randn(width, n_items, generator=generator) / width**0.5
    inputs, *targets = (latent.to(device) for latent in latents)
    return LatentSequences(inputs, decoder.to(device), targets[0] if targets else None)


def _similarity(table: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """Returns z [..., r] for each item, such that ⟨z, e_j⟩ is the similarity of item j to it, 1 for itself.

    The similarity is ⟨e_i, e_j⟩ / ⟨e_i, e_i⟩ in the metric that whitens the items' vectors, [n_items, r] with mean 0;
    it is largest for j = i, except for vectors that are short in that metric.
    """
    inverse = torch.linalg.pinv(table.T @ table, hermitian=True)
    found = table[items] @ inverse
    own = (found * table[items]).sum(dim=-1, keepdim=True)
    return found / own.clamp(min=torch.finfo(own.dtype).tiny)


def _factorised(left: torch.Tensor, right: torch.Tensor, rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the best factors D [n, rank] and M [rank, m], with balanced scales, of left [n, r] @ right [r, m].

    If the rank exceeds that of the product, the remaining rows of M are small random values, and those columns of D 0.
    """
    (q_left, r_left), (q_right, r_right) = torch.linalg.qr(left), torch.linalg.qr(right.T)
    u, values, vh = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    root = values[:rank].sqrt()
    latent, decoder = q_left @ (u[:, : len(root)] * root), (q_right @ (vh[: len(root)].T * root)).T
    spare = rank - len(root)
    generator = torch.Generator().manual_seed(hashing.stream("farzi/spare dimensions", seed))
    drawn = torch.randn(spare, right.shape[1], generator=generator).to(decoder) * _SPARE
    return F.pad(latent, (0, spare)), torch.cat([decoder, drawn]).contiguous()
