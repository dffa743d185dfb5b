"""Row scores by proxies trained on Ray Train: those of the same training without Ray, in the order of the rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from prepare_kit import inline_prepare, random_rows, write_logs

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.models.training.sources import ShardSource
from distill_at_scale.models.training.trainer import Trainer
from distill_at_scale.pipelines.runtime import run_record
from distill_at_scale.pipelines.training.svp_row_scores import score_rows
from distill_at_scale.samplers.svp import row_scores
from distill_at_scale.samplers.svp.proxies import hardness, proxy_model

EPOCHS = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("proxies")
    logs = write_logs(folder, random_rows(6, 2000, 100, 50), 1)
    return inline_prepare(input=logs, output=str(folder / "data"), shards=2, min_user=4)


def slow_scores(data: Dataset) -> list[np.ndarray]:
    """The mean over the epochs, one process, everything in memory."""
    model = proxy_model("mf", "explicit", data.manifest.splits["train"], data.n_items, 7, EPOCHS)
    source = ShardSource(data, validation=False)
    trainer = Trainer(model, source, torch.device("cpu"))
    found: list[list[np.ndarray]] = [[], []]

    def after_step() -> None:
        if trainer.step == 0:
            trainer.module.eval()
            for shard in range(2):
                rng = np.random.default_rng(0)  # nothing is drawn for squared errors
                found[shard].append(hardness(model, trainer.module, source.train(shard), rng))

    trainer.run(after_step=after_step)
    return [np.mean(each, axis=0) for each in found]


@pytest.mark.slow
def test_scores_are_the_mean_over_the_epochs(data: Dataset, tmp_path: Path, ray_session: None) -> None:
    uri = str(tmp_path / "svp-mf-7")
    record = run_record.RunRecord("sample", {})
    asked = {"proxy": "mf", "objective": "explicit", "seed": 7, "epochs": EPOCHS}
    manifest = score_rows(record, data, uri, **asked)
    assert row_scores.open_scores(uri, data) == manifest
    for shard, expected in enumerate(slow_scores(data)):
        found = row_scores.read_part(uri, manifest, shard, data.shards[shard].splits["train"])
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    assert sorted(path.name for path in Path(uri).iterdir()) == [
        "part-00000.parquet",
        "part-00001.parquet",
        "row_scores.json",
    ]
    assert score_rows(record, data, uri, **asked) == manifest
    assert [stage.stage for stage in record.stages] == ["train mf proxy", "write row scores"]
    with pytest.raises(DasError, match="holds row scores of other settings"):
        score_rows(record, data, uri, **{**asked, "epochs": 4})
    assert score_rows(record, data, uri, **{**asked, "epochs": 4}, overwrite=True).epochs == 4
    assert row_scores.open_scores(uri, data).epochs == 4
