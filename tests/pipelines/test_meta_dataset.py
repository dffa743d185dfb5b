"""The meta-dataset: logs made, prepared, swept and gathered; what is done is not done again."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.workflows.meta_dataset import meta_dataset, prepare_corpus

LOG = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


def write_sources(folder: Path) -> None:
    """Logs that are named like two of the real ones, with as much as their cuts need."""
    rows = [
        f"{u}\t{(7 * u + 3 * k) % 90}\t{1 + k % 5}\t{1_500_000_000 + 50 * u + k}\n"
        for u in range(120)
        for k in range(20)
    ]
    (folder / "ml-100k.inter").write_text(LOG + "".join(rows))
    lengths = [18 + u % 3 for u in range(120)]
    sequences = [" ".join(map(str, (u, *((7 * u + 3 * k) % 90 for k in range(n))))) for u, n in enumerate(lengths)]
    (folder / "amazon-beauty-5core.txt").write_text("\n".join(sequences) + "\n")


@pytest.mark.slow
def test_real_logs_are_cut_and_those_that_are_not_there_left_out(ray_session: None, tmp_path: Path) -> None:
    write_sources(tmp_path)
    names = ["ml-100k--late", "toys--core", "beauty--core"]
    core, late = sorted(prepare_corpus(str(tmp_path), str(tmp_path / "meta"), names), key=lambda made: made.uri)
    assert late.manifest.split_rule["name"] == "leave_2"
    # The last 35 % of the rows by time, less what the core of three rows loses.
    log = pl.read_parquet(tmp_path / "meta" / "logs" / "ml-100k--late.parquet")
    assert 0 < late.n_rows == log.height <= 0.35 * 2400
    assert log["timestamp"].min() >= 1000 * (1_500_000_000 + 50 * 60)  # type: ignore[operator]
    before = (tmp_path / "meta" / "data" / "ml-100k--late" / "manifest.json").stat().st_mtime_ns
    # Places in a sequence are times as they are.
    assert (core.n_rows, core.manifest.has_timestamps) == (40 * (18 + 19 + 20), True)
    (again,) = prepare_corpus(str(tmp_path), str(tmp_path / "meta"), names[:1])
    assert again.manifest.fingerprint == late.manifest.fingerprint
    assert (tmp_path / "meta" / "data" / "ml-100k--late" / "manifest.json").stat().st_mtime_ns == before


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DasError, match="unknown dataset 'nowhere'"):
        prepare_corpus(None, str(tmp_path), ["nowhere"])


@pytest.mark.slow
def test_every_trial_is_gathered_once(ray_session: None, tmp_path: Path) -> None:
    settings = {"methods": ["random", "head_users"], "budgets": [0.3, 0.6], "models": ["popularity", "ease"]}
    names = ["generated-13"]
    found = meta_dataset(None, str(tmp_path), names, **settings)  # type: ignore[arg-type]
    data = Dataset.open(str(tmp_path / "data" / "generated-13"))
    assert found["fingerprint"].unique().to_list() == [data.manifest.fingerprint]
    assert found.height == 2 + 2 * 2 * 2
    assert found["status"].unique().to_list() == ["done"]
    # Time that is up begins nothing, and what is there is gathered.
    again = meta_dataset(None, str(tmp_path), names, time_budget_s=0.0, **settings)  # type: ignore[arg-type]
    assert again.equals(found)
    assert pl.read_parquet(tmp_path / "trials.parquet").equals(found)
