"""Speed and memory of prepare, relative to DuckDB sorting the same files in the same run.

    python jobs/bench_prepare.py                          20 M and 100 M rows, about five minutes on 2 cores
    python jobs/bench_prepare.py --rows 2e6               a quick look

Generates logs with non-dense 64-bit ids, Zipf-like items (P(rank) ∝ 1 / (rank + 50)), 50 rows a user on
average and rows in no order; prepares each with leave_2 (validate, de-duplicate, number, split, shard) by the command,
which starts and stops a Ray of its own; has DuckDB sort the smallest log by (user_id, timestamp) into one Parquet file;
prepares the smallest log once more in a Ray session that is up and has prepared a small log, as on a running
cluster. Prints one JSON object with both shares of DuckDB's rate.

    python jobs/bench_prepare.py --log FOLDER             a log that exists, as `das expand` makes one, and nothing else
    python jobs/bench_prepare.py --spark PYTHON           also the same work by Spark (see bench_prepare_spark.py), and
                                                          by how much the command is faster

Every run says how many bytes its unfinished files took at most, and the log's own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from distill_at_scale.data.hashing import mix

N_ITEMS = 500_000
ROWS_A_FILE = 5_000_000
ROWS_A_GROUP = 1_000_000


def generate(folder: Path, n_rows: int, seed: int, rows_a_file: int = ROWS_A_FILE) -> None:
    """Writes the log, a million rows at a time."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    n_users = max(1, n_rows // 50)
    for number, start in enumerate(range(0, n_rows, rows_a_file)):
        writer: pq.ParquetWriter | None = None
        end = min(start + rows_a_file, n_rows)
        for first in range(start, end, ROWS_A_GROUP):
            n = min(ROWS_A_GROUP, end - first)
            rank = (50 * ((N_ITEMS + 50) / 50) ** rng.random(n) - 50).astype(np.uint64)
            table = pa.table(
                {
                    "user_id": (mix(rng.integers(0, n_users, n).astype(np.uint64)) >> np.uint64(1)).astype(np.int64),
                    "item_id": (mix(rank) >> np.uint64(1)).astype(np.int64),
                    "rating": rng.integers(1, 6, n).astype(np.float32),
                    "timestamp": rng.integers(1_400_000_000, 1_600_000_000, n),
                }
            )
            if writer is None:
                writer = pq.ParquetWriter(folder / f"log-{number:04d}.parquet", table.schema, compression="zstd")
            writer.write_table(table)
        assert writer is not None
        writer.close()


class MemoryOfTree(threading.Thread):
    """Samples memory and CPU time of a process and all below it, every second.

    Attributes:
        peak: Bytes of all together at most; pages that several share (the object store) count once.
        largest: Bytes of one process at most, without what it shares.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._over = threading.Event()
        self._cpu: dict[tuple[int, float], float] = {}
        self.peak = self.largest = 0

    @property
    def cpu_s(self) -> float:
        """CPU-seconds of all processes, of each as it was last seen."""
        return sum(self._cpu.values())

    def run(self) -> None:
        while not self._over.wait(1.0):
            try:
                tree = [self._root, *self._root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            total = 0
            for process in tree:
                try:
                    with process.oneshot():
                        memory, cpu = process.memory_full_info(), process.cpu_times()
                        self._cpu[process.pid, process.create_time()] = cpu.user + cpu.system
                    total += memory.pss
                    self.largest = max(self.largest, memory.uss)
                except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                    continue
            self.peak = max(self.peak, total)

    def stop(self) -> None:
        self._over.set()
        self.join()


class BytesBelow(threading.Thread):
    """Samples the bytes of all files below a folder, ten times a second."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._over = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._over.wait(0.1):
            self.peak = max(self.peak, bytes_below(self._folder))

    def stop(self) -> None:
        self._over.set()
        self.join()


