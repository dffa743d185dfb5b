"""prepare against its naive twin: the same users, items, rows, splits and counts of everything dropped."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prepare_kit import checksums, frame, inline_prepare, random_rows, read_back, write_logs
from prepare_twin import NothingLeft, naive_prepare

import distill_at_scale as das
from distill_at_scale.data.readers import plan_log
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines import prepare as verb
from distill_at_scale.pipelines.preparing import job
from distill_at_scale.settings import load

START = 1_000_000_000
INT_IDS = (0, 1, -1, 7, 10**12, 2**63 - 1, -(2**63), 2**32)
STRING_IDS = ("1", "01", "1.0", "a", "Ä", "it's", '"q"', "x,y", " ", "\u2028", "z" * 1000)


@st.composite
def jobs(draw: Any) -> tuple[list[tuple], dict[str, Any]]:
    """A small log, dense enough for duplicates, ties and k-core cascades, and settings that fit it."""
    ids = draw(st.sampled_from([INT_IDS, STRING_IDS]))
    split = draw(st.sampled_from(["leave_2", "20_percent_hist", "temporal", "column"]))
    rated, timed = draw(st.booleans()), split in ("leave_2", "temporal") or draw(st.booleans())
    row = st.tuples(
        st.sampled_from(ids[: draw(st.integers(1, len(ids)))]),
        st.sampled_from(ids[: draw(st.integers(1, len(ids)))]),
        st.sampled_from([-2.5, 0.0, 0.1, 1.0, 4.0, 4.5]).map(lambda r: np.float32(r).item()) if rated else st.none(),
        st.integers(0, draw(st.sampled_from([1, 5, 10**9]))).map(lambda s: 1000 * (START + s)) if timed else st.none(),
        st.sampled_from([-1, 0, 0, 1, 2]) if split == "column" else st.none(),
    )
    asked = {
        "split": split,
        "seed": draw(st.integers(0, 3)),
        "min_user": draw(st.integers(1, 4)),
        "min_item": draw(st.integers(1, 4)),
        "duplicates": draw(st.sampled_from(["last", "first", "all"])),
        "min_rating": draw(st.sampled_from([None, 0.1, 4.0])) if rated else None,
        "validation_share": draw(st.sampled_from([0.1, 0.3])) if split == "temporal" else 0.1,
        "test_share": draw(st.sampled_from([0.1, 0.45])) if split == "temporal" else 0.1,
    }
    return draw(st.lists(row, min_size=1, max_size=70)), asked


def assert_equal_to_twin(folder: Path, inputs: list[str], rows: list, shards: int, prepare: Any, **asked: Any) -> None:
    output = str(folder / "out")
    try:
        expected = naive_prepare(rows, n_shards=shards, **asked)
    except NothingLeft:
        with pytest.raises(DasError, match=r"no rows are left|leaves no train rows"):
            prepare(input=inputs, output=output, shards=shards, **asked)
        return
    prepare(input=inputs, output=output, shards=shards, **asked)
    assert read_back(output) == expected


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(job=jobs(), shards=st.sampled_from([1, 2, 3, 8]), files=st.integers(1, 3))
@example(job=([(5, 6, None, 1000 * START, None)], {"split": "temporal"}), shards=1, files=1)
@example(job=([(5, 6, None, None, 0)], {"split": "column"}), shards=8, files=1)
def test_any_small_log(job: tuple, shards: int, files: int) -> None:
    rows, asked = job
    folder = Path(tempfile.mkdtemp(prefix="das-twin-"))
    try:
        inputs = write_logs(folder / "log", rows, files, ".parquet")
        assert_equal_to_twin(folder, inputs, rows, shards, inline_prepare, **asked)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("strings", [False, True])
def test_cascade_takes_several_rounds(tmp_path: Path, strings: bool) -> None:
    """A chain: each round one user falls, which takes an item below its minimum, which takes the next user."""
    name = str if strings else int
    links = [(name(k), name(k + d), 1.0, 1000 * (START + 10 * k + d), None) for k in range(12) for d in (0, 1)]
    block = [(name(100 + u), name(100 + i), 1.0, 1000 * (START + i), None) for u in range(3) for i in range(3)]
    inputs = write_logs(tmp_path / "log", links + block, 2, ".parquet")
    asked = {"split": "temporal", "min_user": 2, "min_item": 2}
    assert_equal_to_twin(tmp_path, inputs, links + block, 3, inline_prepare, **asked)
    run = read_back(str(tmp_path / "out"))
    assert (run["n_users"], run["n_items"], run["dropped"]["min_item"] + run["dropped"]["min_user"]) == (3, 3, 24)


@pytest.mark.parametrize(
    ("validation", "test", "sizes"), [(0.3, 0.4, [3, 3, 4]), (0.1, 0.1, [8, 1, 1]), (0.4, 0.05, [5, 4, 1])]
)
def test_temporal_shares(tmp_path: Path, validation: float, test: float, sizes: list[int]) -> None:
    """Of ten rows at ten times; a share that is no whole number of rows gives the rest to the later split."""
    rows = [(k % 2, k, None, 1000 * (START + k), None) for k in range(10)]
    inputs = write_logs(tmp_path / "log", rows, 1)
    asked = {"split": "temporal", "validation_share": validation, "test_share": test}
    assert_equal_to_twin(tmp_path, inputs, rows, 2, inline_prepare, **asked)
    assert list(read_back(str(tmp_path / "out"))["splits"].values()) == sizes


@pytest.mark.parametrize(("rows_a_shard", "relation"), [(16, "more"), (150, "fewer")])
def test_estimate_that_misses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_a_shard: int, relation: str
) -> None:
    """Text is only estimated, so rows are dealt into more, or fewer, buckets than there are shards."""
    rows = random_rows(3, 900, 80, 40)
    path = tmp_path / "log.csv"
    body = frame(rows).write_csv()
    # The estimate for text is doubled to be safe; long lines at the head make it far too small all the same.
    long = "".join(f"{u},{i},{r}{'0' * 3000},{(t or 0) // 1000}\n" for u, i, r, t, _ in rows[:30])
    head, *lines = body.splitlines()
    if relation == "fewer":
        path.write_text(head + "\n" + long + "\n".join(lines[30:]) + "\n")
    else:
        path.write_text(body)
    monkeypatch.setattr(job, "ROWS_A_SHARD", rows_a_shard)
    config = load(verb.PrepareConfig, settings={"input": [str(path)], "output": str(tmp_path / "out")})
    estimate = plan_log(config)[2]
    n_shards = job.PrepareJob.of(config).n_shards(len(rows))
    n_dealt = job.PrepareJob.of(config).n_dealt(estimate)
    assert n_dealt > n_shards if relation == "more" else n_dealt < n_shards
    inline_prepare(input=[str(path)], output=str(tmp_path / "out"))
    assert read_back(str(tmp_path / "out")) == naive_prepare(rows, n_shards=n_shards)


@pytest.mark.parametrize(("n_dealt", "n_shards"), [(1, 3), (2, 3), (3, 8), (8, 3), (5, 5), (7, 2)])
def test_buckets_need_not_match_shards(tmp_path: Path, n_dealt: int, n_shards: int) -> None:
    """Whatever the number of buckets that rows are dealt into, a shard gathers exactly its users' rows."""
    rows = random_rows(4, 400, 60, 30, strings=True)
    inputs = write_logs(tmp_path / "log", rows, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job.PrepareJob, "n_dealt", lambda self, estimate: n_dealt)
        assert_equal_to_twin(tmp_path, inputs, rows, n_shards, inline_prepare, split="20_percent_hist", seed=5)


