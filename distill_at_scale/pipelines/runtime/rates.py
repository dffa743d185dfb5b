"""What the stages of verbs cost where `jobs/measure_rates.py` measured them, and how that scales."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill_at_scale.models.kernel.solvers import Speed

_FILE = "rates.json"


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


class Rates:
    """Figures of one machine; plans for other machines assume its speed."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content
        self.machine: str = content["machine"]
        self.start_s: float = content["start_s"]
        """Seconds to start Ray on a machine."""

    @property
    def process_bytes(self) -> float:
        """Bytes of a worker's process before it reads rows."""
        peaks = [one["peak_mib"] for one in self._content["prepare/big"]["stages"] if one["peak_mib"]]
        return float(min(peaks)) * 2**20

    def base_bytes(self, key: str, counted: Callable[[dict[str, Any]], float]) -> float:
        """Returns the bytes of a process beyond those that are counted, from the peak of a run; without one, those of a
        process that has loaded torch.

        Args:
            key: Key of the run.
            counted: The counted bytes of a run, from its record.
        """
        run = self._content.get(key)
        if run is None or "stages" not in run:
            run = self._content["evaluate/mf"]
            return float(max(one["peak_mib"] for one in run["stages"])) * 2**20
        peak = max(one["peak_mib"] for one in run["stages"]) * 2**20
        return max(peak - counted(run), self.process_bytes)

    @property
    def speed(self) -> Speed:
        """Throughput of kernels."""
        from distill_at_scale.models.kernel.solvers import Speed

        measured = self._content["fit/infinite_ae"]
        return Speed(measured["flops"], measured["elements"])

    def ratio(self, key: str, name: str, *by: str) -> float:
        """Returns a figure of a run per product of its sizes, such as the bytes of a row."""
        run = self._content[key]
        size = 1.0
        for one in by:
            size *= run[one]
        return float(run[name]) / size

    def stages(self, key: str) -> list[StageRate] | None:
        """Returns the stages of a run, in order; None if it was not measured."""
        run = self._content.get(key)
        if run is None:
            return None
        found = []
        for one in run["stages"]:
            above = max(one["peak_mib"] * 2**20 - self.process_bytes, 0.0)
            rows = run["rows"]
            # A stage of several passes has a task for each shard and pass.
            parts = min(one["tasks"], run["shards"]) if one["stage"].startswith("learn ") else one["tasks"]
            found.append(StageRate(one["stage"], one["cpu_s"] / rows, above * max(parts, 1) / rows))
        return found

    def scaled(
        self,
        key: str,
        work: Callable[[dict[str, Any]], float],
        wanted: float,
        fixed: Callable[[dict[str, Any]], float] = lambda run: 1.0,
    ) -> float | None:
        """Returns the CPU-seconds of so much work, by the line through the runs of two sizes; None if not measured.

        Args:
            key: Key of the smaller run; that of the larger one ends with ``/larger``.
            work: The work of a run, in any unit, from its record.
            wanted: The work to predict for.
            fixed: Factor of the part that does not depend on this work, from the record of the smaller run.
        """
        run = self._content.get(key)
        if run is None:
            return None
        spent, size = _cpu_s(run), work(run)
        larger = self._content.get(f"{key}/larger")
        if larger is None or work(larger) <= size:
            return spent * wanted / size
        slope = max(_cpu_s(larger) - spent, 0.0) / (work(larger) - size)
        return max(spent - slope * size, 0.0) * fixed(run) + slope * wanted


def _cpu_s(run: dict[str, Any]) -> float:
    return float(sum(one["cpu_s"] for one in run["stages"]))


@functools.cache
def rates() -> Rates:
    """Returns the rates that come with the package."""
    text = resources.files(__package__).joinpath(_FILE).read_text()
    return Rates(json.loads(text))
