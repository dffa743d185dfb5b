"""Samplers and distillers as objects give what the verbs give."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import distill_at_scale as das
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import SettingError
from distill_at_scale.registry import SAMPLERS


@pytest.fixture(scope="module")
def dataset(ray_session: None) -> Dataset:
    rng = np.random.default_rng(0)
    rows = [(u, int(i), 1_500_000_000 + t) for u in range(60) for t, i in enumerate(rng.choice(40, 8, replace=False))]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return Dataset.from_frame(frame, shards=2)


def class_of(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


@pytest.mark.parametrize(
    "name",
    [n if n in ("random_users", "temporal") else pytest.param(n, marks=pytest.mark.slow) for n in SAMPLERS],
)
def test_a_sampler_gives_what_the_verb_gives(name: str, dataset: Dataset, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"seed": 3, **({"proxy_epochs": 2} if SAMPLERS[name].proxy else {})}
    sampler = getattr(das.samplers, class_of(name))(**settings)
    small = sampler.sample(dataset, budgets=[0.2, 0.5])
    theirs = das.sample(dataset, name, budget=[0.5, 0.2], output=tmp_path, **settings)
    assert list(small) == [0.5, 0.2]
    assert [one.manifest.fingerprint for one in small.values()] == [one.fingerprint for one in theirs.samples]


def test_a_sampler_can_be_given_to_the_verb(dataset: Dataset, tmp_path: Path) -> None:
    made = das.sample(dataset, das.samplers.RandomUsers(seed=5), budget=0.5, output=tmp_path)
    assert (made.sampler, made.seed) == ("random_users", 5)


def test_a_distiller_gives_what_the_verb_gives_and_models_are_fitted_on_it(dataset: Dataset, tmp_path: Path) -> None:
    synthetic = das.distillers.Sketch(users=8, seed=1).distill(dataset, output=tmp_path / "ours")
    theirs = das.distill(dataset, "sketch", users=8, seed=1, output=tmp_path / "theirs")
    assert np.array_equal(synthetic.rows(), das.SyntheticDataset.open(theirs.uri).rows())
    model = das.models.Ease().fit(synthetic)
    assert model.item_space == dataset.manifest.item_space
    assert model.item_ids is not None
    assert model.item_ids.equals(dataset.item_ids())
    fitted = das.fit(theirs, das.models.Ease(), output=tmp_path / "ease")
    np.testing.assert_allclose(
        das.load_model(fitted.uri)._weights()["item_weights"], model._weights()["item_weights"], atol=1e-6
    )


def test_settings_of_a_distiller_are_its_own_or_the_verbs() -> None:
    distiller = das.distillers.DistillCF(users=30, rows="unit", seed=2)
    assert distiller.as_settings() == {"method": "distill_cf", "users": 30, "seed": 2, "set": {"rows": "unit"}}
    assert repr(distiller) == "DistillCF(users=30, rows='unit', seed=2)"
    with pytest.raises(SettingError, match="user"):
        das.distillers.DistillCF(users=0)
    with pytest.raises(SettingError, match=r"Farzi has no setting 'sequence'; .* Did you mean 'sequences'\?"):
        das.distillers.Farzi(sequence=5)
    with pytest.raises(SettingError, match=r"RandomUsers has no setting 'sed'; its settings are seed\. Did you mean"):
        das.samplers.RandomUsers(sed=1)


def test_namespaces_list_classes_with_their_signatures() -> None:
    assert {class_of(name) for name in SAMPLERS} <= set(dir(das.samplers))
    assert {"DistillCF", "Sketch", "Farzi"} <= set(dir(das.distillers))
    parameters = inspect.signature(das.samplers.SvpMfProp).parameters
    assert {name: one.default for name, one in parameters.items()} == {
        "objective": "implicit",
        "proxy_epochs": 50,
        "seed": 0,
    }
    assert "seed: Random seed. Default: 0." in (inspect.getdoc(das.samplers.Random) or "")
    assert inspect.signature(das.distillers.Sketch).parameters["users"].default is None
    with pytest.raises(AttributeError, match=r"has no attribute 'Randum'; the samplers are Random, Stratified"):
        _ = das.samplers.Randum


def test_namespaces_need_no_ray() -> None:
    script = (
        "import sys, distill_at_scale as das\n"
        "assert 'torch' not in sys.modules and 'polars' not in sys.modules\n"
        "das.samplers.SvpMf(seed=1); das.distillers.DistillCF(users=3); das.models.Ease(lam=2); dir(das.distillers)\n"
        "assert 'ray' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
