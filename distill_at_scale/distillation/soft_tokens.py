"""Soft tokens and scores over many items, exact and in chunks: positions × items is never in memory as a whole.

A soft token is a distribution over all items. For the 500 positions of a step and 100,000 items the tokens take 200 MB,
their gradient as much, and a second derivative several times that. Students need only narrow functions of soft tokens
and scores: the expected item vector X E, and the scores' log-partition logsumexp(h Eᵀ). Both are computed here from
narrow inputs, in chunks of positions that are recomputed in the backward and in the double backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

CHUNKED_ABOVE = 50_000
"""Number of items above which no tensor of the size positions × items is created."""

# Bytes of positions × items per chunk: small compared with a large table of items, and within a CPU's cache.
_CHUNK_BYTES = 4 << 20
# Minimum number of positions, so that the sums over chunks, of the table's size, are cheap compared with the products.
_LEAST_PLACES = 32


@dataclass(frozen=True)
class SoftTokens:
    """Soft tokens X = softmax(D M), stored as D and M.

    Attributes:
        latent: D, float [b, w, d], already divided by the temperature.
        decoder: M, float [d, n_items].
    """

    latent: torch.Tensor
    decoder: torch.Tensor

    @property
    def shape(self) -> torch.Size:
        """[b, w, n_items]."""
        return torch.Size([*self.latent.shape[:2], self.decoder.shape[1]])

    @property
    def device(self) -> torch.device:
        """Device of D and M."""
        return self.latent.device

    @property
    def requires_grad(self) -> bool:
        """Whether D or M requires a gradient."""
        return self.latent.requires_grad or self.decoder.requires_grad

    def __getitem__(self, sequences: Any) -> torch.Tensor:
        """Returns dense soft tokens of the selected sequences."""
        return (self.latent[sequences] @ self.decoder).softmax(dim=-1)

    def __matmul__(self, table: torch.Tensor) -> torch.Tensor:
        """Returns X E, the expected rows [b, w, dim] of a table E [n_items, dim]."""
        flat = self.latent.flatten(0, 1)
        # Chunks are recomputed outside of autocast, so they are computed without it.
        with torch.autocast(flat.device.type, enabled=False):
            return _Chunked.apply(_expected, flat, self.decoder, table).unflatten(0, self.latent.shape[:2])


def numbers_needed(n_items: int, held: int, copies: int, width: int) -> int:
    """Returns the number of values in memory at the peak of a student's step.

    Args:
        n_items: Number of items.
        held: Number of positions whose soft tokens stay in memory while the student is trained.
        copies: Number of positions of the step's tokens, scores and their gradients together.
        width: Width of D plus width of the items' table.
    """
    if n_items <= CHUNKED_ABOVE:
        return (held + copies) * n_items
    # A chunk's tokens, scores and gradients, and sums over chunks of the size of M or of the table.
    return (16 * _LEAST_PLACES + 16 * width) * n_items


def places_at_once(n_places: int, n_items: int) -> int:
    """Returns the number of positions whose scores of all items are in memory at a time."""
    return n_places if n_items <= CHUNKED_ABOVE else min(n_places, _chunk(n_items, itemsize=4))


def log_partition(states: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Returns Σ_i logsumexp(E h_i), a scalar, from states h [n, dim] and the items' table E [n_items, dim].

    Gradients are computed along with the value, in half the time of autograd; second derivatives are supported.
    """
    with torch.autocast(states.device.type, enabled=False):
        return _LogPartition.apply(states, table)


def chunks(n_places: int, n_items: int, itemsize: int) -> Iterator[slice]:
    """Yields slices of positions such that positions × items of ``itemsize`` bytes fit into the chunk size."""
    size = _chunk(n_items, itemsize)
    return (slice(start, start + size) for start in range(0, n_places, size))


