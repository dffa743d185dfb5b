"""Density and sensitivity, and the embeddings they stand on, beside twins that go point by point."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from samplers_kit import Log, Row, cut, draw_of, kept, make_log, run_map_reduce, user_hash

from distill_at_scale.data import hashing
from distill_at_scale.samplers import SAMPLERS
from distill_at_scale.samplers.embedding import vectors
from distill_at_scale.samplers.embedding.density import BITS, FUNCTIONS
from distill_at_scale.samplers.embedding.sensitivity import CLUSTERS
from distill_at_scale.samplers.embedding.vectors import (
    DIMENSIONS,
    UNIT,
    gaussians,
    item_embeddings,
    orthonormal,
    signs,
    user_embeddings,
)
from distill_at_scale.samplers.map_reduce import Arrays, Task
from distill_at_scale.samplers.train_rows import TrainRows

SEED = 2
NAMES = ("density", "sensitivity", "sensitivity_users")
LOG = make_log(0, n_users=150, n_items=60)


def learned(name: str, log: Log, n_shards: int, seed: int = SEED) -> tuple[list[Arrays], Arrays]:
    shards, _ = cut(log, n_shards)
    make = SAMPLERS[name].map_reduce
    assert make is not None
    return run_map_reduce(make(Task(log.n_items, log.n_rows, log.n_rows, seed)), shards)


def subset(name: str, log: Log, n_shards: int, targets: list[int], seed: int = SEED) -> list[set[Row]]:
    shards, ids = cut(log, n_shards)
    owns, shared = learned(name, log, n_shards, seed)
    scores = [SAMPLERS[name].score(rows, seed, own, shared) for rows, own in zip(shards, owns)]
    return [kept(scores, shards, ids, target) for target in targets]


def embeddings(log: Log, shared: Arrays) -> dict[int, list[int]]:
    """Of the users that have rows."""
    (rows,), (ids,) = cut(log, 1)
    vectors = user_embeddings(rows, shared).astype(int).tolist()
    return {user: vector for user, vector in zip(ids, vectors) if log.rows[user]}


@pytest.mark.parametrize("name", NAMES)
def test_subset_does_not_depend_on_shards_and_budgets_nest(name: str) -> None:
    targets = [int(share * LOG.n_rows) for share in (0.6, 0.3, 0.05)]
    found = [subset(name, LOG, n_shards, targets) for n_shards in (1, 4, 9)]
    assert found[0] == found[1] == found[2]
    assert found[0][2] < found[0][1] < found[0][0]
    assert subset(name, LOG, 2, targets, seed=3) != found[0]
    if name == "sensitivity":
        assert [len(rows) for rows in found[0]] == targets


@pytest.mark.parametrize("name", NAMES)
def test_what_is_learned_is_the_same_to_the_bit_for_any_shards(name: str) -> None:
    one, many = learned(name, LOG, 1)[1], learned(name, LOG, 6)[1]
    assert one.keys() == many.keys()
    for key, value in one.items():
        assert np.array_equal(value, many[key]), key


@pytest.mark.parametrize("name", [*NAMES, "centrality"])
def test_shards_visited_as_one_bring_what_they_bring_one_by_one(name: str) -> None:
    shards, _ = cut(LOG, 5)
    make = SAMPLERS[name].map_reduce
    assert make is not None
    algorithm = make(Task(LOG.n_items, LOG.n_rows, LOG.n_rows, SEED))
    assert algorithm.joins
    joined, apart = (
        run_map_reduce(algorithm, some)[1] for some in ([TrainRows.joined(shards[:3]), shards[3], shards[4]], shards)
    )
    assert joined.keys() == apart.keys() != set()
    assert all(np.array_equal(joined[key], apart[key]) for key in apart)


def test_the_basis_spans_the_leading_singular_vectors() -> None:
    """On rows of three groups of users who share their items only among themselves, by a plain SVD."""
    rng = np.random.default_rng(0)
    log = Log(
        {
            10_000 + u: [(int(i), 0) for i in sorted(rng.choice(20, 8, replace=False) + 20 * (u % 3))]
            for u in range(240)
        },
        60,
    )
    shards, ids = cut(log, 2)
    _, shared = learned("density", log, 2)
    users = [u for part in ids for u in part]
    matrix = np.zeros((len(users), 60))
    for k, user in enumerate(users):
        for item, _ in log.rows[user]:
            matrix[k, item] = 1
    scaled = matrix / np.sqrt(matrix.sum(1))[:, None] / np.sqrt(matrix.sum(0))
    leading = np.linalg.svd(scaled)[2][:3]
    inside = leading @ shared["basis"].astype(float)
    assert np.allclose((inside**2).sum(axis=1), 1, atol=1e-6)
    vectors = np.concatenate([user_embeddings(rows, shared) for rows in shards]) / UNIT
    group = np.array([u % 3 for u in users])
    near = vectors @ vectors.T
    assert near[group[:, None] == group].mean() > 5 * np.abs(near[group[:, None] != group]).mean()
    expected = scaled @ shared["basis"].astype(float)
    expected /= np.linalg.norm(expected, axis=1)[:, None]
    assert np.allclose(vectors, expected, atol=1e-4)


def test_many_items_share_columns_and_users_stay_as_similar(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    # Two groups of users, each with 300 of 2,000 items.
    rows = {10_000 + u: [(int(i), 0) for i in sorted(rng.choice(300, 40, False) + 1000 * (u % 2))] for u in range(60)}
    log = Log(rows, 2000)
    (whole,), _ = cut(log, 1)
    monkeypatch.setattr(vectors, "MOST_COLUMNS", 512)
    for name in NAMES:
        one, many = learned(name, log, 1)[1], learned(name, log, 5)[1]
        assert all(np.array_equal(value, many[key]) for key, value in one.items())
        assert max(len(value) for value in one.values()) == 512
        assert len(subset(name, log, 3, [500])[0]) > 300
    found = user_embeddings(whole, one) / UNIT
    group = np.arange(60) % 2
    near = found @ found.T
    assert near[group[:, None] == group].mean() > 5 * abs(near[group[:, None] != group].mean())
    # An item points where its users do, whatever the sign of its column.
    items = item_embeddings(one, np.arange(300)) / UNIT
    assert (items @ found[::2].mean(axis=0)).mean() > 5 * abs((items @ found[1::2].mean(axis=0)).mean())


def test_a_basis_of_few_dimensions_has_zero_columns() -> None:
    columns = np.outer(np.arange(1.0, 6.0), np.ones(4))
    basis = orthonormal(columns)
    assert basis.shape == (5, 4)
    assert (basis**2).sum() == pytest.approx(1)
    assert not orthonormal(np.zeros((5, 4))).any()


def slow_order(weights: dict[object, float], draws: dict[object, int]) -> list[object]:
    """By −ln(u) / w, the smallest first."""

    def key(unit: object) -> float:
        u = ((draws[unit] >> 12) + 0.5) / 2**52
        return -np.log(u) / weights[unit]

    return sorted(weights, key=key)


def whole_users(log: Log, order: list[object], target: int) -> set[Row]:
    found: set[Row] = set()
    for user in order:
        more = found | {(int(user), k) for k in range(len(log.rows[int(user)]))}  # type: ignore[call-overload]
        if abs(len(more) - target) >= abs(len(found) - target):
            break
        found = more
    return found


def test_density_is_the_twins() -> None:
    _, shared = learned("density", LOG, 3)
    vectors = embeddings(LOG, shared)
    planes = gaussians(DIMENSIONS, FUNCTIONS * BITS, hashing.stream("density/planes", SEED)).astype(int)

    def bucket(user: int, r: int) -> tuple[bool, ...]:
        return tuple(sum(vectors[user] * planes[:, r * BITS + b]) > 0 for b in range(BITS))

    near = dict.fromkeys(vectors, 0)
    for r in range(FUNCTIONS):
        buckets = {user: bucket(user, r) for user in vectors}
        for user in vectors:
            near[user] += sum(buckets[other] == buckets[user] for other in vectors)
    draws = {user: draw_of("density/keys", SEED, user_hash(user)) for user in vectors}
    order = slow_order({user: 1 / near[user] for user in vectors}, draws)  # type: ignore[arg-type]
    target = LOG.n_rows // 3
    assert subset("density", LOG, 3, [target]) == [whole_users(LOG, order, target)]


def collisions(points: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """float64 [n, n]: share of the functions under which two points fall into one bucket."""
    above = (points @ planes > 0).reshape(len(points), -1, BITS)
    return (above[:, None] == above[None]).all(axis=3).mean(axis=2)


@pytest.mark.parametrize("used", [1, 2, 3, 16])
def test_two_points_meet_as_often_as_the_kernel_says(used: int) -> None:
    """Points that use the first few of 16 dimensions; mean over all pairs and 20 seeds, against (1 − angle / π)^8."""
    rng = np.random.default_rng(used)
    points = np.zeros((12, DIMENSIONS))
    points[:, :used] = rng.standard_normal((12, used))
    points = np.rint(points / np.linalg.norm(points, axis=1, keepdims=True) * UNIT)
    cosine = points @ points.T / (np.linalg.norm(points, axis=1)[:, None] * np.linalg.norm(points, axis=1))
    kernel = (1 - np.arccos(np.clip(cosine, -1, 1)) / np.pi) ** BITS

    def bias(draw: Callable[[int, int, hashing.Stream], np.ndarray]) -> np.ndarray:
        streams = [hashing.stream("density/planes", seed) for seed in range(20)]
        found = [collisions(points, draw(DIMENSIONS, FUNCTIONS * BITS, begin)) for begin in streams]
        return (np.mean(found, axis=0) - kernel)[np.triu_indices(len(points), 1)]

    # 1,280 functions: one in five hundred is half of them off by .045 by chance.
    assert np.abs(bias(gaussians)).max() < 0.045
    assert abs(bias(gaussians).mean()) < 0.01
    if used in (2, 3):
        # What planes of ±1 do: two dimensions know four directions, which up to a right angle are one.
        assert np.abs(bias(signs)).max() > 0.15


def test_planes_are_normal_whole_numbers() -> None:
    planes = gaussians(400, 500, hashing.stream("density/planes", 1))
    assert np.array_equal(planes, np.rint(planes))
    assert np.abs(planes).max() * UNIT * DIMENSIONS < 2**53
    for power, expected in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
        assert ((planes / 2**16) ** power).mean() == pytest.approx(expected, abs=0.05)


def test_users_in_sparse_regions_are_drawn_more_often() -> None:
    """Nine users in ten have the same taste; the others' share of the sample is far above theirs of the log."""
    rng = np.random.default_rng(1)
    log = Log({}, 60)
    for u in range(200):
        taste = 50 * (u % 10 == 0)
        log.rows[5_000 + u] = [(int(i) + taste, 0) for i in sorted(rng.choice(10, 5, replace=False))]
    shares = []
    for seed in range(5):
        (rows,) = subset("density", log, 1, [log.n_rows // 10], seed)
        shares.append(np.mean([(user - 5_000) % 10 == 0 for user, _ in rows]))
    assert np.mean(shares) > 0.25


@pytest.mark.parametrize("name", ["sensitivity", "sensitivity_users"])
def test_sensitivity_is_the_twins(name: str) -> None:
    _, shared = learned(name, LOG, 3)
    users = embeddings(LOG, shared)
    points: dict[object, np.ndarray] = {}
    draws: dict[object, int] = {}
    first: dict[object, int] = {}
    items = item_embeddings(shared, np.arange(LOG.n_items))
    for user, vector in users.items():
        if name == "sensitivity_users":
            points[user] = np.array(vector, float)
            draws[user] = draw_of("sensitivity_users/keys", SEED, user_hash(user))
            first[user] = draw_of("sensitivity_users/first centres", SEED, user_hash(user))
            continue
        for k, (item, _) in enumerate(LOG.rows[user]):
            points[user, k] = np.concatenate([vector, items[item]])
            draws[user, k] = draw_of("sensitivity/keys", SEED, user_hash(user), item)
            first[user, k] = draw_of("sensitivity/first centres", SEED, user_hash(user), item)
    # k-means from the points with the smallest draws, for as long as the run went on.
    centres = np.unique([points[p] for p in sorted(points, key=lambda p: first[p])[:CLUSTERS]], axis=0)
    for _ in range(int(shared["clusterings"][0])):
        cluster = {p: int(((centres - x) ** 2).sum(axis=1).argmin()) for p, x in points.items()}
        for c in set(cluster.values()):
            centres[c] = np.rint(np.mean([points[p] for p in points if cluster[p] == c], axis=0))
    assert np.abs(centres - shared["centres"]).max() <= 1
    centres = shared["centres"]
    squares = {p: ((centres - x) ** 2).sum(axis=1) for p, x in points.items()}
    cluster = {p: int(s.argmin()) for p, s in squares.items()}
    total = sum(float(s.min()) for s in squares.values())
    size = {c: sum(1 for p in cluster if cluster[p] == c) for c in set(cluster.values())}
    weights = {p: squares[p].min() / total + 1 / (len(size) * size[cluster[p]]) for p in points}
    assert sum(weights.values()) == pytest.approx(2)
    order, target = slow_order(weights, draws), LOG.n_rows // 4
    expected = set(order[:target]) if name == "sensitivity" else whole_users(LOG, order, target)
    assert subset(name, LOG, 3, [target]) == [expected]


def test_the_users_that_clusters_begin_with_are_kept_as_often_as_others() -> None:
    """Of 32 users, a sample of 30 % keeps about 10; with one stream for both, those drawn first were dropped first."""
    log = make_log(5, n_users=300, n_items=40, mean=6.0)
    users = [user for user, rows in log.rows.items() if rows]
    kept_of_first = []
    for seed in range(6):
        (rows,) = subset("sensitivity_users", log, 1, [3 * log.n_rows // 10], seed)
        first = sorted(users, key=lambda u: draw_of("sensitivity_users/first centres", seed, user_hash(u)))[:CLUSTERS]
        kept_of_first.append(len({user for user, _ in rows} & set(first)))
    assert 5 < np.mean(kept_of_first) < 20


def test_few_points_are_enough() -> None:
    log = make_log(4, n_users=4, n_items=8, mean=3.0)
    for name in NAMES:
        (everything,) = subset(name, log, 2, [log.n_rows])
        assert everything == set(log.names())
