"""Checkpointing policies: which states of a trajectory are kept, and which are recomputed in the backward pass.

A state is the parameters and the optimizer's vectors: 3P numbers for Adam. The backward pass needs the states before
steps T, T − 1, …, 1 in turn; a policy decides where the forward pass leaves snapshots. A step whose gradient (P
numbers) was recorded is repeated by the optimizer's arithmetic alone, bit for bit, so every state can be restored for a
third of its size.

================  ======================  ===============  ================================================
policy            states held, at most    gradients held   forward steps repeated, for T steps
================  ======================  ===============  ================================================
``EveryState``    log2 T + 1              T                0
``EveryKth(k)``   T/k + log2 k + 2        k                T
``Snapshots(s)``  s + 1                   0                the minimum; s = log2 T: 0.7T (20), 1.9T (200)
================  ======================  ===============  ================================================

A forward step costs about a quarter of a backward step; the arithmetic alone costs next to nothing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from distill_at_scale.errors import DasError

State = TypeVar("State")
Gradient = TypeVar("Gradient")


class Keep(ABC):
    """A checkpointing policy."""

    def records(self, again: bool) -> bool:
        """Returns whether gradients are recorded for repeated steps (``again``) or for steps taken the first time."""
        return False

    def fitted(self, n_steps: int) -> Keep:
        """Returns the policy for a trajectory of this many steps."""
        return self

    @abstractmethod
    def stride(self, here: int, distance: int, held: int, again: bool) -> int:
        """Returns the number of steps from a snapshot to the next one, from 1 to ``distance``.

        Args:
            here: Number of steps before the snapshot.
            distance: Number of steps from the snapshot to the wanted state.
            held: Number of snapshots held, including that one.
            again: Whether these steps are repeated.
        """


@dataclass(frozen=True)
class EveryState(Keep):
    """The fastest policy: keeps every gradient, and log2 T states."""

    n_steps: int = 2
    """T, set by :meth:`fitted`."""

    def fitted(self, n_steps: int) -> EveryState:
        return EveryState(n_steps)

    def records(self, again: bool) -> bool:
        return True

    def stride(self, here: int, distance: int, held: int, again: bool) -> int:
        return Snapshots.logarithmic(self.n_steps).stride(here, distance, held, again)


@dataclass(frozen=True)
class EveryKth(Keep):
    """Keeps every k-th state; the k steps between two of them are repeated together, and their gradients recorded."""

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise DasError(f"EveryKth(k={self.k}): k must be at least 1.")

    def stride(self, here: int, distance: int, held: int, again: bool) -> int:
        if not again:
            return min(self.k, distance)
        # Held are the first states of this stretch and of all stretches before it, and snapshots within this one.
        return Snapshots.logarithmic(self.k).stride(here, distance, held - here // self.k, again)

    def records(self, again: bool) -> bool:
        return again


@dataclass(frozen=True)
class Snapshots(Keep):
    """Keeps a fixed number of states, placed so that the fewest steps are repeated.

    Source: Griewank, Walther, "Algorithm 799: revolve" (ACM TOMS 2000): with s snapshots and no step taken more than
    r times, C(s + r, s) steps can be reversed.
    """

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise DasError(f"Snapshots(n={self.n}): at least one snapshot is needed, the start.")

    @classmethod
    def logarithmic(cls, n_steps: int) -> Snapshots:
        """Returns a policy with log2 T snapshots."""
        return cls(max(1, math.ceil(math.log2(max(n_steps, 2)))))

    def stride(self, here: int, distance: int, held: int, again: bool) -> int:
        # The wanted state precedes a step, which also belongs to the chain to be reversed from here.
        s, length = self.n - held + 1, distance + 1
        if s <= 1:
            return distance
        r = 1
        while math.comb(s + r, s) < length:
            r += 1
        shortest = math.comb(s + r - 2, s) if r >= 2 else 1
        return min(distance, max(1, shortest, length - math.comb(s - 1 + r, s - 1)))


class Trail(Generic[State, Gradient]):
    """The snapshots of one trajectory in the forward and the backward pass."""

    def __init__(
        self,
        keep: Keep,
        start: State,
        gradient: Callable[[State, int], Gradient],
        step: Callable[[State, Gradient, int], State],
    ) -> None:
        """``gradient(state, k)`` returns the gradient of step k (from 0) at the state before it; ``step`` takes it."""
        self._keep, self._gradient, self._step = keep, gradient, step
        self._held: list[tuple[int, State]] = [(0, start)]
        self._recorded: dict[int, Gradient] = {}

    def there(self, n_steps: int) -> State:
        """Runs the forward pass; returns the final state, which is not held."""
        self._keep = self._keep.fitted(n_steps)
        if not n_steps:
            return self._held[0][1]
        # The state before the last step is held, since the backward pass needs it first.
        return self._walk(self._go_to(n_steps - 1, again=False), n_steps - 1, again=False)

    def before(self, k: int) -> State:
        """Returns the state before step ``k``; call it for the last step first, then downwards. Drops later states."""
        while self._held[-1][0] > k:
            self._held.pop()
        self._recorded.pop(k, None)
        return self._go_to(k, again=True)

    def _walk(self, state: State, k: int, again: bool) -> State:
        g = self._recorded.get(k)
        if g is None:
            g = self._gradient(state, k)
            if self._keep.records(again):
                self._recorded[k] = g
        return self._step(state, g, k)

    def _go_to(self, place: int, again: bool) -> State:
        """Returns the state at ``place``, computed from the last snapshot; leaves new snapshots between and there."""
        here, state = self._held[-1]
        while here < place:
            stop = here + self._keep.stride(here, place - here, len(self._held), again)
            for k in range(here, stop):
                state = self._walk(state, k, again)
            here = stop
            self._held.append((here, state))
        return state
