"""Nodes that a cluster lost lately and that may come back: a machine restarts, or somebody starts another."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BACK_S = 600.0
"""How long a node is expected back."""


@dataclass(frozen=True)
class NodeRecord:
    """What the cluster's head remembers of a node.

    Attributes:
        shape: items of its resources, without memory, in which two starts of one machine differ.
        start, end: times, in seconds since 1970; the end of a live one is None.
        given_back: whether it ended as it was told to.
    """

    shape: tuple[tuple[str, float], ...]
    start: float
    end: float | None
    given_back: bool = False


def lost_nodes() -> list[Mapping[str, float]]:
    """Resources of the nodes that are expected back. Needs a Ray session."""
    import ray._private.worker

    # Ray's own: its public API tells no resources of nodes that are gone.
    worker: Any = ray._private.worker.global_worker
    known: list[Any] = list(worker.gcs_client.get_all_node_info().values())
    records = [
        NodeRecord(
            tuple((name, float(one.resources_total[name])) for name in ("CPU", "GPU") if name in one.resources_total),
            one.start_time_ms / 1e3,
            one.end_time_ms / 1e3 if one.state == type(one).DEAD else None,
            one.death_info.reason in _given_back(type(one.death_info)),
        )
        for one in known
    ]
    return [dict(one) for one in still_lost(records, time.time())]


def _given_back(reason: Any) -> tuple[int, int]:
    return reason.EXPECTED_TERMINATION, reason.AUTOSCALER_DRAIN_IDLE


def still_lost(records: Sequence[NodeRecord], now: float) -> list[tuple[tuple[str, float], ...]]:
    """Shapes of the nodes that were lost within :data:`BACK_S`, less those that came since."""
    events = [(one.start, -1, one.shape) for one in records]
    events += [
        (one.end, 1, one.shape)
        for one in records
        if one.end is not None and not one.given_back and one.end > now - BACK_S
    ]
    found: Counter[tuple[tuple[str, float], ...]] = Counter()
    for _, change, shape in sorted(events):
        found[shape] = max(0, found[shape] + change)
    return list(found.elements())
