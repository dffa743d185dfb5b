"""Speeds of the loops that run on a GPU, for `check_gpu.py`: seconds, occupancy, peak memory and waits of the CPU."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from check_gpu_problems import Bench, latent_of, settings_of, student_of, zoo

from distill_at_scale.distillation.distill_cf import DistillCF
from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
from distill_at_scale.distillation.farzi import (
    Farzi,
    FarziLoopConfig,
    InnerLoop,
    OuterBatches,
    Teacher,
    train_student,
)
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.models import create_model
from distill_at_scale.models.training.trainer import Trainer


class Occupancy:
    """Share of the time in which the GPU was busy, as its driver samples it; None where that cannot be asked."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._over, self._shares = device, threading.Event(), []
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Occupancy:
        if self._device.type == "cuda":
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        if self._device.type == "cuda":
            self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(0.2):
            try:
                self._shares.append(torch.cuda.utilization(self._device) / 100)
            except Exception:  # no pynvml, or a driver that does not say
                return

    @property
    def share(self) -> float | None:
        return round(float(np.mean(self._shares)), 2) if self._shares else None


def timed(bench: Bench, step: Callable[[], Any]) -> dict[str, Any]:
    """Seconds a step, occupancy, peak memory in MiB, and calls a step in which the CPU waits for the GPU."""
    cuda = bench.device.type == "cuda"
    step()
    waits = None
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
        torch.cuda.set_sync_debug_mode("default")
        waits = sum("synchronizing" in str(warning.message) for warning in caught)
        torch.cuda.synchronize()
    steps, begun = 0, time.perf_counter()
    with Occupancy(bench.device) as occupancy:
        while steps < 2 or time.perf_counter() - begun < bench.size.seconds:
            step()
            steps += 1
        if cuda:
            torch.cuda.synchronize()
    seconds = (time.perf_counter() - begun) / steps
    peak = round(torch.cuda.max_memory_allocated() / 2**20, 1) if cuda else None
    return {"seconds": seconds, "occupancy": occupancy.share, "peak_mib": peak, "waits": waits}


def speed(bench: Bench) -> Iterator[dict[str, Any]]:
    """A row for each loop."""
    student, size = student_of(bench), bench.size
    latent = latent_of(bench, torch.float32, bench.device)
    fixed = latent.with_tensors([tensor.detach() for tensor in latent.tensors])
    mixed = bench.device.type == "cuda"
    plain = timed(bench, lambda: train_student(student, fixed, InnerLoop(10, 0.01, mixed=mixed), 4 * size.window, 0))
    yield {"loop": f"Farzi: 4 × {size.window} plain steps of a student", **plain}
    config = FarziLoopConfig(
        steps=10**6, window=size.window, horizon=10**6, pool=1, lesson_users=64, lesson_places=256, least_context=2
    )
    lessons = OuterBatches(bench.train, student.length, 2, seed=0)
    teacher = Teacher(student, {name: value.to(bench.device) for name, value in student.draw(77).items()})
    farzi = Farzi(config, student, fixed, lessons, [teacher], lambda parameters: 0.0)
    outer = timed(bench, farzi._learn)
    ratio = round(outer["seconds"] / plain["seconds"], 2)
    yield {"loop": "Farzi: an outer step", **outer, "ratio": ratio}
    distiller = DistillCF(DistillCFConfig(users=size.rows, batch_size=256), RealUsers(bench.source), bench.device)
    yield {"loop": f"Distill-CF: a step of {size.rows} rows", **timed(bench, distiller._learn)}
    for model in zoo():
        recommender: Any = create_model(model, settings_of(bench, model) | {"epochs": 10**6})
        trainer = Trainer(recommender, bench.source, bench.device)
        batches = list(trainer._batches())
        found = timed(bench, lambda: [trainer._learn(batch) for batch in batches])  # noqa: B023
        yield {"loop": f"{model}: an epoch of {len(batches)} steps", **found}
