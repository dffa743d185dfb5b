"""Errors of forecasts from small nested samples of real logs, compared with fits on all rows.

    python jobs/bench_forecast.py judge --work WORK --output jobs/results/forecast.json
    python jobs/bench_forecast.py calibrate --work WORK --output distill_at_scale/learning_curves/calibration.json

WORK is that of bench_curves.py. ``judge`` forecasts each log from its rungs up to a tenth, and up to a fifth, in four
ways, and compares with the fits on all rows; the calibration comes from logs of other families. ``calibrate`` computes
the package's calibration from all logs.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from distill_at_scale.evaluation.retention import PRIMARY, kendall_tau
from distill_at_scale.genie.conformal import widths
from distill_at_scale.genie.trials import FULL
from distill_at_scale.learning_curves.calibration import Calibration
from distill_at_scale.learning_curves.cost import cost_law
from distill_at_scale.learning_curves.forecast import Forecast, forecasts
from distill_at_scale.learning_curves.forms import FORMS, SLOWING
from distill_at_scale.learning_curves.growth import Growth, learn_growth
from distill_at_scale.learning_curves.measured import Measured
from distill_at_scale.learning_curves.order import expected_tau
from distill_at_scale.pipelines.forecast import measured

UP_TO = (0.1, 0.2)
COUNTED = "popularity"
"""The model that `das forecast` measures on all rows: it counts in the order of models, and as no forecast."""
RESAMPLES = 20
DRIFT = 0.02
"""Relative standard deviation of what is extrapolated by a factor e of the rows, before it is widened."""
RISE = 0.1
"""Standard deviation of the rise beyond the largest rung, as a share of it, before it is widened."""
WAYS = {
    "forms": "seven forms, weighed by their errors on held-back rungs, each model alone",
    "alone": "slowing power laws with exponents of other logs, each model alone",
    "together": "slowing power laws with exponents of other logs, one slope for all personalised models",
    "learned": "personalised models grow as a law of other logs says, from the quality and users of the largest rung",
}
WAY = "learned"
"""The method of `das forecast`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["judge", "calibrate"])
    parser.add_argument("--work", type=Path, required=True, help="folder of bench_curves.py")
    parser.add_argument("--output", type=Path, required=True, help="file for the result, as JSON")
    options = parser.parse_args()
    tasks = read(options.work)
    if options.what == "judge":
        result: dict[str, Any] = judge(tasks)
    else:
        result = calibrated([task for task in tasks if task.up_to in UP_TO], WAY)
    command = f"python jobs/bench_forecast.py {options.what} --work WORK"
    options.output.write_text(json.dumps({"command": command, **result}, indent=1) + "\n")


@dataclass(frozen=True)
class Task:
    """The models of a log, from rungs up to a share, and what their fits on all rows gave.

    Attributes:
        rungs: What was measured, a model each.
        quality: Quality on all rows, by model; so are the costs.
        fit_cpu_s, evaluate_cpu_s: CPU-seconds of the fit on all rows, and of its evaluation.
        spent_cpu_s: The same of the rungs, fits and evaluations.
        users: Users of the largest rung.
    """

    log: str
    seed: int
    up_to: float
    rungs: list[Measured]
    quality: dict[str, float]
    fit_cpu_s: dict[str, float]
    evaluate_cpu_s: dict[str, float]
    spent_cpu_s: dict[str, tuple[float, float]]
    users: int

    @property
    def family(self) -> str:
        """What the log was cut from."""
        return self.log.partition("--")[0]


def read(work: Path) -> list[Task]:
    """All logs whose measurement has ended."""
    found = []
    for file in sorted((work / "trials").glob("*.parquet")):
        trials = pl.read_parquet(file)
        full = {row["model"]: row for row in trials.filter(method=FULL).to_dicts()}
        for up_to in UP_TO:
            few = trials.filter(pl.col("method") != FULL, up_to=up_to)
            # One seed each: intervals of several seeds are at least as wide.
            for seed in few["seed"].unique().sort():
                own = few.filter(seed=seed)
                # What needs only the counts of the items is measured on all rows.
                known = trials.filter(pl.col("method") == FULL, pl.col("model") == COUNTED).with_columns(
                    seed=pl.lit(seed, pl.Int64)
                )
                rungs = pl.concat([own, known])
                n_users = int(next(iter(full.values()))["users"])
                found_curves = [measured(rungs, model, 1, n_users)[0] for model in full]
                curves = [_fewer(one) for one in found_curves if one is not None]
                spent = own.group_by("model").agg(pl.col("fit_cpu_s").sum(), pl.col("evaluate_cpu_s").sum())
                found.append(
                    Task(
                        file.stem,
                        seed,
                        up_to,
                        curves,
                        *(
                            {name: row[key] for name, row in full.items()}
                            for key in (PRIMARY, "fit_cpu_s", "evaluate_cpu_s")
                        ),
                        {name: (fit, evaluate) for name, fit, evaluate in spent.iter_rows()},
                        int(own["users"].max()),  # type: ignore[arg-type]
                    )
                )
    return found


