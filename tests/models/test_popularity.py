"""Popularity: the contract, and the counts."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from contract import RecommenderContract, make_rows

from distill_at_scale.models import create_model


class TestPopularity(RecommenderContract):
    name = "popularity"
    settings: ClassVar = {}
    personal = False


def test_scores_are_train_counts() -> None:
    model = create_model("popularity").fit(make_rows([[0, 1], [1, 2], [1]], n_items=4))
    np.testing.assert_array_equal(model.score(make_rows([[3], []], n_items=4)), [[1, 3, 1, 0]] * 2)
