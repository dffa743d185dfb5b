"""Values of train rows through a training: the derivative of the trained model's validation loss by their weights.

    θ_0 ─► θ_1 ─► … ─► θ_T ─► validation loss          T steps of Adam, by the fast loss without weights
    ∂/∂w ◄─ … ◄─ step t: ∂⟨g_t(θ_{t−1}, w), ḡ_t⟩/∂(θ_{t−1}, w)

The exact derivative, as in Ilyas, Engstrom, "MAGIC: near-optimal data attribution for deep learning" (2025), by the
walk back of :mod:`adjoint`. The forward pass takes the model's usual steps: only the walk back knows of weights.

The validation loss is the mean over users with train and validation rows of −log softmax of their validation items,
among all items outside their train rows (the mean over a user's several ones). These histories count fully.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.adjoint import Adam, EveryKth, EveryState, Keep, Snapshots
from distill_at_scale.distillation.adjoint.memory import Trail
from distill_at_scale.distillation.adjoint.optimizers import Vectors
from distill_at_scale.distillation.adjoint.trees import as_vector
from distill_at_scale.distillation.attribution.learners import Learner, Parameters
from distill_at_scale.distillation.attribution.values import RowValues
from distill_at_scale.errors import DasError
from distill_at_scale.models.selection import Progress
from distill_at_scale.models.training.batches import seeded
from distill_at_scale.models.training.schedule import rate_share

_CHUNK_USERS = 1024


@dataclass(frozen=True)
class Trained:
    """Parameters after a training, and its validation loss."""

    parameters: Parameters
    loss: float


class Attribution:
    """One training, forward and back.

    Args:
        learner: Model on the train rows.
        train, heldout: Train and validation rows of the same users.
        keep: Which states are kept.
        dtype: Precision of the parameters.
    """

    def __init__(
        self,
        learner: Learner,
        train: Interactions,
        heldout: Interactions,
        keep: Keep | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._learner, self._keep = learner, keep or EveryState()
        judged = np.flatnonzero((heldout.counts > 0) & (train.counts > 0))
        if not len(judged):
            raise DasError("no user has both train and validation rows.")
        self._seen, self._wanted = train.take(judged, timestamps=False), heldout.take(judged, timestamps=False)
        first = {name: value.to(dtype) for name, value in learner.parameters().items()}
        self._start, self._views = as_vector(first)
        config = learner.config
        self._optimizer = Adam(betas=config.betas, eps=config.eps, weight_decay=config.weight_decay)
        shares = [rate_share(config.schedule, k, learner.n_steps) for k in range(learner.n_steps)]
        self._rates = config.learning_rate * torch.tensor(shares, dtype=dtype)

    def trained(self, weights: torch.Tensor | None = None, progress: Progress | None = None) -> Trained:
        """Trains with these weights of the learner's rows, [n_rows]; default: 1 each."""
        theta = self._walk(None if weights is None else F.pad(weights, (0, 1), value=1.0), progress).there(
            self._learner.n_steps
        )[0]
        return Trained(self._views(theta), self._loss(theta)[0])

    def row_values(self, progress: Progress | None = None) -> RowValues:
        """Trains, and returns the values of the distinct train rows; repeated rows of a user and item are added up.

        Raises:
            DasError: The training diverged, or its derivative did.
        """
        learner = self._learner
        trail = self._walk(None, progress, share=0.3)
        loss, theta_bar = self._loss(trail.there(learner.n_steps)[0], with_gradient=True)
        if not math.isfinite(loss):
            raise DasError("the training diverged: its validation loss is not finite; set a smaller learning_rate.")
        slopes = torch.zeros(len(learner.row_users) + 1, dtype=torch.float64)
        bars: Vectors = (theta_bar, *(torch.zeros_like(theta_bar) for _ in range(self._optimizer.n_slots)))
        for k in reversed(range(learner.n_steps)):
            rows, by_weights = self._back(trail.before(k), k, bars)
            slopes.index_add_(0, rows.flatten(), by_weights.flatten().double())
            if progress:
                progress(0.999 - 0.699 * k / learner.n_steps, f"backward, step {k + 1}")
        if not bool(torch.isfinite(slopes).all()):
            raise DasError(
                "the derivative through the training overflowed: its steps amplify small changes; set a smaller "
                "learning_rate, fewer epochs or a larger batch_size."
            )
        n_items = self._seen.n_items
        keys, place = np.unique(learner.row_users * np.int64(n_items) + learner.row_items, return_inverse=True)
        users, items = np.divmod(keys, n_items)
        return RowValues(users, items, np.bincount(place, -slopes[:-1].numpy(), len(keys)), loss)

    def _walk(
        self, weights: torch.Tensor | None, progress: Progress | None, share: float = 0.999
    ) -> Trail[Vectors, torch.Tensor]:
        learner, n_steps = self._learner, self._learner.n_steps
        furthest = -1

        def gradient(state: Vectors, k: int) -> torch.Tensor:
            nonlocal furthest
            batch = learner.batch(k)
            with torch.enable_grad(), seeded(learner.draws(k)):
                leaf = state[0].detach().requires_grad_()
                some = None if weights is None else weights[batch["rows"]]
                (g,) = torch.autograd.grad(learner.loss(self._views(leaf), batch, some), leaf)
            if progress and k > furthest:
                furthest = k
                progress(share * (k + 1) / n_steps, f"forward, step {k + 1}")
            return g

        def step(state: Vectors, g: torch.Tensor, k: int) -> Vectors:
            return self._optimizer.step(state, g, self._rates[k], k + 1)

        zeros = (torch.zeros_like(self._start) for _ in range(self._optimizer.n_slots))
        return Trail(self._keep if weights is None else Snapshots(1), (self._start, *zeros), gradient, step)

    def _back(self, before: Vectors, k: int, bars: Vectors) -> tuple[torch.Tensor, torch.Tensor]:
        """Replaces the adjoints after step k by those before it; returns the batch's rows and their weights' slopes."""
        batch = self._learner.batch(k)
        with torch.enable_grad(), seeded(self._learner.draws(k)):
            leaf = before[0].detach().requires_grad_()
            weights = torch.ones(batch["rows"].shape, dtype=leaf.dtype, requires_grad=True)
            loss = self._learner.loss(self._views(leaf), batch, weights)
            (g,) = torch.autograd.grad(loss, leaf, create_graph=True)
            g_bar, _ = self._optimizer.back(before, g.detach(), self._rates[k], k + 1, bars)
            by_parameters, by_weights = torch.autograd.grad(g, (leaf, weights), g_bar)
        bars[0].add_(by_parameters)
        return batch["rows"], by_weights

    def _loss(self, theta: torch.Tensor, with_gradient: bool = False) -> tuple[float, torch.Tensor]:
        """Returns the validation loss at parameters, and its gradient (0 unless asked for)."""
        total, gradient, n = 0.0, torch.zeros_like(theta), len(self._seen)
        for start in range(0, n, _CHUNK_USERS):
            seen, wanted = (rows.slice(start, start + _CHUNK_USERS) for rows in (self._seen, self._wanted))
            with torch.set_grad_enabled(with_gradient):
                leaf = theta.detach().requires_grad_(with_gradient)
                loss = heldout_loss(self._learner.scores(self._views(leaf), seen), seen, wanted) / n
                total += float(loss.detach())
                if with_gradient:
                    gradient += torch.autograd.grad(loss, leaf)[0]
        return total, gradient


