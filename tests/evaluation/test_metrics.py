"""Every metric against a slow twin written from its definition, one user and one place at a time."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_at_scale.data import hashing
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation import RankingEvaluator, evaluate, inverse_propensities
from distill_at_scale.evaluation.auc import ScoreHistogram, unseen_negatives
from distill_at_scale.evaluation.ties import items_at, places
from distill_at_scale.evaluation.top_k import top_k

KS = (1, 3, 10)


def interactions(rows: list[list[int]], n_items: int, first_user: int = 0) -> Interactions:
    return Interactions(
        users=np.arange(first_user, first_user + len(rows), dtype=np.int64),
        offsets=np.concatenate(([0], np.cumsum([len(items) for items in rows]))).astype(np.int64),
        items=np.array([item for items in rows for item in items], dtype=np.int32),
        n_items=n_items,
    )


def random_case(
    seed: int, n_users: int = 40, n_items: int = 25
) -> tuple[np.ndarray, list[list[int]], list[list[int]], np.ndarray]:
    """Scores with many ties, histories of 0 to all items, held-out rows of 0 to many."""
    rng = np.random.default_rng(seed)
    histories, heldout = [], []
    for _ in range(n_users):
        order = rng.permutation(n_items)
        n_history, n_heldout = rng.integers(0, n_items + 1), rng.integers(0, 8)
        histories.append(sorted(order[:n_history].tolist()))
        heldout.append(sorted(order[n_history : n_history + n_heldout].tolist()))
    scores = np.round(rng.standard_normal((n_users, n_items)), 1).astype(np.float32)
    return scores, histories, heldout, rng.integers(0, 50, n_items)


def slow_place(item: int, user: int) -> int:
    """Where a user's item stands among equal ones: MurmurHash3's finaliser of the item and a draw of the user."""
    draw = hashing.combine(hashing.stream("ranking/ties"), np.array([user], dtype=np.uint64))
    z = item ^ int(draw[0] >> np.uint64(32))
    z = (z ^ z >> 16) * 0x85EBCA6B % 2**32
    z = (z ^ z >> 13) * 0xC2B2AE35 % 2**32
    return z ^ z >> 16


def slow_ranking(scores: np.ndarray, history: list[int], user: int) -> list[int]:
    rest = [item for item in range(len(scores)) if item not in history]
    return sorted(rest, key=lambda item: (-float(scores[item]), slow_place(item, user)))


def slow_metrics(ranking: list[int], target: list[int], p: list[float], k: int) -> dict[str, float]:
    top, wanted = ranking[:k], set(target)
    hits = [item for item in top if item in wanted]
    m = min(len(wanted), k)
    dcg = sum(1 / math.log2(place + 2) for place, item in enumerate(top) if item in wanted)
    places = [place for place, item in enumerate(top) if item in wanted]
    return {
        f"hr@{k}": len(hits) / m,
        f"recall@{k}": len(hits) / len(wanted),
        f"precision@{k}": len(hits) / k,
        f"ndcg@{k}": dcg / sum(1 / math.log2(place + 2) for place in range(m)),
        f"mrr@{k}": 1 / (places[0] + 1) if places else 0.0,
        f"psp@{k}": sum(p[item] / m for item in hits) / sum(sorted((p[i] for i in wanted), reverse=True)[:m]),
    }


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_all_metrics_equal_their_definitions(seed: int) -> None:
    scores, histories, heldout, counts = random_case(seed)
    n_rows = int(counts.sum()) + 3
    c = (math.log(n_rows) - 1) * (1.5 + 1) ** 0.55
    p = [1 + c * (n + 1.5) ** -0.55 for n in counts.tolist()]
    users = [
        {name: value for k in KS for name, value in slow_metrics(slow_ranking(s, h, u), t, p, k).items()}
        for u, (s, h, t) in enumerate(zip(scores, histories, heldout))
        if t
    ]
    evaluator = RankingEvaluator(inverse_propensities(counts, n_rows), KS, n_negatives=5)
    evaluator.add(scores, interactions(histories, 25), interactions(heldout, 25))
    result = evaluator.result()

    assert result.n_users == len(users)
    assert result.n_users_all == 40
    assert result.n_heldout == sum(len(t) for t in heldout)
    for name in users[0]:
        values = np.array([user[name] for user in users])
        assert result.metrics[name] == pytest.approx(values.mean(), abs=1e-12)
        assert result.metrics_all_users[name] == pytest.approx(values.sum() / 40, abs=1e-12)
        error = values.std(ddof=1) / math.sqrt(len(values))
        assert result.standard_errors[name] == pytest.approx(error, abs=1e-7)


@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 40), max_size=5))
@settings(max_examples=30, deadline=None)
def test_batches_and_merged_workers_give_the_same(seed: int, cuts: list[int]) -> None:
    scores, histories, heldout, counts = random_case(seed)
    given_history, given_heldout = interactions(histories, 25), interactions(heldout, 25)
    weights = inverse_propensities(counts, 1000)
    whole = RankingEvaluator(weights, KS, seed=7)
    whole.add(scores, given_history, given_heldout)

    edges = [0, *sorted(cuts), 40]
    workers = [RankingEvaluator(weights, KS, seed=7) for _ in range(3)]
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        batch = given_history.slice(start, stop), given_heldout.slice(start, stop)
        workers[number % 3].add(scores[start:stop], *batch)
    merged = RankingEvaluator(weights, KS, seed=7)
    for worker in workers:
        merged.merge(pickle.loads(pickle.dumps(worker)))

    for part in ("metrics", "metrics_all_users"):
        expected = getattr(whole.result(), part)
        assert getattr(merged.result(), part) == pytest.approx(expected, abs=1e-12)
    assert merged.result().standard_errors == pytest.approx(whole.result().standard_errors, abs=1e-7)
    assert merged.result().n_heldout == whole.result().n_heldout
    assert np.array_equal(merged.histogram.keys, whole.histogram.keys)
    assert np.array_equal(merged.histogram.negatives, whole.histogram.negatives)


@given(
    positives=st.lists(st.floats(-1e6, 1e6, width=32).map(lambda x: float(round(x, 1))), min_size=1, max_size=30),
    negatives=st.lists(st.floats(-1e6, 1e6, width=32).map(lambda x: float(round(x, 1))), min_size=1, max_size=30),
)
@settings(max_examples=60, deadline=None)
def test_auc_is_the_share_of_ordered_pairs(positives: list[float], negatives: list[float]) -> None:
    slow = sum(0.5 if a == b else float(a > b) for a in positives for b in negatives)
    histogram = ScoreHistogram()
    for a in positives:
        histogram.add(np.array([a], np.float32), np.empty(0, np.float32))
    histogram.add(np.empty(0, np.float32), np.array(negatives, np.float32))
    assert histogram.auc() == pytest.approx(slow / (len(positives) * len(negatives)), abs=1e-12)


def exact_auc(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Of float32 scores, by ranks; ties ½."""
    ordered = np.sort(negatives)
    below, upto = (np.searchsorted(ordered, positives, side) for side in ("left", "right"))
    return float((below + upto).sum() / 2 / len(positives) / len(negatives))


