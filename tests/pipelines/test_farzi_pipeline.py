"""distill by farzi on Ray Train, fits on what it makes, export; kills, and what is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from kill_kit import Runs
from prepare_kit import inline_prepare, write_logs

import distill_at_scale as das
from distill_at_scale.config import DistillConfig
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation.farzi import LatentSequences
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.errors import DasError
from distill_at_scale.genie.trials import read_trials
from distill_at_scale.models import load_model
from distill_at_scale.pipelines.distill import distill, distiller_of
from distill_at_scale.pipelines.distilling.group_job import GroupJob, SingleWorker, run_distiller
from distill_at_scale.pipelines.evaluate import evaluate
from distill_at_scale.pipelines.export import export
from distill_at_scale.pipelines.fit import fit
from distill_at_scale.pipelines.training.worker_group import WorkerGroupSpec

N_ITEMS = 30
SETTINGS: dict[str, Any] = {
    "model": {"dim": 8, "length": 8},
    "teachers": 2,
    "consensus": 6,
    "teacher": {"epochs": 4, "learning_rate": 0.02},
    "width": 12,
    "steps": 9,
    "batch": 4,
    "window": 3,
    "horizon": 12,
    "pool": 2,
    "lesson_users": 12,
    "lesson_places": 40,
    "least_context": 2,
    "validate_every": 3,
    "validation_students": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """120 users in three shards; item i is followed by i + 1, or by any other one time in ten."""
    rng, rows = random.Random(3), []
    for user in range(120):
        item, seen = rng.randrange(N_ITEMS), set()
        for place in range(rng.randrange(8, 16)):
            seen.add(item)
            rows.append((user, item, 1.0, (1_600_000_000 + place) * 1000, None))
            item = (item + 1) % N_ITEMS
            while item in seen or rng.random() < 0.1:
                item = rng.randrange(N_ITEMS)
    folder = tmp_path_factory.mktemp("farzi")
    return inline_prepare(input=write_logs(folder, rows, 2), output=str(folder / "data"), shards=3)


def asked(data: Dataset, output: Path, **changed: Any) -> dict[str, Any]:
    settings = {"data": data.uri, "method": "farzi", "output": str(output), "sequences": 8, "length": 6}
    return {**settings, "set": SETTINGS, **changed}


def numbers(latent: LatentSequences) -> np.ndarray:
    return torch.cat([tensor.flatten() for tensor in latent.tensors]).numpy()


class _Killed(BaseException):
    pass


def in_process(
    data: Dataset, output: Path, last: str | None = None, kept: Path | None = None, **changed: Any
) -> SyntheticDataset:
    """One worker's part without Ray, which dies where its progress says ``last``; ``kept`` has shared teachers."""

    def on_progress(share: float, what: str) -> None:
        assert 0 <= share < 1
        if what == last:
            raise _Killed

    distiller = distiller_of(DistillConfig(**asked(data, output, **changed)))
    group = WorkerGroupSpec(workers=1, gpu=False, work=str(output / "_work" / "distill"), checkpoint_every=2)
    folder = None if kept is None else str(kept)
    job = GroupJob(group, SingleWorker(torch.device("cpu")), data, on_progress, folder)
    run_distiller(distiller, job, "farzi", str(output))
    return SyntheticDataset.open(str(output))


def test_a_worker_that_died_goes_on_where_it_was(tmp_path: Path, data: Dataset) -> None:
    """At a teacher and at the sequences; the result has the bits of an undisturbed run."""
    for last in ("epoch 2", "step 5", "step 9"):
        with pytest.raises(_Killed):
            in_process(data, tmp_path / "killed", last)
    found, expected = in_process(data, tmp_path / "killed"), in_process(data, tmp_path / "undisturbed")
    np.testing.assert_array_equal(numbers(found.sequences()), numbers(expected.sequences()))
    assert found.manifest.data == expected.manifest.data
    assert found.manifest.curve == expected.manifest.curve
    assert found.manifest.sequences == expected.manifest.sequences


