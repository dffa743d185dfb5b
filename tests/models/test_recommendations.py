"""Recommendations by the log's ids: equal to a slow twin's for every model, and to what evaluation measures."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from recommend_kit import N_ITEMS, SETTINGS, fitted, make_dataset, slow_lists

from distill_at_scale.data.columns import HISTORIES
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.evaluation import RankingEvaluator
from distill_at_scale.models import Recommender, create_model
from distill_at_scale.registry import MODELS


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("data") / "prepared")


@pytest.fixture(scope="module")
def model_of(dataset: Dataset) -> Callable[[str], Recommender]:
    """Each model, fitted once."""
    return functools.cache(lambda name: fitted(name, dataset))


@pytest.fixture(scope="module")
def ease(dataset: Dataset) -> Recommender:
    return fitted("ease", dataset)


def test_the_kit_has_every_model() -> None:
    assert SETTINGS.keys() == set(MODELS)


@pytest.mark.parametrize("name", SETTINGS)
def test_lists_are_those_of_a_slow_twin(name: str, dataset: Dataset, model_of: Callable[[str], Recommender]) -> None:
    model = model_of(name)
    found = model.recommend(dataset, k=6)
    assert found.rows() == slow_lists(model, dataset, 6)
    assert found.schema == {"user_id": pl.String, "item_id": pl.Int64, "rank": pl.Int32, "score": pl.Float32}


def test_ties_are_settled_by_user_and_not_by_id(dataset: Dataset) -> None:
    """Items without a train row have the same score: each user gets them in an order of its own."""
    last = fitted("popularity", dataset).recommend(dataset, k=N_ITEMS).filter(pl.col("score") == 0.0)
    orders = {tuple(group["item_id"]) for _, group in last.group_by("user_id")}
    assert all(sorted(order)[-5:] == [180, 190, 200, 210, 220] for order in orders)
    assert len(orders) > 20


@pytest.mark.parametrize("history", HISTORIES)
def test_seen_items_are_those_of_the_history(history: str, dataset: Dataset, ease: Recommender) -> None:
    found = ease.recommend(dataset, k=N_ITEMS, history=history)
    assert found.rows() == slow_lists(ease, dataset, N_ITEMS, history)
    assert ease.recommend(dataset, k=4, history=history, include_seen=True).rows() == slow_lists(
        ease, dataset, 4, history, include_seen=True
    )


@pytest.mark.parametrize(("split", "history"), [("test", "train+validation"), ("validation", "train")])
@pytest.mark.parametrize("name", ["popularity", "infinite_ae"])
def test_lists_are_what_evaluation_measures(name: str, split: str, history: str, dataset: Dataset) -> None:
    model = fitted(name, dataset)
    evaluator = RankingEvaluator(np.ones(N_ITEMS), (3,), n_negatives=0)
    heldout = set()
    for shard in range(len(dataset.shards)):
        histories, wanted = dataset.histories(split, shard)
        evaluator.add_all(model.score, histories, wanted)
        heldout |= {(f"u{user}", 10 * item) for user, item in zip(wanted.users.tolist(), wanted.items.tolist())}
    lists = model.recommend(dataset, k=3, history=history)
    hits = [(user, item) in heldout for user, item in lists.select("user_id", "item_id").rows()]
    gain = sum(hit / np.log2(rank + 1) for hit, rank in zip(hits, lists["rank"]))
    result = evaluator.result()
    assert result.metrics["hr@3"] == pytest.approx(sum(hits) / dataset.n_users)
    assert result.metrics["ndcg@3"] == pytest.approx(gain / dataset.n_users)
    assert 0 < sum(hits) < len(heldout)


def test_some_users_in_the_order_asked_for(dataset: Dataset, ease: Recommender) -> None:
    everybody = ease.recommend(dataset, k=3)
    asked = ["u20", "u3", "u20"]
    found = ease.recommend(dataset, asked, k=3)
    expected = pl.concat([everybody.filter(user_id="u20"), everybody.filter(user_id="u3")])
    assert found.rows() == expected.rows()
    assert ease.recommend(dataset, "u3", k=3).rows() == everybody.filter(user_id="u3").rows()
    assert ease.recommend(dataset, np.array(["u3"]), k=3).rows() == everybody.filter(user_id="u3").rows()
    assert ease.recommend(dataset, [], k=3).shape == (0, 4)


def test_unknown_users_are_listed(dataset: Dataset, ease: Recommender, caplog: pytest.LogCaptureFixture) -> None:
    asked = ["u1", *(f"nobody {k}" for k in range(8))]
    with caplog.at_level(logging.WARNING):
        assert ease.recommend(dataset, asked, k=2)["user_id"].to_list() == ["u1", "u1"]
    (said,) = caplog.messages
    assert said.startswith("8 of the 9 users asked for are not in /")
    assert said.endswith("'nobody 0', 'nobody 1', 'nobody 2', 'nobody 3', 'nobody 4' and 3 more.")
    with pytest.raises(DasError, match=r"^none of the 2 users asked for is in .*: 'x', 'y'\.$"):
        ease.recommend(dataset, ["x", "y"])


def test_more_than_there_is(dataset: Dataset, ease: Recommender, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = ease.recommend(dataset, k=1000)
    assert caplog.messages == [
        f"k=1,000 is more than the {N_ITEMS} items there are: lists hold all items that are left and are shorter."
    ]
    lengths = dict(found.group_by("user_id").len().rows())
    counts = {f"u{user}": n for user, n in enumerate(dataset.interactions(*HISTORIES["all"]).counts.tolist())}
    assert lengths == {user: N_ITEMS - n for user, n in counts.items()}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"k": 0}, "k=0: a list has at least one item"),
        ({"history": "test"}, "history 'test' is not one of all, train\\+validation, train"),
        ({"users": [1.5, "a"]}, "user_id: the ids are not of one kind; the dataset's are text"),
        ({"histories": pl.DataFrame({"a": [1], "b": [10]})}, "frame has no column that is user_id for certain"),
        ({"histories": pl.DataFrame({"user_id": [1], "item_id": ["x"]})}, "item ids are String, those of the model"),
        ({"histories": [1, 2]}, "A list holds no histories"),
    ],
)
def test_wrong_settings(settings: dict, says: str, dataset: Dataset, ease: Recommender) -> None:
    with pytest.raises(SettingError, match=says):
        ease.recommend(dataset, **settings)


def test_a_model_of_other_items_is_refused(tmp_path: Path, dataset: Dataset, ease: Recommender) -> None:
    ease.item_space = "another"
    try:
        with pytest.raises(DasError, match="another item numbering"):
            ease.recommend(dataset)
    finally:
        ease.item_space = dataset.manifest.item_space


@pytest.mark.parametrize("name", SETTINGS)
def test_new_users_by_their_history(name: str, dataset: Dataset, model_of: Callable[[str], Recommender]) -> None:
    """A history gives a list whoever has it and beside whom; who is known to the dataset is taken by it alone."""
    model = model_of(name)
    rows = pl.DataFrame({"user_id": ["new", "u1", "new"], "item_id": [10, 30, 20]})
    found = model.recommend(dataset, k=4, histories=rows)
    assert found["user_id"].to_list() == ["new"] * 4 + ["u1"] * 4
    assert not set(found.filter(user_id="new")["item_id"]) & {10, 20}
    alone = model.recommend(dataset, k=4, histories=rows.filter(user_id="new"))
    assert alone["item_id"].to_list() == found["item_id"].to_list()[:4]
    np.testing.assert_allclose(alone["score"], found["score"][:4], rtol=1e-4)
    chosen = model.recommend(dataset, ["u1"], k=4, histories=rows)
    assert chosen.rows() == found.rows()[4:]


def test_histories_with_times_and_unknown_items(dataset: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    model = fitted("sasrec", dataset)

    def lists(items: list[int], **more: list[int]) -> pl.DataFrame:
        frame = pl.DataFrame({"user_id": [7] * len(items), "item_id": items, **more})
        return model.recommend(dataset, k=5, histories=frame)

    forwards = lists([10, 20, 50], timestamp=[0, 1, 2])
    with caplog.at_level(logging.WARNING):
        assert lists([50, 20, 999, 10], timestamp=[2, 1, 1, 0]).rows() == forwards.rows()
    assert caplog.messages == ["1 rows of the histories are of items that the model does not know; they are left out."]
    backwards = lists([10, 20, 50], timestamp=[2, 1, 0])
    assert backwards["score"].to_list() != forwards["score"].to_list()
    with pytest.raises(DasError, match=r"1 rows of the histories are of items .* and there are no others"):
        lists([999])


def test_models_of_frames_and_matrices_need_no_dataset() -> None:
    rows = {"who": ["a", "a", "b", "b", "c", "c", "c"], "what": ["x", "y", "y", "z", "x", "z", "w"]}
    frame = pl.DataFrame(rows)
    model = create_model("ease", {"lam": 1.0}).fit(frame, user="who", item="what")
    found = model.recommend(frame.rename({"who": "user_id", "what": "item_id"}), k=2)
    assert found["user_id"].to_list() == ["a", "a", "b", "b", "c"]
    assert set(found.filter(user_id="c")["item_id"]) == {"y"}
    assert model.similar_items(items="w", k=1)["item_id"].to_list() == ["w"]
    matrix = sp.csr_array(np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0]]))
    by_number = create_model("mf", {"epochs": 1, "dim": 2}).fit(matrix)
    found = by_number.recommend(matrix, [2, 0], k=1)
    assert found["user_id"].to_list() == [2, 0]
    with pytest.raises(SettingError, match="does not know the ids of its items"):
        by_number.recommend(pl.DataFrame({"user_id": [1], "item_id": [0]}))


def test_similar_items_of_ease_are_its_weights(dataset: Dataset, ease: Recommender) -> None:
    found = ease.similar_items(dataset, k=N_ITEMS - 1)
    assert found.columns == ["item_id", "similar_item_id", "rank", "score"]
    weights = ease._weights()["item_weights"]
    by_pair = {row[:2]: row[3] for row in found.rows()}
    assert by_pair == {
        (10 * one, 10 * other): float(weights[one, other])
        for one in range(N_ITEMS)
        for other in range(N_ITEMS)
        if one != other
    }
    for _, group in found.group_by("item_id"):
        assert group["rank"].to_list() == list(range(1, N_ITEMS))
        assert group["score"].to_list() == sorted(group["score"], reverse=True)
    few = ease.similar_items(dataset, [50, 10], k=3)
    assert few.rows() == [row for item in (50, 10) for row in found.filter(item_id=item).rows()[:3]]


@pytest.mark.parametrize("name", SETTINGS)
def test_similar_items_of_every_model(name: str, dataset: Dataset, model_of: Callable[[str], Recommender]) -> None:
    found = model_of(name).similar_items(dataset, [30, 999], k=5)
    assert found["item_id"].to_list() == [30] * 5
    assert 30 not in found["similar_item_id"]
