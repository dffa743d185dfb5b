"""evaluate measures a model that is in memory only as it measures the same one saved; fit in memory equals the verb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import distill_at_scale as das
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.models import MODELS, create_model, load_model

QUICK: dict[str, dict[str, Any]] = {
    "popularity": {},
    "ease": {"grid": [10, 100]},
    "svd_ae": {"grid": [2, 4]},
    "infinite_ae": {"grid": [1, 10]},
    "bias": {"epochs": 3},
    "mf": {"epochs": 3, "dim": 4},
    "neumf": {"epochs": 2, "dim": 4},
    "mvae": {"epochs": 2},
    "svae": {"epochs": 2},
    "sasrec": {"epochs": 2},
    "gru4rec": {"epochs": 2},
    "lightgcn": {"epochs": 2, "dim": 4},
}
"""settings of each model that take a moment"""


@pytest.fixture(scope="module")
def dataset(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("memory")
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", int(i), int(t)) for u in range(60) for t, i in enumerate(rng.choice(40, 8, replace=False))]
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_parquet(folder / "log.parquet")
    return das.prepare(folder / "log.parquet", output=folder / "data", shards=4, time_unit="s")


@pytest.mark.parametrize(
    "name", [n if n in ("popularity", "ease", "mf") else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]
)
def test_fit_in_memory_is_bit_for_bit_what_the_verb_gives(name: str, dataset: Dataset, tmp_path: Path) -> None:
    fitted = das.fit(dataset, name, output=tmp_path / "model", set=QUICK[name])
    theirs, ours = load_model(fitted.uri), create_model(name, QUICK[name]).fit(dataset)
    weights = theirs._weights()
    assert weights.keys() == ours._weights().keys()
    for key, value in ours._weights().items():
        np.testing.assert_array_equal(value, weights[key], err_msg=key)
    assert (ours.selection is None) == (theirs.selection is None)
    assert ours.selection is None or theirs.selection is None or ours.selection.chosen == theirs.selection.chosen
    assert ours.item_space == theirs.item_space


def test_a_model_in_memory_is_evaluated_as_a_saved_one(dataset: Dataset, tmp_path: Path) -> None:
    model = das.models.Ease(lam=10).fit(dataset)
    model.save(str(tmp_path / "model"))
    ours, theirs = das.evaluate(dataset, model, ks=[5]), das.evaluate(dataset, tmp_path / "model", ks=[5])
    assert ours.metrics == theirs.metrics
    assert (ours.model["uri"], ours.model["name"], ours.model["settings"]) == (None, "ease", theirs.model["settings"])


def test_a_model_in_memory_of_other_items_is_refused(dataset: Dataset) -> None:
    frame = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2]})
    with pytest.raises(DasError, match="The model popularity was fitted on another item numbering"):
        das.evaluate(dataset, das.models.Popularity().fit(frame))
    with pytest.raises(DasError, match="popularity has not been fitted"):
        das.evaluate(dataset, das.models.Popularity())
