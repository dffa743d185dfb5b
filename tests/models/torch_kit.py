"""What the tests of gradient-trained models share: the contract, read for models that are trained once a class."""

from __future__ import annotations

import pytest
from contract import ITEMS_EACH, N_GROUPS, RecommenderContract, blocks, make_rows

from distill_at_scale.models import Recommender


class TorchContract(RecommenderContract):
    """One fit serves all tests of a class: none of them changes it."""

    @pytest.fixture(scope="class")
    def fitted(self) -> Recommender:
        return self.make().fit(blocks()[0], item_space="fingerprint-1")


class SequenceContract(TorchContract):
    """For models of sequences: what was in a history is no candidate for the next place, and repetition counts."""

    def test_new_users_are_served(self, fitted: Recommender) -> None:
        strangers = make_rows([[0, 1, 2, 3], [ITEMS_EACH, ITEMS_EACH + 1, ITEMS_EACH + 2]], first_user=10_000)
        scores = fitted.score(strangers).reshape(2, N_GROUPS, ITEMS_EACH)
        for row, (group, seen) in enumerate(((0, 4), (1, 3))):
            own = scores[row, group, seen:].min()
            others = scores[row, [g for g in range(N_GROUPS) if g != group]].max()
            assert own > others

    def test_repeated_rows_count_once(self, fitted: Recommender) -> None:
        pytest.skip("repetitions are events of a sequence")
