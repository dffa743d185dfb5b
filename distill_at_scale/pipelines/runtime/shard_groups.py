"""Which shards of a dataset each task of a pass over them does."""

from __future__ import annotations

from collections.abc import Sequence

ROWS_PER_TASK = 4 << 20
"""Most rows of a task of several shards. When its worker dies, another does all of them again."""


def shard_groups(rows: Sequence[int], tasks: int = 1, rows_per_task: int = ROWS_PER_TASK) -> list[list[int]]:
    """Divides the shards of a dataset into groups of neighbours with about the same number of rows.

    Args:
        rows: Number of rows of each shard.
        tasks: About how many groups keep the cluster busy. There are more where the rows of each would be more than
            ``rows_per_task``, and fewer where there are not as many shards.
        rows_per_task: Most rows of a group of several shards.
    """
    tasks = max(1, tasks, -(-sum(rows) // rows_per_task))
    if tasks >= len(rows):
        return [[shard] for shard in range(len(rows))]
    # A shard belongs to the group that its middle row falls into: those of equal shards are equal too.
    share, before = max(1, sum(rows)) / tasks, 0
    groups: list[list[int]] = []
    current, total = -1, 0
    for shard, here in enumerate(rows):
        group = int((before + here / 2) / share)
        if group != current or total + here > rows_per_task:
            groups.append([])
            current, total = group, 0
        groups[-1].append(shard)
        total += here
        before += here
    return groups
