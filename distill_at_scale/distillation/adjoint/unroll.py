"""T optimizer steps as one differentiable function, by the equations of the package's docstring."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from distill_at_scale.data import hashing
from distill_at_scale.distillation.adjoint.memory import EveryState, Keep, Trail
from distill_at_scale.distillation.adjoint.optimizers import Optimizer, Vectors
from distill_at_scale.distillation.adjoint.trees import Tree, as_vector, flatten
from distill_at_scale.errors import DasError

Loss = Callable[[Tree, Tree, int], torch.Tensor]
"""(parameters, data, step) -> a scalar. The step, from 0, selects the batch."""


@dataclass(frozen=True)
class OptimizerState:
    """State of an optimizer: number of steps done, and its vectors [P] (Adam: m, v), detached."""

    step: int
    slots: Vectors


def unroll(
    loss: Loss,
    parameters: Tree,
    data: Tree,
    optimizer: Optimizer,
    rates: torch.Tensor,
    *,
    start: OptimizerState | None = None,
    seed: int | None = None,
    keep: Keep | None = None,
) -> tuple[Tree, OptimizerState]:
    """Takes as many steps as there are ``rates``; the result is differentiable by autograd.

    Gradients reach ``parameters``, ``rates`` and all tensors in ``data`` that require one. They equal those of autograd
    through the steps, but need memory only for one step's graph and the states that ``keep`` selects. ``start`` and the
    returned state are constants, so gradients do not pass beyond a window of a longer trajectory. The result has first
    derivatives only.

    Args:
        loss: Loss of any functional model; pure except for torch's random generator, and differentiable twice.
        parameters: A tree of floating-point tensors of one dtype and device.
        data: Any tree. If a step uses a part of the data, pass one tensor per batch: a step's gradients are as large as
            the tensors that it uses.
        optimizer: Update rule.
        rates: [T], learning rate of each step.
        start: Optimizer state of an earlier call, to continue from it; default: a new one.
        seed: torch's generators are seeded with (seed, step) in every step; None leaves them alone, which is correct
            only for a deterministic loss.
        keep: Checkpointing policy; default: every state.

    Returns:
        The parameters after the last step, a tree like ``parameters``; the optimizer's state there.

    Raises:
        DasError: The parameters have several dtypes or devices, ``start`` has another size, or, in the backward pass,
            the loss has no second derivative.
    """
    vector, views = as_vector(parameters)
    leaves, rebuild = flatten(data)
    if start is None:
        start = OptimizerState(0, tuple(torch.zeros_like(vector) for _ in range(optimizer.n_slots)))
    start = OptimizerState(start.step, tuple(slot.detach() for slot in start.slots))
    if [slot.shape for slot in start.slots] != [vector.shape] * optimizer.n_slots:
        raise DasError("The optimizer's state does not match the parameters and the optimizer; start without one.")
    run = _Run(loss, views, rebuild, leaves, optimizer, start, seed, keep or EveryState())
    # A tensor that occurs several times in the tree has one gradient.
    tensors = {id(leaf): leaf for leaf in leaves if isinstance(leaf, torch.Tensor)}
    last, *slots = _Unrolled.apply(run, vector, rates, *tensors.values())
    return views(last), OptimizerState(start.step + len(rates), tuple(slots))


@dataclass(frozen=True)
class _Run:
    """Constants of all steps."""

    loss: Loss
    views: Callable[[torch.Tensor], Tree]
    rebuild: Callable[[Sequence[Any]], Tree]
    leaves: list[Any]
    optimizer: Optimizer
    start: OptimizerState
    seed: int | None
    keep: Keep

    def data(self, tensors: Sequence[torch.Tensor]) -> Tree:
        """Returns the data tree with other tensors, one for each distinct tensor of the tree, in its order."""
        places = dict.fromkeys(id(leaf) for leaf in self.leaves if isinstance(leaf, torch.Tensor))
        others = dict(zip(places, tensors, strict=True))
        return self.rebuild([others[id(leaf)] if isinstance(leaf, torch.Tensor) else leaf for leaf in self.leaves])

    def gradient(
        self, theta: torch.Tensor, data: Tree, k: int, twice: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns (θ as a leaf of the graph, the gradient g there) at step ``k`` of this run."""
        place = self.start.step + k
        with torch.enable_grad(), seeded(self.seed, place, theta.device):
            leaf = theta.detach().requires_grad_()
            value = self.loss(self.views(leaf), data, place)
            (g,) = torch.autograd.grad(value, leaf, create_graph=twice)
        return leaf, g


class _Unrolled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, run: _Run, theta: torch.Tensor, rates: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        fixed = run.data([tensor.detach() for tensor in tensors])
        rates = rates.detach()

        def gradient(state: Vectors, k: int) -> torch.Tensor:
            return run.gradient(state[0], fixed, k)[1]

        def step(state: Vectors, g: torch.Tensor, k: int) -> Vectors:
            return run.optimizer.step(state, g, rates[k], run.start.step + k + 1)

        trail = Trail(run.keep, (theta.detach(), *run.start.slots), gradient, step)
        results = trail.there(len(rates))
        if not len(rates):
            results = tuple(vector.clone() for vector in results)
        ctx.run, ctx.trail, ctx.rates, ctx.tensors = run, trail, rates, tensors
        ctx.mark_non_differentiable(*results[1:])
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, theta_bar: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        run, trail, rates = ctx.run, ctx.trail, ctx.rates
        leaves = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in ctx.tensors]
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        data = run.data(leaves)
        touched: set[int] = set()
        for x in wanted:
            # Allocated first; among a step's short-lived tensors they would fragment the heap.
            x.grad = torch.zeros_like(x)
            x.register_post_accumulate_grad_hook(lambda x: touched.add(id(x)))
        rate_bars = torch.zeros_like(rates)
        bars = (theta_bar.clone(), *(torch.zeros_like(slot) for slot in run.start.slots))
        for k in reversed(range(len(rates))):
            before = trail.before(k)
            leaf, g = run.gradient(before[0], data, k, twice=True)
            g_bar, rate_bars[k] = run.optimizer.back(before, g.detach(), rates[k], run.start.step + k + 1, bars)
            _double_backward(g, [leaf, *wanted], g_bar)
            if leaf.grad is not None:
                bars[0].add_(leaf.grad)
        return None, bars[0], rate_bars, *(x.grad if id(x) in touched else None for x in leaves)


def _double_backward(g: torch.Tensor, towards: list[torch.Tensor], g_bar: torch.Tensor) -> None:
    """Adds the gradients of ⟨g, ḡ⟩ to the ``grad`` of the leaves ``towards``, in place and each as soon as it is known.

    Leaves on which ⟨g, ḡ⟩ does not depend are left alone.
    """
    if not g.requires_grad:  # a loss that is linear in the parameters, with data that need no gradient
        return
    try:
        torch.autograd.backward(g, g_bar, inputs=towards)
    except RuntimeError as error:
        if "derivative" not in str(error) and "double backward" not in str(error):
            raise
        raise DasError(
            f"The loss cannot be differentiated twice ({str(error).splitlines()[0].rstrip('.')}); replace that "
            "operation by twice differentiable ones, such as attention without a fused kernel."
        ) from None


@contextlib.contextmanager
def seeded(seed: int | None, step: int, device: torch.device) -> Iterator[None]:
    """Seeds torch's generators with (seed, step) for the block, and restores them afterwards."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(hashing.stream("adjoint/step", seed, step))
        yield
