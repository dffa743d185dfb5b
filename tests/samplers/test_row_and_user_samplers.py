"""The samplers that need nothing but a pass over the rows, each beside a twin written from its definition."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from samplers_kit import Log, Row, cut, draw_of, kept, make_log, user_hash

from distill_at_scale.data import hashing
from distill_at_scale.samplers import SAMPLERS, find_sampler, row_wise
from distill_at_scale.samplers.train_rows import TrainRows

SEED = 7


def slow_random(log: Log, target: int) -> set[Row]:
    """The rows with the smallest draws."""

    def draw(row: Row) -> int:
        return draw_of("random/keys", SEED, user_hash(row[0]), log.rows[row[0]][row[1]][0])

    return set(sorted(log.names(), key=lambda r: (draw(r), r[1]))[:target])


def slow_share(log: Log, target: int, order: Callable[[int], list[int]]) -> set[Row]:
    """Raises the common share t row by row: a user keeps max(1, ceil(t n − u)) rows, in ``order``."""
    active = [user for user, rows in log.rows.items() if rows]
    taken = dict.fromkeys(active, 1)
    steps = []
    for user in active:
        u = (Fraction(draw_of("row_wise/fractions of users", SEED, user_hash(user)) >> 12) + Fraction(1, 2)) / 2**52
        n = len(log.rows[user])
        steps += [((r + u) / n, user) for r in range(1, n)]
    for _, user in sorted(steps)[: max(0, target - len(active))]:
        taken[user] += 1
    return {(user, k) for user in active for k in order(user)[: taken[user]]}


def slow_stratified(log: Log, target: int) -> set[Row]:
    def order(user: int) -> list[int]:
        rows = log.rows[user]
        return sorted(
            range(len(rows)), key=lambda k: (draw_of("stratified/rows", SEED, user_hash(user), rows[k][0]), k)
        )

    return slow_share(log, target, order)


def slow_temporal(log: Log, target: int) -> set[Row]:
    def order(user: int) -> list[int]:
        rows = log.rows[user]

        def tie(k: int) -> int:
            return draw_of("temporal/equal times", SEED, user_hash(user), rows[k][0])

        return sorted(range(len(rows)), key=lambda k: (-rows[k][1], tie(k)))

    return slow_share(log, target, order)


def slow_whole_users(log: Log, target: int, users: list[int]) -> set[Row]:
    """Takes users in order for as long as that brings the rows nearer to the target."""
    found: set[Row] = set()
    for user in users:
        more = found | {(user, k) for k in range(len(log.rows[user]))}
        if len(more) - target > target - len(found) or (len(more) - target == target - len(found) and found):
            break
        found = more
    return found


def slow_random_users(log: Log, target: int) -> set[Row]:
    order = sorted(log.rows, key=lambda u: draw_of("random_users/keys", SEED, user_hash(u)))
    return slow_whole_users(log, target, order)


def slow_head_users(log: Log, target: int) -> set[Row]:
    def place(user: int) -> tuple[int, int]:
        return -len(log.rows[user]), draw_of("head_users/ties", SEED, user_hash(user))

    return slow_whole_users(log, target, sorted(log.rows, key=place))


TWINS = {
    "random": slow_random,
    "stratified": slow_stratified,
    "temporal": slow_temporal,
    "random_users": slow_random_users,
    "head_users": slow_head_users,
}
LOGS = [make_log(0), make_log(1, ties=False), make_log(2, n_users=25, mean=20.0)]


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("log", LOGS, ids=["ties", "no ties", "long histories"])
@pytest.mark.parametrize("budget", [0.9, 0.5, 0.2, 0.05])
def test_subset_is_the_twins(name: str, log: Log, budget: float) -> None:
    shards, ids = cut(log, 3)
    target = int(budget * log.n_rows + 0.5)
    if SAMPLERS[name].one_a_user:
        target = max(target, sum(bool(rows) for rows in log.rows.values()))
    found = kept([SAMPLERS[name].score(rows, SEED) for rows in shards], shards, ids, target)
    assert found == TWINS[name](log, target)
    if not name.endswith("users"):
        assert len(found) == target


@pytest.mark.parametrize("name", TWINS)
def test_subset_does_not_depend_on_shards_and_budgets_nest(name: str) -> None:
    log = make_log(3, n_users=80)
    found = []
    for n_shards in (1, 5, 16):
        shards, ids = cut(log, n_shards)
        scores = [SAMPLERS[name].score(rows, SEED) for rows in shards]
        found.append([kept(scores, shards, ids, target) for target in (400, 250, 100, 80)])
    assert found[0] == found[1] == found[2]
    for larger, smaller in zip(found[0], found[0][1:]):
        assert smaller <= larger


@pytest.mark.parametrize("name", ["random", "stratified", "random_users"])
def test_another_seed_draws_another_subset(name: str) -> None:
    shards, ids = cut(LOGS[0], 1)
    one, other = (kept([SAMPLERS[name].score(shards[0], s)], shards, ids, 200) for s in (1, 2))
    assert one != other


def test_rows_that_are_duplicates_are_told_apart() -> None:
    """A log prepared with --duplicates all may hold a user's item twice; the budget is met all the same."""
    rows = TrainRows(np.array([0, 6]), np.full(6, 3, np.int32), np.array([9], np.uint64), 5, np.zeros(6, np.int64))
    for name in ("random", "stratified", "temporal"):
        for target in range(1, 7):
            expected = {name: target}
            assert {name: len(kept([SAMPLERS[name].score(rows, SEED)], [rows], [[9]], target))} == expected


def test_ranks_hold_when_draws_share_their_high_bits() -> None:
    rows = TrainRows(np.array([0, 3, 5]), np.zeros(5, np.int32), np.array([1, 2], np.uint64), 1)
    draw = np.array([5, 4, 5, 1, 0], dtype=np.uint64)
    assert row_wise._rank_in_user(rows, draw).tolist() == [1, 0, 2, 1, 0]


def test_an_unknown_sampler_lists_the_known() -> None:
    with pytest.raises(Exception, match=r"Unknown sampler 'magic'; the samplers are random, .*head_users"):
        find_sampler("magic")


@pytest.mark.parametrize("n_items", [40, 40_000])
def test_a_rows_draw_is_the_hash_of_its_user_and_item(n_items: int) -> None:
    """Whether the items' part of the hash is made for every row or looked up."""
    rng = np.random.default_rng(0)
    offsets, items = np.array([0, 70, 70, 200]), rng.integers(n_items, size=200).astype(np.int32)
    rows = TrainRows(offsets, items, hashing.mix(np.arange(3)), n_items)
    begin = hashing.stream("test/rows", SEED)
    expected = [
        hashing.combine(begin, rows.user_hash[[u]], items[[k]].astype(np.uint64)) for k, u in enumerate(rows.owner)
    ]
    np.testing.assert_array_equal(rows.draw(begin), np.concatenate(expected))
