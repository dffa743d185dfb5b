"""The cell that a report recommends, the fronts of cells, and when a small dataset pays back."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import report_kit as kit

from distill_at_scale import report
from distill_at_scale.data import storage
from distill_at_scale.genie.cells import cells
from distill_at_scale.genie.probability import Candidate, advise, probability
from distill_at_scale.genie.trials import FULL, as_trials
from distill_at_scale.pipelines import recommend as pipelines_recommend
from distill_at_scale.pipelines.report import Cell, front, gather, recommended, safe
from distill_at_scale.report.html import headline

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import write_dataset


@pytest.mark.parametrize(
    ("keep", "method", "budget", "enough"),
    [(0.5, "sketch", 0.02, True), (0.85, "head_users", 0.05, True), (0.999, "head_users", 0.3, False)],
)
def test_the_smallest_that_is_sure_is_recommended(
    tmp_path: Path, keep: float, method: str, budget: float, enough: bool
) -> None:
    """On ease and infinite_ae, which all methods serve; sketch keeps .75 there at the smallest budget by the rule."""
    methods = tuple(name for name in kit.STRENGTHS if keep > 0.5 or name != "head_users")
    sweep = kit.write_sweep(tmp_path / "sweep", kit.rows(methods))
    found = report.write_report(sweep=sweep, output=str(tmp_path / "report.html"), keep=keep)
    assert found.recommended is not None
    assert (found.recommended.method, found.recommended.budget) == (method, budget)
    assert found.met is (found.probability is not None and found.probability >= 0.9) is enough
    made = f"sample --data s3://bucket/data --sampler {method} --budget {budget:g} --output samples"
    if method == "sketch":
        made = "distill --data s3://bucket/data --method sketch --users 20 --output distilled"
    assert found.command == f"das {made}"
    assert ("No method is sure to keep 99.9 %: keep all data." in headline(found)) is not enough
    assert headline(found) in Path(found.uri).read_text().replace("&quot;", '"')


def test_the_safe_side_is_named_where_it_is_another(tmp_path: Path) -> None:
    """What keeps enough with a probability of 0.9 need not do so by its whole 90 % interval."""
    sweep = kit.write_sweep(tmp_path / "sweep", kit.rows(("head_users",), seeds=5, noise=0.05))

    def told(keep: float) -> str:
        found = report.write_report(sweep=sweep, output=str(tmp_path / "report.html"), keep=keep)
        above = [cell for cell in found.cells if cell.new_low is not None and cell.new_low >= keep]
        assert found.safe == min(above, key=lambda cell: cell.budget, default=None)
        return headline(found)

    cells = report.write_report(sweep=sweep, output=str(tmp_path / "report.html")).cells
    assert told(0.5).endswith("Its whole interval for a new sample lies above 50 %.")
    # A probability of 0.92, where the whole interval above would be 0.95.
    between = [one.kept - 1.4 / 1.645 * (one.kept - one.new_low) for one in cells if one.new_low is not None]
    assert f"{cells[1].method} at 5 % is the advice" in told(between[1])
    assert "with a probability of 0.92. The safe choice is head_users at" in told(between[1])
    assert "No method's whole interval for a new sample lies above" in told(max(between))


def test_of_two_that_are_sure_the_smaller_one_is_taken() -> None:
    small, large = _cell(budget=0.1, kept=0.96), _cell(budget=0.3, kept=0.99)
    for keep, first in ((0.9, small), (0.97, large), (1.5, large)):
        both = [Candidate("m", one.budget, probability(one.kept, 0.005, keep), one.kept) for one in (large, small)]
        assert recommended([large, small], advise(both, "random_users"))[0] is first
    assert recommended([], [Candidate(FULL, 1.0, 1.0, 1.0)]) == (None, None)


def test_the_safe_one_is_the_smallest_above_on_the_common_models() -> None:
    small = _cell(budget=0.1, kept=0.96).model_copy(update={"new_low": 0.95})
    large = _cell(budget=0.3, kept=0.99).model_copy(update={"new_low": 0.98})
    assert safe([large, small], 0.95) is small
    assert safe([large, small], 0.97) is large
    assert safe([large, small], 0.99) is None
    assert safe([large, small.model_copy(update={"common": False})], 0.95) is large


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.9, 0.96, 0.999])
def test_the_command_says_what_the_page_says(tmp_path: Path, keep: float) -> None:
    """Of methods that keep what is drawn for them, one of which not all models learn from; seed 5."""
    user = [(u, (u + k) % 5, 1.0, k, (0, 0, 1, 2)[k]) for u in range(4) for k in range(4)]
    dataset = write_dataset(tmp_path / "data", [user], [4], 5)
    known = {"uri": dataset.uri, "fingerprint": dataset.manifest.fingerprint, "train_rows": 100}
    rng = np.random.default_rng(5)
    methods = ("random", "head_users", "sketch")
    drawn = {(method, budget): rng.uniform(0.2, 1.1) for method in methods for budget in kit.BUDGETS}
    trials = [
        {**row, "fingerprint": dataset.manifest.fingerprint, "resampled": None}
        | {"ndcg@10": row["ndcg@10"] * drawn.get((row["method"], row["budget"]), 1.0)}
        for row in kit.rows(methods, seeds=1)
    ]
    sweep = kit.write_sweep(tmp_path / "sweep", trials)
    storage.write_json(f"{sweep}/sweep.json", {**storage.read_json(f"{sweep}/sweep.json"), "data": known})
    shown = report.write_report(sweep=sweep, output=str(tmp_path / "report.html"), keep=keep)
    told = pipelines_recommend.recommend(data=dataset.uri, sweep=sweep, keep=keep)
    assert shown.recommended is not None
    first = next(option for option in told.options if option.method != FULL)
    assert told.options[0].probability >= 0.9
    assert shown.met == told.met == (told.options[0] == first)
    assert (shown.recommended.method, shown.recommended.budget) == (first.method, first.budget)
    assert shown.probability == first.probability
    assert ("keep all data" in headline(shown)) is not shown.met


def _cell(budget: float, kept: float, n_models: int = 2, **costs: float) -> Cell:
    cost = {"make_cpu_s": 1.0, "fit_cpu_s": 1.0, "fit_full_cpu_s": 2.0, **costs}
    empty = dict.fromkeys(("rows", "bytes", "tau", "tau_low", "tau_high"))
    return Cell(
        method="m", budget=budget, share=budget, kept=kept, kept_low=None, kept_high=None, kept_by_model={},
        n_seeds=1, n_models=n_models, **empty, **cost,
    )  # fmt: skip


def test_the_front_by_its_definition() -> None:
    """A point is on it when no other is as good in both and better in one; seed 3, coarse, so that ties occur."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        points = [(float(cost), float(quality)) for cost, quality in rng.integers(0, 8, size=(12, 2))]
        beaten = {
            k
            for k, (cost, quality) in enumerate(points)
            if any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in points)
        }
        expected = {point for k, point in enumerate(points) if k not in beaten}
        found = [points[k] for k in front(points)]
        assert set(found) == expected
        assert len(found) == len(expected)
        assert found == sorted(found)
    assert front([(None, 9.0), (1.0, 2.0)]) == [1]


@pytest.mark.parametrize(("make", "fit", "full"), [(10.0, 1.0, 4.0), (0.0, 3.0, 4.0), (7.0, 4.0, 4.0), (7.0, 5.0, 4.0)])
def test_break_even_by_its_definition(make: float, fit: float, full: float) -> None:
    """Rounds are counted one by one until the small data's total is no larger."""
    cell = _cell(0.1, 0.9, make_cpu_s=make, fit_cpu_s=fit, fit_full_cpu_s=full)
    first = next((n for n in range(1000) if make + n * fit <= n * full), None)
    if full <= fit:
        assert cell.pays_after is None
        assert first is None
    else:
        assert cell.pays_after is not None
        assert first == math.ceil(cell.pays_after)


def test_fronts_are_marked_in_what_is_gathered() -> None:
    found = gather(cells(as_trials(kit.rows(noise=0.0))))
    cheap = {(cell.method, cell.budget) for cell in found if cell.cheap}
    # head_users keeps most at every budget; random and temporal are a little cheaper, which counts at the smallest.
    assert cheap == {("random", 0.02), ("temporal", 0.02), *(("head_users", budget) for budget in kit.BUDGETS)}
    assert {cell.method for cell in found if cell.light} == {"head_users"}
