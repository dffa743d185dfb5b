"""prepare --append gives what preparing all files at once gives, to the byte; bad inputs are refused."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from append_kit import random_case
from every_sample_kill import inline_sample
from kill_kit import every_death
from prepare_kit import checksums, inline_prepare, paths_below, random_rows, without_ray, write_logs

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines import prepare as verb
from distill_at_scale.pipelines.preparing import job


def prepared(**settings: Any) -> Dataset | str:
    """The dataset, or what was said instead."""
    try:
        return verb.prepare(**settings)
    except DasError as error:
        return str(error)


def check_case(seed: int, keep: bool) -> int:
    """Number of appends that were compared; none if rows do not suffice for a dataset."""
    compared = 0
    with tempfile.TemporaryDirectory(prefix="das-append-") as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        patch.setattr(job, "ROWS_A_SHARD", 32)
        batches, settings = random_case(seed, folder)
        with without_ray():
            taken = batches[0]
            old = prepared(input=taken, output=str(folder / "0"), **settings)
            for k, batch in enumerate(batches[1:], start=1):
                if isinstance(old, str):
                    return compared
                taken = taken + batch
                asked = {"append": old.uri, "input": batch, "max_bad_share": 0.5, "keep_numbering": keep}
                new = prepared(output=str(folder / f"{k}"), **asked)
                fresh = prepared(input=taken, output=str(folder / f"fresh-{k}"), **settings)
                if isinstance(fresh, str) or isinstance(new, str):
                    assert isinstance(fresh, str)
                    assert isinstance(new, str)
                    return compared
                new.verify()
                assert_kept(old, new, fresh) if keep else assert_same(new, fresh)
                old, compared = new, compared + 1
    return compared


def assert_same(new: Dataset, fresh: Dataset) -> None:
    assert checksums(new) == checksums(fresh)
    # Notices name examples, and some are about the files of one run.
    assert new.manifest == fresh.manifest.model_copy(update={"noticed": new.manifest.noticed})
    assert paths_below(Path(new.uri)) == paths_below(Path(fresh.uri))


def assert_kept(old: Dataset, new: Dataset, fresh: Dataset) -> None:
    """The same rows, split in the same way, and every old number stands for what it stood for."""
    assert new.item_ids()[: old.n_items].equals(old.item_ids())
    old_users, users = (pl.concat([d.users(k)["user_id"] for k in range(len(d.shards))]) for d in (old, new))
    assert users[: len(old_users)].equals(old_users)
    by = ["user_id", "item_id", *(["timestamp"] if "timestamp" in fresh.to_frame().columns else []), "split"]
    by += ["rating"] if "rating" in fresh.to_frame().columns else []
    assert new.to_frame().sort(by).equals(fresh.to_frame().sort(by))
    assert new.manifest.dropped == fresh.manifest.dropped
    counts = {item: n for item, n in zip(new.item_ids(), new.train_counts()) if n}
    assert counts == {item: n for item, n in zip(fresh.item_ids(), fresh.train_counts()) if n}
    assert set(fresh.item_ids()) <= set(new.item_ids())


def test_random_appends() -> None:
    assert sum(check_case(seed, keep=seed % 3 == 0) for seed in range(18)) >= 20


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_many_random_appends(block: int) -> None:
    """A thousand appends in all; in blocks, each of which ends within the time of a test on a busy machine."""
    seeds = range(100 + 100 * block, 200 + 100 * block)
    assert sum(check_case(seed, keep=seed % 3 == 0) for seed in seeds) >= 100


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_logs(tmp_path_factory.mktemp("append-logs"), random_rows(5, 600, 40, 30), 3)


@pytest.fixture(scope="module")
def old(logs: list[str], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    output = str(tmp_path_factory.mktemp("append-old") / "old")
    return inline_prepare(input=logs[:2], output=output, shards=2, min_item=3)


def test_a_folder_may_list_old_files(tmp_path: Path, logs: list[str], old: Dataset) -> None:
    """Those that were taken in are not taken in again."""
    folder = str(Path(logs[0]).parent)
    new = inline_prepare(append=old.uri, input=[folder], output=str(tmp_path / "new"))
    fresh = inline_prepare(input=logs, output=str(tmp_path / "fresh"), shards=2, min_item=3)
    assert checksums(new) == checksums(fresh)
    with pytest.raises(DasError, match=r"log-00\.csv is in .* already; name only new files"):
        inline_prepare(append=new.uri, input=[folder], output=str(tmp_path / "more"))


def test_bad_inputs(tmp_path: Path, logs: list[str], old: Dataset) -> None:
    asked: dict[str, Any] = {"append": old.uri, "input": logs[2], "output": str(tmp_path / "out")}

    def refused(message: str, **other: Any) -> None:
        with pytest.raises(DasError, match=message):
            inline_prepare(**(asked | other))
        assert not (tmp_path / "out").exists()

    refused(r"log-00\.csv is in .* already", input=[logs[0], logs[2]])
    refused("--min-item was 3 for .* and cannot be 4", min_item=4)
    refused("--split was leave_2 for .* and cannot be temporal", split="temporal")
    refused("lie in one another", output=f"{old.uri}/below")
    refused("lie in one another", output=old.uri, overwrite=True)
    refused("does not exist", append=str(tmp_path / "nowhere"))
    other = pl.read_csv(logs[2])
    other.rename({"rating": "stars"}).write_csv(tmp_path / "other.csv")
    refused("read from the columns .* give them the same columns", input=str(tmp_path / "other.csv"))
    other.with_columns(pl.format("i{}", "item_id").alias("item_id")).write_csv(tmp_path / "text.csv")
    refused("item_id is text in the new files", input=str(tmp_path / "text.csv"))
    other.with_columns(pl.col("timestamp") * 1000).write_csv(tmp_path / "ms.csv")
    refused("times are read as ms in the new files, and as s", input=str(tmp_path / "ms.csv"))
    (tmp_path / "empty.csv").write_text("user_id,item_id,rating,timestamp\n")
    refused(r"no rows in the input .*empty\.csv", input=str(tmp_path / "empty.csv"))
    # The advice names no --map: one cannot read both the old and the new files.
    other.rename({"user_id": "visitor"}).write_csv(tmp_path / "visitor.csv")
    rename = r"rename the new files' columns to those of the log of .*old \(user_id, item_id, .*\)"
    refused(f"no column for user_id; .*: {rename}", input=str(tmp_path / "visitor.csv"))
    mapped = {"input": str(tmp_path / "visitor.csv"), "map": {"user_id": "visitor"}}
    refused(f"leave --map out, and {rename}", **mapped)
    with pytest.raises(DasError, match="'keep_numbering' needs 'append'"):
        inline_prepare(input=logs[2], output=str(tmp_path / "out"), keep_numbering=True)


def test_old_files_that_changed(tmp_path: Path, logs: list[str]) -> None:
    first = tmp_path / "first.csv"
    first.write_bytes(Path(logs[0]).read_bytes())
    old = inline_prepare(input=str(first), output=str(tmp_path / "old"))
    with first.open("a") as file:
        file.write("1,2,3,1600000000\n")
    with pytest.raises(DasError, match=r"first\.csv has changed since"):
        inline_prepare(append=old.uri, input=[str(first), logs[1]], output=str(tmp_path / "new"))


def test_what_cannot_be_appended_to(tmp_path: Path, logs: list[str], old: Dataset) -> None:
    """A sample, and a dataset whose log is not known."""
    sample = inline_sample(data=old.uri, sampler="random", budget=["0.5"], output=str(tmp_path / "samples")).samples[0]
    asked = {"input": logs[2], "output": str(tmp_path / "out")}
    with pytest.raises(DasError, match="is a sample of"):
        inline_prepare(append=sample.uri, **asked)
    without = inline_prepare(input=logs[0], output=str(tmp_path / "without"))
    (tmp_path / "without" / "log.json").unlink()
    with pytest.raises(DasError, match=r"has no log\.json"):
        inline_prepare(append=without.uri, **asked)


def test_damage_is_found(tmp_path: Path, logs: list[str], old: Dataset) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(old.uri, copy)
    rest = sorted((copy / "rest").iterdir())[0]
    rest.write_bytes(rest.read_bytes()[:-1] + b"x")
    with pytest.raises(DasError, match=r"rest/part-0000\d\.parquet differs from its checksum"):
        inline_prepare(append=str(copy), input=logs[2], output=str(tmp_path / "out"))


@pytest.mark.slow
def test_a_kill_at_every_file(tmp_path: Path, logs: list[str], old: Dataset) -> None:
    """The old dataset stays readable throughout, and the new one is complete or none; the same command ends it."""
    settings = {"append": old.uri, "input": logs[2:], "output": str(tmp_path / "out")}
    expected = inline_prepare(**(settings | {"output": str(tmp_path / "whole")}))
    before = checksums(old)
    deaths = every_death("every_kill.py", settings)
    assert len(deaths) > 50
    for death in deaths[:-1]:
        assert "is not a dataset: a run has not finished there" in death["state"]
    assert deaths[-1]["state"] == expected.manifest.fingerprint
    new = Dataset.open(str(tmp_path / "out"))
    new.verify()
    assert checksums(new) == checksums(expected)
    assert paths_below(tmp_path / "out") == paths_below(tmp_path / "whole")
    old.verify()
    assert checksums(Dataset.open(old.uri)) == before
