"""The ranges of a search."""

from __future__ import annotations

import pytest

from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
from distill_at_scale.models import MODELS, find_model
from distill_at_scale.models.search_space import Range, search_space


def test_ranges_hold_the_defaults() -> None:
    found = search_space({"learning_rate": 0.01, "dropout": 0.9, "dim": 64, "beta": 0.0})
    assert found == {"learning_rate": Range(0.00125, 0.08, log=True), "dropout": Range(0.05, 0.9, log=False)}


@pytest.mark.parametrize("name", [name for name in MODELS if find_model(name).by_gradients])
def test_every_model_trained_by_gradients_has_a_rate_to_search(name: str) -> None:
    model = find_model(name)
    defaults = {key: value for key, value in model.parse_config({}).model_dump().items() if isinstance(value, float)}
    space = search_space(defaults)
    assert "learning_rate" in space
    for range_ in space.values():
        assert range_.low < range_.high
    for end in ("low", "high"):
        model.parse_config({key: getattr(range_, end) for key, range_ in space.items()})  # raises if it may not be


def test_distill_cf_searches_its_rate_and_the_share_hidden() -> None:
    config = DistillCFConfig()
    assert (config.rate, config.hidden) == (0.02, 0.5)
    paper = DistillCFConfig(rows="gumbel")
    assert (paper.rate, paper.hidden) == (0.04, 0.0)
    assert sorted(search_space({"learning_rate": config.rate, "hide": config.hidden})) == ["hide", "learning_rate"]
