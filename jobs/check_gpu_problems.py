"""The problems of `check_gpu.py` and its speeds: a made-up log, latent sequences, students and models, in two sizes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.distillation.farzi import LatentSequences
from distill_at_scale.distillation.students import Student, create_student
from distill_at_scale.models import MODELS, find_model
from distill_at_scale.models.training.sources import MemorySource

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Size:
    """How large the problems are: users, items, latent sequences and their length, width, synthetic users, steps."""

    users: int
    items: int
    sequences: int
    length: int
    dim: int
    rows: int
    window: int
    epochs: int
    seconds: float


SIZES = {
    "small": Size(120, 60, 6, 5, 8, 8, 3, 2, 0.2),
    "full": Size(3000, 2000, 50, 50, 32, 100, 10, 2, 8.0),
}


@dataclass(frozen=True)
class Bench:
    """The device, and the rows of a made-up log in which the next item follows from the last one."""

    device: torch.device
    size: Size
    train: Interactions
    heldout: Interactions

    @property
    def source(self) -> MemorySource:
        return MemorySource(self.train, self.heldout)


def make_bench(device: torch.device, size: Size) -> Bench:
    """The rows are the same on every machine."""
    rng = np.random.default_rng(0)
    histories = []
    for _ in range(size.users):
        steps = np.where(rng.random(int(rng.integers(6, 31))) < 0.2, rng.integers(size.items), 1 + rng.integers(3))
        histories.append((int(rng.integers(size.items)) + np.cumsum(steps)) % size.items)

    def rows(parts: list[np.ndarray]) -> Interactions:
        offsets = np.concatenate(([0], np.cumsum([len(part) for part in parts]))).astype(np.int64)
        items = np.concatenate(parts).astype(np.int32)
        stars = (1 + items % 5).astype(np.float32)
        return Interactions(np.arange(len(parts)), offsets, items, size.items, stars)

    return Bench(device, size, rows([part[:-1] for part in histories]), rows([part[-1:] for part in histories]))


def relative(found: Any, reference: Any) -> float:
    """Norm of the difference by the norm of the reference; infinite where there is a NaN."""
    a, b = (torch.as_tensor(x).detach().cpu().double().flatten() for x in (found, reference))
    difference = float((a - b).norm() / b.norm().clamp_min(1e-300))
    return difference if np.isfinite(difference) else float("inf")


def latent_of(bench: Bench, dtype: torch.dtype, device: torch.device) -> LatentSequences:
    size, generator = bench.size, torch.Generator().manual_seed(5)
    shape = (size.sequences, size.length, size.dim)
    inputs, targets = (torch.randn(*shape, generator=generator) for _ in range(2))
    decoder = torch.randn(size.dim, size.items, generator=generator)
    tensors = [x.to(device, dtype).requires_grad_() for x in (inputs, decoder, targets)]
    return LatentSequences(tensors[0], tensors[1], tensors[2], temperature=0.8)


def student_of(bench: Bench, model: str = "sasrec") -> Student:
    # Dropout draws from the device's generator: without it, devices can be compared.
    size = bench.size
    own = {"blocks": 1, "heads": 1} if model == "sasrec" else {"hidden": size.dim}
    return create_student(model, size.items, {"dim": size.dim, "length": size.length, "dropout": 0.0, **own})


def zoo() -> list[str]:
    return [name for name in MODELS if find_model(name).by_gradients]


def settings_of(bench: Bench, model: str) -> dict[str, Any]:
    known = find_model(model).Config.model_fields
    wanted = {"dim": bench.size.dim, "dropout": 0.0, "length": 20, "epochs": bench.size.epochs, "batch_size": 256}
    # MVAE hides by dropout what it learns to predict.
    return {key: value for key, value in wanted.items() if key in known and (model, key) != ("mvae", "dropout")}
