"""das sample end to end: the samples are datasets, the same for any cut of the log, and restartable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import distill_at_scale as das
from distill_at_scale import cli
from distill_at_scale.config import SampleConfig
from distill_at_scale.data.columns import SPLITS, TRAIN
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.pipelines.sample import _Sample
from distill_at_scale.pipelines.sampling import item_counts
from distill_at_scale.samplers import SAMPLERS, thresholds
from distill_at_scale.samplers.scores import Threshold

pytestmark = pytest.mark.usefixtures("ray_session")


def write_log(path: Path, n_rows: int, times: bool = True) -> Path:
    rng = np.random.default_rng(5)
    frame = pl.DataFrame(
        {
            "user_id": [f"user {k}" for k in (rng.pareto(1.2, n_rows) * 20).astype(int) % 150],
            "item_id": rng.integers(0, 90, n_rows),
            "rating": rng.integers(1, 6, n_rows).astype(np.float32),
            "timestamp": 1_500_000_000 + rng.integers(0, 2000, n_rows),
        }
    ).unique(["user_id", "item_id"], maintain_order=True)
    (frame if times else frame.drop("timestamp")).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def datasets(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Dataset]:
    """One log, prepared as 1 and as 5 shards."""
    folder = tmp_path_factory.mktemp("sample")
    log = write_log(folder / "log.parquet", 6000)
    return {
        n: das.prepare(input=[str(log)], output=str(folder / f"data-{n}"), split="leave_2", shards=n) for n in (1, 5)
    }


def rows_of(dataset: Dataset) -> pl.DataFrame:
    """Every row with its ids, in an order that does not depend on numbers."""
    items = dataset.items().select("item", "item_id")
    parts = []
    for shard in range(len(dataset.shards)):
        rows = pl.DataFrame(pl.from_arrow(dataset.table(shard)))
        parts.append(rows.join(dataset.users(shard).select("user", "user_id"), on="user"))
    columns = ["user_id", "item_id", "rating", "timestamp", "split"]
    return pl.concat(parts).join(items, on="item").select(columns).sort(columns)


@pytest.mark.parametrize("name", [name for name, sampler in SAMPLERS.items() if not sampler.proxy])
def test_samples_are_parts_of_their_parent(name: str, datasets: dict[int, Dataset], tmp_path: Path) -> None:
    found: dict[int, list[pl.DataFrame]] = {}
    for n, parent in datasets.items():
        result = das.sample(data=parent.uri, sampler=name, budget=[0.1, 0.5], output=str(tmp_path / str(n)))
        assert [s.budget for s in result.samples] == [0.5, 0.1]
        found[n] = []
        for record in result.samples:
            sample = Dataset.open(record.uri)
            sample.verify()
            check_sample(sample, parent)
            assert sample.manifest.splits["train"] == record.rows
            assert sample.manifest.config == {"sampler": name, "seed": 0, "budget": record.budget}
            counts = sample.train_counts()
            assert record.items == (counts > 0).sum()
            users = pl.concat([sample.users(k) for k in range(len(sample.shards))])
            assert record.users == (users["train"] > 0).sum()
            if name in ("random", "stratified", "temporal"):
                floor = (users_of(parent)["train"] > 0).sum() if SAMPLERS[name].one_a_user else 0
                assert record.rows == max(int(record.budget * parent.manifest.splits["train"] + 0.5), floor)
            found[n].append(rows_of(sample))
        assert not (tmp_path / str(n) / "_work").exists()
        large, small = found[n]
        assert small.join(large, on=small.columns, how="anti").is_empty()
    for one, other in zip(found[1], found[5]):
        assert one.equals(other)


def users_of(dataset: Dataset) -> pl.DataFrame:
    return pl.concat([dataset.users(k) for k in range(len(dataset.shards))])


def check_sample(sample: Dataset, parent: Dataset) -> None:
    """What holds for every sample of every sampler, shard by shard."""
    m, p = sample.manifest, parent.manifest
    for field in ("n_users", "n_items", "item_space", "split_rule", "id_types", "has_ratings", "has_timestamps"):
        assert getattr(m, field) == getattr(p, field), field
    assert m.parent is not None
    assert (m.parent.uri, m.parent.fingerprint) == (parent.uri, p.fingerprint)
    assert m.dropped == {"sampler": p.splits["train"] - m.splits["train"]}
    total = np.zeros(parent.n_items, dtype=np.int64)
    for k, (mine, theirs) in enumerate(zip(sample.shards, parent.shards, strict=True)):
        assert (mine.first_user, mine.n_users) == (theirs.first_user, theirs.n_users)
        rows, all_rows = (pl.DataFrame(pl.from_arrow(d.table(k))) for d in (sample, parent))
        assert rows.columns == all_rows.columns + ["weight"] * m.has_weights
        rows = rows.select(all_rows.columns)
        held = pl.col("split") != TRAIN
        assert rows.filter(held).equals(all_rows.filter(held))
        # In the parent's order, so each is found at or after the one before it.
        kept = all_rows.with_row_index().join(rows, on=rows.columns, how="semi", maintain_order="left")
        assert kept.drop("index").equals(rows)
        users = sample.users(k)
        assert users.select("user", "user_id").equals(parent.users(k).select("user", "user_id"))
        for name, code in SPLITS.items():
            of_split = rows.filter(pl.col("split") == code)
            assert mine.splits[name] == of_split.height
            per_user = np.bincount(of_split["user"] - mine.first_user, minlength=mine.n_users)
            assert users[name].to_numpy().tolist() == per_user.tolist()
        total += np.bincount(rows.filter(~held)["item"], minlength=parent.n_items)
    assert sample.train_counts().tolist() == total.tolist()
    assert sample.items().drop("train_count").equals(parent.items().drop("train_count"))
    assert m.n_rows == sum(s.rows for s in m.shards) == sum(m.splits.values())


def test_a_budget_alone_gives_what_it_gives_among_others(datasets: dict[int, Dataset], tmp_path: Path) -> None:
    uri = datasets[5].uri
    several = das.sample(data=uri, sampler="stratified", budget="0.8,0.3", output=str(tmp_path / "several"), seed=3)
    alone = das.sample(data=uri, sampler="stratified", budget=0.3, output=str(tmp_path / "alone"), seed=3)
    assert alone.samples[0].fingerprint == several.samples[1].fingerprint
    other = das.sample(data=uri, sampler="stratified", budget=0.3, output=str(tmp_path / "other"), seed=4)
    assert other.samples[0].fingerprint != alone.samples[0].fingerprint


def test_counts_of_many_shards_are_summed_in_steps(
    datasets: dict[int, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"data": datasets[5].uri, "sampler": "random", "budget": "0.5,0.2"}
    at_once = das.sample(**settings, output=str(tmp_path / "at once"))
    monkeypatch.setattr(item_counts, "_FAN_IN", 2)
    in_steps = das.sample(**settings, output=str(tmp_path / "in steps"))
    assert [s.fingerprint for s in in_steps.samples] == [s.fingerprint for s in at_once.samples]


def test_budgets_are_narrowed_down_while_many_units_are_left(
    datasets: dict[int, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"data": datasets[5].uri, "sampler": "head_users", "budget": "0.5,0.2"}
    few = das.sample(**settings, output=str(tmp_path / "few"))
    monkeypatch.setattr(thresholds, "FEW", 1)
    many = das.sample(**settings, output=str(tmp_path / "many"))
    assert [s.fingerprint for s in many.samples] == [s.fingerprint for s in few.samples]
    stages = json.loads((tmp_path / "many" / "head_users-0.5" / "run.json").read_text())["stages"]
    assert sum(stage["stage"] == "settle budgets" for stage in stages) > 1


def test_all_of_it_is_all_of_it(datasets: dict[int, Dataset], tmp_path: Path) -> None:
    result = das.sample(data=datasets[5].uri, sampler="head_users", budget=1, output=str(tmp_path))
    assert result.samples[0].uri.endswith("/head_users-1")
    assert rows_of(Dataset.open(result.samples[0].uri)).equals(rows_of(datasets[5]))


def test_a_sample_of_a_sample_keeps_its_lineage(datasets: dict[int, Dataset], tmp_path: Path) -> None:
    half = das.sample(data=datasets[5].uri, sampler="random", budget=0.5, output=str(tmp_path / "a")).samples[0]
    again = das.sample(data=half.uri, sampler="temporal", budget=0.5, output=str(tmp_path / "b")).samples[0]
    parent, sample = Dataset.open(half.uri), Dataset.open(again.uri)
    check_sample(sample, parent)
    assert parent.manifest.parent is not None
    assert parent.manifest.parent.fingerprint == datasets[5].manifest.fingerprint


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", ["_thresholds", "_write", "_items", "_finish", "_tidy"])
def test_a_killed_run_goes_on(at: str, datasets: dict[int, Dataset], tmp_path: Path) -> None:
    class Mortal(_Sample):
        def __getattribute__(self, name: str) -> object:
            if name == at:
                raise Killed
            return super().__getattribute__(name)

    settings = {"data": datasets[5].uri, "sampler": "random", "budget": ["0.5", "0.1"], "seed": 1}
    whole = das.sample(**settings, output=str(tmp_path / "whole"))
    config = SampleConfig(**settings, output=str(tmp_path / "killed"))
    with pytest.raises(Killed):
        Mortal(config).run()
    if at != "_tidy":
        with pytest.raises(das.DasError, match="is not a dataset"):
            das.inspect(data=str(tmp_path / "killed" / "random-0.5"))
    result = das.sample(config)
    assert [s.fingerprint for s in result.samples] == [s.fingerprint for s in whole.samples]
    reused = json.loads((tmp_path / "killed" / "random-0.5" / "run.json").read_text())["reused_parts"]
    assert reused == (5 if at in ("_thresholds", "_write") else 10)
    left = {p.relative_to(tmp_path / "killed").as_posix() for p in (tmp_path / "killed").rglob("*") if p.is_file()}
    assert left == {
        p.relative_to(tmp_path / "whole").as_posix() for p in (tmp_path / "whole").rglob("*") if p.is_file()
    }


def test_what_was_learned_is_learned_once(datasets: dict[int, Dataset], tmp_path: Path) -> None:
    class Mortal(_Sample):
        def _thresholds(self, *_: object) -> list[Threshold]:
            raise Killed

    settings = {"data": datasets[5].uri, "sampler": "centrality", "budget": ["0.5"]}
    whole = das.sample(**settings, output=str(tmp_path / "whole"))
    config = SampleConfig(**settings, output=str(tmp_path / "killed"))
    with pytest.raises(Killed):
        Mortal(config).run()
    assert das.sample(config).samples[0].fingerprint == whole.samples[0].fingerprint
    for name, passes in (("whole", True), ("killed", False)):
        run = json.loads((tmp_path / name / "centrality-0.5" / "run.json").read_text())
        assert any(stage["stage"].startswith("learn centrality") for stage in run["stages"]) == passes


def test_another_run_starts_anew_where_one_was_killed(datasets: dict[int, Dataset], tmp_path: Path) -> None:
    class Mortal(_Sample):
        def _items(self) -> list[dict[str, object]]:
            raise Killed

    with pytest.raises(Killed):
        Mortal(SampleConfig(data=datasets[5].uri, sampler="random", budget=["0.5"], output=str(tmp_path), seed=1)).run()
    result = das.sample(data=datasets[5].uri, sampler="random", budget=0.5, output=str(tmp_path), seed=2)
    fresh = das.sample(data=datasets[5].uri, sampler="random", budget=0.5, output=str(tmp_path / "x"), seed=2)
    assert result.samples[0].fingerprint == fresh.samples[0].fingerprint


def test_an_output_that_exists_is_refused_unless_told(datasets: dict[int, Dataset], tmp_path: Path) -> None:
    settings = {"data": datasets[1].uri, "sampler": "random", "budget": 0.5, "output": str(tmp_path)}
    first = das.sample(**settings)
    with pytest.raises(das.DasError, match=r"random-0\.5 holds a dataset already"):
        das.sample(**settings)
    again = das.sample(**settings, overwrite=True, seed=9)
    assert again.samples[0].fingerprint != first.samples[0].fingerprint
    (tmp_path / "temporal-0.5").mkdir()
    (tmp_path / "temporal-0.5" / "thesis.txt").write_text("mine")
    with pytest.raises(das.DasError, match=r"holds other files .*thesis\.txt"):
        das.sample(**{**settings, "sampler": "temporal"}, overwrite=True)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"sampler": "magic"}, r"setting 'sampler': 'magic' is not one of random, stratified, temporal"),
        ({"budget": "0"}, r"setting 'budget': 0 is not a share of the train rows; it must be above 0 and at most 1"),
        ({"budget": "0.5,1.5"}, r"1\.5 is not a share"),
        ({"budget": "nan"}, r"nan is not a share"),
        ({"budget": "a tenth"}, r"'a tenth' is not a number"),
        ({"budget": "0.5,,0.1"}, r"'' is not a number"),
        ({"budget": []}, r"setting 'budget'"),
        ({"budget": 1e-9}, r"budget 1e-09 leaves no rows: .* train rows; the smallest budget is "),
        ({"gpu": True}, r"--gpu is of the samplers svp_\*, which train a proxy, not of random; leave it out\."),
        ({"workers": 2}, r"--workers is of the samplers svp_\*"),
        ({"proxy_epochs": 3}, r"--proxy-epochs is of the samplers svp_\*"),
        ({"sampler": "density", "objective": "explicit"}, r"--objective is of .* not of density; leave it out"),
        ({"data": "/nowhere"}, r"/nowhere does not exist"),
    ],
)
def test_bad_settings(wrong: dict[str, object], sentence: str, datasets: dict[int, Dataset], tmp_path: Path) -> None:
    settings = {"data": datasets[1].uri, "sampler": "random", "budget": 0.5, "output": str(tmp_path / "out")}
    with pytest.raises(das.DasError, match=sentence):
        das.sample(**{**settings, **wrong})
    assert not (tmp_path / "out").exists()


def test_recorded_settings_are_accepted(datasets: dict[int, Dataset], tmp_path: Path) -> None:
    asked = {"data": datasets[1].uri, "sampler": "random", "budget": "0.5", "output": str(tmp_path / "out")}
    all_settings = SampleConfig.model_validate(asked).model_dump()
    assert all_settings["proxy_epochs"] == 50
    assert das.sample(**all_settings).samples[0].budget == 0.5


def test_a_budget_below_half_a_user(datasets: dict[int, Dataset], tmp_path: Path) -> None:
    with pytest.raises(das.DasError, match=r"budget 0\.001 leaves no rows: the first unit that head_users"):
        das.sample(data=datasets[5].uri, sampler="head_users", budget=0.001, output=str(tmp_path))


def test_a_sampler_by_time_needs_times(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log.parquet", 500, times=False)
    data = das.prepare(input=[str(log)], output=str(tmp_path / "data"), split="20_percent_hist")
    with pytest.raises(das.DasError, match=r"sampler temporal needs timestamps, but .*data has none"):
        das.sample(data=data.uri, sampler="temporal", budget=0.5, output=str(tmp_path / "out"))
    assert das.sample(data=data.uri, sampler="stratified", budget=0.5, output=str(tmp_path / "out")).samples


def test_samples_do_not_lie_in_their_parent(datasets: dict[int, Dataset]) -> None:
    with pytest.raises(das.DasError, match="lies in the dataset sampled from"):
        das.sample(data=datasets[1].uri, sampler="random", budget=0.5, output=datasets[1].uri + "/samples")


def test_the_command_line(
    datasets: dict[int, Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["das", "sample", "--data", datasets[1].uri, "--sampler", "random", "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", [*command, "--budget", "0.5,0.1", "--json"])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 0
    shown = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [s["budget"] for s in shown["samples"]] == [0.5, 0.1]
    monkeypatch.setattr("sys.argv", [*command, "--budget", "0.2"])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 0
    assert "0.2" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*command, "--budget", "2"])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 2
    assert "error: --budget 2 is not a share" in capsys.readouterr().err
