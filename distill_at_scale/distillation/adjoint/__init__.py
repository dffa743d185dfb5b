"""Exact gradients through the training of a model: derivatives of the trained parameters with respect to the data.

    trained, _ = unroll(loss, parameters, data, Adam(), rates)      T steps, no graph is kept
    outer_loss(trained).backward()                                  gradients of data, parameters and rates

Plain torch, for any differentiation through training: data distillation, learned rates and augmentations,
meta-learning, influence of examples. Autograd through T steps keeps T graphs; here only the optimizer's states,
or a few of them (:mod:`memory`), are kept, and one step's graph exists at a time.

Step t of an optimizer maps θ_{t−1} and its state (Adam: the moments m, v) to θ_t with the gradient
g_t = ∂loss(θ_{t−1}, x_t)/∂θ. In the backward pass, a bar over a quantity is the outer loss's derivative with respect to
it (its adjoint):

1. The optimizer's formulas (:mod:`optimizers`) give ḡ_t and the direct contributions to θ̄_{t−1} and the state.
2. One double backward adds the contributions through the gradient:
   (H_θ, H_x) = ∂⟨g_t(θ_{t−1}, x_t), ḡ_t⟩/∂(θ_{t−1}, x_t); θ̄_{t−1} += H_θ, x̄_t += H_x.

Randomness (dropout) is seeded by (seed, step), so that the backward pass reproduces the forward pass.
"""

from __future__ import annotations

from distill_at_scale.distillation.adjoint.memory import EveryKth, EveryState, Keep, Snapshots
from distill_at_scale.distillation.adjoint.optimizers import SGD, Adam, Optimizer
from distill_at_scale.distillation.adjoint.trees import Tree
from distill_at_scale.distillation.adjoint.unroll import OptimizerState, seeded, unroll

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
    "seeded",
    "unroll",
]
