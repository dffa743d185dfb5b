"""Which states are kept: the walk back meets every state, in the memory and with the replays that are promised."""

from __future__ import annotations

import functools
import math

import pytest

from distill_at_scale.distillation.adjoint import EveryKth, EveryState, Keep, Snapshots
from distill_at_scale.distillation.adjoint.memory import Trail
from distill_at_scale.errors import DasError


def there_and_back(keep: Keep, n_steps: int) -> tuple[int, int, int]:
    """(states held at most, gradients held at most, gradients made in all); a state is its own number."""
    made = 0

    def gradient(state: int, k: int) -> str:
        nonlocal made
        assert state == k
        made += 1
        return f"g{k}"

    def step(state: int, g: str, k: int) -> int:
        assert (state, g) == (k, f"g{k}")
        return state + 1

    trail = Trail(keep, 0, gradient, step)
    assert trail.there(n_steps) == n_steps
    states, gradients = len(trail._held), len(trail._recorded)
    for k in reversed(range(n_steps)):
        assert trail.before(k) == k
        states, gradients = max(states, len(trail._held)), max(gradients, len(trail._recorded))
    return states, gradients, made


@functools.cache
def fewest(length: int, snapshots: int) -> int:
    """Steps to walk when a chain is reversed from its first state, its last step left out: by trying all splits."""
    if length == 1:
        return 0
    if snapshots == 1:
        return length * (length - 1) // 2
    return min(k + fewest(length - k, snapshots - 1) + fewest(k, snapshots) for k in range(1, length))


@pytest.mark.parametrize("n_steps", [0, 1, 2, 3, 10, 37, 200])
def test_every_state_makes_each_gradient_once(n_steps: int) -> None:
    states, gradients, made = there_and_back(EveryState(), n_steps)
    assert gradients == made == n_steps
    assert states <= math.ceil(math.log2(max(n_steps, 2))) + 1


@pytest.mark.parametrize(("k", "n_steps"), [(1, 10), (3, 10), (5, 10), (10, 10), (40, 10), (6, 37), (14, 200)])
def test_every_kth_walks_twice_at_most(k: int, n_steps: int) -> None:
    states, gradients, made = there_and_back(EveryKth(k), n_steps)
    assert states <= math.ceil(n_steps / k) + math.ceil(math.log2(max(k, 2))) + 2
    assert gradients <= k
    assert made <= 2 * n_steps


@pytest.mark.parametrize("snapshots", [1, 2, 3, 5])
@pytest.mark.parametrize("n_steps", [1, 2, 3, 4, 5, 6, 9, 14, 23, 40])
def test_snapshots_walk_as_little_as_possible(snapshots: int, n_steps: int) -> None:
    held, gradients, walked = there_and_back(Snapshots(snapshots), n_steps)
    assert held <= snapshots + 1
    assert gradients == 0
    # The way there walks the last step too.
    assert walked == fewest(n_steps, snapshots) + 1


def test_log_many_snapshots_suffice_for_long_trajectories() -> None:
    held, _, walked = there_and_back(Snapshots.logarithmic(1000), 1000)
    assert held <= 11
    assert walked < 4 * 1000


def test_no_memory_at_all_is_refused() -> None:
    with pytest.raises(DasError, match="k must be at least 1"):
        EveryKth(0)
    with pytest.raises(DasError, match="at least one snapshot"):
        Snapshots(0)
