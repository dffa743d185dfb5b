"""What the tests of gradient-trained models share: the contract, with one fit a class, and data with an order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from contract import ITEMS_EACH, N_GROUPS, N_ITEMS, USERS_EACH, RecommenderContract, blocks, make_rows

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.evaluation import evaluate
from distill_at_scale.models import Recommender


class TorchContract(RecommenderContract):
    """One fit serves all tests of a class: none of them changes it."""

    @pytest.fixture(scope="class")
    def fitted(self) -> Recommender:
        return self.make().fit(blocks()[0], item_space="fingerprint-1")

    def test_a_fresh_process_scores_the_same(self, fitted: Recommender, tmp_path: Path) -> None:
        pytest.skip("test_torch_models asks one process for all of them: torch takes seconds to import")

    def test_choosing_epochs_on_validation_is_recorded(self) -> None:
        train, heldout = blocks()
        model = self.make(epochs=3, metric="ndcg@3").fit(train, heldout)
        record = model.selection
        assert record is not None
        assert (record.parameter, record.metric) == ("epochs", "ndcg@3")
        assert [point.value for point in record.points] == [1, 2, 3]
        best = max(record.points, key=lambda point: point.metric)
        assert record.chosen == best.value
        result = evaluate(model.score, train, heldout, train.item_counts(), train.n_rows, (3,))
        assert result.metrics["ndcg@3"] == pytest.approx(best.metric, abs=1e-12)


def walks() -> tuple[Interactions, Interactions]:
    """Every user walks round the circle of a group's items, from anywhere, and stops before the last one."""
    train, heldout = [], []
    for user in range(N_GROUPS * USERS_EACH):
        circle = np.roll(np.arange(ITEMS_EACH), user // N_GROUPS) + user % N_GROUPS * ITEMS_EACH
        train.append(circle[:-1].tolist())
        heldout.append(circle[-1:].tolist())
    return make_rows(train), make_rows(heldout)


class SequenceContract(TorchContract):
    """For models of sequences, whose right answer lies in the order."""

    @pytest.fixture(scope="class")
    def walked(self) -> Recommender:
        return self.make().fit(walks()[0])

    def test_finds_the_right_answer(self, walked: Recommender) -> None:
        train, heldout = walks()
        result = evaluate(walked.score, train, heldout, train.item_counts(), train.n_rows, (1, N_ITEMS))
        assert result.metrics["hr@1"] == 1.0
        assert result.metrics["auc"] > 0.99
        assert result.n_users == len(train)

    def test_new_users_are_served(self, walked: Recommender) -> None:
        strangers = make_rows([[0, 1, 2, 3], [ITEMS_EACH + 5, ITEMS_EACH + 6, ITEMS_EACH]], first_user=10_000)
        np.testing.assert_array_equal(walked.score(strangers).argmax(1), [4, ITEMS_EACH + 1])

    def test_the_order_matters(self, walked: Recommender) -> None:
        forth, back = walked.score(make_rows([[1, 2, 3], [3, 2, 1]]))
        assert np.abs(forth - back).max() > 0.1

    def test_repeated_rows_count_once(self, fitted: Recommender) -> None:
        pytest.skip("repetitions are events of a sequence")
