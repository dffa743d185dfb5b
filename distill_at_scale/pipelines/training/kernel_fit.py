"""∞-AE beyond one machine's memory, by landmarks or conjugate gradients, on a worker group of Ray Train.

    nystrom   every worker: its own shards, streamed ─► two sums (all-reduced) ─► rank 0 saves the model
    pcg       every worker: its own users' rows of α, R, P; P is broadcast, the kernel computed in blocks ─► parts of α
              in the work folder ─► rank 0 streams them into one saved model

Checkpoints and parts are in `<output>/_work/<run>` until the model is saved. After a failure of workers or driver, pcg
resumes from them exactly; nystrom starts again, since it is one pass over the rows.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
import ray
import torch.distributed

from distill_at_scale.config import FitConfig
from distill_at_scale.config.values import worker_range
from distill_at_scale.data import recorded, sealed, storage
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.data.manifest import WORK
from distill_at_scale.data.preparation import restartable
from distill_at_scale.data.recorded import FileRecord
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.errors import SettingError
from distill_at_scale.models import create_model, find_model
from distill_at_scale.models.infinite_ae import DRAWS, InfiniteAE
from distill_at_scale.models.kernel.ntk import TrainUsers
from distill_at_scale.models.kernel.pcg import Sharing
from distill_at_scale.models.kernel.pcg_fit import Shelf
from distill_at_scale.models.kernel.solvers import Plan, Speed, choose_solver, fewer_landmarks, measure_speed, plan
from distill_at_scale.models.memory import available_memory, require_memory
from distill_at_scale.models.saved import MODEL_FILE, WEIGHTS_FILE, read_description, read_weights
from distill_at_scale.models.training.sources import FilledSource, ShardSource
from distill_at_scale.models.warming import warm_up
from distill_at_scale.pipelines.runtime import progress, resources, run_record, waiting
from distill_at_scale.pipelines.runtime.checkpoints import Checkpoints
from distill_at_scale.pipelines.runtime.task_answers import take
from distill_at_scale.pipelines.runtime.tasks import ANYWHERE
from distill_at_scale.pipelines.training.torch_fit import work_folder
from distill_at_scale.pipelines.training.worker_group import TorchCommunicator, WorkerGroupSpec, run_group

# Workers differ by at most one iteration while one more is uploaded, so these include the newest that all have.
_KEEP = 3
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
}
# Number of rows of the solution that are copied at a time.
_ROWS = 2048


class SharingCommunicator(TorchCommunicator, Sharing):
    """Communicator that can also broadcast tensors."""

    def share(self, tensor: torch.Tensor, owner: int) -> None:
        if self.world_size > 1:
            torch.distributed.broadcast(tensor, owner)


def check_asked(config: FitConfig) -> None:
    """Refuses combinations of settings that do not work, before anything is started.

    Raises:
        SettingError: Several workers for exact, or a GPU for the other solvers.
    """
    solver, name = find_model(config.model).parse_config(config.set).solver, config.model
    if config.gpu and solver in ("nystrom", "pcg"):
        raise SettingError(f"{name}: {solver} computes on CPUs; leave out --gpu, or set --solver exact.")
    least, most = worker_range(config.workers)
    if least < most:
        raise SettingError(f"{name} runs on the same workers throughout; set --workers {most}.")
    if most > 1 and (config.gpu or solver == "exact"):
        raise SettingError(f"{name}: exact runs on one worker; leave out --workers, or set --solver pcg.")


def plan_fit(config: FitConfig, dataset: Dataset) -> Plan:
    """Selects the solver and predicts its time and memory, from a short measurement on the cluster.

    Raises:
        NotEnoughMemoryError: Too little memory for the requested solver, or for all solvers.
    """
    model = find_model(config.model)
    assert issubclass(model, InfiniteAE)
    settings = model.parse_config(config.set)
    n_users, n_rows = dataset.n_users, dataset.manifest.splits["train"]
    size = model.size(n_users, dataset.n_items, n_rows, settings, worker_range(config.workers)[1])
    cpus = resources.node_cpus()
    # On a node of the size that does the work, which may have to be started for it.
    look = 1 if resources.is_up().largest() >= cpus else cpus
    with waiting.provided(resources.Need(1, look)):
        measured = ray.remote(num_cpus=look, scheduling_strategy=ANYWHERE)(_look)
        speed, free = take(measured.remote(dataset.n_items, n_rows / max(n_users, 1)))
    # Workers on one node share its memory; exact uses a whole node.
    each = free // min(size.workers, cpus)
    if settings.solver == "auto":
        return choose_solver(size, each, free, speed)
    found = plan(settings.solver, size, speed)
    if settings.solver == "exact":
        return found
    require_memory(
        f"{config.model} by {found.solver} on {n_users:,} users and {dataset.n_items:,} items, on "
        f"{f'each of {size.workers} workers' if size.workers > 1 else 'one worker'},",
        found.bytes,
        each,
        fewer_landmarks(size, each) if found.solver == "nystrom" else "use more workers, or --solver nystrom",
    )
    return found


def fit_kernel(
    record: run_record.RunRecord,
    config: FitConfig,
    dataset: Dataset,
    solver: Literal["nystrom", "pcg"],
    output: str,
    on_progress: progress.OnProgress,
) -> None:
    """Fits ∞-AE by ``solver`` on a group of workers and saves it at ``output``.

    Raises:
        DasError: The solver refuses the data, there are too few CPUs, or workers died too often.
    """
    settings = {**config.set, "solver": solver}
    _, workers = worker_range(config.workers)
    group = WorkerGroupSpec(workers=workers, gpu=False, work=_work_uri(config, dataset, output, solver))
    data, name, every = dataset.uri, config.model, config.checkpoint_every or 1

    def work(group: WorkerGroupSpec, communicator: TorchCommunicator) -> None:
        dataset, model = Dataset.open(data), create_model(name, settings)
        assert isinstance(model, InfiniteAE)
        communicator, listener = (
            SharingCommunicator(communicator.device),
            on_progress if communicator.rank == 0 else None,
        )
        if solver == "nystrom":
            _fit_nystrom(dataset, model, communicator, output, listener)
        else:
            _fit_pcg(dataset, model, communicator, group.work, every, output, listener)

    warm = functools.partial(warm_up, name, {"solver": solver})
    run_group(record, f"fit {name} by {solver}", group, work, warm)
    storage.remove(storage.join(output, WORK))


def begun(config: FitConfig, dataset: Dataset, output: str) -> bool:
    """Returns whether an unfinished run with the same settings exists, by either solver."""
    return any(storage.is_folder(_work_uri(config, dataset, output, solver)) for solver in ("nystrom", "pcg"))


def _work_uri(config: FitConfig, dataset: Dataset, output: str, solver: str) -> str:
    """Returns the folder of checkpoints and parts, named by dataset, number of workers and settings with solver."""
    return work_folder(config.model_copy(update={"set": {**config.set, "solver": solver}}), dataset, output)


def say(model: str, found: Plan) -> None:
    """Logs the plan."""
    progress.say(f"{model}: {found.why}")


def _look(n_items: int, rows_per_user: float) -> tuple[Speed, int]:
    torch.set_num_threads(1)
    return measure_speed(n_items, rows_per_user), available_memory()


def _fit_nystrom(
    dataset: Dataset,
    model: InfiniteAE,
    communicator: SharingCommunicator,
    output: str,
    on_progress: progress.OnProgress | None,
) -> None:
    given = None if model.config.draw in DRAWS else SyntheticDataset.open(model.config.draw).rows()
    selection, weights = model.fit_nystrom(
        FilledSource(ShardSource(dataset, communicator.rank, communicator.world_size)), communicator, on_progress, given
    )
    if communicator.rank == 0:
        model.adopt(weights, selection, dataset.n_items, dataset.manifest.item_space)
        model.save(output)


def _fit_pcg(
    dataset: Dataset,
    model: InfiniteAE,
    communicator: SharingCommunicator,
    work: str,
    every: int,
    output: str,
    on_progress: progress.OnProgress | None,
) -> None:
    sources = [
        FilledSource(ShardSource(dataset, rank, communicator.world_size)) for rank in range(communicator.world_size)
    ]
    everyone = [
        Interactions.concatenate(
            [source.train(piece) for piece in range(source.n_pieces)], dataset.n_items, items_only=True
        )
        for source in sources
    ]
    shelf = StoredShelf(work, communicator.rank)
    selection, names = model.fit_pcg(everyone, sources[communicator.rank], communicator, shelf, on_progress, every)
    shelf.wait()
    # A barrier: all parts are written before one worker reads them.
    communicator.all_reduce(torch.zeros(1))
    if communicator.rank == 0:
        shelves = [StoredShelf(work, rank) for rank in range(communicator.world_size)]
        users = TrainUsers(Interactions.concatenate(everyone, dataset.n_items, items_only=True))
        model.adopt(np.zeros((len(users), 0)), selection, dataset.n_items, dataset.manifest.item_space, users)
        _save_parts(model, shelves, [len(rows) for rows in everyone], names, storage.join(work, "model"), output)


class StoredShelf(Shelf):
    """A worker's checkpoints and parts in the work folder."""

    def __init__(self, work: str, rank: int) -> None:
        self._folder = storage.join(work, f"worker-{rank:05d}")
        self._checkpoints = Checkpoints(storage.join(self._folder, "checkpoints"), _KEEP)

    def newest(self) -> int:
        return self._checkpoints.newest()

    def checkpoint(self, place: int) -> dict[str, np.ndarray]:
        return _parse(self._checkpoints.view(place))

    def keep(self, place: int, arrays: dict[str, np.ndarray]) -> None:
        self._checkpoints.wait()
        self._checkpoints.write(place, _dump(arrays))

    def wait(self) -> None:
        """Waits until the last checkpoint is written."""
        self._checkpoints.wait()

    def has(self, name: str) -> bool:
        return sealed.is_sound(self._uri(name), "part of the solution")

    def put(self, name: str, array: np.ndarray) -> None:
        sealed.write(self._uri(name), _dump({"part": array}))

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        sealed.check(self._uri(name), restartable.FIX)
        with storage.open_input(self._uri(name), scattered=True) as file:
            length = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(length))["part"]
            dtype, rest = _DTYPES[entry["dtype"]], entry["shape"][1:]
            row = int(np.prod(rest, dtype=np.int64)) * dtype.itemsize
            file.seek(8 + length + start * row)
            return np.frombuffer(file.read((stop - start) * row), dtype).reshape(stop - start, *rest)

    def drop(self, name: str) -> None:
        storage.remove(self._uri(name))

    def _uri(self, name: str) -> str:
        return storage.join(self._folder, f"{name}.safetensors")


