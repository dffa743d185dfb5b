"""Results show a line and a table, in a console and in a notebook; their fields stay what `--json` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distill_at_scale.evaluation.retention import Retention
from distill_at_scale.pipelines.compare import Compared, Comparison
from distill_at_scale.pipelines.evaluate import Evaluation
from distill_at_scale.pipelines.sample import SampleRecord, Samples
from distill_at_scale.pipelines.sweeps.evaluations import Trained

DATA: dict[str, Any] = {"uri": "s3://b/<data>", "fingerprint": "f", "train_rows": 1000}


def trained(ndcg: float) -> Trained:
    return Trained(metrics={"ndcg@10": ndcg}, standard_errors={"ndcg@10": 0.01}, fit_wall_s=1, fit_cpu_s=1)


def comparison() -> Comparison:
    kept = Retention(tau=1.0, tau_by_metric={"ndcg@10": 1.0}, kept={"ease": {"ndcg@10": 0.9}, "mf": {"ndcg@10": 0.8}})
    small = Compared(
        uri="s3://b/small",
        fingerprint="g",
        method="random",
        budget=0.1,
        seed=0,
        share=0.1,
        retention=kept,
        models={"ease": trained(0.27), "mf": trained(0.16)},
    )
    full = {"ease": trained(0.3), "mf": trained(0.2)}
    return Comparison(
        uri="s3://b/c",
        data=DATA,
        metrics=["ndcg@10"],
        chosen_by="ndcg@10",
        notes=[],
        full=full,
        small=[small],
        wall_s=1,
    )


def test_an_evaluation_is_a_row_for_each_metric() -> None:
    result = Evaluation(
        metrics={"ndcg@10": 0.3},
        metrics_all_users={"ndcg@10": 0.2},
        standard_errors={"ndcg@10": None},
        n_users=1200,
        n_users_all=1500,
        n_heldout=1200,
        tied_hits=0,
        split="test",
        model={"uri": None, "name": "ease", "settings": {}},
        data=DATA,
        seed=0,
        wall_s=1,
        cpu_s=1,
    )
    assert result.to_frame().rows() == [("ndcg@10", 0.3, None, 0.2)]
    assert repr(result).startswith("Evaluation: ease on the test rows of 1,200 users of s3://b/<data>\n")
    assert "&lt;data&gt;" in result._repr_html_()
    assert "<data>" not in result._repr_html_()
    assert Evaluation.model_validate(result.model_dump()) == result


def test_a_comparison_is_a_row_for_each_model_on_each_dataset_and_a_figure() -> None:
    frame = comparison().to_frame()
    assert frame.columns == ["data", "method", "budget", "seed", "share", "model", "kept", "tau", "ndcg@10"]
    assert frame.select("method", "model", "kept", "ndcg@10").rows() == [
        ("full", "ease", 1.0, 0.3),
        ("full", "mf", 1.0, 0.2),
        ("random", "ease", 0.9, 0.27),
        ("random", "mf", 0.8, 0.16),
    ]
    assert "<svg" in comparison()._repr_html_()


def test_samples_are_a_row_for_each_budget() -> None:
    record = SampleRecord(uri="s3://b/s", budget=0.1, rows=100, share=0.1, users=9, items=8, fingerprint="f")
    result = Samples(sampler="random", seed=0, data=DATA, samples=[record], wall_s=1, cpu_s=1)
    assert result.to_frame()["rows"].to_list() == [100]
    assert "random, seed 0, of s3://b/<data> with 1,000 train rows" in repr(result)


def test_datasets_in_a_notebook(tmp_path: Path) -> None:
    import sys

    sys.path.insert(0, str(Path(__file__).parents[2] / "data"))
    from dataset_kit import write_dataset

    dataset = write_dataset(tmp_path / "data", [[(0, 0, 1.0, 1, 0)]], [1], 1)
    shown = dataset._repr_html_()
    assert "train rows</th><td>1</td>" in shown
