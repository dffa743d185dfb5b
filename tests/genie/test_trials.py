"""Cells of trials against their definition."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from distill_at_scale.evaluation.retention import kendall_tau, retention
from distill_at_scale.genie.cells import cells
from distill_at_scale.genie.trials import FULL, METRICS, as_trials

MODELS = ("a", "b", "c", "d")
RANKING = [metric for metric in METRICS if metric != "auc"]


def trial(method: str, budget: float, seed: int, model: str, **more: Any) -> dict[str, Any]:
    """A trial whose numbers are a hash of what it is."""
    rng = np.random.default_rng([ord(model), round(1000 * budget), seed, len(method)])
    row = {
        "dataset": "data",
        "fingerprint": "f",
        "method": method,
        "budget": budget,
        "seed": seed,
        "model": model,
        "status": "done",
        "reason": "",
        "rows": round(1000 * budget),
        "share": budget,
        "bytes": 10,
        "make_cpu_s": 2.0,
        "make_wall_s": 3.0,
        "fit_cpu_s": float(rng.random()),
        "fit_wall_s": 1.0,
        **{metric: float(rng.random()) for metric in METRICS},
        "resampled": {metric: rng.random(100).tolist() for metric in RANKING},
    }
    return {**row, **more}


def rows(seeds: int) -> list[dict[str, Any]]:
    keys = [(FULL, 1.0), ("random", 0.1), ("random", 0.5), ("head_users", 0.1)]
    return [trial(*key, seed, model) for key in keys for seed in range(seeds) for model in MODELS]


def scores(found: list[dict[str, Any]], method: str, budget: float, seed: int) -> dict[str, dict[str, float]]:
    return {
        row["model"]: {metric: row[metric] for metric in METRICS}
        for row in found
        if (row["method"], row["budget"], row["seed"]) == (method, budget, seed)
    }


def test_cells_are_means_of_retention() -> None:
    found = rows(seeds=3)
    table = cells(as_trials(found))
    assert table.select("method", "budget").rows() == [("head_users", 0.1), ("random", 0.1), ("random", 0.5)]
    for cell in table.iter_rows(named=True):
        each = [
            retention(scores(found, FULL, 1.0, seed), scores(found, cell["method"], cell["budget"], seed), METRICS)
            for seed in range(3)
        ]
        assert cell["tau"] == pytest.approx(np.mean([one.tau for one in each]))
        assert cell["kept"] == pytest.approx(np.mean([one.mean_kept("ndcg@10") for one in each]))
        by_model = json.loads(cell["kept_by_model"])
        assert by_model["c"] == pytest.approx(np.mean([one.kept["c"]["ndcg@10"] for one in each]))
        assert (cell["n_seeds"], cell["n_models"], cell["make_cpu_s"]) == (3, 4, 2.0)
        fits = [row for row in found if (row["method"], row["budget"]) == (cell["method"], cell["budget"])]
        assert cell["fit_cpu_s"] == pytest.approx(sum(row["fit_cpu_s"] for row in fits) / 3)
        assert cell["kept_low"] < cell["kept_high"]


def resampled_of_seed(found: list[dict[str, Any]], seed: int) -> tuple[list[float], list[float]]:
    """Share kept and τ of (random, .5) over each resample, by their definitions."""
    pick = {row["model"]: row for row in found if (row["method"], row["budget"], row["seed"]) == ("random", 0.5, seed)}
    whole = {row["model"]: row for row in found if row["method"] == FULL and row["seed"] == seed}
    kept, taus = [], []
    for k in range(100):
        values = {m: (whole[m]["resampled"], pick[m]["resampled"]) for m in MODELS}
        kept.append(float(np.mean([small["ndcg@10"][k] / full["ndcg@10"][k] for full, small in values.values()])))
        of_metrics = [
            kendall_tau([v[0][metric][k] for v in values.values()], [v[1][metric][k] for v in values.values()])
            for metric in RANKING
        ]
        auc = kendall_tau([whole[m]["auc"] for m in MODELS], [pick[m]["auc"] for m in MODELS])
        taus.append(float(np.mean([*(tau or 0.0 for tau in of_metrics), auc])))
    return kept, taus


def narrow(row: dict[str, Any]) -> dict[str, Any]:
    """The same trial with resamples that lie near its value."""
    rng = np.random.default_rng([ord(row["model"]), 7])
    near = {metric: (row[metric] * (1 + 0.02 * rng.standard_normal(100))).tolist() for metric in RANKING}
    return {**row, "resampled": near}


def test_the_interval_of_one_seed_is_of_users_only() -> None:
    found = list(map(narrow, rows(seeds=1)))
    (cell,) = cells(as_trials(found)).filter(method="random", budget=0.5).to_dicts()
    kept, taus = resampled_of_seed(found, 0)
    for name, values in (("kept", kept), ("tau", taus)):
        half = 1.6604 * np.std(values, ddof=1)  # t with 99 degrees of freedom
        ends = (cell[f"{name}_low"], cell[f"{name}_high"])
        assert ends == pytest.approx((cell[name] - half, cell[name] + half), rel=1e-3)
    assert cell["tau_resampled"] == pytest.approx(np.mean(taus), rel=1e-4)
    assert (cell["new_low"], cell["new_high"]) == (None, None)


def test_seeds_that_differ_widen_the_interval_by_students_t() -> None:
    found = list(map(narrow, rows(seeds=2)))
    (cell,) = cells(as_trials(found)).filter(method="random", budget=0.5).to_dicts()
    each = [
        retention(scores(found, FULL, 1.0, seed), scores(found, "random", 0.5, seed), METRICS).mean_kept("ndcg@10")
        for seed in range(2)
    ]
    # The seeds differ by far more than the users do, so that the interval is Student's of one degree of freedom.
    half = 6.3138 * np.std(each, ddof=1)
    assert cell["kept_high"] - cell["kept"] == pytest.approx(half / np.sqrt(2), rel=0.05)
    assert cell["new_high"] - cell["kept"] == pytest.approx(half * np.sqrt(1.5), rel=0.05)
    assert (cell["kept_low"], cell["new_low"]) == (max(0.0, cell["kept_low"]), 0.0)


def test_only_what_was_done_on_both_sides_counts() -> None:
    found = rows(seeds=2)
    for row in found:
        if row["method"] == "random" and row["model"] == "d" and row["seed"] == 1:
            row |= {"status": "failed", "reason": "lost", **dict.fromkeys(METRICS), "resampled": None}
    table = cells(as_trials(found))
    counts = {(c["method"], c["budget"]): c["n_models"] for c in table.iter_rows(named=True)}
    assert counts == {("head_users", 0.1): 4, ("random", 0.1): 3, ("random", 0.5): 3}
    # What one method lost in most of its cells is compared for none, and a ranking of fewer models is not one of all.
    assert table["models"].to_list() == [["a", "b", "c"]] * 3
    assert (table["tau"].is_null() == (table["n_models"] < 4)).all()
    alone = cells(as_trials([row for row in found if row["model"] == "a"]))
    assert alone["models"].to_list() == [["a"]] * 3
    assert alone["tau"].null_count() == 3
    assert cells(as_trials([row for row in found if row["method"] != FULL])).is_empty()


def test_trials_without_resamples_have_no_interval() -> None:
    found = [{**row, "resampled": None} for row in rows(seeds=1)]
    table = cells(as_trials(found))
    assert table["tau_low"].null_count() == table["kept_high"].null_count() == len(table)
    assert table["kept"].null_count() == 0
