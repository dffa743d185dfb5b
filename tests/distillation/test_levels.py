"""Latent sequences in fewer than 8 bits a number: what comes back, and in how many bytes."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from farzi_kit import LENGTH, N_ITEMS, SETTINGS, make_farzi, make_latent, make_rows, make_student

from distill_at_scale.distillation.continuing import continued_sequences
from distill_at_scale.distillation.discretise import discrete_sequences
from distill_at_scale.distillation.farzi import (
    FarziConfig,
    InnerLoop,
    LatentSequences,
    Teacher,
    dequantise,
    initial_sequences,
    levels,
    quantise,
    real_sequences,
    train_student,
)
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.errors import DasError

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from dataset_kit import write_dataset
from synthetic_kit import write_synthetic


def drawn(
    n_sequences: int = 30, length: int = 20, width: int = 8, n_items: int = 700, **changed: object
) -> LatentSequences:
    """Dimensions of very different sizes, as of a singular value decomposition."""
    generator = torch.Generator().manual_seed(1)
    inputs, targets = (torch.randn(n_sequences, length, width, generator=generator) for _ in range(2))
    decoder = torch.randn(width, n_items, generator=generator) * torch.logspace(0, -2, width)[:, None]
    return replace(LatentSequences(3 * inputs, decoder, targets), **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [1.0, 2.0, 3.5])
def test_the_bytes_are_those_of_the_bits_asked_for(bits: float) -> None:
    latent = drawn(bits=bits)
    found = dequantise(quantise(latent))
    assert found.bits == bits
    assert 8 * len(quantise(latent)) == pytest.approx(bits * latent.n_numbers, rel=0.12, abs=8 * 1500)
    # Mean squared error of a uniform step at that entropy, in the logits: 2^-2R, and the constant of the step.
    for name in ("inputs", "targets"):
        exact, back = (getattr(one, name) @ one.decoder for one in (latent, found))
        error = float((exact - back).square().mean() / exact.square().mean())
        assert error < 2.5 * 4.0**-bits


def test_every_dimension_adds_the_same_error_to_the_logits() -> None:
    """By brute force: each dimension's product alone, exact and with a uniform error of its step."""
    latent = drawn(bits=3.0)
    flat, decoder = latent.inputs.flatten(0, 1).numpy(), latent.decoder.T.numpy()
    steps = levels.steps_for({"inputs": flat}, decoder, 3.0)
    rng, added = np.random.default_rng(0), []
    for k in range(8):
        noise = steps["decoder"][k] * rng.uniform(-0.5, 0.5, 700)
        added.append(np.square(flat[:, k, None] * noise).mean())
    np.testing.assert_allclose(added, added[0], rtol=0.2)
    entropy = [
        levels.entropies(levels.levels(part, steps[name])).mean() * part.size
        for name, part in (("inputs", flat), ("decoder", decoder))
    ]
    assert sum(entropy) / (flat.size + decoder.size) == pytest.approx(3.0, abs=0.02)


@pytest.mark.parametrize("spread", [3, 60, 5000])
def test_levels_come_back_whole(spread: int) -> None:
    """Also those that do not fit into the width, and an odd number of them."""
    rng = np.random.default_rng(spread)
    found = np.rint(spread / 3 * rng.standard_normal((301, 31))).astype(np.int32)
    coded, others, width = levels.encode(found)
    np.testing.assert_array_equal(levels.decode(coded, others, width, found.shape), found)
    assert (width == 4) == (spread == 3) or spread == 5000
    assert (len(others) > 0) == (spread == 5000)


def test_what_adds_nothing_to_the_logits_takes_no_level() -> None:
    latent = drawn(bits=2.0)
    latent.inputs[:, :, 3] = latent.targets[:, :, 3] = 0.0  # type: ignore[index]
    latent.decoder[5] = 0.0
    found = dequantise(quantise(latent))
    for part in (found.inputs[:, :, 3], found.inputs[:, :, 5], found.decoder[3], found.decoder[5]):
        assert not part.any()
    nothing = replace(latent, decoder=torch.zeros_like(latent.decoder))
    assert not dequantise(quantise(nothing)).decoder.any()


@pytest.mark.parametrize("bits", [8.0, 2.0])
@pytest.mark.parametrize("n_items", [200, 256, 257, 70_000])
def test_items_come_back_whole(bits: float, n_items: int) -> None:
    items = torch.randint(n_items, (3, 4), generator=torch.Generator().manual_seed(0))
    items[0, 0] = n_items - 1
    latent = replace(drawn(3, 4, 2, n_items, bits=bits), inputs=items)
    found = dequantise(quantise(latent))
    assert torch.equal(found.inputs, items)
    assert found.inputs.dtype == torch.int64
    assert len(found.tensors) == 2
    assert found.decoder.shape == (2, n_items)


def test_numbers_that_are_none_are_refused_in_few_bits_too() -> None:
    latent = drawn(bits=2.0)
    latent.decoder[0, 0] = torch.nan
    with pytest.raises(DasError, match=r"farzi: 1 of 5,600 values of the decoder are NaN"):
        quantise(latent)


def real_inputs(**changed: object) -> tuple[FarziConfig, LatentSequences]:
    student = make_student()
    config = FarziConfig(sequences=3, length=4, inputs="items", model=SETTINGS, **changed)  # type: ignore[arg-type]
    return config, initial_sequences(config, [Teacher(student, student.draw(0))], make_rows())


