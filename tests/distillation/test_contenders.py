"""Distill-CF's result is the best of its contenders on validation, and says which."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distill_kit import LocalJob, grouped, interactions, together

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation import distill_cf_config
from distill_at_scale.distillation.contenders import Contender, all_users, best, full_is_affordable, simple_contenders
from distill_at_scale.distillation.distill_cf import DistillCF
from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
from distill_at_scale.distillation.distiller import Distilled
from distill_at_scale.distillation.distillers.distill_cf import DistillCFDistiller
from distill_at_scale.distillation.distillers.sketch import SketchConfig, SketchDistiller
from distill_at_scale.distillation.select_lambda import select_lambdas
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.errors import DasError
from distill_at_scale.models.synthetic_rows import FactoredRows, RowValues
from distill_at_scale.models.training.sources import MemorySource

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import write_dataset

QUICK: dict[str, Any] = {"steps": 8, "batch_size": 40, "validate_every": 4, "warm_up": 2, "metric": "ndcg@5"}


def users() -> RealUsers:
    return RealUsers(MemorySource(*grouped()))


def dataset(folder: Path, train: Interactions, heldout: Interactions | None) -> Dataset:
    parts = [(train, 0)] if heldout is None else [(train, 0), (heldout, 1)]
    rows = [
        (int(user), int(item), 1.0, 1_000_000_000_000 + code, code)
        for part, code in parts
        for user, count, start in zip(part.users, part.counts, part.offsets)
        for item in part.items[start : start + count]
    ]
    return write_dataset(folder, [sorted(rows, key=lambda row: (row[0], row[3]))], [len(train)], train.n_items)


def distil(data: Dataset, **settings: Any) -> tuple[Distilled, LocalJob]:
    job = LocalJob(data)
    made = DistillCFDistiller(DistillCFConfig(**{**QUICK, **settings})).run(job)  # type: ignore[arg-type]
    return made, job


def test_the_best_is_returned() -> None:
    real = users()
    config = DistillCFConfig(users=6, metric="ndcg@5")
    simple = simple_contenders(config, 6, real)
    assert [one.name for one in simple] == ["sketch", "most active users"]
    strongest = max(simple, key=lambda one: np.mean([v.metric for v in one.tuned.validated.values()]))
    noise = np.random.default_rng(0).standard_normal((6, 24)).astype(np.float32)
    poor = Contender("distilled", select_lambdas(noise, None, real, "ndcg@5"))
    assert best(poor, simple) is strongest
    # Rows as good as the strongest do not lead by more than two standard errors.
    assert best(Contender("distilled", strongest.tuned), simple) is strongest
    good = Contender("distilled", simple[0].tuned)
    assert best(good, [poor]) is good
    # The error of a lead, from the users' groups.
    sums = [sum(v.sums for v in one.tuned.validated.values()) / 2 for one in (good, poor)]
    counts = good.tuned.validated["ease"].counts
    lead = (sums[0] - sums[1]).sum() / counts.sum()
    filled = counts > 0
    rest = (sums[0] - sums[1] - lead * counts)[filled]
    n = filled.sum()
    assert good.error_of_lead(poor) == pytest.approx(np.sqrt(n / (n - 1) * np.square(rest).sum()) / counts.sum())
    assert good.mean - poor.mean == pytest.approx(lead)


@pytest.mark.parametrize(
    ("rows", "names"), [("unit", ["sketch", "most active users"]), ("binary", ["most active users"])]
)
def test_contenders_are_of_the_kind_of_rows_that_is_distilled(rows: str, names: list[str]) -> None:
    found = simple_contenders(DistillCFConfig(rows=rows, metric="ndcg@5"), 5, users())  # type: ignore[arg-type]
    assert [one.name for one in found] == names
    for one in found:
        values = one.tuned.rows.values
        assert values.min() >= 0
        assert values.max() <= 1
        assert rows != "binary" or set(np.unique(values)) == {0.0, 1.0}


def test_the_full_model_is_compared_where_it_costs_little() -> None:
    real = users()
    config = DistillCFConfig()
    assert full_is_affordable(config, 6, 700, real)
    assert not full_is_affordable(config, 1, 1, real)
    full = all_users(real, "ndcg@5")
    assert len(full.tuned.rows) == real.n_filled == 59
    assert full.mean > 0.3


def test_rows_of_real_users_are_counted_and_said(tmp_path: Path) -> None:
    real = users()
    rows = real.most_active(5).cpu().numpy()
    assert real.copied(rows) == 5
    rows[0, np.flatnonzero(rows[0] == 0)[0]] = 1.0  # one item more than the user has
    rows[1] *= 0.5
    rows[2] = 0.0
    assert real.copied(rows) == 2
    assert real.copied(rows[:3]) == 0
    assert together(3, lambda some: some.copied(rows)) == [2, 2, 2]
    (at_start, _) = distil(dataset(tmp_path, *grouped()), users=6, steps=1, init="random", rows="binary")
    assert at_start.winner == "most active users" or at_start.curve[0]["step"] == 0
    n_copied = round(at_start.copied * 6)
    assert n_copied >= 1
    said = f"{n_copied} of the 6 rows equal the train rows of a real user"
    assert any(note.startswith(said) for note in at_start.notes)
    free, _ = distil(dataset(tmp_path / "free", *grouped()), users=6)
    assert free.copied in (0.0, 1.0)
    assert (
        (free.copied == 1.0) == (free.winner == "most active users") == any("equal the train" in n for n in free.notes)
    )


def test_a_run_says_what_won_and_by_how_much(tmp_path: Path) -> None:
    made, job = distil(dataset(tmp_path, *grouped()), users=6, steps=24, init="random", learning_rate=0.05)
    assert set(made.contenders) >= {"distilled", "sketch", "most active users", "start"}
    means = {name: np.mean(list(made.contenders[name].values())) for name in made.contenders if name != "start"}
    assert made.winner == "distilled" or means[made.winner] >= max(means["sketch"], means["most active users"])
    assert job.said[-1] == f"kept: {made.winner}"
    assert (made.winner == "distilled") != any("do not lead by more than two" in note for note in made.notes)
    assert made.contenders["start"]["infinite_ae"] == made.curve[0]["metric"]
    assert made.settings == {model: {"lam": one.chosen} for model, one in made.chosen.items()}


def test_rows_in_factors_are_held_against_a_sketch_in_factors(tmp_path: Path) -> None:
    made, _ = distil(dataset(tmp_path, *grouped()), rank=4)
    assert isinstance(made.data, FactoredRows)
    assert made.data.rank == 4
    assert set(made.contenders) == {"distilled", "sketch", "start"}


@pytest.mark.parametrize("rank", [None, 4])
def test_the_sketch_that_a_run_began_with_is_not_made_again(rank: int | None) -> None:
    real, config = users(), DistillCFConfig(users=6, rank=rank, metric="ndcg@5", steps=3)
    loop = DistillCF(config, real)
    loop.run()
    again, reused = (simple_contenders(config, 6, real, made=made)[0] for made in (None, loop.sketch))
    assert loop.sketch is not None
    assert again.name == reused.name == "sketch"
    for one, other in zip(parts(again.tuned.rows.given), parts(reused.tuned.rows.given)):
        np.testing.assert_array_equal(one, other)
    assert DistillCF(config.model_copy(update={"init": "random"}), real).sketch is None


def parts(rows: RowValues) -> list[np.ndarray]:
    return [rows.z, rows.v] if isinstance(rows, FactoredRows) else [rows]


def test_a_log_of_too_many_rows_is_learned_from_in_part(tmp_path: Path) -> None:
    data = dataset(tmp_path, *grouped())
    n_rows = data.manifest.splits["train"]
    for distiller in (
        DistillCFDistiller(DistillCFConfig(**QUICK, users=6, real_rows=n_rows // 2)),
        SketchDistiller(SketchConfig(users=6, metric="ndcg@5", real_rows=n_rows // 2)),
    ):
        made = distiller.run(LocalJob(data))  # type: ignore[arg-type]
        assert 0.3 * n_rows < made.n_rows < 0.7 * n_rows
        assert any(note.startswith("Made from ") and "(see real_rows)" in note for note in made.notes)
        whole = distiller.create({"users": 6})
        assert whole.memory(data, 1) > distiller.memory(data, 1)  # type: ignore[attr-defined]
        with pytest.raises(DasError, match="users with train rows that are learned from; set fewer, or a larger"):
            type(distiller)(distiller.config.model_copy(update={"users": 55})).run(LocalJob(data))  # type: ignore[arg-type]


def test_the_sketch_of_a_small_log_has_a_row_for_each_user(tmp_path: Path) -> None:
    """A row for each with train rows; 500, its default, are refused only when they were asked for."""
    data = dataset(tmp_path, *grouped())
    distiller = SketchDistiller(SketchConfig())
    distiller.check(data, 1)
    made = distiller.run(LocalJob(data))  # type: ignore[arg-type]
    assert made.data.shape[0] == np.count_nonzero(data.interactions("train").counts) < 500  # type: ignore[union-attr]
    with pytest.raises(DasError, match="--users 500 is more than the"):
        SketchDistiller(SketchConfig(users=500)).check(data, 1)


def test_step_0_as_the_best_step_is_said(tmp_path: Path) -> None:
    made, _ = distil(dataset(tmp_path, *grouped()), users=6, learning_rate=1.0, init="sketch")
    assert [point["step"] for point in made.curve] == [0, 4, 8]
    assert any(
        note.startswith("The best step is 0: none improved the initial rows (init=sketch)") for note in made.notes
    )
    assert made.winner != "distilled"


@pytest.mark.parametrize("longest", [1, 2])
def test_a_log_of_users_with_a_row_or_two(tmp_path: Path, longest: int) -> None:
    rng = np.random.default_rng(1)
    lists = [np.sort(rng.choice(12, 1 + user % longest, replace=False)) for user in range(40)]
    heldout = [np.setdiff1d(np.arange(12), items)[:1] for items in lists]
    made, _ = distil(dataset(tmp_path, interactions(lists, 12), interactions(heldout, 12)), users=5)
    assert made.winner is not None
    assert isinstance(made.data, np.ndarray)
    assert np.isfinite(made.data).all()
    assert made.data.any()
    unlearnable = "No user has two train rows, so there is nothing to learn; the rows are those of the start."
    assert (unlearnable in made.notes) == (longest == 1)
    assert len(made.curve) == (1 if longest == 1 else 3)


def test_the_number_of_users_is_chosen_on_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(tmp_path, *grouped())
    monkeypatch.setattr(distill_cf_config, "SIZES", (8, 16, 2, 40))
    made, job = distil(data)
    # 40 are more than half of the users.
    assert set(job.kept) == {"8", "16", "2"}
    alone = [distil(data, users=number)[0] for number in (8, 16, 2)]

    def worth(one: Distilled) -> float:
        assert one.winner is not None
        return float(np.mean(list(one.contenders[one.winner].values())))

    np.testing.assert_array_equal(made.data, max(alone, key=worth).data)
    assert made.cpu_s > 0


def test_without_validation_rows_nothing_is_compared(tmp_path: Path) -> None:
    made, _ = distil(dataset(tmp_path, grouped()[0], None))
    assert (made.winner, made.contenders, made.curve) == (None, {}, [])
    assert len(made.data) == 29  # half of the users


def test_more_users_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DasError, match="--users 61 is more than the 59 users with train rows"):
        distil(dataset(tmp_path, *grouped()), users=61)
