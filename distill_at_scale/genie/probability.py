"""How likely a small dataset keeps enough, and which one to take.

Kept shares are taken as normal around what was predicted or measured, with the standard deviation that belongs to a
90 % interval. Of Data-Genie these intervals are conformal, and hold on logs it was not trained on, over all methods and
budgets. For the smallest budget that is sure they are too wide, and narrowed by :data:`PREDICTED`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

SURE = 0.9
"""Probability from which a dataset counts as keeping enough."""
Z = 1.6448536269514722
"""Normal quantile of a 90 % interval."""
PREDICTED = 0.6
"""Standard deviation of what a method keeps as a share of that of Data-Genie's intervals. With it, 92 and 88 % of the
advice for 0.9 and 0.95 holds on families left out; without it, 96 and 94 % (jobs/bench_recommend.py)."""
NEW_SAMPLE = 0.03
"""Standard deviation of the kept share between samples of one size, where one seed does not tell it. In
jobs/results/retention-*.json that of single models is 0.01 to 0.06 over three seeds."""
ALIKE = 1.25
"""Ratio of budgets up to which random users are preferred to another method; smaller savings are within the noise."""
_LEAST = 1e-6
_NORMAL = NormalDist()


def probability(kept: float, deviation: float, keep: float) -> float:
    """Returns P(kept ≥ keep) for a normal kept share."""
    # What is known for sure keeps exactly what it keeps.
    return _NORMAL.cdf((kept - keep) / deviation) if deviation > _LEAST else float(kept >= keep - _LEAST)


def combined(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    """Returns mean and standard deviation from two independent estimates of one quantity, weighed by their precision.

    Args:
        first, second: Mean and standard deviation each.
    """
    (a, s), (b, t) = first, second
    if min(s, t) <= _LEAST:
        return first if s <= t else second
    weight = t * t / (s * s + t * t)
    return weight * a + (1 - weight) * b, s * t / float(np.hypot(s, t))


@dataclass(frozen=True)
class Candidate:
    """A small dataset.

    Attributes:
        method: Name of the method.
        budget: Share of the full data.
        probability: P(kept ≥ keep).
        kept: Share of the quality that is kept.
        make_cpu_s: CPU-seconds of making it; None if unknown.
        common: Whether it is compared on the models that most methods share.
    """

    method: str
    budget: float
    probability: float
    kept: float
    make_cpu_s: float | None = None
    common: bool = True

    @property
    def order(self) -> tuple[bool, bool, float, float, float]:
        """Sort key, the best first: what is sure by budget, then by cost; the rest by probability."""
        sure = self.probability >= SURE
        if sure:
            return not self.common, False, self.budget, self.make_cpu_s or 0.0, -self.kept
        return not self.common, True, -self.probability, -self.kept, self.budget


def advise(candidates: Sequence[Candidate], plain: str) -> list[Candidate]:
    """Returns the best candidate of each method, the recommendation first.

    Args:
        candidates: Methods at budgets.
        plain: The method that costs nothing and suits any log, and is taken unless another one saves more than what is
            within the noise (:data:`ALIKE`).
    """
    best: dict[str, Candidate] = {}
    for one in candidates:
        if one.method not in best or one.order < best[one.method].order:
            best[one.method] = one
    ordered = sorted(best.values(), key=lambda one: one.order)
    simple, first = best.get(plain), ordered[0]
    if (
        simple is not None
        and simple is not first
        and simple.probability >= SURE
        and simple.budget <= ALIKE * first.budget
        and first.common
    ):
        ordered.remove(simple)
        ordered.insert(0, simple)
    return ordered