def bytes_below(folder: Path) -> int:
    """Bytes of the files below a folder, some of which may vanish meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def prepare(log: Path, output: Path) -> dict[str, object]:
    """Runs `das prepare` in a process of its own."""
    command = [sys.executable, "-m", "distill_at_scale.cli", "prepare", "--input", str(log), "--output", str(output)]
    start = time.monotonic()
    process = subprocess.Popen([*command, "--split", "leave_2", "--json"], stdout=subprocess.PIPE, text=True)
    samples = memory, work = MemoryOfTree(process.pid), BytesBelow(output / "_work")
    for one in samples:
        one.start()
    answer, _ = process.communicate()
    wall = time.monotonic() - start
    for one in samples:
        one.stop()
    if process.returncode:
        sys.exit(f"prepare failed: {answer}")
    run, result = json.loads((output / "run.json").read_text()), json.loads(answer.splitlines()[-1])
    rows = result["source"]["rows"]
    return {
        "rows": rows,
        "rows_kept": result["n_rows"],
        "shards": result["n_shards"],
        "wall_s": round(wall, 2),
        "rows_per_s": round(rows / wall),
        "tasks_cpu_s": round(sum(stage["cpu_s"] for stage in run["stages"]), 1),
        "driver_peak_mib": run["driver_peak_mib"],
        "worker_peak_mib": run["worker_peak_mib"],
        "all_processes_peak_mib": round(memory.peak / 2**20),
        "log_mib": round(bytes_below(log) / 2**20, 1),
        "work_peak_mib": round(work.peak / 2**20, 1),
        "work_peak_as_share_of_log": round(work.peak / bytes_below(log), 3),
        "stages_wall_and_cpu_s": {stage["stage"]: [stage["wall_s"], stage["cpu_s"]] for stage in run["stages"]},
    }


def prepare_in_session(log: Path, warm: Path, folder: Path) -> dict[str, object]:
    """Runs prepare in a process whose Ray session and workers are up."""
    code = (
        "import sys, time; import distill_at_scale as das\n"
        "log, warm, folder = sys.argv[1:]\n"
        "das.connect()\n"
        "das.prepare(input=[warm], output=folder + '/warm')\n"
        "start = time.monotonic()\n"
        "data = das.prepare(input=[log], output=folder + '/hot')\n"
        "print(time.monotonic() - start, data.manifest.source['rows'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(log), str(warm), str(folder)], check=True, stdout=subprocess.PIPE, text=True
    )
    wall, rows = done.stdout.split()
    run = json.loads((folder / "hot" / "run.json").read_text())
    for name in ("warm", "hot"):
        shutil.rmtree(folder / name)
    return {
        "rows": int(rows),
        "wall_s": round(float(wall), 2),
        "rows_per_s": round(int(rows) / float(wall)),
        "stages_wall_and_cpu_s": {stage["stage"]: [stage["wall_s"], stage["cpu_s"]] for stage in run["stages"]},
    }


def duckdb_sort(log: Path, output: Path) -> dict[str, object]:
    """DuckDB's global sort of the same files, with all cores, in a process of its own."""
    code = (
        "import duckdb, sys; duckdb.execute('SET enable_progress_bar = false'); log, output = sys.argv[1:];"
        "duckdb.execute(f\"COPY (SELECT * FROM read_parquet('{log}/*.parquet') ORDER BY user_id, timestamp) "
        "TO '{output}' (FORMAT parquet, COMPRESSION zstd)\")"
    )
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", code, str(log), str(output)], check=True)
    wall = time.monotonic() - start
    rows = sum(pq.read_metadata(file).num_rows for file in log.glob("*.parquet"))
    return {"rows": rows, "wall_s": round(wall, 2), "rows_per_s": round(rows / wall)}


def spark_prepare(python: str, log: Path, output: Path, shards: int) -> dict[str, object]:
    """The same work by Spark, in a process of its own."""
    script = Path(__file__).with_name("bench_prepare_spark.py")
    start = time.monotonic()
    command = [python, str(script), str(log), str(output), str(shards)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    wall = time.monotonic() - start
    shutil.rmtree(output)
    shutil.rmtree(f"{output}-spill", ignore_errors=True)
    rows = sum(pq.read_metadata(file).num_rows for file in log.glob("*.parquet"))
    found = json.loads(done.stdout.splitlines()[-1])
    return {"rows": rows, "command_s": round(wall, 2), "rows_per_s": round(rows / wall), **found}


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, nargs="+", default=[20e6, 100e6], help="sizes of the logs")
    parser.add_argument("--log", type=Path, help="a log that exists, to prepare instead")
    parser.add_argument("--spark", metavar="PYTHON", help="a Python with pyspark, for the smallest log")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where logs and datasets go; default: a temporary folder")
    parser.add_argument("--output", help="file for the JSON object")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="das-bench-", dir=arguments.folder))
    sizes = sorted(int(rows) for rows in arguments.rows)
    found: dict[str, object] = {"cpus": os.cpu_count(), "seed": arguments.seed, "prepare": []}
    if arguments.log:
        sizes = []
    try:
        runs = [prepare(arguments.log, folder / "data")] if arguments.log else []
        for size in sizes:
            log = folder / f"log-{size}"
            print(f"generating {size:,} rows", file=sys.stderr)
            generate(log, size, arguments.seed)
            if size == sizes[0]:
                found["duckdb"] = sort = duckdb_sort(log, folder / "sorted.parquet")
                (folder / "sorted.parquet").unlink()
            runs.append(prepare(log, folder / f"data-{size}"))
            if size == sizes[0]:
                # Several files, so that every worker has prepared some of it.
                generate(folder / "log-warm", 200_000, arguments.seed, 50_000)
                found["prepare_in_session"] = hot = prepare_in_session(log, folder / "log-warm", folder)
                duckdb_rate = float(sort["rows_per_s"])  # type: ignore[arg-type]
                found["share_of_duckdb"] = {
                    "command": round(float(runs[0]["rows_per_s"]) / duckdb_rate, 3),  # type: ignore[arg-type]
                    "in_session": round(float(hot["rows_per_s"]) / duckdb_rate, 3),  # type: ignore[arg-type]
                }
            if size == sizes[0] and arguments.spark:
                shards = int(str(runs[0]["shards"]))
                found["spark"] = by_spark = spark_prepare(arguments.spark, log, folder / "spark", shards)
                if by_spark["rows_kept"] != runs[0]["rows_kept"]:
                    sys.exit(f"Spark kept {by_spark['rows_kept']} rows, prepare {runs[0]['rows_kept']}")
                found["times_the_rate_of_spark"] = round(
                    float(runs[0]["rows_per_s"]) / float(by_spark["rows_per_s"]),  # type: ignore[arg-type]
                    2,
                )
            shutil.rmtree(log)
            shutil.rmtree(folder / f"data-{size}")
        found["prepare"] = runs
        if len(runs) > 1:
            found["driver_peak_ratio"] = round(
                float(runs[-1]["driver_peak_mib"]) / float(runs[0]["driver_peak_mib"]),  # type: ignore[arg-type]
                3,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.output:
        Path(arguments.output).write_text(text + "\n")


if __name__ == "__main__":
    main()