def test_students_on_their_way_and_learned_rates_survive_a_death(tmp_path: Path, data: Dataset) -> None:
    asked_for = {**SETTINGS, "pretrained": 0.5, "learned_rates": 3, "first_horizon": 6, "alignment": 0.1}
    kept = tmp_path / "teachers"
    for last in ("epoch 3", "step 5"):
        with pytest.raises(_Killed):
            in_process(data, tmp_path / "killed", last, set=asked_for, kept=kept)
    # Each teacher after epochs 1, 2 and 4, and as it was at the end.
    assert len(list(kept.iterdir())) == 4 * SETTINGS["teachers"]
    found = in_process(data, tmp_path / "killed", set=asked_for, kept=kept).sequences()
    expected = in_process(data, tmp_path / "undisturbed", set=asked_for).sequences()
    np.testing.assert_array_equal(numbers(found), numbers(expected))
    assert found.log_rates is not None
    assert float(found.log_rates.abs().max()) > 1e-4
    plain = in_process(data, tmp_path / "plain", kept=kept).sequences()
    assert len(list(kept.iterdir())) == 5 * SETTINGS["teachers"]
    assert plain.log_rates is None


@pytest.mark.parametrize("objective", ["states", "gradients"])
def test_other_objectives_make_the_same_artefact_in_less_memory(tmp_path: Path, data: Dataset, objective: str) -> None:
    """And survive a death."""
    asked_for = {**SETTINGS, "objective": objective}
    with pytest.raises(_Killed):
        in_process(data, tmp_path / "made", "step 5", set=asked_for, kept=tmp_path / "teachers")
    found = in_process(data, tmp_path / "made", set=asked_for, kept=tmp_path / "teachers")
    again = in_process(data, tmp_path / "again", set=asked_for, kept=tmp_path / "teachers")
    assert found.manifest.data == again.manifest.data
    assert found.manifest.config["objective"] == objective
    assert [tuple(tensor.shape) for tensor in found.sequences().tensors] == [(8, 6, 12), (12, N_ITEMS), (8, 6, 12)]
    needed = [
        distiller_of(DistillConfig(**asked(data, tmp_path / "made", set=settings))).memory(data, 1)
        for settings in (asked_for, SETTINGS)
    ]
    assert needed[0] < needed[1]


def test_codes_survive_a_death_and_a_model_is_fitted_on_what_they_make(tmp_path: Path, data: Dataset) -> None:
    """With the settings of the distillation: those of the items too."""
    coded = {"items": "codes", "books": 3, "book_size": 8, "sampled": 12, "bits": 5}
    asked_for = {key: value for key, value in SETTINGS.items() if key not in ("teachers", "consensus")} | coded
    with pytest.raises(_Killed):
        in_process(data, tmp_path / "killed", "step 5", set=asked_for)
    found, expected = (in_process(data, tmp_path / name, set=asked_for) for name in ("killed", "undisturbed"))
    assert found.manifest.data == expected.manifest.data
    assert (found.manifest.version, found.n_items) == (3, N_ITEMS)
    metrics = [point["metric"] for point in found.manifest.curve]
    assert len(metrics) == 4
    assert found.manifest.sequences is not None
    latent = found.sequences()
    assert latent.books is not None
    assert int(latent.books.codes.max()) == 7
    model = das.models.SASRec().fit(found)
    assert (model.config.items, model.config.book_size, model.config.sampled) == ("codes", 8, 12)
    assert model.score(data.interactions("train")).shape == (120, N_ITEMS)
    model.save(str(tmp_path / "model"))
    again = load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(again.score(data.interactions("train")), model.score(data.interactions("train")))


def test_runs_share_teachers_where_they_are_told_to(tmp_path: Path, data: Dataset) -> None:
    kept = tmp_path / "teachers"
    alone, first = in_process(data, tmp_path / "alone"), in_process(data, tmp_path / "first", kept=kept)
    np.testing.assert_array_equal(numbers(first.sequences()), numbers(alone.sequences()))
    trained = {file.name: file.read_bytes() for file in kept.iterdir()}
    assert len(trained) == SETTINGS["teachers"]
    more = in_process(data, tmp_path / "more", kept=kept, sequences=12)
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == trained
    # What they cost is told whoever trained them.
    assert more.manifest.cost["teachers_cpu_s"] == first.manifest.cost["teachers_cpu_s"] > 0
    in_process(data, tmp_path / "other", kept=kept, set={**SETTINGS, "teacher": {"epochs": 2}})
    assert len(list(kept.iterdir())) == 2 * SETTINGS["teachers"]


