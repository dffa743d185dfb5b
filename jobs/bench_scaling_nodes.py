"""Part `nodes` of `bench_scaling.py`: the real verbs on more and more nodes, with simulated work in their tasks."""

from __future__ import annotations

import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from local_cluster import Node, environment, prepare_folder, tagged

NODES = (1, 2, 4, 8)
SHARD_ROWS = 1_000_000
"""Rows of a file or shard whose work is simulated."""
PREPARED, SAMPLED, EVALUATED = 192, 192, 64
"""Files and shards of the logs of the three verbs."""
SAMPLER, PASSES = "density", 6
"""A sampler that learns in passes before it scores, and the passes of its measured rate."""
RATES = {"prepare": "prepare/big", "sample": f"sample/{SAMPLER}", "evaluate": "evaluate/ease/larger"}


class Slow:
    """A task's function that does its work, and then takes as long as it would with a million rows a shard."""

    def __init__(self, work: Callable[..., Any], seconds: Callable[[Any], float]) -> None:
        self.work, self.seconds = work, seconds

    def __call__(self, *arguments: Any) -> Any:
        done = self.work(*arguments)
        time.sleep(self.seconds(arguments))
        return done


class Simulation:
    """Puts :class:`Slow` around the functions that a verb gives to the engines; the engines stay as they are."""

    def __init__(self, verb: str, rows: Sequence[int] | None, shards: int) -> None:
        """``rows``: of each shard, so that a larger one takes longer; None: all alike."""
        from distill_at_scale.pipelines.runtime.rates import rates

        self.per_row = {stage.name.split(",")[0]: stage.row_cpu_s for stage in rates().stages(RATES[verb]) or []}
        self.verb, self.shards = verb, shards
        mean = None if rows is None else sum(rows) / len(rows)
        self.weights = None if rows is None or mean is None else [one / mean for one in rows]
        self.asleep = 0.0

    def seconds(self, stage: str) -> float:
        """Of one shard's part of a stage."""
        return self.per_row.get(stage.split(",")[0], 0.0) * SHARD_ROWS

    def __enter__(self) -> Simulation:
        from distill_at_scale.pipelines.runtime import map_reduce, tasks

        self._before: list[tuple[Any, str, Any]] = []
        self._replace("run_stage", tasks.run_stage, self._stage(tasks.run_stage))
        self._replace("run_merged", tasks.run_merged, self._stage(tasks.run_merged))
        learn = next((name for name in self.per_row if name.startswith("learn")), None)
        if learn is not None:
            # The rate is that of all passes.
            each, weights = self.seconds(learn) / PASSES, self.weights
            self._set(map_reduce, "_map", Slow(map_reduce._map, lambda given: each * _weight(given[2], weights)))
        return self

    def __exit__(self, *_: object) -> None:
        for module, name, value in reversed(self._before):
            setattr(module, name, value)

    def _set(self, module: Any, name: str, value: Any) -> None:
        self._before.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    def _replace(self, name: str, function: Any, by: Any) -> None:
        for module in [m for key, m in sys.modules.items() if key.startswith("distill_at_scale.pipelines")]:
            if getattr(module, name, None) is function:
                self._set(module, name, by)

    def _stage(self, engine: Callable[..., Any]) -> Callable[..., Any]:
        def run(record: Any, name: str, work: Any, items: Sequence[Any], *more: Any, **options: Any) -> Any:
            each, weights = self.seconds(name), self.weights
            if len(items) == 1 and self.shards > 1:  # one task for all, such as the end of a tree
                weights = None
            return engine(
                record, name, Slow(work, lambda given: each * _weight(given[0], weights)), items, *more, **options
            )

        return run


def _weight(item: Any, weights: Sequence[float] | None) -> float:
    """How many shards or files an item of a stage stands for."""
    parts = getattr(item, "buckets", getattr(item, "sources", item))
    if isinstance(parts, list):
        return sum(weights[part] for part in parts) if weights and isinstance(parts[0], int) else len(parts)
    return weights[item] if weights and isinstance(item, int) else 1.0


