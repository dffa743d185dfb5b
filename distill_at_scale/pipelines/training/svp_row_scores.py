"""SVP row scores: trains a proxy model on Ray Train and measures after every epoch how hard each train row is.

    train an epoch ─► every worker scores its shards' rows and adds them to the running sums ─► checkpoint

The sums of an epoch are in `<uri>/_work` beside the checkpoint of that epoch, so a killed run resumes with both. At the
end the sums become the row scores that samplers read.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from distill_at_scale.data import hashing, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.manifest import WORK
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.errors import DamagedFileError, DasError
from distill_at_scale.models.training.sources import ShardSource
from distill_at_scale.models.training.trainer import Trainer
from distill_at_scale.models.warming import warm_up
from distill_at_scale.pipelines.runtime import progress, run_record
from distill_at_scale.pipelines.runtime.tasks import run_stage
from distill_at_scale.pipelines.training.torch_fit import run_trainer
from distill_at_scale.pipelines.training.worker_group import TorchCommunicator, WorkerGroupSpec, run_group
from distill_at_scale.samplers.svp import Objective, Proxy, row_scores
from distill_at_scale.samplers.svp import variants as svp
from distill_at_scale.samplers.svp.proxies import hardness, proxy_model
from distill_at_scale.samplers.svp.row_scores import RowScoresManifest
from distill_at_scale.samplers.train_rows import TrainRows

_STEPS = 100
# Share of an epoch in which the proxy is trained, for the display; then it scores all rows.
_TRAINING = 0.6


def score_rows(
    record: run_record.RunRecord,
    dataset: Dataset,
    uri: str,
    *,
    proxy: Proxy,
    objective: Objective,
    seed: int,
    epochs: int,
    workers: int = 1,
    gpu: bool = False,
    overwrite: bool = False,
) -> RowScoresManifest:
    """Returns the row scores of a dataset at ``uri``, computing them if they do not exist. Needs a Ray session.

    Args:
        record: Record of the run, which collects time and memory.
        dataset: Dataset whose train rows are scored.
        uri: Folder of the row scores, see :func:`row_scores.home`.
        proxy, objective, seed: Settings of the scores; existing scores with other settings are refused.
        epochs: Number of epochs; scores are the mean over them.
        workers, gpu: Number of workers that train the proxy, and whether each has a GPU.
        overwrite: Whether scores of other settings or another dataset are replaced.

    Raises:
        DasError: The objective is explicit and the dataset has no ratings, or ``uri`` holds scores with other settings;
            and as for :func:`~distill_at_scale.pipelines.training.torch_fit.train`.
    """
    place = storage.redact(uri)
    if objective == "explicit" and not dataset.manifest.has_ratings:
        raise DasError(f"{storage.redact(dataset.uri)} has no ratings, so its objective is not explicit.")
    asked = (proxy, objective, epochs, seed)
    if storage.exists(storage.join(uri, row_scores.NAME)):
        try:
            existing = row_scores.open_scores(uri, dataset)
            if (existing.proxy, existing.objective, existing.epochs, existing.seed) == asked:
                return existing
            raise DasError(
                f"{place} holds row scores of other settings ({existing.epochs} epochs); choose another --output, or "
                "replace them with --overwrite."
            )
        except DasError:
            if not overwrite:
                raise
            storage.remove(uri)
    folder = "-".join(map(str, (*asked, workers, dataset.manifest.fingerprint)))
    group = WorkerGroupSpec(workers=workers, gpu=gpu, work=storage.join(uri, WORK, folder))
    data = dataset.uri

    with progress.stage(f"train {proxy} proxy", _STEPS) as stage, progress.relay(stage, _STEPS) as on_progress:

        def work(group: WorkerGroupSpec, communicator: TorchCommunicator) -> None:
            dataset = Dataset.open(data)
            n_rows = dataset.manifest.splits["train"]
            model = proxy_model(proxy, objective, n_rows, dataset.n_items, seed, epochs)
            source = ShardSource(dataset, communicator.rank, communicator.world_size, validation=False)

            def trained(share: float, what: str) -> None:
                epoch = max(math.ceil(share * epochs) - 1, 0)
                on_progress((epoch + _TRAINING * (share * epochs - epoch)) / epochs, what)

            def add_scores(trainer: Trainer) -> None:
                trainer.module.eval()
                for piece, read in enumerate(source.pieces):
                    (shard,), cut = read.shards, read.cut
                    begin = hashing.stream("svp/negatives", seed, trainer.epoch, shard, cut)
                    rng = np.random.default_rng(begin)
                    total = hardness(model, trainer.module, source.train(piece), rng)
                    if trainer.epoch > 1:
                        total += _read(group.work, trainer.epoch - 1, shard, cut)
                    table = pa.table({"sum": total})
                    restartable.write_arrow(_sums(group.work, trainer.epoch, shard, cut), table)
                    if communicator.rank == 0:
                        within = _TRAINING + (1 - _TRAINING) * (piece + 1) / source.n_pieces
                        on_progress(min((trainer.epoch - 1 + within) / epochs, 0.999), f"scores {trainer.epoch}")
                # A barrier: the checkpoint of an epoch implies that all its sums are written.
                communicator.all_reduce(torch.zeros(1, device=communicator.device))
                if communicator.rank == 0 and trainer.epoch > group.keep_checkpoints + 1:
                    storage.remove(_epoch(group.work, trainer.epoch - group.keep_checkpoints - 1))

            run_trainer(group, communicator, model, dataset, source, trained, add_scores)

        run_group(record, f"train {proxy} proxy", group, work, functools.partial(warm_up, proxy))
    cuts = -(-workers // len(dataset.shards))

    def write(shard: int) -> FileRecord:
        total = np.concatenate([_read(group.work, epochs, shard, cut) for cut in range(cuts)])
        return row_scores.write_part(uri, shard, (total / epochs).astype(np.float32))

    written = run_stage(record, "write row scores", write, list(range(len(dataset.shards))), shown=False)
    manifest = RowScoresManifest(
        data=dataset.manifest.fingerprint,
        proxy=proxy,
        objective=objective,
        epochs=epochs,
        seed=seed,
        files=written,
    )
    row_scores.write_manifest(uri, manifest)
    storage.remove(storage.join(uri, WORK))
    return manifest


@dataclass(frozen=True)
class Hardness:
    """Row scores for samplers, with the counts for their weights.

    Attributes:
        uri, manifest: Address and manifest of the row scores.
        item_counts: int64 [items], train rows of each item over all shards; None without weights.
        n_rows: Number of train rows over all shards.
    """

    uri: str
    manifest: RowScoresManifest
    item_counts: np.ndarray | None
    n_rows: int

    def of_shard(self, shard: int, rows: TrainRows) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the scores of a shard's train rows, and their inverse propensities or None."""
        counts = self.item_counts
        weights = None if counts is None else svp.row_weights(rows, counts, self.n_rows)
        return row_scores.read_part(self.uri, self.manifest, shard, len(rows)), weights


def load_hardness(uri: str, data: str, prop: bool) -> Hardness:
    """Loads the row scores at ``uri`` of the dataset at ``data``; with ``prop``, also the counts for weights."""
    dataset = Dataset.open(data)
    counts = dataset.train_counts() if prop else None
    return Hardness(uri, row_scores.open_scores(uri, dataset), counts, dataset.manifest.splits["train"])


def _epoch(work: str, epoch: int) -> str:
    return storage.join(work, f"sums-{epoch:05d}")


def _sums(work: str, epoch: int, shard: int, cut: int) -> str:
    return storage.join(_epoch(work, epoch), f"part-{shard:05d}-{cut:05d}.arrow")


def _read(work: str, epoch: int, shard: int, cut: int) -> np.ndarray:
    try:
        return restartable.read_arrow(_sums(work, epoch, shard, cut))["sum"].to_numpy()
    except DamagedFileError:
        # Lost sums cannot be recomputed without the proxy of that epoch, so the training starts again.
        storage.remove(work)
        raise
