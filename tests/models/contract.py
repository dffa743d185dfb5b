"""What every recommender must do, whichever it is: subclass :class:`RecommenderContract` and give ``make``.

The data has one right answer: users and items fall into groups, a user's rows lie in the own group only, and
the item held out of each user's rows is the only one of the group that the history lacks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import DasError
from distill_at_scale.evaluation import evaluate
from distill_at_scale.models import Recommender, create_model, load_model

N_GROUPS, USERS_EACH, ITEMS_EACH = 3, 14, 7
N_ITEMS = N_GROUPS * ITEMS_EACH


def make_rows(rows: list[list[int]], n_items: int = N_ITEMS, first_user: int = 0) -> Interactions:
    return Interactions(
        users=np.arange(first_user, first_user + len(rows), dtype=np.int64),
        offsets=np.concatenate(([0], np.cumsum([len(items) for items in rows]))).astype(np.int64),
        items=np.array([item for items in rows for item in items], dtype=np.int32),
        n_items=n_items,
    )


def blocks() -> tuple[Interactions, Interactions]:
    """Train rows (all items of the group but one or two) and the held-out rest; the last user has neither."""
    train, heldout = [], []
    for user in range(N_GROUPS * USERS_EACH):
        first = user % N_GROUPS * ITEMS_EACH
        missing = first + user // N_GROUPS % ITEMS_EACH
        train.append([item for item in range(first, first + ITEMS_EACH) if item != missing])
        heldout.append([missing])
    return make_rows([*train, []]), make_rows([*heldout, []])


class RecommenderContract:
    """Inherit, name the model and its settings; pytest does the rest."""

    name: str
    settings: ClassVar[dict[str, Any]]  # complete: nothing is left to be chosen on validation
    open_parameter: str | None = None  # what is chosen on validation when left open
    small_grid: tuple[float, ...] = ()
    personal: bool = True  # whether scores depend on the history

    def make(self, **changes: Any) -> Recommender:
        return create_model(self.name, {**self.settings, **changes})

    def make_open(self) -> Recommender:
        kept = {key: value for key, value in self.settings.items() if key != self.open_parameter}
        return create_model(self.name, {**kept, "grid": self.small_grid})

    @pytest.fixture
    def fitted(self) -> Recommender:
        return self.make().fit(blocks()[0], item_space="fingerprint-1")

    def test_finds_the_right_answer(self, fitted: Recommender) -> None:
        train, heldout = blocks()
        result = evaluate(fitted.score, train, heldout, train.item_counts(), train.n_rows, (1, N_ITEMS))
        if self.personal:
            assert result.metrics["hr@1"] == 1.0
            assert result.metrics["auc"] > 0.99
        assert result.metrics[f"recall@{N_ITEMS}"] == 1.0
        assert result.n_users == len(train) - 1

    def test_new_users_are_served(self, fitted: Recommender) -> None:
        strangers = make_rows([[0, 1, 2, 3], [ITEMS_EACH, ITEMS_EACH + 1, ITEMS_EACH + 2]], first_user=10_000)
        scores = fitted.score(strangers)
        assert scores.shape == (2, N_ITEMS)
        if self.personal:
            for row, group in enumerate((0, 1)):
                own = scores[row].reshape(N_GROUPS, ITEMS_EACH)[group].min()
                others = np.delete(scores[row].reshape(N_GROUPS, ITEMS_EACH), group, axis=0).max()
                assert own > others

    def test_scores_are_finite_float32_also_without_a_history(self, fitted: Recommender) -> None:
        train, _ = blocks()
        for rows in (train, make_rows([[]]), make_rows([])):
            scores = fitted.score(rows)
            assert scores.dtype == np.float32
            assert scores.shape == (len(rows), N_ITEMS)
            assert np.isfinite(scores).all()

    def test_scores_do_not_depend_on_the_batch(self, fitted: Recommender) -> None:
        train, _ = blocks()
        alone = np.concatenate([fitted.score(train.slice(k, k + 1)) for k in range(len(train))])
        np.testing.assert_allclose(fitted.score(train), alone, rtol=1e-4, atol=1e-5)

    def test_blocks_of_items_have_the_scores_of_all_items(self, fitted: Recommender) -> None:
        train, _ = blocks()
        scores = fitted.score_blocks(train)
        for width in (4, N_ITEMS):
            parts = [scores(first, min(first + width, N_ITEMS)) for first in range(0, N_ITEMS, width)]
            assert all(part.dtype == np.float32 for part in parts)
            np.testing.assert_allclose(np.concatenate(parts, axis=1), fitted.score(train), rtol=1e-5, atol=1e-6)

    def test_neither_fit_nor_score_changes_its_input(self) -> None:
        train, _ = blocks()
        before = train.items.copy(), train.offsets.copy()
        self.make().fit(train).score(train)
        assert np.array_equal(train.items, before[0])
        assert np.array_equal(train.offsets, before[1])

    def test_repeated_rows_count_once(self, fitted: Recommender) -> None:
        if not self.personal:
            pytest.skip("counts rows, repeated or not")
        train, _ = blocks()
        doubled = Interactions(train.users, 2 * train.offsets, np.repeat(train.items, 2), N_ITEMS)
        scores = self.make().fit(doubled).score(doubled)
        np.testing.assert_array_equal(scores, fitted.score(train))
        assert np.array_equal(doubled.offsets, 2 * train.offsets)

    def test_equal_fits_are_equal(self, fitted: Recommender) -> None:
        train, _ = blocks()
        again = self.make().fit(train)
        np.testing.assert_array_equal(fitted.score(train), again.score(train))

    def test_choosing_on_validation_is_recorded(self) -> None:
        if self.open_parameter is None:
            pytest.skip("this model has nothing to choose")
        train, heldout = blocks()
        seen: list[tuple[float, str]] = []
        model = self.make_open().fit(train, heldout, lambda share, step: seen.append((share, step)))
        record = model.selection
        assert record is not None
        assert record.parameter == self.open_parameter
        values = {point.value: point.metric for point in record.points}
        assert record.chosen in values
        assert values[record.chosen] == max(values.values())
        assert len(record.points) - record.n_extensions <= len(self.small_grid)
        assert [share for share, _ in seen] == sorted(share for share, _ in seen)
        assert seen[-1][0] == 1.0
        chosen = int(record.chosen) if isinstance(self.settings[self.open_parameter], int) else record.chosen
        direct = self.make(**{self.open_parameter: chosen}).fit(train)
        np.testing.assert_allclose(model.score(train), direct.score(train), rtol=1e-5, atol=1e-6)

    def test_nothing_to_choose_on_is_refused(self) -> None:
        if self.open_parameter is None:
            pytest.skip("this model has nothing to choose")
        train, _ = blocks()
        for none in (None, make_rows([[] for _ in range(len(train))])):
            with pytest.raises(DasError, match=f"{self.open_parameter} is to be selected on validation rows"):
                self.make_open().fit(train, none)

    def test_a_fresh_process_scores_the_same(self, fitted: Recommender, tmp_path: Path) -> None:
        train, _ = blocks()
        uri = str(tmp_path / "model")
        fitted.save(uri)
        code = (
            "import sys, numpy as np\n"
            "sys.path.insert(0, sys.argv[1])\n"
            "from contract import blocks\n"
            "from distill_at_scale.models import load_model\n"
            "model = load_model(sys.argv[2])\n"
            "np.save(sys.argv[3], model.score(blocks()[0]))\n"
            "print(model.name, model.item_space)\n"
        )
        arguments = [str(Path(__file__).parent), uri, str(tmp_path / "scores.npy")]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [self.name, "fingerprint-1"]
        np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), fitted.score(train))

    def test_a_saved_model_keeps_config_and_selection_and_holds_no_pickle(self, tmp_path: Path) -> None:
        train, heldout = blocks()
        model = self.make() if self.open_parameter is None else self.make_open()
        uri = str(tmp_path / "model")
        model.fit(train, heldout).save(uri)
        loaded = load_model(uri)
        assert type(loaded) is type(model)
        assert loaded.config == model.config
        assert loaded.selection == model.selection
        assert sorted(path.name for path in Path(uri).iterdir()) == ["model.json", "weights.safetensors"]
        content = Path(uri, "weights.safetensors").read_bytes()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        stored = sum(np.prod(entry["shape"]) for key, entry in header.items() if key != "__metadata__")
        assert 0 < stored < len(content)

    def test_saving_again_replaces(self, fitted: Recommender, tmp_path: Path) -> None:
        uri = str(tmp_path / "model")
        fitted.save(uri)
        small = make_rows([[0, 1], [1, 2], [0, 2]], n_items=4)
        other = self.make().fit(small)
        other.save(uri)
        np.testing.assert_array_equal(load_model(uri).score(small), other.score(small))

    @pytest.mark.parametrize("damage", ["flip", "cut", "gone", "no json", "not json", "foreign", "other items"])
    def test_damaged_files_are_refused(self, fitted: Recommender, tmp_path: Path, damage: str) -> None:
        folder = tmp_path / "model"
        fitted.save(str(folder))
        weights, description = folder / "weights.safetensors", folder / "model.json"
        content = weights.read_bytes()
        described = json.loads(description.read_text())
        if damage == "flip":
            weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        elif damage == "cut":
            weights.write_bytes(content[:-8])
        elif damage == "gone":
            weights.unlink()
        elif damage == "no json":
            description.unlink()
        elif damage == "not json":
            description.write_text("{")
        elif damage == "foreign":
            description.write_text(json.dumps({**described, "model": "../../evil"}))
        else:
            description.write_text(json.dumps({**described, "n_items": N_ITEMS + 1}))
        with pytest.raises(DasError) as refusal:
            load_model(str(folder))
        assert str(folder) in str(refusal.value) or damage == "foreign"

    def test_another_item_space_is_refused(self, fitted: Recommender) -> None:
        with pytest.raises(DasError, match="was fitted on"):
            fitted.score(make_rows([[0]], n_items=N_ITEMS + 1))
        with pytest.raises(DasError, match="was fitted on"):
            fitted.check_item_space(N_ITEMS + 1, None)
        with pytest.raises(DasError, match="another item numbering"):
            fitted.check_item_space(N_ITEMS, "fingerprint-2")
        fitted.check_item_space(N_ITEMS, "fingerprint-1")
        fitted.check_item_space(N_ITEMS, None)

    def test_wrong_use_is_refused(self, tmp_path: Path) -> None:
        train, heldout = blocks()
        model = self.make()
        with pytest.raises(DasError, match="has not been fitted"):
            model.score(train)
        with pytest.raises(DasError, match="has not been fitted"):
            model.save(str(tmp_path / "model"))
        with pytest.raises(DasError, match="no train rows"):
            model.fit(make_rows([[], []]))
        with pytest.raises(DasError, match="same users and items"):
            model.fit(train, heldout.slice(0, 3))
        with pytest.raises(DasError, match=f"{self.name}: unknown setting 'no_such'; the settings are"):
            self.make(no_such=1)

    def test_memory_is_refused_before_it_runs_out(self) -> None:
        model = self.make()
        needed = model.memory_needed(10**9, 10**9, 10**9, model.config)
        assert needed > model.memory_needed(10, 10, 10, model.config) > 0
        with pytest.raises(DasError, match=rf"{self.name} on 1,000,000,000 users .* needs about .* GiB .* free; "):
            model.check_memory(10**9, 10**9, 10**9, model.config, available=needed - 1)
        model.check_memory(10**9, 10**9, 10**9, model.config, available=needed)
