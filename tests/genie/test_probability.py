"""What is likely enough, and which small dataset is taken."""

from __future__ import annotations

import numpy as np
import pytest

from distill_at_scale.genie.probability import Candidate, advise, combined, probability


def test_probabilities_are_those_of_draws() -> None:
    drawn = 0.97 + 0.02 * np.random.default_rng(0).standard_normal(200_000)
    assert probability(0.97, 0.02, 0.95) == pytest.approx((drawn >= 0.95).mean(), abs=0.005)
    assert [probability(kept, 0.0, 0.95) for kept in (0.95, 0.949)] == [1.0, 0.0]


def test_two_estimates_are_weighed_by_their_precision() -> None:
    rng = np.random.default_rng(1)
    truth = 0.8
    found = [combined((truth + 0.1 * a, 0.1), (truth + 0.05 * b, 0.05)) for a, b in rng.standard_normal((4000, 2))]
    means = np.array([mean for mean, _ in found])
    assert means.mean() == pytest.approx(truth, abs=0.003)
    assert means.std() == pytest.approx(found[0][1], rel=0.05)
    assert found[0][1] < 0.05
    assert combined((0.9, 0.0), (0.5, 0.1)) == (0.9, 0.0)


def best(*candidates: Candidate) -> list[tuple[str, float]]:
    return [(one.method, one.budget) for one in advise(candidates, "random_users")]


def test_the_smallest_that_is_sure_comes_first_and_then_the_most_probable() -> None:
    found = best(
        Candidate("density", 0.1, 0.6, 0.95),
        Candidate("density", 0.3, 0.92, 0.97),
        Candidate("density", 0.6, 0.99, 0.99),
        Candidate("random_users", 0.6, 0.95, 0.98),
        Candidate("sketch", 0.6, 0.5, 0.95),
        Candidate("centrality", 0.6, 0.7, 0.95),
        Candidate("full", 1.0, 1.0, 1.0),
    )
    assert found == [
        ("density", 0.3), ("random_users", 0.6), ("full", 1.0), ("centrality", 0.6), ("sketch", 0.6)
    ]  # fmt: skip


def test_what_saves_next_to_nothing_is_not_worth_it() -> None:
    sure = {"probability": 0.95, "kept": 0.97}
    assert best(Candidate("density", 0.5, **sure), Candidate("random_users", 0.6, **sure))[0][0] == "random_users"
    assert best(Candidate("density", 0.3, **sure), Candidate("random_users", 0.6, **sure))[0][0] == "density"
    assert best(Candidate("density", 0.5, **sure), Candidate("random_users", 0.6, 0.8, 0.97))[0][0] == "density"


def test_alike_goes_to_what_is_cheaper() -> None:
    dear, cheap = (Candidate(name, 0.3, 0.95, 0.97, cost) for name, cost in (("a", 90.0), ("b", 1.0)))
    assert best(dear, cheap)[0][0] == "b"