def _save_parts(
    model: InfiniteAE, shelves: list[StoredShelf], n_users: list[int], names: list[str], draft: str, output: str
) -> None:
    """Saves a model whose α is stored in parts, like :meth:`InfiniteAE.save`, without holding all of α in memory.

    Args:
        model: Model whose α has no columns yet.
        shelves: Shelves of all workers, by rank.
        n_users: Number of users of each worker.
        names: Names of the parts, in column order.
        draft: Temporary folder for the description.
        output: Folder of the model.
    """
    model.save(draft)
    described = read_description(draft)
    arrays = _parse(memoryview(read_weights(draft, described)))
    first = shelves[0].rows(names[0], 0, 1)
    shapes = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    shapes["alpha"] = (first.dtype, (sum(n_users), model.n_items or 0))

    def content() -> Iterator[bytes]:
        yield _header(shapes)
        for name in shapes:
            if name != "alpha":
                yield np.ascontiguousarray(arrays[name]).tobytes()
                continue
            for shelf, n in zip(shelves, n_users):
                for start in range(0, n, _ROWS):
                    yield np.hstack([shelf.rows(part, start, min(start + _ROWS, n)) for part in names]).tobytes()

    storage.remove(storage.join(output, MODEL_FILE))
    digest, length = hashlib.sha256(), 0
    with storage.open_output(storage.join(output, WEIGHTS_FILE)) as file:
        for piece in content():
            file.write(piece)
            digest.update(piece)
            length += len(piece)
    weights = FileRecord(path=WEIGHTS_FILE, bytes=length, sha256=digest.hexdigest())
    recorded.write_json(storage.join(output, MODEL_FILE), replace(described, weights=weights).to_json())


