"""Unroll: T optimizer steps as one differentiable function, by the equations of the package's docstring."""

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
"""(parameters, data, step) -> a scalar. The step, counted from 0, is for choosing a batch."""


@dataclass(frozen=True)
class OptimizerState:
    """Where an optimizer is: the steps done, and its vectors [P] (Adam: m, v), detached."""

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

    Gradients reach ``parameters``, ``rates`` and all tensors in ``data`` that require one, as exactly as autograd
    through the steps would give them, in the memory of one step's graph and the states that ``keep`` keeps.
    ``start`` and the returned state are constants: a window of a longer trajectory ends where it begins. Only first
    derivatives of the result exist.

    Args:
        loss: Loss of any functional model; pure except for torch's random generator, and differentiable twice.
        parameters: a tree of floating-point tensors of one dtype and device.
        data: any tree. Cut it into one tensor a batch where a step uses a part: a step's gradients are as large as the
            tensors that it touches.
        optimizer: the rule of a step.
        rates: [T], the learning rate of each step.
        start: the optimizer's state of an earlier call, to go on from there; by default a new one.
        seed: seeds torch's generators for every step with (seed, step); None leaves them alone, which is right only
            for a loss that draws nothing.
        keep: what to remember; by default every state.

    Returns:
        the parameters after the last step, a tree as ``parameters``; the optimizer's state there.

    Raises:
        DasError: for parameters of several kinds, a ``start`` of another size; on the way back, for a loss without
            a second derivative.
    """
    vector, views = as_vector(parameters)
    leaves, rebuild = flatten(data)
    if start is None:
        start = OptimizerState(0, tuple(torch.zeros_like(vector) for _ in range(optimizer.n_slots)))
    start = OptimizerState(start.step, tuple(slot.detach() for slot in start.slots))
    if [slot.shape for slot in start.slots] != [vector.shape] * optimizer.n_slots:
        raise DasError("The optimizer's state is not of these parameters and this optimizer; start without one.")
    run = _Run(loss, views, rebuild, leaves, optimizer, start, seed, keep or EveryState())
    # A tensor that stands at several places is one, with one gradient.
    tensors = {id(leaf): leaf for leaf in leaves if isinstance(leaf, torch.Tensor)}
    last, *slots = _Unrolled.apply(run, vector, rates, *tensors.values())
    return views(last), OptimizerState(start.step + len(rates), tuple(slots))


@dataclass(frozen=True)
class _Run:
    """What does not change from step to step."""

    loss: Loss
    views: Callable[[torch.Tensor], Tree]
    rebuild: Callable[[Sequence[Any]], Tree]
    leaves: list[Any]
    optimizer: Optimizer
    start: OptimizerState
    seed: int | None
    keep: Keep

    def data(self, tensors: Sequence[torch.Tensor]) -> Tree:
        """The data tree with other tensors, one for each different tensor of the tree, in its order."""
        places = dict.fromkeys(id(leaf) for leaf in self.leaves if isinstance(leaf, torch.Tensor))
        others = dict(zip(places, tensors, strict=True))
        return self.rebuild([others[id(leaf)] if isinstance(leaf, torch.Tensor) else leaf for leaf in self.leaves])

    def gradient(
        self, theta: torch.Tensor, data: Tree, k: int, twice: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(θ as a leaf of the graph, g there) at step ``k`` of this run."""
        place = self.start.step + k
        with torch.enable_grad(), _seeded(self.seed, place, theta.device):
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
            # Made first: where they come to stay among a step's short-lived tensors, they leave holes in the heap.
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

    A leaf on which it does not depend is left alone.
    """
    if not g.requires_grad:  # a loss that is linear in the parameters, with data that need no gradient
        return
    try:
        torch.autograd.backward(g, g_bar, inputs=towards)
    except RuntimeError as error:
        if "derivative" not in str(error) and "double backward" not in str(error):
            raise
        raise DasError(
            f"The loss cannot be differentiated twice ({str(error).splitlines()[0].rstrip('.')}); write that operation "
            "out in plain ones, e.g. attention without a fused kernel."
        ) from None


@contextlib.contextmanager
def _seeded(seed: int | None, step: int, device: torch.device) -> Iterator[None]:
    """torch's generators as (seed, step) has them, and as before afterwards."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(hashing.stream("adjoint/step", seed, step))
        yield
