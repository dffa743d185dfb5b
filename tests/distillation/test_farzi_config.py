"""Farzi's way from a log to initial sequences: the settings, teachers on windows, users drawn by hash."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from farzi_kit import LENGTH, N_ITEMS, SETTINGS, make_rows, make_student

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.farzi import (
    FarziConfig,
    Teacher,
    WindowExamples,
    drawn_rows,
    initial_sequences,
    initial_teachers,
    teacher_model,
)
from distill_at_scale.distillation.students import STUDENTS, create_student
from distill_at_scale.errors import DasError
from distill_at_scale.models import MODELS

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import write_dataset


def test_the_format_sets_its_defaults() -> None:
    plain, coupled = FarziConfig(), FarziConfig(coupled=True, sharpness=7.0)  # type: ignore[call-arg]
    assert (plain.rate, plain.sharpness, plain.foresight, plain.token_width) == (2e-3, 20.0, 1.0, 32)
    assert (coupled.rate, coupled.sharpness, coupled.horizon, coupled.token_width) == (4e-3, 7.0, 100, 32)
    assert FarziConfig(consensus=0).token_width == 96
    assert FarziConfig(consensus=0, teachers=1, popularity=0.1).token_width == 33
    assert (plain.places_read, coupled.places_read) == (21, 20)


def test_students_and_fits_are_what_was_asked_for() -> None:
    config = FarziConfig(length=60, sequences=45, batch=10, horizon=100, model={"dim": 16})
    assert config.student_settings() == {"length": 60, "dim": 16, "blocks": 1, "heads": 1, "dropout": 0.0}
    # 5 steps are a pass, and a fit takes twice the horizon; on coupled ones no more than that.
    assert config.model_copy(update={"coupled": True}).fit_settings()["epochs"] == 20
    assert config.fit_settings() == {
        **config.student_settings(),
        "batch_size": 10,
        "learning_rate": 0.01,
        "epochs": 40,
    }
    assert FarziConfig(teacher={"epochs": 2}).teacher_settings()["epochs"] == 2
    for student in ("sasrec", "gru4rec"):
        create_student(student, 9, FarziConfig(student=student).student_settings())


def test_a_start_is_no_wider_than_its_tokens() -> None:
    """And its sequences may be as long as the student reads."""
    student = make_student(length=4)
    config = FarziConfig(sequences=3, length=4)
    start = initial_sequences(config, [Teacher(student, student.draw(0))], make_rows())
    assert [tuple(tensor.shape) for tensor in start.tensors] == [(3, 4, N_ITEMS), (N_ITEMS, N_ITEMS), (3, 4, N_ITEMS)]


@pytest.mark.parametrize("coupled", [False, True])
def test_a_random_start_is_noise_of_that_seed(coupled: bool) -> None:
    """For which nobody need have so many rows."""
    student = make_student(length=40)
    teachers = [Teacher(student, student.draw(k)) for k in (0, 1)]
    found = []
    for seed in (3, 3, 4):
        config = FarziConfig(sequences=20, length=40, start="random", coupled=coupled, width=8, seed=seed)
        assert initial_teachers(config, teachers, make_rows(), lambda parameters: 0.0) == teachers
        found.append(initial_sequences(config, teachers, make_rows()))
    shapes = [(20, 40, 8), (8, N_ITEMS), (20, 40, 8)]
    assert [tuple(tensor.shape) for tensor in found[0].tensors] == shapes[: 3 - coupled]
    assert all(torch.equal(a, b) for a, b in zip(found[0].tensors, found[1].tensors))
    assert not torch.equal(found[0].inputs, found[2].inputs)
    assert float((found[0].inputs @ found[0].decoder).var()) == pytest.approx(1, abs=0.4)


def sequences_of(rows: Interactions) -> list[list[int]]:
    return [rows.items[a:b].tolist() for a, b in zip(rows.offsets, rows.offsets[1:])]


def test_windows_are_runs_of_a_users_items() -> None:
    rows = make_rows()
    examples = WindowExamples(rows, LENGTH)
    everyone = sequences_of(rows)
    assert len(examples) == sum(-(-len(items) // LENGTH) for items in everyone)
    assert len(np.unique(examples.keys)) == len(examples)
    chosen = np.array([7, 0, 3])
    seen = set()
    for step in range(200):
        batch = examples.batch(chosen, np.random.default_rng(step))["items"].numpy()
        assert batch.shape[1] <= LENGTH + 1
        for position, padded in zip(chosen, batch):
            found = padded[padded < N_ITEMS].tolist()
            assert padded.tolist() == [N_ITEMS] * (batch.shape[1] - len(found)) + found
            whole = everyone[examples._owner[position]]
            end = [e for e in range(2, len(whole) + 1) if whole[max(0, e - LENGTH - 1) : e] == found]
            assert end
            seen.add((int(position), end[0]))
    # Wherever a window can end it does.
    for position in chosen:
        whole = everyone[examples._owner[position]]
        assert {end for place, end in seen if place == position} == set(range(2, len(whole) + 1))


def test_users_of_one_item_are_left_out() -> None:
    rows = Interactions(np.arange(3), np.array([0, 1, 4, 4]), np.array([5, 1, 2, 3], np.int32), N_ITEMS)
    examples = WindowExamples(rows, 2)
    assert len(examples) == 2
    batch = examples.batch(np.array([0, 1]), np.random.default_rng(0))["items"]
    assert set(batch.flatten().tolist()) <= {1, 2, 3, N_ITEMS}


def test_a_teacher_is_a_model_on_windows() -> None:
    settings = {**SETTINGS, "epochs": 30, "learning_rate": 0.02, "batch_size": 8, "device": "cpu"}
    teacher = teacher_model("sasrec", settings)
    assert isinstance(teacher.examples(make_rows()), WindowExamples)
    assert teacher.name == "sasrec"
    rows = make_rows(n_users=60)
    model = teacher.fit(rows)
    histories = Interactions(np.arange(2), np.array([0, 2, 4]), np.array([3, 4, 7, 8], np.int32), N_ITEMS)
    assert model.score(histories).argmax(1).tolist() == [5, 9]
    with pytest.raises(DasError, match="heads=3 must divide dim=8"):
        teacher_model("sasrec", {**settings, "heads": 3})


def test_rows_are_those_of_users_drawn_by_hash(tmp_path: Path) -> None:
    shards = [
        [(user, (user + k) % 9, 1.0, k, 0) for user in range(first, first + 50) for k in range(3)] for first in (0, 50)
    ]
    dataset = write_dataset(tmp_path / "data", shards, [50, 50], 9)
    everyone = drawn_rows(dataset, 100, 0)
    assert everyone.n_rows == 300
    some = drawn_rows(dataset, 40, 0)
    assert 25 < len(some) < 55
    assert (np.diff(some.users) > 0).all()
    for user, items in zip(some.users, sequences_of(some)):
        assert items == [(user + k) % 9 for k in range(3)]
    # More users hold fewer.
    assert set(some.users) < set(drawn_rows(dataset, 70, 0).users)
    assert set(some.users) != set(drawn_rows(dataset, 40, 1).users)


def test_models_say_whether_they_can_be_students() -> None:
    assert {name for name, model in MODELS.items() if model.learns_from_sequences} == STUDENTS.keys()
