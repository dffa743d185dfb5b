"""What `kill_campaign.py` reads and compares: a small log, and the files of an output without what is measured."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

MEASURED = {"wall_s", "cpu_s", "peak_mib", "started"}
"""Fields of JSON files that no two runs have in common: times and memory."""
HOW_IT_WENT = {"run.json"}
"""Files that tell of the run itself, as of parts that an earlier one had finished."""


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
        if path.is_dir() or path.name in HOW_IT_WENT:
            found[name] = ""
            continue
        content = path.read_bytes()
        if path.suffix == ".json":
            content = json.dumps(_not_measured(json.loads(content)), sort_keys=True).encode()
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
    if isinstance(content, dict):
        return {name: _not_measured(value) for name, value in content.items() if name not in MEASURED}
    if isinstance(content, list):
        return [_not_measured(value) for value in content]
    return content
