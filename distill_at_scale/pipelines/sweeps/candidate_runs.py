"""The candidates of `tune` as they are measured on one rung after another: how far each came, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from distill_at_scale.evaluation.promotion import Standing
from distill_at_scale.evaluation.retention import PRIMARY, kendall_tau
from distill_at_scale.pipelines.sweeps.candidates import Candidate
from distill_at_scale.pipelines.sweeps.evaluations import Trained
from distill_at_scale.pipelines.sweeps.tune_result import CandidateResult, MeasuredRung


@dataclass
class CandidateRun:
    """A candidate, and what is known of it.

    Attributes:
        candidate: Model and settings.
        order: Position among all candidates, by which ties are broken.
        measured: Share of the data and result of each rung, by ascending share.
        dropped: Why it does not go on, as the end of a sentence; "" while it does.
        model_at: Folder of its fit on everything, or "".
    """

    candidate: Candidate
    order: int
    measured: list[tuple[float, Trained]] = field(default_factory=list)
    dropped: str = ""
    model_at: str = ""

    @property
    def quality(self) -> float:
        """The metric on its last rung."""
        return self.measured[-1][1].metrics[PRIMARY]

    @property
    def resampled(self) -> np.ndarray:
        """The same over resampled users, float64 [n]."""
        return np.array((self.measured[-1][1].resampled or {}).get(PRIMARY, []), dtype=np.float64)

    def is_on(self, share: float) -> bool:
        """Whether ``share`` is the last rung that was measured."""
        return bool(self.measured) and self.measured[-1][0] == share

    def standing(self) -> Standing:
        """Its place on the last rung."""
        before = self.measured[-2][1].metrics[PRIMARY] if len(self.measured) > 1 else None
        return Standing(self.candidate.model, self.quality, self.resampled, before)

    def result(self) -> CandidateResult:
        """As `das tune` tells it."""
        return CandidateResult(
            name=self.candidate.name,
            model=self.candidate.model,
            settings=dict(self.candidate.searched),
            rungs=[
                MeasuredRung(
                    share=share,
                    quality=of.metrics[PRIMARY],
                    fit_cpu_s=of.fit_cpu_s,
                    measure_cpu_s=of.measure_cpu_s or 0.0,
                )
                for share, of in self.measured
            ],
            dropped=self.dropped,
        )


def by_progress(run: CandidateRun) -> tuple[float, float, int]:
    """Key that sorts those that came farthest first, and of these the best first."""
    return (-run.measured[-1][0], -run.quality, run.order) if run.measured else (0.0, 0.0, run.order)


def cost_of(trained: Trained) -> float:
    """CPU-seconds of a fit and its evaluation."""
    return trained.fit_cpu_s + (trained.measure_cpu_s or 0.0)


def spent(runs: Sequence[CandidateRun], share: float) -> float:
    """CPU-seconds of all fits and evaluations on a rung."""
    return sum(cost_of(of) for run in runs for at, of in run.measured if at == share)


def tau_with_next(runs: Sequence[CandidateRun], share: float) -> float | None:
    """Kendall's τ between the order on a rung and on the next, of those on both; None for fewer than two."""
    found = [
        (before.metrics[PRIMARY], after.metrics[PRIMARY])
        for run in runs
        for (at, before), (_, after) in zip(run.measured, run.measured[1:])
        if at == share
    ]
    return kendall_tau([one for one, _ in found], [other for _, other in found]) if len(found) > 1 else None


def full_cost(runs: Sequence[CandidateRun]) -> float:
    """CPU-seconds of fits and evaluations of all candidates on everything.

    A candidate that was not fitted on everything costs what it cost on its largest sample, times the ratio of the costs
    of those of its model that were measured on both; where none was, the ratio of the shares.
    """
    of_model: dict[str, dict[float, dict[str, float]]] = {}
    for run in runs:
        for share, trained in run.measured:
            of_model.setdefault(run.candidate.model, {}).setdefault(share, {})[run.candidate.name] = cost_of(trained)
    total = 0.0
    for by_share in of_model.values():
        shares = sorted(by_share)
        # What everything costs, as a multiple of a rung, from the largest rung down.
        factors = {shares[-1]: 1.0 / shares[-1]}
        for share, after in zip(reversed(shares[:-1]), reversed(shares[1:])):
            both = by_share[share].keys() & by_share[after].keys()
            here = sum(by_share[share][name] for name in both)
            ratio = sum(by_share[after][name] for name in both) / here if here else after / share
            factors[share] = factors[after] * ratio
        for name in {name for costs in by_share.values() for name in costs}:
            last = max(share for share in shares if name in by_share[share])
            total += by_share[last][name] * factors[last]
    return total
