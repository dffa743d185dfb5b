"""What the system tests share: a small log, and `das` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np


def blocks_csv(n_users: int = 120, n_items: int = 40, seed: int = 0) -> bytes:
    """A log of two groups of users, each with its own half of the items: easy to rank for any model that learns."""
    rng = np.random.default_rng(seed)
    lines = ["user_id,item_id,rating,timestamp"]
    for user in range(n_users):
        half = rng.permutation(n_items // 2)[:12] + (user % 2) * n_items // 2
        lines += [f"u{user},i{item},{rng.integers(1, 6)},{1_500_000_000 + 60 * k}" for k, item in enumerate(half)]
    return ("\n".join(lines) + "\n").encode()


def das_command(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "distill_at_scale.cli", *arguments]
    return subprocess.run(
        command, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=300, check=False
    )


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error: ")]