def _fewer(one: Measured) -> Measured:
    """Reduces the resamples to as many as a standard deviation needs, which is many times faster."""
    return one if one.resampled is None else replace(one, resampled=one.resampled[:, :, :RESAMPLES])


def forecast(task: Task, calibration: Calibration, way: str) -> list[Forecast]:
    """The forecasts of a task's models in one of the ways."""
    if way in ("together", "learned"):
        return forecasts(task.rungs, calibration)
    return [Forecast(one, calibration) for one in task.rungs]


def calibrated(tasks: list[Task], way: str) -> dict[str, Any]:
    """The calibration that logs teach: weights of the forms by their errors, factors by which intervals hold."""
    families = sorted({task.family for task in tasks})
    growth = _growth(tasks) if way == "learned" else None
    prior = {}
    for name in [name for name in FORMS if (name in SLOWING) == (way != "forms")]:
        alone = Calibration({name: 1.0}, 0.0, np.array([1.0]), np.array([1.0]))
        errors: dict[str, list[float]] = {}
        for task in tasks:
            # What users vary by does not move the middle.
            bare = replace(task, rungs=[replace(one, resampled=None) for one in task.rungs])
            for one in forecast(bare, alone, way):
                if one.measured.model == COUNTED:
                    continue
                error = math.log(max(one.at_all[0], 1e-9) / task.quality[one.measured.model])
                errors.setdefault(task.family, []).append(abs(error))
        # Medians: a form is judged by what it does where curves are law-like.
        prior[name] = 1.0 / (float(np.mean([np.median(each) for each in errors.values()])) ** 2 + 0.02**2)
    total = sum(prior.values())
    prior = {name: round(weight / total, 4) for name, weight in prior.items()}
    # A log is asked with a law that its own family did not teach, as any new log is.
    growths = {one: _growth([task for task in tasks if task.family != one]) if growth else None for one in families}
    factors = []
    for up_to in UP_TO:
        scores, logs = [], []
        for task in (task for task in tasks if task.up_to == up_to):
            plain = Calibration(prior, DRIFT, np.array([1.0]), np.array([1.0]), growths[task.family], RISE)
            for one in forecast(task, plain, way):
                if one.measured.model == COUNTED:
                    continue
                quality, _, high = one.at_all
                half = math.log(min(high / quality, 1e9)) if high < 1 else math.inf
                scores.append(abs(math.log(task.quality[one.measured.model] / quality)) / half)
                logs.append(task.log)
        found = widths(np.array(scores), np.zeros(len(scores)), np.array(logs))
        factors.append({"up_to": up_to, "factor": round(max(float(found.halves[0]), 1.0), 3)})
    found = {
        "logs": sorted({task.log for task in tasks}),
        "prior": prior,
        "drift": DRIFT,
        "rise": RISE,
        "factors": factors,
    }
    return found if growth is None else {**found, "growth": {k: round(v, 4) for k, v in asdict(growth).items()}}


def _growth(tasks: list[Task]) -> Growth:
    """The law of growth that the forecasts' truth teaches."""
    known = [
        (float(one.quality[:, -1].mean()), float(one.shares[-1]), one.users, task.quality[one.model], task.log)
        for task in tasks
        for one in task.rungs
        if one.personal and one.users is not None
    ]
    *numbers, logs = zip(*known)
    return learn_growth(*(np.array(column, dtype=np.float64) for column in numbers), list(logs))


def as_calibration(found: dict[str, Any]) -> Calibration:
    """A calibration as the forecast takes it."""
    largest, factors = ([step[key] for step in found["factors"]] for key in ("up_to", "factor"))
    growth = Growth(**found["growth"]) if "growth" in found else None
    return Calibration(found["prior"], found["drift"], np.array(largest), np.array(factors), growth, found["rise"])


