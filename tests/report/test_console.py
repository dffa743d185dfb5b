"""Results of verbs as tables."""

from __future__ import annotations

import pytest

from distill_at_scale.pipelines.evaluate import Evaluation, ModelRef
from distill_at_scale.report import show_evaluation


def test_what_was_not_measured_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    """A catalogue of one item has no pairs for auc."""
    model = ModelRef.model_construct(name="popularity", uri="model")
    made = Evaluation.model_construct(
        metrics={"ndcg@10": 1.0, "auc": float("nan")},
        standard_errors={"ndcg@10": 0.25, "auc": None},
        model=model,
        split="test",
        n_users=3,
        n_heldout=3,
        tied_hits=0.0,
    )
    show_evaluation(made)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["ndcg@10", "100.00", "±", "25.00"] in lines
    assert ["auc", "–"] in lines
