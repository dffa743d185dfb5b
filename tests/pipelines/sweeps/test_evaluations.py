"""One model on one dataset: by which metric it chooses, what it costs, and when what was measured counts no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import distill_at_scale as das
from distill_at_scale.data import storage
from distill_at_scale.pipelines.sweeps.evaluations import EvaluationTask, Trained, other_metrics, selection_metric
from distill_at_scale.report.console import show_fit


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> das.Dataset:
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    rows = [
        (user, int(item), 1_600_000_000 + k) for user in range(40) for k, item in enumerate(rng.permutation(25)[:8])
    ]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    log.write_parquet(folder / "log.parquet")
    return das.prepare(input=[str(folder / "log.parquet")], output=str(folder / "data"), shards=1)


def test_one_metric_for_all_models() -> None:
    assert selection_metric(["popularity", "ease", "infinite_ae"], "hr@10") == "hr@10"
    assert selection_metric(["ease", "svd_ae"], "auc") == "auc"
    # What one of them cannot choose by none of them does.
    assert selection_metric(["ease", "mf"], "auc") == "ndcg@10"
    assert other_metrics({"infinite_ae": {"metric": "ndcg@10"}, "ease": {"lam": 1}}, "ndcg@10") == []
    (note,) = other_metrics({"infinite_ae": {"metric": "hr@100"}}, "ndcg@10")
    assert note.startswith("infinite_ae chooses its settings by validation hr@100, not by ndcg@10")


def test_a_pair_takes_the_metric_and_leaves_a_given_one(data: das.Dataset, tmp_path: Path) -> None:
    def settings(model: str, metric: str, given: dict[str, str] | None = None) -> dict[str, str]:
        asked = (data.uri, data.manifest.fingerprint, data, model, str(tmp_path), "test")
        return dict(EvaluationTask.of(*asked, settings=given, metric=metric).settings)

    assert settings("ease", "hr@10") == {"metric": "hr@10"}
    assert settings("ease", "hr@10", {"metric": "auc"}) == {"metric": "auc"}
    assert settings("ease", "ndcg@10") == settings("popularity", "hr@10") == {}


def test_what_another_release_measured_is_measured_again(data: das.Dataset, tmp_path: Path) -> None:
    pair = EvaluationTask.of(data.uri, data.manifest.fingerprint, data, "ease", str(tmp_path), "test")
    pair.write(Trained(metrics={"ndcg@10": 0.5}, standard_errors={}, fit_wall_s=1.0, fit_cpu_s=1.0))
    assert pair.read() is not None
    before = storage.read_json(pair.record)
    del before["key"]["measured"]
    storage.write_json(pair.record, before)
    assert pair.read() is None


_WATCHED = """
import sys
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.pipelines.sweeps import evaluations

clock, seen = evaluations.time.process_time, []

def watched():
    seen.append(set(sys.modules))
    return clock()

evaluations.time.process_time = watched
full = Dataset.open(sys.argv[1])
data, model = sys.argv[3:]
task = evaluations.EvaluationTask.of(data, "", full, model, sys.argv[2], "test")
evaluations.train_here(task)
print("loaded while the clock ran:", sorted(seen[-1] - seen[0]))
"""


@pytest.mark.parametrize("model", ["infinite_ae", "ease on a sketch"])
def test_costs_are_those_of_the_fit(data: das.Dataset, tmp_path: Path, model: str) -> None:
    """In a new process nothing is loaded between the two looks at the clock."""
    of, model = data.uri, model.split()[0]
    if model == "ease":
        of = das.distill(data=data.uri, method="sketch", users=5, output=str(tmp_path / "sketch")).uri
    asked = [sys.executable, "-c", _WATCHED, data.uri, str(tmp_path / "out"), of, model]
    ran = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "loaded while the clock ran: []"


def test_resamples_without_users_are_kept(data: das.Dataset, tmp_path: Path) -> None:
    """Of a few users some resamples draw none."""
    pair = EvaluationTask.of(data.uri, data.manifest.fingerprint, data, "ease", str(tmp_path), "test")
    trained = Trained(
        metrics={"ndcg@10": 0.5},
        standard_errors={},
        fit_wall_s=1.0,
        fit_cpu_s=1.0,
        resampled={"ndcg@10": [0.5, float("nan"), 0.25]},
    )
    pair.write(trained)
    assert "NaN" not in Path(pair.record).read_text()
    found = pair.read()
    assert found is not None
    assert found.resampled is not None
    np.testing.assert_array_equal(found.resampled["ndcg@10"], [0.5, np.nan, 0.25])


def test_a_lottery_is_said(data: das.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """40 users with a row each choose λ: by fit, by compare and, in its record, by a sweep's pair."""
    fitted = das.fit(data=data.uri, model="ease", output=str(tmp_path / "ease"))
    assert fitted.selection is not None
    assert fitted.selection.lottery
    assert fitted.selection.n_users == 40
    show_fit(fitted)
    said = "was chosen by 40 users with validation rows, which is a lottery"
    assert said in capsys.readouterr().out
    compared = das.compare(data=data.uri, samples=[data.uri], models="ease,popularity", output=str(tmp_path / "out"))
    (note,) = compared.notes
    assert note.startswith("ease, in 2 of 2 fits: lam = ")
    assert said in note
    made = das.distill(data=data.uri, method="sketch", users=5, output=str(tmp_path / "sketch"))
    assert [note.split(":")[0] for note in made.notes] == ["infinite_ae", "ease"]
    assert said in made.notes[0]
