"""Cells of trials against their definition."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from distill_at_scale.evaluation.retention import kendall_tau, retention
from distill_at_scale.genie.trials import FULL, METRICS, as_trials, cells

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


def test_intervals_of_one_seed_are_quantiles_over_the_resamples() -> None:
    found = rows(seeds=1)
    (cell,) = cells(as_trials(found)).filter(method="random", budget=0.5).to_dicts()
    pick = {row["model"]: row for row in found if (row["method"], row["budget"]) == ("random", 0.5)}
    whole = {row["model"]: row for row in found if row["method"] == FULL}
    kept, taus = [], []
    for k in range(100):
        values = {m: (whole[m]["resampled"], pick[m]["resampled"]) for m in MODELS}
        kept.append(np.mean([small["ndcg@10"][k] / full["ndcg@10"][k] for full, small in values.values()]))
        of_metrics = [
            kendall_tau([v[0][metric][k] for v in values.values()], [v[1][metric][k] for v in values.values()])
            for metric in RANKING
        ]
        auc = kendall_tau([whole[m]["auc"] for m in MODELS], [pick[m]["auc"] for m in MODELS])
        taus.append(np.mean([*of_metrics, auc]))
    assert (cell["kept_low"], cell["kept_high"]) == pytest.approx(tuple(np.quantile(kept, [0.05, 0.95])), rel=1e-4)
    assert (cell["tau_low"], cell["tau_high"]) == pytest.approx(tuple(np.quantile(taus, [0.05, 0.95])), rel=1e-4)
    assert cell["tau_resampled"] == pytest.approx(np.mean(taus), rel=1e-4)
    assert cell["tau_resampled"] != pytest.approx(cell["tau"], rel=1e-3)


def test_only_what_was_done_on_both_sides_counts() -> None:
    found = rows(seeds=2)
    for row in found:
        if row["method"] == "random" and row["model"] == "d" and row["seed"] == 1:
            row |= {"status": "failed", "reason": "lost", **dict.fromkeys(METRICS), "resampled": None}
    table = cells(as_trials(found))
    counts = {(c["method"], c["budget"]): c["n_models"] for c in table.iter_rows(named=True)}
    assert counts == {("head_users", 0.1): 4, ("random", 0.1): 3, ("random", 0.5): 3}
    alone = [row for row in found if row["model"] == "a"]
    assert cells(as_trials(alone)).is_empty()


def test_trials_without_resamples_have_no_interval() -> None:
    found = [{**row, "resampled": None} for row in rows(seeds=1)]
    table = cells(as_trials(found))
    assert table["tau_low"].null_count() == table["kept_high"].null_count() == len(table)
    assert table["kept"].null_count() == 0
