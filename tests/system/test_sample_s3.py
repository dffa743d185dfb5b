"""das sample wholly on s3://, beside the same on local disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import distill_at_scale as das
from distill_at_scale.data import storage


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("sampler", ["stratified", pytest.param("centrality", marks=pytest.mark.slow)])
def test_samples_on_s3_are_those_on_disk(sampler: str, s3_folder: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    log = pl.DataFrame({"user_id": rng.integers(0, 80, 1500), "item_id": rng.integers(0, 50, 1500)})
    log.with_columns(timestamp=1_600_000_000 + pl.int_range(1500)).write_csv(tmp_path / "log.csv")
    made = []
    for folder in (str(tmp_path), s3_folder):
        data = das.prepare(input=[str(tmp_path / "log.csv")], output=storage.join(folder, "data"), shards=3)
        output = storage.join(folder, "samples")
        result = das.sample(data=data.uri, sampler=sampler, budget="0.5,0.2", output=output)
        for record in result.samples:
            das.inspect(data=record.uri, verify=True)
        made.append([record.fingerprint for record in result.samples])
        assert not [f.uri for f in storage.list_files(output) if "_work" in f.uri]
    assert made[0] == made[1]
