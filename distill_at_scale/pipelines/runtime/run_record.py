"""The record of a run, which every verb writes beside its result."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import resource
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import distill_at_scale
from distill_at_scale.data import recorded, storage
from distill_at_scale.errors import DamagedFileError
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


@dataclass(frozen=True, slots=True)
class TaskCost:
    """Cost of one task of a stage."""

    cpu_s: float
    peak_mib: float
    """Peak memory of the task's process so far, in MiB."""
    reused: bool = False
    """Whether an earlier run had finished the part."""

    @staticmethod
    def since(cpu: float) -> TaskCost:
        """Returns the cost of this process since :func:`time.process_time` was ``cpu``."""
        return TaskCost(time.process_time() - cpu, peak_mib())


@dataclass(frozen=True, slots=True)
class StageRecord:
    """Costs of a finished stage; its fields are those of the JSON object in ``run.json``."""

    stage: str
    """Name of the stage."""
    tasks: int
    reused: int
    """Number of parts that an earlier run had finished."""
    wall_s: float
    cpu_s: float
    """CPU-seconds of all tasks."""
    peak_mib: float
    """Peak memory of the largest process, in MiB."""

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> StageRecord:
        """Returns the record of a stage in ``run.json``."""
        return StageRecord(**{one.name: content[one.name] for one in fields(StageRecord)})


@dataclass
class RunRecord:
    """Collects times and memory while a verb runs.

    Attributes:
        verb: Verb of the run.
        config: its settings.
        trained_on: Fingerprints of the datasets whose held-out rows the run did not train on; empty: none are known.
    """

    verb: str
    config: dict[str, Any]
    stages: list[StageRecord] = field(default_factory=list)
    started: float = field(default_factory=time.time)
    trained_on: tuple[str, ...] = ()

    def add(self, name: str, seconds: float, tasks: Sequence[TaskCost]) -> None:
        """Adds a finished stage."""
        self.stages.append(
            StageRecord(
                stage=name,
                tasks=len(tasks),
                reused=sum(task.reused for task in tasks),
                wall_s=round(seconds, 3),
                cpu_s=round(sum(task.cpu_s for task in tasks), 3),
                peak_mib=round(max((task.peak_mib for task in tasks), default=0.0), 1),
            )
        )

    def as_dict(self) -> dict[str, Any]:
        """Returns the record so far, for JSON."""
        return {
            "verb": self.verb,
            "config": redacted(self.config),
            **({"trained_on": list(self.trained_on)} if self.trained_on else {}),
            "versions": versions(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
            "wall_s": round(time.time() - self.started, 3),
            "driver_peak_mib": round(peak_mib(), 1),
            "worker_peak_mib": max((stage.peak_mib for stage in self.stages), default=0.0),
            "reused_parts": sum(stage.reused for stage in self.stages),
            "stages": [asdict(stage) for stage in self.stages],
        }

    def write(self, uri: str) -> None:
        """Writes ``run.json`` into the folder ``uri``."""
        recorded.write_json(storage.join(uri, NAME), self.as_dict())


def read_trained_on(uri: str) -> tuple[str, ...]:
    """Returns :attr:`RunRecord.trained_on` of the run that made the folder ``uri``; empty if that is not recorded."""
    try:
        content = recorded.read_json(storage.join(uri, NAME), "")
    except (FileNotFoundError, DamagedFileError):
        return ()
    return tuple(map(str, content.get("trained_on", ())))


def read_stages(uri: str) -> list[StageRecord]:
    """Reads the stages of the run that made the folder ``uri``.

    Raises:
        DamagedFileError: The file is missing or damaged.
    """
    file, fix = storage.join(uri, NAME), "run the command that made the folder again, with --overwrite"
    with recorded.missing_is_damage(file, fix):
        content = recorded.read_json(file, fix)
    with recorded.parsing(file, fix):
        return [StageRecord.from_json(stage) for stage in content["stages"]]
