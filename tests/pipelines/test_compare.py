"""compare: the same models on full and small data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import distill_at_scale as das
from distill_at_scale import report
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.runtime import resources


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> das.Dataset:
    """Two groups of users with an own half of the items each."""
    folder = tmp_path_factory.mktemp("compare")
    rng = np.random.default_rng(0)
    rows = [
        (user, int(item) + 30 * (user % 2), int(rng.integers(1, 6)), 1_600_000_000 + 60 * k)
        for user in range(80)
        for k, item in enumerate(rng.permutation(30)[:12])
    ]
    pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "timestamp"], orient="row").write_parquet(
        folder / "log.parquet"
    )
    return das.prepare(input=[str(folder / "log.parquet")], output=str(folder / "data"), shards=2)


def test_models_take_settings(data: das.Dataset, tmp_path: Path) -> None:
    sample = das.sample(data=data.uri, sampler="random", budget="0.5", output=str(tmp_path / "samples")).samples[0]
    asked = {"data": data.uri, "samples": [sample.uri], "models": "popularity,ease", "output": str(tmp_path / "out")}
    chosen = das.compare(**asked)
    given = das.compare(**asked, set={"ease.lam": 1e6})
    das.fit(data=sample.uri, model="ease", set={"lam": 1e6}, output=str(tmp_path / "ease"))
    alone = das.evaluate(data=data.uri, model=str(tmp_path / "ease")).metrics["auc"]
    assert given.small[0].models["ease"].metrics["auc"] == pytest.approx(alone, rel=1e-4)
    assert given.small[0].models["ease"].metrics["auc"] != chosen.small[0].models["ease"].metrics["auc"]
    assert given.full["popularity"] == chosen.full["popularity"]  # whose settings are the same: taken up
    for wrong, message in (("lam", "name what it is a setting of, as popularity.NAME=VALUE"), ("ease.x", "x")):
        with pytest.raises(DasError, match=message):
            das.compare(**asked, set={wrong: 1})


def test_train_rows_of_another_split_are_not_held_out_in_silence(data: das.Dataset, tmp_path: Path) -> None:
    log = Path(data.uri).parent / "log.parquet"
    other = das.prepare(input=[str(log)], split="20_percent_hist", output=str(tmp_path / "other"))
    samples = [
        das.sample(of, sampler="random_users", budget="0.5", output=str(tmp_path / f"of-{k}")).samples[0].uri
        for k, of in enumerate((data.uri, other.uri))
    ]
    again = das.sample(samples[0], sampler="random", budget="0.5", output=str(tmp_path / "again")).samples[0].uri
    for k, (of, noted) in enumerate(((data.uri, False), (samples[0], False), (other.uri, True), (samples[1], True))):
        model = das.fit(of, "popularity", output=str(tmp_path / f"model-{k}"))
        assert any("among its train rows" in note for note in das.evaluate(data, model.uri).notes) == noted
    asked = {"data": data.uri, "models": "popularity,ease", "output": str(tmp_path / "out")}
    assert len(das.compare(**asked, samples=[samples[0], again]).small) == 2
    with pytest.raises(DasError, match=r"of-1.* another split of its log"):
        das.compare(**asked, samples=samples)


def test_compare(data: das.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = das.sample(data=data.uri, sampler="random", budget="0.5,0.2", output=str(tmp_path / "samples"))
    settings = {
        "data": data.uri,
        "samples": [sample.uri for sample in samples.samples],
        "models": "popularity,ease",
        "output": str(tmp_path / "out"),
        "metrics": ["ndcg@10", "hr@10"],
    }
    result = das.compare(**settings)
    assert [small.method for small in result.small] == ["random", "random"]
    assert [small.share for small in result.small] == [pytest.approx(0.5, abs=0.01), pytest.approx(0.2, abs=0.01)]
    # EASE knows the halves and popularity does not, on little data too.
    assert result.full["ease"].metrics["ndcg@10"] > 1.3 * result.full["popularity"].metrics["ndcg@10"]
    assert [small.retention.tau for small in result.small] == [1.0, 1.0]
    assert b"<svg" in report.comparison_svg(result)
    # Head, middle and tail of what is kept, and the share of a list that changes.
    full = result.full["ease"].slices
    assert list(full) == ["head", "middle", "tail"]
    assert sum(one["heldout"] for one in full.values()) == data.manifest.splits["test"]
    for small in result.small:
        slices = small.models["ease"].slices
        for part, kept in small.kept_by_slice["ease"].items():
            assert kept == pytest.approx(slices[part]["ndcg@10"] / full[part]["ndcg@10"])
    changed = [small.changed["ease"] for small in result.small]
    assert 0 < changed[0] < changed[1] < 1
    report.show_comparison(result)
    shown = capsys.readouterr().out
    assert "share of a user's 10 best items that changes" in shown
    assert "kept by popularity" in shown

    # Six questions to a small dataset, with what has been measured.
    asked = {"dataset": result.small[1].uri, "output": str(tmp_path / "worth.html")}
    found = report.write_report(**asked, comparison=str(tmp_path / "out"))
    answers = {one.question: one for one in found.answers}
    assert list(answers) == ["quality", "cost", "transfer", "privacy", "noise", "order of models"]
    assert all(one.measured for one in found.answers)
    assert answers["quality"].value == pytest.approx(result.small[1].retention.mean_kept("ndcg@10"))
    assert answers["order of models"].value == 1.0
    assert "ndcg@10 is kept, as a mean over 2 models" in (tmp_path / "worth.html").read_text()
    report.show_report(found)
    assert "as private as the full log" in capsys.readouterr().out
    unknown = report.write_report(**asked)
    assert [one.question for one in unknown.answers if one.measured] == ["cost", "privacy"]
    with pytest.raises(DasError, match="was not made of another dataset"):
        report.write_report(**{**asked, "dataset": data.uri})
    with pytest.raises(DasError, match=r"is not a comparison: it has no comparison\.json"):
        report.write_report(**asked, comparison=str(tmp_path / "samples"))
    with pytest.raises(DasError, match="give either 'sweep' or 'dataset'"):
        report.write_report(output=str(tmp_path / "worth.html"))

    # What one task measures is what the verbs measure.
    das.fit(data=result.small[1].uri, model="ease", output=str(tmp_path / "ease"))
    alone = das.evaluate(data=data.uri, model=str(tmp_path / "ease"))
    for metric, value in alone.metrics.items():
        assert result.small[1].models["ease"].metrics[metric] == pytest.approx(value, rel=1e-5), metric
    for part, figures in alone.slices.items():
        assert figures == pytest.approx(result.small[1].models["ease"].slices[part], rel=1e-4)
    assert any("leave_2 holds out each user's last rows" in note for note in alone.notes)

    known = tmp_path / "out" / "trained" / f"data-{data.manifest.fingerprint[:8]}" / "ease-test-0.json"
    written = known.stat().st_mtime_ns
    again = das.compare(**settings)
    assert known.stat().st_mtime_ns == written  # taken up, not fitted anew
    assert again.small == result.small
    with pytest.raises(DasError, match=r"'ndcg@7' is not one of .*ndcg@10"):
        das.compare(**{**settings, "metrics": ["ndcg@7"]})


def test_a_fit_that_leaves_no_room_for_others_is_done_apart(
    data: das.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = das.sample(data=data.uri, sampler="random", budget="0.5", output=str(tmp_path / "samples")).samples[0]
    settings = {"data": data.uri, "samples": [sample.uri], "models": "popularity,ease", "metrics": ["ndcg@10"]}
    beside = das.compare(**settings, output=str(tmp_path / "beside"))
    monkeypatch.setattr(resources, "SHARE_OF_MEMORY", 0.0)
    apart = das.compare(**settings, output=str(tmp_path / "apart"))
    for name in ("popularity", "ease"):
        assert apart.full[name].metrics == pytest.approx(beside.full[name].metrics, rel=1e-5)
    kept = sorted(p.name for p in (tmp_path / "apart" / "trained").rglob("*") if p.is_file())
    assert kept == ["ease-test-0.json", "ease-test-0.json", "popularity-test-0.json", "popularity-test-0.json"]


def test_a_model_that_cannot_be_fitted_is_named(data: das.Dataset, tmp_path: Path) -> None:
    tiny = das.sample(data=data.uri, sampler="random", budget="0.0025", output=str(tmp_path / "samples")).samples[0]
    with pytest.raises(DasError, match=r"gru4rec on .*random-0\.0025: gru4rec: no user has enough"):
        das.compare(
            data=data.uri, samples=[tiny.uri], models="popularity,gru4rec", output=str(tmp_path / "o"),
            set={"gru4rec.epochs": 1, "gru4rec.dim": 8, "gru4rec.hidden": 8},
        )  # fmt: skip


def test_a_stranger_is_refused(data: das.Dataset, tmp_path: Path) -> None:
    times = [1_600_000_000 + k for k in (1, 2, 3, 1, 2, 3)]
    log = pl.DataFrame({"user_id": [1, 1, 1, 2, 2, 2], "item_id": [1, 2, 3, 1, 2, 3], "timestamp": times})
    log.write_parquet(tmp_path / "other.parquet")
    other = das.prepare(input=[str(tmp_path / "other.parquet")], output=str(tmp_path / "other"))
    with pytest.raises(DasError, match="was not made of"):
        das.compare(data=data.uri, samples=[other.uri], models=["ease", "popularity"], output=str(tmp_path / "out"))
    with pytest.raises(DasError, match=r"setting 'models': 'eas' is not one of popularity, .*Did you mean 'ease'"):
        das.compare(data=data.uri, samples=[data.uri], models=["ease", "eas"], output=str(tmp_path / "out"))
    with pytest.raises(DasError, match=r"lies in the dataset .*; choose another --output"):
        das.compare(data=data.uri, samples=[data.uri], models=["ease", "popularity"], output=f"{data.uri}/out")