def _header(shapes: dict[str, tuple[np.dtype, tuple[int, ...]]]) -> bytes:
    """Returns the header of a safetensors file whose arrays follow in this order."""
    codes, entries, end = {dtype: code for code, dtype in _DTYPES.items()}, {}, 0
    for name, (dtype, shape) in shapes.items():
        begin, end = end, end + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        entries[name] = {"dtype": codes[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def _dump(arrays: dict[str, np.ndarray]) -> bytes:
    """Serialises arrays as safetensors with a single copy; safetensors' own writer needs three times their memory."""
    header = _header({name: (array.dtype, array.shape) for name, array in arrays.items()})
    content = np.empty(len(header) + sum(array.nbytes for array in arrays.values()), dtype=np.uint8)
    content[: len(header)] = np.frombuffer(header, np.uint8)
    start = len(header)
    for array in arrays.values():
        content[start : start + array.nbytes].view(array.dtype)[:] = array.reshape(-1)
        start += array.nbytes
    # All writers accept any buffer.
    return cast(bytes, content.data)


def _parse(content: bytes | memoryview) -> dict[str, np.ndarray]:
    """Returns the arrays of :func:`_dump`, without copying."""
    start = 8 + int.from_bytes(content[:8], "little")
    found = {}
    for name, entry in json.loads(bytes(content[8:start])).items():
        if name != "__metadata__":
            shape, begin = entry["shape"], start + entry["data_offsets"][0]
            count = int(np.prod(shape, dtype=np.int64))
            found[name] = np.frombuffer(content, _DTYPES[entry["dtype"]], count, begin).reshape(shape)
    return found
