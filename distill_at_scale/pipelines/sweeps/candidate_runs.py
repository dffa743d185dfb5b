"""The candidates of `tune` as they are measured on one rung after another: how far each came, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from distill_at_scale.evaluation.promotion import Standing
from distill_at_scale.evaluation.retention import PRIMARY, kendall_tau
from distill_at_scale.pipelines.sweeps.candidates import Candidate
from distill_at_scale.pipelines.sweeps.evaluations import Trained
from distill_at_scale.pipelines.sweeps.tune_result import CandidateResult, MeasuredRung

_LEAST_S = 1e-3
"""Resolution of the costs."""


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

    What a candidate that was not measured on a rung would have cost there follows from what it costs on the rung
    before: a power law, for each model, through those that were measured on both. Its exponent is that of the costs of
    one model's candidates on two rungs: 1 where settings determine the cost (a width), 0 where chance does (the number
    of epochs), so that those that were dropped after a cheap fit are not taken to be cheap on everything. A model of
    which none was fitted on everything: see :func:`_growth`.
    """
    of_model: dict[str, dict[float, dict[str, float]]] = {}
    for run in runs:
        for share, trained in run.measured:
            of_model.setdefault(run.candidate.model, {}).setdefault(share, {})[run.candidate.name] = cost_of(trained)
    return sum(_on_everything(by_share) for by_share in of_model.values())


def _on_everything(by_share: Mapping[float, Mapping[str, float]]) -> float:
    """The same for one model, by the costs of its candidates (by name) on each rung."""
    rungs = sorted(by_share)
    steps = [(share, after, sorted(by_share[share].keys() & by_share[after])) for share, after in pairwise(rungs)]
    logs = {share: {name: math.log(max(cost, _LEAST_S)) for name, cost in by_share[share].items()} for share in rungs}
    products = squares = 0.0
    centres: dict[float, float] = {}
    for share, after, both in steps:
        if both:
            x, y = (np.array([logs[at][name] for name in both]) for at in (share, after))
            centres[share] = float(x.mean())
            products, squares = products + (x - x.mean()) @ (y - y.mean()), squares + np.square(x - x.mean()).sum()
    exponent = min(max(products / squares, 0.0), 1.0) if squares > 0 else 1.0
    costs: dict[str, float] = {}
    powers: list[float] = []
    for share, after, both in steps:
        costs |= by_share[share]
        centre = centres.get(share, 0.0)
        power = {name: math.exp(exponent * (math.log(max(cost, _LEAST_S)) - centre)) for name, cost in costs.items()}
        if both:
            level = sum(by_share[after][name] for name in both) / sum(power[name] for name in both)
            costs = {name: level * of for name, of in power.items()}
            grown = sum(by_share[after][name] for name in both) / max(sum(by_share[share][n] for n in both), _LEAST_S)
            powers.append(math.log(max(grown, _LEAST_S)) / math.log(after / share))
        else:  # none that ended on one was measured on the other
            costs = {name: cost * after / share for name, cost in costs.items()}
    costs |= by_share[rungs[-1]]
    return sum(costs.values()) * _growth(powers) ** math.log(1.0 / rungs[-1])


def _growth(powers: Sequence[float]) -> float:
    """exp(d ln cost / d ln share) beyond the last rung, of the powers of the share by which costs grew before.

    The power goes on rising as it did, since the fixed part of the costs fades, and a system that is cubic in the users
    takes over; from 1 to 3.
    """
    power = powers[-1] + (powers[-1] - powers[-2] if len(powers) > 1 else 0.0) if powers else 1.0
    return math.exp(min(max(power, 1.0), 3.0))
