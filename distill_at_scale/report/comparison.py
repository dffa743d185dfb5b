"""The figure that `das compare` writes beside its results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from distill_at_scale.data import storage
from distill_at_scale.report.figures import numbers
from distill_at_scale.report.figures.document import svg_document
from distill_at_scale.report.figures.multiples import Multiples, Point

if TYPE_CHECKING:
    from distill_at_scale.pipelines.compare import Compared, Comparison

COMPARISON = "comparison.svg"


def comparison_svg(result: Comparison) -> bytes:
    """Draws the kept share of the first metric and Kendall's τ against the share of train rows, for each method.

    Points are means over seeds; intervals are ± one standard deviation over seeds (none for a single seed).

    Returns:
        An SVG file.
    """
    metric = result.metrics[0]
    runs: dict[str, dict[float, list[Compared]]] = defaultdict(lambda: defaultdict(list))
    for small in result.small:
        runs[small.method][small.budget if small.budget is not None else small.share].append(small)
    figures = [
        (
            f"{metric} kept, mean over {len(result.full)} models",
            Multiples(
                "kept",
                f"share of {metric} kept against the share of train rows",
                _series(runs, lambda one: one.retention.mean_kept(metric)),
                "train rows, % of all (log scale)",
                f"{metric} kept, % of full data",
                [(1.0, "full")],
            ),
        ),
        (
            "Kendall's τ-b between the models' rankings",
            Multiples(
                "tau",
                "Kendall's τ-b against the share of train rows",
                _series(runs, lambda one: one.retention.tau),
                "train rows, % of all (log scale)",
                "Kendall's τ-b (1: same ranking)",
                [(1.0, "full")],
                y_text=numbers.plain,
            ),
        ),
    ]
    return svg_document([(heading, figure) for heading, figure in figures if figure.series])


def _series(
    runs: dict[str, dict[float, list[Compared]]], value: Callable[[Compared], float | None]
) -> dict[str, list[Point]]:
    """Returns the points of each method, sorted by share; methods without any value are left out."""
    found = {method: [_point(seeds, value) for seeds in budgets.values()] for method, budgets in sorted(runs.items())}
    return {
        method: sorted(known, key=lambda point: point.x)
        for method, points in found.items()
        if (known := [point for point in points if point is not None])
    }


def _point(seeds: list[Compared], value: Callable[[Compared], float | None]) -> Point | None:
    values = [one for small in seeds if (one := value(small)) is not None]
    if not values:
        return None
    mean = float(np.mean(values))
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    low, high = (None, None) if spread is None else (mean - spread, mean + spread)
    return Point(float(np.mean([small.share for small in seeds])), mean, low, high)


def keep_comparison(result: Comparison) -> None:
    """Writes the figure beside the results."""
    storage.write_bytes(storage.join(result.uri, COMPARISON), comparison_svg(result))
