"""Measures what a stage of each verb costs, for `das VERB … --plan`; writes the package's rates.json.

    python jobs/measure_rates.py --work FOLDER [--rows 2000000] [--only prepare,sample] [--output FILE]

Every verb runs on a generated log; the CPU-seconds and peak memory of its stages come from its run.json. Each run has a
Ray session of its own. Its workers first do the same with few rows, so that loading libraries does not count, and
peaks are those of the run alone. Nothing else may run beside it: on a busy machine the same work takes two to five
times as many CPU-seconds. Models are fitted on 0.1 and 0.3 of the users, which separates fixed costs from the costs per
row. Runs in `<work>/measured.json` are skipped. A plan scales these figures to another log and cluster; they hold for
the machine that measured them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

SAMPLERS = ("random", "stratified", "temporal", "random_users", "head_users", "centrality", "density", "svp_bias_users")
MODELS: dict[str, dict[str, Any]] = {
    "popularity": {},
    "bias": {"epochs": 1},
    "mf": {"epochs": 1},
    "neumf": {"epochs": 1},
    "als": {"epochs": 1, "lam": 1.0},
    "elsa": {"epochs": 1},
    "ease": {"lam": 400.0},
    "svd_ae": {"rank": 64},
    "mvae": {"epochs": 1},
    "gru4rec": {"epochs": 1},
    "sasrec": {"epochs": 1},
}
ATTRIBUTED: dict[str, dict[str, Any]] = {
    "ease": {"lam": 400.0},
    "infinite_ae": {"lam": 1.0},
    "mf": {"epochs": 1},
    "gru4rec": {"epochs": 1},
    "sasrec": {"epochs": 1},
}
FORMATS = ("parquet", "csv", "recbole", "hf")
STEPS, MORE_EPOCHS, JUDGES, RATED = 10, 2, 1000, 300
FEW_ROWS = 20_000
"""Rows of the log that workers are warmed up with."""
Run = Callable[[], dict[str, Any]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for logs, datasets and what was measured")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--only", default="prepare,sample,expand,fit,evaluate,distill,attribute,forget,export,features")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "distill_at_scale/pipelines/runtime/rates.json")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    file = options.work / "measured.json"
    measured: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    only = options.only.split(",")

    from distill_at_scale.pipelines.runtime import session

    def once(key: str, run: Run, warm_up: Run) -> None:
        if key in measured or key.split("/")[0] not in only:
            return
        started = time.time()
        try:
            with session.ensure():
                warm_up()
                measured[key] = run()
        except Exception as error:
            print(f"{key}: {error}", file=sys.stderr)
            return
        print(f"{key}: {time.time() - started:.1f} s", file=sys.stderr)
        file.write_text(json.dumps(measured, indent=1) + "\n")

    tiny = options.work / "tiny"
    prepared(options.work, tiny, FEW_ROWS)
    if "start_s" not in measured:
        measured["start_s"] = command_s(tiny, "popularity")
        measured["load_s"] = round(command_s(tiny, "als", "lam=1") - measured["start_s"], 1)
    for key, run, warm_up in runs(options.work, options.rows):
        once(key, run, warm_up)
    rates = {
        "machine": machine(),
        "cores": os.cpu_count(),
        "command": f"python jobs/measure_rates.py --rows {options.rows}",
        **measured,
    }
    options.output.write_text(json.dumps(rates, indent=1) + "\n")
    return 0


def command_s(data: Path, model: str, *settings: str) -> float:
    """Seconds of a command that fits a model on few rows: the median of three runs, after one that reads its files for
    the first time."""
    command = ["fit", "--data", str(data), "--model", model, "--output", f"{data}-{model}", "--overwrite"]
    command += ["--set", *settings] if settings else []
    seconds = []
    for _ in range(4):
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", "distill_at_scale.cli", *command], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.monotonic() - start)
    return round(statistics.median(seconds[1:]), 1)


def machine() -> str:
    """Number of cores and model of the processor."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores ({models[0] if models else platform.machine()})"


