"""fit takes a Dataset, a matrix, a frame, Interactions or a SyntheticDataset, and refuses anything else."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from contract import blocks

import distill_at_scale as das
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.models import Recommender
from distill_at_scale.models.inputs import fit_rows_of, histories_of

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from dataset_kit import write_dataset


def frame_of(rows: Interactions, **columns: Any) -> pl.DataFrame:
    users = np.repeat(rows.users, rows.counts)
    return pl.DataFrame({"user_id": users, "item_id": rows.items, **columns})


def weights(model: Recommender) -> dict[str, np.ndarray]:
    return model._weights()


def test_all_kinds_of_rows_give_the_same_weights() -> None:
    train, heldout = blocks()
    settings: dict[str, Any] = {"grid": (2.0, 20.0)}
    reference = das.models.Ease(**settings).fit(train, heldout)
    frame, other = frame_of(train), frame_of(heldout)
    split = pl.concat([frame.with_columns(split=0), other.with_columns(split=1)])
    for model in (
        das.models.Ease(**settings).fit(train.to_csr(), heldout.to_csr()),
        das.models.Ease(**settings).fit(frame, other),
        das.models.Ease(**settings).fit(split),
        das.models.Ease(**settings).fit(split.rename({"user_id": "v", "item_id": "w"}), user="v", item="w"),
    ):
        assert model.selection is not None
        assert reference.selection is not None
        assert model.selection.chosen == reference.selection.chosen
        np.testing.assert_array_equal(weights(model)["item_weights"], weights(reference)["item_weights"])


def test_a_model_fitted_on_ids_knows_them() -> None:
    frame = pl.DataFrame({"user_id": ["x", "x", "y"], "item_id": ["b", "a", "b"]})
    model = das.models.Popularity().fit(frame)
    assert model.item_ids is not None
    assert model.item_ids.to_list() == ["a", "b"]
    assert model.item_space == fit_rows_of(frame).item_space is not None
    new = pl.DataFrame({"user_id": ["new", "new"], "item_id": ["b", "unknown"]})
    histories, users, unknown = histories_of(new, model.item_ids)
    assert (histories.items.tolist(), users is not None and users.to_list(), unknown) == ([1], ["new"], 1)
    assert model.score(histories).shape == (1, 2)
    assert das.models.Popularity().fit(sp.csr_array(np.eye(2))).item_ids is None


@pytest.mark.parametrize("name", ["Ease", "MF"])
def test_a_dataset_is_read_with_its_ids_and_its_validation_rows(name: str, tmp_path: Path) -> None:
    rows = [(u, i, 1.0, 1000 + i, 0 if i < 3 else 1) for u in range(6) for i in range(4)]
    dataset = write_dataset(tmp_path / "data", [rows[:12], rows[12:]], [3, 3], 4)
    settings: dict[str, Any] = {"grid": (1.0, 2.0)} if name == "Ease" else {"epochs": 2, "dim": 2}
    model = getattr(das.models, name)(**settings).fit(dataset)
    assert model.selection is not None
    assert model.item_ids.to_list() == [0, 10, 20, 30]
    assert model.item_space == dataset.manifest.item_space
    with pytest.raises(SettingError, match="holds its own validation rows"):
        model.fit(dataset, dataset.interactions("validation"))


@pytest.mark.parametrize(
    ("data", "validation", "sentence"),
    [
        ([[1, 2]], None, "cannot be fitted on a list; give a Dataset, a SciPy sparse matrix"),
        (np.eye(3), None, "cannot be fitted on a ndarray"),
        (sp.csr_array(np.eye(2)), pl.DataFrame({"user_id": [1], "item_id": [1]}), "must be of the same kind"),
        (pl.DataFrame({"user_id": [1], "item_id": [1]}), sp.csr_array(np.eye(2)), "must be of the same kind"),
        (pl.DataFrame({"a": [1], "item_id": [1]}), None, "its columns are a, item_id. Name it with user=COLUMN"),
        (sp.csr_array((3, 4)), None, "no train rows"),
    ],
)
def test_data_that_no_model_can_be_fitted_on(data: Any, validation: Any, sentence: str) -> None:
    with pytest.raises(DasError, match=sentence):
        das.models.Ease(lam=1.0).fit(data, validation)


def test_the_namespace_lists_the_models_and_their_settings() -> None:
    assert {"Ease", "InfiniteAE", "SASRec"} <= set(dir(das.models))
    parameters = inspect.signature(das.models.Ease).parameters
    assert list(parameters) == ["lam", "grid", "metric", "dtype", "weights"]
    assert parameters["lam"].annotation == float | None
    assert "lam: λ, added to the diagonal" in (inspect.getdoc(das.models.Ease) or "")
    assert repr(das.models.Ease(lam=4)) == "<Ease(lam=4.0), not fitted>"
    with pytest.raises(AttributeError, match="no attribute 'Eese'; the models are Popularity, Ease"):
        _ = das.models.Eese
