"""Cost of scores from outside that lie in no order: each shard reads all files, or they are dealt by user first.

    python jobs/bench_values.py                                     20 M rows, 256 shards
    python jobs/bench_values.py --rows 1e6 --shards 32 --output values.json

Generates a log as bench_prepare does and prepares it; scores its train rows at random, in files (Parquet, then CSV),
each with rows of every shard; and samples by `column=quality` in a process of its own. What reading all files costs a
shard is measured on a few shards in this process, and multiplied. Bytes are those of the files that are read. Prints
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from bench_prepare import BytesBelow, MemoryOfTree, bytes_below, generate

from distill_at_scale.data.dataset import Dataset

FILES = 20
# Shards whose direct reading is measured, after one that is not.
MEASURED = 2


def write_scores(dataset: Dataset, folder: Path, suffix: str) -> None:
    """Scores all train rows: a part of each shard's rows goes into each file."""
    folder.mkdir()
    rng, writers = np.random.default_rng(0), []
    for shard in range(len(dataset.shards)):
        rows = dataset.rows(shard, "train").select("user_id", "item_id")
        rows = rows.with_columns(quality=pl.Series(rng.random(len(rows)))).sample(
            fraction=1.0, shuffle=True, seed=shard
        )
        for k in range(FILES):
            table: pa.Table = rows.gather_every(FILES, k).to_arrow()
            if len(writers) <= k:
                place = folder / f"scores-{k:02d}.{suffix}"
                kind = pq.ParquetWriter if suffix == "parquet" else pa_csv.CSVWriter
                writers.append(kind(str(place), table.schema))
            writers[k].write_table(table)
    for writer in writers:
        writer.close()


def direct(dataset: Dataset, scores: Path) -> float:
    """CPU-seconds of a shard that reads all files."""
    from distill_at_scale.data.row_values import ValueFiles
    from distill_at_scale.samplers.column import read_column
    from distill_at_scale.samplers.train_rows import read_train_rows

    files = ValueFiles.open(str(scores), "quality")
    spent = 0.0
    for shard in range(MEASURED + 1):
        rows = read_train_rows(dataset, shard)
        start = time.process_time()
        read_column(dataset, shard, rows, "quality", files)
        spent += (time.process_time() - start) * (shard > 0)
    return spent / MEASURED


def dealt(data: Path, scores: Path, output: Path) -> dict[str, Any]:
    """Samples by the scores."""
    command = [sys.executable, "-m", "distill_at_scale.cli", "sample", "--data", str(data), "--scores", str(scores)]
    command += ["--sampler", "column=quality", "--budget", "0.01", "--output", str(output), "--json"]
    disk = BytesBelow(output)
    disk.start()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    memory = MemoryOfTree(process.pid)
    memory.start()
    answer, _ = process.communicate()
    memory.stop()
    disk.stop()
    if process.returncode:
        sys.exit(f"sample failed: {answer}")
    run = json.loads((Path(json.loads(answer)["samples"][0]["uri"]) / "run.json").read_text())
    return {
        "cpu_s": {stage["stage"]: stage["cpu_s"] for stage in run["stages"]},
        "peak_mib": {stage["stage"]: stage["peak_mib"] for stage in run["stages"]},
        "tasks": {stage["stage"]: stage["tasks"] for stage in run["stages"]},
        "all_processes_peak_mib": round(memory.peak / 2**20),
        "work_peak_bytes": disk.peak,
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, default=20e6, help="rows of the log")
    parser.add_argument("--shards", type=int, default=256)
    parser.add_argument("--folder", help="where the log and the dataset go; default: a temporary folder")
    parser.add_argument("--output", help="file for the JSON object")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="das-bench-", dir=arguments.folder))
    log, data = folder / "log", folder / "data"
    found: dict[str, Any] = {"cpus": os.cpu_count(), "rows": int(arguments.rows), "shards": arguments.shards}
    try:
        generate(log, int(arguments.rows), 0)
        command = [sys.executable, "-m", "distill_at_scale.cli", "prepare", "--input", str(log), "--output", str(data)]
        subprocess.run([*command, "--shards", str(arguments.shards)], check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(log)
        dataset = Dataset.open(str(data))
        found["train_rows"] = dataset.manifest.splits["train"]
        for suffix in ("parquet", "csv"):
            scores, output = folder / suffix, folder / f"{suffix}-sample"
            write_scores(dataset, scores, suffix)
            size = bytes_below(scores)
            one = direct(dataset, scores)
            made = dealt(data, scores, output)
            found[suffix] = {
                "bytes": size,
                "direct": {"cpu_s_a_shard": round(one, 3), "cpu_s": round(one * arguments.shards, 1)},
                "dealt": made,
            }
            found[suffix]["direct"]["bytes_read"] = size * arguments.shards
            print(f"{suffix}: {json.dumps(found[suffix])}", file=sys.stderr)
            shutil.rmtree(scores)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.output:
        Path(arguments.output).write_text(text + "\n")


if __name__ == "__main__":
    main()