def heldout_loss(scores: torch.Tensor, seen: Interactions, wanted: Interactions) -> torch.Tensor:
    """Returns the sum over users of the mean −log softmax of the wanted items among those that are not seen.

    Args:
        scores: [b, n_items].
        seen, wanted: Rows of the b users; wanted items that are also seen count as not seen.
    """
    owner_seen = np.repeat(np.arange(len(seen)), seen.counts)
    owner = torch.from_numpy(np.repeat(np.arange(len(wanted)), wanted.counts))
    items = torch.from_numpy(wanted.items.astype(np.int64))
    hidden = torch.zeros(scores.shape, dtype=torch.bool)
    hidden[torch.from_numpy(owner_seen), torch.from_numpy(seen.items.astype(np.int64))] = True
    hidden[owner, items] = False
    logs = scores.masked_fill(hidden, -torch.inf).logsumexp(1)
    shares = 1 / torch.from_numpy(wanted.counts.astype(np.float64)).to(scores.dtype)
    return ((logs[owner] - scores[owner, items]) * shares[owner]).sum()


def affordable(
    model: Any, config: Any, n_steps: int, n_rows: int, n_users: int, n_items: int, free: int
) -> tuple[Keep, int]:
    """Returns the fastest checkpointing policy whose peak memory fits, and the peak bytes; else the smallest policy.

    Args:
        model: Class of the model.
        config: Its settings.
        n_steps: Number of steps of its training.
        n_rows: Number of rows with a weight.
        n_users, n_items: Size of the dataset.
        free: Bytes available.
    """
    root, logs = max(1, math.isqrt(n_steps)), math.ceil(math.log2(max(n_steps, 2)))
    # Vectors as long as the parameters: states of three vectors, gradients; and at all times the adjoints and copies.
    policies: list[tuple[Keep, int]] = [
        (EveryState(), 3 * (logs + 1) + n_steps),
        (EveryKth(root), 3 * (n_steps // root + logs + 3) + root),
        (Snapshots(logs), 3 * (logs + 2)),
    ]
    size = model.parameters_needed(n_users, n_items, config)
    # Graphs of a step and of its gradient; the validation scores of some users, and their derivative.
    beside = 8 * model.activations_needed(n_items, config) + 6 * min(n_users, _CHUNK_USERS) * n_items
    bytes_of = [(keep, 4 * (beside + size * (vectors + 10)) + 80 * n_rows) for keep, vectors in policies]
    return next((one for one in bytes_of if one[1] <= free), bytes_of[-1])
