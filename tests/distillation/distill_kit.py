"""What the tests of distillation share: small logs with groups, and workers as threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.models.training.communicator import Communicator
from distill_at_scale.models.training.sources import MemorySource


def grouped(n_users: int = 60, n_items: int = 24, seed: int = 0) -> tuple[Interactions, Interactions]:
    """Train and validation rows: users like one of three groups of items, with some noise."""
    rng = np.random.default_rng(seed)
    train, heldout = [], []
    for user in range(n_users):
        likes = np.where(np.arange(n_items) % 3 == user % 3, 0.7, 0.06)
        items = np.flatnonzero(rng.random(n_items) < likes)
        rng.shuffle(items)
        cut = max(1, len(items) // 4)
        train.append(np.sort(items[cut:]))
        heldout.append(np.sort(items[:cut]))
    return interactions(train, n_items), interactions(heldout, n_items)


def interactions(rows: list[np.ndarray], n_items: int) -> Interactions:
    """Users numbered from 0 with these items each."""
    return Interactions(
        users=np.arange(len(rows), dtype=np.int64),
        offsets=np.concatenate(([0], np.cumsum([len(items) for items in rows]))).astype(np.int64),
        items=np.concatenate(rows).astype(np.int32),
        n_items=n_items,
    )


class Share(MemorySource):
    """Every so-many-th user of rows that are in memory."""

    def __init__(self, train: Interactions, heldout: Interactions | None, rank: int, world_size: int) -> None:
        mine = np.arange(rank, len(train), world_size)
        super().__init__(train.take(mine), None if heldout is None else heldout.take(mine))
        self.n_users = len(train)


@contextlib.contextmanager
def signs_of_machines() -> Iterator[None]:
    """Threads are machines of different kinds during the block: their decompositions differ in the vectors' signs."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (torch.linalg, np.linalg):
            for name, place in (("qr", 0), ("eigh", 1)):
                patch.setattr(module, name, partial(_with_signs, getattr(module, name), place))
        yield


def _with_signs(real: Callable[..., Any], place: int, *args: Any, **options: Any) -> Any:
    first, second = real(*args, **options)
    vectors = (first, second)[place]
    signs = np.random.default_rng(threading.get_ident()).choice([-1.0, 1.0], vectors.shape[-1])
    if isinstance(vectors, torch.Tensor):
        signs = torch.from_numpy(signs).to(vectors)
    # Q R stays what it was.
    found = (first * signs, second * signs[:, None]) if place == 0 else (first, second * signs)
    return _Decomposition(*found)


class _Decomposition(NamedTuple):
    Q: Any
    R: Any


class LocalJob:
    """A job of a single worker, without Ray; checkpoints stay in memory."""

    shared, work, checkpoint_every = None, "-", 4

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.communicator, self.device = dataset, Communicator(), torch.device("cpu")
        self.kept: dict[str, tuple[int, bytes]] = {}
        self.said: list[str] = []

    def on_progress(self, share: float, step: str) -> None:
        assert 0 <= share <= 1
        self.said.append(step)

    def newest(self, folder: str = "") -> bytes | None:
        return self.kept[folder][1] if folder in self.kept else None

    def keep(self, step: int, content: bytes, folder: str = "") -> None:
        self.kept[folder] = step, content

    def report(self, figures: Mapping[str, float]) -> None:
        assert all(isinstance(value, int | float) for value in figures.values())

    def wait(self) -> None:
        """Nothing is written."""

    def train(self, *_: Any) -> Any:
        raise NotImplementedError


class Threads(Communicator):
    """Workers as threads of this process, which add up in the order of their ranks."""

    def __init__(self, rank: int, world_size: int, board: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.world_size, self._board, self._barrier = rank, world_size, board, barrier

    def all_reduce(self, tensor: torch.Tensor) -> None:
        self._board[self.rank] = tensor.clone()
        self._barrier.wait(timeout=60)
        total = sum(self._board[1:], self._board[0].clone())
        self._barrier.wait(timeout=60)
        tensor.copy_(total)


def together(
    world_size: int,
    work: Callable[[RealUsers], Any],
    train: Interactions | None = None,
    heldout: Interactions | None = None,
    **options: Any,
) -> list[Any]:
    """``work`` on the users of each of so many workers, at the same time; what each gave."""
    if train is None:
        train, heldout = grouped()
    if world_size == 1:
        return [work(RealUsers(MemorySource(train, heldout), **options))]
    board: list[Any] = [None] * world_size
    barrier, found = threading.Barrier(world_size), [None] * world_size
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            communicator = Threads(rank, world_size, board, barrier)
            found[rank] = work(RealUsers(Share(train, heldout, rank, world_size), communicator, **options))
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return found
