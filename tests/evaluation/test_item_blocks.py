"""Rankings by blocks of items against whole rows: the same lists, ties and figures, in less memory."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation import RankingEvaluator, inverse_propensities
from distill_at_scale.evaluation import item_blocks as blocks
from distill_at_scale.evaluation.item_blocks import BlockScorer, Pairs, default_batch_users, ranking_memory
from distill_at_scale.evaluation.off_policy import LoggedRows, OffPolicySums
from distill_at_scale.evaluation.slices import SliceSums, popularity_slices
from distill_at_scale.evaluation.ties import places, salts
from distill_at_scale.evaluation.top_k import RunningTopK, TopK, rank_blocks

MIB = 1 << 20


def slow_lists(scores: np.ndarray, hidden: np.ndarray, users: np.ndarray, k: int) -> TopK:
    """Sorts whole rows, one user at a time."""
    k = min(k, scores.shape[1])
    shown, values, valid, tied = ([] for _ in range(4))
    for row, user in enumerate(users):
        kept = np.where(hidden[row], -np.inf, scores[row])
        drawn = places(np.arange(len(kept)), np.broadcast_to(salts(np.array([user])), kept.shape))
        order = np.lexsort((drawn, -kept))[:k]
        shown.append(order)
        values.append(kept[order])
        valid.append(~hidden[row][order])
        tied.append([int((kept == kept[item]).sum()) > 1 for item in order])
    return TopK(np.array(shown), np.array(values, dtype=np.float32), np.array(valid), np.array(tied))


@given(
    seed=st.integers(0, 2**32 - 1),
    n_items=st.integers(1, 40),
    k=st.integers(1, 45),
    width=st.integers(1, 45),
    levels=st.sampled_from([0, 1, 3, 1000]),
)
@settings(max_examples=80, deadline=None)
def test_running_lists_equal_sorted_rows(seed: int, n_items: int, k: int, width: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    scores = (rng.integers(-levels, levels + 1, (9, n_items)) / 4).astype(np.float32)
    hidden = rng.random((9, n_items)) < rng.choice([0.0, 0.3, 1.0])
    users = rng.integers(0, 1 << 40, 9)
    pairs = Pairs(*np.nonzero(hidden))
    asked = Pairs(*np.nonzero(rng.random((9, n_items)) < 0.4))
    found, (values,) = rank_blocks(lambda a, b: scores[:, a:b], width, n_items, users, pairs, k, "x", [asked])
    expected = slow_lists(scores, hidden, users, k)
    np.testing.assert_array_equal(found.valid, expected.valid)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.tied[found.valid], expected.tied[expected.valid])
    np.testing.assert_array_equal(values, scores[asked.rows, asked.items])


def test_the_order_of_blocks_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    scores, users = rng.integers(0, 5, (20, 60)).astype(np.float32), np.arange(20)
    forth, back = RunningTopK(users, 7), RunningTopK(users, 7)
    for first in range(0, 60, 6):
        forth.add(scores[:, first : first + 6], first)
    for first in range(54, -1, -6):
        back.add(scores[:, first : first + 6], first)
    for one, other in zip(vars(forth.result()).values(), vars(back.result()).values()):
        np.testing.assert_array_equal(one, other)


def evaluator(counts: np.ndarray, logged: LoggedRows) -> RankingEvaluator:
    return RankingEvaluator(
        inverse_propensities(counts, 1000),
        (1, 5, 20),
        seed=3,
        ratings=True,
        slices=SliceSums(popularity_slices(counts)),
        off_policy=OffPolicySums(5, logged),
    )


def test_every_figure_is_that_of_whole_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    n_users, n_items = 50, 70
    scores = rng.integers(0, 12, (n_users, n_items)).astype(np.float32)

    def rows(most: int) -> Interactions:
        counts = rng.integers(0, most + 1, n_users)
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        items = rng.integers(0, n_items, offsets[-1]).astype(np.int32)
        ratings = rng.integers(1, 6, offsets[-1]).astype(np.float32)
        return Interactions(np.arange(n_users, dtype=np.int64), offsets, items, n_items, ratings=ratings)

    histories, heldout, counts = rows(9), rows(4), rng.integers(0, 40, n_items)
    of_heldout = np.repeat(heldout.users, heldout.counts), heldout.items
    logged = LoggedRows(*of_heldout, np.full(heldout.n_rows, 0.25), np.ones(heldout.n_rows))
    whole, parts = evaluator(counts, logged), evaluator(counts, logged)
    whole.add_all(lambda some: scores[some.users], histories, heldout, batch_users=20)

    monkeypatch.setattr(blocks, "_BYTES", 4 * 20 * 16)
    widths = []

    def begin(some: Interactions) -> blocks.BlockScores:
        def block(first: int, last: int) -> np.ndarray:
            widths.append(last - first)
            return scores[some.users, first:last]

        return block

    monkeypatch.setattr(blocks, "default_batch_users", lambda n_items: 4)
    parts.add_all(BlockScorer(begin), histories, heldout, batch_users=20)
    assert max(widths) == 32  # the last batch has 10 users, those before 20
    assert widths[0] == 16
    assert parts.result() == whole.result()
    assert parts.n_tied_hits == whole.n_tied_hits > 0
    assert parts.slices is not None
    assert whole.slices is not None
    assert parts.slices.result() == whole.slices.result()
    assert parts.off_policy is not None
    assert whole.off_policy is not None
    assert parts.off_policy.result() == whole.off_policy.result()


def test_what_is_sent_does_not_grow_with_the_items() -> None:
    none = LoggedRows(*(np.empty(0, kind) for kind in (np.int64, np.int32, np.float64, np.float64)))
    one, other = evaluator(np.arange(100_000), none), evaluator(np.arange(100_000), none)
    user, ratings = np.arange(1), np.ones(1, np.float32)
    wanted = Interactions(user, np.array([0, 1]), np.array([7], np.int32), 100_000, ratings=ratings)
    nothing = Interactions(user, np.array([0, 0]), wanted.items[:0], 100_000)
    other.add(np.random.default_rng(0).random((1, 100_000), dtype=np.float32), nothing, wanted)
    expected = other.result()
    for each in (one, other):
        each.drop_items()
        assert len(pickle.dumps(each)) < 20_000
    one.merge(other)
    assert one.result() == expected


def test_scores_of_a_wrong_shape_or_not_finite_are_refused() -> None:
    users, none = np.arange(3), Pairs(np.empty(0, np.int64), np.empty(0, np.int64))
    with pytest.raises(DasError, match=r"mine: scores of shape \(3, 5\), expected \(3, 4\)"):
        rank_blocks(lambda a, b: np.zeros((3, 5), np.float32), 4, 10, users, none, 2, "mine")
    with pytest.raises(DasError, match="mine: some scores are NaN"):
        rank_blocks(lambda a, b: np.full((3, b - a), np.nan, np.float32), 4, 10, users, none, 2, "mine")


def test_memory_does_not_grow_with_users_times_items() -> None:
    # Besides 48 bytes an item for weights and popularity, a block of scores and its copies, whatever the catalogue.
    per_item = 48
    for n_items in (10**5, 10**6, 10**7):
        assert ranking_memory(n_items, True) - per_item * n_items <= 8 * 16 * MIB
        assert ranking_memory(n_items, False) >= 24 * 16 * n_items
    # A small catalogue is one block of as many users as ever.
    scorer = BlockScorer(lambda some: lambda first, last: np.empty((0, 0)))
    for n_items in (1, 3706, 60_000):
        users = default_batch_users(n_items)
        assert scorer.batch_users(n_items) == users
        assert scorer.block_items(n_items, users) == n_items
