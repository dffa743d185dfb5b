"""Distill-CF in factors on a generated log of a large catalogue: time of a step, memory, and numbers that workers sum.

    python jobs/bench_factored.py --output jobs/results/factored.json [--items 1000000] [--users 1000000]

Users take items of falling popularity, mostly from one of 100 groups. One process without Ray; the items' factor is
fixed, the default for catalogues of this size. Figures of quality are those of bench_distill.py.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

GROUPS = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--rows-each", type=int, default=50)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--synthetic", type=int, default=500, help="synthetic users")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    found = {"command": " ".join(["python", "jobs/bench_factored.py", *sys.argv[1:]]), **bench(options)}
    print(json.dumps(found, indent=1))
    if options.output:
        options.output.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def bench(options: argparse.Namespace) -> dict[str, Any]:
    """One run; figures of its parts."""
    from distill_at_scale.distillation.distill_cf import DistillCF
    from distill_at_scale.distillation.distill_cf_config import DistillCFConfig
    from distill_at_scale.distillation.users import RealUsers
    from distill_at_scale.models.training.communicator import Communicator
    from distill_at_scale.models.training.sources import MemorySource

    summed: list[int] = []

    class Counting(Communicator):
        """Notes the bytes of what workers would sum."""

        def all_reduce(self, tensor: torch.Tensor) -> None:
            summed.append(tensor.numel() * tensor.element_size())

    train = made_log(options.users, options.items, options.rows_each)
    heldout = made_log(options.users, options.items, 1)
    users = RealUsers(MemorySource(train, heldout), Counting(), validation_users=500)
    rows = {"rows": train.n_rows, "users": options.users, "items": options.items}
    del train, heldout
    read_mib = peak_mib()
    config = DistillCFConfig(
        users=options.synthetic, rank=options.rank, steps=options.steps, validate_every=options.steps, lam=1.0
    )
    clock, wall = time.process_time(), time.time()
    loop = DistillCF(config, users)
    start = {"cpu_s": round(time.process_time() - clock, 1), "wall_s": round(time.time() - wall, 1)}
    start_mib, spent = peak_mib(), []
    for _ in range(options.steps):
        clock, before = time.process_time(), len(summed)
        loop._learn()
        spent.append(time.process_time() - clock)
    bytes_a_step = sum(summed[before:])
    clock = time.process_time()
    loop._validate()
    return {
        **rows,
        "rank": options.rank,
        "synthetic": options.synthetic,
        "start": start,
        "step_cpu_s": round(float(np.median(spent)), 3),
        "validation_of_500_cpu_s": round(time.process_time() - clock, 1),
        "summed_mb_a_step": round(bytes_a_step / 1e6, 3),
        "peak_mib": {"rows read": read_mib, "start made": start_mib, "end": peak_mib()},
    }


def made_log(n_users: int, n_items: int, n: int) -> Any:
    """Rows of users: four of five from the user's group of items, all of falling popularity."""
    from distill_at_scale.data.interactions import Interactions

    rng = np.random.default_rng(n)
    items = np.empty(n_users * n, dtype=np.int32)
    block = 100_000
    for first in range(0, n_users, block):
        users = np.arange(first, min(first + block, n_users))
        drawn = (n_items * rng.random((len(users), n)) ** 3).astype(np.int64)
        own = drawn // GROUPS * GROUPS + (users % GROUPS)[:, None]
        chosen = np.where(rng.random(drawn.shape) < 0.8, own, drawn).clip(0, n_items - 1)
        items[first * n : (first + len(users)) * n] = np.sort(chosen, axis=1).astype(np.int32).ravel()
    return Interactions(np.arange(n_users), np.arange(n_users + 1, dtype=np.int64) * n, items, n_items)


def peak_mib() -> int:
    """Peak memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    sys.exit(main())
