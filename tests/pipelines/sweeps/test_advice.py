"""What advice makes of a sweep's cells."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from distill_at_scale.genie.probability import NEW_SAMPLE, Z
from distill_at_scale.pipelines.sweeps.advice import measured
from distill_at_scale.pipelines.sweeps.forecast_evidence import ForecastEvidence


def cell(kept: float, half: float | None, seeds: int) -> dict[str, Any]:
    """A cell with a symmetric interval, cut at 0 as cells are."""
    interval = {} if half is None else {"low": max(kept - half, 0.0), "high": kept + half}
    new = interval if seeds > 1 else {}
    return {
        "method": "random_users",
        "budget": 0.5,
        "kept": kept,
        "kept_by_model": f'{{"ease": {kept}}}',
        "n_seeds": seeds,
        "fit_cpu_s": 1.0,
        "fit_full_cpu_s": 2.0,
        "bytes": 1.0,
        **{f"kept_{end}": interval.get(end) for end in ("low", "high")},
        **{f"new_{end}": new.get(end) for end in ("low", "high")},
    }


@pytest.mark.parametrize(
    ("kept", "half", "seeds"),
    [(0.9, 0.1, 3), (1.15, 0.45, 2), (1.19, 0.6, 2), (0.3, 0.6, 2), (0.9, 0.05, 1), (1.18, 0.3, 1), (0.9, None, 1)],
)
def test_deviations_are_those_of_the_whole_interval(kept: float, half: float | None, seeds: int) -> None:
    """Ends that are cut for readers say nothing about how sure a figure is."""
    table = pl.DataFrame([cell(kept, half, seeds)], schema_overrides={"kept_low": pl.Float64, "new_low": pl.Float64})
    trials = pl.DataFrame({"method": ["full"], "bytes": [2.0]})
    found = measured(SimpleNamespace(units={}), trials, table.cast({"kept_high": pl.Float64, "new_high": pl.Float64}))  # type: ignore[arg-type]
    one = NEW_SAMPLE if seeds == 1 else 0.0
    expected = NEW_SAMPLE if half is None else math.hypot(half / Z, one)
    assert found["deviation"].item() == pytest.approx(expected)
    if half is not None:
        assert found["kept_high"].item() == pytest.approx(min(kept + half, 1.2))
        assert found["kept_low"].item() == pytest.approx(max(kept - half, 0.0))


def test_a_forecast_says_nothing_below_its_smallest_samples() -> None:
    def model(first: float) -> SimpleNamespace:
        shares = np.geomspace(first, 1.0, 9)
        points = [SimpleNamespace(share=share, quality=0.3 * share**0.05) for share in shares.tolist()]
        return SimpleNamespace(model="ease", curve=points, rungs=points[:3], quality=0.3, low=0.29, high=0.31)

    known = ForecastEvidence(SimpleNamespace(models=[model(0.125), model(0.25)]))  # type: ignore[arg-type]
    assert known.least == 0.25
    assert known.kept(0.5)[0] == pytest.approx(0.5**0.05, rel=1e-3)
