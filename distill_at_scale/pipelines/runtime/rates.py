"""What the stages of verbs cost where `jobs/measure_rates.py` measured them, and how that scales."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from typing import TYPE_CHECKING, Any

from distill_at_scale.pipelines.runtime.run_record import StageRecord

if TYPE_CHECKING:
    from distill_at_scale.models.kernel.solvers import Speed

_FILE = "rates.json"
_WITH_TORCH = ("evaluate/mf", "fit/als", "fit/bias", "distill/sketch")


@dataclass(frozen=True)
class StageRate:
    """A measured stage.

    Attributes:
        name: Name of the stage.
        row_cpu_s: CPU-seconds of a row.
        row_bytes: Peak bytes of a row of a task, above those of the process.
    """

    name: str
    row_cpu_s: float
    row_bytes: float


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """A run of a verb whose costs were measured; sizes that it does not have are 0."""

    stages: tuple[StageRecord, ...]
    rows: int = 0
    train_rows: int = 0
    users: int = 0
    items: int = 0
    shards: int = 0
    bytes: int = 0
    """Bytes of the dataset or log."""
    work_bytes: int = 0
    """Bytes of temporary files at their peak."""
    number: int = 0
    """Number of synthetic users or sequences."""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cpu_s(self) -> float:
        """CPU-seconds of all stages."""
        return float(sum(stage.cpu_s for stage in self.stages))

    @property
    def peak_bytes(self) -> float:
        """Peak memory of the largest process."""
        return max(stage.peak_mib for stage in self.stages) * 2**20

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> MeasuredRun:
        """Returns a run of ``rates.json``."""
        known = {one.name: content[one.name] for one in fields(MeasuredRun) if one.name in content}
        return MeasuredRun(**{**known, "stages": tuple(map(StageRecord.from_json, content["stages"]))})


class Rates:
    """Figures of one machine; plans for other machines assume its speed."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        """``content`` is that of ``rates.json``."""
        self._solvers: Mapping[str, float] = content.get("fit/infinite_ae", {})
        self._runs = {
            key: MeasuredRun.from_json(run) for key, run in content.items() if isinstance(run, dict) and "stages" in run
        }
        self.machine: str = content["machine"]
        self._cores = int(content.get("cores", 1))
        self.start_s: float = content["start_s"]
        """Seconds of a command that has hardly any work: it starts Ray on a machine, and ends."""
        self.load_s: float = content["load_s"]
        """Seconds that a worker takes to load torch."""

    @property
    def process_bytes(self) -> float:
        """Bytes of a worker's process before it reads rows: of the smallest that was measured."""
        return min(run.peak_bytes for run in self._runs.values() if run.peak_bytes)

    @property
    def torch_bytes(self) -> float:
        """Bytes of a worker's process that has loaded torch, and hardly more."""
        return min(self._runs[key].peak_bytes for key in _WITH_TORCH)

    def base_bytes(self, key: str, counted: Callable[[MeasuredRun], float]) -> float:
        """Returns the bytes of a process beyond those that are counted, from the peak of a run; without one, those of a
        process that has loaded torch.

        Args:
            key: Key of the run.
            counted: The counted bytes of a run.
        """
        run = self._runs.get(key)
        return self.torch_bytes if run is None else max(run.peak_bytes - counted(run), self.process_bytes)

    @property
    def speed(self) -> Speed:
        """Throughput of kernels."""
        from distill_at_scale.models.kernel.solvers import Speed

        return Speed(self._solvers["flops"], self._solvers["elements"])

    def ratio(self, key: str, name: str, *by: str) -> float:
        """Returns a figure of a run per product of its sizes, such as the bytes of a row."""
        run, size = self._runs[key], 1.0
        for one in by:
            size *= getattr(run, one)
        return float(getattr(run, name)) / size

    def parallel_share(self, key: str) -> float:
        """Returns the share of a run's work that all cores did, by its CPU-seconds and seconds (Amdahl's law); that of
        the larger run if there are two, and 1 if none was measured."""
        run = self._runs.get(f"{key}/larger") or self._runs.get(key)
        if run is None or self._cores == 1 or not run.cpu_s:
            return 1.0
        wall_s = sum(stage.wall_s for stage in run.stages)
        return min(max((1 - wall_s / run.cpu_s) / (1 - 1 / self._cores), 0.0), 1.0)

    def seconds_a_row(self, key: str) -> float | None:
        """Returns the CPU-seconds of a train row in all stages of a run; None if it was not measured."""
        run = self._runs.get(key)
        return None if run is None else run.cpu_s / run.train_rows

    def stages(self, key: str) -> list[StageRate] | None:
        """Returns the stages of a run, in order; None if it was not measured."""
        run = self._runs.get(key)
        if run is None:
            return None
        found = []
        for one in run.stages:
            above = max(one.peak_mib * 2**20 - self.process_bytes, 0.0)
            # A stage of several passes has a task for each shard and pass.
            parts = min(one.tasks, run.shards) if one.stage.startswith("learn ") else one.tasks
            found.append(StageRate(one.stage, one.cpu_s / run.rows, above * max(parts, 1) / run.rows))
        return found

    def scaled(
        self,
        key: str,
        work: Callable[[MeasuredRun], float],
        wanted: float,
        also: tuple[Callable[[MeasuredRun], float], float] | None = None,
        times: int = 1,
        without: Callable[[MeasuredRun], float] | None = None,
    ) -> float | None:
        """Returns the CPU-seconds of so much work, by the line through the runs of two sizes; None if not measured.

        Args:
            key: Key of the smaller run; that of the larger one ends with ``/larger``.
            work: The work of a run, in any unit.
            wanted: The work to predict for.
            also: Work of a second kind, and how much of it to predict for, by the line through the smaller run and
                one whose key ends with ``/judged``.
            times: How often the part is paid that depends on neither.
            without: CPU-seconds of a run that are of other work.
        """
        run = self._runs.get(key)
        if run is None:
            return None

        def spent_by(one: MeasuredRun) -> float:
            return one.cpu_s if without is None else max(one.cpu_s - without(one), 0.0)

        spent, size = spent_by(run), work(run)
        larger = self._runs.get(f"{key}/larger")
        if larger is None or work(larger) <= size:
            return spent * wanted / size
        slope = max(spent_by(larger) - spent, 0.0) / (work(larger) - size)
        rest, more = spent - slope * size, 0.0
        judged = self._runs.get(f"{key}/judged")
        if also is not None and judged is not None:
            other, asked = also
            rate = max(judged.cpu_s - spent, 0.0) / (other(judged) - other(run))
            rest, more = rest - rate * other(run), rate * asked
        return times * max(rest, 0.0) + slope * wanted + more


@functools.cache
def rates() -> Rates:
    """Returns the rates that come with the package."""
    text = resources.files(__package__).joinpath(_FILE).read_text()
    return Rates(json.loads(text))
