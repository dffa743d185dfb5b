"""Checks every path that a GPU takes against the CPU, and measures its speed; no Ray, no data, under 8 minutes.

    python jobs/check_gpu.py                           on a machine with a GPU
    python jobs/check_gpu.py --device cpu              the same lines without one, on small problems, in two minutes
    python jobs/check_gpu.py --json gpu.json

Each check compares the device's result, in float32 or bfloat16, with float64 on the CPU, or with another computation of
the same value: solvers with LAPACK, the adjoint with autograd through the written-out steps, a training with one that
was interrupted. The exit code is 1 where a difference exceeds its tolerance. The speed of Farzi's outer step is given
against four times its window of plain steps of the student, which is about what its back-propagation must cost.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from check_gpu_problems import CPU, SIZES, Bench, latent_of, make_bench, relative, settings_of, student_of, zoo
from check_gpu_speed import speed

from distill_at_scale.distillation.distill_cf import DistillCF
from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
from distill_at_scale.distillation.farzi import (
    InnerLoop,
    OuterBatches,
    Teacher,
    outer_loss,
    run_inner_loop,
)
from distill_at_scale.distillation.students import STUDENTS, Student
from distill_at_scale.distillation.users import RealUsers
from distill_at_scale.models import create_model
from distill_at_scale.models.infinite_ae import InfiniteAE
from distill_at_scale.models.kernel.ntk import TrainUsers
from distill_at_scale.models.training.trainer import Trainer


@dataclass(frozen=True)
class Check:
    """A comparison.

    Attributes:
        difference: Norm of the difference by the norm of the reference.
        tolerance: What it may be.
    """

    path: str
    against: str
    difference: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.difference <= self.tolerance


# -- kernels ---------------------------------------------------------------------------------------------------------


def check_kernels(bench: Bench) -> Iterator[Check]:
    users = TrainUsers(bench.train)
    reference = users.kernel(torch.float64, CPU)
    yield Check("NTK kernel, float32", "float64", relative(users.kernel(torch.float32, bench.device), reference), 1e-5)
    if bench.device.type != "cpu":
        found = users.kernel(torch.float64, bench.device)
        yield Check("NTK kernel, float64", "float64", relative(found, reference), 1e-12)
    some = bench.train.slice(0, 100)

    def scores(device: str, **settings: Any) -> np.ndarray:
        return InfiniteAE(lam=5.0, device=device, **settings).fit(bench.train).score(some)

    device = bench.device.type
    exact = scores("cpu", solver="exact", dtype="float64")
    yield Check("∞-AE exact, float32", "float64 by LAPACK", relative(scores(device, dtype="float32"), exact), 1e-4)
    if device == "cpu":
        # The same solve in float64 would be compared with itself.
        pcg = scores("cpu", solver="pcg", dtype="float64", tolerance=1e-8, landmarks=10)
        yield Check("∞-AE by conjugate gradients", "exact", relative(pcg, exact), 1e-5)
    else:
        yield Check("∞-AE exact, float64", "float64 by LAPACK", relative(scores(device, dtype="float64"), exact), 1e-9)
    landmarks = {"solver": "nystrom", "landmarks": len(bench.train) // 2}
    nystrom = scores("cpu", dtype="float64", **landmarks)
    yield Check(
        "∞-AE Nyström, float32", "float64", relative(scores(device, dtype="float32", **landmarks), nystrom), 1e-4
    )
    everyone = scores(device, solver="nystrom", dtype="float32", landmarks=len(bench.train))
    yield Check("∞-AE Nyström, all as landmarks", "exact", relative(everyone, exact), 1e-3)


# -- distillers ------------------------------------------------------------------------------------------------------


def check_distill_cf(bench: Bench) -> Iterator[Check]:
    users, size = RealUsers(bench.source), bench.size
    for rows in ("free", "softmax", "gumbel"):
        config = DistillCFConfig(users=size.rows, rows=rows, batch_size=64, draws=20, seed=1)
        here, there = DistillCF(config, users), DistillCF(config, users, bench.device)
        z = torch.from_numpy(np.random.default_rng(1).normal(size=(size.rows, size.items))) * 0.3
        loss, d_z, d_lam = here.gradient(z, 0.0)
        found_loss, found, found_lam = there.gradient(z.float().to(bench.device), 0.0)
        yield Check(f"Distill-CF's gradient, {rows} rows, float32", "float64", relative(found, d_z), 1e-4)
        difference = relative([found_loss, found_lam], [loss, d_lam])
        yield Check(f"Distill-CF's loss and λ, {rows} rows, float32", "float64", difference, 1e-4)


def parameters_of(student: Student, dtype: torch.dtype, device: torch.device) -> Any:
    return {name: value.to(device, dtype) for name, value in student.draw(3).items()}


def window_gradient(
    bench: Bench, student: Student, dtype: torch.dtype, device: torch.device, mixed: bool = False, led: int = 8
) -> torch.Tensor:
    """The outer loss's gradient through one window of a trajectory that is ``led`` steps old, as Farzi takes it."""
    latent, parameters = latent_of(bench, dtype, device), parameters_of(student, dtype, device)
    inner_loop = InnerLoop(batch=10, rate=0.01, seed=2)
    with torch.no_grad():
        parameters, state = run_inner_loop(student, latent, inner_loop, parameters, None, led)
    inner_loop = replace(inner_loop, mixed=mixed)
    trained, _ = run_inner_loop(student, latent, inner_loop, parameters, state, bench.size.window)
    lesson = OuterBatches(bench.train, student.length, 2, seed=0).draw(64, 256, 0, 0).to(device)
    teacher = Teacher(student, {name: value.to(device, dtype) for name, value in student.draw(77).items()})
    with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
        loss = outer_loss(student, trained, lesson, [teacher], 0.8)
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, latent.tensors)])


