"""Which states of a trajectory are kept, and which are computed again on the way back.

A state is the parameters with the optimizer's vectors: 3P numbers for Adam. The way back needs the states before
step T, T − 1, …, 1 in turn; each policy says where to leave a snapshot when walking on from one. A step whose
gradient was recorded, P numbers, is taken again by the optimizer's arithmetic alone, to the same bits: so every state
can be had back for a third of its size.

================  ======================  ===============  ================================================
policy            states held, at most    gradients held   plain steps taken again, for T steps
================  ======================  ===============  ================================================
``EveryState``    log2 T + 1              T                0
``EveryKth(k)``   T/k + log2 k + 2        k                T
``Snapshots(s)``  s + 1                   0                the least possible; s = log2 T: .7T (20), 1.9T (200)
================  ======================  ===============  ================================================

A plain step costs about a quarter of a step of the way back; the arithmetic alone, next to nothing.
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
    """A policy."""

    def records(self, again: bool) -> bool:
        """Whether the gradients of steps are kept, of those taken ``again`` or for the first time."""
        return False

    def fitted(self, n_steps: int) -> Keep:
        """Returns the policy for a trajectory of this many steps."""
        return self

    @abstractmethod
    def stride(self, here: int, distance: int, held: int, again: bool) -> int:
        """Steps to walk from a snapshot until the next one, from 1 to ``distance``.

        Args:
            here: steps before the snapshot.
            distance: steps from the snapshot to the state that is wanted.
            held: snapshots held, that one included.
            again: whether these steps have been taken before.
        """


@dataclass(frozen=True)
class EveryState(Keep):
    """The fastest: every gradient is kept, and log2 T states to start from."""

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
    """Every k-th state; the k between two of them are replayed together, their gradients kept meanwhile."""

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise DasError(f"EveryKth(k={self.k}): k must be at least 1.")

    def stride(self, here: int, distance: int, held: int, again: bool) -> int:
        if not again:
            return min(self.k, distance)
        # Held are this stretch's first state, those of the stretches before it, and what was left inside this one.
        return Snapshots.logarithmic(self.k).stride(here, distance, held - here // self.k, again)

    def records(self, again: bool) -> bool:
        return again


@dataclass(frozen=True)
class Snapshots(Keep):
    """A fixed number of states, placed so that the fewest steps are taken again.

    Source: Griewank, Walther, "Algorithm 799: revolve" (ACM TOMS 2000): with s snapshots and no step taken more than
    r times, C(s + r, s) steps can be reversed.
    """

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise DasError(f"Snapshots(n={self.n}): at least one snapshot is needed, the start.")

    @classmethod
    def logarithmic(cls, n_steps: int) -> Snapshots:
        """log2 T of them."""
        return cls(max(1, math.ceil(math.log2(max(n_steps, 2)))))

    def stride(self, here: int, distance: int, held: int, again: bool) -> int:
        # The state before a step is wanted, and that step is part of the chain that is to be reversed from here.
        s, length = self.n - held + 1, distance + 1
        if s <= 1:
            return distance
        r = 1
        while math.comb(s + r, s) < length:
            r += 1
        shortest = math.comb(s + r - 2, s) if r >= 2 else 1
        return min(distance, max(1, shortest, length - math.comb(s - 1 + r, s - 1)))


class Trail(Generic[State, Gradient]):
    """The snapshots of one trajectory, on the way there and back."""

    def __init__(
        self,
        keep: Keep,
        start: State,
        gradient: Callable[[State, int], Gradient],
        step: Callable[[State, Gradient, int], State],
    ) -> None:
        """``gradient(state, k)`` is that of step k (from 0), at the state before it; ``step`` takes the step."""
        self._keep, self._gradient, self._step = keep, gradient, step
        self._held: list[tuple[int, State]] = [(0, start)]
        self._recorded: dict[int, Gradient] = {}

    def there(self, n_steps: int) -> State:
        """Walks the whole way once; the state at its end, which is not held."""
        self._keep = self._keep.fitted(n_steps)
        if not n_steps:
            return self._held[0][1]
        # The state before the last step is held: it is the first that is wanted.
        return self._walk(self._go_to(n_steps - 1, again=False), n_steps - 1, again=False)

    def before(self, k: int) -> State:
        """The state before step ``k``; ask for the last step first, then downwards. Later states are forgotten."""
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
        """The state at ``place``, from the last snapshot on, leaving new ones on the way and there."""
        here, state = self._held[-1]
        while here < place:
            stop = here + self._keep.stride(here, place - here, len(self._held), again)
            for k in range(here, stop):
                state = self._walk(state, k, again)
            here = stop
            self._held.append((here, state))
        return state
