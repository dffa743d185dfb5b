"""What a search on everything would have cost, from candidates whose costs on all rungs are known."""

from __future__ import annotations

import numpy as np
import pytest

from distill_at_scale.pipelines.sweeps.candidate_runs import CandidateRun, full_cost
from distill_at_scale.pipelines.sweeps.candidates import Candidate
from distill_at_scale.pipelines.sweeps.evaluations import Trained

SHARES = (0.03, 0.09, 0.27, 1.0)


def searched(costs: np.ndarray, model: str = "als", last: float = 1.0) -> list[CandidateRun]:
    """Of each rung the third with the lowest number goes on; ``costs`` [candidates, rungs] in CPU-seconds."""
    runs = []
    for k, of in enumerate(costs):
        run = CandidateRun(Candidate(f"{model}-{k}", model, {}, {}), k)
        for rung, share in enumerate(SHARES):
            if k < len(costs) / 3**rung and share <= last:
                trained = Trained(
                    metrics={},
                    standard_errors={},
                    fit_wall_s=0.0,
                    fit_cpu_s=of[rung] * 0.75,
                    measure_cpu_s=of[rung] / 4,
                )
                run.measured.append((share, trained))
        runs.append(run)
    return runs


def test_costs_that_settings_determine() -> None:
    """Dropped candidates are four times as dear."""
    each = np.where(np.arange(27) < 9, 1.0, 4.0) * (1.0 + np.arange(27) / 27)
    costs = each[:, None] * np.array([0.1, 0.2, 0.5, 1.7])
    assert full_cost(searched(costs)) == pytest.approx(costs[:, -1].sum(), rel=1e-9)


def test_costs_that_chance_determines() -> None:
    """Candidates were dropped on the first rung since they stopped early, but take as long as others on everything."""
    rng = np.random.default_rng(0)
    costs = np.array([0.1, 0.2, 0.5, 1.7]) * rng.lognormal(sigma=0.3, size=(81, 4))
    costs[27:, 0] /= 3.0
    found = full_cost(searched(costs))
    assert found == pytest.approx(costs[:, -1].sum(), rel=0.2)
    # In proportion to the first rung it would be less than two thirds.
    ratio = np.prod([costs[: 81 // 3 ** (k + 1), k + 1].sum() / costs[: 81 // 3 ** (k + 1), k].sum() for k in range(3)])
    assert costs[27:, 0].sum() * ratio < 0.66 * costs[27:, -1].sum()


@pytest.mark.parametrize("last", [0.03, 0.27])
def test_costs_of_a_model_without_a_finalist(last: float) -> None:
    """They grow with the share to the power 1, 1.3, then 1.6 as the fixed part fades; from one rung alone, by 1."""
    growth = np.cumsum([0.0, np.log(3.0), 1.3 * np.log(3.0), 1.6 * np.log(1 / 0.27)])
    costs = 0.1 * np.exp(growth) * np.ones((27, 1))
    expected = costs[:, -1].sum() if last > 0.03 else 2.7 / 0.03
    assert full_cost(searched(costs, last=last)) == pytest.approx(expected, rel=1e-9)


def test_models_are_added_up_and_rungs_that_lack_are_proportional() -> None:
    costs = np.full((3, 4), 2.0)
    assert full_cost(searched(costs, "ease") + searched(costs, "elsa")) == pytest.approx(12.0)
    assert full_cost(searched(costs, last=0.27)) == pytest.approx(6.0 / 0.27)
    assert full_cost([]) == 0.0