class Nodes:
    """A head without CPUs, and as many nodes of one CPU as are asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._head, self._nodes = folder, Node(folder, "head", cpus=0), list[Node]()

    def __enter__(self) -> Nodes:
        prepare_folder(self._folder)
        os.environ.update(environment(self._folder))
        self._head.start()
        self._head.wait()
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()
        for node in (*self._nodes, self._head):
            node.stop()
        for process in tagged(self._folder):
            if process.pid != os.getpid():
                process.kill()

    def grow(self, count: int) -> None:
        """Starts nodes until there are ``count``, with a worker on each that has imported everything."""
        import ray

        import distill_at_scale as das

        while len(self._nodes) < count:
            self._nodes.append(Node(self._folder, f"node-{len(self._nodes)}", self._head.address))
            self._nodes[-1].start()
            self._nodes[-1].wait()
        das.connect(self._head.address)
        while ray.cluster_resources().get("CPU", 0) < count:
            time.sleep(0.5)
        # Each holds its node's only CPU until all run.
        ray.get([ray.remote(_warm).remote() for _ in range(count)])


def _warm() -> None:
    import distill_at_scale.pipelines.evaluate
    import distill_at_scale.pipelines.prepare
    import distill_at_scale.pipelines.sample

    assert distill_at_scale.pipelines.evaluate
    time.sleep(10)


def write_log(folder: Path, files: int, rows: int, items: int = 500) -> str:
    """CSV files of users with 12 rows each."""
    chance = random.Random(0)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    user = 0
    for part in range(files):
        lines = ["user_id,item_id,rating,timestamp"]
        while len(lines) <= rows:
            user += 1
            chosen = chance.sample(range(items), 12)
            lines += [f"{user},{item},{chance.randint(1, 5)},{1_500_000_000 + k}" for k, item in enumerate(chosen)]
        (folder / f"part-{part:03d}.csv").write_text("\n".join(lines) + "\n")
    return str(folder)


def measure_nodes(
    work: Path,
    done: dict[str, Any],
    measured: Callable[[Callable[[], Any]], dict[str, float]],
    save: Callable[[], None],
    until: float,
) -> None:
    """Measures each verb at each number of nodes, except what is done already."""
    import distill_at_scale as das

    verbs = {"prepare": _prepare, "sample": _sample, "evaluate": _evaluate}
    missing = [(n, verb) for n in NODES for verb in verbs if verb not in done.get(str(n), {})]
    if not missing:
        return
    with Nodes(work / "c") as nodes:
        nodes.grow(missing[0][0])
        if not (work / "ease").exists():
            log = write_log(work / "log", PREPARED, 300)
            das.prepare(log, output=str(work / "data"), shards=SAMPLED, overwrite=True)
            few = write_log(work / "log-evaluated", EVALUATED, 300)
            das.prepare(few, output=str(work / "data-evaluated"), shards=EVALUATED, overwrite=True)
            das.fit(str(work / "data-evaluated"), "ease", output=str(work / "ease"), lam=100.0, overwrite=True)
        for n, verb in missing:
            if time.monotonic() > until:
                break
            nodes.grow(n)
            found = measured(partial(verbs[verb], work))
            done.setdefault(str(n), {})[verb] = found
            print(n, verb, found, flush=True)
            save()


def _prepare(work: Path) -> None:
    import distill_at_scale as das

    with Simulation("prepare", None, PREPARED):
        das.prepare(str(work / "log"), output=str(work / "prepared"), shards=PREPARED, overwrite=True)


def _sample(work: Path) -> None:
    import distill_at_scale as das

    data = das.Dataset.open(str(work / "data"))
    with Simulation("sample", data.shards.rows.tolist(), SAMPLED):
        das.sample(data, SAMPLER, budget=[0.5, 0.1], output=str(work / "samples"), overwrite=True)


def _evaluate(work: Path) -> None:
    import distill_at_scale as das

    data = das.Dataset.open(str(work / "data-evaluated"))
    with Simulation("evaluate", data.shards.rows.tolist(), EVALUATED):
        das.evaluate(data, str(work / "ease"), split="test")
