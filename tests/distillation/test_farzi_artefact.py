"""Latent sequences as files: packed, opened, drawn from, and fitted by ordinary models."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from farzi_kit import N_ITEMS, SETTINGS, make_latent, make_rows, make_student

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.distillation.discretise import as_log, discrete_sequences
from distill_at_scale.distillation.farzi import (
    InnerLoop,
    dequantise,
    fit_sequences,
    quantise,
    settings_for,
    train_student,
)
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.errors import DasError
from distill_at_scale.models import load_model

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import write_dataset
from synthetic_kit import write_synthetic

RECORD: dict[str, Any] = {
    "length": 4,
    "width": 3,
    "coupled": False,
    "student": "sasrec",
    "settings": {**SETTINGS, "epochs": 3, "batch_size": 2, "learning_rate": 0.02},
    "shuffled": False,
    "metric": "ndcg@10",
    "start": 0.1,
    "exact": 0.2,
    "stored": 0.2,
}
DESCRIBED: dict[str, Any] = {
    "method": "farzi",
    "family": "decoupled",
    "config": {},
    "sequences": RECORD,
    "made_with": {},
    "n_rows": 8,
}


@pytest.fixture
def made(tmp_path: Path) -> SyntheticDataset:
    parent = write_dataset(
        tmp_path / "parent", [[(user, user + k, 1.0, k, 0) for user in range(4) for k in (0, 1)]], [4], N_ITEMS
    )
    return write_synthetic(str(tmp_path / "made"), make_latent(), parent, DESCRIBED)


@pytest.mark.parametrize("coupled", [False, True])
def test_every_number_comes_back_to_half_a_step_of_its_dimension(coupled: bool) -> None:
    latent = make_latent(coupled=coupled)
    latent.inputs[:, :, 1] *= 100  # one dimension's size does not coarsen the others
    latent.inputs[:, :, 2] = 0
    found = dequantise(quantise(latent))
    assert found.temperature == latent.temperature
    assert len(found.tensors) == len(latent.tensors) == 3 - coupled
    for name, tensor in (("inputs", latent.inputs), ("decoder", latent.decoder.T), ("targets", latent.targets)):
        if tensor is None:
            continue
        back = getattr(found, name)
        back = back.T if name == "decoder" else back
        assert back.shape == tensor.shape
        for k in range(3):
            largest = float(tensor[..., k].abs().max())
            assert float((back[..., k] - tensor[..., k]).abs().max()) <= largest / 254 * 1.0001
            assert len(back[..., k].unique()) <= 255
    assert torch.equal(dequantise(quantise(found)).inputs, found.inputs)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["inputs", "decoder", "targets", "log_rates"])
def test_numbers_that_are_none_are_refused(name: str, value: float) -> None:
    latent = replace(make_latent(), log_rates=torch.zeros(2))
    getattr(latent, name).view(-1)[0] = value
    with pytest.raises(DasError, match=rf"farzi: 1 of [\d,]+ values of the {name} are NaN or infinite.*--set rate"):
        quantise(latent)


def test_the_smallest_numbers_there_are_come_back_as_none() -> None:
    latent = make_latent()
    latent.inputs[:, :, 0] = 1e-45
    assert torch.equal(dequantise(quantise(latent)).inputs[:, :, 0], torch.zeros_like(latent.inputs[:, :, 0]))


def test_packed_they_take_less_than_a_byte_and_a_bit_a_number() -> None:
    generator = torch.Generator().manual_seed(0)
    latent = make_latent().with_tensors(
        [torch.randn(*shape, generator=generator) for shape in ((50, 20, 65), (65, 900), (50, 20, 65))]
    )
    assert len(quantise(latent)) < 1.0 * latent.n_numbers


def test_a_synthetic_dataset_holds_them(made: SyntheticDataset) -> None:
    again = SyntheticDataset.open(made.uri)
    again.verify()
    latent = again.sequences()
    assert (again.manifest.kind, again.n_users, len(latent), latent.n_items) == ("sequences", 4, 4, N_ITEMS)
    for found, learned in zip(latent.tensors, make_latent().tensors):
        torch.testing.assert_close(found, learned, atol=0.02, rtol=0)
    assert again.manifest.sequences is not None
    assert again.manifest.sequences.settings["dim"] == 8
    with pytest.raises(DasError, match="holds sequences, not real-valued rows of users"):
        again.rows()


def test_rows_are_no_sequences(tmp_path: Path, made: SyntheticDataset) -> None:
    """And what takes the place of sequences leaves nothing of them."""
    parent = Dataset.open(str(tmp_path / "parent"))
    described = {key: value for key, value in DESCRIBED.items() if key != "sequences"}
    rows = write_synthetic(made.uri, np.ones((2, N_ITEMS), np.float32), parent, described)
    assert not (tmp_path / "made" / "data.safetensors.zst").exists()
    with pytest.raises(DasError, match="holds rows, not latent sequences"):
        rows.sequences()


def test_plain_sequences_have_the_likeliest_items_and_then_the_last_target(made: SyntheticDataset) -> None:
    latent = made.sequences()
    x, y = latent.tokens(torch.arange(4))
    plain = made.draw()
    expected = torch.cat((x.argmax(2), y[:, -1:].argmax(2)), dim=1)
    assert plain.items.reshape(4, 5).tolist() == expected.tolist()
    log = as_log(plain, made.items())
    assert log.columns == ["user_id", "item_id", "timestamp"]
    assert log["timestamp"].to_list() == [0, 1, 2, 3, 4] * 4
    assert log["item_id"].to_list() == [10 * item for item in expected.flatten().tolist()]
    # Of coupled ones the last target is the last token: ξ places in all.
    coupled = make_latent(coupled=True)
    tokens = (coupled.inputs @ coupled.decoder).argmax(2)
    assert discrete_sequences(coupled, "top_k", 0).items.reshape(4, 4).tolist() == tokens.tolist()


def test_drawn_items_come_in_proportion() -> None:
    shares = torch.tensor([0.6, 0.3, 0.1])
    latent = make_latent().with_tensors([torch.ones(3000, 1, 1), shares.log()[None], torch.ones(3000, 1, 1)])
    found = discrete_sequences(latent, "sample", 1)
    # τ = .8
    expected = shares ** (1 / 0.8) / (shares ** (1 / 0.8)).sum()
    np.testing.assert_allclose(found.item_counts() / found.n_rows, expected, atol=0.02)
    pairs = found.items.reshape(-1, 2)
    assert (pairs[:, 0] == pairs[:, 1]).mean() == pytest.approx(float((expected**2).sum()), abs=0.03)
    assert np.array_equal(found.items, discrete_sequences(latent, "sample", 1).items)
    assert not np.array_equal(found.items, discrete_sequences(latent, "sample", 2).items)


@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
def test_a_model_is_fitted_as_a_student_is(tmp_path: Path, name: str) -> None:
    latent, rows = make_latent(), make_rows()
    given = {"hidden": 6} if name == "gru4rec" else {}
    settings = settings_for(name, given, RECORD["settings"])
    model = fit_sequences(latent, name, {**settings, "device": "cpu"}, shuffled=False, item_space="x")
    changed = {"dim": 8, "length": 5, "dropout": 0.0}
    student = make_student() if name == "sasrec" else _gru(**changed, hidden=6)
    # Three passes of four sequences, two at a time.
    trained = train_student(student, latent, InnerLoop(2, 0.02), 6, 0)
    np.testing.assert_allclose(model.score(rows), student.item_scores(trained, rows), rtol=1e-4, atol=1e-5)
    model.save(str(tmp_path / "model"))
    loaded = load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.score(rows), model.score(rows))
    assert (loaded.item_space, loaded.n_items) == ("x", N_ITEMS)


def _gru(**settings: Any) -> Any:
    from distill_at_scale.distillation.students import create_student

    return create_student("gru4rec", N_ITEMS, settings)


def test_settings_are_the_given_ones_and_then_those_recorded() -> None:
    recorded = RECORD["settings"]
    assert settings_for("sasrec", {"dim": 16}, recorded) == {**recorded, "dim": 16}
    assert "blocks" not in settings_for("gru4rec", {}, recorded)
    with pytest.raises(DasError, match=r"ease cannot be a student: .* choose sasrec or gru4rec"):
        settings_for("ease", {}, recorded)
    with pytest.raises(DasError, match="patience is a setting for logs and does not apply to latent sequences"):
        settings_for("sasrec", {"patience": 3}, recorded)


def test_fits_that_cannot_be_are_refused() -> None:
    settings = {**RECORD["settings"], "device": "cpu"}
    with pytest.raises(DasError, match="4 tokens is longer than the student's length=3"):
        fit_sequences(make_latent(), "sasrec", {**settings, "length": 3}, shuffled=False, item_space=None)
    with pytest.raises(DasError, match="sasrec: the parameters became NaN or infinite; set a smaller learning_rate"):
        fit_sequences(make_latent(), "sasrec", {**settings, "learning_rate": 1e38}, shuffled=False, item_space=None)
