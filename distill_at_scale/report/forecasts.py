"""A forecast on the terminal, as a figure, and as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill_at_scale.data import storage
from distill_at_scale.report.figures import numbers
from distill_at_scale.report.figures.curves import Curve, Curves
from distill_at_scale.report.figures.document import svg_document
from distill_at_scale.report.figures.markup import Markup, tag
from distill_at_scale.report.figures.multiples import Point
from distill_at_scale.report.html.plain_page import plain_page
from distill_at_scale.report.html.tables import table
from distill_at_scale.report.layout import grid, show

if TYPE_CHECKING:
    from distill_at_scale.pipelines.sweeps.forecast_result import CurvePoint, ForecastResult, ModelForecast, RowsNeeded

FIGURE, PAGE = "forecast.svg", "forecast.html"
_SHOWN = 0.95
"""Share of the quality on all rows whose budget figures show."""


def forecast_svg(result: ForecastResult) -> bytes:
    """The learning curve of each model with its band, and the budget that keeps 95 %."""
    if not result.models:
        return b""
    figure = Curves(
        f"{result.metric} by the share of train rows",
        {one.model: _curve(one) for one in result.models},
        "train rows, % of all (log scale)",
        result.metric,
    )
    return svg_document([(f"{result.metric} by train rows, and as forecast", figure)])


def keep_forecast(result: ForecastResult) -> None:
    """Writes the figure and the page beside the numbers."""
    storage.write_bytes(storage.join(result.uri, FIGURE), forecast_svg(result))
    storage.write_bytes(storage.join(result.uri, PAGE), _page(result).encode())


def show_forecast(result: ForecastResult) -> None:
    """A row a model, what to beware of, and where the page lies."""
    show(result.headline())
    columns, rows = _rows(result)
    show(grid(columns, rows))
    show(*_sentences(result))
    show(f"See it: {storage.redact(storage.join(result.uri, PAGE))}")


def _curve(one: ModelForecast) -> Curve:
    rungs = [_point(p, f"{numbers.budget(p.share)}: {numbers.plain(p.quality, 4)}") for p in one.rungs]
    end = f"{one.quality:.4f} ({one.low:.4f} to {one.high:.4f})"
    line = [_point(p, end if k == len(one.curve) - 1 else "") for k, p in enumerate(one.curve)]
    enough = next((need for need in one.needed if need.keep == _SHOWN), None)
    told = None if enough is None else (enough.share, f"{100 * enough.keep:g} % at {numbers.percent(enough.share, 0)}")
    return Curve(rungs, line, told)


def _point(of: CurvePoint, tip: str) -> Point:
    return Point(of.share, of.quality, of.low, of.high, tip)


def _rows(result: ForecastResult) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of the table."""
    keeps = [need.keep for need in result.models[0].needed] if result.models else []
    columns = ["model", f"{result.metric} (90 %)", *(f"rows for {100 * keep:g} % (90 %)" for keep in keeps), "fit, CPU"]
    rows = [
        [
            f"{one.model}{' *' if one.doubt else ''}",
            f"{one.quality:.4f} ({one.low:.4f} to {one.high:.4f})",
            *map(_needed, one.needed),
            numbers.cpu(one.fit_cpu_s),
        ]
        for one in result.models
    ]
    return columns, rows


def _needed(need: RowsNeeded) -> str:
    return f"{need.rows:,} ({need.rows_low:,} to {need.rows_high:,})"


def _sentences(result: ForecastResult) -> list[str]:
    """What the table does not say."""
    said = []
    if result.models:
        seeds = f"{result.seeds} seed{'s' * (result.seeds != 1)}"
        saved = (
            f"the forecast took {numbers.cpu(result.spent_cpu_s)}, one fit of each model on all rows would take about"
        )
        said.append(f"Measured on {len(result.rungs)} samples with {seeds}; {saved} {numbers.cpu(result.full_cpu_s)}.")
    if result.tau is not None:
        interval = f"{numbers.plain(result.tau_low)} to {numbers.plain(result.tau_high)}"
        said.append(f"Expected τ of this order with that on all rows: {numbers.plain(result.tau)} ({interval}).")
    said += [f"* {one.doubt}" for one in result.models if one.doubt]
    said += [f"Left out: {sentence}." for sentence in result.left_out]
    return said + [f"Beware: {note}" for note in result.notes]


def _page(result: ForecastResult) -> str:
    """A page that needs nothing but itself."""
    columns, rows = _rows(result)
    title = f"What models would reach on all of {result.data.uri}"
    drawn = forecast_svg(result).decode()
    return plain_page(
        title,
        f"{result.headline()}.",
        table(f"Forecasts of {result.metric} on all rows, with 90 % intervals", columns, rows),
        *(tag("p", sentence) for sentence in _sentences(result)),
        tag("figure", Markup(drawn)),
    )
