"""Which states of a trajectory are kept, and which are computed again on the way back.

A state is the parameters with the optimizer's vectors: 3P numbers for Adam. The way back needs the states before
step T, T − 1, …, 1 in turn; each policy says where to leave a snapshot when walking on from one.

===============  ==========================  ====================================================
policy           states held, at most        plain steps taken again, for T steps
===============  ==========================  ====================================================
``EveryState``   T                           0
``EveryKth(k)``  T/k + k (k = √T is least)   T
``Snapshots(s)`` s + 1                       the least possible; s = log2 T: .7T (20), 1.9T (200)
===============  ==========================  ====================================================

A plain step costs about a quarter of a step of the way back.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from distill_at_scale.errors import DasError

State = TypeVar("State")


class Keep(ABC):
    """A policy."""

    @abstractmethod
    def stride(self, distance: int, held: int, again: bool) -> int:
        """Steps to walk from a snapshot until the next one, from 1 to ``distance``.

        Args:
            distance: steps from the snapshot to the state that is wanted.
            held: snapshots held, that one included.
            again: whether these steps have been taken before.
        """


@dataclass(frozen=True)
class EveryState(Keep):
    """The fastest."""

    def stride(self, distance: int, held: int, again: bool) -> int:
        return 1


@dataclass(frozen=True)
class EveryKth(Keep):
    """Every k-th state; the k between two of them are replayed together."""

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise DasError(f"EveryKth(k={self.k}): k must be at least 1.")

    def stride(self, distance: int, held: int, again: bool) -> int:
        return 1 if again else min(self.k, distance)


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

    def stride(self, distance: int, held: int, again: bool) -> int:
        # The state before a step is wanted, and that step is part of the chain that is to be reversed from here.
        s, length = self.n - held + 1, distance + 1
        if s <= 1:
            return distance
        r = 1
        while math.comb(s + r, s) < length:
            r += 1
        shortest = math.comb(s + r - 2, s) if r >= 2 else 1
        return min(distance, max(1, shortest, length - math.comb(s - 1 + r, s - 1)))


class Trail(Generic[State]):
    """The snapshots of one trajectory, on the way there and back."""

    def __init__(self, keep: Keep, start: State, n_steps: int, walk: Callable[[State, int], State]) -> None:
        """``walk(state, k)`` takes step k (from 0) from the state before it."""
        self._keep, self._walk = keep, walk
        self._held: list[tuple[int, State]] = [(0, start)]
        self.last = start
        if n_steps:
            # The state before the last step is held too: it is the first that is wanted.
            self.last = walk(self._go_to(n_steps - 1, again=False), n_steps - 1)

    def before(self, k: int) -> State:
        """The state before step ``k``; ask for the last step first, then downwards. Later states are forgotten."""
        while self._held[-1][0] > k:
            self._held.pop()
        return self._go_to(k, again=True)

    def _go_to(self, place: int, again: bool) -> State:
        """The state at ``place``, from the last snapshot on, leaving new ones on the way and there."""
        here, state = self._held[-1]
        while here < place:
            stop = here + self._keep.stride(place - here, len(self._held), again)
            for k in range(here, stop):
                state = self._walk(state, k)
            here = stop
            self._held.append((here, state))
        return state
