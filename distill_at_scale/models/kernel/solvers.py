"""Solvers of ∞-AE: predictions of memory and time, and the choice between them before a fit starts.

exact     one Cholesky factorisation of users × users: one worker, fastest while it fits
pcg       the same answer by conjugate gradients: memory in proportion to users / workers, time to users² × items
nystrom   an approximation by landmarks: memory in proportion to landmarks × items, one pass over the users per λ
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from distill_at_scale.data import hashing
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import NotEnoughMemoryError
from distill_at_scale.facts import time_span
from distill_at_scale.models.kernel.landmarks import BLOCK
from distill_at_scale.models.kernel.ntk import BLOCK_USERS, TrainUsers

Solver = Literal["auto", "exact", "nystrom", "pcg"]

NYSTROM_LANDMARKS, PCG_LANDMARKS = 2000, 500
"""Default numbers of landmarks M."""
# Maximum bytes of a chunk's arrays on a worker of pcg.
_CHUNK_BYTES = 768 << 20
_CHUNK_ARRAYS = 7
# Assumed numbers of iterations to a residual of 1e-5, and to the 1e-3 at which λ is selected.
_ITERATIONS, _TUNING_ITERATIONS = 9, 5
# Landmarks down to which a remedy goes; an approximation by fewer is worth little.
_LEAST_LANDMARKS = 100
# Predicted seconds beyond which auto prefers the approximation.
_PATIENCE_S = 4 * 3600
# Predicted seconds beyond which auto starts nothing.
_MOST_S = 90 * 86400


@dataclass(frozen=True)
class Size:
    """Size of a fit.

    Attributes:
        n_users, n_items, n_rows: Size of the train rows.
        n_lams: Number of λ tried; 1: no selection.
        landmarks: M; None: the solver's default.
        itemsize: Bytes per number of the solution, 4 or 8.
        workers: Number of workers.
    """

    n_users: int
    n_items: int
    n_rows: int
    n_lams: int
    landmarks: int | None
    itemsize: int
    workers: int = 1

    def m(self, solver: str) -> int:
        """Returns the number of landmarks of a solver."""
        wanted = self.landmarks or (PCG_LANDMARKS if solver == "pcg" else NYSTROM_LANDMARKS)
        return max(1, min(wanted, self.n_users))

    @property
    def own_users(self) -> int:
        """Number of users of one worker."""
        return -(-self.n_users // self.workers)

    @property
    def chunk(self) -> int:
        """Number of columns that pcg solves at once."""
        fits = _CHUNK_BYTES // (_CHUNK_ARRAYS * self.itemsize * max(self.own_users, 1))
        return int(min(max(fits, 64), self.n_items))


@dataclass(frozen=True)
class Speed:
    """Throughput of one worker per second: flops of a float32 matrix product, and elements of a kernel."""

    flops: float
    elements: float


@dataclass(frozen=True)
class Plan:
    """A solver for a fit.

    Attributes:
        solver: Name of the solver.
        why: One sentence with the reason and the predictions.
        bytes: Predicted peak memory of one worker.
        seconds: Predicted time.
    """

    solver: Literal["exact", "nystrom", "pcg"]
    why: str
    bytes: int
    seconds: float


def memory(solver: str, size: Size) -> int:
    """Predicts the peak bytes of one worker, beyond the process itself."""
    users, items, m, block = size.n_users, size.n_items, size.m(solver), min(BLOCK, size.n_users)
    if solver == "exact":
        # Kernel and factor; the solution, the best so far, and one transposed copy.
        matrices = 2 * users**2 + 3 * users * items
        return size.itemsize * matrices + 48 * BLOCK_USERS * users + 24 * size.n_rows
    if solver == "pcg":
        state = size.own_users * (_CHUNK_ARRAYS * size.chunk + m) * size.itemsize
        return state + 2 * block * size.chunk * size.itemsize + 24 * m * (m + size.chunk) + 24 * size.n_rows
    # Both sums, one more copy of each while they are computed or solved, the best W, and a block's kernel.
    return 8 * (3 * m * m + 4 * m * items) + 24 * block * (m + items) + 24 * size.n_rows // size.workers


def seconds(solver: str, size: Size, speed: Speed) -> float:
    """Predicts the time of a fit in seconds."""
    u, i, m = float(size.n_users), float(size.n_items), float(size.m(solver))
    wide = size.itemsize / 4
    if solver == "exact":
        return u * u / 2 / speed.elements + wide * size.n_lams * (u**3 / 3 + 2 * u * u * i) / speed.flops
    if solver == "pcg":
        iterations = _ITERATIONS + (_TUNING_ITERATIONS * size.n_lams if size.n_lams > 1 else 0)
        chunks = -(-size.n_items // size.chunk)
        one = chunks * u * u / speed.elements + wide * 2 * u * i * (u + 2 * m) / speed.flops
        return iterations * one / size.workers
    passes = 1 + (size.n_lams if size.n_lams > 1 else 0)
    users = passes * u * m / speed.elements + 2 * (u * m * m + (passes - 1) * u * m * i) / speed.flops
    return users / size.workers + size.n_lams * 2 * (m**3 / 3 + 2 * m * m * i / size.workers) / speed.flops


def choose_solver(size: Size, free: int, free_alone: int, speed: Speed) -> Plan:
    """Chooses the fastest exact solver that fits into memory; nystrom if none fits, or if the fastest is too slow.

    Args:
        size: Size of the fit.
        free: Free bytes of each worker.
        free_alone: Free bytes of a worker that has a machine to itself, as the exact solver has.
        speed: Throughput of one worker.

    Raises:
        NotEnoughMemoryError: No solver fits, or none that ends within 90 days.
    """
    alone = Size(**{**vars(size), "workers": 1})
    sizes = {"exact": alone, "pcg": size, "nystrom": size}
    needs = {solver: memory(solver, its) for solver, its in sizes.items()}
    times = {solver: seconds(solver, its, speed) for solver, its in sizes.items()}
    fits = [name for name in sizes if needs[name] <= (free_alone if name == "exact" else free)]
    what = f"{size.n_users:,} users × {size.n_items:,} items on {size.workers} worker(s) with {_gib(free)} each"
    if not fits:
        least = min(needs, key=lambda name: needs[name])
        raise NotEnoughMemoryError(
            f"infinite_ae: {what} is too little memory for any solver ({least} needs {_gib(needs[least])} per worker); "
            "use more workers, fewer landmarks, or a sample of the users."
        )
    same = [name for name in ("exact", "pcg") if name in fits]
    solver = min(same, key=lambda name: times[name], default="nystrom")
    if solver == "nystrom":
        reason = f"neither exact ({_gib(needs['exact'])}) nor pcg ({_gib(needs['pcg'])} per worker) fits into memory"
    elif times[solver] > _PATIENCE_S and "nystrom" in fits:
        reason, solver = f"{solver} would take {_time(times[solver])}", "nystrom"
    elif times[solver] > _MOST_S:
        raise NotEnoughMemoryError(
            f"infinite_ae: {what} would take {_time(times[solver])} by {solver}, and nystrom needs "
            f"{_gib(needs['nystrom'])} per worker; choose a model for large catalogues (elsa, als), drop rare items "
            f"(--min-item), or ask for it nevertheless (--solver {solver})."
        )
    elif solver == "exact":
        reason = "users × users fit into the memory of one worker and no exact solver is faster"
    elif "exact" in fits:
        reason = f"it gives the exact answer faster than one worker's exact solver ({_time(times['exact'])})"
    else:
        reason = f"exact needs {_gib(needs['exact'])}, and pcg gives the same answer with less memory"
    return plan(solver, size, speed, f"{what}: {{}}, because {reason}")


def plan(solver: str, size: Size, speed: Speed, sentence: str = "{}, as asked for") -> Plan:
    """Returns the plan for a given solver; ``{}`` in the sentence becomes its name."""
    its = size if solver != "exact" else Size(**{**vars(size), "workers": 1})
    needed, needs_s = memory(solver, its), seconds(solver, its, speed)
    why = f"{sentence.format(solver)}; predicted: {_time(needs_s)}, {_gib(needed)} per worker."
    return Plan(solver, why, needed, needs_s)  # type: ignore[arg-type]


def fewer_landmarks(size: Size, free: int) -> str:
    """Returns the remedy for a nystrom that does not fit: a number of landmarks that does, else another model.

    More workers do not help, since each holds the sums over landmarks × items.
    """
    landmarks = size.m("nystrom")
    while landmarks >= _LEAST_LANDMARKS:
        landmarks //= 2
        if memory("nystrom", Size(**{**vars(size), "landmarks": landmarks})) <= free:
            return f"use fewer landmarks (--set landmarks={landmarks})"
    return "choose a model for large catalogues (elsa, als), drop rare items (--min-item), or use larger machines"


def measure_speed(n_items: int, rows_per_user: float) -> Speed:
    """Measures this process for about 0.2 s: a matrix product and a block of the kernel."""
    rng = np.random.default_rng(hashing.stream("kernel/measured speed"))
    a, b = (rng.standard_normal((512, 512), dtype=np.float32) for _ in range(2))
    n_users, n = 512, max(1, min(int(rows_per_user), n_items))
    items = np.sort(rng.integers(0, n_items, (n_users, n), dtype=np.int32), axis=1).reshape(-1)
    users = TrainUsers(Interactions(np.arange(n_users), np.arange(n_users + 1) * n, items, n_items))
    histories = users.matrix[:BLOCK_USERS]

    def kernel() -> None:
        users.kernel_with(histories, torch.float32, torch.device("cpu"))

    def product() -> None:
        np.matmul(a, b)

    kernel()
    product()
    clock = time.perf_counter()
    kernel()
    middle = time.perf_counter()
    for _ in range(8):
        product()
    end = time.perf_counter()
    return Speed(8 * 2 * 512**3 / (end - middle), n_users * BLOCK_USERS / (middle - clock))


def _gib(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:,.1f} GiB"


def _time(predicted: float) -> str:
    return time_span(max(predicted, 1))
