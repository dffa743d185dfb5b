"""Tables of a sweep's results on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill_at_scale.data import storage
from distill_at_scale.data.splits import tied_note
from distill_at_scale.report.layout import command, facts, grid, show
from distill_at_scale.report.words import compared_on, several

if TYPE_CHECKING:
    from distill_at_scale.pipelines.sweeps.sweep_result import CellSummary, SweepResult

_REASONS_SHOWN = 5


def show_sweep(result: SweepResult) -> None:
    """Prints the quality that each method keeps at each budget, best methods first, and the failures."""
    counts = f"{result.done:,} of {result.trials:,} done"
    if result.failed:
        counts += f", {result.failed:,} failed"
    if result.left:
        counts += f", {result.left:,} left: run the same command to continue"
    uri = storage.redact(result.uri)
    show(
        facts(
            "Sweep",
            [
                ("trials", f"{counts} ({result.fits:,} fits: identical trials share one)"),
                ("models", ", ".join(result.models)),
                ("seeds", result.seeds),
                ("took", f"{result.wall_s:,.0f} s"),
                *(("left out", sentence) for sentence in result.left_out),
                *(("beware", sentence) for sentence in result.notes),
            ],
        )
    )
    models = next((cell.models for cell in result.cells if cell.common), result.models)
    kept = f"{result.metric} kept, {compared_on(models, result.models)}"
    show(
        f"{kept} (in brackets τ: agreement with the full data's ranking of all models; –: some model cannot be trained)"
    )
    show(grid(["method", *(f"{budget:g}" for budget in result.budgets)], _rows(result)))
    show(*tied_note(result.data.tied_in_time))
    show(*_others(result))
    for reason, n in list(result.failures.items())[:_REASONS_SHOWN]:
        show(f"{n:,} failed: {reason.strip().splitlines()[-1]}")
    show(f"Every trial is a row of {storage.join(uri, 'trials.parquet')}.")
    show(f"See it: {command('das', 'report', '--sweep', uri, '--output', 'report.html')}")


def _others(result: SweepResult) -> list[str]:
    """Returns sentences on the cells that are compared on other models and therefore not ranked."""
    apart: dict[tuple[str, ...], list[str]] = {}
    for cell in result.cells:
        if not cell.common:
            apart.setdefault(tuple(cell.models), []).append(f"{cell.method} at {cell.budget:g}")
    return [
        f"*: {several(methods)}: {compared_on(models, models)} only, and not ranked with the others."
        for models, methods in apart.items()
    ]


def _rows(result: SweepResult) -> list[list[str]]:
    """Returns one row per method, sorted by what it keeps, and one column per budget."""
    found = {(cell.method, cell.budget): cell for cell in result.cells}
    methods = {method for method, _ in found}

    def rank(method: str) -> tuple[bool, float]:
        cells = [found[method, budget] for budget in result.budgets if (method, budget) in found]
        return any(cell.common for cell in cells), sum(cell.kept for cell in cells) / len(cells)

    return [
        [method, *(_cell(found.get((method, budget))) for budget in result.budgets)]
        for method in sorted(methods, key=rank, reverse=True)
    ]


def _cell(cell: CellSummary | None) -> str:
    if cell is None:
        return "–"
    tau = "–" if cell.tau is None else f"{cell.tau:.2f}"
    return f"{cell.kept:.3f} ({tau}){'' if cell.common else ' *'}"
