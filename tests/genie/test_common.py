"""On which models cells are compared: an order of two methods does not hang on who else was trained."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from test_trials import FULL, as_trials, cells, trial

from distill_at_scale.genie.common import classes, main_models

METHODS = ("random", "head_users", "sketch", "farzi")
_models = st.sets(st.sampled_from("abcdef"), min_size=1)


def sweep(serves: dict[str, set[str]], full: set[str]) -> list[dict]:
    """Trials of methods whose small data each serve some models."""
    rows = [trial(FULL, 1.0, 0, model) for model in sorted(full)]
    return rows + [
        trial(method, budget, 0, model)
        for method, models in serves.items()
        for budget in (0.1, 0.3)
        for model in sorted(models)
    ]


@given(st.lists(_models, min_size=2, max_size=4))
def test_all_methods_of_a_class_have_its_models(sets: list[set[str]]) -> None:
    found = classes(dict(enumerate(sets)))
    assert found.keys() == set(range(len(sets)))
    assert all(found[k] and set(found[k]) <= has for k, has in enumerate(sets))
    if shared := set.intersection(*sets):
        assert set(found.values()) == {tuple(sorted(shared))}
        assert main_models(found) == tuple(sorted(shared))


@given(st.lists(_models, min_size=2, max_size=4), st.data())
def test_a_model_that_not_all_learn_changes_nothing(sets: list[set[str]], data: st.DataObject) -> None:
    """Adding a model must not change the order of two methods on the models that they have in common."""
    sets = [{"a", *has} for has in sets]  # one at least in common
    serves = dict(zip(METHODS, sets, strict=False))
    learned_by = data.draw(st.sets(st.sampled_from(sorted(serves)), max_size=len(serves) - 1))
    more = {method: models | ({"z"} if method in learned_by else set()) for method, models in serves.items()}
    every = set().union(*sets)
    before, after = (cells(as_trials(sweep(s, every | {"z"}))) for s in (serves, more))
    columns = ["method", "budget", "models", "common", "kept", "kept_low", "kept_high", "fit_cpu_s", "fit_full_cpu_s"]
    assert before.select(columns).equals(after.select(columns))
    shared = sorted(set.intersection(*sets))
    assert before["models"].to_list() == [shared] * len(before)


def test_what_is_kept_is_of_the_common_models_and_a_ranking_of_all_or_none() -> None:
    found = sweep({"random": set("abcd"), "sketch": set("bc")}, set("abcd"))
    table = cells(as_trials(found))
    whole = {row["model"]: row for row in found if row["method"] == FULL}
    for cell in table.iter_rows(named=True):
        assert (cell["models"], cell["common"]) == (["b", "c"], True)
        own = {r["model"]: r for r in found if (r["method"], r["budget"]) == (cell["method"], cell["budget"])}
        kept = np.mean([own[m]["ndcg@10"] / whole[m]["ndcg@10"] for m in "bc"])
        np.testing.assert_allclose(cell["kept"], kept)
        assert (cell["tau"] is None) == (cell["method"] == "sketch")
        np.testing.assert_allclose(cell["fit_full_cpu_s"], sum(whole[m]["fit_cpu_s"] for m in "bc"))
        assert cell["n_models"] == len(own)


def test_methods_without_a_model_in_common_are_classes_of_their_own() -> None:
    table = cells(as_trials(sweep({"random": set("abs"), "sketch": set("ab"), "farzi": set("s")}, set("abs"))))
    found = {row["method"]: (row["models"], row["common"]) for row in table.iter_rows(named=True)}
    assert found == {"random": (["a", "b"], True), "sketch": (["a", "b"], True), "farzi": (["s"], False)}


def test_cells_of_an_unfinished_sweep_wait_for_their_models() -> None:
    found = sweep({"random": set("ab"), "head_users": set("ab")}, set("ab"))
    left = [row for row in found if (row["method"], row["budget"], row["model"]) != ("random", 0.3, "b")]
    table = cells(as_trials(left))
    assert table.select("method", "budget").rows() == [("head_users", 0.1), ("head_users", 0.3), ("random", 0.1)]
    assert set(map(tuple, table["models"].to_list())) == {("a", "b")}


def test_a_cell_that_lost_a_model_stands_apart_and_the_others_keep_theirs() -> None:
    found = sweep({"random": set("abc"), "head_users": set("abc")}, set("abc"))
    found += [trial("random", 0.6, 0, model) for model in "abc"]
    for row in found:
        if (row["method"], row["budget"], row["model"]) == ("random", 0.3, "b"):
            row |= {"status": "failed", "reason": "lost", "resampled": None}
    table = cells(as_trials(found))
    about = {(row["method"], row["budget"]): (row["models"], row["common"]) for row in table.iter_rows(named=True)}
    assert about.pop(("random", 0.3)) == (["a", "c"], False)
    assert set(map(str, about.values())) == {str((["a", "b", "c"], True))}


def test_a_budget_at_which_nothing_could_be_made_says_nothing_of_models() -> None:
    found = sweep({"random": set("ab")}, set("ab"))
    for row in found:
        if (row["method"], row["budget"]) == ("random", 0.1):
            row |= {"status": "failed", "reason": "leaves no rows", "resampled": None}
    table = cells(as_trials(found))
    assert [(row["budget"], row["models"], row["common"]) for row in table.to_dicts()] == [(0.3, ["a", "b"], True)]


def test_a_model_without_quality_on_all_data_is_not_compared() -> None:
    found = sweep({"random": set("ab"), "head_users": set("ab")}, set("ab"))
    for row in found:
        if row["model"] == "b":
            row["ndcg@10"] = 0.0
    table = cells(as_trials(found))
    expected = cells(as_trials([row for row in found if row["model"] == "a"]))
    assert table.equals(expected)
    assert table["models"].to_list() == [["a"]] * 4
