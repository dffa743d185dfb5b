"""Cells of invented sweeps: what a method keeps follows a rule that can be learned from the features."""

from __future__ import annotations

import json

import numpy as np
import polars as pl

METHODS = ("dull", "dense_lover", "sparse_lover")
BUDGETS = (0.02, 0.1, 0.5)
NAMES = ("log_rows", "log_user_mean", "log_item_mean", "log_users", "log_density", "constant")


def make_features(n: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """By fingerprint; ``constant`` is the same for all, the others are drawn."""
    rng = np.random.default_rng(seed)
    return {
        f"f{k:02d}": {
            "log_rows": rng.uniform(8, 10),
            "log_user_mean": rng.uniform(2, 4),
            "log_item_mean": rng.uniform(2, 4),
            "log_users": rng.uniform(6, 7),
            "log_density": rng.uniform(-4, -1),
            "constant": 1.0,
        }
        for k in range(n)
    }


def kept(method: str, budget: float, features: dict[str, float]) -> float:
    """Dense data suit the one method, sparse data the other; more rows are better."""
    lean = {"dull": 0.0, "dense_lover": 0.15, "sparse_lover": -0.15}[method]
    return 0.9 + 0.1 * float(np.log(budget)) + lean * (features["log_density"] + 2.5)


def make_cells(features: dict[str, dict[str, float]], noise: float = 0.02, seed: int = 1) -> pl.DataFrame:
    """Cells as :func:`distill_at_scale.genie.cells.cells` gives them."""
    rng = np.random.default_rng(seed)
    rows = []
    for fingerprint, of in features.items():
        for method in METHODS:
            for budget in BUDGETS:
                value = kept(method, budget, of) + noise * rng.standard_normal()
                rows.append(
                    {
                        "dataset": f"data-{fingerprint}",
                        "fingerprint": fingerprint,
                        "method": method,
                        "budget": budget,
                        "share": budget,
                        "tau": float(np.clip(1.5 * value - 0.6, -1, 1)),
                        "kept": value,
                        "kept_by_model": json.dumps({"ease": value - 0.01, "popularity": value + 0.01}),
                        "make_cpu_s": 0.5 + 1e-4 * float(np.exp(of["log_rows"])),
                        "fit_cpu_s": 10 * budget,
                        "fit_full_cpu_s": 10.0,
                        "n_seeds": 2,
                        "n_models": 4,
                    }
                )
    return pl.DataFrame(rows)
