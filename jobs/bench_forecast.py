"""How far off are forecasts? Those from small nested samples of real logs, against fits on all rows.

    python jobs/bench_forecast.py judge --work WORK --retention FILE… --output jobs/results/forecast.json
    python jobs/bench_forecast.py calibrate --work WORK --retention FILE… --output FILE

WORK is that of bench_curves.py, the files are results of bench_retention.py. ``judge`` forecasts each log from its
rungs up to a tenth, and up to a fifth, and compares with the fits on all rows; the calibration comes from logs of other
families. ``calibrate`` makes that of the package, of all logs.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import distill_at_scale.genie
from distill_at_scale.evaluation.retention import PRIMARY, kendall_tau
from distill_at_scale.genie.conformal import widths
from distill_at_scale.genie.corpus import family
from distill_at_scale.genie.trials import FULL
from distill_at_scale.learning_curves.calibration import Calibration
from distill_at_scale.learning_curves.cost import cost_law
from distill_at_scale.learning_curves.ensemble import rung_weights
from distill_at_scale.learning_curves.forecast import Forecast
from distill_at_scale.learning_curves.forms import FORMS, fit
from distill_at_scale.learning_curves.measured import Measured
from distill_at_scale.learning_curves.order import expected_tau
from distill_at_scale.pipelines.forecast import measured

UP_TO = (0.1, 0.2)
RANDOM_USERS = "random_users"
MOST_KNOWN, SCALE = 0.3, 0.3
FLOOR = 0.02
"""Relative half-width of the surest forecast, before it is widened."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["judge", "calibrate"])
    parser.add_argument("--work", type=Path, required=True, help="folder of bench_curves.py")
    parser.add_argument("--retention", type=Path, nargs="*", default=[], help="results of bench_retention.py")
    parser.add_argument("--output", type=Path, required=True, help="file for the result, as JSON")
    options = parser.parse_args()
    files = " ".join(map(str, options.retention))
    command = f"python jobs/bench_forecast.py {options.what} --work WORK --retention {files}"
    cells, curves = read(options.work), known(options.retention)
    result = judge(cells, curves) if options.what == "judge" else calibrated(cells, curves)
    options.output.write_text(json.dumps({"command": command, **result}, indent=1) + "\n")


@dataclass(frozen=True)
class Cell:
    """A model on a log, from rungs up to a share, and what its fit on all rows gave."""

    log: str
    seed: int
    up_to: float
    rungs: Measured
    quality: float
    cost: float

    @property
    def family(self) -> str:
        """What the log was cut from."""
        return self.log.partition("--")[0]


def read(work: Path) -> list[Cell]:
    """All models of all logs whose measurement has ended."""
    found = []
    for file in sorted((work / "trials").glob("*.parquet")):
        trials = pl.read_parquet(file)
        for up_to in UP_TO:
            few = trials.filter(pl.col("method") != FULL, pl.col("budget") <= up_to + 1e-9)
            for model in trials["model"].unique().sort():
                full = trials.filter(method=FULL, model=model).to_dicts()[0]
                # One seed each: intervals of several are no narrower than these.
                for seed in few["seed"].unique().sort():
                    rungs, _ = measured(few.filter(seed=seed), model, 1)
                    if rungs is not None and full[PRIMARY]:
                        found.append(Cell(file.stem, seed, up_to, rungs, full[PRIMARY], full["fit_cpu_s"]))
    return found


def known(retention: Sequence[Path]) -> list[tuple[str, np.ndarray, np.ndarray, float]]:
    """Curves that were measured before, as means over seeds: of Data-Genie's logs, and of results of bench_retention.

    Returns:
        Family, shares of the rungs up to 0.3, quality there, quality on all rows.
    """
    found = []
    cells = pl.read_parquet(Path(distill_at_scale.genie.__file__).parent / "trained" / "cells.parquet")
    for (name, fingerprint), of in cells.filter(method=RANDOM_USERS).sort("budget").group_by("dataset", "fingerprint"):
        few = of.filter(pl.col("budget") <= MOST_KNOWN)
        kept = [json.loads(text) for text in few["kept_by_model"]]
        for model in kept[0]:
            # Kept shares, scaled as qualities are.
            quality = np.array([SCALE * one[model] for one in kept])
            found.append((family(str(name), str(fingerprint)), few["share"].to_numpy(), quality, SCALE))
    for file in retention:
        content = json.loads(file.read_text())
        rows = [row for row in content["rows"] if row["sampler"] == RANDOM_USERS and row["budget"] <= MOST_KNOWN]
        rows.sort(key=lambda row: float(row["budget"]))
        shares = np.array([row["share"] for row in rows])
        for model, full in content["full"].items():
            quality = np.array([row["models"][model]["mean"] for row in rows])
            found.append((content["data"], shares, quality, full[PRIMARY]))
    return found