def test_inputs_can_be_the_items_of_the_start() -> None:
    """The targets are then those of the teacher at them, exactly, and a student reads them as hard tokens."""
    config, start = real_inputs(bits=4.0)
    assert start.bits == 4.0
    items = torch.from_numpy(real_sequences(make_rows(), 3, 5, 0))[:, :-1]
    assert start.items is not None
    assert torch.equal(start.items, items)
    student = make_student()
    teacher = student.draw(0)
    expected = (student.states(teacher, items) @ student.table(teacher).T).softmax(dim=2)
    read, targets = start.tokens(torch.arange(3))
    torch.testing.assert_close(targets, expected, rtol=1e-4, atol=1e-6)
    assert isinstance(targets, torch.Tensor)
    one_hot = torch.nn.functional.one_hot(items, N_ITEMS).float()
    losses = [student.soft_loss(student.draw(1), x, targets) for x in (read, one_hot)]
    torch.testing.assert_close(losses[0], losses[1])
    plain = discrete_sequences(start, "top_k", 0).items.reshape(3, 5)
    np.testing.assert_array_equal(plain[:, :4], items.numpy())
    np.testing.assert_array_equal(plain[:, 4], expected[:, -1].argmax(dim=1).numpy())
    noise = real_inputs(start="random")[1]
    assert noise.inputs.shape == (3, 4)
    assert config.n_tokens == 12
    with pytest.raises(ValueError, match="inputs=items needs coupled=false"):
        FarziConfig(inputs="items", coupled=True)  # type: ignore[call-arg]


def test_a_run_on_items_learns_targets_and_goes_on_after_a_stop() -> None:
    soft = make_latent()
    latent = replace(soft, inputs=torch.randint(N_ITEMS, (4, 4), generator=torch.Generator().manual_seed(2)))
    whole, states = make_farzi(latent=latent), []
    best = whole.run(lambda: states.append(whole.state()))
    assert len(best.tensors) == 2
    assert torch.equal(best.inputs, latent.inputs)
    assert not torch.equal(whole.latent.tensors[1], latent.tensors[1])
    again = make_farzi(latent=latent)
    again.restore(states[4])
    again.run()
    assert all(torch.equal(a, b) for a, b in zip(again.latent.tensors, whole.latent.tensors))
    trained = train_student(make_student(length=LENGTH), dequantise(quantise(best)), InnerLoop(2, 0.02), 3, 0)
    assert all(bool(value.isfinite().all()) for value in trained.values())


def test_a_synthetic_dataset_holds_them_as_version_3(tmp_path: Path) -> None:
    parent = write_dataset(
        tmp_path / "parent", [[(user, user + k, 1.0, k, 0) for user in range(4) for k in (0, 1)]], [4], N_ITEMS
    )
    latent = replace(make_latent(), inputs=torch.arange(16).view(4, 4) % N_ITEMS, bits=3.0)
    record = {"length": 4, "width": 3, "coupled": False, "student": "sasrec", "settings": SETTINGS, "shuffled": False}
    metrics = {"metric": "ndcg@10", "start": 0.1, "exact": 0.2, "stored": 0.2}
    described = {"method": "farzi", "family": "decoupled", "config": {}, "made_with": {}, "n_rows": 8}
    for data, version in ((latent, 3), (make_latent(), 2)):
        made = write_synthetic(str(tmp_path / "made"), data, parent, {**described, "sequences": {**record, **metrics}})
        assert SyntheticDataset.open(made.uri).manifest.version == version
        expected = dequantise(quantise(data)).tensors
        assert all(torch.equal(a, b) for a, b in zip(made.sequences().tensors, expected, strict=True))
        assert np.array_equal(made.draw().items.reshape(4, 5)[:, :4], latent.inputs) == (version == 3)


def test_items_carry_over_to_a_newer_log(tmp_path: Path) -> None:
    """Numbered anew; an item that is gone becomes the likeliest one of the target before it."""
    old = write_dataset(tmp_path / "old", [[(0, item, 1.0, item, 0) for item in range(N_ITEMS)]], [1], N_ITEMS)
    rows = [(0, item, 1.0, item, 0) for item in range(3)]
    new = write_dataset(tmp_path / "new", [rows], [1], 3)
    known = new.item_ids().to_list()
    assert known == old.item_ids().to_list()[:3]
    latent = replace(make_latent(), inputs=torch.tensor([[0, 1, 2, 5]] * 4))
    record = {"length": 4, "width": 3, "coupled": False, "student": "sasrec", "settings": SETTINGS, "shuffled": False}
    metrics = {"metric": "ndcg@10", "start": 0.1, "exact": 0.2, "stored": 0.2}
    described = {"method": "farzi", "family": "decoupled", "config": {}, "made_with": {}, "n_rows": 8}
    made = write_synthetic(str(tmp_path / "made"), latent, old, {**described, "sequences": {**record, **metrics}})
    moved = continued_sequences(made, new, new.interactions("train"), torch.device("cpu"))
    assert moved.inputs[:, :3].tolist() == [[0, 1, 2]] * 4
    assert moved.targets is not None
    expected = (moved.targets[:, 2] @ moved.decoder).argmax(dim=1)
    assert torch.equal(moved.inputs[:, 3], expected)
