"""Popularity: the contract, and the counts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from contract import RecommenderContract, make_rows

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.models import create_model

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import write_dataset


class TestPopularity(RecommenderContract):
    name = "popularity"
    settings: ClassVar = {}
    personal = False


def test_scores_are_train_counts() -> None:
    model = create_model("popularity").fit(make_rows([[0, 1], [1, 2], [1]], n_items=4))
    np.testing.assert_array_equal(model.score(make_rows([[3], []], n_items=4)), [[1, 3, 1, 0]] * 2)


def test_of_a_dataset_only_the_counts_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(user, item, 1.0, item, item % 2) for user in range(3) for item in range(user + 1)]
    dataset = write_dataset(tmp_path / "data", [rows], [3], 4)
    of_rows = create_model("popularity").fit(dataset.interactions("train"))

    def unread(*_: object, **__: object) -> None:
        raise AssertionError("rows were read")

    monkeypatch.setattr(Dataset, "interactions", unread)
    model = create_model("popularity").fit(dataset)
    np.testing.assert_array_equal(model._weights()["counts"], of_rows._weights()["counts"])
    assert model._weights()["counts"].dtype == of_rows._weights()["counts"].dtype
    assert model.item_space == "x"
    assert model.item_ids is not None
    held_out = write_dataset(tmp_path / "empty", [[(0, 1, 1.0, 0, 1)]], [1], 2)
    with pytest.raises(DasError, match="popularity: the dataset has no train rows"):
        create_model("popularity").fit(held_out)
