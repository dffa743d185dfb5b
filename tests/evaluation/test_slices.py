"""Metrics by popularity, and the share of lists that changes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.evaluation import RankingEvaluator
from distill_at_scale.evaluation.slices import SLICES, SliceSums, popularity_slices
from distill_at_scale.evaluation.top_lists import TopLists, changed_share


def test_each_slice_has_a_third_of_the_rows() -> None:
    counts = np.array([0, 10, 30, 5, 5, 10, 30])
    found = popularity_slices(counts)
    assert found[[0, 1, 3, 4, 5]].tolist() == [2] * 5
    assert sorted(found[[2, 6]]) == [0, 1]
    even = popularity_slices(np.ones(300, dtype=np.int64))
    assert np.bincount(even).tolist() == [100, 100, 100]
    # The numbers of equally popular items do not decide: their mean would be 49.5 in the first slice.
    assert all(120 < np.flatnonzero(even == number).mean() < 180 for number in range(3))
    assert popularity_slices(np.zeros(3, dtype=np.int64)).tolist() == [2, 2, 2]


def interactions(matrix: np.ndarray) -> Interactions:
    return Interactions.from_csr(sp.csr_array(matrix.astype(np.float32)))


def evaluator(of_item: np.ndarray) -> RankingEvaluator:
    weights = np.ones(len(of_item))
    return RankingEvaluator(weights, (2,), n_negatives=0, slices=SliceSums(of_item), lists=TopLists(1.0))


def test_metrics_by_slice() -> None:
    # Three users, six items, two of each slice; the list of every user is items 0 and 2.
    of_item = np.array([0, 0, 1, 1, 2, 2], dtype=np.int8)
    histories = interactions(np.eye(3, 6, k=5))
    heldout = interactions(np.array([[1, 0, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0]]))
    scores = np.tile(np.array([6, 0, 5, 0, 1, 0], dtype=np.float32), (3, 1))
    whole = evaluator(of_item)
    whole.add(scores, histories, heldout)
    found = whole.slices.result()
    assert list(found) == list(SLICES)
    assert [found[name]["users"] for name in SLICES] == [2, 2, 1]
    assert [found[name]["heldout"] for name in SLICES] == [2, 2, 1]
    assert [found[name]["recall@2"] for name in SLICES] == [0.5, 1.0, 0.0]
    # Item 2 is at rank 2, for each of the two users.
    assert found["middle"]["ndcg@2"] == pytest.approx(1 / np.log2(3))
    assert [found[name]["listed@2"] for name in SLICES] == [0.5, 0.5, 0.0]
    assert found["head"]["items"] == 2

    parts = [evaluator(of_item), evaluator(of_item)]
    for part, users in zip(parts, (slice(0, 1), slice(1, 3))):
        part.add(scores[users], histories.slice(users.start, users.stop), heldout.slice(users.start, users.stop))
    parts[1].merge(parts[0])
    assert parts[1].slices.result() == found
    assert parts[1].lists.lists == whole.lists.lists
    assert [one[:2] for one in whole.lists.lists.values()] == [[0, 2]] * 3


def test_the_share_of_a_list_that_changes() -> None:
    assert changed_share({1: [1, 2], 2: [3, 4]}, {1: [2, 1], 2: [3, 5], 3: [7, 8]}) == 0.25
    assert changed_share({1: [1]}, {2: [1]}) is None