@pytest.mark.slow
def test_a_sweep_distills_sequences_too(tmp_path: Path, data: Dataset, ray_session: None) -> None:
    output = tmp_path / "sweep"
    given = {f"farzi.{name}": value for name, value in SETTINGS.items()} | {"farzi.length": 7}
    asked = {
        "data": data.uri,
        "methods": "random_users,farzi",
        "budgets": "0.95,0.07",
        "models": "popularity,sasrec",
        "output": str(output),
        "set": {**given, "sasrec.dim": 8, "sasrec.length": 8, "sasrec.epochs": 3},
    }
    result = das.sweep(**asked)
    assert result.left_out == ["popularity on farzi: cannot learn from what it makes"]
    _, trials = read_trials(str(output))
    of_farzi = trials.filter(pl.col("method") == "farzi").sort("budget")
    assert of_farzi["status"].to_list() == ["done", "failed"]
    assert of_farzi["rows"][0] == 8
    assert of_farzi["ndcg@10"][0] > 0.3
    assert "users have 8 train rows or more, 114 are needed" in of_farzi["reason"][1]
    assert result.failed == 1
    assert len(list((output / "teachers").iterdir())) == SETTINGS["teachers"]
    # What failed is tried again, and what was made is not made again.
    (record,) = (output / "made").glob("farzi-*.json")
    broken = [{**one, "failed": one["failed"] and "a worker died"} for one in json.loads(record.read_text())]
    record.write_text(json.dumps(broken))
    times = {file: file.stat().st_mtime_ns for file in (output / "data" / "seed-0" / "farzi-0.07").iterdir()}
    das.sweep(**asked)
    assert "114 are needed" in read_trials(str(output))[1].filter(method="farzi", status="failed")["reason"][0]
    assert times == {file: file.stat().st_mtime_ns for file in times}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_distill_fit_evaluate_and_export(tmp_path: Path, data: Dataset, ray_session: None, workers: int) -> None:
    output = tmp_path / "made"
    result = distill(**asked(data, output), workers=workers)
    made = SyntheticDataset.open(str(output))
    made.verify()
    made.check_parent(data)
    latent = made.sequences()
    assert [tuple(tensor.shape) for tensor in latent.tensors] == [(8, 6, 12), (12, N_ITEMS), (8, 6, 12)]
    assert [point["step"] for point in result.curve] == [0, 3, 6, 9]
    assert made.manifest.config["parallel"] == workers
    record = result.sequences
    assert record is not None
    assert record.exact == max(point["metric"] for point in result.curve)
    assert record.start == result.curve[0]["metric"]
    assert record.stored == pytest.approx(record.exact, abs=0.05)
    cost = made.manifest.cost
    assert 0 < cost["teachers_cpu_s"] < cost["cpu_s"]
    assert sorted(path.name for path in output.iterdir()) == [
        "data.safetensors.zst",
        "items.parquet",
        "manifest.json",
        "run.json",
    ]
    assert result.bytes == (output / "data.safetensors.zst").stat().st_size

    found = {}
    for model in ("sasrec", "gru4rec"):
        fitted = fit(data=str(output), model=model, output=str(tmp_path / model))
        found[model] = evaluate(data=data.uri, model=fitted.uri).metrics["ndcg@10"]
    # In a world where the next item follows, eight sequences say so; by chance it would be .24.
    assert found["sasrec"] > 0.4
    assert 0 < found["gru4rec"] < 1
    with pytest.raises(DasError, match=r"ease cannot be a student: .* choose sasrec or gru4rec"):
        fit(data=str(output), model="ease", output=str(tmp_path / "no"))
    with pytest.raises(DasError, match=r"Synthetic sequences are few, .* leave out --workers"):
        fit(data=str(output), model="sasrec", output=str(tmp_path / "no"), workers=2)

    exported = export(data=str(output), output=str(tmp_path / "log"))
    log = pl.read_parquet(exported.uri)
    assert (exported.rows, exported.users) == (8 * 7, 8)
    again = inline_prepare(
        input=[exported.uri], output=str(tmp_path / "again"), duplicates="all", time_unit="s"
    ).interactions("train", "validation", "test")
    assert len(again) == 8
    ids = Dataset.open(str(tmp_path / "again")).items()["item_id"]
    for k, (first, last) in enumerate(zip(again.offsets, again.offsets[1:])):
        history = log.filter(pl.col("user_id") == k).sort("timestamp")["item_id"].to_list()
        assert ids.gather(again.items[first:last]).to_list() == history
    atomic = export(data=str(output), output=str(tmp_path / "atomic"), format="recbole", how="sample")
    assert Path(atomic.uri).read_text().startswith("user_id:token\titem_id:token\ttimestamp:float\n0\t")

    with pytest.raises(DasError, match="holds a synthetic dataset already"):
        distill(**asked(data, output))