@pytest.mark.parametrize("spread", [1e-6, 1e-4, 1e-2, 1.0, 1e3])
@pytest.mark.parametrize("centre", [10.0, -10.0, 0.0])
def test_auc_of_scores_however_narrow(centre: float, spread: float) -> None:
    rng = np.random.default_rng(3)
    positives = np.float32(centre + spread * (0.5 + rng.standard_normal(4_000)))
    negatives = np.float32(centre + spread * rng.standard_normal(40_000))
    histogram = ScoreHistogram()
    histogram.add(positives, negatives)
    assert histogram.auc() == pytest.approx(exact_auc(positives, negatives), abs=1e-12)


@pytest.mark.parametrize("scale", [1e-4, 1.0])
def test_a_full_histogram_stays_bounded_and_near_the_auc_in_any_order(
    scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill_at_scale.evaluation.auc.MOST_BINS", 1 << 10)
    rng = np.random.default_rng(5)
    positives = np.float32(10 + scale * (0.5 + rng.standard_normal(5_000)))
    negatives = np.float32(10 + scale * rng.standard_normal(50_000))
    found = []
    for parts in (1, 7, 40):
        workers = [ScoreHistogram() for _ in range(3)]
        pieces = zip(np.array_split(positives, parts), np.array_split(negatives, parts))
        for number, piece in enumerate(pieces):
            workers[number % 3].add(*piece)
        merged = ScoreHistogram()
        for worker in workers[:: -1 if parts == 7 else 1]:
            merged.merge(worker)
        assert len(merged.keys) <= 1 << 10
        assert (merged.positives.sum(), merged.negatives.sum()) == (5_000, 50_000)
        found.append((merged.shift, merged.keys.tolist(), merged.negatives.tolist(), merged.auc()))
    assert found[0] == found[1] == found[2]
    assert found[0][3] == pytest.approx(exact_auc(positives, negatives), abs=1e-4)


def test_auc_of_an_evaluation_is_global_over_all_users() -> None:
    scores, histories, heldout, counts = random_case(11)
    evaluator = RankingEvaluator(inverse_propensities(counts, 100), seed=4, n_negatives=6)
    evaluator.add(scores, interactions(histories, 25), interactions(heldout, 25))
    positives, negatives = [], []
    for user, (history, target) in enumerate(zip(histories, heldout)):
        if not target:
            continue
        seen = np.array(sorted({*history, *target}))
        _, drawn = unseen_negatives(seen, np.array([0, len(seen)]), np.array([user]), 25, 4, 6)
        positives += scores[user, target].tolist()
        negatives += scores[user, drawn].tolist()
    ordered = [0.5 if a == b else float(a > b) for a in positives for b in negatives]
    assert evaluator.result().metrics["auc"] == pytest.approx(sum(ordered) / len(ordered), abs=1e-12)


def test_auc_of_extreme_scores() -> None:
    histogram = ScoreHistogram()
    histogram.add(np.float32([3e38, -1e-40, 0.0]), np.float32([-3e38, 1e-40, -0.0]))
    slow = sum(0.5 if a == b else float(a > b) for a in (3e38, -1e-40, 0.0) for b in (-3e38, 1e-40, 0.0))
    assert histogram.auc() == pytest.approx(slow / 9, abs=1e-12)


def test_negatives_are_unseen_uniform_and_only_the_users_own() -> None:
    seen = [[0, 1, 2, 5, 9], [], list(range(10)), list(range(9))]
    offsets = np.concatenate(([0], np.cumsum([len(s) for s in seen])))
    flat = np.array([item for s in seen for item in s], dtype=np.int64)
    users = np.array([3, 8, 9, 11])
    rows, items = unseen_negatives(flat, offsets, users, 10, seed=1, n_draws=4000)
    assert np.bincount(rows, minlength=4).tolist() == [4000, 4000, 0, 4000]
    for row, history in enumerate(seen):
        drawn = np.bincount(items[rows == row], minlength=10)
        assert not drawn[history].any()
        rest = [item for item in range(10) if item not in history]
        if rest:
            expected = 4000 / len(rest)
            assert (np.abs(drawn[rest] - expected) < 5 * math.sqrt(expected)).all()
    # A user's draws do not depend on the others.
    alone_rows, alone = unseen_negatives(flat[:5], np.array([0, 5]), users[:1], 10, seed=1, n_draws=4000)
    assert np.array_equal(alone, items[rows == 0])
    assert not np.array_equal(alone, unseen_negatives(flat[:5], np.array([0, 5]), users[:1], 10, 2, 4000)[1])
    assert alone_rows.max() == 0


@pytest.mark.parametrize("k", [1, 4, 9, 10, 50])
def test_top_k_orders_ties_by_a_draw(k: int) -> None:
    scores = np.float32([[1, 3, 3, 0, -0.0, 3, -2, 1, 1, 0], [5] * 10, [0] * 10])
    mask_rows, mask_items = np.array([0, 2, 2, 2]), np.array([1, 0, 1, 2])
    users = np.array([7, 2**40, 0])
    best = top_k(scores, mask_rows, mask_items, k, users)
    for row, history in enumerate(([1], [], [0, 1, 2])):
        rest = [item for item in range(10) if item not in history]
        expected = slow_ranking(scores[row], history, int(users[row]))[:k]
        assert best.items[row][best.valid[row]].tolist() == expected
        shared = [(scores[row][rest] == scores[row][item]).sum() > 1 for item in expected]
        assert best.tied[row][best.valid[row]].tolist() == shared


def test_equal_scores_give_what_chance_gives() -> None:
    """Of 30 equal items one is held out: whichever it is, it is the first for one user in thirty."""
    users, items = 6000, 30
    for wanted in (0, 13, 29):
        evaluator = RankingEvaluator(np.ones(items), (1, 10), n_negatives=0)
        histories, heldout = (interactions([rows] * users, items) for rows in ([], [wanted]))
        evaluator.add(np.ones((users, items), np.float32), histories, heldout)
        result = evaluator.result()
        assert abs(result.metrics["hr@1"] - 1 / 30) < 4 * math.sqrt(29 / 30**2 / users)
        assert abs(result.metrics["hr@10"] - 1 / 3) < 4 * math.sqrt(2 / 9 / users)
        assert result.tied_hits == 1.0


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20), st.integers(0, 2**32 - 1))
def test_places_can_be_undone(items: list[int], salt: int) -> None:
    found = places(np.array(items), np.uint64(salt))
    assert (found < 2**32).all()
    assert items_at(found, np.uint64(salt)).tolist() == items


