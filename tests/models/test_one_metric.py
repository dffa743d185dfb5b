"""All models and distillers choose by one metric: the one in which "kept" is measured."""

from __future__ import annotations

import numpy as np
import pytest

from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.genie import cells
from distill_at_scale.models import MODELS, create_model
from distill_at_scale.models.warming import _log
from distill_at_scale.registry import DISTILLERS


def test_every_default_is_the_metric_of_kept() -> None:
    configs = [*(one.Config for one in (*MODELS.values(), *DISTILLERS.values()))]
    chooses = [config.model_fields["metric"].default for config in configs if "metric" in config.model_fields]
    assert set(chooses) == {PRIMARY} == {cells.PRIMARY}
    assert len(chooses) == len(configs) - 1  # popularity chooses nothing


@pytest.mark.parametrize("solver", ["exact", "pcg", "nystrom"])
@pytest.mark.parametrize("metric", [PRIMARY, "hr@5"])
def test_infinite_ae_chooses_by_it_whatever_the_solver(solver: str, metric: str) -> None:
    given = {} if metric == PRIMARY else {"metric": metric}
    train, validation = _log()
    chosen = create_model("infinite_ae", {"solver": solver, **given}).fit(train, validation).selection
    assert chosen is not None
    assert chosen.metric == metric
    best = max(chosen.points, key=lambda point: point.metric)
    assert next(point.metric for point in chosen.points if point.value == chosen.chosen) == best.metric
    assert np.isfinite(best.metric)