def test_refusals(tmp_path: Path, data: Dataset) -> None:
    """All of them before a cluster is started."""
    output = tmp_path / "made"
    with pytest.raises(DasError, match=r"--sequences 999 is more than the 120 users of"):
        distill(**asked(data, output, sequences=999))
    with pytest.raises(DasError, match="'ease' is not one of sasrec, gru4rec"):
        distill(**asked(data, output, student="ease"))
    with pytest.raises(DasError, match="heads=3 must divide dim=8"):
        distill(**asked(data, output, set={"model": {"dim": 8, "heads": 3}}))
    with pytest.raises(DasError, match="users is not of farzi, which takes --sequences, --length, --student"):
        distill(**asked(data, output, users=8))
    with pytest.raises(DasError, match="--teachers-at is not of distill_cf, which takes --users"):
        distill(data=data.uri, method="distill_cf", output=str(output), teachers_at="there")
    with pytest.raises(DasError, match="--length is not of distill_cf, which takes --users"):
        distill(**asked(data, output, method="distill_cf", sequences=8))
    with pytest.raises(DasError, match="student is given by --student, not by --set"):
        distill(**asked(data, output, set={"student": "gru4rec"}))
    with pytest.raises(DasError, match="farzi: unknown setting 'windw'; the settings are: "):
        distill(**asked(data, output, set={"windw": 3}))
    with pytest.raises(DasError, match="--workers 3 is more than the run's parallel=2 pools"):
        distill(**asked(data, output, workers=3, set={**SETTINGS, "parallel": 2}))
    timeless = inline_prepare(
        input=write_logs(
            tmp_path / "log", [(user, item, 1.0, None, None) for user in range(9) for item in range(6)], 1
        ),
        output=str(tmp_path / "timeless"),
        split="20_percent_hist",
    )
    with pytest.raises(DasError, match=r"farzi needs timestamps, but .* has none"):
        distill(**asked(timeless, output))
    assert not output.exists()


def test_sequences_longer_than_the_data_are_refused(tmp_path: Path, data: Dataset) -> None:
    with pytest.raises(DasError, match=r"of --length 40 need more or longer histories .*; set --length \d+"):
        in_process(data, tmp_path / "made", length=40)


@pytest.mark.slow
def test_killed(tmp_path: Path, data: Dataset, run_folder: Path) -> None:
    """Three workers and two drivers die, at a teacher's and at the sequences' checkpoints and before the manifest;
    the result has the bits of an undisturbed run."""
    options = ["--data", data.uri, "--method", "farzi", "--sequences", "8", "--length", "6", "--output", "model"]
    settings = [f"{key}={value}" for key, value in SETTINGS.items()]
    killed, undisturbed = (
        Runs(tmp_path / name, run_folder, "distill", *options, "--checkpoint-every", "2", "--set", *settings)
        for name in ("killed", "undisturbed")
    )
    killed.run(
        [
            ("worker", "after", r"teacher-0/checkpoint-0+\d+\.safetensors$"),
            ("worker", "before", r"teacher-1\.safetensors$"),
            ("driver", "after", r"sequences/checkpoint-0+2\.safetensors$"),
        ]
    )
    killed.run(
        [
            ("worker", "before", r"sequences/checkpoint-0+6\.safetensors$"),
            ("driver", "before", r"model/manifest\.json$"),
        ]
    )
    killed.run([])
    undisturbed.run([])
    found, expected = (SyntheticDataset.open(str(each.folder / "model")) for each in (killed, undisturbed))
    np.testing.assert_array_equal(numbers(found.sequences()), numbers(expected.sequences()))
    assert found.manifest.curve == expected.manifest.curve
    assert found.manifest.sequences == expected.manifest.sequences
    assert not (killed.folder / "model" / "_work").exists()
