"""The sections of the page that show a figure: explanation, figure, and its data as a table.

Figures that depend on a metric are drawn once per metric; the radio buttons at the top of the page select one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_at_scale.evaluation.retention import PRIMARY
from distill_at_scale.report.figures import numbers
from distill_at_scale.report.figures.markup import Markup, id_of, join, tag
from distill_at_scale.report.figures.multiples import Multiples, Point
from distill_at_scale.report.figures.payback import payback
from distill_at_scale.report.figures.scatter import Point as Priced
from distill_at_scale.report.figures.scatter import Scatter
from distill_at_scale.report.html.tables import Heat, folded, heat_table, table
from distill_at_scale.report.words import compared_on, several

if TYPE_CHECKING:
    from distill_at_scale.pipelines.report import Cell, ReportResult

Section = tuple[str, str, Markup]
"""Id, heading, content."""
ByMethod = dict[str, list["Cell"]]
"""Cells of each method, sorted by budget; methods in the order of display."""


def figure_sections(result: ReportResult) -> list[Section]:
    """Returns a section for each figure that has data; none without cells."""
    if not result.cells:
        return []
    # Methods are sorted by their best value over budgets, in the same order in every figure and for every metric.
    order = dict(sorted(_grouped(result.cells).items(), key=_best_first))
    sections = [
        _quality(result, order),
        _cost(result),
        _ranking(result, order),
        _transfer(result, order),
        _payback(result, order),
        _weight(result),
    ]
    return [section for section in sections if section is not None]


def metrics(result: ReportResult) -> dict[str, list[Cell]]:
    """Returns the metrics that the page offers and the cells of each; ndcg@10 comes first."""
    return {PRIMARY: result.cells, **result.by_metric}


def compared(result: ReportResult) -> str:
    """Returns a phrase that says over which models the kept share is averaged."""
    trained = [full.model for full in result.full]
    models = next((cell.models for cell in result.cells if cell.common and cell.models), trained)
    return compared_on(models, trained)


def _grouped(cells: Sequence[Cell]) -> ByMethod:
    by_method: ByMethod = {}
    for cell in cells:
        by_method.setdefault(cell.method, []).append(cell)
    return by_method


def _best_first(entry: tuple[str, list[Cell]]) -> tuple[bool, float]:
    """Sort key of methods; those compared on other models come last."""
    _, cells = entry
    return not any(cell.common for cell in cells), -max(cell.kept for cell in cells)


def _each_metric(result: ReportResult, draw: Callable[[str, list[Cell]], Markup]) -> Markup:
    """Returns one block per metric; CSS shows one of them."""
    blocks = [
        tag("div", draw(metric, cells), class_=f"by-metric {id_of('metric', metric)}")
        for metric, cells in metrics(result).items()
    ]
    return join(*blocks)


def _chosen(result: ReportResult, cell: Cell) -> bool:
    best = result.recommended
    return best is not None and (cell.method, cell.budget) == (best.method, best.budget)


def _kept_axis(metric: str) -> str:
    return f"{metric} kept, % of full data"


def _quality(result: ReportResult, order: ByMethod) -> Section:
    columns = ["method", "budget", "rows", "share of rows", "kept", "90 % interval", "a new sample", "models", "seeds"]

    def draw(metric: str, cells: list[Cell]) -> Markup:
        goal = f"; dashed line: the requested {numbers.budget(result.keep)}" if metric == PRIMARY else ""
        text = (
            f"Share of the full data's test {metric} that models fitted on the small data reach, {compared(result)}, "
            "averaged over seeds. Bars and bands are 90 % intervals of that mean over users and seeds (with one seed, "
            "over users only); the wider interval for a new sample is in the table. Faint lines: the other methods. "
            f"Solid line: the full data{goal}; ring: the recommendation."
        )
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
            for cell in cells
        ]
        found = _grouped(cells)
        by_method = {method: found[method] for method in order if method in found}
        series = {method: [_point(result, cell) for cell in group] for method, group in by_method.items()}
        figure = Multiples(
            id_of("faint", metric),
            f"share of {metric} kept at each budget",
            series,
            "budget, % of train rows (log scale)",
            _kept_axis(metric),
            [(1.0, "full"), *([(result.keep, "goal")] if metric == PRIMARY else [])],
            {
                method: "budget, % of the log's users (log scale)"
                for method, group in by_method.items()
                if group[0].unit != "train rows"
            },
        )
        panels = [
            tag("div", tag("h3", method, _few(by_method[method])), drawn) for method, drawn in figure.pictures().items()
        ]
        shown = tag("figure", tag("div", *panels, class_="panels"))
        return _figure(text, shown, _data(result, f"Share of {metric} kept", columns, rows, cells))

    return "quality", "Quality against budget", _each_metric(result, draw)


def _point(result: ReportResult, cell: Cell) -> Point:
    between = numbers.interval(cell.kept_low, cell.kept_high, cell.users_only)
    tip = f"{cell.method}, {numbers.budget(cell.budget)}: keeps {numbers.percent(cell.kept)} ({between})"
    return Point(cell.budget, cell.kept, cell.kept_low, cell.kept_high, tip, _chosen(result, cell))


def _few(cells: Sequence[Cell]) -> Markup | None:
    """Returns a note on the models of a method that is compared on other models than most, else None."""
    others: dict[tuple[str, ...], list[str]] = {}
    for cell in cells:
        if not cell.common:
            others.setdefault(tuple(cell.models), []).append(numbers.budget(cell.budget))
    told = [
        f"{several(models)} only" + ("" if len(budgets) == len(cells) else f" at {several(budgets)}")
        for models, budgets in others.items()
    ]
    return tag("small", f" {'; '.join(told)}", class_="dim") if told else None


def _cost(result: ReportResult) -> Section | None:
    if not any(cell.cost for cell in result.cells):
        return None
    columns = ["method", "budget", "making", "one round", "one round on all rows", "together", "kept", "on the front"]
    text = (
        "CPU time of making the small data and of one round of training on it (each model fitted once), as a share "
        "of one round on all rows. The line joins the Pareto front: no other point keeps as much at a lower cost. Its "
        "bars are 90 % intervals."
    )

    def costs(cell: Cell) -> list[str]:
        seconds = (cell.make_cpu_s, cell.fit_cpu_s, cell.fit_full_cpu_s)
        return [*map(numbers.cpu, seconds), numbers.percent(cell.cost)]

    axis = "CPU time, % of training on all rows (log)"
    price = _Price("CPU time", axis, 1.0, lambda cell: cell.cost, lambda cell: cell.cheap)
    return "cost", "Cost against quality", join(tag("p", text), _against_quality(result, price, columns, costs))


@dataclass(frozen=True)
class _Price:
    """What a small dataset costs, as an axis.

    Attributes:
        name: Name of the cost.
        axis: Title of the axis.
        full: Cost of all rows, if known.
        of: Cost of a cell.
        on_front: Whether no other cell keeps as much at a lower cost.
        written: Writes a cost.
    """

    name: str
    axis: str
    full: float | None
    of: Callable[[Cell], float | None]
    on_front: Callable[[Cell], bool]
    written: Callable[[float], str] = numbers.budget


def _against_quality(
    result: ReportResult, price: _Price, columns: Sequence[str], costs: Callable[[Cell], list[str]]
) -> Markup:
    """Returns the plot of the kept share against a cost, with its data; ``costs`` writes the middle columns."""

    def draw(metric: str, cells: list[Cell]) -> Markup:
        keep, title = result.keep if metric == PRIMARY else None, f"Share of {metric} kept against {price.name}"
        points = [_priced(result, cell, cost, price.on_front(cell)) for cell in cells if (cost := price.of(cell))]
        figure = Scatter(points, price.full, keep, title, price.axis, _kept_axis(metric), price.written)
        rows = [
            [
                cell.method,
                numbers.budget(cell.budget),
                *costs(cell),
                numbers.percent(cell.kept),
                "yes" if price.on_front(cell) else "",
            ]
            for cell in cells
        ]
        caption = f"{price.name[0].upper()}{price.name[1:]} and the share of {metric} kept"
        return join(tag("figure", figure.draw()), _data(result, caption, columns, rows, cells))

    return _each_metric(result, draw)


def _priced(result: ReportResult, cell: Cell, cost: float, on_front: bool) -> Priced:
    name = f"{cell.method} {numbers.budget(cell.budget)}"
    return Priced(name, cost, cell.kept, on_front, _chosen(result, cell), cell.kept_low, cell.kept_high)


def _ranking(result: ReportResult, order: ByMethod) -> Section:
    budgets = sorted({cell.budget for cell in result.cells})
    rows = []
    for method, cells in order.items():
        at = {cell.budget: cell for cell in cells}
        rows.append((method, [_tau_heat(at.get(budget), result.recommended) for budget in budgets]))
    text = (
        "Kendall's τ-b between the scores of the models fitted on the small data and on the full data, mean over "
        "metrics and seeds. 1: same ranking; 0: unrelated; below 0: rather reversed; a dash: not all models could be "
        "trained on the method's data. Intervals are those of the mean over users and seeds (with one seed, over "
        "users only)."
    )
    drawn = heat_table("Kendall's τ, methods by budgets", ["method", *map(numbers.budget, budgets)], rows)
    columns = ["method", "budget", "τ", "90 % interval from", "to", "number of models"]
    data = [
        [
            cell.method,
            numbers.budget(cell.budget),
            *(numbers.plain(value, 3) for value in (cell.tau, cell.tau_low, cell.tau_high)),
            str(cell.n_models),
        ]
        for cell in result.cells
    ]
    content = _figure(text, tag("figure", drawn), _data(result, "Kendall's τ", columns, data, result.cells))
    return "ranking", "Ranking of the models", content


def _tau_heat(cell: Cell | None, recommended: Cell | None) -> Heat:
    if cell is None or cell.tau is None:
        return Heat(numbers.NOTHING, None)
    return Heat(numbers.plain(cell.tau), cell.tau, cell == recommended)


def _transfer(result: ReportResult, order: ByMethod) -> Section:
    budgets = sorted({cell.budget for cell in result.cells})
    shown = result.recommended.budget if result.recommended else budgets[-1]
    models = [full.model for full in result.full]

    def draw(metric: str, cells: list[Cell]) -> Markup:
        known = [share for cell in cells for share in cell.kept_by_model.values() if share is not None]
        low, high = min(known), max(*known, 1.0)
        at = {(cell.method, cell.budget): cell.kept_by_model for cell in cells}

        def matrix(budget: float) -> Markup:
            rows = [
                (method, [_share_heat(at[method, budget].get(model), low, high) for model in models])
                for method in order
                if (method, budget) in at
            ]
            caption = f"Share of {metric} kept by each model at {numbers.budget(budget)}"
            return heat_table(caption, ["method", *models], rows)

        text = (
            f"Share of its own full-data {metric} that each model keeps: does a small dataset suit every model, or "
            f"only some? Colours range from {numbers.percent(low, 0)} to {numbers.percent(high, 0)}."
        )
        others = [matrix(budget) for budget in budgets if budget != shown]
        more = folded("The other budgets", *others) if others else None
        return join(tag("p", text), tag("figure", matrix(shown)), more)

    return "transfer", "Transfer to each model", _each_metric(result, draw)


def _share_heat(share: float | None, low: float, high: float) -> Heat:
    return Heat(numbers.percent(share), None if share is None else (share - low) / max(high - low, 1e-9))


def _payback(result: ReportResult, order: ByMethod) -> Section:
    text = (
        "Number of rounds of training (each model fitted once) until the CPU time of making the small data is saved; "
        "never, if fitting on it takes no less than on all rows."
    )
    columns = ["method", "budget", "making", "saved per round", "rounds until it pays off"]
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
    data = _data(result, "Rounds until making the small data pays off", columns, rows, result.cells)
    drawn = tag("figure", payback(order, result.recommended))
    return "payback", "When does it pay off?", _figure(text, drawn, data)


def _weight(result: ReportResult) -> Section | None:
    if not any(cell.bytes for cell in result.cells):
        return None
    columns = ["method", "budget", "size", "share of all", "kept", "on the front"]
    text = (
        "Stored size of the small data against the share that it keeps. The line joins the Pareto front; its bars are "
        "90 % intervals."
    )

    def sizes(cell: Cell) -> list[str]:
        share = cell.bytes / result.full_bytes if cell.bytes and result.full_bytes else None
        return [numbers.size(cell.bytes), numbers.percent(share)]

    axis, full = "size of the small data, bytes (log scale)", result.full_bytes
    price = _Price("bytes", axis, full, lambda cell: cell.bytes, lambda cell: cell.light, numbers.size)
    return "bytes", "Bytes against quality", join(tag("p", text), _against_quality(result, price, columns, sizes))


def _figure(text: str, drawn: Markup, data: Markup) -> Markup:
    return join(tag("p", text), drawn, data)


def _data(
    result: ReportResult, caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], cells: Sequence[Cell]
) -> Markup:
    """Returns a figure's data as a folded table with one row per cell."""
    chosen = next((k for k, cell in enumerate(cells) if _chosen(result, cell)), None)
    return folded("The figure's data", table(caption, columns, rows, chosen, words=["models"]))


def _whole(number: float | None) -> str:
    return numbers.NOTHING if number is None else f"{number:,.0f}"
