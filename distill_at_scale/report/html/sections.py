"""The sections of the page that show a figure: what it is, the figure, and its data as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill_at_scale.report.html import numbers
from distill_at_scale.report.html.markup import Markup, join, tag
from distill_at_scale.report.html.payback import payback
from distill_at_scale.report.html.quality import panels
from distill_at_scale.report.html.scatter import Point, Scatter
from distill_at_scale.report.html.tables import Heat, folded, heat_table, table
from distill_at_scale.report.words import compared_on

if TYPE_CHECKING:
    from distill_at_scale.pipelines.report import Cell, ReportResult

Section = tuple[str, str, Markup]
"""id, heading, content"""
ByMethod = dict[str, list["Cell"]]
"""in the order in which methods are shown; the cells of each by budget"""


def figure_sections(result: ReportResult) -> list[Section]:
    """A section for each figure that there are numbers for; none without cells."""
    if not result.cells:
        return []
    by_method: ByMethod = {}
    for cell in result.cells:
        by_method.setdefault(cell.method, []).append(cell)
    # The method that does best at its best budget comes first, in every figure.
    by_method = dict(sorted(by_method.items(), key=_best_first))
    sections = [
        _quality(result, by_method),
        _cost(result),
        _ranking(result, by_method),
        _transfer(result, by_method),
        _payback(result, by_method),
        _weight(result),
    ]
    return [section for section in sections if section is not None]


def _best_first(entry: tuple[str, list[Cell]]) -> tuple[bool, float]:
    """Order of methods; those of other models come last."""
    _, cells = entry
    return not any(cell.common for cell in cells), -max(cell.kept for cell in cells)


def _quality(result: ReportResult, by_method: ByMethod) -> Section:
    text = (
        f"Share of full-data test ndcg@10 that models fitted on the small data reach, {compared(result)}; seeds are "
        "averaged. Bars are 90 % intervals of that mean over other users and seeds (with one seed over users only); a "
        "new sample lies in a wider one, which the table has. Faint: the other methods. Solid line: all that there is "
        f"to keep; dashed: the {numbers.budget(result.keep)} asked for; ring: the recommended one."
    )
    columns = ["method", "budget", "rows", "share of rows", "kept", "90 % interval", "a new sample", "models", "seeds"]
    rows = [
        [
            cell.method,
            numbers.budget(cell.budget),
            _whole(cell.rows),
            numbers.percent(cell.share, 2),
            numbers.percent(cell.kept),
            numbers.interval(cell.kept_low, cell.kept_high, cell.users_only),
            numbers.interval(cell.new_low, cell.new_high),
            ", ".join(cell.models),
            str(cell.n_seeds),
        ]
        for cell in result.cells
    ]
    content = tag("figure", panels(by_method, result.recommended, result.keep))
    return (
        "quality",
        "Quality against budget",
        _figure(text, content, _data(result, "Share of ndcg@10 kept", columns, rows)),
    )


def compared(result: ReportResult) -> str:
    """On which models what is kept is a mean, in words."""
    trained = [full.model for full in result.full]
    models = next((cell.models for cell in result.cells if cell.common and cell.models), trained)
    return compared_on(models, trained)


def _cost(result: ReportResult) -> Section | None:
    priced = [cell for cell in result.cells if cell.cost]
    if not priced:
        return None
    points = [Point(_name(c), c.cost or 0.0, c.kept, c.cheap, c == result.recommended) for c in priced]
    drawn = Scatter(
        points,
        1.0,
        result.keep,
        "Share of ndcg@10 kept against CPU time",
        "CPU time, share of training on all rows",
        numbers.budget,
    ).draw()
    text = (
        "CPU time of making the small data and of one round of training on them (each model fitted once), as a share "
        "of one round on all rows. The line joins those that no other beats: none keeps as much at a lower cost."
    )
    columns = ["method", "budget", "making", "one round", "one round on all rows", "together", "kept", "on the front"]
    rows = [
        [
            cell.method,
            numbers.budget(cell.budget),
            numbers.cpu(cell.make_cpu_s),
            numbers.cpu(cell.fit_cpu_s),
            numbers.cpu(cell.fit_full_cpu_s),
            numbers.percent(cell.cost),
            numbers.percent(cell.kept),
            "yes" if cell.cheap else "",
        ]
        for cell in result.cells
    ]
    data = _data(result, "CPU time and what is kept", columns, rows)
    return "cost", "Cost against quality", _figure(text, tag("figure", drawn), data)


def _ranking(result: ReportResult, by_method: ByMethod) -> Section:
    budgets = sorted({cell.budget for cell in result.cells})
    rows = []
    for method, cells in by_method.items():
        at = {cell.budget: cell for cell in cells}
        rows.append((method, [_tau_heat(at.get(budget), result.recommended) for budget in budgets]))
    text = (
        "Kendall's τ-b between the models' scores when they are fitted on the small and on the full data, mean over "
        "metrics and seeds. 1: the same ranking, 0: none in common, below 0: rather the reverse; a dash where not all "
        "models learned from what the method makes. Intervals are of that mean, over other users and seeds (with one "
        "seed over users only)."
    )
    drawn = heat_table("Kendall's τ, methods by budgets", ["method", *map(numbers.budget, budgets)], rows)
    columns = ["method", "budget", "τ", "90 % interval from", "to", "models"]
    data = [
        [
            cell.method,
            numbers.budget(cell.budget),
            *(numbers.plain(value, 3) for value in (cell.tau, cell.tau_low, cell.tau_high)),
            str(cell.n_models),
        ]
        for cell in result.cells
    ]
    content = _figure(text, tag("figure", drawn), _data(result, "Kendall's τ", columns, data))
    return "ranking", "Do models rank alike?", content


def _tau_heat(cell: Cell | None, recommended: Cell | None) -> Heat:
    if cell is None or cell.tau is None:
        return Heat(numbers.NOTHING, None)
    return Heat(numbers.plain(cell.tau), cell.tau, cell == recommended)


def _transfer(result: ReportResult, by_method: ByMethod) -> Section:
    budgets = sorted({cell.budget for cell in result.cells})
    shown = result.recommended.budget if result.recommended else budgets[-1]
    models = [full.model for full in result.full]
    known = [share for cell in result.cells for share in cell.kept_by_model.values() if share is not None]
    low, high = min(known), max(*known, 1.0)

    def matrix(budget: float) -> Markup:
        rows = []
        for method, cells in by_method.items():
            for cell in cells:
                if cell.budget == budget:
                    shares = [cell.kept_by_model.get(model) for model in models]
                    rows.append((method, [_share_heat(share, low, high) for share in shares]))
        return heat_table(f"Share of ndcg@10 kept by each model at {numbers.budget(budget)}", ["method", *models], rows)

    others = [matrix(budget) for budget in budgets if budget != shown]
    text = (
        "Does a small dataset serve every model, or only some? Share of its own full-data ndcg@10 that each model "
        f"keeps; colours from {numbers.percent(low, 0)} to {numbers.percent(high, 0)}."
    )
    more = folded("The other budgets", *others) if others else None
    return "transfer", "Transfer to each model", join(tag("p", text), tag("figure", matrix(shown)), more)


def _share_heat(share: float | None, low: float, high: float) -> Heat:
    return Heat(numbers.percent(share), None if share is None else (share - low) / max(high - low, 1e-9))


def _payback(result: ReportResult, by_method: ByMethod) -> Section:
    text = (
        "After how many rounds of training (each model fitted once) has the CPU time that went into making the small "
        "data been saved? Never, where fitting on them takes no less than on all rows."
    )
    columns = ["method", "budget", "making", "saved in a round", "paid after rounds"]
    rows = [
        [
            cell.method,
            numbers.budget(cell.budget),
            numbers.cpu(cell.make_cpu_s),
            numbers.cpu(max(cell.fit_full_cpu_s - cell.fit_cpu_s, 0.0)),
            numbers.rounds(cell.pays_after),
        ]
        for cell in result.cells
    ]
    data = _data(result, "Rounds until making has paid for itself", columns, rows)
    drawn = tag("figure", payback(by_method, result.recommended))
    return "payback", "When does it pay?", _figure(text, drawn, data)


def _weight(result: ReportResult) -> Section | None:
    weighed = [cell for cell in result.cells if cell.bytes]
    if not weighed:
        return None
    points = [Point(_name(c), c.bytes or 0.0, c.kept, c.light, c == result.recommended) for c in weighed]
    drawn = Scatter(
        points,
        result.full_bytes,
        result.keep,
        "Share of ndcg@10 kept against bytes",
        "size of the small data",
        numbers.size,
    ).draw()
    text = (
        "Size of the small data as they are stored, against what they keep. The line joins those that no other beats."
    )
    columns = ["method", "budget", "size", "share of all", "kept", "on the front"]
    rows = [
        [
            cell.method,
            numbers.budget(cell.budget),
            numbers.size(cell.bytes),
            numbers.percent(cell.bytes / result.full_bytes if cell.bytes and result.full_bytes else None),
            numbers.percent(cell.kept),
            "yes" if cell.light else "",
        ]
        for cell in result.cells
    ]
    data = _data(result, "Bytes and what is kept", columns, rows)
    return "bytes", "Bytes against quality", _figure(text, tag("figure", drawn), data)


def _figure(text: str, drawn: Markup, data: Markup) -> Markup:
    return join(tag("p", text), drawn, data)


def _data(result: ReportResult, caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """What a figure shows, as a table with a row for each cell."""
    chosen = next((k for k, cell in enumerate(result.cells) if cell == result.recommended), None)
    return folded("The figure's data", table(caption, columns, rows, chosen))


def _name(cell: Cell) -> str:
    return f"{cell.method} {numbers.budget(cell.budget)}"


def _whole(number: float | None) -> str:
    return numbers.NOTHING if number is None else f"{number:,.0f}"
