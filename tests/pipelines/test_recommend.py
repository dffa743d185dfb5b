"""das recommend and das genie train: from features, from a sweep; what is foreign, out of date or unmet is said."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import distill_at_scale as das
from distill_at_scale import cli
from distill_at_scale.data import recorded
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.genie.features import dataset_features
from distill_at_scale.genie.model import DataGenie
from distill_at_scale.genie.synthetic_logs import LogDesign, generate_log
from distill_at_scale.genie.trials import FULL, METRICS, as_trials
from distill_at_scale.pipelines.genie import genie_train
from distill_at_scale.pipelines.recommend import recommend
from distill_at_scale.pipelines.sweeps import dataset_features as pipelines_features
from distill_at_scale.pipelines.sweeps.dataset_features import features
from distill_at_scale.report.recommendation import show_recommendation
from distill_at_scale.samplers import SAMPLERS

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import write_dataset

MODELS = ("popularity", "ease", "svd_ae")
FAST = ["means", "ridge"]
METHODS = ("random", "head_users", "temporal", "sketch")


def make_dataset(folder: Path, seed: int, users: int = 60, shards: int = 1, **fields: Any) -> Dataset:
    """A generated log as a dataset: the last row of each user is test, the one before it validation."""
    log = generate_log(LogDesign(users=users, items=60, mean_rows=9.0 + seed, popularity_tail=0.2 * seed, seed=seed))
    parts: list[list[Any]] = [[] for _ in range(shards)]
    per_shard = -(-users // shards)
    for (user,), rows in log.group_by("user_id", maintain_order=True):
        splits = [0] * (rows.height - 2) + [1, 2]
        ordered = rows.sort("timestamp", "item_id").select("item_id", "rating", "timestamp").rows()
        parts[int(user) // per_shard] += [  # type: ignore[call-overload]
            (int(user), item, stars, 1000 * time, split)
            for (item, stars, time), split in zip(ordered, splits)  # type: ignore[call-overload]
        ]
    counts = [min(per_shard, users - k * per_shard) for k in range(shards)]
    return write_dataset(folder, parts, counts, 60, **fields)


def write_sweep(folder: Path, dataset: Dataset, kept: dict[tuple[str, float], float]) -> str:
    """A sweep of a dataset in which methods keep so much of what every model has on all rows."""
    rng = np.random.default_rng(0)
    full = {model: dict.fromkeys(METRICS, 0.2 + 0.1 * k) for k, model in enumerate(MODELS)}
    fingerprint = dataset.manifest.fingerprint
    common = {"dataset": folder.name, "fingerprint": fingerprint, "status": "done", "reason": "", "seed": 0}
    whole = {**common, "method": FULL, "budget": 1.0, "share": 1.0, "fit_cpu_s": 4.0}
    rows: list[dict[str, Any]] = [{**whole, "model": model, **full[model]} for model in MODELS]
    for (method, budget), share in kept.items():
        # As `sketch` does in a real sweep, it teaches some models only.
        for model in MODELS[1:] if method == "sketch" else MODELS:
            metrics = {
                metric: share * value * (1 + 0.01 * rng.standard_normal()) for metric, value in full[model].items()
            }
            costs = {"make_cpu_s": 1.0, "fit_cpu_s": 4.0 * budget}
            rows.append(
                {**common, "method": method, "budget": budget, "share": budget, "model": model, **costs, **metrics}
            )
    buffer = io.BytesIO()
    as_trials(rows).write_parquet(buffer)
    folder.mkdir(parents=True)
    (folder / "trials.parquet").write_bytes(buffer.getvalue())
    described = {
        "data": {"uri": dataset.uri, "fingerprint": fingerprint, "train_rows": dataset.manifest.splits["train"]}
    }
    (folder / "sweep.json").write_text(json.dumps(described))
    return str(folder)


KEPT = {
    ("random", 0.1): 0.7,
    ("random", 0.5): 0.97,
    ("head_users", 0.1): 0.8,
    ("head_users", 0.5): 0.9,
    ("temporal", 0.1): 0.96,
    ("temporal", 0.5): 1.02,
    ("sketch", 0.1): 1.01,
    ("sketch", 0.5): 1.0,
}


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Dataset, str]]:
    """Sweeps of five datasets."""
    folder = tmp_path_factory.mktemp("sweeps")
    found = []
    for seed in range(5):
        dataset = make_dataset(folder / f"data-{seed}", seed)
        found.append((dataset, write_sweep(folder / f"sweep-{seed}", dataset, KEPT)))
    return found


@pytest.fixture(scope="module")
def genie(sweeps: list[tuple[Dataset, str]], tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("genie") / "own")
    found = genie_train(sweeps=[uri for _, uri in sweeps], output=place, kinds=FAST)
    assert (found.datasets, found.cells) == (5, 40)
    assert found.methods == sorted(METHODS)
    assert set(found.kinds) == {"tau", "kept"}
    assert found.bytes > 0
    return place


def test_a_sweep_says_what_was_measured(sweeps: list[tuple[Dataset, str]]) -> None:
    dataset, sweep = sweeps[0]
    found = recommend(data=dataset.uri, sweep=sweep, keep=0.95)
    assert (found.source, found.met, found.notes) == ("sweep", True, [])
    assert [option.method for option in found.options] == ["sketch", "temporal", "full", "random", "head_users"]
    # 0.96 of a single sample is no 0.95 to be sure of.
    assert [option.budget for option in found.options] == [0.1, 0.5, 1.0, 0.5, 0.5]
    # All are compared on the models that learn from all.
    assert found.models == ["ease", "svd_ae"]
    assert found.trained == sorted(MODELS)
    assert all(option.models == found.models and option.common for option in found.options)
    assert [option.meets for option in found.options] == [True, True, True, False, False]
    assert found.options[1].probability > 0.9 > found.options[3].probability > found.options[4].probability
    best = found.options[1]
    assert best.kept == pytest.approx(1.02, abs=0.02)
    assert best.tau == 1.0
    assert best.fit_share == pytest.approx(0.5)
    assert best.command == f"das sample --data {dataset.uri} --sampler temporal --budget 0.5 --output samples"
    assert recommend(data=dataset.uri, sweep=sweep, keep=0.85).options[1].budget == 0.1
    assert "popularity keeps 10" in best.why
    by_name = {option.method: option for option in found.options}
    assert by_name["sketch"].command == f"das distill --data {dataset.uri} --method sketch --users 6 --output distilled"
    # A ranking of two models is not to be compared with one of three.
    assert by_name["sketch"].tau is None


def test_what_nothing_meets_is_said_with_the_nearest(sweeps: list[tuple[Dataset, str]]) -> None:
    dataset, sweep = sweeps[1]
    worse = {key: 0.8 * value for key, value in KEPT.items() if key[0] != "sketch"}
    poor = write_sweep(Path(sweep).with_name("poor"), dataset, worse)
    found = recommend(data=dataset.uri, sweep=poor, keep=0.95)
    assert not found.met
    assert [option.method for option in found.options[:2]] == ["full", "temporal"]
    assert (found.options[0].kept, found.options[0].probability) == (1.0, 1.0)
    assert found.options[0].command.startswith("das fit --data ")
    assert "no method keeps 95 % of ndcg@10 with a probability of 0.9: keep all data" in found.notes[0]
    assert "Nearest comes temporal at a budget of 0.5, which keeps 8" in found.notes[0]


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_one_seed_measured_is_never_safe(tmp_path: Path, seeds: int) -> None:
    dataset = make_dataset(tmp_path / "data", 1)
    sweep = Path(write_sweep(tmp_path / "sweep", dataset, KEPT))
    trials = pl.read_parquet(sweep / "trials.parquet")
    drawn = 1 + 0.001 * np.random.default_rng(1).standard_normal(100)
    several = [
        {**row, "seed": seed, "ndcg@10": row["ndcg@10"] * (1 + 0.0005 * seed * (row["method"] != FULL))}
        | {"resampled": {metric: (row[metric] * drawn).tolist() for metric in METRICS if metric != "auc"}}
        for row in trials.to_dicts()
        for seed in range(seeds)
    ]
    as_trials(several).write_parquet(sweep / "trials.parquet")
    found = recommend(data=dataset.uri, sweep=str(sweep), keep=0.9)
    assert found.met
    best = found.options[0]
    assert best.kept_low is not None
    assert 0.9 < best.kept_low < best.kept
    assert (best.seeds, best.safe) == (seeds, seeds > 1)
    assert any("users only" in note for note in found.notes) is (seeds == 1)
    show_recommendation(found)


def test_a_sweep_of_another_dataset_is_refused(sweeps: list[tuple[Dataset, str]], tmp_path: Path) -> None:
    with pytest.raises(DasError, match=r"is a sweep of another dataset .*sweep this one"):
        recommend(data=sweeps[0][0].uri, sweep=sweeps[1][1])
    with pytest.raises(DasError, match="is not a sweep"):
        recommend(data=sweeps[0][0].uri, sweep=str(tmp_path))
    with pytest.raises(DasError, match="both given"):
        recommend(data=sweeps[0][0].uri, sweep=sweeps[0][1], genie="x")


def test_a_genie_expects_what_it_was_shown(sweeps: list[tuple[Dataset, str]], genie: str, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "new", 2, users=70)
    found = recommend(data=dataset.uri, genie=genie, keep=0.95)
    assert (found.source, found.met) == ("genie", True)
    sketch, best = found.options[:2]  # what is kept is compared on the models that both serve
    assert (sketch.method, best.method) == ("sketch", "temporal")
    assert best.kept >= 0.95
    assert best.kept_low is not None
    assert best.kept_low <= best.kept
    assert best.tau is not None
    assert "of the datasets most like this one it kept" in best.why
    assert sketch.tau is None
    assert sketch.models == ["ease", "svd_ae"]


def test_methods_that_the_data_do_not_allow_are_not_recommended(genie: str, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "timeless", 1, has_timestamps=False)
    found = recommend(data=dataset.uri, genie=genie)
    assert "temporal" not in [option.method for option in found.options]
    assert SAMPLERS["temporal"].timestamps


def test_data_far_from_all_training_data_are_answered_and_told(genie: str, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "large", 3, users=500)
    found = recommend(data=dataset.uri, genie=genie)
    assert found.options
    assert "far outside what Data-Genie was trained on" in found.notes[0]
    assert " train rows" in found.notes[0]


def test_a_genie_of_older_features_is_refused(sweeps: list[tuple[Dataset, str]], genie: str, tmp_path: Path) -> None:
    for file in Path(genie).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    described = json.loads((tmp_path / "genie.json").read_text())
    (tmp_path / "genie.json").write_text(json.dumps({**described, "feature_version": 0}))
    with pytest.raises(DasError, match="das genie train --sweeps"):
        recommend(data=sweeps[0][0].uri, genie=str(tmp_path))


def test_a_genie_takes_over_what_another_was_trained_on(
    sweeps: list[tuple[Dataset, str]], genie: str, tmp_path: Path
) -> None:
    dataset = make_dataset(tmp_path / "data", 7)
    sweep = write_sweep(tmp_path / "sweep", dataset, KEPT)
    found = genie_train(sweeps=[genie, sweep, sweeps[0][1]], output=str(tmp_path / "more"), kinds=FAST)
    # The sweep that is in both counts once.
    assert (found.datasets, found.cells) == (6, 48)
    assert DataGenie.load(found.uri).cells.height == 48
    with pytest.raises(DasError, match="holds a Data-Genie already"):
        genie_train(sweeps=[genie], output=found.uri)


@pytest.mark.slow
def test_advice_is_judged_on_datasets_left_out(sweeps: list[tuple[Dataset, str]], tmp_path: Path) -> None:
    found = genie_train(sweeps=[uri for _, uri in sweeps[:4]], output=str(tmp_path / "judged"), judge=True)
    assert [one.target for one in found.judgements] == ["tau", "kept"]
    of_kept = found.judgements[1]
    # The distiller is a choice as well, since all are compared on the models that it teaches.
    assert (of_kept.families, of_kept.tasks, of_kept.cells) == (4, 8, 32)
    # Every dataset keeps the same, so that nothing of datasets needs to be known.
    assert of_kept.precision == of_kept.by_budget_precision == 1
    described = json.loads((tmp_path / "judged" / "genie.json").read_text())
    assert described["judgements"][1]["regret"] == of_kept.regret


def test_unknown_kinds_of_models_are_refused(genie: str, tmp_path: Path) -> None:
    with pytest.raises(DasError, match=r"'forest' is not one of .*ridge, trees"):
        genie_train(sweeps=[genie], output=str(tmp_path), kinds=["forest"])


def test_a_dataset_that_changed_after_its_sweep_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "data", 1)
    sweep = write_sweep(tmp_path / "sweep", dataset, KEPT)
    make_dataset(tmp_path / "data", 2)
    with pytest.raises(DasError, match="has changed since"):
        genie_train(sweeps=[sweep], output=str(tmp_path / "genie"), kinds=FAST)


def test_from_the_command_line(
    sweeps: list[tuple[Dataset, str]], genie: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["das", *arguments])
            with pytest.raises(SystemExit) as ended:
                cli.main()
        return int(ended.value.code or 0), capsys.readouterr().out

    code, out = run(
        "genie", "train", "--sweeps", *(uri for _, uri in sweeps), "--output", str(tmp_path / "g"), "--json"
    )
    assert code == 0
    assert json.loads(out.splitlines()[-1])["datasets"] == 5
    code, out = run("recommend", "--data", sweeps[0][0].uri, "--genie", str(tmp_path / "g"))
    assert code == 0
    assert "kept: mean over ease and svd_ae, which all methods support (not popularity)" in out
    assert "Make it: das distill --data" in out
    code, out = run(
        "genie",
        "train",
        "--sweeps",
        str(tmp_path / "g"),
        "--output",
        str(tmp_path / "g"),
        "--overwrite",
        "--kinds",
        "means",
    )
    assert code == 0
    assert "40 cells of 5 datasets" in out


def test_features_of_many_shards_on_ray_are_those_of_one(ray_session: None, tmp_path: Path) -> None:
    many = make_dataset(tmp_path / "many", 4, users=90, shards=7)
    assert len(many.shards) == 7
    expected = dataset_features(many, range(7)).result(many.train_counts())
    assert features(many) == pytest.approx(expected, rel=1e-12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipelines_features, "TASKS", 2)
        assert features(many) == pytest.approx(expected, rel=1e-12)


def test_verbs_are_functions_of_the_package() -> None:
    assert das.recommend is recommend
    assert das.genie_train is genie_train


def test_the_data_genie_of_the_package_answers(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, 2, users=400)
    found = recommend(data=dataset.uri, keep=0.9)
    assert found.source == "genie"
    assert len(found.options) == len({option.method for option in found.options}) >= 12
    for option in found.options:
        assert 0.02 <= option.budget <= 1.0
        assert option.kept_low is not None
        assert option.kept_high is not None
        assert option.kept_low <= option.kept <= option.kept_high
        assert option.method in SAMPLERS or (option.method, option.budget) == (FULL, 1.0)
        assert option.meets == (option.probability >= 0.9)
    unsure = [option.probability for option in found.options if not option.meets]
    assert unsure == sorted(unsure, reverse=True)
    assert found.options[0].meets


def forecast_of(dataset: Dataset, folder: Path, rise: float, relative: float = 0.02, least: float = 0.0125) -> str:
    """A forecast in which every model has 1 + rise · ln p of its quality on all rows."""
    shares = np.geomspace(least, 1.0, 33)

    def points(at: np.ndarray) -> list[dict[str, float]]:
        quality = 0.3 * (1 + rise * np.log(at))
        return [{"share": s, "quality": q, "low": q, "high": q} for s, q in zip(at.tolist(), quality.tolist())]

    costs = {"fit_cpu_s": 1.0, "fit_cpu_s_low": 1.0, "fit_cpu_s_high": 1.0, "spent_cpu_s": 0.1}
    model = {"quality": 0.3, "low": 0.3 * np.exp(-relative), "high": 0.3 * np.exp(relative), "needed": [], "forms": {}}
    curve = {"doubt": "", "rungs": points(0.1 / 2.0 ** np.arange(3, -1, -1)), "curve": points(shares)}
    manifest = dataset.manifest
    data = {"uri": "data", "fingerprint": manifest.fingerprint, "train_rows": manifest.splits["train"]}
    result = {"ok": True, "uri": str(folder), "data": data, "metric": "ndcg@10", "rungs": [0.0125, 0.025, 0.05, 0.1]}
    result |= {"seeds": 1, "models": [{"model": name, **model, **costs, **curve} for name in MODELS]}
    result |= dict.fromkeys(("tau", "tau_low", "tau_high"))
    result |= {"spent_cpu_s": 0.3, "full_cpu_s": 3.0, "left_out": [], "notes": [], "wall_s": 1.0}
    folder.mkdir()
    recorded.write_json(str(folder / "forecast.json"), {"data": data, "result": result})
    return str(folder)


def test_a_forecast_sharpens_what_random_users_keep(
    tmp_path: Path, sweeps: list[tuple[Dataset, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = make_dataset(tmp_path / "data", 2, users=400)

    def random_users(**given: Any) -> Any:
        found = recommend(data=dataset.uri, keep=0.9, **given)
        return found, next(option for option in found.options if option.method == "random_users")

    plain, before = random_users()
    flat, easy = random_users(forecast=forecast_of(dataset, tmp_path / "flat", 0.02))
    _, hard = random_users(forecast=forecast_of(dataset, tmp_path / "steep", 0.3))
    # Of budgets below its smallest samples it says nothing.
    _, above = random_users(forecast=forecast_of(dataset, tmp_path / "above", 0.02, least=0.25))
    assert above.budget >= 0.25 > easy.budget
    assert (plain.forecast, flat.forecast) == (False, True)
    # 0.9 is what a fifth keeps, or more than the half.
    assert easy.budget < min(before.budget, 0.3)
    assert hard.budget > 0.7
    assert flat.options[0].method == "random_users"
    assert "No method is worth it here: take random users." in flat.notes
    show_recommendation(flat)
    assert "sharpened by the forecast" in capsys.readouterr().out
    # A sweep's own measurements stay.
    of, sweep = sweeps[0]
    forecast = forecast_of(of, tmp_path / "of", 0.02)
    both = recommend(data=of.uri, sweep=sweep, forecast=forecast, keep=0.9)
    assert both.options[0] == recommend(data=of.uri, sweep=sweep, keep=0.9).options[0]

    with pytest.raises(DasError, match=r"is a forecast of another dataset .*forecast this one"):
        recommend(data=dataset.uri, forecast=forecast)
    with pytest.raises(DasError, match="is not a forecast"):
        recommend(data=dataset.uri, forecast=str(tmp_path))
