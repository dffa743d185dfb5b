"""Figures as SVG."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from distill_at_scale.data import storage

if TYPE_CHECKING:
    from distill_at_scale.pipelines.compare import Comparison

COMPARISON = "comparison.svg"


def comparison_svg(result: Comparison) -> bytes:
    """Kendall's τ and the share of the first metric that is kept, against the share of train rows, per method.

    Points are means over seeds, bars one standard deviation over seeds (none for a single seed).
    """
    # Loaded only here: it takes a second, and most verbs draw nothing.
    from matplotlib.figure import Figure

    metric = result.metrics[0]
    lines: dict[str, dict[float, list[tuple[float, float, float]]]] = defaultdict(lambda: defaultdict(list))
    for small in result.small:
        tau = np.nan if small.retention.tau is None else small.retention.tau
        kept = small.retention.mean_kept(metric)
        lines[small.method][small.budget if small.budget is not None else small.share].append((small.share, tau, kept))
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    axes = figure.subplots(1, 2)
    markers = "osD^v<>pPX*hd"
    for k, (method, budgets) in enumerate(sorted(lines.items())):
        points = np.array([np.mean(runs, axis=0) for runs in budgets.values()])
        spread = np.array([np.std(runs, axis=0, ddof=1) if len(runs) > 1 else [0, 0, 0] for runs in budgets.values()])
        order = np.argsort(points[:, 0])
        style = {"label": method, "marker": markers[k % len(markers)], "markersize": 4, "linewidth": 1, "capsize": 2}
        for column, axis in enumerate(axes, start=1):
            axis.errorbar(points[order, 0], points[order, column], yerr=spread[order, column], **style)
    titles = ("Kendall's τ between the models' rankings", f"{metric} kept, mean over {len(result.full)} models")
    for axis, title in zip(axes, titles):
        axis.set_xscale("log")
        axis.set_xlabel("share of the train rows")
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
        axis.axhline(1, color="grey", linewidth=0.8, linestyle=":")
    axes[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def keep_comparison(result: Comparison) -> None:
    """Writes the figure beside the numbers."""
    storage.write_bytes(storage.join(result.uri, COMPARISON), comparison_svg(result))