def calibrated(cells: list[Cell], curves: list[tuple[str, np.ndarray, np.ndarray, float]]) -> dict[str, Any]:
    """The calibration that logs teach: weights of the forms by their errors, factors by which intervals hold."""
    curves = [*curves, *((c.family, c.rungs.shares, c.rungs.quality.mean(0), c.quality) for c in cells)]
    prior = {}
    for name, form in FORMS.items():
        errors: dict[str, list[float]] = {}
        for of, shares, quality, full in curves:
            if form.n_parameters <= len(shares):
                alone = fit(form, shares, quality[None], rung_weights(shares)).at(np.array([1.0]))[0, 0]
                errors.setdefault(of, []).append(abs(math.log(max(alone, 1e-9) / full)))
        # Medians: a form is judged by what it does where curves are law-like.
        prior[name] = 1.0 / (float(np.mean([np.median(each) for each in errors.values()])) ** 2 + 0.02**2)
    total = sum(prior.values())
    prior = {name: round(weight / total, 4) for name, weight in prior.items()}
    plain = Calibration(prior, FLOOR, np.array([1.0]), np.array([1.0]))
    scores: dict[float, list[tuple[str, float]]] = {up_to: [] for up_to in UP_TO}
    for cell in cells:
        quality, _, high = Forecast(cell.rungs, plain).at_all
        half = math.log(min(high / quality, 1e9)) if high < 1 else math.inf
        scores[cell.up_to].append((cell.family, abs(math.log(cell.quality / quality)) / half))
    factors = []
    for up_to, of in scores.items():
        families = np.array([family for family, _ in of])
        found = widths(np.array([score for _, score in of]), np.zeros(len(of)), families)
        factors.append({"up_to": up_to, "factor": round(max(float(found.halves[0]), 1.0), 3)})
    return {"logs": sorted({cell.log for cell in cells}), "prior": prior, "floor": FLOOR, "factors": factors}


def as_calibration(found: dict[str, Any]) -> Calibration:
    """A calibration as the forecast takes it."""
    largest, factors = ([step[key] for step in found["factors"]] for key in ("up_to", "factor"))
    return Calibration(found["prior"], found["floor"], np.array(largest), np.array(factors))


def judge(cells: list[Cell], curves: list[tuple[str, np.ndarray, np.ndarray, float]]) -> dict[str, Any]:
    """Forecasts with a calibration from other families, against fits on all rows."""
    rows: list[dict[str, Any]] = []
    by_log: dict[tuple[str, int, float], list[tuple[Forecast, Cell]]] = {}
    for left in sorted({cell.family for cell in cells}):
        others = [cell for cell in cells if cell.family != left]
        calibration = as_calibration(calibrated(others, [curve for curve in curves if curve[0] != left]))
        for cell in cells:
            if cell.family == left:
                by_log.setdefault((cell.log, cell.seed, cell.up_to), []).append(
                    (Forecast(cell.rungs, calibration), cell)
                )
    for (log, seed, up_to), several in by_log.items():
        for forecast, cell in several:
            quality, low, high = forecast.at_all
            law = cost_law(cell.rungs.shares, cell.rungs.cost)
            rows.append(
                {
                    "log": log,
                    "model": cell.rungs.model,
                    "up_to": up_to,
                    "seed": seed,
                    "full": round(cell.quality, 5),
                    "forecast": round(quality, 5),
                    "low": round(low, 5),
                    "high": round(high, 5),
                    "error": round(quality / cell.quality - 1, 4),
                    "held": low <= cell.quality <= high,
                    "last_rung_error": round(float(cell.rungs.quality[:, -1].mean()) / cell.quality - 1, 4),
                    "law_like": not forecast.doubt,
                    "full_cpu_s": round(cell.cost, 3),
                    "full_cpu_s_forecast": round(law.at(1.0), 3),
                    "spent_cpu_s": round(float(cell.rungs.cost.sum()), 3),
                }
            )
    summary = []
    for up_to in UP_TO:
        own = pl.DataFrame([row for row in rows if row["up_to"] == up_to])
        taus = [_tau(several) for (_, _, share), several in by_log.items() if share == up_to]
        summary.append(
            {
                "up_to": up_to,
                "logs": own["log"].n_unique(),
                "forecasts": len(own),
                "median_error": _median(own["error"].abs()),
                "median_error_law_like": _median(own.filter("law_like")["error"].abs()),
                "median_error_of_the_last_rung": _median(own["last_rung_error"].abs()),
                "bias": _median(own["error"]),
                "held": round(float(own["held"].cast(pl.Float64).mean() or 0), 3),
                "median_width": _median((own["high"] / own["low"]).log() / 2),
                "tau": round(float(np.mean([tau for tau, _ in taus])), 3),
                "tau_expected": round(float(np.mean([expected for _, expected in taus])), 3),
                "spent_of_full_cpu_s": round(float(own["spent_cpu_s"].sum() / own["full_cpu_s"].sum()), 3),
                "median_cost_ratio": _median(own["full_cpu_s_forecast"] / own["full_cpu_s"]),
            }
        )
    return {"summary": summary, "forecasts": rows}


def _tau(several: list[tuple[Forecast, Cell]]) -> tuple[float, float]:
    """Kendall's τ of the forecast order with that on all rows, and as it was expected."""
    tau = kendall_tau([one.at_all[0] for one, _ in several], [cell.quality for _, cell in several])
    expected = expected_tau([one for one, _ in several])
    return tau or 0.0, expected[0] if expected else 0.0


def _median(values: pl.Series) -> float:
    return round(float(values.median() or 0.0), 4)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
