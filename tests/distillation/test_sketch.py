"""The closed-form sketch against dense algebra, and the same on any number of workers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from distill_kit import grouped, together

from distill_at_scale.distillation.sketch import clusters, initial_rows, item_factors, sketch
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.models.training.sources import MemorySource


def test_the_factors_are_those_of_the_dense_decomposition() -> None:
    train, _ = grouped()
    users = RealUsers(MemorySource(train, None))
    _, expected, right = np.linalg.svd(train.to_csr().toarray(), full_matrices=False)
    sigma, v = item_factors(users, 8, seed=0)
    np.testing.assert_allclose(sigma, expected[:8], rtol=1e-4)
    # Vectors up to their sign: the gaps between these singular values are wide enough for the first three.
    np.testing.assert_allclose(np.abs(np.diag(right[:3] @ v[:, :3].numpy())), 1, atol=1e-3)
    np.testing.assert_allclose(v.T @ v, np.eye(8), atol=1e-5)
    assert len(item_factors(users, 500, seed=0)[0]) == 24


def test_the_sketch_has_the_second_moments_of_all_users() -> None:
    train, _ = grouped()
    users = RealUsers(MemorySource(train, None))
    x = train.to_csr().toarray().astype(np.float64)
    sigma, v = item_factors(users, 10, seed=0)
    towards = users.drawn(10)
    rows = sketch(users, sigma, v, towards).double()
    best = v.double() * sigma.double() ** 2 @ v.double().T * 10 / users.n_filled
    torch.testing.assert_close(rows.T @ rows, best, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(rows.norm() ** 2, 10 / users.n_filled * (np.linalg.svd(x)[1][:10] ** 2).sum(), rtol=1e-3)
    # No other turn of the same rows is nearer to the target.
    nearest = float((rows - towards).square().sum())
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-1, 1.0):
        skew = torch.randn(10, 10, generator=generator).double() * size
        turned = torch.matrix_exp(skew - skew.T) @ rows
        assert float((turned - towards).square().sum()) > nearest


@pytest.mark.parametrize("by_direction", [False, True])
def test_clusters_are_those_of_the_definition(by_direction: bool) -> None:
    train, _ = grouped()
    users = RealUsers(MemorySource(train, None))
    x = train.to_csr().toarray()
    x = x[x.sum(1) > 0]
    sums, counts = clusters(users, torch.from_numpy(x[:3].copy()), torch.eye(24), by_direction=by_direction)
    # Lloyd's algorithm from the definition.
    points = x / np.sqrt((x**2).sum(1, keepdims=True)) if by_direction else x
    centroids = points[:3].copy()
    for _ in range(11):
        nearest = ((points[:, None] - centroids[None]) ** 2).sum(2).argmin(1)
        last, centroids = centroids, np.stack([points[nearest == k].mean(0) for k in range(3)])
    np.testing.assert_allclose(last, centroids, atol=1e-6)
    np.testing.assert_allclose(sums, np.stack([x[nearest == k].sum(0) for k in range(3)]), atol=1e-4)
    np.testing.assert_array_equal(counts[:, 0], np.bincount(nearest))
    # Every group of users has its cluster.
    assert np.bincount(nearest).min() > 15


def test_a_cluster_without_users_is_its_start() -> None:
    train, _ = grouped()
    users = RealUsers(MemorySource(train, None))
    start = torch.stack([users.drawn(1)[0], torch.full((24,), -9.0)])
    sums, counts = clusters(users, start, torch.eye(24), by_direction=False)
    assert counts[:, 0].tolist() == [users.n_filled, 1]
    torch.testing.assert_close(sums[1], start[1])


def test_rows_from_k_means_have_the_second_moments_of_their_clusters() -> None:
    train, _ = grouped()
    users = RealUsers(MemorySource(train, None))
    _, v = item_factors(users, 5, seed=1)
    sums, counts = clusters(users, users.drawn(5), v, by_direction=False)
    rows = initial_rows("kmeans", 5, users, 1)
    torch.testing.assert_close(rows, sums / counts * (counts * 5 / users.n_filled).sqrt(), atol=1e-4, rtol=1e-4)


def test_two_workers_sketch_as_one_does() -> None:
    for init in ("random", "kmeans", "sketch"):
        work = lambda users, init=init: initial_rows(init, 5, users, 1)  # noqa: E731
        (one,) = together(1, work, seed=1)
        for other in together(2, work, seed=1):
            torch.testing.assert_close(other, one, atol=1e-3, rtol=1e-3)