def judge(tasks: list[Task]) -> dict[str, Any]:
    """Forecasts with a calibration from other families, against fits on all rows."""
    rows: list[dict[str, Any]] = []
    taus: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for way in WAYS:
        for left in sorted({task.family for task in tasks}):
            calibration = as_calibration(calibrated([task for task in tasks if task.family != left], way))
            for task in (task for task in tasks if task.family == left):
                found = forecast(task, calibration, way)
                taus.setdefault((way, task.up_to), []).append(_tau(found, task.quality))
                rows += [_row(task, one, way) for one in found if one.measured.model != COUNTED]
    table = pl.DataFrame(rows)
    summary = [
        _summary(table.filter(pl.col("way") == way, pl.col("up_to") == up_to, users), taus[way, up_to], name)
        for way in WAYS
        for up_to in UP_TO
        for name, users in {"all": pl.lit(True), "200 users or more": pl.col("users") >= 200}.items()
        if table.filter(pl.col("up_to") == up_to, users).height
    ]
    return {"ways": WAYS, "summary": summary, "forecasts": table.filter(way=WAY).drop("way").to_dicts()}


def _row(task: Task, one: Forecast, way: str) -> dict[str, Any]:
    model = one.measured.model
    full, (quality, low, high) = task.quality[model], one.at_all
    spent = task.spent_cpu_s[model]
    return {
        "way": way,
        "log": task.log,
        "model": model,
        "up_to": task.up_to,
        "seed": task.seed,
        "users": task.users,
        "full": round(full, 5),
        "forecast": round(quality, 5),
        "low": round(low, 5),
        "high": round(high, 5),
        "error": round(quality / full - 1, 4),
        "held": low <= full <= high,
        "last_rung_error": round(float(one.measured.quality[:, -1].mean()) / full - 1, 4),
        "law_like": not one.doubt,
        "full_cpu_s": round(task.fit_cpu_s[model], 3),
        "full_cpu_s_forecast": round(cost_law(one.measured.shares, one.measured.cost).at(1.0), 3),
        "spent_cpu_s": round(spent[0], 3),
        "evaluate_cpu_s": round(spent[1], 3),
        "evaluate_full_cpu_s": round(task.evaluate_cpu_s[model], 3),
    }


def _summary(own: pl.DataFrame, taus: Sequence[tuple[float, float]], largest_rung: str) -> dict[str, Any]:
    timed = own.filter(pl.col("full_cpu_s") > 0)
    spent, full = timed["spent_cpu_s"].sum(), timed["full_cpu_s"].sum()
    return {
        "way": own["way"][0],
        "up_to": own["up_to"][0],
        "largest_rung": largest_rung,
        "logs": own["log"].n_unique(),
        "forecasts": len(own),
        "median_error": _median(own["error"].abs()),
        "median_error_law_like": _median(own.filter("law_like")["error"].abs()),
        "median_error_of_the_last_rung": _median(own["last_rung_error"].abs()),
        "bias": _median(own["error"]),
        "held": round(float(own["held"].cast(pl.Float64).mean() or 0), 3),
        "median_width": _median((own["high"] / own["low"]).log() / 2),
        **({"tau": round(float(np.mean([tau for tau, _ in taus])), 3)} if largest_rung == "all" else {}),
        **({"tau_expected": round(float(np.mean([e for _, e in taus])), 3)} if largest_rung == "all" else {}),
        "fits_of_full_fits": round(float(spent / full), 3),
        "with_evaluations": round(
            float((spent + timed["evaluate_cpu_s"].sum()) / (full + timed["evaluate_full_cpu_s"].sum())), 3
        ),
        "median_cost_ratio": _median(timed["full_cpu_s_forecast"] / timed["full_cpu_s"]),
    }


def _tau(found: Sequence[Forecast], quality: Mapping[str, float]) -> tuple[float, float]:
    """Kendall's τ of the forecast order with that on all rows, and as it was expected."""
    tau = kendall_tau([one.at_all[0] for one in found], [quality[one.measured.model] for one in found])
    expected = expected_tau(found)
    return tau or 0.0, expected[0] if expected else 0.0


def _median(values: pl.Series) -> float:
    return round(float(values.median() or 0.0), 4)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
