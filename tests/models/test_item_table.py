"""Composed item vectors: the sum that they are, what the codes say, and models that learn by them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import safetensors.numpy
import torch
from contract import N_GROUPS, N_ITEMS, blocks, make_rows
from test_sequential import slow_cross_entropy
from torch_kit import TorchContract, walks

from distill_at_scale.distillation.students import create_student
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.evaluation import evaluate
from distill_at_scale.models import create_model, load_model
from distill_at_scale.models.item_table import ComposedItems, ItemTableConfig, n_books, table_numbers
from distill_at_scale.models.synthetic_rows import SyntheticRows
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.cross_entropy import sampled_cross_entropy
from distill_at_scale.models.training.item_codes import residual_codes
from distill_at_scale.models.training.sources import MemorySource

SMALL: dict[str, object] = {"books": 2, "book_size": 8, "own_items": 3}


class TestMFOfCodes(TorchContract):
    name = "mf"
    settings: ClassVar = {
        "items": "codes",
        **SMALL,
        "dim": 8,
        "epochs": 30,
        "batch_size": 64,
        "learning_rate": 0.02,
        "weight_decay": 0.01,
        "negatives": 4,
        "device": "cpu",
    }


def table(items: str, n_items: int = N_ITEMS, own_columns: int = 0, **changes: object) -> ComposedItems:
    torch.manual_seed(0)
    config = ItemTableConfig(**{"items": items, **SMALL, **changes})  # type: ignore[arg-type]
    made = ComposedItems(n_items, 5, config, 1.0, own_columns)
    with torch.no_grad():
        made.own.normal_()
        made.columns.normal_()
        made.prepare(
            MemorySource(blocks()[0] if n_items == N_ITEMS else make_rows([[0]], n_items), None), Communicator(), 0
        )
    return made


@pytest.mark.parametrize("items", ["codes", "hash", "quotient"])
@pytest.mark.parametrize("own_columns", [0, 1])
@pytest.mark.parametrize("own_items", [0, 3])
def test_a_vector_is_the_sum_of_its_books_and_its_own(items: str, own_columns: int, own_items: int) -> None:
    made = table(items, own_columns=own_columns, own_items=own_items)
    counts = blocks()[0].item_counts()
    frequent = made.own_items.tolist()
    assert len(frequent) == own_items
    assert frequent == sorted(frequent)
    assert all(counts[one] >= counts[other] for one in frequent for other in set(range(N_ITEMS)) - set(frequent))
    expected = torch.zeros(N_ITEMS + 1, 5)
    for item in range(N_ITEMS):
        for book, code in enumerate(made.codes[item].tolist()):
            assert 0 <= code < 8
            expected[item, : 5 - own_columns] += made.shared[8 * book + code].detach()
        if item in frequent:
            expected[item, : 5 - own_columns] += made.own[frequent.index(item)].detach()
        expected[item, 5 - own_columns :] = made.columns[item].detach()
    numbers = torch.tensor([[0, N_ITEMS, 4], [N_ITEMS - 1, 4, 9]])
    torch.testing.assert_close(made(numbers), expected[numbers])
    torch.testing.assert_close(made.vectors(3, N_ITEMS), expected[3:-1])
    assert sum(p.numel() for p in made.parameters()) == table_numbers(N_ITEMS, 5, made.config, own_columns)


def test_digits_tell_all_items_apart_and_hashes_most() -> None:
    made = table("quotient", n_items=1000)
    assert n_books(1000, made.config) == 4  # 8^3 < 1000 <= 8^4
    assert len(torch.unique(made.codes, dim=0)) == 1000
    hashed = table("hash", n_items=1000, books=4)
    assert len(torch.unique(hashed.codes, dim=0)) > 850  # 885 expected of 4,096 codes
    assert torch.equal(hashed.codes[:300], table("hash", n_items=300, books=4).codes)


def test_codes_are_those_of_similar_items() -> None:
    # The items of a group have the same users, but for those who lack one.
    codes = table("codes", book_size=3).codes[:, 0].reshape(N_GROUPS, -1)
    assert all(len(group.unique()) == 1 for group in codes)
    assert len(codes[:, 0].unique()) == N_GROUPS


def test_each_book_describes_what_those_before_leave_over() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3000, 6)).astype(np.float32)
    vectors[1] = vectors[0]
    vectors[2] = 0.0
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled = vectors / np.where(lengths > 0, lengths, 1.0) ** 0.5
    left = vectors.copy()
    codes = residual_codes(left, 3, 32, seed=1)
    assert codes[0].tolist() == codes[1].tolist()
    errors = [np.square(scaled).sum()]
    rest = scaled.copy()
    for book in range(3):
        for code in range(32):  # the centre of a cell explains it best, but for rounds not yet converged
            cell = codes[:, book] == code
            rest[cell] -= rest[cell].mean(axis=0) if cell.any() else 0.0
        errors.append(np.square(rest).sum())
    assert all(after < 0.6 * before for before, after in itertools.pairwise(errors))
    np.testing.assert_allclose(np.square(left).sum(), errors[-1], rtol=0.1)


def test_a_sample_of_all_items_gives_the_whole_cross_entropy() -> None:
    torch.manual_seed(3)
    states = torch.randn(40, 5, dtype=torch.float64, requires_grad=True)
    items = torch.randn(11, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(11, (40,))
    expected = slow_cross_entropy(states, items, targets)
    found = sampled_cross_entropy(states, lambda some: items[some], targets, torch.arange(11), 11)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    wanted = torch.autograd.grad(expected, (states, items))
    for one, other in zip(torch.autograd.grad(found, (states, items)), wanted):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    # In expectation over samples, what is summed over the other items is their sum.
    totals = []
    for _ in range(400):
        some = sampled_cross_entropy(states[:1], lambda k: items[k], targets[:1], torch.randint(11, (8,)), 11)
        totals.append((some + states[0] @ items[targets[0]]).exp().item())
    whole = (states[0] @ items.T).exp().sum().item()
    assert abs(np.mean(totals) - whole) < 0.1 * whole


def test_a_model_of_sequences_learns_the_order_by_composed_vectors(tmp_path: Path) -> None:
    train, heldout = walks()
    settings = {"items": "quotient", **SMALL, "dim": 16, "length": 8, "blocks": 1, "dropout": 0.1, "device": "cpu"}
    model = create_model("sasrec", {**settings, "epochs": 25, "batch_size": 32, "learning_rate": 0.03, "sampled": 15})
    model.fit(train)
    result = evaluate(model.scorer, train, heldout, train.item_counts(), train.n_rows, (1,))
    assert result.metrics["hr@1"] > 0.9
    model.save(str(tmp_path / "model"))
    np.testing.assert_array_equal(load_model(str(tmp_path / "model")).score(train), model.score(train))


def test_codes_are_saved_as_bytes_and_a_large_catalogue_needs_little(tmp_path: Path) -> None:
    settings = {"items": "codes", **SMALL, "epochs": 1, "device": "cpu"}
    create_model("mf", {**settings, "dim": 4}).fit(blocks()[0]).save(str(tmp_path / "model"))
    stored = safetensors.numpy.load_file(tmp_path / "model" / "weights.safetensors")
    assert stored["item.codes"].dtype == np.uint8
    assert stored["item.codes"].shape == (N_ITEMS, 2)
    own, composed = (create_model("sasrec", {"items": items, "sampled": 1000}) for items in ("own", "codes"))
    needed = [type(m).memory_needed(10**6, 10**7, 10**6, m.config) for m in (own, composed)]
    assert needed[1] < 0.5 * needed[0]
    # Four bytes an item, and what they point to.
    assert 4 * 10**7 < type(composed).stored_bytes(10**6, 10**7, composed.config) < 100 << 20


def test_what_reads_no_log_refuses_composed_items() -> None:
    with pytest.raises(SettingError, match="sasrec learns latent sequences with items=own"):
        create_student("sasrec", 9, {"items": "codes"})
    rows = SyntheticRows(np.ones((2, 9), np.float32), 9, 9)
    with pytest.raises(DasError, match="mf: items=hash composes vectors of logs"):
        create_model("mf", {"items": "hash"}).fit_rows(rows)
