"""What the terminal says of a search for the best model."""

from __future__ import annotations

from distill_at_scale.pipelines.sweeps.tune_result import TuneResult
from distill_at_scale.report.tuned import _cost


def test_a_search_that_cost_more_than_all_fits_says_so() -> None:
    def cost(spent: float, full: float | None) -> str:
        return _cost(TuneResult.model_construct(spent_cpu_s=spent, full_cpu_s=full, candidates=[]))

    assert cost(30.0, 600.0).endswith("; all of them on everything would have taken about 10 min")
    assert "would have taken less, about 0.49 s" in cost(4.0, 0.49)
    assert "everything" not in cost(4.0, None)
