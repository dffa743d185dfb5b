"""Tables of recommendations and of a trained Data-Genie on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill_at_scale.data import storage
from distill_at_scale.report.layout import facts, grid, show
from distill_at_scale.report.words import compared_on, savings

if TYPE_CHECKING:
    from distill_at_scale.pipelines.genie import GenieResult
    from distill_at_scale.pipelines.recommend import Option, Recommendation

_WHYS_SHOWN = 3


def show_recommendation(result: Recommendation) -> None:
    """Prints one row per option, the reasons for the first ones, warnings, and the command that makes the first."""
    from distill_at_scale.pipelines.recommend import NOT_WORTH_IT

    users_only = any(option.seeds == 1 for option in result.options)
    columns = [
        "method",
        "at",
        "P",
        "kept (90 %, users only)" if users_only else "kept (90 %)",
        "τ (90 %)",
        "CPU-s",
        "train",
        "bytes",
    ]
    known = "measured by the sweep" if result.source == "sweep" else "predicted by Data-Genie"
    known += " and sharpened by the forecast" if result.forecast else ""
    asked = f"{100 * result.keep:.4g} % of {result.metric}"
    rows = f"{result.data.train_rows:,} train rows of {result.data.uri}"
    show(f"{rows}; to keep: {asked}. All values are {known}.")
    show(f"kept: {compared_on(result.models, result.trained)}")
    show(grid(columns, map(_row, result.options)))
    show(
        "P: probability that it keeps at least that share; ✓: 0.9 or more; ✓✓: the whole interval for a new sample "
        "lies above; CPU-s: CPU-seconds of making it; train: cost of training on it, bytes: its size, both as shares "
        "of those of all train rows. full: all data.",
        "",
    )
    first = result.options[0]
    saved = savings(
        unit=first.unit,
        share=first.share,
        bytes_share=first.bytes_share,
        make_cpu_s=first.make_cpu_s,
        fit_share=first.fit_share,
        fit_cpu_s=first.fit_cpu_s,
        fit_full_cpu_s=first.fit_full_cpu_s,
        models=first.models,
    )
    show(f"{first.method} at {first.budget:g}: {' '.join(saved)}")
    for option in result.options[:_WHYS_SHOWN]:
        show(f"{option.method}: {option.why}.")
    for note in result.notes:
        show(note if note == NOT_WORTH_IT else f"Beware: {note}")
    show("", f"Make it: {result.options[0].command}")


def _row(option: Option) -> list[str]:
    return [
        f"{'✓✓' if option.safe else '✓ ' if option.meets else '  '} {option.method}",
        f"{option.budget:g}",
        f"{option.probability:.2f}",
        f"{100 * option.kept:.1f} %{_range(option.kept_low, option.kept_high, 100, 0)}",
        "–" if option.tau is None else f"{option.tau:.2f}{_range(option.tau_low, option.tau_high, 1, 2)}",
        "–" if option.make_cpu_s is None else f"{option.make_cpu_s:.1f}",
        "–" if option.fit_share is None else f"{100 * option.fit_share:.0f} %",
        "–" if option.bytes_share is None else f"{100 * option.bytes_share:.3g} %",
    ]


def _range(low: float | None, high: float | None, factor: float, digits: int) -> str:
    return "" if low is None or high is None else f" ({factor * low:.{digits}f}, {factor * high:.{digits}f})"


def show_genie(result: GenieResult) -> None:
    """Prints the training data, the validation of each kind of regressor, and the cross-validation, if requested."""
    show(
        facts(
            "Data-Genie",
            [
                ("folder", storage.redact(result.uri)),
                ("trained on", f"{result.cells:,} cells of {result.datasets} datasets"),
                ("methods", ", ".join(result.methods)),
                ("budgets", ", ".join(f"{budget:g}" for budget in result.budgets)),
                ("models", ", ".join(f"{kind} for {target}" for target, kind in result.kinds.items())),
                ("size", f"{result.bytes / 1024:.0f} KiB"),
                ("cost", f"{result.wall_s:.1f} s, {result.cpu_s:.1f} CPU-seconds"),
            ],
        )
    )
    rows = [
        [target, kind, f"{of['regret']:.4f}", f"{of['mse']:.4f}"]
        for target, kinds in result.validation.items()
        for kind, of in kinds.items()
    ]
    show("", grid(["validation of", "kind", "regret", "mean squared error"], rows))
    for one in result.judgements:
        rows = [
            ["Data-Genie", f"{one.precision:.3f}", f"{one.regret:.4f}", f"{one.mse:.4f}"],
            ["best single method at the budget", f"{one.by_budget_precision:.3f}", f"{one.by_budget_regret:.4f}", ""],
            ["best single method", f"{one.single_precision:.3f}", f"{one.single_regret:.4f}", ""],
            ["means at the budget", "", "", f"{one.means_mse:.4f}"],
            ["random method", f"{one.random_precision:.3f}", f"{one.random_regret:.4f}", ""],
        ]
        show("", grid([f"{one.target}, {one.families} held out", "P@1", "regret", "mean squared error"], rows))
        show(f"{100 * one.coverage:.1f} % of {one.cells:,} cells lie in their 90 % intervals.")
