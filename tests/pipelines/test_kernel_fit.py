"""fit of ∞-AE by several workers: pcg and nystrom on Ray Train, kills, the plan, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kill_kit import Runs
from prepare_kit import inline_prepare, random_rows, write_logs

from distill_at_scale.config import FitConfig
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.models import create_model, load_model
from distill_at_scale.models.infinite_ae import InfiniteAE
from distill_at_scale.models.kernel.ntk import TrainUsers
from distill_at_scale.pipelines.fit import fit
from distill_at_scale.pipelines.training.kernel_fit import StoredShelf, _save_parts, plan_fit

SETTINGS: dict[str, Any] = {"lam": 2.0, "landmarks": 20, "tolerance": 1e-6, "dtype": "float64"}
# Deaths in the order in which a run comes to them; a run ends with a driver's.
LIVES = [
    [
        ("worker", "after", r"worker-00000/checkpoints/checkpoint-0+1002\.safetensors$"),
        ("driver", "before", r"worker-00000/checkpoints/checkpoint-0+1004\.safetensors$"),
    ],
    [
        ("worker", "after", r"worker-00000/alpha-[^/]*\.safetensors$"),
        ("driver", "after", r"model/weights\.safetensors$"),
    ],
    [],
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """About 150 users in three shards, with validation rows."""
    folder = tmp_path_factory.mktemp("kernel")
    logs = write_logs(folder, random_rows(5, 3000, 150, 60), 2)
    return inline_prepare(input=logs, output=str(folder / "data"), shards=3, min_user=4)


def pcg_runs(folder: Path, data: Dataset, workers: int, ray_folder: Path) -> Runs:
    """Runs of one `das fit` of ∞-AE by pcg into ``folder / "model"``."""
    settings = [f"{key}={value}" for key, value in SETTINGS.items()]
    options = ["--solver", "pcg", "--output", "model", "--workers", str(workers), "--set", *settings]
    return Runs(folder, ray_folder, "fit", "--data", data.uri, "--model", "infinite_ae", *options)


def in_process(data: Dataset, solver: str) -> np.ndarray:
    """Test scores of the same fit in this process."""
    model = create_model("infinite_ae", {**SETTINGS, "solver": solver}).fit(data.interactions("train"))
    return model.score(data.histories("validation", 0)[0])


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["pcg", "nystrom"])
def test_two_workers_find_what_one_process_does(tmp_path: Path, data: Dataset, ray_session: None, solver: str) -> None:
    asked: dict[str, Any] = {"data": data.uri, "model": "infinite_ae", "output": str(tmp_path / "two")}
    result = fit(**asked, solver=solver, set=SETTINGS, workers=2)
    assert result.settings["solver"] == solver
    model = load_model(result.uri)
    assert model.item_space == data.manifest.item_space
    scores = model.score(data.histories("validation", 0)[0])
    np.testing.assert_allclose(scores, in_process(data, solver), atol=1e-5)
    run = json.loads((tmp_path / "two" / "run.json").read_text())
    assert run["stages"][0]["tasks"] == 2
    assert run["config"]["plan"]["solver"] == solver
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == [
        "model.json",
        "run.json",
        "weights.safetensors",
    ]
    with pytest.raises(DasError, match="holds a model already"):
        fit(**asked, solver=solver, set=SETTINGS, workers=2)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed(tmp_path: Path, data: Dataset, run_folder: Path, workers: int) -> None:
    """Workers and drivers die, at checkpoints, with parts and with the weights written; the bits are the same."""
    killed = pcg_runs(tmp_path / "killed", data, workers, run_folder)
    for deaths in LIVES:
        killed.run(deaths)
    assert sorted(path.name for path in (killed.folder / "model").iterdir()) == [
        "model.json",
        "run.json",
        "weights.safetensors",
    ]
    undisturbed = pcg_runs(tmp_path / "undisturbed", data, workers, run_folder)
    undisturbed.run([])
    found, expected = ((each.folder / "model" / "weights.safetensors").read_bytes() for each in (killed, undisturbed))
    assert found == expected


def test_auto_says_its_plan(
    tmp_path: Path, data: Dataset, ray_session: None, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(data=data.uri, model="infinite_ae", output=str(tmp_path / "auto"), set={"lam": 2.0})
    said = capsys.readouterr().err
    assert f"infinite_ae: {data.n_users} users × {data.n_items} items on 1 worker(s)" in said
    assert ": exact, because users × users fit into the memory of one worker" in said
    assert "predicted: " in said
    assert json.loads((tmp_path / "auto" / "model.json").read_text())["config"]["solver"] == "exact"


def test_refusals(tmp_path: Path, data: Dataset, ray_session: None) -> None:
    asked: dict[str, Any] = {"data": data.uri, "output": str(tmp_path / "model")}
    with pytest.raises(DasError, match="--solver is of infinite_ae; leave it out for ease"):
        fit(**asked, model="ease", solver="pcg")
    with pytest.raises(DasError, match="exact runs on one worker; leave out --workers, or set --solver pcg"):
        fit(**asked, model="infinite_ae", solver="exact", workers=2)
    with pytest.raises(DasError, match="pcg computes on CPUs; leave out --gpu, or set --solver exact"):
        fit(**asked, model="infinite_ae", solver="pcg", gpu=True)
    with pytest.raises(DasError, match=r"setting 'lam': .*must be above 0"):
        fit(**asked, model="infinite_ae", solver="nystrom", set={"lam": 0})
    for model, name in (("ease", "checkpoint_every"), ("als", "keep_checkpoints"), ("infinite_ae", "keep_checkpoints")):
        option = name.replace("_", "-")
        with pytest.raises(
            DasError, match=f"--{option} is of models trained by gradients, not of {model}; leave it out"
        ):
            fit(**asked, model=model, **{name: 3})
    huge = data.manifest.model_copy(update={"n_users": 10**9})
    config = FitConfig(**asked, model="infinite_ae", set={"lam": 1.0, "solver": "pcg"}, workers=2)
    with pytest.raises(DasError, match=r"on each of 2 workers, needs about .* use more workers, or --solver nystrom"):
        plan_fit(config, Dataset(data.uri, huge))
    assert not (tmp_path / "model" / "model.json").exists()


def test_a_shelf_keeps_parts_and_checkpoints(tmp_path: Path) -> None:
    shelf = StoredShelf(str(tmp_path), 3)
    assert shelf.newest() == 0
    rng = np.random.default_rng(0)
    part = rng.normal(size=(5, 4)).astype(np.float32)
    assert not shelf.has("alpha")
    shelf.put("alpha", part)
    assert shelf.has("alpha")
    np.testing.assert_array_equal(StoredShelf(str(tmp_path), 3).rows("alpha", 1, 4), part[1:4])
    state = {"a": rng.normal(size=(3, 2)), "empty": np.zeros((0, 7), np.float32), "n": np.arange(3)}
    for place in (1001, 1002, 2001, 2002):
        shelf.keep(place, {**state, "n": np.arange(place)})
    shelf.wait()
    again = StoredShelf(str(tmp_path), 3)
    assert again.newest() == 2002
    found = again.checkpoint(2001)
    assert {name: array.tolist() for name, array in found.items()} == {
        **{name: array.tolist() for name, array in state.items()},
        "n": list(range(2001)),
    }
    assert len(list((tmp_path / "worker-00003" / "checkpoints").iterdir())) == 3
    shelf.drop("alpha")
    assert not shelf.has("alpha")


def test_parts_become_the_model_that_save_would_write(tmp_path: Path, data: Dataset) -> None:
    train = data.interactions("train")
    whole = create_model("infinite_ae", {"lam": 2.0, "device": "cpu", "solver": "exact"}).fit(train)
    assert isinstance(whole, InfiniteAE)
    alpha, cut, half = np.ascontiguousarray(whole._alpha), len(train) // 3, train.n_items // 2
    shelves = [StoredShelf(str(tmp_path / "work"), rank) for rank in range(2)]
    for shelf, rows in zip(shelves, (slice(0, cut), slice(cut, None))):
        shelf.put("left", np.ascontiguousarray(alpha[rows, :half]))
        shelf.put("right", np.ascontiguousarray(alpha[rows, half:]))
    model = InfiniteAE(lam=2.0, device="cpu", solver="exact")
    model.adopt(np.zeros((len(train), 0)), None, train.n_items, None, TrainUsers(train))
    counts = [cut, len(train) - cut]
    _save_parts(model, shelves, counts, ["left", "right"], str(tmp_path / "draft"), str(tmp_path / "model"))
    loaded = load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.score(train), whole.score(train))
    assert loaded.config == whole.config
