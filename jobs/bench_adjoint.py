"""Memory and time of differentiating through 200 Adam steps: the adjoint, autograd through all steps, TorchOpt.

    python jobs/bench_adjoint.py --output adjoint.json
    PYTHONPATH=FOLDER python jobs/bench_adjoint.py --output adjoint.json     with FOLDER from
        pip install --target FOLDER --no-deps torchopt optree graphviz
    python jobs/bench_adjoint.py --items 100000 --output large.json          soft tokens dense and in chunks

A SASRec student (1 layer, width 32) of 1,349 items takes steps on batches of 10 out of 50 soft sequences of 50 tokens
(generated); its loss on other sequences is differentiated with respect to all of them. Every way runs in a process
of its own, on one thread: CPU-seconds of the trajectory, there and back, and the resident memory at its peak above
what there was before it began. TorchOpt is left out where it is not installed. With --items, two steps there and back
of one batch of 10 latent sequences of 50 tokens, 65 numbers each, use soft tokens of N items, dense or in chunks.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
TOKENS = ("dense", "chunked")
N_ITEMS, N_SEQUENCES, BATCH, RATE = 1349, 50, 10, 0.001
WAYS = ("unrolled", "adjoint, every state", "adjoint, every 14th", "adjoint, log T states", "torchopt")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--length", type=int, default=50, help="tokens of a sequence")
    parser.add_argument("--repeats", type=int, default=3, help="of each way, taken in turn; times are medians")
    parser.add_argument("--items", type=int, help="compare soft tokens, dense and in chunks, with this number of items")
    parser.add_argument("--way", choices=(*WAYS, *TOKENS), help="run this one here and print it")
    options = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    if options.way:
        in_tokens = options.way in TOKENS
        found_here = large(options.way, options.items) if in_tokens else run(options.way, options.steps, options.length)
        print(json.dumps(found_here))
        return 0
    if options.items:
        measured = {"items": options.items}
        for way in TOKENS:
            command = [sys.executable, __file__, "--way", way, "--output", "-", "--items", str(options.items)]
            measured[way] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        options.output.write_text(json.dumps(measured, indent=2) + "\n")
        print(json.dumps(measured, indent=2))
        return 0
    ways = [way for way in WAYS if way != "torchopt" or importlib.util.find_spec("torchopt")]
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(options.repeats):
        for way in ways:
            command = [sys.executable, __file__, "--way", way, "--output", "-", "--steps", str(options.steps)]
            command += ["--length", str(options.length)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            found[way].append(json.loads(done.stdout))
            print(way, found[way][-1], flush=True)
    middle = {
        way: {key: sorted(run[key] for run in runs)[len(runs) // 2] for key in runs[0]} for way, runs in found.items()
    }
    unrolled = middle["unrolled"]
    for entry in middle.values():
        entry["memory: unrolled is so many times as large"] = round(unrolled["peak_mib"] / entry["peak_mib"], 2)
        entry["time, of unrolled"] = round(entry["cpu_seconds"] / unrolled["cpu_seconds"], 3)
        entry["gradient's relative distance to unrolled"] = abs(entry["norm"] / unrolled["norm"] - 1)
    report = {
        "steps": options.steps,
        "length": options.length,
        "repeats": options.repeats,
        "ways": middle,
        "runs": found,
    }
    options.output.write_text(json.dumps(report, indent=2))
    print(json.dumps(middle, indent=2))
    return 0


def run(way: str, n_steps: int, length: int) -> dict[str, float]:
    """CPU-seconds, MiB at the peak above the start, and the norm of the gradient."""
    import torch

    torch.set_num_threads(1)
    # A tiny problem loads the code, and leaves the allocator almost nothing to keep.
    prepared(way, 20, 2)(2)
    whole = prepared(way, N_ITEMS, length)
    resident, clock = resident_mib(), time.process_time()
    norm = whole(n_steps)
    return {
        "cpu_seconds": round(time.process_time() - clock, 2),
        "peak_mib": round(peak_mib() - resident, 1),
        "resident_mib_before": round(resident, 1),
        "norm": norm,
    }


def prepared(way: str, n_items: int, length: int) -> Callable[[int], float]:
    """The norm of the gradient with respect to all tokens, as a function of the number of steps."""
    import torch

    from distill_at_scale.distillation.students import create_student

    student = create_student("sasrec", n_items, {"dim": 32, "blocks": 1, "length": length, "dropout": 0.0})
    generator = torch.Generator().manual_seed(0)
    # Made in place, so that the peak is not that of making them.
    tokens = [torch.randn(BATCH, length, n_items, generator=generator) for _ in range(2 * N_SEQUENCES // BATCH)]
    for part in tokens:
        part.mul_(3).exp_().div_(part.sum(dim=2, keepdim=True)).requires_grad_()
    real = torch.randint(n_items, (32, length + 1), generator=generator)

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        k = 2 * (step % (len(tokens) // 2))
        return tokens[k], tokens[k + 1]

    def outer(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        states = student.states(parameters, real[:, :-1])
        scores = states @ student.table(parameters).T
        return torch.nn.functional.cross_entropy(scores.flatten(0, 1), real[:, 1:].flatten())

    train = {"unrolled": unrolled, "torchopt": torchopt}.get(way, adjoint)

    def whole(n_steps: int) -> float:
        parameters = {name: value.requires_grad_() for name, value in student.draw(0).items()}
        end = train(student, parameters, tokens, batch, n_steps, way)
        found = torch.autograd.grad(outer(end), tokens, allow_unused=True)
        return float(torch.stack([part.norm() for part in found if part is not None]).norm())

    return whole


def large(way: str, n_items: int) -> dict[str, float]:
    """CPU-seconds, MiB at the peak above the start, and the norm of the gradient, of latent sequences."""
    import torch

    from distill_at_scale.distillation import soft_tokens
    from distill_at_scale.distillation.farzi import InnerLoop, LatentSequences, run_inner_loop
    from distill_at_scale.distillation.students import create_student

    torch.set_num_threads(1)
    soft_tokens.CHUNKED_ABOVE = 0 if way == "chunked" else n_items

    def prepared(n_items: int, length: int) -> Callable[[], float]:
        student = create_student("sasrec", n_items, {"dim": 32, "blocks": 1, "length": length, "dropout": 0.0})
        generator = torch.Generator().manual_seed(0)
        inputs, targets = (torch.randn(BATCH, length, 65, generator=generator).requires_grad_() for _ in range(2))
        decoder = (0.3 * torch.randn(65, n_items, generator=generator)).requires_grad_()
        latent, parameters = LatentSequences(inputs, decoder, targets), student.draw(0)

        def whole() -> float:
            end, _ = run_inner_loop(student, latent, InnerLoop(BATCH, 0.02), parameters, None, 2)
            aim = torch.stack([value.square().sum() for value in end.values()]).sum()
            found = torch.autograd.grad(aim, latent.tensors)
            return float(torch.stack([part.norm() for part in found]).norm())

        return whole

    prepared(20, 3)()
    whole = prepared(n_items, 50)
    resident, clock = resident_mib(), time.process_time()
    norm = whole()
    spent = time.process_time() - clock
    return {"cpu_seconds": round(spent, 2), "peak_mib": round(peak_mib() - resident, 1), "norm": norm}


def adjoint(student: Any, parameters: Any, tokens: Any, batch: Any, n_steps: int, way: str) -> Any:
    """This project's."""
    import torch

    from distill_at_scale.distillation.adjoint import Adam, EveryKth, EveryState, Snapshots, unroll

    keep = {"adjoint, every state": EveryState(), "adjoint, every 14th": EveryKth(14)}.get(way)
    keep = keep or Snapshots.logarithmic(n_steps)

    def loss(values: Any, data: Any, step: int) -> torch.Tensor:
        k = 2 * (step % (len(data) // 2))
        return student.soft_loss(values, data[k], data[k + 1])

    rates = torch.full((n_steps,), RATE)
    return unroll(loss, parameters, tokens, Adam(eps_root=1e-12), rates, keep=keep)[0]


def unrolled(student: Any, parameters: Any, tokens: Any, batch: Any, n_steps: int, way: str) -> Any:
    """Autograd through every step, each one's state and graph kept; all parameters as one vector, as the adjoint."""
    import torch

    from distill_at_scale.distillation.adjoint.trees import as_vector

    theta, views = as_vector(parameters)
    m, v = torch.zeros_like(theta), torch.zeros_like(theta)
    for t in range(1, n_steps + 1):
        (g,) = torch.autograd.grad(student.soft_loss(views(theta), *batch(t - 1)), theta, create_graph=True)
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        theta = theta - RATE * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t) + 1e-12).sqrt() + 1e-8)
    return views(theta)


def torchopt(student: Any, parameters: Any, tokens: Any, batch: Any, n_steps: int, way: str) -> Any:
    """TorchOpt's differentiable Adam."""
    import torch
    import torchopt

    module = torch.nn.Module()
    for k, value in enumerate(parameters.values()):
        module.register_parameter(f"p{k}", torch.nn.Parameter(value.detach()))

    def values() -> dict[str, torch.Tensor]:
        return {name: getattr(module, f"p{k}") for k, name in enumerate(parameters)}

    optimizer = torchopt.MetaAdam(module, lr=RATE, eps_root=1e-12)
    for step in range(n_steps):
        optimizer.step(student.soft_loss(values(), *batch(step)))
    return values()


def peak_mib() -> float:
    """The process's largest resident memory; ru_maxrss is in KiB on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident_mib() -> float:
    """The process's resident memory."""
    import psutil

    return psutil.Process().memory_info().rss / 2**20


if __name__ == "__main__":
    sys.exit(main())
