"""Exact gradients through a training: what would the trained parameters be, had the data been a little different?

    trained, _ = unroll(loss, parameters, data, Adam(), rates)      T steps, no graph is kept
    outer_loss(trained).backward()                                  the data's, parameters' and rates' gradients

Plain torch, of use wherever a training is differentiated: data distillation, learned rates and augmentations,
meta-learning, influence of examples. Autograd through T steps keeps T graphs; here only the optimizer's states
are kept, or a few of them (:mod:`memory`), and the graph of one step lives at a time.

A step t of an optimizer takes θ_{t−1} and its state (Adam: the moments m, v) to θ_t with the gradient
g_t = ∂loss(θ_{t−1}, x_t)/∂θ. Going back, a bar over a quantity is the outer loss's derivative with respect to it:

1. the optimizer's own formulas (:mod:`optimizers`) give ḡ_t and what reaches θ̄_{t−1} and the state directly;
2. one double backward adds what came through the gradient: (H_θ, H_x) = ∂⟨g_t(θ_{t−1}, x_t), ḡ_t⟩/∂(θ_{t−1}, x_t);
   θ̄_{t−1} += H_θ, x̄_t += H_x.

Randomness (dropout) is seeded by (seed, step), so that the way back sees what the way there saw.
"""

from __future__ import annotations

from distill_at_scale.distillation.adjoint.memory import EveryKth, EveryState, Keep, Snapshots
from distill_at_scale.distillation.adjoint.optimizers import SGD, Adam, Optimizer
from distill_at_scale.distillation.adjoint.trees import Tree
from distill_at_scale.distillation.adjoint.unroll import OptimizerState, unroll

__all__ = [
    "SGD",
    "Adam",
    "EveryKth",
    "EveryState",
    "Keep",
    "Optimizer",
    "OptimizerState",
    "Snapshots",
    "Tree",
    "unroll",
]
