"""Numbers for rows: however they lie in files, read directly or dealt by user, each row gets its own."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prepare_kit import frame, inline_prepare, random_rows

from distill_at_scale.data.columns import TRAIN
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import exchange
from distill_at_scale.data.row_values import DealtValues, ValueFiles, ValueSource, read_values
from distill_at_scale.data.row_values.files import numbered_items
from distill_at_scale.errors import DamagedFileError, DasError, SettingError
from distill_at_scale.samplers.train_rows import read_train_rows


@pytest.fixture(scope="module", params=[True, False], ids=["strings", "integers"])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("values")
    frame(random_rows(3, 900, 60, 40, strings=request.param)).write_parquet(folder / "log.parquet")
    return inline_prepare(input=[str(folder / "log.parquet")], output=str(folder / "data"), split="leave_2", shards=11)


def train(dataset: Dataset, shard: int) -> pl.DataFrame:
    """user_id · item_id of the train rows of a shard, in their order."""
    rows = pl.DataFrame(pl.from_arrow(dataset.table(shard))).filter(pl.col("split") == TRAIN)
    rows = rows.with_columns(item_id=dataset.item_ids().gather(rows["item"]))
    users = dataset.users(shard).select("user", "user_id")
    return rows.join(users, on="user", maintain_order="left").select("user_id", "item_id")


def scores_of(dataset: Dataset, seed: int) -> pl.DataFrame:
    """A number for every train row, and rows that nobody asks for."""
    rows = pl.concat([train(dataset, shard) for shard in range(len(dataset.shards))])
    rng = np.random.default_rng(seed)
    text = rows["user_id"].dtype == pl.String
    others = (
        {"user_id": ["nobody", "u0"], "item_id": ["ä-31", "nothing"]}
        if text
        else {"user_id": [5, 0], "item_id": [31, 5]}
    )
    scored = pl.concat([rows, pl.DataFrame(others)])
    return scored.with_columns(q=pl.Series(rng.normal(size=len(scored)) * 10.0 ** rng.integers(-9, 9, len(scored))))


def naive(dataset: Dataset, scores: pl.DataFrame, shard: int) -> np.ndarray:
    """The slow twin: a dictionary of all rows."""
    if "item_id" in scores.columns:
        known = {(user, item): value for user, item, value in scores.select("user_id", "item_id", "q").iter_rows()}
        return np.array([known[row] for row in train(dataset, shard).iter_rows()])
    by_user, has_rows = dict(scores.select("user_id", "q").iter_rows()), set(train(dataset, shard)["user_id"])
    return np.array([by_user[user] if user in has_rows else 0.0 for user in dataset.users(shard)["user_id"]])


def values_of(dataset: Dataset, source: ValueSource, shard: int) -> np.ndarray:
    rows = read_train_rows(dataset, shard)
    return read_values(dataset, shard, rows.owner, rows.items, source, "train rows").values


def for_all_shards(dataset: Dataset, source: ValueSource) -> list[np.ndarray]:
    return [values_of(dataset, source, shard) for shard in range(len(dataset.shards))]


def deal(dataset: Dataset, files: ValueFiles, work: Path) -> DealtValues:
    dealt = DealtValues.plan(files, dataset, str(work))
    numbers = numbered_items(dataset) if files.with_items else None
    for index in range(dealt.tasks):
        dealt.deal(index, numbers)
    return dealt


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    kinds=st.lists(st.sampled_from(["parquet", "csv", "tsv", "gz", "quoted"]), min_size=1, max_size=3),
    with_items=st.booleans(),
    levels=st.integers(1, 2),
)
def test_every_row_gets_its_number(
    data: Dataset,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    kinds: list[str],
    with_items: bool,
    levels: int,
) -> None:
    folder = tmp_path_factory.mktemp("scores")
    scores = scores_of(data, seed)
    if not with_items:
        scores = scores.group_by("user_id").agg(pl.col("q").first())
    shuffled = scores.sample(fraction=1.0, shuffle=True, seed=seed)
    rng = np.random.default_rng(seed)
    for k, kind in enumerate(kinds):
        part = shuffled.gather_every(len(kinds), k)
        part = part.select(rng.permutation(part.columns).tolist())
        place = folder / f"{k}.{kind}"
        if kind == "parquet":
            part.write_parquet(place, row_group_size=150)
        elif kind == "gz":
            place.write_bytes(gzip.compress(part.write_csv().encode()))
        else:
            style = "always" if kind == "quoted" else "necessary"
            part.write_csv(place, separator="\t" if kind == "tsv" else ";", quote_style=style)
    with pytest.MonkeyPatch.context() as patch:
        if levels == 2:
            for name, value in (("ONE_LEVEL", 0), ("_RANGES", 4), ("_GROUPS", 3)):
                patch.setattr(exchange, name, value)
        files = ValueFiles.open(str(folder), "q", piece_bytes=2500)
        assert files.with_items == with_items
        dealt = deal(data, files, folder / "work")
    assert dealt.dealt.exchange.merges == (levels == 2)
    for shard in rng.choice(len(data.shards), 4, replace=False).tolist():
        expected = naive(data, scores, shard)
        np.testing.assert_array_equal(values_of(data, files, shard), expected)
        np.testing.assert_array_equal(values_of(data, dealt, shard), expected)


def test_files_are_read_in_parts(data: Dataset, tmp_path: Path) -> None:
    scores = scores_of(data, 1)
    scores.write_csv(tmp_path / "scores.csv")
    assert len(ValueFiles.open(str(tmp_path / "scores.csv"), "q", piece_bytes=1000).pieces) > 5
    assert len(ValueFiles.open(str(tmp_path / "scores.csv"), "q").pieces) == 1


def test_a_part_that_is_done_is_not_done_again(data: Dataset, tmp_path: Path) -> None:
    scores = scores_of(data, 1)
    scores.write_csv(tmp_path / "scores.csv")
    files = ValueFiles.open(str(tmp_path / "scores.csv"), "q", piece_bytes=5000)
    dealt, numbers = deal(data, files, tmp_path / "work"), numbered_items(data)
    assert [dealt.deal(index, numbers).reused for index in range(dealt.tasks)] == [True] * dealt.tasks
    # A damaged file is said to be, and made again by the next run.
    damaged = next((tmp_path / "work").rglob("part-00001.chunks"))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(DamagedFileError, match="run the same command again"):
        for_all_shards(data, dealt)
    assert [dealt.deal(index, numbers).reused for index in range(dealt.tasks)].count(False) == 1
    for shard, values in enumerate(for_all_shards(data, dealt)):
        np.testing.assert_array_equal(values, naive(data, scores, shard))


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s[1:], r"1 of \d+ train rows of shard 0 have no value of 'q'; the first is of user .* and item"),
        (lambda s: pl.concat([s, s[:1]]), r"user .* and item .* has several values of 'q'; keep one of them"),
        (
            lambda s: s.with_columns(q=pl.when(pl.int_range(pl.len()) == 3).then(float("inf")).otherwise(pl.col("q"))),
            r"scores\.\w+: 'inf' in column 'q' of user .* and item .* is not a finite number; give every row one",
        ),
        (
            lambda s: s.with_columns(q=pl.when(pl.int_range(pl.len()) == 3).then(pl.lit("bad")).otherwise(pl.lit("1"))),
            r"scores\.\w+: 'bad' in column 'q' of user .* and item .* is not a finite number; give every row one",
        ),
        (lambda s: s.drop("item_id").with_columns(q=1.0), r": user .* has several values of 'q'; keep one of them"),
        (lambda s: s.drop("item_id")[:1], r"\d+ of \d+ users of shard 0 have no value of 'q'; the first is of user"),
    ],
)
def test_messages_are_the_same_either_way(
    data: Dataset, tmp_path: Path, change: object, message: str, suffix: str
) -> None:
    own = train(data, 0).with_columns(q=pl.lit(2.0))
    table, place = change(own), tmp_path / f"scores.{suffix}"  # type: ignore[operator]
    table.write_parquet(place) if suffix == "parquet" else table.write_csv(place)
    files = ValueFiles.open(str(place), "q")
    said = []
    for source in (files, deal(data, files, tmp_path / "work")):
        with pytest.raises(DasError, match=message) as raised:
            values_of(data, source, 0)
        said.append(str(raised.value))
    assert said[0] == said[1]


def test_files_that_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "scores.csv"

    def refused(content: str, kind: type[DasError], message: str) -> None:
        place.write_text(content)
        with pytest.raises(kind, match=message):
            ValueFiles.open(str(tmp_path), "q")

    refused("", SettingError, "missing column 'user_id'; its columns are none")
    refused("user_id,item_id\n1,2\n", SettingError, "missing column 'q'; its columns are user_id, item_id")
    refused("x" * 70_000, SettingError, "not a table .* give Parquet, or CSV with column names")
    (tmp_path / "users.csv").write_text("user_id,q\n1,2\n")
    refused("user_id,item_id,q\n1,2,3\n", DasError, "only some files have a column item_id; give all of them one")


def test_a_line_without_all_fields_is_named(data: Dataset, tmp_path: Path) -> None:
    place = tmp_path / "scores.csv"
    place.write_text("user_id,item_id,q\n1,2,3\n1,3\n")
    with pytest.raises(DasError, match=r"scores\.csv: line has 2 fields instead of 3: '1,3'; correct the line"):
        values_of(data, ValueFiles.open(str(place), "q"), 0)
