"""What evaluate measures of models that predict ratings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from prepare_kit import inline_prepare, random_rows, write_logs

from distill_at_scale.errors import DasError
from distill_at_scale.models import create_model
from distill_at_scale.pipelines.evaluate import measure, weights

EXPLICIT = {"objective": "explicit", "metric": "mse", "epochs": 5, "learning_rate": 0.01, "device": "cpu"}


def test_mse_is_that_of_the_held_out_ratings(tmp_path: Path) -> None:
    logs = write_logs(tmp_path, random_rows(8, 2000, 100, 50), 1)
    data = inline_prepare(input=logs, output=str(tmp_path / "data"), shards=2, min_user=4)
    model = create_model("bias", EXPLICIT).fit(data.interactions("train"), data.interactions("validation"))
    found = measure(data, range(2), model, weights(data.uri), "test", (10,), 0).result()
    errors = []
    for shard in range(2):
        histories, heldout = data.histories("test", shard)
        scores = model.score(histories)
        assert heldout.ratings is not None
        for k in range(len(heldout)):
            rows = range(heldout.offsets[k], heldout.offsets[k + 1])
            errors += [float(scores[k, heldout.items[row]]) - float(heldout.ratings[row]) for row in rows]
    assert found.metrics["mse"] == pytest.approx(np.mean(np.square(errors)), rel=1e-6)
    assert "ndcg@10" in found.metrics
    implicit = create_model("popularity", {}).fit(data.interactions("train"))
    assert "mse" not in measure(data, [0], implicit, weights(data.uri), "test", (10,), 0).result().metrics


def test_ratings_are_not_learned_where_there_are_none(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,timestamp\n" + "".join(f"{k % 9},{k % 7},{1_600_000_000 + k}\n" for k in range(60)))
    data = inline_prepare(input=[str(log)], output=str(tmp_path / "data"))
    with pytest.raises(DasError, match="bias: objective=explicit learns ratings, but there are none; set implicit"):
        create_model("bias", EXPLICIT).fit(data.interactions("train"), data.interactions("validation"))
