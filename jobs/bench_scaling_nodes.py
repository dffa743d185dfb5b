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

NODES = (8, 4, 2, 1)
PARTS = 64
"""Files and shards of the logs."""
PART_ROWS = {"prepare": 6_000_000, "sample": 6_000_000, "evaluate": 1_500_000}
"""Rows of a file or shard whose work is simulated, so that a verb takes about as long as the others."""
SAMPLER, PASSES = "density", 6
"""A sampler that learns in passes before it scores, and the passes of its measured rate."""
RATES = {"prepare": "prepare/big", "sample": f"sample/{SAMPLER}", "evaluate": "evaluate/ease/larger"}


def lasting(work: Callable[..., Any], seconds: Callable[[Any], float]) -> Callable[..., Any]:
    """A task's function that does its work on few rows, and lasts as long as it would with those that are simulated."""

    def run(*arguments: Any) -> Any:
        end = time.monotonic() + seconds(arguments)
        done = work(*arguments)
        time.sleep(max(0.0, end - time.monotonic()))
        return done

    return run


class Simulation:
    """Puts :func:`lasting` around the functions that a verb gives to the engines; the engines stay as they are."""

    def __init__(self, verb: str) -> None:
        from distill_at_scale.pipelines.runtime.rates import rates

        self.per_row = {stage.name.split(",")[0]: stage.row_cpu_s for stage in rates().stages(RATES[verb]) or []}
        self.verb = verb
        self.work_s = 0.0
        """What all tasks together last by the rates, at least."""

    def seconds(self, stage: str) -> float:
        """Of one shard's part of a stage."""
        return self.per_row.get(stage.split(",")[0], 0.0) * PART_ROWS[self.verb]

    def __enter__(self) -> Simulation:
        # All that hold an engine by its name are imported before it is replaced there.
        import distill_at_scale.pipelines.evaluate
        import distill_at_scale.pipelines.prepare
        import distill_at_scale.pipelines.sample
        from distill_at_scale.pipelines.runtime import map_reduce, tasks

        assert distill_at_scale.pipelines
        self._before: list[tuple[Any, str, Any]] = []
        self._replace("run_stage", tasks.run_stage, self._stage(tasks.run_stage))
        self._replace("run_merged", tasks.run_merged, self._stage(tasks.run_merged))
        learn = next((name for name in self.per_row if name.startswith("learn")), None)
        if learn is not None:
            # The rate is that of all passes.
            each = self.seconds(learn) / PASSES
            self.work_s += each * PASSES * PARTS
            self._set(map_reduce, "_map", lasting(map_reduce._map, lambda given: each * _parts(given[2])))
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
            each = self.seconds(name)
            self.work_s += each * sum(_parts(item) for item in items)
            return engine(record, name, lasting(work, lambda given: each * _parts(given[0])), items, *more, **options)

        return run


def _parts(item: Any) -> int:
    """How many shards or files an item stands for; of a million rows each, they would hardly differ."""
    parts = getattr(item, "buckets", getattr(item, "sources", item))
    return len(parts) if isinstance(parts, list) else 1


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

    def resize(self, count: int) -> None:
        """Starts or ends nodes until there are ``count``, with a worker on each that has imported everything."""
        import ray

        import distill_at_scale as das

        for node in self._nodes[count:]:
            node.stop()
        del self._nodes[count:]
        while len(self._nodes) < count:
            self._nodes.append(Node(self._folder, f"node-{len(self._nodes)}", self._head.address))
            self._nodes[-1].start()
            self._nodes[-1].wait()
        das.connect(self._head.address)
        while ray.cluster_resources().get("CPU", 0) != count:
            time.sleep(0.5)
        # Each holds its node's only CPU until all run.
        ray.get([ray.remote(_warm).remote() for _ in range(count)])


def _warm() -> None:
    # On nodes of their own, workers import all at once; here they would do so one after another.
    import ray.data

    import distill_at_scale.models.ease
    import distill_at_scale.pipelines.evaluate
    import distill_at_scale.pipelines.prepare
    import distill_at_scale.pipelines.sample
    from distill_at_scale.samplers import find_sampler

    assert all((ray.data, distill_at_scale.pipelines.evaluate, distill_at_scale.models.ease, find_sampler(SAMPLER)))
    time.sleep(20)


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
        nodes.resize(missing[0][0])
        if not (work / "ease").exists():
            log = write_log(work / "log", PARTS, 300)
            das.prepare(log, output=str(work / "data"), shards=PARTS, overwrite=True)
            das.fit(str(work / "data"), "ease", output=str(work / "ease"), set={"lam": 100.0}, overwrite=True)
        for n, verb in missing:
            if time.monotonic() > until:
                break
            nodes.resize(n)
            simulation = Simulation(verb)
            found = measured(partial(_within, simulation, partial(verbs[verb], work)))
            found["work_s"] = round(simulation.work_s, 1)
            found["share_of_linear"] = round(simulation.work_s / (n * found["seconds"]), 3)
            done.setdefault(str(n), {})[verb] = found
            print(n, verb, found, flush=True)
            save()


def _within(simulation: Simulation, run: Callable[[], None]) -> None:
    with simulation:
        run()


def _prepare(work: Path) -> None:
    import distill_at_scale as das

    das.prepare(str(work / "log"), output=str(work / "prepared"), shards=PARTS, overwrite=True)


def _sample(work: Path) -> None:
    import distill_at_scale as das

    das.sample(str(work / "data"), SAMPLER, budget=[0.5, 0.1], output=str(work / "samples"), overwrite=True)


def _evaluate(work: Path) -> None:
    import distill_at_scale as das

    das.evaluate(str(work / "data"), str(work / "ease"), split="test")
