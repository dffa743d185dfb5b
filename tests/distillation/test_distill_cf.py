"""Distill-CF's loop: the same on any number of workers, resumable, and worth it; what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import safetensors.torch
import scipy.sparse as sp
import torch
from distill_kit import Share, grouped, interactions, together

from distill_at_scale.data import hashing
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.distill_cf import DistillCF, default_rate, default_steps
from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
from distill_at_scale.distillation.select_lambda import ease_score, ridge_score
from distill_at_scale.distillation.users import RealUsers, _permuted
from distill_at_scale.errors import DasError
from distill_at_scale.models import create_model
from distill_at_scale.models.synthetic_rows import SyntheticRows
from distill_at_scale.models.training.sources import MemorySource

SETTINGS: dict[str, Any] = {
    "users": 6,
    "steps": 12,
    "batch_size": 20,
    "validate_every": 4,
    "warm_up": 3,
    "seed": 3,
    "init": "random",
}


def make(real: RealUsers, **changes: Any) -> DistillCF:
    return DistillCF(DistillCFConfig(**{**SETTINGS, **changes}), real)


def alone(**options: Any) -> RealUsers:
    return RealUsers(MemorySource(*grouped()), **options)


def tensors(distiller: DistillCF) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(distiller.state())


@pytest.mark.parametrize("n", [1, 2, 3, 17, 64, 1000])
def test_every_round_is_a_permutation(n: int) -> None:
    orders = [
        _permuted(np.arange(n, dtype=np.uint64), n, hashing.stream("test/order"), np.full(n, k, np.uint64))
        for k in range(2)
    ]
    for order in orders:
        assert sorted(order.tolist()) == list(range(n))
    if n > 16:
        assert (orders[0] != orders[1]).any()


def test_workers_share_the_same_batches() -> None:
    users = alone(seed=5)
    shares = [RealUsers(Share(*grouped(), rank, 3), seed=5) for rank in range(3)]
    for step in range(4):
        rows, numbers = users.batch(step, 20)
        inputs, hidden = users.hide(rows, numbers, step, 0.3)
        assert ((inputs + hidden) != rows).nnz == 0
        assert inputs.multiply(hidden).nnz == 0
        found = {}
        for share in shares:
            own_rows, own = share.batch(step, 20)
            own_inputs, _ = share.hide(own_rows, own, step, 0.3)
            found.update({int(user): own_inputs.toarray()[k] for k, user in enumerate(own)})
        assert sorted(found) == sorted(numbers.tolist())
        for k, user in enumerate(numbers):
            np.testing.assert_array_equal(found[int(user)], inputs.toarray()[k])
    seen = np.concatenate([users.batch(step, 15)[1] for step in range(4)])
    assert sorted(seen.tolist()) == users.numbers.tolist()
    assert users.n_filled == len(users.numbers) == 59  # one user of this log has no train rows
    share = sum(users.hide(*users.batch(step, 60), step, 0.3)[1].nnz for step in range(40)) / (40 * users.n_rows)
    # Users with a few rows hide one at least.
    assert share == pytest.approx(0.33, abs=0.01)


def test_a_share_of_the_users_is_the_same_for_any_number_of_workers() -> None:
    everyone, some = alone(seed=5), alone(seed=5, share=0.5)
    kept = np.isin(everyone.numbers, some.numbers)
    assert 20 < kept.sum() == some.n_filled < 40
    assert (some.matrix != everyone.matrix[np.flatnonzero(kept)]).nnz == 0
    assert some.n_rows == some.matrix.nnz
    assert some.n_splittable == (np.diff(some.matrix.indptr) > 1).sum()
    # Validation users are drawn from all.
    assert [held.users.tolist() for _, held in some._validation] == [
        held.users.tolist() for _, held in everyone._validation
    ]
    shares = [RealUsers(Share(*grouped(), rank, 3), seed=5, share=0.5) for rank in range(3)]
    assert sorted(np.concatenate([share.numbers for share in shares]).tolist()) == some.numbers.tolist()
    # A batch has as many users as are asked for, in the mean.
    places, sizes = [], []
    some.batch, batch = lambda step, size: places.append(size) or batch(step, size), some.batch  # type: ignore
    loop = make(some, batch_size=8, steps=20, hide=0.5)
    for _ in range(20):
        loop._learn()
        sizes.append(len(batch(loop.step - 1, places[-1])[1]))
    assert np.mean(sizes) == pytest.approx(8, abs=0.5)


class Pieces(Share):
    """A share that is read in pieces of a few users."""

    n_pieces = 5

    def train(self, piece: int) -> Interactions:
        return super().train(0).take(np.arange(len(super().train(0)))[piece :: self.n_pieces])

    def validation(self, piece: int) -> Interactions:
        heldout = super().validation(0)
        assert heldout is not None
        return heldout.take(np.arange(len(heldout))[piece :: self.n_pieces])


def test_validation_users_have_a_history() -> None:
    """As in a sample of users, most of whom have validation rows alone."""
    train, heldout = grouped()
    rows = [np.sort(train.items[a:b]) for a, b in zip(train.offsets, train.offsets[1:])]
    cold = [row if u % 3 == 0 else row[:0] for u, row in enumerate(rows)]
    sample = interactions(cold, 24)
    warm = {u for u in range(60) if len(cold[u]) and heldout.counts[u]}

    def judges(source: Any, **options: Any) -> set[int]:
        pairs = RealUsers(source, **options)._validation
        assert all((some.users == held.users).all() for some, held in pairs)
        return {int(user) for _, held in pairs for user in held.users}

    assert judges(MemorySource(sample, heldout)) == warm
    # About as many as are asked for, the same for any division into workers and pieces.
    some = judges(MemorySource(sample, heldout), validation_users=8, seed=3)
    assert some < warm
    assert 3 <= len(some) <= 14
    assert judges(Pieces(sample, heldout, 0, 1), validation_users=8, seed=3) == some
    found = together(3, lambda users: users, train=sample, heldout=heldout, validation_users=8, seed=3)
    assert {int(u) for users in found for _, held in users._validation for u in held.users} == some
    # If nobody has both, all with validation rows are asked.
    nobody = interactions([row[:0] if heldout.counts[u] else row for u, row in enumerate(rows)] + [rows[0]], 24)
    longer = interactions(
        [heldout.items[a:b] for a, b in zip(heldout.offsets, heldout.offsets[1:])] + [rows[0][:0]], 24
    )
    assert judges(MemorySource(nobody, longer)) == set(np.flatnonzero(longer.counts))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98])
@pytest.mark.parametrize("hide_single", [False, True])
def test_every_user_sees_one_row_and_predicts_one(share: float, hide_single: bool) -> None:
    users = alone(seed=5)
    counts = np.array([1, 2, 0, 3, 1, 5, 24])
    items = np.concatenate([np.arange(n) * (24 // max(n, 1)) for n in counts])
    rows = sp.csr_array(
        (np.ones(len(items), np.float32), items, np.concatenate(([0], np.cumsum(counts)))), shape=(len(counts), 24)
    )
    numbers = np.arange(10, 10 + len(counts))
    hidden_of_many = 0
    for step in range(30):
        inputs, hidden = users.hide(rows, numbers, step, share, hide_single)
        assert ((inputs + hidden) != rows).nnz == 0
        visible, targets = np.diff(inputs.indptr), np.diff(hidden.indptr)
        if not share:
            assert not targets.any()
            continue
        assert (visible[counts > 1] > 0).all()
        assert (targets[counts > 1] > 0).all()
        assert (targets[counts == 1] == hide_single).all()
        hidden_of_many += targets[-1]
        # The same, from the definition.
        begin = hashing.stream("distillation/hidden rows", 5, step)
        for k, user in enumerate(numbers):
            own = rows.indices[rows.indptr[k] : rows.indptr[k + 1]].astype(np.uint64)
            draws = hashing.uniform(hashing.combine(begin, np.full(len(own), user, np.uint64), own))
            order = np.argsort(draws)
            n_hidden = min(max(int((draws < share).sum()), 1), len(own) - 1) if len(own) > 1 else len(own) * hide_single
            assert set(hidden.indices[hidden.indptr[k] : hidden.indptr[k + 1]]) == set(own[order[:n_hidden]].tolist())
    assert hidden_of_many / (30 * 24) == pytest.approx(share, abs=0.05)


def test_a_step_learns_from_users_with_two_rows_alone() -> None:
    """Users with one row are left out, and their places in a batch go to others; or their row is a target."""
    rng = np.random.default_rng(0)
    lists = [np.sort(rng.choice(24, n, replace=False)) for n in (3, 1, 1, 4, 1, 2, 1, 1)]
    heldout = [np.array([(items[0] + 1) % 24]) for items in lists]
    both = RealUsers(MemorySource(interactions(lists, 24), interactions(heldout, 24)))
    assert (both.n_filled, both.n_splittable) == (8, 3)
    longer = [items if len(items) > 1 else items[:0] for items in lists]
    few = RealUsers(MemorySource(interactions(longer, 24), interactions(heldout, 24)))
    z = torch.rand(2, 24, generator=torch.Generator().manual_seed(1))
    found = [make(users, users=2, batch_size=3).gradient(z, 0.0) for users in (both, few)]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1])
    hidden = make(both, users=2, batch_size=8, single_rows="hidden").gradient(z, 0.0)
    assert hidden[0] != pytest.approx(found[0][0], rel=1e-3)


def test_the_most_active_users_are_the_same_on_any_number_of_workers() -> None:
    (one,) = together(1, lambda users: users.most_active(12))
    for other in together(3, lambda users: users.most_active(12)):
        assert torch.equal(one, other)
    matrix = alone().matrix.toarray()
    assert one.sum(1).tolist() == sorted(matrix.sum(1).tolist(), reverse=True)[:12]
    everyone = {tuple(row) for row in matrix.tolist()}
    assert all(tuple(row) in everyone for row in one.tolist())
    with pytest.raises(DasError, match="--users 60 is more than the 59 users with train rows"):
        alone().most_active(60)


def test_the_initial_lam_is_the_best_on_validation() -> None:
    distiller = make(alone(), steps=1, metric="ndcg@5")
    distiller.run()
    values = alone().drawn(6).numpy()
    worth = {
        lam: alone().validation_metric(ridge_score(values, lam), "ndcg@5", "x") for lam in (0.25, 0.5, 1.0, 2.0, 4.0)
    }
    assert distiller.points[0].metric >= max(worth.values()) - 1e-9
    assert make(alone(), lam=3.0).lam == pytest.approx(3.0)


def test_the_rate_follows_the_rows() -> None:
    users = alone()
    assert default_rate(DistillCFConfig(), users) == pytest.approx(
        0.106 * np.sqrt(np.square(users.matrix.toarray()).mean())
    )
    assert default_rate(DistillCFConfig(rows="binary"), users) == 0.02
    assert default_rate(DistillCFConfig(rows="gumbel"), users) == 0.04


@pytest.mark.parametrize("changes", [{}, {"rows": "unit", "init": "kmeans"}, {"init": "sketch"}, {"rows": "softmax"}])
def test_two_workers_go_one_workers_way(changes: dict[str, Any]) -> None:
    def work(users: RealUsers) -> DistillCF:
        distiller = make(users, **changes)
        distiller.run()
        return distiller

    (one,) = together(1, work, seed=3)
    two = together(2, work, seed=3)
    assert [point.step for point in one.points] == [0, 4, 8, 12]
    for other in two:
        for name, expected in tensors(one).items():
            torch.testing.assert_close(tensors(other)[name], expected, rtol=1e-3, atol=2e-4, msg=name)
        assert [p.metric for p in other.points] == pytest.approx([p.metric for p in one.points], abs=1e-6)
    for name, found in tensors(two[0]).items():
        assert torch.equal(found, tensors(two[1])[name]), name


@pytest.mark.parametrize("rows", ["free", "gumbel"])
def test_a_resumed_run_ends_with_the_same_bits(rows: str) -> None:
    users = alone(seed=3)
    undisturbed = make(users, rows=rows, draws=3)
    kept: dict[int, bytes] = {}
    undisturbed.run(after_step=lambda: kept.update({undisturbed.step: undisturbed.state()}))
    for step in (1, 5, 8):
        resumed = make(users, rows=rows, draws=3)
        resumed.restore(kept[step])
        assert resumed.step == step
        resumed.run()
        for name, expected in tensors(undisturbed).items():
            assert torch.equal(tensors(resumed)[name], expected), name
        assert resumed.points == undisturbed.points


def test_a_checkpoint_of_other_settings_is_refused() -> None:
    users = alone()
    content = make(users).state()
    with pytest.raises(DasError, match=r"other settings \(hide, learning_rate\)"):
        make(users, hide=0.5, learning_rate=0.1).restore(content)


@pytest.mark.parametrize("rows", ["free", "unit"])
def test_distilled_users_are_worth_more_than_drawn_ones(rows: str) -> None:
    users = alone()
    distiller = make(users, rows=rows, users=3, steps=60, learning_rate=0.05, metric="ndcg@5")
    before = users.drawn(3)
    distiller.run()
    assert max(point.metric for point in distiller.points) > distiller.points[0].metric + 0.05
    values, _ = distiller.rows()
    assert values.dtype == np.float32
    assert not np.array_equal(values, before.numpy())
    assert (values.min() >= 0 and values.max() <= 1) == (rows == "unit")
    tuned = distiller.result()
    rows_found, chosen = tuned.rows, tuned.chosen
    assert set(rows_found.chosen) == set(chosen) == {"infinite_ae", "ease"}
    model = create_model("infinite_ae", {}).fit_rows(rows_found)
    assert users.validation_metric(model.score, "ndcg@5", "x") >= max(point.metric for point in distiller.points) - 1e-6


def test_ease_by_the_small_system_is_ease() -> None:
    train, _ = grouped()
    rng = np.random.default_rng(0)
    rows = SyntheticRows(rng.standard_normal((5, 24)).astype(np.float32), 60, train.n_rows)
    found = ease_score(rows, 30.0).all_items(train)
    expected = create_model("ease", {"lam": 30.0, "dtype": "float64"}).fit_rows(rows).score(train)
    fresh = train.to_csr().toarray() == 0
    np.testing.assert_allclose(found[fresh], expected[fresh], atol=1e-5)


def test_without_validation_rows_the_last_state_counts() -> None:
    train, _ = grouped()
    users = RealUsers(MemorySource(train, None))
    distiller = make(users)
    distiller.run()
    assert distiller.points == []
    rows = distiller.result().rows
    assert distiller.result().chosen == {}
    assert rows.chosen["infinite_ae"]["lam"] == pytest.approx(distiller.lam)
    with pytest.raises(DasError, match="ease: no lam was selected for these synthetic rows; set it"):
        create_model("ease", {}).fit_rows(rows)


def test_patience_ends_a_run() -> None:
    distiller = make(alone(), steps=200, learning_rate=1e-9, patience=8)
    distiller.run()
    # At this rate nothing improves but by rounding.
    best = max(distiller.points, key=lambda point: point.metric)
    assert distiller.step == best.step + 8 < 200


def test_refusals() -> None:
    users = alone()
    with pytest.raises(DasError, match="--users 61 is more than the 59 users with train rows"):
        make(users, users=61)
    for name, value in (("lam", 0), ("learning_rate", 0), ("hide", 1.0)):
        with pytest.raises(ValueError, match=name):
            DistillCFConfig(**{name: value})
    # A rate beyond all measure: one good step, then no number; what was saved before it stays good.
    distiller = make(users, learning_rate=1e30, warm_up=0)
    with pytest.raises(DasError, match=r"distill_cf: .* step \d+; the checkpoint before it is kept"):
        distiller.run()
    assert torch.isfinite(tensors(distiller)["z"]).all()


def test_fewer_users_take_more_steps() -> None:
    assert [default_steps(n) for n in (5, 10, 40, 100, 500, 5000)] == [1200, 1200, 900, 700, 300, 300]
    assert [default_steps(n, "sketch") for n in (10, 40, 100, 500, 5000)] == [1200, 900, 300, 200, 200]
