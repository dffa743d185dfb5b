"""Tests the advice of `das recommend` on logs of families that Data-Genie was not trained on.

    python jobs/bench_recommend.py [--kinds means,ridge] --output jobs/results/recommend.json

One part of the families of the package's cells is held out at a time. Between the budgets that were tried, and up to
all rows, the share that a method keeps is interpolated in the logarithm of the budget. How much narrower than
Data-Genie's intervals the deviation is (`PREDICTED`) is chosen, too: for each part by the answers on the other parts,
which were held out themselves; what comes of it is judged on the part alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import distill_at_scale.genie
from distill_at_scale.genie.model import BUDGETS, DataGenie, bounded, families
from distill_at_scale.genie.probability import PREDICTED, Candidate, Z, advise, probability
from distill_at_scale.genie.regressors import KINDS, folds
from distill_at_scale.genie.saved import read_training
from distill_at_scale.genie.trials import FULL

PARTS = 8
RANDOM_USERS = "random_users"
KEEPS = (0.9, 0.95)
ALL = Candidate(FULL, 1.0, 1.0, 1.0)
Row = dict[str, Any]
HOLD = pl.col("really_kept") >= pl.col("keep") - 1e-6


def _with(factor: float) -> str:
    return f"probability, factor {factor:g}"


def by_probability(rows: Sequence[Row], keep: float, factor: float = PREDICTED) -> Candidate:
    """The advice of the command, with a standard deviation of ``factor`` times that of Data-Genie's intervals."""
    candidates = [
        Candidate(
            row["method"],
            row["budget"],
            probability(row["kept"], factor * (row["kept_high"] - row["kept"]) / Z, keep),
            row["kept"],
            row["make_cpu_s"],
        )
        for row in rows
    ]
    return advise([*candidates, ALL], RANDOM_USERS)[0]


def by_mean(rows: Sequence[Row], keep: float) -> Candidate:
    """Returns the smallest small dataset that is expected to keep enough."""
    enough = [Candidate(row["method"], row["budget"], 0.5, row["kept"]) for row in rows if row["kept"] >= keep]
    return min(enough, key=lambda one: (one.budget, -one.kept), default=ALL)


def random_users(rows: Sequence[Row], keep: float) -> Candidate:
    """The advice, if there were no other method."""
    return by_probability([row for row in rows if row["method"] == RANDOM_USERS], keep)


FACTORS = (1.0, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
HOLDS = 0.9
"""Share of the answers that are to hold with a factor."""
CHOSEN = "probability, factor chosen on the other parts"
WAYS: dict[str, Callable[[Sequence[Row], float], Candidate]] = {
    "probability": by_probability,
    "always random_users, by probability": random_users,
    "mean, as before": by_mean,
    **{_with(factor): partial(by_probability, factor=factor) for factor in FACTORS},
}


def chosen(answers: pl.DataFrame) -> pl.DataFrame:
    """The answers on each part with the factor that is chosen on the others, and the factor."""
    found = []
    for part in answers["part"].unique().sort():
        factor = smallest_factor(answers.filter(pl.col("part") != part))
        own = answers.filter(pl.col("part") == part, pl.col("way") == _with(factor))
        found.append(own.with_columns(way=pl.lit(CHOSEN), factor=pl.lit(factor)))
    return pl.concat(found)


def smallest_factor(answers: pl.DataFrame) -> float:
    """The smallest factor with which enough answers hold, at each share to keep, and with every larger one as well."""
    enough = FACTORS[0]
    for factor in FACTORS:
        own = answers.filter(way=_with(factor))
        if any(own.filter(keep=keep).select(HOLD.mean()).item() < HOLDS for keep in KEEPS):
            break
        enough = factor
    return enough


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(KINDS), help="regressors to select from; default: all")
    parser.add_argument("--output", type=Path, required=True, help="file for the result, as JSON")
    options = parser.parse_args()
    command = f"python jobs/bench_recommend.py --kinds {options.kinds} --output FILE"
    answers = judge(options.kinds.split(","))
    apart = chosen(answers)
    print(
        "factors chosen by part", apart.group_by("part").agg(pl.col("factor").first()).sort("part")["factor"].to_list()
    )
    print("factor chosen on all parts", smallest_factor(answers))
    answers = pl.concat([answers.with_columns(factor=pl.lit(None, dtype=pl.Float64)), apart])
    summary = [_summary(answers.filter(way=way, keep=keep)) for keep in KEEPS for way in [*WAYS, CHOSEN]]
    answers = answers.filter(pl.col("way").is_in([*list(WAYS)[:3], CHOSEN]))
    options.output.write_text(
        json.dumps({"command": command, "summary": summary, "answers": answers.to_dicts()}, indent=1) + "\n"
    )


def judge(kinds: list[str]) -> pl.DataFrame:
    """An answer for each dataset, share to keep and way."""
    cells, features = read_training(str(Path(distill_at_scale.genie.__file__).parent / "trained"))
    cells = bounded(cells)
    part = folds(families(cells), PARTS)
    found = []
    for number in np.unique(part):
        genie = DataGenie.fit(cells.filter(part != number), features, kinds)
        for (name, fingerprint), own in cells.filter(part == number).group_by("dataset", "fingerprint"):
            rows = genie.predict(features[str(fingerprint)], own["method"].unique().to_list()).to_dicts()
            for keep in KEEPS:
                least = min(_least(own, method, keep) for method in own["method"].unique())
                for way, decide in WAYS.items():
                    one = decide(rows, keep)
                    found.append(
                        {
                            "dataset": name,
                            "part": int(number),
                            "keep": keep,
                            "way": way,
                            "method": one.method,
                            "budget": one.budget,
                            "really_kept": round(_kept(own, one.method, one.budget), 4),
                            "least": least,
                            "least_random_users": _least(own, RANDOM_USERS, keep),
                        }
                    )
    return pl.DataFrame(found)


def _kept(cells: pl.DataFrame, method: str, budget: float) -> float:
    own = cells.filter(method=method).sort("budget")
    at = np.append(np.log(own["budget"].to_numpy()), 0.0)
    return 1.0 if method == FULL else float(np.interp(np.log(budget), at, np.append(own["kept"].to_numpy(), 1.0)))


def _least(cells: pl.DataFrame, method: str, keep: float) -> float:
    """Returns the smallest budget at which a method keeps enough, as measured."""
    return next((budget for budget in BUDGETS if _kept(cells, method, budget) >= keep), 1.0)


def _summary(answers: pl.DataFrame) -> dict[str, Any]:
    smaller = answers.filter(pl.col("budget") < 1)
    return {
        "keep": answers["keep"][0],
        "way": answers["way"][0],
        "answers": answers.height,
        "smaller_than_all": smaller.height,
        "of_these_keep": _rounded(smaller.select(HOLD.mean()).item()),
        "median_budget": _rounded(answers["budget"].median()),
        "median_regret_in_rows": _rounded((answers["budget"] / answers["least"]).median()),
        "median_regret_to_random_users": _rounded((answers["budget"] / answers["least_random_users"]).median()),
        "random_users_advised": _rounded((answers["method"] == RANDOM_USERS).mean()),
    }


def _rounded(value: Any) -> float | None:
    return None if value is None else round(float(value), 3)


if __name__ == "__main__":
    main()
