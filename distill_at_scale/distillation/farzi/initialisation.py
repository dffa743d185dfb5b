"""Where Farzi starts: latent sequences made of real ones and of what full-data models would predict in them.

Inputs are a softened item; targets are the teachers' predictions at that place. A student trained on these alone is
already a distilled one (dark knowledge). The logits of both are combinations of the items' vectors: a product of two
matrices as narrow as those, by an SVD D M, with nothing lost, and they are never written down. That is why a softened
item is made by its likeness to others in that space (Mahalanobis'), and not by the cosine, whose logits need as many
dimensions again and which, cut down to the width that there is, is less sharp.
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

# Of numbers that stand for nothing yet, beside those of the SVD.
_SPARE = 1e-3


@dataclass(frozen=True)
class Teacher:
    """A model trained on the full data."""

    student: Student
    parameters: Parameters

    def states(self, items: torch.Tensor) -> torch.Tensor:
        """[b, w, dim] after each of the items int64 [b, w], padded at the left with n_items."""
        with torch.no_grad():
            return self.student.states(self.parameters, items)


def real_sequences(rows: Interactions, n_sequences: int, length: int, seed: int, *, joined: bool = False) -> np.ndarray:
    """int64 [n_sequences, length]: the newest items of users drawn by hash.

    Args:
        rows: train rows.
        n_sequences, length: Number and length of the sequences.
        seed: Seed of the draw.
        joined: whether the users' newest items, up to ``length`` of each and two at least, are laid end to end and cut
            to length; else each sequence is one user's.

    Raises:
        DasError: when too few users have that many items, or all together have too few.
    """
    long_enough, needed = int((rows.counts >= length).sum()), 1 if joined else n_sequences
    if long_enough < needed:
        raise DasError(
            f"Only {long_enough} users have {length} train rows or more, {needed} {'is' if needed == 1 else 'are'} "
            "needed; ask for fewer or shorter sequences."
        )
    able = np.flatnonzero(rows.counts >= (2 if joined else length))
    drawn = hashing.combine(hashing.stream("farzi/start users", seed), rows.users[able].astype(np.uint64))
    chosen = able[np.argsort(drawn, kind="stable")]
    if not joined:
        chosen = chosen[:n_sequences]
    taken = np.minimum(rows.counts[chosen], length)
    if taken.sum() < n_sequences * length:
        raise DasError(
            f"{n_sequences} sequences of {length} items are more than the {taken.sum():,} train rows that they can "
            "be made of; ask for fewer or shorter sequences."
        )
    starts, offsets = rows.offsets[chosen + 1] - taken, np.cumsum(taken) - taken
    places = np.repeat(starts - offsets, taken) + np.arange(taken.sum())
    return rows.items[places[: n_sequences * length]].astype(np.int64).reshape(n_sequences, length)


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
    joined: bool = False,
) -> LatentSequences:
    """Latent sequences that stand for real ones.

    Args:
        teachers: at least one; their logits are averaged.
        rows: train rows.
        n_sequences, length, width: μ, ξ, d.
        coupled: whether a place's target is the next place's token. Then each token's logits are the sum of the three
            terms below; else inputs have the first, targets the other two.
        sharpness: Sharpness of an item's own token: this times the similarity of others to it, by :func:`_likeness`.
        foresight: this times the teachers' logits for the place.
        popularity: this times the logarithm of the items' train rows.
        seed: Seed of the draw of users.
        joined: as of :func:`real_sequences`.

    Raises:
        DasError: as :func:`real_sequences`, and for a width above what the tokens span.
    """
    n_tokens = n_sequences * length * (1 if coupled else 2)
    if width > min(n_tokens, rows.n_items):
        most = min(n_tokens, rows.n_items)
        raise DasError(f"width={width} is more than {most}, the sequences' tokens or items; set it smaller.")
    items = torch.from_numpy(real_sequences(rows, n_sequences, length + 1 - coupled, seed, joined=joined))
    tables = [t.student.table(t.parameters) for t in teachers]
    items = items.to(tables[0].device)
    table = torch.cat(tables, dim=1)
    counts = torch.from_numpy(np.log1p(rows.item_counts())).to(table)
    # Logits of tokens are left @ right: combinations of the items' vectors, and popularity.
    right = torch.cat([table, counts[:, None]], dim=1).T
    # A softmax is the same whatever is added to all logits; without their mean they are smaller.
    right = right - right.mean(dim=1, keepdim=True)
    known = F.pad(sharpness * _likeness(right[:-1].T, items), (0, 1))
    # What follows the last item is not asked for, and the places then lie as they do for a student.
    states = torch.cat([t.states(items[:, :-1]) for t in teachers], dim=2) * (foresight / len(teachers))
    predicted = F.pad(states, (0, 1), value=popularity)
    left = [torch.cat((known[:, :1], known[:, 1:] + predicted), dim=1)] if coupled else [known[:, :-1], predicted]
    flat = torch.cat([part.flatten(0, 1) for part in left])
    latent, decoder = _factorised(flat, right, width, seed)
    parts = [part.reshape(n_sequences, -1, width) for part in latent.split(n_sequences * left[0].shape[1])]
    return LatentSequences(parts[0], decoder, None if coupled else parts[1])


def random_start(
    n_sequences: int, length: int, width: int, n_items: int, coupled: bool, seed: int, device: torch.device
) -> LatentSequences:
    """Latent sequences of noise, whose logits have variance 1; the arguments as of :func:`start_from_teachers`."""
    generator = torch.Generator().manual_seed(hashing.stream("farzi/random start", seed))
    latents = [torch.randn(n_sequences, length, width, generator=generator) for _ in range(1 if coupled else 2)]
    decoder = torch.randn(width, n_items, generator=generator) / width**0.5
    inputs, *targets = (latent.to(device) for latent in latents)
    return LatentSequences(inputs, decoder.to(device), targets[0] if targets else None)


def _likeness(table: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """[..., r] z for each of the items, so that ⟨z, e_j⟩ says how like item j is to it: 1 for itself.

    ⟨e_i, e_j⟩ / ⟨e_i, e_i⟩ in the metric that makes the items' vectors, [n_items, r] with mean 0, alike in all
    directions; the largest of all j is j = i, but for vectors that are short in that metric.
    """
    inverse = torch.linalg.pinv(table.T @ table, hermitian=True)
    found = table[items] @ inverse
    own = (found * table[items]).sum(dim=-1, keepdim=True)
    return found / own.clamp(min=torch.finfo(own.dtype).tiny)


def _factorised(left: torch.Tensor, right: torch.Tensor, rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best product D M of [n, rank] and [rank, m] for left [n, r] @ right [r, m], their scales alike.

    Where the rank is higher than that of the product, the rest of M is drawn, small, and the rest of D is 0.
    """
    (q_left, r_left), (q_right, r_right) = torch.linalg.qr(left), torch.linalg.qr(right.T)
    u, values, vh = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    root = values[:rank].sqrt()
    latent, decoder = q_left @ (u[:, : len(root)] * root), (q_right @ (vh[: len(root)].T * root)).T
    spare = rank - len(root)
    generator = torch.Generator().manual_seed(hashing.stream("farzi/spare dimensions", seed))
    drawn = torch.randn(spare, right.shape[1], generator=generator).to(decoder) * _SPARE
    return F.pad(latent, (0, spare)), torch.cat([decoder, drawn]).contiguous()
