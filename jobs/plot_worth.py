"""Draws the quality of small datasets against their number of users or sequences, beside real ones.

    python jobs/plot_worth.py [--results FOLDER] [--output FILE.svg]

FOLDER holds distill.json and worth.json (bench_distill.py, bench_worth.py; ml-1m) and sequences.json
(bench_sequences.py; ml-100k), as jobs/results does. Bars reach from the lowest to the highest seed, or one standard
deviation either way where only that is known.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent / "results"
METRIC = "ndcg@10"
Lines = dict[str, dict[int, tuple[float, float, float]]]
"""By name: number of users or sequences -> (mean, how far down, how far up)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=HERE)
    parser.add_argument("--output", type=Path, default=HERE / "worth.svg")
    options = parser.parse_args()
    distilled, worth, sequences = (
        json.loads((options.results / f"{name}.json").read_text()) for name in ("distill", "worth", "sequences")
    )
    panels = (
        ("∞-AE on users of ml-1m", "users", of_users(distilled["runs"], worth), 100 * full_of(worth)),
        ("SASRec on sequences of ml-100k", "sequences", of_sequences(sequences), 100 * sequences["full"][METRIC]),
    )
    draw(panels, options.output)


def full_of(worth: dict[str, Any]) -> float:
    """Quality of ∞-AE on all rows."""
    return float(worth["quality/full/infinite_ae/seed0"][METRIC])


def of_users(distilled: dict[str, Any], worth: dict[str, Any]) -> Lines:
    """Distilled and real users."""
    names = {"free": "Distill-CF", "unit": "Distill-CF in [0, 1]", "binary": "Distill-CF, binary", "sketch": "sketch"}
    runs: dict[tuple[str, int], list[float]] = defaultdict(list)
    for key, run in distilled.items():
        kind, _, rest = key.partition("-")
        if kind in names:
            runs[names[kind], int(rest.split("-")[0])].append(100 * run["metrics"]["infinite_ae"][METRIC])
    real = {"random_500_users": "random users", "head_500_users": "most active users", "density": "density"}
    # Of a sample, whose other users have no train rows, only those that have.
    models = ("infinite_ae", "infinite_ae, users with train rows only")
    for key, run in worth.items():
        part, way, model, *_ = [*key.split("/"), "", ""]
        if part == "quality" and way in real and model == models[way == "density"]:
            runs[real[way], 500].append(100 * run[METRIC])
    lines: Lines = defaultdict(dict)
    for (name, count), values in runs.items():
        mean = sum(values) / len(values)
        lines[name][count] = (mean, mean - min(values), max(values) - mean)
    return lines


def of_sequences(found: dict[str, Any]) -> Lines:
    """Distilled and real sequences."""
    lines: Lines = defaultdict(dict)
    ways = {"random": "random users", "head": "most active users", "svp": "SVP (bias), hardest users"}
    for key, run in found["real"].items():
        way, count = key.rsplit("-", 1)
        lines[ways[way]][int(count)] = as_point(run)
    stages = {
        "stored": "Farzi, as stored",
        "start": "Farzi's start",
    }
    for key, run in found["distilled"].items():
        for stage, name in stages.items():
            lines[name][int(key.split("-")[1].split("x")[0])] = as_point(run[stage])
    return lines


def as_point(run: dict[str, float]) -> tuple[float, float, float]:
    """Mean and standard deviation either way, in percent."""
    spread = 100 * run[f"spread of {METRIC}"]
    return 100 * run[METRIC], spread, spread


def draw(panels: tuple[tuple[str, str, Lines, float], ...], output: Path) -> None:
    """A section for each panel, a picture for each line; quality on all of the data as a horizontal line."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from distill_at_scale.report.figures.document import svg_document
    from distill_at_scale.report.figures.multiples import Multiples, Point

    sections = []
    for k, (title, unit, lines, full) in enumerate(panels):
        series = {
            name: [Point(count, mean, mean - down, mean + up) for count, (mean, down, up) in sorted(points.items())]
            for name, points in lines.items()
        }
        figure = Multiples(
            f"others-{k}",
            f"test {METRIC} by the number of {unit}",
            series,
            f"number of {unit} (log scale)",
            f"test {METRIC}, %",
            [(full, "full")],
            x_text=lambda count: f"{count:g}",
            y_text=lambda value: f"{value:g}",
        )
        sections.append((f"{title}; horizontal line: on everything", figure))
    output.write_bytes(svg_document(sections))


if __name__ == "__main__":
    main()
