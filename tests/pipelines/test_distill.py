"""distill on Ray Train, fits on what it makes, export; kills, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from kill_kit import Runs
from prepare_kit import inline_prepare, random_rows, write_logs

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation.distiller import Distilled
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.errors import DasError
from distill_at_scale.models import load_model
from distill_at_scale.pipelines.distill import distill, distiller_of
from distill_at_scale.pipelines.evaluate import evaluate
from distill_at_scale.pipelines.export import export
from distill_at_scale.pipelines.fit import fit

sys.path.insert(0, str(Path(__file__).parents[1] / "distillation"))
from distill_kit import LocalJob

SETTINGS: dict[str, Any] = {"steps": 12, "batch_size": 40, "validate_every": 4, "warm_up": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """About 150 users in three shards, with validation rows."""
    folder = tmp_path_factory.mktemp("distill")
    logs = write_logs(folder, random_rows(5, 3000, 150, 60), 2)
    return inline_prepare(input=logs, output=str(folder / "data"), shards=3, min_user=4)


def in_process(data: Dataset) -> Distilled:
    """The same without Ray, by one worker."""
    from distill_at_scale.config import DistillConfig

    distiller = distiller_of(DistillConfig(data=data.uri, output="-", users=8, set=SETTINGS))
    return distiller.run(LocalJob(data))


def test_two_workers_distill_fit_evaluate_and_export(tmp_path: Path, data: Dataset, ray_session: None) -> None:
    output = str(tmp_path / "made")
    asked: dict[str, Any] = {"data": data.uri, "output": output, "users": 8, "set": SETTINGS}
    result = distill(**asked, workers=2)
    alone = in_process(data)
    made = SyntheticDataset.open(output)
    made.verify()
    made.check_parent(data)
    np.testing.assert_allclose(made.rows(), alone.data, atol=2e-3)
    assert result.winner == made.manifest.winner == alone.winner
    assert result.notes[: len(alone.notes)] == made.manifest.notes
    for name, metrics in alone.contenders.items():
        assert result.contenders[name] == pytest.approx(metrics, abs=1e-3)
    assert [point["step"] for point in result.curve] == [0, 4, 8, 12]
    assert [p["metric"] for p in result.curve] == pytest.approx([p["metric"] for p in alone.curve], abs=1e-3)
    assert made.manifest.cost["cpu_s"] > 0
    assert sorted(path.name for path in Path(output).iterdir()) == [
        "data.safetensors",
        "items.parquet",
        *([] if made.manifest.learned is None else ["learned.safetensors"]),
        "manifest.json",
        "run.json",
    ]

    for model in ("infinite_ae", "ease"):
        fitted = fit(data=output, model=model, output=str(tmp_path / model))
        found = evaluate(data=data.uri, model=fitted.uri)
        assert 0 < found.metrics["ndcg@10"] < 1
        assert load_model(fitted.uri).item_space == data.manifest.item_space

    again = distill(data=data.uri, from_=output, output=str(tmp_path / "again"), set={"steps": 4, "batch_size": 40})
    assert (again.users, [point["step"] for point in again.curve]) == (8, [0, 4])
    assert "Started from an earlier result" in again.notes[0]
    with pytest.raises(DasError, match="sasrec cannot learn from real-valued rows of synthetic users; those that can"):
        fit(data=output, model="sasrec", output=str(tmp_path / "no"))
    with pytest.raises(DasError, match="leave out --workers"):
        fit(data=output, model="infinite_ae", output=str(tmp_path / "no"), workers=2)
    with pytest.raises(DasError, match="synthetic data are fitted without checkpoints; leave it out"):
        fit(data=output, model="mf", output=str(tmp_path / "no"), checkpoint_every=2)
    with pytest.raises(DasError, match="holds a model already"):
        fit(data=output, model="ease", output=str(tmp_path / "ease"))

    exported = export(data=output, output=str(tmp_path / "log"))
    log = pl.read_parquet(exported.uri)
    assert (len(log), log["user_id"].n_unique()) == (exported.rows, 8)
    assert set(log["item_id"]) <= set(data.items()["item_id"])
    atomic = export(data=output, output=str(tmp_path / "atomic"), format="recbole", how="sample")
    lines = Path(atomic.uri).read_text().splitlines()
    assert lines[0] == "user_id:token\titem_id:token"
    assert len(lines) == atomic.rows + 1

    # The same again is refused, other settings too; told to, it is replaced.
    with pytest.raises(DasError, match="holds a synthetic dataset already"):
        distill(**asked)
    again = distill(**{**asked, "method": "sketch", "set": {}, "overwrite": True})
    assert (again.method, again.users, again.curve) == ("sketch", 8, [])
    assert set(again.settings) == {"infinite_ae", "ease"}


def test_refusals(tmp_path: Path, data: Dataset, ray_session: None) -> None:
    asked: dict[str, Any] = {"data": data.uri, "output": str(tmp_path / "made"), "users": 8}
    with pytest.raises(DasError, match=r"--users 9,999 is more than the \d+ users of"):
        distill(**{**asked, "users": 9999})
    with pytest.raises(DasError, match=r"distill_cf: setting 'lam': .*must be above 0"):
        distill(**asked, set={"lam": 0})
    with pytest.raises(DasError, match="distill_cf: unknown setting 'lamda'; the settings are: "):
        distill(**asked, set={"lamda": 1})
    with pytest.raises(DasError, match="users is given by --users, not by --set"):
        distill(**asked, set={"users": 5})
    with pytest.raises(DasError, match="--checkpoint-every is of methods that learn in steps, not of sketch; leave it"):
        distill(**asked, method="sketch", checkpoint_every=5)
    with pytest.raises(DasError, match="holds a dataset; choose another --output"):
        distill(**{**asked, "output": data.uri})
    assert not (tmp_path / "made").exists()


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_said_once(tmp_path: Path, data: Dataset, ray_session: None) -> None:
    """And the last good checkpoint is kept; what was begun is not gone on with under other settings."""
    asked: dict[str, Any] = {"data": data.uri, "output": str(tmp_path / "made"), "users": 8}
    wild = {"learning_rate": 1e30, "warm_up": 0, "steps": 9}
    with pytest.raises(DasError, match="the loss became NaN or infinite at step"):
        distill(**asked, set=wild, checkpoint_every=1)
    assert list((tmp_path / "made" / "_work" / "distill").glob("checkpoint-*"))
    with pytest.raises(DasError, match=r"unfinished run with other settings \(learning_rate, steps, warm_up\)"):
        distill(**asked)


@pytest.mark.slow
def test_killed(tmp_path: Path, data: Dataset, run_folder: Path) -> None:
    """A worker and two drivers die; the result has the bits of an undisturbed run."""

    settings = [f"{key}={value}" for key, value in SETTINGS.items()]
    command = ["distill", "--data", data.uri, "--users", "8", "--output", "model", "--checkpoint-every", "3"]
    killed, undisturbed = (
        Runs(tmp_path / name, run_folder, *command, "--set", *settings) for name in ("killed", "undisturbed")
    )
    killed.run([("worker", "after", r"checkpoint-0+3\.safetensors$"), ("driver", "before", r"checkpoint-0+9\.saf")])
    killed.run([("driver", "before", r"model/manifest\.json$")])
    killed.run([])
    undisturbed.run([])
    found, expected = (SyntheticDataset.open(str(each.folder / "model")) for each in (killed, undisturbed))
    np.testing.assert_array_equal(found.rows(), expected.rows())
    assert found.manifest.curve == expected.manifest.curve
    assert found.manifest.settings == expected.manifest.settings
    assert not (killed.folder / "model" / "_work").exists()
    assert json.loads((killed.folder / "model" / "run.json").read_text())["verb"] == "distill"
