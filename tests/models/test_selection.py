"""The search over a grid, the registry, and what memory there is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from crew_kit import crew, source_of

from distill_at_scale.data import ragged
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation.groups import UserGroups, difference_error
from distill_at_scale.models import MODELS, create_model, load_model
from distill_at_scale.models.memory import available_memory
from distill_at_scale.models.selection import (
    GridPoint,
    Selection,
    Validated,
    doubt,
    evaluator_of,
    select,
    validation_metric,
    validation_users,
)
from distill_at_scale.models.training import validation as of_pieces
from distill_at_scale.models.training.validation import JudgedUsers


def valued(metric: float) -> Validated:
    return Validated(metric, np.array([1000.0]))


def search(peak: float, grid: tuple[float, ...], **options: Any) -> tuple[Selection, str]:
    return select("lam", "ndcg@10", grid, lambda v: (valued(-abs(math.log(v / peak))), f"fit of {v:g}"), **options)


def test_the_best_inside_the_grid() -> None:
    record, fitted = search(4, (1, 2, 4, 8))
    assert (record.chosen, fitted, record.n_extensions, record.at_edge) == (4, "fit of 4", 0, False)
    assert [point.value for point in record.points] == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("peak", "around"), [(4, [2, 4, 8]), (8, [4, 8, 16]), (1, [0.5, 1, 2]), (1e-9, [2.0**-6, 2.0**-5])]
)
def test_a_search_on_more_rows_begins_around_what_was_chosen(peak: float, around: list[float]) -> None:
    assert search(peak, (1, 2, 4, 8))[0].around() == around
    assert search(3, (3,))[0].around() == [3]


@pytest.mark.parametrize(("peak", "chosen", "tried"), [(32, 32, [1, 2, 4, 8, 16, 32, 64]), (0.25, 0.25, None)])
def test_the_search_goes_on_beyond_an_edge(peak: float, chosen: float, tried: list[float] | None) -> None:
    record, fitted = search(peak, (1, 2, 4))
    assert (record.chosen, fitted, record.at_edge) == (chosen, f"fit of {chosen:g}", False)
    assert [point.value for point in record.points] == (tried or [0.125, 0.25, 0.5, 1, 2, 4])


def test_a_search_that_never_turns_stops_and_says_so() -> None:
    record, _ = search(1e9, (1, 10))
    assert record.at_edge
    assert record.n_extensions == 6
    assert record.chosen == 1e7


def test_bounds_and_whole_numbers() -> None:
    record, _ = search(1e9, (2, 3, 50), bounds=(0.0, 20.0), integer=True)
    assert [point.value for point in record.points] == [2, 3, 20]
    assert not record.at_edge  # 20 is all there is
    record, _ = search(7, (2, 3), integer=True)
    assert all(point.value == int(point.value) for point in record.points)


def test_equal_metrics_go_to_the_first_and_nan_is_refused() -> None:
    record, fitted = select("lam", "auc", (3, 1, 2), lambda v: (valued(0.5), v))
    assert (record.chosen, fitted) == (1, 1)
    with pytest.raises(DasError, match="lam=2 gives auc NaN"):
        select("lam", "auc", (1, 2), lambda v: (valued(math.nan if v == 2 else 0.0), v))


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(DasError, match=f"Unknown model 'eas'; the models are {', '.join(MODELS)}"):
        create_model("eas")
    with pytest.raises(DasError, match="no model here"):
        load_model("/nowhere/at/all")
    assert {"popularity", "ease", "svd_ae", "infinite_ae"} <= set(MODELS)


def test_settings_may_be_text_as_from_a_command_line() -> None:
    assert create_model("ease", {"lam": "400"}).config.lam == 400.0
    with pytest.raises(DasError, match="ease: setting 'metric'"):
        create_model("ease", {"metric": "ndcg"})


def test_available_memory_is_that_of_this_machine() -> None:
    assert 1 << 20 < available_memory() < 1 << 50


def of_users(values: np.ndarray) -> Validated:
    """What a validation on users 0, 1, … with these values finds."""
    groups = UserGroups()
    groups.add(np.arange(len(values)), {"m": values})
    return Validated(float(values.mean()), groups.counts, groups.sums["m"])


def test_the_error_of_a_difference_is_that_of_paired_users() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(5000), rng.random(5000)
    one, other = of_users(first), of_users(second)
    assert one.sums is not None
    assert other.sums is not None
    exact = (first - second).std(ddof=1) / math.sqrt(5000)
    assert difference_error(one.sums, other.sums, one.counts) == pytest.approx(exact, rel=0.25)  # of 64 groups
    # What all users have in common is no doubt about a difference.
    assert difference_error(one.sums, of_users(first - 0.3).sums, one.counts) == pytest.approx(0.0, abs=1e-12)
    merged = UserGroups()
    for part in np.array_split(np.arange(5000), 3):
        half = UserGroups()
        half.add(part, {"m": first[part]})
        merged.merge(half)
    np.testing.assert_allclose(merged.sums["m"], one.sums)
    np.testing.assert_array_equal(merged.counts, one.counts)


def test_doubt_bounds_what_another_value_may_gain() -> None:
    """In about 19 of 20 draws no other value is really better by more."""
    rng, n, held = np.random.default_rng(1), 200, 0
    truth = np.array([0.30, 0.32, 0.33, 0.32, 0.25])
    for _ in range(400):
        common = rng.normal(0, 0.2, n)
        found = [of_users(mean + common + rng.normal(0, 0.1, n)) for mean in truth]
        best = int(np.argmax([one.metric for one in found]))
        held += (truth.max() - truth[best]) <= doubt(found) * found[best].metric
    assert held >= 0.92 * 400


@pytest.mark.parametrize(("n", "gap", "lottery"), [(20, 0.0, True), (20, 0.25, False), (4000, 0.0, False)])
def test_a_lottery_is_where_few_users_see_no_difference(n: int, gap: float, lottery: bool) -> None:
    rng = np.random.default_rng(2)
    base = rng.random(n)

    def try_value(value: float) -> tuple[Validated, None]:
        return of_users(base - gap * (value != 2) + rng.normal(0, 0.05, n)), None

    record, _ = select("lam", "ndcg@10", (1, 2, 3), try_value)
    assert (record.n_users, record.lottery) == (n, lottery)
    assert (record.warning() is not None) == lottery
    if lottery:
        assert f"by {n} users with validation rows, which is a lottery" in str(record.warning())


def test_few_users_who_see_no_difference_at_all_and_a_metric_of_zero_are_lotteries() -> None:
    record, _ = select("lam", "hr@10", (1, 2), lambda value: (of_users(np.full(10, 0.5)), None))
    assert record.lottery
    record, _ = select("lam", "hr@10", (1, 2), lambda value: (of_users(np.zeros(10_000)), None))
    assert record.lottery
    assert "hr@10 is 0 for every value" in str(record.warning())
    record, _ = select("lam", "auc", (1, 2), lambda value: (Validated(0.5 + value / 10, np.array([5000.0])), None))
    assert not record.lottery


def test_a_possible_gain_is_no_larger_than_what_is_left() -> None:
    def warning(metric: str, best: float, doubt: float | None) -> str:
        points = [GridPoint(value=value, metric=of, seconds=0.1) for value, of in ((1.0, best / 2), (2.0, best))]
        said = Selection(
            parameter="lam", metric=metric, points=points, chosen=2.0, n_extensions=0, at_edge=False, seconds=0.1,
            n_users=3, doubt=doubt, lottery=True,
        ).warning()  # fmt: skip
        return str(said)

    assert "may be as good, since ndcg@10 is 1.00 already. Set lam" in warning("ndcg@10", 1.0, 1.5)
    assert "may be better by up to 25 % of ndcg@10. Set lam" in warning("ndcg@10", 0.8, 1.5)
    assert "may be better by up to 10 % of ndcg@10" in warning("ndcg@10", 0.8, 0.1)
    assert "may be better by more than 100 % of ndcg@10" in warning("ndcg@10", 0.1, 1.5)
    assert "may be better by more than 100 % of my.module:METRIC@10" in warning("my.module:METRIC@10", 1.0, None)


def rows_of(counts: list[int], first_user: int = 0) -> Interactions:
    """As many rows of each user, of items 0, 1, …"""
    users = np.arange(first_user, first_user + len(counts))
    items = np.concatenate([np.arange(n) for n in counts]).astype(np.int32)
    return Interactions(users, ragged.offsets(np.array(counts)), items, 8)


def test_values_are_compared_on_users_with_a_history() -> None:
    train, validation = rows_of([3, 0, 2, 1, 0]), rows_of([1, 1, 0, 2, 0])
    assert validation_users(train, validation).tolist() == [0, 3]
    asked: list[int] = []

    def score(histories: Interactions) -> np.ndarray:
        asked.extend(histories.users.tolist())
        return np.tile(np.arange(8, dtype=np.float32), (len(histories), 1))

    found = validation_metric(score, train, validation, "ndcg@10", "m")
    assert (asked, found.n_users) == ([0, 3], 2)
    # Where nobody has both, what is there decides.
    assert validation_metric(score, rows_of([0, 3]), rows_of([1, 0]), "ndcg@10", "m").n_users == 1


def test_of_many_users_a_hash_draws_some_the_same_in_every_sample() -> None:
    many = rows_of([1] * 4000)
    drawn = validation_users(many, many, most=1000)
    assert 850 < len(drawn) < 1150
    few = validation_users(many, many, most=500)
    assert set(few) < set(drawn)
    assert len(validation_users(many, many)) == 4000


@pytest.mark.parametrize("with_history", [True, False])
def test_workers_judge_the_users_that_are_drawn_of_all_rows(
    with_history: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_pieces, "MOST_USERS", 100)
    train, validation = rows_of([2, 0, 1] * 200 if with_history else [0] * 600), rows_of([1] * 600)

    def work(communicator: Any) -> list[int]:
        asked: list[int] = []

        def score(histories: Interactions) -> np.ndarray:
            asked.extend(histories.users.tolist())
            return np.tile(np.arange(8, dtype=np.float32), (len(histories), 1))

        judged = JudgedUsers(source_of(train, validation, communicator), communicator)
        judged.add_to(evaluator_of("ndcg@10", np.ones(8), "m"), score)
        return asked

    asked = sorted(user for one in crew(3, work) for user in one)
    assert asked == train.users[validation_users(train, validation, most=100)].tolist()
    assert len(asked) < 200 or not with_history


def test_a_linear_model_selects_what_it_selects_on_all_users_of_a_sample() -> None:
    """Users without a history have the same scores for every λ, so that leaving them out moves no choice."""
    rng = np.random.default_rng(3)
    taste = rng.random((300, 2)) @ rng.random((2, 40)) + 0.3 * rng.random((300, 40))
    order = np.argsort(-taste, axis=1)
    everyone = sp.csr_array(np.zeros((300, 40)))
    train, validation = everyone.tolil(), everyone.tolil()
    for user in range(300):
        validation[user, order[user, 6]] = 1.0
        if user % 3 == 0:  # The others are outside the sample.
            train[user, order[user, :6]] = 1.0
    rows = [Interactions.from_csr(matrix.tocsr()) for matrix in (train, validation)]
    model = create_model("ease").fit(*rows)
    narrow = create_model("ease").fit(*(one.take(np.arange(0, 300, 3)) for one in rows))
    assert model.selection is not None
    assert narrow.selection is not None
    assert model.selection.chosen == narrow.selection.chosen
    assert model.selection.n_users == 100
