"""SVP-CF's scoring side: from a proxy's scores of the rows to what is kept, and the files that hold the scores."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from samplers_kit import Log, Row, cut, draw_of, kept, make_log, user_hash

from distill_at_scale.data import hashing
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import FileRecord, Manifest
from distill_at_scale.data.shard_records import ShardRecord
from distill_at_scale.errors import DasError
from distill_at_scale.samplers.svp import row_scores
from distill_at_scale.samplers.svp import variants as svp
from distill_at_scale.samplers.svp.row_scores import RowScoresManifest
from distill_at_scale.samplers.train_rows import TrainRows

SEED = 6
LOG = make_log(8)


def proxy_score(user: int, position: int) -> np.float32:
    """Coarse, so that many rows tie."""
    return np.float32(int(hashing.combine(hashing.stream("test/scores"), user_hash(user), position)[0] % 7) / 7)


def slow_propensity(n: int, n_rows: int) -> float:
    """1 + C (n + B)^-A, A = .55, B = 1.5, C = (ln N − 1)(B + 1)^A."""
    return 1 + (math.log(n_rows) - 1) * 2.5**0.55 * (n + 1.5) ** -0.55


def slow_scores(log: Log, prop: bool) -> dict[Row, float]:
    counts: dict[int, int] = {}
    for rows in log.rows.values():
        for item, _ in rows:
            counts[item] = counts.get(item, 0) + 1
    found = {}
    for user, k in log.names():
        weight = max(
            slow_propensity(len(log.rows[user]), log.n_rows), slow_propensity(counts[log.rows[user][k][0]], log.n_rows)
        )
        found[user, k] = float(proxy_score(user, k)) * (weight if prop else 1.0)
    return found


def slow_subset(log: Log, prop: bool, whole_users: bool, target: int) -> set[Row]:
    scores = slow_scores(log, prop)
    if not whole_users:
        order = sorted(
            scores,
            key=lambda r: (-scores[r], draw_of("svp/equal rows", SEED, user_hash(r[0]), log.rows[r[0]][r[1]][0])),
        )
        return set(order[:target])
    mean = {u: sum(scores[u, k] for k in range(len(rows))) / len(rows) for u, rows in log.rows.items() if rows}
    found: set[Row] = set()
    for user in sorted(mean, key=lambda u: (-mean[u], draw_of("svp/equal users", SEED, user_hash(u)))):
        more = found | {(user, k) for k in range(len(log.rows[user]))}
        if abs(len(more) - target) >= abs(len(found) - target):
            break
        found = more
    return found


@pytest.mark.parametrize("prop", [False, True])
@pytest.mark.parametrize("whole_users", [False, True])
@pytest.mark.parametrize("n_shards", [1, 4])
def test_subset_is_the_twins(prop: bool, whole_users: bool, n_shards: int) -> None:
    shards, ids = cut(LOG, n_shards)
    item_counts = sum(np.bincount(rows.items, minlength=LOG.n_items) for rows in shards)
    found = []
    for rows, users in zip(shards, ids):
        scores = np.array([proxy_score(u, k) for u in users for k in range(len(LOG.rows[u]))], dtype=np.float32)
        weights = svp.row_weights(rows, item_counts, LOG.n_rows) if prop else None
        found.append((svp.users if whole_users else svp.interactions)(rows, SEED, scores, weights))
    for target in (LOG.n_rows // 2, LOG.n_rows // 10):
        assert kept(found, shards, ids, target) == slow_subset(LOG, prop, whole_users, target)


def test_scores_of_an_epoch() -> None:
    assert svp.squared_error(np.array([3.5, 1.0]), np.array([4.0, 5.0])).tolist() == [0.25, 16.0]
    negatives = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 0.0]])
    assert svp.share_above(np.array([2.5, 5.0]), negatives).tolist() == [0.5, 0.375]


def small_dataset(uri: str, rows: TrainRows) -> Dataset:
    """A manifest is all that row scores look at."""
    file = FileRecord(path="x.parquet", bytes=0, sha256="00" * 32)
    shard = ShardRecord(data=file, users=file, first_user=0, n_users=1, rows=len(rows), splits={"train": len(rows)})
    manifest = Manifest(
        n_users=1, n_items=1, n_rows=len(rows), splits={"train": len(rows)}, split_rule={"name": "leave_2"},
        has_ratings=True, has_timestamps=True, id_types={"user_id": "int64", "item_id": "int64"}, items=file,
        item_space="", shards=[shard], dropped={}, source={}, config={}, made_with={},
    )  # fmt: skip
    return Dataset(uri, manifest)


def test_scores_lie_on_storage_and_know_their_dataset(tmp_path: Path) -> None:
    rows = cut(LOG, 1)[0][0]
    dataset, uri = small_dataset(str(tmp_path), rows), row_scores.home(str(tmp_path), "mf", "implicit", SEED)
    with pytest.raises(DasError, match=r"svp-mf-implicit-6 holds no row scores"):
        row_scores.open_scores(uri, dataset)
    scores = np.random.default_rng(0).random(len(rows), dtype=np.float32)
    manifest = RowScoresManifest(
        data=dataset.manifest.fingerprint, proxy="mf", objective="implicit", epochs=50, seed=SEED,
        files=[row_scores.write_part(uri, 0, scores)],
    )  # fmt: skip
    row_scores.write_manifest(uri, manifest)
    assert row_scores.open_scores(uri, dataset) == manifest
    assert row_scores.read_part(uri, manifest, 0, len(rows)).tolist() == scores.tolist()
    with pytest.raises(
        DasError,
        match=r"part-00000\.parquet has 622 rows, but its manifest says 3; remove .* and run the same command again",
    ):
        row_scores.read_part(uri, manifest, 0, 3)
    row_scores.write_manifest(uri, manifest.model_copy(update={"data": "other"}))
    with pytest.raises(DasError, match="row scores of a dataset other than"):
        row_scores.open_scores(uri, dataset)
    (Path(uri) / "row_scores.json").write_text('{"format": "x"}')
    with pytest.raises(DasError, match="damaged or of another version"):
        row_scores.open_scores(uri, dataset)
    (Path(uri) / "part-00000.parquet").write_bytes(b"no parquet")
    with pytest.raises(DasError, match="differs from its checksum; remove"):
        row_scores.read_part(uri, manifest, 0, len(rows))


def test_scores_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DasError, match=r"the score of train row 1 of shard 4 is nan"):
        row_scores.write_part(str(tmp_path), 4, np.array([0.0, np.nan], np.float32))