def plain_gradient(bench: Bench, student: Student) -> torch.Tensor:
    """Differentiates a norm of the final parameters by autograd through Adam's steps, in float64 on the CPU."""
    latent, parameters = latent_of(bench, torch.float64, CPU), parameters_of(student, torch.float64, CPU)
    inner_loop, (beta1, beta2) = InnerLoop(batch=10, rate=0.01, seed=2), (0.9, 0.999)
    names, values = list(parameters), [value.requires_grad_() for value in parameters.values()]
    first, second = ([torch.zeros_like(value) for value in values] for _ in range(2))
    for step in range(bench.size.window):
        batch = latent.tokens(torch.tensor(inner_loop.rows(len(latent), step)))
        loss = student.soft_loss(dict(zip(names, values)), *batch)
        gradients = torch.autograd.grad(loss, values, create_graph=True, materialize_grads=True)
        first = [beta1 * m + (1 - beta1) * g for m, g in zip(first, gradients)]
        second = [beta2 * v + (1 - beta2) * g * g for v, g in zip(second, gradients)]
        sizes = 1 - beta1 ** (step + 1), 1 - beta2 ** (step + 1)
        values = [
            value - 0.01 * (m / sizes[0]) / ((v / sizes[1] + 1e-12).sqrt() + 1e-8)
            for value, m, v in zip(values, first, second)
        ]
    end = sum(value.square().sum() for value in values)
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(end, latent.tensors)])


def adjoint_gradient(bench: Bench, student: Student, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    latent, parameters = latent_of(bench, dtype, device), parameters_of(student, dtype, device)
    trained, _ = run_inner_loop(
        student, latent, InnerLoop(batch=10, rate=0.01, seed=2), parameters, None, bench.size.window
    )
    end = sum(value.square().sum() for value in trained.values())
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(end, latent.tensors)])


def check_farzi(bench: Bench) -> Iterator[Check]:
    for model in STUDENTS:
        student = student_of(bench, model)
        exact = adjoint_gradient(bench, student, torch.float64, bench.device)
        plain = plain_gradient(bench, student)
        yield Check(f"adjoint of Adam, {model}, float64", "autograd through the steps", relative(exact, plain), 1e-6)
        reference = window_gradient(bench, student, torch.float64, CPU)
        single = window_gradient(bench, student, torch.float32, bench.device)
        yield Check(f"Farzi's gradient, {model}, float32", "float64", relative(single, reference), 1e-2)
        mixed = window_gradient(bench, student, torch.float32, bench.device, mixed=True)
        yield Check(f"Farzi's gradient, {model}, bfloat16", "float64", relative(mixed, reference), 0.25)


