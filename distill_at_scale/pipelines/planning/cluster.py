"""The cluster that a plan is made for: nodes that were named, or this machine; nothing is started to look at it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import psutil

from distill_at_scale.errors import SettingError
from distill_at_scale.pipelines.runtime.resources import SHARE_OF_MEMORY, Capacity, Nodes

# Share of a node's memory that a task has which is alone on it: verbs refuse what exceeds the memory that is free.
_SHARE_OF_ONE = 0.85
_SHAPE = re.compile(r"(\d+)x(\d+)x(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Cluster:
    """Nodes of a plan.

    Attributes:
        capacity: The nodes.
        name: As messages name them.
    """

    capacity: Capacity
    name: str

    @classmethod
    def named(cls, shapes: str | None, address: str | None = None) -> Cluster:
        """Returns nodes such as ``8x16x64``, 8 nodes of 16 CPUs and 64 GiB each, several shapes joined by commas; by
        default this machine.

        Raises:
            SettingError: The nodes are not of that form, or not given though the verb is to run elsewhere.
        """
        if shapes is None:
            if address not in (None, "auto", "local"):
                raise SettingError("--plan starts and asks nothing; name the nodes of the cluster by --plan-nodes.")
            cpus = os.cpu_count() or 1
            memory = psutil.virtual_memory().total
            nodes = Nodes(cpus, 0, memory, 1, 1)
            return cls(Capacity((nodes,)), f"this machine ({cpus} CPUs, {memory / 2**30:.0f} GiB)")
        found = []
        for shape in shapes.split(","):
            match = _SHAPE.fullmatch(shape.strip())
            if match is None or "0" in (match[1], match[2]) or not float(match[3]):
                raise SettingError(
                    f"--plan-nodes '{shape}' is not NODESxCPUSxGIB, such as 8x16x64; commas join several."
                )
            count = int(match[1])
            found.append(Nodes(int(match[2]), 0, float(match[3]) * 2**30, count, count))
        said = ", ".join(f"{one.up} × ({one.cpus} CPUs, {one.memory / 2**30:g} GiB)" for one in found)
        return cls(Capacity(tuple(found)), said)

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return sum(one.up for one in self.capacity.nodes)

    @property
    def largest_memory(self) -> float:
        """Bytes of the node with the most memory."""
        return max(one.memory for one in self.capacity.nodes)

    def at_once(self, cpus: int, n_bytes: float) -> int:
        """Returns how many tasks with these CPUs and bytes run at the same time; 0 if no node holds one."""

        def held(memory: float) -> int:
            return int(SHARE_OF_MEMORY * memory // max(n_bytes, 1)) or int(n_bytes <= _SHARE_OF_ONE * memory)

        return sum(one.up * min(one.slots(cpus, 0), held(one.memory)) for one in self.capacity.nodes)
