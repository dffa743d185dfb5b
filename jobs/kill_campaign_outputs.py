"""What `kill_campaign.py` reads and compares: a small log, and the files of an output without what is measured."""

from __future__ import annotations

import hashlib
import json
import random
import re
from pathlib import Path
from typing import Any

import polars as pl

MEASURED = re.compile(r"(.+_)?(s|seconds|mib)|started")
"""Fields of JSON files that no two runs have in common: times and memory."""
HOW_IT_WENT = re.compile(r"(.*/)?(run\.json|sweep\.json|tensorboard(/.*)?)")
"""Files that tell of the run itself, as of parts that an earlier one had finished; and sweep.json, which is made of the
trials' records and table, with their costs."""


def write_log(folder: Path, users: int = 120, items: int = 40) -> None:
    """Four CSV files of two groups of users, each with its own half of the items, and some rows that are bad."""
    chance = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"u{user},i{item},{chance.randint(1, 5)},{1_500_000_000 + 60 * place}"
        for user in range(users)
        for place, item in enumerate(chance.sample(range(user % 2 * items // 2, (user % 2 + 1) * items // 2), 12))
    ]
    chance.shuffle(lines)
    for part in range(4):
        rows = [*lines[part::4], "u1,,3,1600000000", "u2,i3,nan,1600000000"]
        (folder / f"part-{part}.csv").write_text("\n".join(["user_id,item_id,rating,timestamp", *rows]) + "\n")


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file below a folder by its path; of a folder itself: nothing."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if HOW_IT_WENT.fullmatch(name):
            continue
        if path.is_dir():
            found[name] = ""
            continue
        content = path.read_bytes()
        if path.suffix == ".json":
            content = json.dumps(_not_measured(json.loads(content)), sort_keys=True).encode()
        elif path.name == "trials.parquet":
            table = pl.read_parquet(path)
            content = table.select(name for name in table.columns if not MEASURED.fullmatch(name)).write_json().encode()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Paths that only one of two outputs has, or whose content differs."""
    return sorted(
        f"{'missing' if path not in other else 'left over' if path not in one else 'differs'}: {path}"
        for path in one.keys() | other.keys()
        if one.get(path) != other.get(path)
    )


def _not_measured(content: Any) -> Any:
    if isinstance(content, list):
        return [_not_measured(value) for value in content]
    if not isinstance(content, dict):
        return content
    left = {name: _not_measured(value) for name, value in content.items() if not MEASURED.fullmatch(name)}
    # A checksum over times differs as they do.
    return {name: value for name, value in left.items() if name != "checksum" or left == content}
