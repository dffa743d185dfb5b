"""fit of gradient-trained models on Ray Train: one and several workers, kills, checkpoints, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kill_kit import Death, Runs
from prepare_kit import inline_prepare, random_rows, write_logs

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.models import create_model, load_model
from distill_at_scale.models.training.sources import ShardPiece, ShardSource
from distill_at_scale.models.training.torch_model import TorchRecommender
from distill_at_scale.models.training.trainer import Trainer
from distill_at_scale.pipelines.fit import fit
from distill_at_scale.pipelines.runtime.checkpoints import Checkpoints
from distill_at_scale.pipelines.runtime.run_record import RunRecord
from distill_at_scale.pipelines.training.worker_group import TorchCommunicator, WorkerGroupSpec, run_group

SETTINGS: dict[str, Any] = {"hidden": 16, "latent": 4, "epochs": 6, "batch_size": 24, "anneal_epochs": 3}
# Deaths in the order in which a run comes to them; a run ends with a driver's.
LIVES = [
    [
        ("worker", "before", r"checkpoint-0+8\.safetensors$"),
        ("worker", "after", r"checkpoint-0+16\.safetensors$"),
        ("worker", "after", r"checkpoint-0+20\.safetensors$"),
        ("driver", "before", r"checkpoint-0+28\.safetensors$"),
    ],
    [("worker", "after", r"checkpoint-0+32\.safetensors$")],
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """About 150 users in three shards, with validation rows."""
    folder = tmp_path_factory.mktemp("train")
    logs = write_logs(folder, random_rows(5, 3000, 150, 60), 2)
    return inline_prepare(input=logs, output=str(folder / "data"), shards=3, min_user=4)


def fit_runs(folder: Path, data: Dataset, workers: int, ray_folder: Path) -> Runs:
    """Runs of one `das fit` into ``folder / "model"``."""
    settings = [f"{key}={value}" for key, value in SETTINGS.items()]
    options = ["--workers", str(workers), "--checkpoint-every", "4", "--set", *settings]
    return Runs(folder, ray_folder, "fit", "--data", data.uri, "--model", "mvae", "--output", "model", *options)


def in_process(data: Dataset) -> TorchRecommender:
    """The same training without Ray, by one worker over the same shards."""
    model = create_model("mvae", {**SETTINGS, "device": "cpu"})
    assert isinstance(model, TorchRecommender)
    trainer = Trainer(model, ShardSource(data), torch.device("cpu"))
    trainer.run()
    model.adopt(trainer, data.n_users, data.n_items, data.manifest.item_space)
    return model


@pytest.mark.parametrize(
    ("workers", "lives"),
    [
        pytest.param(1, [LIVES[0][-1:], []], marks=pytest.mark.slow),
        pytest.param(1, LIVES, marks=pytest.mark.slow),
        pytest.param(2, LIVES, marks=pytest.mark.slow),
    ],
    ids=["one-once", "one-five-times", "two-five-times"],
)
def test_killed(tmp_path: Path, data: Dataset, run_folder: Path, workers: int, lives: list[list[Death]]) -> None:
    """A driver, or four workers and a driver, die; one worker alone ends with the bits of an undisturbed run."""
    killed = fit_runs(tmp_path / "killed", data, workers, run_folder)
    for deaths in lives:
        killed.run(deaths)
    assert sorted(path.name for path in (killed.folder / "model").iterdir()) == [
        "model.json",
        "run.json",
        "weights.safetensors",
    ]
    # A run of its own, and not in this process: the number of threads changes last bits.
    undisturbed = fit_runs(tmp_path / "undisturbed", data, workers, run_folder)
    undisturbed.run([])
    found, expected = (load_model(str(each.folder / "model")) for each in (killed, undisturbed))
    assert found.item_space == data.manifest.item_space
    if workers == 1:
        for key, weights in expected._weights().items():
            np.testing.assert_array_equal(found._weights()[key], weights, err_msg=key)
        train, _ = data.histories("validation", 0)
        np.testing.assert_allclose(found.score(train), in_process(data).score(train), atol=1e-3)
    curves = [[p.metric for p in model.selection.points] for model in (found, expected) if model.selection]
    assert len(curves[0]) == SETTINGS["epochs"]
    assert curves[0] == pytest.approx(curves[1], abs=5e-4)


@pytest.mark.slow
def test_two_workers_train_as_one_does(tmp_path: Path, data: Dataset, ray_session: None) -> None:
    """Other batches and other noise, but the same rows and the same number of steps."""
    asked = {"data": data.uri, "model": "mvae", "output": str(tmp_path / "two"), "set": SETTINGS, "workers": 2}
    result = fit(**asked)
    alone = in_process(data)
    assert alone.selection is not None
    assert result.selection is not None
    ends = [result.selection.points[-1].metric, alone.selection.points[-1].metric]
    assert ends[0] == pytest.approx(ends[1], abs=0.05)
    assert result.cpu_s > 0
    assert json.loads((tmp_path / "two" / "run.json").read_text())["stages"][0]["tasks"] == 2
    assert not (tmp_path / "two" / "_work").exists()
    with pytest.raises(DasError, match="holds a model already"):
        fit(**asked)


def test_gradients_of_all_workers_are_those_of_one(data: Dataset) -> None:
    """Two workers' sums over their halves of a batch, added up, move the parameters as the whole batch does."""
    from distill_at_scale.models.training.communicator import Communicator

    class Half(Communicator):
        world_size = 2

        def __init__(self, rank: int, meanwhile: dict[int, list[torch.Tensor]]) -> None:
            self.rank, self._sums, self._call = rank, meanwhile, 0

        def all_reduce(self, tensor: torch.Tensor) -> None:
            self._sums.setdefault(self._call, []).append(tensor.clone())
            parts = self._sums[self._call]
            if len(parts) == 2:
                tensor.copy_(parts[0] + parts[1])
            self._call += 1

    # One step of all rows: one batch of one worker, one of each of two. The second worker runs after the first and
    # sees both contributions.
    settings = {"epochs": 1, "batch_size": 10_000, "objective": "explicit", "metric": "mse", "device": "cpu"}
    moved = {}
    shard = data.shards[0].rows
    assert shard < 5_000
    for world_size in (1, 2):
        sums: dict[int, list[torch.Tensor]] = {}
        for rank in range(world_size):
            model = create_model("bias", settings)
            assert isinstance(model, TorchRecommender)
            communicator = Communicator() if world_size == 1 else Half(rank, sums)
            trainer = Trainer(model, _OneShard(data, rank, world_size), torch.device("cpu"), communicator)
            trainer.module.mean.fill_(3.0)
            trainer._learn(next(iter(trainer._batches())))
        moved[world_size] = trainer.module.item.grad.clone()
    torch.testing.assert_close(moved[1], moved[2])


