"""predict: rows are a slow twin's, in files that depend on neither blocks nor restarts; users by file and by draw."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import distill_at_scale as das
from distill_at_scale.data import chosen_users, recorded
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DamagedFileError, DasError, OutputExistsError, SettingError
from distill_at_scale.models import load_model
from distill_at_scale.pipelines import predict as pipeline
from distill_at_scale.pipelines.runtime.parts_output import PartsOutput, parquet_bytes

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from recommend_kit import N_ITEMS, SETTINGS, fitted, make_dataset, slow_lists

QUICK = ("popularity", "ease")
USERS = (9, 14, 4)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("data") / "prepared", USERS).uri


@pytest.fixture(scope="module")
def ease(data: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("models") / "ease")
    fitted("ease", Dataset.open(data)).save(uri)
    return uri


@pytest.fixture
def predict(data: str, ease: str, tmp_path: Path, ray_session: None) -> Any:
    def call(output: str = "lists", **settings: Any) -> pipeline.Predictions:
        return das.predict(**{"data": data, "model": ease, "output": str(tmp_path / output), "k": 5, **settings})

    return call


def lists(result: pipeline.Predictions, kind: str = "predictions") -> pl.DataFrame:
    return pl.read_parquet(f"{result.uri}/{kind}")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SETTINGS])
def test_rows_are_those_of_a_slow_twin(name: str, data: str, tmp_path: Path, predict: Any) -> None:
    dataset, model = Dataset.open(data), fitted(name, Dataset.open(data))
    model.save(str(tmp_path / "model"))
    found = predict(model=str(tmp_path / "model"))
    assert lists(found).rows() == slow_lists(model, dataset, 5)
    assert (found.users, found.rows, found.missing) == (sum(USERS), 5 * sum(USERS), 0)


def test_files_are_written_block_by_block(data: str, ease: str, predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predict("whole")
    # Blocks of six users.
    monkeypatch.setattr(pipeline, "_LEAST_USERS", 1)
    monkeypatch.setattr(pipeline, "_BATCHES", 2)
    monkeypatch.setattr(pipeline, "default_batch_users", lambda n_items: 3)
    found = predict("blocks")
    files = sorted(Path(found.uri, "predictions").iterdir())
    assert [file.name for file in files] == [f"part-{part:05d}.parquet" for part in range(2 + 3 + 1)]
    assert lists(found).rows() == lists(whole).rows()
    block = load_model(ease).recommend(Dataset.open(data), [f"u{user}" for user in range(6)], k=5)
    assert files[0].read_bytes() == bytes(parquet_bytes(block))
    manifest = recorded.read_json(f"{found.uri}/predictions.json", "")
    assert [file["path"] for file in manifest["files"]] == [f"predictions/{file.name}" for file in files]
    assert sorted(path.name for path in Path(found.uri).iterdir()) == ["predictions", "predictions.json", "run.json"]


def test_a_killed_run_keeps_its_parts(predict: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(PartsOutput, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predict()
    found = predict()
    assert found.reused_parts == len(USERS)
    # What another command had begun is not taken for its own.
    with monkeypatch.context() as patch:
        patch.setattr(PartsOutput, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predict("other", k=3)
    other = predict("other")
    assert other.reused_parts == 0
    assert lists(other).rows() == lists(found).rows()


def test_an_output_inside_the_dataset_is_refused(data: str) -> None:
    for place in (data, f"{data}/lists"):
        with pytest.raises(SettingError, match=r"lies in the dataset predicted for; choose another --output\.$"):
            das.predict(data=data, model="nowhere", output=place, overwrite=True)
    assert not Path(data, "lists").exists()


def test_an_output_is_replaced_on_request_only(tmp_path: Path, predict: Any) -> None:
    first = predict()
    with pytest.raises(OutputExistsError, match="holds predictions already; choose another --output, or replace it"):
        predict(k=3)
    second = predict(k=3, users="2", overwrite=True)
    assert lists(second)["rank"].to_list() == [1, 2, 3] * 2
    assert len(list(Path(first.uri, "predictions").iterdir())) <= 2
    Path(first.uri, "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"holds other files \(.*notes.txt\)"):
        predict(overwrite=True)


def test_users_of_a_file(data: str, ease: str, tmp_path: Path, predict: Any, caplog: pytest.LogCaptureFixture) -> None:
    expected = load_model(ease).recommend(Dataset.open(data), ["u3", "u20"], k=5).rows()
    (tmp_path / "lines.txt").write_bytes("\ufeffu20\r\n\r\nu3\r\nu20\r\n".encode())
    (tmp_path / "table.csv").write_text('name,user_id\n"a,b",u3\nc,u20\n')
    pl.DataFrame({"user_id": ["u3", "u20"]}).write_parquet(tmp_path / "table.parquet")
    (tmp_path / "quoted.csv2").write_text('"user_id";"name"\n"u3";"a;b"\n"u20";"c"\n')
    (tmp_path / "quoted.one").write_text('"user_id"\n"u3"\n"u20"\n')
    for name in ("lines.txt", "table.csv", "table.parquet", "quoted.csv2", "quoted.one"):
        found = predict(name.replace(".", "_"), users=str(tmp_path / name))
        assert (lists(found).rows(), found.missing) == (expected, 0)
    (tmp_path / "few.txt").write_text("nobody\nu3\nno, body\n")
    with caplog.at_level(logging.WARNING):
        found = predict("few", users=str(tmp_path / "few.txt"))
    assert caplog.messages == [f"2 of the 3 users asked for are not in {data} and are left out: 'nobody', 'no, body'."]
    assert (lists(found).rows(), found.missing, found.users) == (expected[:5], 2, 1)
    (tmp_path / "one.txt").write_text("nobody\nu3\n")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        predict("one_missing", users=str(tmp_path / "one.txt"))
    assert caplog.messages == [f"1 of the 2 users asked for is not in {data} and is left out: 'nobody'."]
    with pytest.raises(SettingError, match=r"is a folder; name a file of ids\.$"):
        predict("folder", users=str(tmp_path))
    (tmp_path / "none.txt").write_text("nobody\n")
    with pytest.raises(DasError, match=r"none.txt: the user asked for is not in .*: 'nobody'\."):
        predict("none", users=str(tmp_path / "none.txt"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file of ids"),
        (b"", "there are no ids in it"),
        (b"\n\n", "there are no ids in it"),
        (b"PAR1 broken", "not a file of ids"),
        (b"\xff\xfe1\n", "not a file of ids"),
    ],
)
def test_wrong_files_of_users(content: bytes | None, says: str, tmp_path: Path, predict: Any) -> None:
    if content is not None:
        (tmp_path / "users").write_bytes(content)
    with pytest.raises(SettingError, match=f"users: {says}"):
        predict(users=str(tmp_path / "users"))


def test_users_by_draw(predict: Any, caplog: pytest.LogCaptureFixture) -> None:
    everybody = lists(predict("all"))
    few = lists(predict("few", users=6))
    assert few["user_id"].n_unique() == 6
    assert few.rows() == everybody.filter(pl.col("user_id").is_in(few["user_id"].implode())).rows()
    more = lists(predict("more", users="9"))
    assert set(few["user_id"]) < set(more["user_id"]), "a larger draw holds the smaller one"
    assert set(lists(predict("other", users="6", seed=1))["user_id"]) != set(few["user_id"])
    with caplog.at_level(logging.WARNING):
        assert lists(predict("too many", users="100")).rows() == everybody.rows()
    assert "has 27 users; all get a list" in caplog.text


def test_a_draw_takes_as_many_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen_users, "_AT_ONCE", 7)
    draws = chosen_users.draws(pl.Series(range(50)).to_numpy(), 3)
    for wanted in (1, 7, 20, 50):
        assert (draws <= chosen_users.threshold(50, wanted, 3)).sum() == wanted


def test_a_model_in_memory(data: str, ease: str, predict: Any) -> None:
    found = predict("memory", model=load_model(ease))
    assert lists(found).rows() == lists(predict("saved")).rows()
    assert found.model.uri is None


def test_similar_items(data: str, ease: str, predict: Any) -> None:
    found = predict(similar_items=True, users=3)
    expected = load_model(ease).similar_items(Dataset.open(data), k=5)
    assert lists(found, "similar_items").rows() == expected.rows()
    assert (found.users, found.similar_rows) == (3, 5 * N_ITEMS)
    alone = predict("alone", similar_items=True, users=0)
    assert (alone.users, alone.rows, alone.similar_rows) == (0, 0, 5 * N_ITEMS)
    with pytest.raises(SettingError, match="'users' 0 asks for no list"):
        predict(users=0)


def test_settings_reach_the_lists(data: str, ease: str, predict: Any, caplog: pytest.LogCaptureFixture) -> None:
    dataset, model = Dataset.open(data), load_model(ease)
    found = predict(history="train+validation", include_seen=True)
    assert lists(found).rows() == slow_lists(model, dataset, 5, "train+validation", include_seen=True)
    with caplog.at_level(logging.WARNING):
        everything = predict("everything", k=100)
    assert "k=100 is more than the 23 items" in caplog.text
    assert lists(everything).rows() == slow_lists(model, dataset, 100)


def test_what_does_not_fit_together(data: str, tmp_path: Path, predict: Any) -> None:
    model = fitted("popularity", Dataset.open(data))
    model.item_space = "another"
    model.save(str(tmp_path / "other"))
    with pytest.raises(DasError, match="was fitted on another item numbering"):
        predict(model=str(tmp_path / "other"))
    shard = Path(make_dataset(tmp_path / "damaged").uri, "shards", "part-00001.parquet")
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DamagedFileError, match=r"shards/part-00001.parquet differs from its checksum"):
        predict(data=str(tmp_path / "damaged"))