# -- the zoo ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def drawn_on_the_cpu() -> Iterator[None]:
    """Makes torch draw from the CPU's generator in float64, so that all devices and precisions get the same numbers."""
    like = torch.rand_like, torch.randn_like
    generator = torch.Generator().manual_seed(11)

    def drawn(draw: Callable[..., torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda x: draw(x.shape, generator=generator, dtype=torch.float64).to(x)

    torch.rand_like, torch.randn_like = drawn(torch.rand), drawn(torch.randn)
    try:
        yield
    finally:
        torch.rand_like, torch.randn_like = like


def step_gradient(bench: Bench, model: str, dtype: torch.dtype, device: torch.device, mixed: bool) -> torch.Tensor:
    """The gradient of a model's first training step."""
    recommender: Any = create_model(model, settings_of(bench, model))
    module = Trainer(recommender, bench.source, CPU).module.train().to(dtype)
    if getattr(module, "adjacency", None) is not None:
        module.adjacency = module.adjacency.to(device, dtype)
    module.to(device)
    examples = recommender.examples(bench.train)
    batch = examples.batch(examples.order(0, 0)[:256], np.random.default_rng(0))
    batch = {key: value.to(device, dtype if value.is_floating_point() else value.dtype) for key, value in batch.items()}
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with drawn_on_the_cpu(), torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            loss, weight = recommender.loss(module, batch, 0.5)
        (loss / weight).backward()
    finally:
        torch.set_default_dtype(default)
    parts = [p.grad if p.grad is not None else torch.zeros_like(p) for p in module.parameters() if p.requires_grad]
    return torch.cat([part.flatten() for part in parts])


def check_zoo(bench: Bench) -> Iterator[Check]:
    for model in zoo():
        reference = step_gradient(bench, model, torch.float64, CPU, mixed=False)
        single = step_gradient(bench, model, torch.float32, bench.device, mixed=False)
        yield Check(f"{model}: a step's gradient, float32", "float64", relative(single, reference), 1e-3)
        mixed = step_gradient(bench, model, torch.float32, bench.device, mixed=True)
        yield Check(f"{model}: a step's gradient, bfloat16", "float64", relative(mixed, reference), 0.1)
        # On a GPU the epochs run in mixed precision, and its generator draws other numbers.
        tolerance = 1e-6 if bench.device.type == "cpu" else 0.1
        found, resumed = trained_loss(bench, model, bench.device), trained_loss(bench, model, CPU, interrupted=True)
        yield Check(f"{model}: loss after training", "resumed on the CPU", relative([found], [resumed]), tolerance)


def trained_loss(bench: Bench, model: str, device: torch.device, interrupted: bool = False) -> float:
    """Mean loss of the last epoch, up to its last step but one; with a restart from a checkpoint if interrupted."""

    class Stop(Exception):
        pass

    def trainer() -> Trainer:
        recommender: Any = create_model(model, settings_of(bench, model) | {"batch_size": 32})
        return Trainer(recommender, bench.source, device)

    running, losses = trainer(), [0.0]

    def after_step() -> None:
        losses.append(running.loss if running.step else losses[-1])
        if interrupted and (running.epoch, running.step) == (1, 1):
            raise Stop

    try:
        running.run(after_step=after_step)
    except Stop:
        content, running, interrupted = running.state(), trainer(), False
        running.restore(content)
        running.run(after_step=after_step)
    return losses[-1]


# -- the report ------------------------------------------------------------------------------------------------------

CHECKS = {"kernels": check_kernels, "distill_cf": check_distill_cf, "farzi": check_farzi, "zoo": check_zoo}


def show(report: dict[str, Any]) -> None:
    """Prints both tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"{report['device']}: {report['passed']} of {len(report['checks'])} checks pass")
    for column in ("path", "against", "difference", "tolerance", ""):
        table.add_column(column)
    for check in report["checks"]:
        verdict = "ok" if check["ok"] else "[bold red]WRONG[/bold red]"
        figures = f"{check['difference']:.1e}", f"{check['tolerance']:.0e}"
        table.add_row(check["path"], check["against"], *figures, verdict)
    console.print(table)
    if not report["speed"]:
        return
    table = Table(title="speed")
    for column in ("loop", "ms", "× plain steps", "occupancy", "peak MiB", "CPU waits"):
        table.add_column(column)
    for row in report["speed"]:
        others = [row.get(name) for name in ("ratio", "occupancy", "peak_mib", "waits")]
        table.add_row(row["loop"], f"{1000 * row['seconds']:.1f}", *("–" if x is None else str(x) for x in others))
    console.print(table)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=tuple(SIZES), help="of the problems; default: full, on the CPU small")
    parser.add_argument("--only", choices=(*CHECKS, "speed"), action="append", help="repeatable; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("error: torch finds no GPU here; run on a machine with one, or set --device cpu.", file=sys.stderr)
        return 2
    started, device = time.monotonic(), torch.device(options.device)
    bench = make_bench(device, SIZES[options.size or ("small" if options.device == "cpu" else "full")])
    wanted = options.only or [*CHECKS, "speed"]
    checks = [check for name, run in CHECKS.items() if name in wanted for check in run(bench)]
    report = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
        "torch": torch.__version__,
        "size": asdict(bench.size),
        "passed": sum(check.ok for check in checks),
        "checks": [{**asdict(check), "ok": check.ok} for check in checks],
        "speed": list(speed(bench)) if "speed" in wanted else [],
        "wall_s": round(time.monotonic() - started, 1),
    }
    show(report)
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if report["passed"] == len(checks) else 1


if __name__ == "__main__":
    sys.exit(main())
