"""SVP's proxies: how hard a row is, against the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from distill_at_scale.data.interactions import Interactions
from distill_at_scale.models.training.batches import distinct_pairs
from distill_at_scale.samplers.svp import Proxy, proxies
from distill_at_scale.samplers.svp.variants import share_above


def rows() -> Interactions:
    items, ratings = np.array([0, 2, 2, 1, 3], np.int32), np.array([1, 5, 4, 3, 2], np.float32)
    return Interactions(np.arange(3), np.array([0, 3, 3, 5]), items, 9, ratings)


def test_explicit_hardness_is_the_squared_error() -> None:
    model = proxies.proxy_model("mf", "explicit", 5, 9, 0, 1)
    torch.manual_seed(0)
    module = model.build(3, 9).eval()
    module.mean.fill_(2.5)
    found = proxies.hardness(model, module, rows(), np.random.default_rng(0))
    slow = []
    for user, item, rating in zip((0, 0, 0, 2, 2), rows().items, (1, 5, 4, 3, 2)):
        p, q = module.user[user], module.item[item]
        slow.append((2.5 + (p[:-1] @ q[:-1] + p[-1] + q[-1]).item() - rating) ** 2)
    np.testing.assert_allclose(found, slow, rtol=1e-5)


@pytest.mark.parametrize("proxy", ["bias", "mf"])
def test_implicit_hardness_is_the_share_of_unseen_items_above(proxy: Proxy) -> None:
    """Items in the order of their numbers, two alike: of the unseen ones, the share above is known but for the draws,
    which a proxy without users' vectors does not need."""
    model = proxies.proxy_model(proxy, "implicit", 5, 9, 0, 1)
    module, ranking = model.build(3, 9).eval(), np.array([0, 1, 2, 3, 4, 5, 6, 7, 2])
    with torch.no_grad():
        module.user.zero_()
        module.item[:, -1] = torch.from_numpy(ranking)
    draws = [proxies.hardness(model, module, rows(), np.random.default_rng(seed)) for seed in range(100)]
    unseen = {0: [1, 3, 4, 5, 6, 7, 8], 2: [0, 2, 4, 5, 6, 7, 8]}
    slow = [
        np.mean([(ranking[other] > ranking[item]) + 0.5 * (ranking[other] == ranking[item]) for other in unseen[user]])
        for user, item in zip((0, 0, 0, 2, 2), rows().items)
    ]
    # Of vectors, 2000 draws a row: the standard error is below .01.
    np.testing.assert_allclose(np.mean(draws, axis=0), slow, atol=1e-12 if proxy == "bias" else 0.04)


def test_the_share_of_unseen_items_above_is_the_mean_over_all_draws() -> None:
    rng = np.random.default_rng(0)
    ranking = rng.integers(0, 12, 30).astype(np.float32)
    counts = [1, 0, 7, 29, 12, 30]
    users = np.repeat(np.arange(3, 9), counts)
    items = np.concatenate([rng.choice(30, n, replace=False) for n in counts])
    # A repeated pair counts once among the user's items.
    users, items = np.append(users, users[-13:-11]), np.append(items, items[-13:-11])
    order = np.argsort(users, kind="stable")
    users, items = users[order], items[order]
    found = proxies.share_of_unseen_above(ranking, distinct_pairs(users, items, 30), users, items)
    for user, item, share in zip(users, items, found):
        others = np.setdiff1d(np.arange(30), items[users == user])
        draws = share_above(ranking[[item]], ranking[others][None]) if len(others) else 0.5
        assert share == pytest.approx(float(np.squeeze(draws)), abs=1e-12)


def test_a_user_who_has_everything_ends() -> None:
    everything = Interactions(np.arange(1), np.array([0, 4]), np.arange(4, dtype=np.int32), 4)
    model = proxies.proxy_model("bias", "implicit", 4, 4, 0, 1)
    found = proxies.hardness(model, model.build(1, 4).eval(), everything, np.random.default_rng(0))
    np.testing.assert_array_equal(found, 0.5)


@pytest.mark.parametrize(("n_rows", "batch"), [(10, 1024), (2_048_000, 1024), (20_000_000, 10_000)])
def test_batches_grow_with_the_rows(n_rows: int, batch: int) -> None:
    assert proxies.proxy_model("mf", "implicit", n_rows, 9, 0, 1).config.batch_size == batch


def test_beyond_ten_million_items_most_vectors_are_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    def items_of(proxy: Proxy, n_items: int) -> str | None:
        return getattr(proxies.proxy_model(proxy, "implicit", 5, n_items, 0, 1).config, "items", None)

    assert [items_of("mf", n) for n in (proxies.MOST_OWN_ITEMS, proxies.MOST_OWN_ITEMS + 1)] == ["own", "hash"]
    assert items_of("bias", proxies.MOST_OWN_ITEMS + 1) is None
    # Rows are as hard as the composed vectors make them.
    monkeypatch.setattr(proxies, "MOST_OWN_ITEMS", 8)
    monkeypatch.setattr(proxies, "_SHARED", {"mf": {"items": "hash", "books": 2, "book_size": 4, "own_items": 2}})
    model = proxies.proxy_model("mf", "explicit", 5, 9, 0, 1)
    torch.manual_seed(0)
    module = model.build(3, 9).eval()
    with torch.no_grad():
        module.item.codes.copy_(torch.randint(0, 4, (9, 2)))
        module.item.own.normal_()
        module.item.columns.normal_()
    found = proxies.hardness(model, module, rows(), np.random.default_rng(0))
    slow = []
    for user, item, rating in zip((0, 0, 0, 2, 2), rows().items.tolist(), (1, 5, 4, 3, 2)):
        one, two = module.item.codes[item].tolist()
        q = module.item.shared[one] + module.item.shared[4 + two] + (module.item.own[item] if item < 2 else 0)
        p = module.user[user]
        slow.append((p[:-1] @ q + p[-1] + module.item.columns[item, 0] - rating).item() ** 2)
    np.testing.assert_allclose(found, slow, rtol=1e-5)
