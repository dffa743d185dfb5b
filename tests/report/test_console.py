"""Results of verbs as tables."""

from __future__ import annotations

import pytest

from distill_at_scale.pipelines.attribute import AttributeResult
from distill_at_scale.pipelines.evaluate import Evaluation, ModelRef, SampledUsers
from distill_at_scale.report import show_attributed, show_evaluation


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
    shown = capsys.readouterr().out
    assert "3 users, 3 held-out rows" in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["ndcg@10", "100.00", "±", "25.00"] in lines
    assert ["auc", "–"] in lines
    show_evaluation(made.model_copy(update={"resampled": {"ndcg@10": [float("nan"), *(k / 100 for k in range(101))]}}))
    shown = capsys.readouterr().out
    assert "resampled users, 90 %" in shown
    assert "5.00 to 95.00" in shown


def test_an_evaluation_of_one_user_claims_no_interval(capsys: pytest.CaptureFixture[str]) -> None:
    made = Evaluation.model_construct(
        metrics={"ndcg@10": 1.0},
        standard_errors={"ndcg@10": None},
        sampled=SampledUsers(asked=1, drawn=1, of=1000, intervals={}),
        model=ModelRef.model_construct(name="popularity", uri="model"),
        split="test",
        n_users=1,
        n_heldout=1,
        tied_hits=0.0,
    )
    show_evaluation(made)
    shown = capsys.readouterr().out
    assert "1 user, 1 held-out row" in shown
    assert "1 of 1,000 users, drawn by a hash of their ids; too few for an interval." in shown


def test_values_say_what_is_there_and_what_to_do_with_them(capsys: pytest.CaptureFixture[str]) -> None:
    cost = {"wall_s": 34.17, "cpu_s": 21.969, "peak_mib": 747.7}
    rows = {"uri": "my values.parquet", "data": "5", "loss": 0.12324030140015212, "rows": 98114, "harmful": 49501}
    show_attributed(AttributeResult(model="ease", lam=100.0, steps=None, settings={"lam": 100}, **rows, **cost))
    shown = capsys.readouterr().out
    assert "None" not in shown
    assert "settings" not in shown
    assert "98,114; 49,501 of them below 0: the loss would fall if they counted less" in shown
    assert "--sampler column=value --scores 'my values.parquet' --budget" in shown
    rated = {"attributed_users": 50, "rank_correlation": 0.418, "steps": 6, "settings": {"epochs": 2}}
    show_attributed(AttributeResult(model="mf", lam=None, **rated, **rows, **cost))
    shown = capsys.readouterr().out
    assert "None" not in shown
    assert "epochs=2" in shown
    assert "50 users were attributed" in shown
    assert "(rank correlation 0.42 on users left out)" in shown
    assert "keep the best" in shown
    note = "On users left out the scores hardly follow the values."
    show_attributed(AttributeResult(model="mf", lam=None, **rated, notes=[note], **rows, **cost))
    shown = capsys.readouterr().out
    assert note in shown
    assert "das sample" not in shown
