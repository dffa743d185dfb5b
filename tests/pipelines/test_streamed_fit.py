"""Models fitted by passes over the rows: workers of a cluster fit what one process does, and find a state again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import distill_at_scale as das
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.models import load_model
from distill_at_scale.pipelines.training.streamed_fit import _States
from distill_at_scale.pipelines.training.worker_group import TorchCommunicator

SETTINGS = {"dim": 4, "grid": [0.01, 0.1]}


@pytest.fixture(scope="module")
def dataset(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("streamed")
    rng = np.random.default_rng(0)
    rows = [(f"u{u}", int(i), int(t)) for u in range(80) for t, i in enumerate(rng.choice(30, 8, replace=False))]
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_parquet(folder / "log.parquet")
    return das.prepare(folder / "log.parquet", output=folder / "data", shards=3, time_unit="s")


# The same by threads: tests/models/test_als.py; two workers of Ray Train: tests/system/test_from_zero.py.
@pytest.mark.slow
def test_two_workers_fit_what_one_process_fits(dataset: Dataset, tmp_path: Path) -> None:
    expected = das.models.Als(**SETTINGS).fit(dataset)
    das.fit(dataset, "als", output=tmp_path / "model", set=SETTINGS, workers=2)
    found = load_model(str(tmp_path / "model"))
    assert found.selection is not None
    assert expected.selection is not None
    assert found.selection.chosen == expected.selection.chosen
    rows = dataset.interactions("train")
    np.testing.assert_allclose(found.score(rows), expected.score(rows), atol=1e-3)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "model.json",
        "run.json",
        "weights.safetensors",
    ]
    with pytest.raises(DasError, match="holds a model already"):
        das.fit(dataset, "als", output=tmp_path / "model", set=SETTINGS)


def test_states_are_found_again_and_damaged_ones_are_not(tmp_path: Path) -> None:
    states, vectors = _States(str(tmp_path), TorchCommunicator(torch.device("cpu"))), torch.randn(5, 2)
    assert states.read("lam=0.1") is None
    states.write("lam=0.1", 1, vectors)
    states.write("lam=0.1", 2, 2 * vectors)
    found = states.read("lam=0.1")
    assert found is not None
    assert found[0] == 2
    assert torch.equal(found[1], 2 * vectors)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert states.read("lam=0.1") is None
