"""prepare, written once more in plain Python from its definitions: the slow twin of the pipeline."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np

_WORD = 1 << 64
_GOLDEN = 0x9E3779B97F4A7C15
SHORTEST = {"leave_2": 3, "20_percent_hist": 3, "temporal": 1, "column": 1}
NAMES = ("train", "validation", "test")


def mix(z: int) -> int:
    """SplitMix64's finaliser."""
    z = (z + _GOLDEN) % _WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % _WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % _WORD
    return z ^ (z >> 31)


def hash_id(value: int | str) -> int:
    """Of one id: an integer mixed, a string as the polynomial of its bytes."""
    if isinstance(value, int):
        return mix(value % _WORD)
    content, total, power = value.encode(), 0, 1
    for byte in content:
        power = power * 0x9FB21C651E98DF25 % _WORD
        total += (byte + 1) * power
    return mix((total + len(content) * _GOLDEN) % _WORD)


def combine(*parts: int) -> int:
    """Hash of several numbers, in order."""
    state = 0
    for part in parts:
        state = mix((state * _GOLDEN + mix(part)) % _WORD)
    return state


def stream(name: str, seed: int) -> int:
    """What the random stream of that name begins with."""
    return combine(seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")) >> 1


def share(value: int, n: int) -> int:
    """Which of n ranges of the hash space."""
    return ((value >> 32) * n) >> 32


def _least(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


class NothingLeft(Exception):
    """No rows, or no train rows: prepare must refuse."""


def naive_prepare(
    rows: Iterable[tuple[Any, Any, float | None, int | None, int | None]],
    *,
    n_shards: int,
    split: str = "leave_2",
    seed: int = 0,
    min_user: int = 1,
    min_item: int = 1,
    duplicates: str = "last",
    min_rating: float | None = None,
    validation_share: float = 0.1,
    test_share: float = 0.1,
) -> dict[str, Any]:
    """Rows are (user id, item id, rating, milliseconds, split code); None where the log has no such column.

    Returns what a Dataset says: n_users, n_items, n_rows, splits, dropped, items [(id, train count)], shards
    [{"rows": [(user, item, rating, time, code)], "users": [(user, id, train, validation, test)]}].
    """
    left = list(rows)
    dropped = dict.fromkeys(("duplicates", "split", "min_rating", "min_item", "min_user", "short_history"), 0)

    def rank(row: tuple) -> tuple:
        user, item, rating, time, code = row
        draw = combine(stream("prepare/ties", seed), hash_id(user), hash_id(item))
        return (time or 0, draw >> 1, _least(item), rating or 0.0, code or 0)

    def keep(filter_: str, kept: list) -> list:
        dropped[filter_] += len(left) - len(kept)
        return kept

    left = keep("split", [row for row in left if row[4] is None or row[4] >= 0])
    if duplicates != "all":
        pairs = defaultdict(list)
        for row in left:
            pairs[row[0], row[1]].append(row)
        choose = max if duplicates == "last" else min
        left = keep("duplicates", [choose(group, key=rank) for group in pairs.values()])
    if min_rating is not None:
        left = keep("min_rating", [row for row in left if (row[2] or 0.0) >= float(np.float32(min_rating))])

    short = SHORTEST[split]
    core = left
    while True:
        users, items = Counter(row[0] for row in core), Counter(row[1] for row in core)
        smaller = [r for r in core if users[r[0]] >= max(min_user, short) and items[r[1]] >= min_item]
        if len(smaller) == len(core):
            break
        core = smaller
    if not core:
        raise NothingLeft
    kept_items = {row[1] for row in core}
    if min_item > 1:
        left = keep("min_item", [row for row in left if row[1] in kept_items])
    users = Counter(row[0] for row in left)
    left = keep("min_user", [row for row in left if users[row[0]] >= min_user])
    left = keep("short_history", [row for row in left if users[row[0]] >= short])
    assert sorted(left, key=repr) == sorted(core, key=repr)

    item_ids = sorted(kept_items, key=_least)
    item_number = {item: number for number, item in enumerate(item_ids)}
    histories = defaultdict(list)
    for row in left:
        histories[row[0]].append(row)
    for history in histories.values():
        history.sort(key=rank)
    times = sorted(row[3] or 0 for row in left)
    n = len(times)
    validation_from = times[int(n * (1 - Decimal(str(test_share)) - Decimal(str(validation_share))))]
    test_from = times[int(n * (1 - Decimal(str(test_share))))]

    def codes(history: list) -> list[int]:
        m = len(history)
        if split == "column":
            return [row[4] for row in history]
        if split == "leave_2":
            return [0] * (m - 2) + [1, 2]
        if split == "temporal":
            return [(row[3] >= validation_from) + (row[3] >= test_from) for row in history]
        begin = stream("splits/20_percent_hist", seed)
        keys = [(combine(begin, hash_id(row[0]), hash_id(row[1])), k) for k, row in enumerate(history)]
        found = [0] * m
        for place, (_, k) in enumerate(sorted(keys)):
            found[k] = 2 if place == 0 or 10 * place >= 9 * m else 1 if 10 * place >= 8 * m else 0
        return found

    train_counts: Counter = Counter()
    shards, number = [], itertools.count()
    for bucket in range(n_shards):
        shard: dict[str, list] = {"rows": [], "users": []}
        for user_id in sorted((u for u in histories if share(hash_id(u), n_shards) == bucket), key=_least):
            user, history = next(number), histories[user_id]
            code = codes(history)
            per_split = Counter(code)
            shard["users"].append((user, user_id, per_split[0], per_split[1], per_split[2]))
            for (_, item, rating, time, _), c in zip(history, code):
                train_counts[item] += c == 0
                shard["rows"].append((user, item_number[item], 1.0 if rating is None else rating, time or 0, c))
        if shard["users"]:
            shards.append(shard)
    total = Counter(row[4] for shard in shards for row in shard["rows"])
    if not total[0]:
        raise NothingLeft
    return {
        "n_users": len(histories),
        "n_items": len(item_ids),
        "n_rows": len(left),
        "splits": {name: total[k] for k, name in enumerate(NAMES)},
        "dropped": dropped,
        "items": [(item, train_counts[item]) for item in item_ids],
        "shards": shards,
    }
