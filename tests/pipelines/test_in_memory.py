"""evaluate measures a model that is in memory only as it measures the same one saved; fit in memory equals the verb."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import distill_at_scale as das
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.models import MODELS
from distill_at_scale.models.saved import read_description

QUICK: dict[str, dict[str, Any]] = {
    "popularity": {},
    "ease": {"grid": [10, 100]},
    "svd_ae": {"grid": [2, 4]},
    "als": {"grid": [0.01, 0.1], "dim": 4, "epochs": 2},
    "elsa": {"epochs": 2, "dim": 4},
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


# A process of its own, since a BLAS takes its threads when it is loaded: as many as the verb's worker has.
SCRIPT = """
import json, sys
import distill_at_scale as das
from distill_at_scale.models import create_model
dataset, folder = das.Dataset.open(sys.argv[1]), sys.argv[2]
for name, settings in json.loads(sys.argv[3]).items():
    create_model(name, settings).fit(dataset).save(f"{folder}/{name}")
assert "ray" not in sys.modules
"""


@pytest.mark.parametrize(
    "names",
    [("ease", "mf"), pytest.param(tuple(MODELS), marks=pytest.mark.slow)],
    ids=["two models", "all models"],
)
def test_fit_in_memory_is_bit_for_bit_what_the_verb_gives(
    names: tuple[str, ...], dataset: Dataset, tmp_path: Path
) -> None:
    same_in_memory(dataset, {name: QUICK[name] for name in names}, tmp_path)


def test_fit_in_memory_uses_weights_as_the_verb_does(dataset: Dataset, tmp_path: Path) -> None:
    sample = das.samplers.SensitivityUsers().sample(dataset, 0.2, tmp_path / "sample")[0.2]
    assert len(sample.to_frame("train")["weight"].unique()) > 1
    same_in_memory(sample, {name: {**QUICK[name], "weights": True} for name in ("ease", "popularity")}, tmp_path)


def same_in_memory(dataset: Dataset, settings: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    # All three, since other tests of this process may have set them.
    threads = str(min(2, len(os.sched_getaffinity(0))))
    names_of_threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names_of_threads, threads)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, dataset.uri, str(tmp_path / "ours"), json.dumps(settings)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, given in settings.items():
        das.fit(dataset, name, output=tmp_path / "theirs" / name, set=given)
        ours, theirs = (read_description(str(tmp_path / who / name)) for who in ("ours", "theirs"))
        # Of the weights their digest; of a choice what was tried and found, not how long it took.
        chosen = [
            [(point.value, point.metric) for point in (of.selection.points if of.selection else [])]
            for of in (ours, theirs)
        ]
        assert (ours.weights, chosen[0]) == (theirs.weights, chosen[1])


def test_a_model_in_memory_is_evaluated_as_a_saved_one(dataset: Dataset, tmp_path: Path) -> None:
    model = das.models.Ease(lam=10).fit(dataset)
    model.save(str(tmp_path / "model"))
    ours, theirs = das.evaluate(dataset, model, ks=[5]), das.evaluate(dataset, tmp_path / "model", ks=[5])
    assert ours.metrics == theirs.metrics
    assert (ours.model.uri, ours.model.name, ours.model.settings) == (None, "ease", theirs.model.settings)


def test_a_model_in_memory_of_other_items_is_refused(dataset: Dataset) -> None:
    frame = pl.DataFrame({"user_id": [1, 1], "item_id": [1, 2]})
    with pytest.raises(DasError, match="The model popularity was fitted on another item numbering"):
        das.evaluate(dataset, das.models.Popularity().fit(frame))
    with pytest.raises(DasError, match="popularity has not been fitted"):
        das.evaluate(dataset, das.models.Popularity())