@pytest.mark.parametrize(
    ("strings", "suffix", "shards", "asked"),
    [
        (False, ".parquet", 8, {"split": "leave_2", "min_user": 4, "min_item": 3}),
        (True, ".csv", 3, {"split": "20_percent_hist", "seed": 11, "min_rating": 2.0, "duplicates": "first"}),
        (True, ".parquet", 1, {"split": "temporal", "duplicates": "all", "min_item": 5}),
    ],
)
def test_through_ray(
    ray_session: None, tmp_path: Path, strings: bool, suffix: str, shards: int, asked: dict[str, Any]
) -> None:
    rows = random_rows(7, 1200, 90, 60, strings)
    inputs = write_logs(tmp_path / "log", rows, 3, suffix)
    assert_equal_to_twin(tmp_path, inputs, rows, shards, das.prepare, **asked)


def test_ray_gives_what_the_plain_loop_gives(ray_session: None, tmp_path: Path) -> None:
    rows = [(*row[:4], k % 4 - 1) for k, row in enumerate(random_rows(8, 600, 40, 30))]
    inputs = write_logs(tmp_path / "log", rows, 2)
    asked = {"input": inputs, "split": "column", "shards": 3, "min_user": 2}
    through_ray = das.prepare(**asked, output=str(tmp_path / "ray"))
    plain = inline_prepare(**asked, output=str(tmp_path / "plain"))
    assert checksums(through_ray) == checksums(plain)
    assert through_ray.manifest == plain.manifest
