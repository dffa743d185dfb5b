"""Farzi's parts: outer batches, the outer loss, the start, latent sequences, curricula."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from farzi_kit import LENGTH, N_ITEMS, make_latent, make_rows, make_student

from distill_at_scale.data import hashing
from distill_at_scale.distillation import soft_tokens
from distill_at_scale.distillation.distillers.farzi import FarziDistiller
from distill_at_scale.distillation.farzi import (
    FarziConfig,
    InnerLoop,
    OuterBatches,
    Teacher,
    consensus,
    dissimilarity,
    initialise_from_teachers,
    outer_loss,
    real_sequences,
)
from distill_at_scale.distillation.farzi.initialisation import _factorised
from distill_at_scale.errors import DasError


def histories() -> list[list[int]]:
    rows = make_rows()
    return [rows.items[a:b].tolist() for a, b in zip(rows.offsets, rows.offsets[1:])]


def test_a_batch_asks_what_came_next_after_enough_context() -> None:
    outer_batches, everyone = OuterBatches(make_rows(), LENGTH, 2, seed=3), histories()
    batch = outer_batches.draw(20, 1000, 4)
    widths = set()
    for number, (row, column, answer) in enumerate(
        zip(batch.rows.tolist(), batch.columns.tolist(), batch.answers.tolist())
    ):
        context = [item for item in batch.items[row, : column + 1].tolist() if item != N_ITEMS]
        widths.add(len(context))
        assert len(context) >= 2
        seen = set(batch.seen_items[batch.seen_rows == number].tolist())
        # Some user's history has the context, then the answer, and before it what counts as seen.
        found = [
            items
            for items in everyone
            for end in range(len(items))
            if items[end] == answer
            and items[max(0, end - len(context)) : end] == context
            and seen == set(items[:end]) - {answer}
        ]
        assert found
    assert widths == {2, 3, 4, 5}


def test_batches_depend_on_their_place_alone_and_have_no_more_places_than_asked() -> None:
    outer_batches = OuterBatches(make_rows(), LENGTH, 2, seed=3)
    outer_batches.draw(4, 5, 1)
    first, again, other = (
        outer_batches.draw(4, 5, 2),
        OuterBatches(make_rows(), LENGTH, 2, 3).draw(4, 5, 2),
        outer_batches.draw(4, 5, 3),
    )
    assert torch.equal(first.items, again.items)
    assert torch.equal(first.answers, again.answers)
    assert len(first.answers) == 5
    assert first.items.shape != other.items.shape or not torch.equal(first.items, other.items)
    with pytest.raises(DasError, match="No user has more than least_context=10 train rows"):
        OuterBatches(make_rows(), LENGTH, 10, seed=3)


def test_the_outer_loss_is_its_definition() -> None:
    student = make_student()
    parameters, teachers = student.draw(0), [Teacher(student, student.draw(k)) for k in (1, 2)]
    generator = torch.Generator().manual_seed(0)
    for values in (parameters, *(teacher.parameters for teacher in teachers)):
        values["items.weight"][:-1] = torch.randn(N_ITEMS, 8, generator=generator)
    batch = OuterBatches(make_rows(), LENGTH, 2, seed=3).draw(3, 5, 0)

    def distribution(values: dict[str, torch.Tensor], number: int) -> list[float]:
        row, column = int(batch.rows[number]), int(batch.columns[number])
        state = student.states(values, batch.items[row : row + 1])[0, column]
        scores = (student.table(values) @ state).tolist()
        seen = batch.seen_items[batch.seen_rows == number].tolist()
        odds = [0.0 if item in seen else math.exp(score) for item, score in enumerate(scores)]
        return [value / sum(odds) for value in odds]

    hard = soft = 0.0
    for number, answer in enumerate(batch.answers.tolist()):
        own = distribution(parameters, number)
        theirs = np.mean([distribution(teacher.parameters, number) for teacher in teachers], axis=0)
        hard -= math.log(own[answer]) / 5
        soft += sum(p * math.log(p / q) for p, q in zip(theirs, own) if p > 0) / 5
    assert float(outer_loss(student, parameters, batch, teachers, 0.7)) == pytest.approx(
        0.3 * hard + 0.7 * soft, rel=1e-5
    )
    assert float(outer_loss(student, parameters, batch, [], 0.7)) == pytest.approx(hard, rel=1e-5)


def test_unlikeness_is_one_minus_the_alignment_of_the_centred_gram_matrices() -> None:
    x, y = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, 4, dtype=torch.float64)
    centre = np.eye(7) - np.ones((7, 7)) / 7
    gram = [centre @ (part @ part.T).numpy() @ centre for part in (x, y)]
    aligned = np.trace(gram[0] @ gram[1]) / math.sqrt(np.trace(gram[0] @ gram[0]) * np.trace(gram[1] @ gram[1]))
    assert float(dissimilarity(x, y)) == pytest.approx(1 - aligned, rel=1e-9)
    turned = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))[0]
    assert float(dissimilarity(x, 2.5 * x @ turned + 1)) == pytest.approx(0, abs=1e-9)


def test_alignment_adds_the_mean_unlikeness_to_the_outer_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    student, batch = make_student(), OuterBatches(make_rows(), LENGTH, 2, seed=3).draw(6, 16, 0)
    parameters, teachers = student.draw(1), [Teacher(student, student.draw(k)) for k in (8, 9)]
    states = [
        student.states(p, batch.items)[batch.rows, batch.columns]
        for p in (parameters, *(t.parameters for t in teachers))
    ]
    extra = 0.3 * np.mean([float(dissimilarity(states[0], other)) for other in states[1:]])
    for above in (N_ITEMS, N_ITEMS - 1):
        monkeypatch.setattr(soft_tokens, "CHUNKED_ABOVE", above)
        for share in (0.0, 0.7):
            plain, aligned = (float(outer_loss(student, parameters, batch, teachers, share, a)) for a in (0.0, 0.3))
            assert aligned - plain == pytest.approx(extra, rel=1e-3)
    assert float(outer_loss(student, parameters, batch, [], 0.0, 0.3)) == float(
        outer_loss(student, parameters, batch, [], 0.0)
    )


def test_the_outer_loss_in_chunks_of_places_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    student, batch = make_student(), OuterBatches(make_rows(), LENGTH, 2, seed=3).draw(20, 41, 4)
    teachers = [Teacher(student, {name: value.double() for name, value in student.draw(k).items()}) for k in (8, 9)]
    monkeypatch.setattr(soft_tokens, "_LEAST_PLACES", 5)
    monkeypatch.setattr(soft_tokens, "_CHUNK_BYTES", 1)
    found = []
    for above in (N_ITEMS, N_ITEMS - 1):
        monkeypatch.setattr(soft_tokens, "CHUNKED_ABOVE", above)
        parameters = {name: value.double().requires_grad_() for name, value in student.draw(1).items()}
        for known in (teachers, []):
            loss = outer_loss(student, parameters, batch, known, 0.7)
            found.append([loss, *torch.autograd.grad(loss, list(parameters.values()))])
    for whole, chunked in zip(found[:2], found[2:]):
        assert max(part.abs().max() for part in whole[1:]) > 1e-2
        for a, b in zip(whole, chunked):
            torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-12)


def test_real_sequences_are_the_newest_items_of_users() -> None:
    found = real_sequences(make_rows(), 6, 5, seed=1)
    assert found.shape == (6, 5)
    newest = [items[-5:] for items in histories() if len(items) >= 5]
    assert all(sequence in newest for sequence in found.tolist())
    assert not np.array_equal(found, real_sequences(make_rows(), 6, 5, seed=2))
    with pytest.raises(
        DasError, match=r"Only \d+ users have 9 train rows or more, 30 are needed; set fewer or shorter"
    ):
        real_sequences(make_rows(), 30, 9, seed=1)


@pytest.mark.parametrize("joined", [None, True, False])
def test_a_refusal_names_numbers_and_lengths_that_suffice(joined: bool | None) -> None:
    rows = make_rows()
    followed = 0
    for sequences, length in [(3, 4), (40, 4), (4, 40), (len(rows) + 1, 40), (10**6, 40)]:
        own = {"joined": joined, "coupled": False}
        settings = {"sequences": sequences, "length": length}
        try:
            FarziDistiller(FarziConfig(**settings, **own))._check_sequences(rows)  # type: ignore[arg-type]
        except DasError as error:
            advice = str(error).partition("; ")[2]
            for option in advice.removesuffix(".").split(" or "):
                said = {name: int(value) for name, value in re.findall(r"--(\w+) (\d+)", option)}
                c = FarziConfig(**{**settings, **said}, **own)  # type: ignore[arg-type]
                assert said
                assert len(real_sequences(rows, c.sequences, c.places_read, 1, joined=c.is_joined(rows))) == c.sequences
                followed += 1
    assert followed >= 4


def test_joined_real_sequences_are_users_laid_end_to_end() -> None:
    rows = make_rows()
    longest = int(rows.counts.max())
    order = np.argsort(
        hashing.combine(hashing.stream("farzi/start users", 1), rows.users.astype(np.uint64)), kind="stable"
    )
    laid = [item for k in order if rows.counts[k] > 1 for item in histories()[k][-longest:]]
    n = len(laid) // longest
    found = real_sequences(rows, n, longest, seed=1, joined=True)
    assert found.tolist() == [laid[k * longest : (k + 1) * longest] for k in range(n)]
    five = real_sequences(rows, 8, 5, seed=1, joined=True).ravel().tolist()
    assert five == [item for k in order if rows.counts[k] > 1 for item in histories()[k][-5:]][:40]
    with pytest.raises(DasError, match=rf"{n + 1} sequences of {longest} items need more than the [\d,]+ train rows"):
        real_sequences(rows, n + 1, longest, seed=1, joined=True)
    with pytest.raises(DasError, match=rf"Only 0 users have {longest + 1} train rows or more, 1 is needed"):
        real_sequences(rows, 1, longest + 1, seed=1, joined=True)


def test_sequences_are_joined_where_users_are_shorter() -> None:
    rows, mean = make_rows(), make_rows().n_rows / len(make_rows())
    assert not FarziConfig(length=int(mean) - 1).is_joined(rows)
    assert FarziConfig(length=int(mean) + 1).is_joined(rows)
    assert not FarziConfig(length=int(mean) + 1, joined=False).is_joined(rows)


@pytest.mark.parametrize("coupled", [False, True])
def test_a_start_of_full_width_is_what_the_teachers_say(coupled: bool) -> None:
    """With as many latent numbers as items nothing is lost, so the tokens are the softmax of what was written down."""
    rows, student = make_rows(), make_student()
    teachers = [Teacher(student, student.draw(k)) for k in (1, 2)]
    made = {"sharpness": 3.0, "foresight": 2.0, "popularity": 0.3, "seed": 1}
    latent = initialise_from_teachers(teachers, rows, 6, 4, N_ITEMS, coupled=coupled, **made)  # type: ignore[arg-type]
    items = torch.from_numpy(real_sequences(rows, 6, 4 + (not coupled), seed=1))
    table = torch.cat([student.table(teacher.parameters) for teacher in teachers], dim=1).double()
    table = table - table.mean(dim=0)
    # How like two items are: Mahalanobis' product, 1 with itself.
    gram = table @ torch.linalg.pinv(table.T @ table) @ table.T
    known = (3 * gram / gram.diagonal()[:, None])[items].float()
    said = sum(teacher.states(items[:, :-1]) @ student.table(teacher.parameters).T for teacher in teachers) / 2
    predicted = 2 * said + 0.3 * torch.from_numpy(np.log1p(rows.item_counts()))
    x, y = latent.tokens(torch.arange(6))
    if coupled:
        whole = known.clone()
        whole[:, 1:] += predicted
        torch.testing.assert_close(x, whole[:, :-1].softmax(2).float(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(y, whole[:, 1:].softmax(2).float(), rtol=1e-4, atol=1e-6)
    else:
        torch.testing.assert_close(x, known[:, :-1].softmax(2), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(y, predicted.softmax(2).float(), rtol=1e-4, atol=1e-6)


def test_a_narrow_start_is_the_best_product_and_a_wide_one_has_room_to_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(20, 5, generator=generator), torch.randn(5, 30, generator=generator)
    whole = left @ right
    u, values, vh = torch.linalg.svd(whole, full_matrices=False)
    latent, decoder = _factorised(left, right, 3, seed=0)
    torch.testing.assert_close(latent @ decoder, (u[:, :3] * values[:3]) @ vh[:3], rtol=1e-4, atol=1e-4)
    latent, decoder = _factorised(left, right, 9, seed=0)
    torch.testing.assert_close(latent @ decoder, whole, rtol=1e-4, atol=1e-4)
    # What the product does not need has a gradient all the same.
    assert (latent.shape, decoder.shape) == ((20, 9), (9, 30))
    assert (decoder.abs().sum(dim=1) > 0).all()


def test_a_start_wider_than_the_tokens_is_refused() -> None:
    student = make_student()
    with pytest.raises(DasError, match=f"width={N_ITEMS + 1} is more than {N_ITEMS}"):
        initialise_from_teachers(
            [Teacher(student, student.draw(0))],
            make_rows(),
            6,
            4,
            N_ITEMS + 1,
            coupled=False,
            sharpness=1.0,
            foresight=1.0,
            popularity=0.0,
            seed=0,
        )


def test_tokens_are_distributions_and_coupled_ones_overlap() -> None:
    latent = make_latent(coupled=True)
    x, y = latent.tokens(torch.tensor([2, 0]))
    assert x.shape == y.shape == (2, 3, N_ITEMS)
    torch.testing.assert_close(x.sum(2), torch.ones(2, 3))
    torch.testing.assert_close(x[:, 1:], y[:, :-1])
    slow = (latent.inputs[2, 1] @ latent.decoder / 0.8).exp()
    torch.testing.assert_close(x[0, 1], slow / slow.sum())
    assert make_latent().tokens(torch.tensor([1]))[1].shape == (1, 4, N_ITEMS)
    assert latent.n_numbers == 4 * 4 * 3 + 3 * N_ITEMS


def test_curricula_visit_every_sequence_once_a_pass() -> None:
    plain, shuffled = InnerLoop(3, 0.1), InnerLoop(3, 0.1, shuffled=True, seed=4)
    assert [plain.rows(7, step) for step in range(4)] == [(0, 1, 2), (3, 4, 5), (6,), (0, 1, 2)]
    passes = [sum((shuffled.rows(7, step) for step in range(start, start + 3)), ()) for start in (0, 3)]
    assert [sorted(rows) for rows in passes] == [list(range(7))] * 2
    assert passes[0] != passes[1]


def test_the_consensus_is_nearer_to_all_teachers_than_the_one_it_starts_from() -> None:
    student = make_student()
    # Fresh parameters are small, and what they predict is all alike.
    drawn = [{name: 20 * value for name, value in student.draw(seed).items()} for seed in (1, 2, 3)]
    teachers = [Teacher(student, parameters) for parameters in drawn]
    outer_batches = OuterBatches(make_rows(), LENGTH, 1, seed=3)
    unseen = OuterBatches(make_rows(seed=9), LENGTH, 1, seed=4).draw(40, 400, 0)

    def closeness(parameters: dict[str, torch.Tensor]) -> float:
        return -float(outer_loss(student, parameters, unseen, teachers, 1.0))

    seen: list[float] = []

    def validate(parameters: dict[str, torch.Tensor]) -> float:
        seen.append(closeness(parameters))
        return seen[-1]

    found = consensus(teachers, outer_batches, 120, validate)
    assert len(seen) == 3  # the teachers
    assert closeness(found.parameters) > max(seen) + 0.05
    again = consensus(teachers, outer_batches, 120, closeness)
    for name, value in found.parameters.items():
        assert torch.equal(again.parameters[name], value)
    # It begins with the best teacher, and leaves it as it was.
    spoiled, before = iter([0.0, 2.0, 1.0]), {name: value.clone() for name, value in drawn[1].items()}
    best = consensus(teachers, outer_batches, 0, lambda parameters: next(spoiled))
    assert all(torch.equal(best.parameters[name], value) for name, value in before.items())
    consensus(teachers, outer_batches, 5, lambda parameters: float(parameters is drawn[1]))
    assert all(torch.equal(drawn[1][name], value) for name, value in before.items())