def test_an_item_both_seen_and_held_out_is_never_hit() -> None:
    evaluator = RankingEvaluator(np.ones(3), (3,))
    evaluator.add(np.float32([[9, 1, 0]]), interactions([[0]], 3), interactions([[0, 1]], 3))
    result = evaluator.result()
    assert result.metrics["hr@3"] == 0.5
    assert result.metrics["mrr@3"] == 1.0


def test_repeated_rows_count_once() -> None:
    evaluator = RankingEvaluator(np.ones(4), (2,))
    evaluator.add(np.float32([[0, 1, 2, 3]]), interactions([[0, 0]], 4), interactions([[3, 3]], 4))
    assert evaluator.result().metrics["recall@2"] == 1.0
    assert evaluator.result().n_heldout == 1


def test_known_rows_decide_what_is_a_negative() -> None:
    # Item 0 alone is left to draw when all other items are known; it outscores the held-out item.
    scores = np.float32([[5, 0, 1, 2]])
    histories, heldout, known = ([[0, 2]], [[3]], [[1, 2]])
    evaluator = RankingEvaluator(np.ones(4), (1,))
    evaluator.add(scores, *(interactions(rows, 4) for rows in (histories, heldout, known)))
    assert evaluator.result().metrics["auc"] == 0.0
    default = RankingEvaluator(np.ones(4), (1,))
    default.add(scores, interactions(histories, 4), interactions(heldout, 4))
    assert default.result().metrics["auc"] == 1.0