def _chunk(n_items: int, itemsize: int) -> int:
    return max(_LEAST_PLACES, _CHUNK_BYTES // (itemsize * n_items))


def _expected(latent: torch.Tensor, decoder: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return (latent @ decoder).softmax(dim=1) @ table


class _LogPartition(torch.autograd.Function):
    """With P = softmax(h Eᵀ): ∂/∂h = P E and ∂/∂E = Pᵀ h."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        by_states, by_table = torch.empty_like(states), torch.zeros_like(table)
        value = states.new_zeros(())
        for some in chunks(len(states), len(table), states.itemsize):
            p, log_total = _softmax(states[some], table)
            value += log_total.sum()
            torch.mm(p, table, out=by_states[some])
            by_table.addmm_(p.T, states[some])
        ctx.save_for_backward(states, table, by_states, by_table)
        return value

    @staticmethod
    def backward(ctx: Any, *bars: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return _LogPartitionBack.apply(bars[0], *ctx.saved_tensors)


class _LogPartitionBack(torch.autograd.Function):
    """The gradients c P E and c Pᵀ h as functions of the value's adjoint c, h and E."""

    @staticmethod
    def forward(
        ctx: Any,
        c: torch.Tensor,
        states: torch.Tensor,
        table: torch.Tensor,
        by_states: torch.Tensor,
        by_table: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(c, states, table)
        return c * by_states, c * by_table

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """φ = c Σ P ∘ Z with Z = u Eᵀ + h Vᵀ, for the adjoints u [n, dim] of the states' gradient and V of the table's.

        Through the softmax, G = c P ∘ (Z − rowsum(P ∘ Z)); so ∂φ/∂h = G E + c P V, ∂φ/∂E = Gᵀ h + c Pᵀ u.
        """
        c, states, table = ctx.saved_tensors
        c_bar, by_states, by_table = torch.zeros_like(c), torch.empty_like(states), torch.zeros_like(table)
        # The sum of two products of narrow matrices is one product of wider ones.
        both = torch.cat([table, v], dim=1)
        for some in chunks(len(states), len(table), states.itemsize):
            h, u_some = states[some], u[some]
            p, _ = _softmax(h, table)
            g = torch.cat([u_some, h], dim=1) @ both.T
            g.mul_(p)
            mean = g.sum(dim=1, keepdim=True)
            c_bar += mean.sum()
            torch.mm(p, v, out=by_states[some])
            by_table.addmm_(p.T, u_some)
            g.addcmul_(p, mean, value=-1)
            by_states[some].addmm_(g, table)
            by_table.addmm_(g.T, h)
        return c_bar, by_states.mul_(c), by_table.mul_(c), None, None


def _softmax(states: torch.Tensor, table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (softmax(h Eᵀ) [n, n_items], logsumexp [n, 1])."""
    p = states @ table.T
    highest = p.amax(dim=1, keepdim=True)
    total = p.sub_(highest).exp_().sum(dim=1, keepdim=True)
    return p.mul_(1 / total), total.log_().add_(highest)


Rowwise = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(rows [n, …], M [d, n_items], E [n_items, dim]) -> [n, dim]; each row of the result depends on one input row."""


class _Chunked(torch.autograd.Function):
    """A row-wise function, computed chunk by chunk without a graph."""

    @staticmethod
    def forward(
        ctx: Any, function: Rowwise, rows: torch.Tensor, decoder: torch.Tensor, table: torch.Tensor
    ) -> torch.Tensor:
        ctx.function = function
        ctx.save_for_backward(rows, decoder, table)
        parts = chunks(len(rows), len(table), table.itemsize)
        return torch.cat([function(rows[some], decoder, table) for some in parts])

    @staticmethod
    def backward(ctx: Any, *bars: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        wanted = ctx.needs_input_grad[1:]
        return None, *_ChunkedBack.apply(ctx.function, wanted, bars[0], *ctx.saved_tensors)


class _ChunkedBack(torch.autograd.Function):
    """The gradients of :class:`_Chunked` as functions of its adjoint and inputs; each chunk's graph is recomputed."""

    @staticmethod
    def forward(
        ctx: Any,
        function: Rowwise,
        wanted: tuple[bool, ...],
        bar: torch.Tensor,
        *tensors: torch.Tensor,
    ) -> tuple[torch.Tensor | None, ...]:
        ctx.function, ctx.wanted = function, wanted
        ctx.save_for_backward(bar, *tensors)
        ctx.set_materialize_grads(False)
        sums = _Sums(tensors, wanted, by_row=(True, False, False))
        for some in chunks(len(bar), len(tensors[2]), bar.itemsize):
            leaves = sums.leaves(tensors, some)
            with torch.enable_grad():
                value = function(*leaves)
            sums.add(torch.autograd.grad(value, [x for x in leaves if x.requires_grad], bar[some]), some)
        return tuple(sums.found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *bars: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        inputs = ctx.saved_tensors
        sums = _Sums(inputs, ctx.needs_input_grad[2:], by_row=(True, True, False, False))
        for some in chunks(len(inputs[0]), len(inputs[3]), inputs[0].itemsize):
            leaves = sums.leaves(inputs, some)
            with torch.enable_grad():
                # An input of a gradient must be in the graph even if its own gradient is not requested.
                asked = [x if x.requires_grad else x.detach().requires_grad_(w) for x, w in zip(leaves[1:], ctx.wanted)]
                value = ctx.function(*asked)
                given = [(x, b) for x, b in zip(asked, bars) if b is not None]
                first = torch.autograd.grad(value, [x for x, _ in given], leaves[0], create_graph=True)
            by_row = [b[some] if x is asked[0] else b for x, b in given if b is not None]
            towards = [x for x in leaves if x.requires_grad]
            sums.add(torch.autograd.grad(first, towards, by_row, allow_unused=True), some)
        return None, None, *sums.found


class _Sums:
    """Gradients accumulated from chunks: each chunk gives a slice of row-wise gradients, and a summand of the
    others."""

    def __init__(self, like: Sequence[torch.Tensor], wanted: Sequence[bool], by_row: Sequence[bool]) -> None:
        self.found = [torch.zeros_like(x) if want else None for x, want in zip(like, wanted)]
        self._by_row = by_row

    def leaves(self, tensors: Sequence[torch.Tensor], some: slice) -> list[torch.Tensor]:
        """Returns a chunk's inputs as leaves of a new graph."""
        parts = [x[some] if by_row else x for x, by_row in zip(tensors, self._by_row)]
        return [x.detach().requires_grad_(found is not None) for x, found in zip(parts, self.found)]

    def add(self, gradients: Sequence[torch.Tensor | None], some: slice) -> None:
        """Adds the gradients of those leaves of a chunk that require one."""
        wanted = ((x, by_row) for x, by_row in zip(self.found, self._by_row) if x is not None)
        for (found, by_row), gradient in zip(wanted, gradients, strict=True):
            if gradient is not None:
                (found[some] if by_row else found).add_(gradient)