def runs(work: Path, n_rows: int) -> list[tuple[str, Run, Run]]:
    """What to measure: a key, the run, and the same with few rows."""
    big, small, larger, tiny = (work / name for name in ("big", "small", "larger", "tiny"))
    found: list[tuple[str, Run, Run]] = []
    for data, rows in ((big, n_rows), (small, n_rows // 10), (larger, 3 * n_rows // 10)):
        few = partial(prepared, work, work / "warm", FEW_ROWS)
        found.append((f"prepare/{data.name}", partial(prepared, work, data, rows), few))

    def add(key: str, function: Callable[..., dict[str, Any]], data: Path, *more: Any) -> None:
        found.append((key, partial(function, work, data, *more), partial(function, work, tiny, *more)))

    for name in SAMPLERS:
        add(f"sample/{name}", sampled, big, name)
    add("expand/small", expanded, small)
    found.append(("fit/infinite_ae", partial(speed, small), partial(speed, tiny)))
    for more, data, times in (("", small, 1), ("/larger", larger, 6)):
        for name in MODELS:
            add(f"fit/{name}{more}", fitted, data, name)
        for name in ("mf", "ease"):
            add(f"evaluate/{name}{more}", evaluated, data, name)
        add(f"distill/distill_cf{more}", distilled, small, "distill_cf", times * STEPS)
        add(f"distill/sketch{more}", distilled, data, "sketch")
    for name in ATTRIBUTED:
        add(f"attribute/{name}", attributed, small, name)
        if name in ("ease", "mf"):
            # Values of sequence models take minutes, those of infinite_ae much memory.
            add(f"attribute/{name}/larger", attributed, larger, name)
    add("attribute/rater", rated, big)
    add("forget/big", forgotten, big)
    for form in FORMATS:
        add(f"export/{form}", exported, big, form)
    add("features/big", described, big)
    add("distill/distill_cf/judged", distilled, small, "distill_cf", STEPS, 4 * JUDGES)
    return found


def made_log(folder: Path, n_rows: int) -> Path:
    """A log of users with a few dozen rows on items of falling popularity, as Parquet files."""
    import numpy as np
    import polars as pl

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    n_users, n_items = n_rows // 50, max(1000, round(n_rows**0.5 * 5))
    for k in range(4):
        n = n_rows // 4
        items = np.minimum((n_items * rng.random(n) ** 3).astype(np.int64), n_items - 1)
        frame = {
            "user_id": rng.integers(0, n_users, n),
            "item_id": items,
            "rating": rng.integers(1, 6, n).astype(np.float32),
            "timestamp": rng.integers(1_500_000_000, 1_700_000_000, n),
        }
        pl.DataFrame(frame).write_parquet(folder / f"part-{k}.parquet", row_group_size=250_000)
    return folder


def about(data: Path) -> dict[str, Any]:
    """Sizes of a dataset."""
    from distill_at_scale.data.dataset import Dataset

    dataset = Dataset.open(str(data))
    return {
        "rows": dataset.n_rows,
        "train_rows": dataset.manifest.splits["train"],
        "users": dataset.n_users,
        "items": dataset.n_items,
        "shards": len(dataset.shards),
        "bytes": sum(shard.data.bytes for shard in dataset.shards),
    }


def stages(folder: Path) -> list[dict[str, Any]]:
    """Stages of the run that made a folder."""
    recorded: list[dict[str, Any]] = json.loads((folder / "run.json").read_text())["stages"]
    return recorded


def prepared(work: Path, output: Path, n_rows: int) -> dict[str, Any]:
    from distill_at_scale.pipelines.prepare import prepare
    from distill_at_scale.pipelines.runtime import output_folder

    most = [0]
    remove = output_folder.remove_work

    def weighed(uri: str) -> None:
        most[0] = sum(file.stat().st_size for file in (Path(uri) / "_work").rglob("*") if file.is_file())
        remove(uri)

    output_folder.remove_work = weighed
    try:
        log = made_log(work / f"log-{n_rows}", n_rows)
        # Few rows in as many shards as warm up every worker.
        shards = os.cpu_count() if n_rows == FEW_ROWS else None
        prepare(input=[str(log)], output=str(output), overwrite=True, shards=shards)
    finally:
        output_folder.remove_work = remove
    return {**about(output), "work_bytes": most[0], "stages": stages(output)}


def sampled(work: Path, data: Path, sampler: str) -> dict[str, Any]:
    from distill_at_scale.pipelines.sample import sample

    def stages_of(**more: int) -> list[dict[str, Any]]:
        made = sample(
            data=str(data), sampler=sampler, budget=["0.1"], output=str(work / "samples"), overwrite=True, **more
        )
        return stages(Path(made.samples[0].uri))

    if not sampler.startswith("svp"):
        return {**about(data), "stages": stages_of()}
    # Of an epoch, without what is paid once.
    found, more = stages_of(proxy_epochs=1), stages_of(proxy_epochs=1 + MORE_EPOCHS)
    found[0]["cpu_s"] = round((more[0]["cpu_s"] - found[0]["cpu_s"]) / MORE_EPOCHS, 3)
    return {**about(data), "stages": found}


def expanded(work: Path, data: Path) -> dict[str, Any]:
    from distill_at_scale.pipelines.expand import expand

    output = work / "expanded"
    made = expand(data=str(data), by="4x2", output=str(output), overwrite=True)
    return {"rows": made.rows, "bytes": made.bytes, "stages": stages(output)}


def fitted(work: Path, data: Path, model: str) -> dict[str, Any]:
    from distill_at_scale.pipelines.fit import fit

    output = work / "models" / data.name / model
    fit(data=str(data), model=model, output=str(output), overwrite=True, set=MODELS[model])
    return {**about(data), "settings": MODELS[model], "stages": stages(output)}


def attributed(work: Path, data: Path, model: str) -> dict[str, Any]:
    from distill_at_scale.distillation.attribution import CLOSED_FORM
    from distill_at_scale.distillation.attribution.learners import settings_of
    from distill_at_scale.pipelines.attribute import attribute

    own = ATTRIBUTED[model]
    made = attribute(data=str(data), model=model, output=str(work / "values.parquet"), overwrite=True, set=own)
    settings = own if model in CLOSED_FORM else settings_of(model, own)
    return {**about(data), "settings": settings, "stages": [stage(f"attribute to {model}", made)]}


def rated(work: Path, data: Path) -> dict[str, Any]:
    """A rater's scores of all rows, learned from few users."""
    from distill_at_scale.pipelines.attribute import attribute

    few = {"users": RATED, "overwrite": True, "set": {"lam": 1.0}}
    made = attribute(data=str(data), model="infinite_ae", output=str(work / "values.parquet"), **few)
    return {**about(data), "stages": [stage("rate", made)]}


def stage(name: str, made: Any) -> dict[str, Any]:
    """A stage in the form of run.json, from a result that tells its costs."""
    return {
        "stage": name,
        "tasks": 1,
        "reused": 0,
        "wall_s": made.wall_s,
        "cpu_s": made.cpu_s,
        "peak_mib": made.peak_mib,
    }


def forgotten(work: Path, data: Path) -> dict[str, Any]:
    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.pipelines.forget import forget

    ids = Dataset.open(str(data)).users(0)["user_id"].head(20)
    file, output = work / "users.txt", work / "forgotten"
    file.write_text("\n".join(map(str, ids)) + "\n")
    forget(data=str(data), users=str(file), output=str(output), overwrite=True)
    return {**about(data), "stages": stages(output)}


def exported(work: Path, data: Path, form: str) -> dict[str, Any]:
    from distill_at_scale.pipelines.export import export

    output = work / "exported" / form
    made = export(data=str(data), format=form, output=str(output), overwrite=True)
    return {**about(data), "bytes": made.bytes, "stages": stages(output)}


def described(work: Path, data: Path) -> dict[str, Any]:
    """Data-Genie's features, in this process, as a single task measures them."""
    import psutil

    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.genie.features import dataset_features

    dataset, started, cpu_s = Dataset.open(str(data)), time.time(), time.process_time()
    dataset_features(dataset, range(len(dataset.shards))).result(dataset.train_counts())
    spent, taken = time.process_time() - cpu_s, time.time() - started
    peak = psutil.Process().memory_info().rss / 2**20
    one = {"stage": "measure features", "tasks": 1, "reused": 0, "wall_s": taken, "cpu_s": spent, "peak_mib": peak}
    return {**about(data), "stages": [one]}


def speed(data: Path) -> dict[str, Any]:
    from distill_at_scale.models.kernel.solvers import measure_speed

    size = about(data)
    measured = measure_speed(size["items"], size["train_rows"] / size["users"])
    return {"flops": measured.flops, "elements": measured.elements}


def evaluated(work: Path, data: Path, model: str) -> dict[str, Any]:
    from distill_at_scale.pipelines.evaluate import evaluate

    output = work / f"evaluation-{model}.json"
    evaluate(data=str(data), model=str(work / "models" / data.name / model), output=str(output))
    return {**about(data), "stages": json.loads(output.read_text())["run"]["stages"]}


def distilled(work: Path, data: Path, method: str, steps: int = STEPS, judges: int = JUDGES) -> dict[str, Any]:
    from distill_at_scale.pipelines.distill import distill

    output = work / "distilled" / method
    own = {"steps": steps, "validate_every": steps, "validation_users": judges} if method == "distill_cf" else {}
    distill(data=str(data), method=method, users=100, output=str(output), overwrite=True, set=own)
    return {**about(data), "number": 100, "settings": own, "stages": stages(output)}


if __name__ == "__main__":
    sys.exit(main())
