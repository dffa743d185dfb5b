"""Ids that are not what they seem: placeholders, users with an implausible share, ids that look alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from readers_kit import read_log, read_noticed

from distill_at_scale.data.preparation.odd_ids import UserSummary, notice_items, notice_users, summarise_users
from distill_at_scale.data.readers import LogOptions, plan_log, read_fragment


def noticed(users: pl.Series, rows: list[int], n_buckets: int = 1) -> str:
    """Notices about users that are dealt over buckets."""
    counts = np.array(rows, dtype=np.int64)
    parts = [summarise_users(users[k::n_buckets], counts[k::n_buckets], n_buckets) for k in range(n_buckets)]
    return "\n".join(map(str, notice_users(parts)))


@pytest.mark.parametrize("n_buckets", [1, 3])
@pytest.mark.parametrize("user", ["anonymous", "Guest", "(not set)", "-1", "00000000-0000-0000-0000-000000000000"])
def test_placeholders_for_unknown_users(user: str, n_buckets: int) -> None:
    said = noticed(pl.Series([f"u{k}" for k in range(19)] + [user]), [4] * 19 + [24], n_buckets)
    assert said.startswith(f"24 rows: user_id is '{user}' (24.0% of all rows): it looks like a placeholder")
    assert noticed(pl.Series([f"u{k}" for k in range(20)]), [5] * 20, n_buckets) == ""


def test_zero_is_a_placeholder_only_where_it_stands_out() -> None:
    users = pl.Series(range(20))
    assert "user_id is '0' (24.0% of all rows): it looks like a placeholder" in noticed(users, [24] + [4] * 19)
    assert noticed(users, [6] + [5] * 19) == ""
    assert "user_id is '-1' (2.6%" in noticed(pl.Series([-1, *range(19)]), [2] + [4] * 19)
    assert noticed(pl.Series(range(-20, -2)), [4] * 18) == ""


def test_a_user_with_an_implausible_share() -> None:
    said = noticed(pl.Series(range(1, 42)), [200] + [6] * 40)
    assert said.startswith("200 rows: user_id is '1': one user with 45.5% of all rows, 19 times the mean")
    # The most active person of a log of 1,000, and two who share most of a small one.
    assert noticed(pl.Series(range(1, 1001)), [150] + [20] * 999) == ""
    assert noticed(pl.Series(range(1, 7)), [30, 28, 5, 5, 5, 5]) == ""


@pytest.mark.parametrize(("one", "two"), [("Ann", "ann"), ("Jörg", "Jörg"), ("７", "7")])
def test_ids_that_look_alike(one: str, two: str) -> None:
    ids = [f"x{k}" for k in range(9)] + [one, two]
    said = "differs from another only in case or Unicode form, and stays a different"
    for n_buckets in (1, 4):
        assert f"2 values: user_id {said} user" in noticed(pl.Series(ids), [1] * len(ids), n_buckets)
    (notice,) = notice_items(pl.Series(sorted(ids)))
    assert str(notice).startswith(f"2 values: item_id {said} item")
    assert notice_items(pl.Series(sorted(ids)[1:3])) == notice_items(pl.Series([1, 2])) == []
    assert "placeholder" in notice_items(pl.Series([-1, 1, 2]))[0].what


def test_unsigned_ids_are_read_as_text_where_that_is_said(tmp_path: Path) -> None:
    ids = pl.Series([2**63 + k for k in range(9)] + [7], dtype=pl.UInt64)
    pl.DataFrame({"user_id": ids, "item_id": range(10)}).write_parquet(path := tmp_path / "log.parquet")
    _, bad = read_log(path)
    assert set(bad["reason"]) == {"user_id is outside -2^63 to 2^63 - 1 (--id-type string reads ids as text)"}
    good, bad = read_log(path, id_type="string")
    assert (good["user_id"].to_list(), bad.height) == ([str(one) for one in ids], 0)


def test_of_many_users_a_sample_is_compared() -> None:
    """Where buckets hold more users than are sampled, those below the lowest common bound are compared."""
    users = pl.Series([f"user{k}" for k in range(20_000)] + [f"USER{k}" for k in range(20_000)])
    said = noticed(users, [1] * len(users), 2)
    assert "user_id differs from another" in said
    sampled = int(said.split("(in a sample of ")[1].split(" users")[0].replace(",", ""))
    assert 10_000 < sampled <= 16_384
    assert said.startswith(f"{sampled:,} values"), "both of a pair are in the sample, or neither"
    assert notice_users([UserSummary()]) == []


def read_all(path: Path, **options: object) -> str:
    """What reading notices."""
    schema, fragments, _ = plan_log(LogOptions(input=[str(path)], **options))  # type: ignore[arg-type]
    return "\n".join(
        str(n) for fragment in fragments for batch in read_fragment(fragment, schema) for n in batch.noticed
    )


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("1.00E+15", "is written as 1.23E+15, as spreadsheets show long numbers"),
        ("'5'", "is in single quotes, which stay part of the id"),
        ('"1,234"', "is a number with commas between thousands"),
        ("Caf\ufffd", "holds the sign for characters that were lost"),
    ],
)
def test_ids_that_programs_have_changed(tmp_path: Path, item: str, says: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\n" + f"1,{item}\n2,{item}\n")
    assert f"2 rows: item_id {says}" in read_all(path)
    path.write_text('user_id,item_id\n1,ABE+1\n2,"a,b"\n3,1E5\n4,it\'s\n')
    assert read_all(path) == ""


def test_ids_in_floats_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user_id": [1.0, 2.0], "item_id": [1, 2]}).write_parquet(path)
    good, _, said = read_noticed(path)
    assert good["user_id"].to_list() == [1, 2]
    assert "column 'user_id' has the type double; its whole numbers are read as the integers of user_id" in said


@pytest.mark.parametrize(
    ("ratings", "says"),
    [
        ([0] * 6 + [1, 2, 3, 4, 5], "6 rows: rating is 0, the others are 1 or more"),
        ([99, 1, 2, 3, 4], "1 row: rating is 99, far above the others"),
        ([0, 1, 2, 3, 4, 5], ""),
        ([0, 0, 0.5, 1, 2], ""),
        ([99, 98, 50, 1], ""),
    ],
)
def test_ratings_that_stand_for_none(tmp_path: Path, ratings: list[float], says: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,rating\n" + "".join(f"1,{k},{r}\n" for k, r in enumerate(ratings)))
    assert read_all(path).startswith(says)
    assert bool(read_all(path)) == bool(says)


def test_an_id_that_is_no_number_is_missing(tmp_path: Path) -> None:
    """NaN stands for a missing value in a column of floats; it is not a number too large."""
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user_id": [1.0, float("nan"), 2.0**53], "item_id": [7, 8, 9]}).write_parquet(path)
    good, bad = read_log(path)
    assert good["user_id"].to_list() == [1]
    assert bad["reason"].str.slice(0, 20).to_list() == ["user_id is missing", "user_id is too large"]