class _OneShard(ShardSource):
    """The first shard, cut in as many runs of users as there are workers."""

    def __init__(self, dataset: Dataset, rank: int, world_size: int) -> None:
        super().__init__(dataset, rank, world_size)
        self.pieces, self.n_pieces = [ShardPiece((0,), rank, world_size)], 1


def test_every_user_is_one_workers(data: Dataset) -> None:
    for world_size in (1, 2, 3, 5, 7):
        sources = [ShardSource(data, rank, world_size) for rank in range(world_size)]
        users = [source.train(k).users for source in sources for k in range(source.n_pieces)]
        assert sorted(np.concatenate(users).tolist()) == list(range(data.n_users))
        rows = sum(source.train(k).n_rows for source in sources for k in range(source.n_pieces))
        assert rows == data.manifest.splits["train"]


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(tmp_path / "work"), keep=2)
    assert checkpoints.newest() == 0
    for steps in (5, 20, 100):
        checkpoints.write(steps, bytes([steps]))
    checkpoints.wait()
    (tmp_path / "work" / ".checkpoint-000000000200.safetensors.0.draft").write_bytes(b"half")
    assert sorted(path.name for path in (tmp_path / "work").glob("checkpoint-*")) == [
        "checkpoint-000000000020.safetensors",
        "checkpoint-000000000100.safetensors",
    ]
    assert checkpoints.newest() == 100
    assert checkpoints.read(100) == bytes([100])


@pytest.mark.parametrize("most_copied", [100, 1])
def test_pieces_of_a_checkpoint_are_copied_or_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_copied: int
) -> None:
    monkeypatch.setattr("distill_at_scale.pipelines.runtime.checkpoints.MOST_COPIED", most_copied)
    memory, checkpoints = bytearray(b"weights"), Checkpoints(str(tmp_path / "work"), keep=2)
    checkpoints.write_parts(1, [memoryview(b"header"), memoryview(memory)])
    # Training goes on.
    memory[:] = b"changed"
    checkpoints.wait()
    assert checkpoints.read(1) == b"headerweights"


def test_a_failed_upload_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("a file where the folder should be")
    checkpoints = Checkpoints(str(tmp_path / "work"), keep=2)
    checkpoints.write(1, b"")
    with pytest.raises(DasError, match="work"):
        checkpoints.wait()


@pytest.mark.slow
def test_what_fails_twice_alike_is_not_tried_again(tmp_path: Path, ray_session: None) -> None:
    def work(group: WorkerGroupSpec, workers: TorchCommunicator) -> None:
        with open(f"{group.work}/attempts", "a") as file:
            file.write("x")
        raise ZeroDivisionError("a mistake in the program")

    (tmp_path / "work").mkdir()
    group = WorkerGroupSpec(workers=1, gpu=False, work=str(tmp_path / "work"))
    with pytest.raises(RuntimeError, match=r"try it: Traceback[\s\S]*ZeroDivisionError: a mistake in the program"):
        run_group(RunRecord("fit", {}), "try it", group, work)
    assert (tmp_path / "work" / "attempts").read_text() == "xx"


def test_refusals(tmp_path: Path, data: Dataset, ray_session: None) -> None:
    asked = {"data": data.uri, "output": str(tmp_path / "model")}
    with pytest.raises(DasError, match="ease is solved in closed form by one worker; leave out --workers"):
        fit(**asked, model="ease", workers=2)
    with pytest.raises(DasError, match="--workers 99 needs a CPU for each, but the cluster has 2; set fewer"):
        fit(**asked, model="mf", workers=99)
    with pytest.raises(DasError, match="no_such"):
        fit(**asked, model="mf", set={"no_such": 1})


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_said_once(tmp_path: Path, data: Dataset, ray_session: None) -> None:
    asked = {"data": data.uri, "output": str(tmp_path / "model")}
    # What a worker refuses is said once, not tried again and again, and leaves a place that can be used.
    with pytest.raises(DasError, match="mf: the loss became NaN or infinite in epoch 1; set a smaller learning_rate"):
        fit(**asked, model="mf", set={"learning_rate": 1e30, "objective": "explicit", "metric": "mse", "epochs": 2})
    assert not (tmp_path / "model" / "model.json").exists()
    assert not list((tmp_path / "model").rglob("failed.json"))
