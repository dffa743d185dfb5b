"""One of every kind of file that the project writes and reads back, small, made without a cluster.

A kind is made once in a folder and read as often as bits are flipped: what is read comes back as a digest, so that two
readings can be compared.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from dataset_kit import write_dataset
from synthetic_kit import write_synthetic

import distill_at_scale.genie.model
from distill_at_scale.data import manifest as manifests
from distill_at_scale.data import recorded, sealed
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.preparation import buckets, fragments, kcore, shards
from distill_at_scale.data.preparation.exchange import Exchange
from distill_at_scale.data.preparation.item_ids import ItemIds
from distill_at_scale.data.readers import LogOptions, plan_log
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.genie.model import DataGenie
from distill_at_scale.genie.trials import FULL, NAME, TRIALS, as_trials, read_trials
from distill_at_scale.models import create_model, load_model
from distill_at_scale.pipelines.runtime import run_record
from distill_at_scale.pipelines.runtime.checkpoints import Checkpoints
from distill_at_scale.pipelines.sampling.shard_scores import _score_shard
from distill_at_scale.pipelines.sweeps.evaluations import EvaluationTask, Trained
from distill_at_scale.pipelines.sweeps.small_datasets import SmallDataset, SmallDatasetJob
from distill_at_scale.samplers import find_sampler
from distill_at_scale.samplers.scores import read_scores
from distill_at_scale.samplers.svp import row_scores
from distill_at_scale.samplers.svp.row_scores import RowScoresManifest

USERS, ITEMS = 30, 25


@dataclass(frozen=True)
class Kind:
    """A kind of artefact.

    Attributes:
        make: writes one into a folder.
        read: gives all that it holds, and may make again what is damaged.
        files: patterns of the files that are flipped, in the folder.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    files: tuple[str, ...] = ("**/*",)

    def digest(self, folder: Path) -> str:
        """Of what is read."""
        return hashlib.sha256(repr(_plain(self.read(folder))).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Values with a repr that says all of them."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    if isinstance(value, pl.DataFrame):
        return value.schema, value.to_dicts()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def _data(folder: Path) -> Dataset:
    return Dataset.open(str(folder / "data"))


def _make_data(folder: Path) -> None:
    def split(k: int) -> int:
        return 0 if k < 6 else k - 5

    rows = [
        [(u, (u * (k + 1) + k) % ITEMS, 1.0 + k % 5, 1000 * k, split(k)) for u in half for k in range(8)]
        for half in (range(15), range(15, 30))
    ]
    write_dataset(folder / "data", rows, [15, 15], ITEMS, item_space="0" * 32)


def _make_shard_file(folder: Path) -> None:
    """A dataset whose shards have a file of their own, as those of many shards do."""
    most, manifests.MOST_INLINE = manifests.MOST_INLINE, 1
    try:
        _make_data(folder)
    finally:
        manifests.MOST_INLINE = most


def _read_data(folder: Path) -> Any:
    data = _data(folder)
    tables = [pl.DataFrame(pl.from_arrow(data.table(k))) for k in range(2)]
    return data.summary() | {"uri": None}, data.items(), data.users(0), data.users(1), tables, data.train_counts()


def _read_scores(folder: Path) -> Any:
    """As a run does that goes on: what is damaged is made again, and stays so."""
    found: list[Any] = []
    for name in ("random", "head_users"):
        sampler, work = find_sampler(name), str(folder / name)
        for shard in range(2):
            record = _score_shard(_data(folder), work, shard, sampler, 3, None)
            scores = read_scores(f"{work}/scores/part-{shard:05d}.arrow")
            found.append([record.users, scores.keys, scores.ties, scores.rows])
    return found


def _make_scores(folder: Path) -> None:
    _make_data(folder)
    _read_scores(folder)


def _make_row_scores(folder: Path) -> None:
    _make_data(folder)
    rng = np.random.default_rng(0)
    uri = str(folder / "scores")
    files = [row_scores.write_part(uri, k, rng.random(90, dtype=np.float32)) for k in range(2)]
    manifest = RowScoresManifest(
        data=_data(folder).manifest.fingerprint, proxy="mf", objective="implicit", epochs=5, seed=0, files=files
    )
    row_scores.write_manifest(uri, manifest)


def _read_row_scores(folder: Path) -> Any:
    uri = str(folder / "scores")
    manifest = row_scores.open_scores(uri, _data(folder))
    return manifest.model_dump(), [row_scores.read_part(uri, manifest, k, 90) for k in range(2)]


def _make_checkpoints(folder: Path) -> None:
    checkpoints = Checkpoints(str(folder / "kept"), 3)
    for steps in (1, 2, 3):
        checkpoints.write(steps, _checkpoint(steps))
    checkpoints.wait()


def _checkpoint(steps: int) -> bytes:
    return np.random.default_rng(steps).bytes(40_000 * steps)


def _read_checkpoints(folder: Path) -> Any:
    """Whichever is the newest undamaged one, it is as it was written."""
    checkpoints = Checkpoints(str(folder / "kept"), 3)
    newest = checkpoints.newest()
    return newest > 0 and checkpoints.read(newest) == _checkpoint(newest)


_DESCRIBED: dict[str, Any] = {
    "family": "free",
    "config": {"users": 3},
    "curve": [{"step": 0.0, "metric": 0.1, "lam": 1.0}],
    "settings": {"infinite_ae": {"lam": 2.0}},
    "cost": {"cpu_s": 1.5},
    "made_with": {},
    "n_rows": 180,
}


def _make_rows(folder: Path) -> None:
    _make_data(folder)
    values = np.random.default_rng(1).normal(size=(4, ITEMS)).astype(np.float32)
    write_synthetic(str(folder / "made"), values, _data(folder), {**_DESCRIBED, "method": "distill_cf"})


def _make_sequences(folder: Path) -> None:
    import torch

    from distill_at_scale.distillation.farzi.latent import LatentSequences

    _make_data(folder)
    draw = torch.Generator().manual_seed(0)
    latent = LatentSequences(torch.randn(5, 4, 3, generator=draw), torch.randn(3, ITEMS, generator=draw), None, 1.0)
    record = {"length": 4, "width": 3, "coupled": True, "student": "sasrec", "settings": {}, "shuffled": False}
    record |= {"metric": "ndcg@10", "start": 0.1, "exact": 0.2, "stored": 0.2}
    described = {**_DESCRIBED, "method": "farzi", "family": "coupled", "sequences": record}
    write_synthetic(str(folder / "made"), latent, _data(folder), described)


def _read_synthetic(folder: Path) -> Any:
    found = SyntheticDataset.open(str(folder / "made"))
    if found.manifest.kind == "rows":
        values: Any = found.rows()
    else:
        values = [tensor.numpy() for tensor in found.sequences().tensors]
    return found.manifest.model_dump(), values, found.items()


def _make_model(folder: Path) -> None:
    _make_data(folder)
    train = _data(folder).interactions()
    for name in ("popularity", "ease"):
        create_model(name, {"lam": 10.0} if name == "ease" else {}).fit(train).save(str(folder / "models" / name))


def _read_model(folder: Path) -> Any:
    train = _data(folder).interactions(shards=[0])
    return [load_model(str(folder / "models" / name)).score(train) for name in ("popularity", "ease")]


def _make_sweep(folder: Path) -> None:
    rows = [
        {"dataset": "d", "fingerprint": "f", "method": method, "budget": 0.5, "seed": 0, "model": model}
        | {"status": "done", "ndcg@10": 0.1 * k}
        for k, (method, model) in enumerate((m, n) for m in (FULL, "random") for n in ("ease", "mf"))
    ]
    place = folder / TRIALS
    as_trials(rows).write_parquet(place)
    about = {"data": {"uri": "d", "fingerprint": "f", "train_rows": 180}, "config": {}, "versions": {}, "version": 2}
    record = recorded.record_of(TRIALS, place.read_bytes())
    recorded.write_json(str(folder / NAME), {**about, "trials": [record.model_dump()], "result": {"left": 0}})


def _read_sweep(folder: Path) -> Any:
    return read_trials(str(folder))


def _make_genie(folder: Path) -> None:
    shutil.copytree(Path(distill_at_scale.genie.model.__file__).parent / "trained", folder, dirs_exist_ok=True)


def _read_genie(folder: Path) -> Any:
    genie = DataGenie.load(str(folder))
    arrays = {name: target.model.arrays() for name, target in genie.targets.items()}
    return arrays, genie.cells.height, json.dumps(genie.features, sort_keys=True), genie.encoder.names


def _pairs(folder: Path) -> tuple[EvaluationTask, SmallDatasetJob]:
    pair = EvaluationTask("ease", "data", "f", "data", "g", str(folder / "trained" / "one.json"), "test", 0)
    return pair, SmallDatasetJob(("random",), (0.5,), 0, "data", str(folder))


def _make_records(folder: Path) -> None:
    pair, batch = _pairs(folder)
    trained = Trained(metrics={"ndcg@10": 0.25}, standard_errors={"ndcg@10": None}, fit_wall_s=1.0, fit_cpu_s=0.5)
    pair.write(trained)
    made = SmallDataset(method="random", budget=0.5, seed=0, uri="there", rows=90)
    recorded.write_json(batch.record, {"made": [made.model_dump(mode="json")]})
    stage = run_record.StageRecord("train", tasks=1, reused=0, wall_s=2.0, cpu_s=1.0, peak_mib=3.0)
    run_record.RunRecord("sample", {"seed": 1}, [stage], 0.0).write(str(folder))
    sealed.write(str(folder / "teacher.safetensors"), _checkpoint(1))


def _read_records(folder: Path) -> Any:
    """Records of work are done again where they are damaged, here by writing them again."""
    pair, batch = _pairs(folder)
    trained, made = pair.read(), batch.read()
    if trained is None or made is None:
        _make_records(folder)
        return _read_records(folder)
    if not sealed.is_sound(str(folder / "teacher.safetensors"), "teacher"):
        sealed.write(str(folder / "teacher.safetensors"), _checkpoint(1))
    teacher = bytes(sealed.read(str(folder / "teacher.safetensors"), "x"))
    stages = run_record.read_stages(str(folder))
    return trained.model_dump(), [one.model_dump() for one in made], stages, hashlib.sha256(teacher).hexdigest()


def _make_work(folder: Path) -> None:
    rng = np.random.default_rng(2)
    for k in range(2):
        log = {"user_id": rng.integers(0, USERS, 150), "item_id": rng.integers(0, ITEMS, 150)}
        log |= {"rating": np.ones(150), "timestamp": rng.integers(1_600_000_000, 1_700_000_000, 150)}
        (folder / "log").mkdir(exist_ok=True)
        pl.DataFrame(log).write_parquet(folder / "log" / f"{k}.parquet")
    _read_work(folder)


def _read_work(folder: Path) -> Any:
    """All parts of a prepare, as a run does that goes on; two fragments, buckets and shards."""
    output, work = str(folder / "out"), str(folder / "out" / "_work")
    schema, pieces, _ = plan_log(LogOptions(input=[str(folder / "log" / f"{k}.parquet") for k in range(2)]))
    exchange = Exchange(2, 4)
    read = [
        fragments.partition(output, work, fragments.Source(k, [one], k), schema, exchange)
        for k, one in enumerate(pieces)
    ]
    sources = [fragments.items_of(f"{work}/fragments", k) for k in range(2)]
    n_items = fragments.merge_item_ids(sources, f"{work}/items.arrow")
    ids = ItemIds.of(pl.Series("item_id", sorted(range(ITEMS)), dtype=pl.Int64))
    assert n_items == ITEMS
    dealt = fragments.dealt_rows(work, exchange, 2)
    built = [buckets.build_bucket(work, k, dealt, ids, "last", None, 0) for k in range(2)]
    counted = kcore.count_round(work, 0, 0, [0, 1], ITEMS, None, 1, 3)
    decided = kcore.decide(work, 0, f"{work}/core/round-000/read-once/part-00000.arrow", ITEMS, 1)
    numbering = shards.Numbering.of(kcore.load_alive(work, 0), False, None)
    choice = shards.SplitChoice("leave_2")
    first, written = 0, []
    for k in range(2):
        part = shards.ShardPart(k, k, first)
        written.append(shards.build_shard(output, work, part, numbering, ids.ids, choice, 1))
        first += written[-1].shard.n_users
    counts = f"{work}/shards/part-00000.counts.arrow"
    items = shards.write_items(output, ids, numbering, counts)
    records = [*read, *built, counted, decided, *written]
    return [record.to_json() for record in records], items


KINDS: dict[str, Kind] = {
    "dataset": Kind(_make_data, _read_data),
    "shard file": Kind(_make_shard_file, _read_data, ("data/*",)),
    "scores": Kind(_make_scores, _read_scores, ("random/**/*", "head_users/**/*")),
    "row scores": Kind(_make_row_scores, _read_row_scores, ("scores/*",)),
    "checkpoints": Kind(_make_checkpoints, _read_checkpoints),
    "synthetic users": Kind(_make_rows, _read_synthetic, ("made/*",)),
    "synthetic sequences": Kind(_make_sequences, _read_synthetic, ("made/*",)),
    "models": Kind(_make_model, _read_model, ("models/**/*",)),
    "sweep": Kind(_make_sweep, _read_sweep),
    "genie": Kind(_make_genie, _read_genie),
    "records": Kind(_make_records, _read_records),
    "work of prepare": Kind(_make_work, _read_work, ("out/_work/**/*",)),
}
