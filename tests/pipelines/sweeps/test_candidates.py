"""Candidates of a search: the defaults first, within the space, the same again, and recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill_at_scale.models import find_model
from distill_at_scale.models.search_space import tuning_space
from distill_at_scale.pipelines.sweeps.candidates import RECORDS, SettingsSearch


def search(folder: Path, model: str = "mf", seed: int = 0, **given: object) -> SettingsSearch:
    return SettingsSearch(model, given, 12, seed, str(folder))


def test_candidates_cover_the_space_and_are_valid(tmp_path: Path) -> None:
    found = search(tmp_path)
    spread = found.spread()
    defaults = find_model("mf").parse_config({}).model_dump()
    assert spread[0].searched == {name: defaults[name] for name in found.space}
    rates = sorted(one.searched["learning_rate"] for one in spread)
    assert rates[0] < defaults["learning_rate"] / 2
    assert rates[-1] > defaults["learning_rate"] * 2
    for one in spread:
        find_model("mf").parse_config(one.settings)
    assert [one.searched for one in search(tmp_path).spread()] == [one.searched for one in spread]
    assert [one.searched for one in search(tmp_path, seed=1).spread()[1:]] != [one.searched for one in spread[1:]]
    assert "learning_rate" not in search(tmp_path, learning_rate=0.1).space
    assert search(tmp_path, "popularity").total == 1


def test_proposals_follow_the_results_and_are_recorded(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    found = search(tmp_path, "ease")
    spread = found.spread()
    assert len(spread) == 6
    # λ below 100 is best by far.
    tried = [(one, 1.0 if one.searched["lam"] < 100 else 0.0) for one in spread[:-1]] + [(spread[-1], None)]
    proposed = found.proposed(tried)
    assert [one.name for one in proposed] == [f"ease-{k}" for k in range(6, 12)]
    low, high = found.space["lam"].low, found.space["lam"].high
    assert all(low <= one.searched["lam"] <= high for one in proposed)
    record = tmp_path / RECORDS / "ease.json"
    content = json.loads(record.read_text())
    # What another release of Optuna would propose does not matter.
    record.write_text(json.dumps({**content, "proposed": [{"lam": 77.0}] * 6}))
    again = search(tmp_path, "ease").proposed(tried)
    assert {one.searched["lam"] for one in again} <= {77.0, *(one.searched["lam"] for one in proposed)}


def test_a_grid_is_searched_around_its_values() -> None:
    ease = tuning_space(find_model("ease").parse_config({}).model_dump())["lam"]
    assert (ease.low, ease.high) == (25, 3200)
    rank = tuning_space(find_model("svd_ae").parse_config({}).model_dump())["rank"]
    assert {type(rank.at(k / 7)) for k in range(8)} == {int}
    assert "lam" not in tuning_space(find_model("ease").parse_config({"lam": 5}).model_dump())