def test_mse_is_over_the_rows() -> None:
    heldout = interactions([[0, 2], [], [1]], 3)
    heldout = Interactions(heldout.users, heldout.offsets, heldout.items, 3, ratings=np.float32([4, 1, 2]))
    scores = np.float32([[3, 0, 2], [9, 9, 9], [0, 5, 0]])
    result = evaluate(
        lambda batch: scores[batch.users], interactions([[1], [0], []], 3), heldout, np.ones(3), 9, (1,), ratings=True
    )
    assert result.metrics["mse"] == pytest.approx((1 + 1 + 9) / 3)
    with pytest.raises(DasError, match="no ratings"):
        evaluate(
            lambda batch: scores[batch.users],
            interactions([[1], [0], []], 3),
            interactions([[0, 2], [], [1]], 3),
            np.ones(3),
            9,
            ratings=True,
        )


def test_evaluate_does_not_depend_on_the_batch() -> None:
    scores, histories, heldout, counts = random_case(3)
    args = interactions(histories, 25), interactions(heldout, 25), counts, int(counts.sum())
    results = [evaluate(lambda batch: scores[batch.users], *args, KS, 5, size) for size in (1, 7, 40, None)]
    for other in results[1:]:
        assert other.metrics == pytest.approx(results[0].metrics, abs=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_cannot_be_ranked_are_refused(bad: float) -> None:
    scores = np.zeros((2, 3), np.float32)
    scores[1, 2] = bad
    evaluator = RankingEvaluator(np.ones(3), name="ease")
    with pytest.raises(DasError, match=r"ease: some scores are NaN or infinite.*lam"):
        evaluator.add(scores, interactions([[0], [1]], 3), interactions([[1], [0]], 3))


def test_wrong_inputs_are_refused() -> None:
    evaluator = RankingEvaluator(np.ones(3))
    history, heldout = interactions([[0], [1]], 3), interactions([[1], [0]], 3)
    with pytest.raises(DasError, match="shape"):
        evaluator.add(np.zeros((2, 4), np.float32), history, heldout)
    with pytest.raises(DasError, match="not of the same users"):
        evaluator.add(np.zeros((2, 3), np.float32), history, interactions([[1], [0]], 3, first_user=5))
    with pytest.raises(DasError, match="No user has held-out rows"):
        evaluate(lambda batch: np.zeros((len(batch), 3), np.float32), history, interactions([[], []], 3), np.ones(3), 2)
    with pytest.raises(DasError, match="cut-off"):
        RankingEvaluator(np.ones(3), (0,))
    with pytest.raises(DasError, match="cannot be merged"):
        evaluator.merge(RankingEvaluator(np.ones(3), seed=1))
