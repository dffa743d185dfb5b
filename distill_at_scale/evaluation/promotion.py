"""Which candidates of a search go on to more data, by measurements that are known to be noisy.

Candidates (a model with settings) are measured on a small share of the data, the better ones on a larger share, and so
on. A rung's order differs from that on all rows for two reasons. Its metric is an average over some users: resamples of
the users, the same for all candidates, give the error of a difference. And more data suits some candidates better: the
changes between the last two rungs tell by how much.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ETA = 3.0
"""Ratio between the shares of two rungs, and the share of a family's candidates that certainly goes on, inverted."""
_MOST = 0.4
"""Largest share of a family's candidates that goes on."""
PRIOR_SHIFT = 0.05
"""Assumed where too few changes were measured: a rung changes a candidate's quality against its family's by 5 %."""
_FEWEST_SHIFTS = 4
FINALISTS = 4
"""Most candidates of all families that go on to everything, where more than one rung has judged them: fits on
everything take most of what a search costs."""
_Z_FAMILY = 2.0
"""One-sided 97.7 %: a family whose best is below the best of all by more is dropped."""
_Z_CANDIDATE = 1.0
"""One-sided 84 %: a candidate that may still be the best, of its family or of all, goes on, up to a number."""


@dataclass(frozen=True)
class Standing:
    """A candidate on a rung."""

    family: str
    """Name of the model."""
    quality: float
    """Metric on this rung; larger is better."""
    resampled: np.ndarray
    """float64 [n], the same over resampled users; column b has the same users for all candidates."""
    before: float | None = None
    """Metric on the rung before; None on the first."""


def difference_interval(
    first: float, second: float, resampled: np.ndarray, others: np.ndarray, z: float = 1.645
) -> tuple[float, float, float]:
    """Returns ``first`` less ``second``, and its interval over users (90 % by default).

    Args:
        first, second: Averages of a metric over the same users.
        resampled, others: float64 [n], both over the same resamples of the users.
        z: Quantile of the normal distribution.
    """
    error = _error(resampled, others)
    return first - second, first - second - z * error, first - second + z * error


def ranking_shift(standings: Sequence[Standing]) -> float:
    """Returns the standard deviation of what a rung changes of a candidate's relative quality within its family.

    It includes what the users of the two rungs explain, so it is rather too large. Where fewer than four changes are
    known: :data:`PRIOR_SHIFT`.
    """
    changes: list[float] = []
    freedom = 0
    families: dict[str, list[Standing]] = defaultdict(list)
    for one in standings:
        if one.before is not None:
            families[one.family].append(one)
    for members in families.values():
        now, before = np.array([m.quality for m in members]), np.array([m.before for m in members], dtype=np.float64)
        if len(members) > 1 and now.mean() > 0 and before.mean() > 0:
            changes += (now / now.mean() - before / before.mean()).tolist()
            freedom += len(members) - 1
    if freedom < _FEWEST_SHIFTS:
        return PRIOR_SHIFT
    return math.sqrt(float(np.square(changes).sum()) / freedom)


def promote(standings: Sequence[Standing], shift: float, steps_left: float, finalists: int | None = None) -> list[str]:
    """Decides which candidates of a rung go on.

    Of each family a third goes on, and of the others those that may be its best, up to two fifths. A family is dropped
    as a whole once its best is behind the best of all beyond doubt, even if it gains as much on every further rung as
    it gained on the last one; before a second rung no family is. Before the last rung, only those of what is left go on
    that may be the best of all, and at most ``finalists``.

    Args:
        standings: All candidates of the rung.
        shift: What the next rungs may change of the order, from :func:`ranking_shift`.
        steps_left: Number of times that the share of the data still grows as it did on the last step.
        finalists: If the next rung is the last one, most that go on to it; it has no effect on a first rung, whose
            order says little.

    Returns:
        For each candidate why it is dropped, as the end of a sentence, or "".
    """
    if not standings:
        return []
    leader = max(standings, key=lambda one: one.quality)
    order = sorted(range(len(standings)), key=lambda k: (-standings[k].quality, k))
    members: dict[str, list[int]] = defaultdict(list)
    for k in order:
        members[standings[k].family].append(k)
    reasons = [""] * len(standings)
    for family, ks in members.items():
        best = standings[ks[0]]
        if family != leader.family and _is_beaten(best, leader, shift, steps_left):
            for k in ks:
                reasons[k] = f"{family} is behind {leader.family} beyond doubt"
            continue
        surely, most = math.ceil(len(ks) / ETA), math.ceil(len(ks) * _MOST)
        for rank, k in enumerate(ks):
            if rank < surely or (rank < most and _may_be_best(standings[k], best, shift)):
                continue
            reasons[k] = f"rank {rank + 1} of {len(ks)} {family}"
    if finalists is not None and leader.before is not None:
        left = [k for k in order if not reasons[k]]
        for rank, k in enumerate(left):
            if rank >= finalists or not _may_be_best(standings[k], leader, shift):
                reasons[k] = f"rank {rank + 1} of {len(left)} of all models"
    return reasons


def _is_beaten(one: Standing, leader: Standing, shift: float, steps_left: float) -> bool:
    """Whether the best of a family stays behind the best of all, beyond doubt."""
    if one.before is None or leader.before is None or leader.quality <= 0 or leader.before <= 0:
        return False
    now = one.quality / leader.quality
    gained = max(now - one.before / leader.before, 0.0)
    noise = math.hypot(_error(one.resampled, leader.resampled) / leader.quality, shift)
    return now + gained * steps_left + _Z_FAMILY * noise < 1.0


def _may_be_best(one: Standing, best: Standing, shift: float) -> bool:
    noise = math.hypot(_error(one.resampled, best.resampled), shift * best.quality)
    return one.quality + _Z_CANDIDATE * noise >= best.quality


def _error(first: np.ndarray, second: np.ndarray) -> float:
    """Standard error of a difference over users; 0 where it is unknown."""
    difference = first - second
    difference = difference[np.isfinite(difference)]
    return float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
