"""A search for the best model, on the terminal and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill_at_scale.data import storage
from distill_at_scale.report.figures import numbers
from distill_at_scale.report.html.plain_page import plain_page
from distill_at_scale.report.html.tables import folded, table
from distill_at_scale.report.layout import command, facts, grid, show

if TYPE_CHECKING:
    from distill_at_scale.pipelines.sweeps.tune_result import CandidateResult, Difference, Judged, TuneResult

PAGE = "tune.html"
_SHOWN = 8


def keep_tuned(result: TuneResult) -> None:
    """Writes the page beside the numbers."""
    storage.write_bytes(storage.join(result.uri, PAGE), _page(result).encode())


def show_tuned(result: TuneResult) -> None:
    """Prints the winner and the runner-up, the rungs, the candidates that came farthest, and the cost."""
    show(facts("tuned", _facts(result)))
    show(grid(*_rungs(result)))
    columns, rows = _candidates(result.candidates[:_SHOWN], result.metric)
    show(grid(columns, rows, words=(0, 1, 4, 5)))
    if len(result.candidates) > _SHOWN:
        show(f"and {len(result.candidates) - _SHOWN:,} candidates that came less far, in {PAGE}")
    show(f"See it: {storage.redact(storage.join(result.uri, PAGE))}")
    if result.model is not None:
        words = ("das", "evaluate", "--data", result.data.uri, "--model", storage.redact(result.model))
        show(f"Use it: {command(*words)}")


def _facts(result: TuneResult) -> list[tuple[str, str]]:
    told = []
    if result.winner is not None:
        told.append(("winner", _judged(result.winner, result.metric)))
    if result.runner_up is not None:
        told.append(("runner-up", _judged(result.runner_up, result.metric)))
    if result.on_test is not None:
        told.append(("winner less runner-up, test", _difference(result.on_test)))
    if result.on_validation is not None:
        told.append(("winner less runner-up, validation", _difference(result.on_validation)))
    if result.model is not None:
        told.append(("model", storage.redact(result.model)))
    told.append(("cost", _cost(result)))
    told += [("left out", f"{sentence}.") for sentence in result.left_out]
    return told + [("beware", note) for note in result.notes]


def _judged(one: Judged, metric: str) -> str:
    settings = _settings(one.settings) or "defaults"
    return f"{one.name} ({settings}): {metric} {one.test[metric]:.4f} on test, {one.validation:.4f} on validation"


def _difference(of: Difference) -> str:
    said = f"{of.value:+.4f} ({of.low:+.4f} to {of.high:+.4f}, 90 % over users)"
    return said if of.low > 0 or of.high < 0 else f"{said}: no clear difference"


def _cost(result: TuneResult) -> str:
    spent = f"{numbers.cpu(result.spent_cpu_s)} for {len(result.candidates):,} candidates"
    if result.full_cpu_s is None:
        return spent
    if result.full_cpu_s <= result.spent_cpu_s:
        full = numbers.cpu(result.full_cpu_s)
        return (
            f"{spent}; all of them on everything would have taken less, about {full}: on so few rows rungs save nothing"
        )
    return f"{spent}; all of them on everything would have taken about {numbers.cpu(result.full_cpu_s)}"


def _settings(settings: dict[str, float]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in settings.items())


def _rungs(result: TuneResult) -> tuple[list[str], list[list[str]]]:
    columns = ["train rows", "users who validated", "tried", "went on", "τ with the next", "CPU"]
    rows = [
        [
            numbers.budget(rung.share),
            f"{rung.users:,}",
            f"{rung.tried:,}",
            f"{rung.kept:,}",
            "–" if rung.tau is None else numbers.plain(rung.tau),
            numbers.cpu(rung.cpu_s),
        ]
        for rung in result.rungs
    ]
    return columns, rows


def _candidates(found: Sequence[CandidateResult], metric: str) -> tuple[list[str], list[list[str]]]:
    columns = ["candidate", "fitted on up to", f"validation {metric}", "CPU", "settings", "why"]
    rows = []
    for one in found:
        last = one.rungs[-1] if one.rungs else None
        rows.append(
            [
                one.name,
                "–" if last is None else numbers.budget(last.share),
                "–" if last is None else f"{last.quality:.4f}",
                numbers.cpu(sum(rung.fit_cpu_s + rung.measure_cpu_s for rung in one.rungs)),
                _settings(one.settings) or "defaults",
                one.dropped,
            ]
        )
    return columns, rows


def _page(result: TuneResult) -> str:
    title = f"The best model for {result.data.uri}"
    columns, rows = _candidates(result.candidates, result.metric)
    spreads = f"{result.search:,} settings a model, proposed by: {result.proposals}"
    return plain_page(
        title,
        f"{result.headline()}.",
        table("Winner and cost", ["", "found"], [list(fact) for fact in _facts(result)], words=("found",)),
        table("Rungs: shares of the train rows, by which candidates were dropped", *_rungs(result)),
        folded(f"All candidates ({spreads})", table("Candidates", columns, rows, words=("settings", "why"))),
    )
