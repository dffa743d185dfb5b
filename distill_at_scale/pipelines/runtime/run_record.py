"""The record of a run, which every verb writes beside its result."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import distill_at_scale
from distill_at_scale.data import recorded, storage
from distill_at_scale.uris import redacted

NAME = "run.json"


def versions() -> dict[str, str]:
    """Returns the versions of this package and of the packages on which its results may depend."""
    names = ("ray", "torch", "numpy", "scipy", "polars", "pyarrow")
    found = {name: _version(name) for name in names}
    return {"distill_at_scale": distill_at_scale.__version__, "python": platform.python_version(), **found}


@functools.cache
def _version(package: str) -> str:
    """Returns the version of an installed package, whose metadata take milliseconds to parse."""
    return importlib.metadata.version(package)


def made_with() -> dict[str, str]:
    """Returns the versions of the packages on which the bytes of a dataset depend, for its manifest."""
    found = versions()
    return {name: found[name] for name in ("distill_at_scale", "polars", "pyarrow")}


def total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sums of counts with the same name, as tasks report them."""
    sums: dict[str, int] = {}
    for one in counts:
        for name, n in one.items():
            sums[name] = sums.get(name, 0) + n
    return sums


def peak_mib() -> float:
    """Peak resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


@dataclass
class RunRecord:
    """Collects times and memory while a verb runs.

    Attributes:
        verb: Verb of the run.
        config: its settings.
    """

    verb: str
    config: dict[str, Any]
    stages: list[dict[str, Any]] = field(default_factory=list)
    started: float = field(default_factory=time.time)

    def add(self, name: str, seconds: float, tasks: list[dict[str, Any]]) -> None:
        """A finished stage; ``tasks`` tell ``cpu_s``, ``peak_mib`` and whether they were ``reused``."""
        self.stages.append(
            {
                "stage": name,
                "tasks": len(tasks),
                "reused": sum(bool(t.get("reused")) for t in tasks),
                "wall_s": round(seconds, 3),
                "cpu_s": round(sum(t["cpu_s"] for t in tasks), 3),
                "peak_mib": round(max((t["peak_mib"] for t in tasks), default=0.0), 1),
            }
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns the record so far, for JSON."""
        return {
            "verb": self.verb,
            "config": redacted(self.config),
            "versions": versions(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
            "wall_s": round(time.time() - self.started, 3),
            "driver_peak_mib": round(peak_mib(), 1),
            "worker_peak_mib": max((s["peak_mib"] for s in self.stages), default=0.0),
            "reused_parts": sum(s["reused"] for s in self.stages),
            "stages": self.stages,
        }

    def write(self, uri: str) -> None:
        """Writes ``run.json`` into the folder ``uri``."""
        recorded.write_json(storage.join(uri, NAME), self.as_dict())


def read(uri: str) -> dict[str, Any]:
    """Reads the record of the run that made the folder ``uri``.

    Raises:
        DamagedFileError: The file is missing or damaged.
    """
    file, fix = storage.join(uri, NAME), "run the command that made the folder again, with --overwrite"
    with recorded.missing_is_damage(file, fix):
        return recorded.read_json(file, fix)
