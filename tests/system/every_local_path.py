"""Calls verbs on a cluster: python every_local_path.py ADDRESS local S3_FOLDER FOLDER, or ADDRESS s3 S3_FOLDER

Prints one line of JSON: what each verb said of each local path, or what came out on S3.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import distill_at_scale as das


def refusal(call: Callable[[], Any]) -> str:
    try:
        call()
    except das.DasError as error:
        return f"{type(error).__name__}: {error}"
    return "not refused"


def local(s3: str, folder: str) -> dict[str, Any]:
    """What each verb says of each local path, and what it leaves in the folder."""
    # Something that this machine's disk holds, and the other one's does not.
    log, held, out = f"{folder}/log.csv", f"{folder}/held", f"{folder}/out"
    Path(held).mkdir()
    Path(held, "file").write_text("content")
    data, elsewhere = f"{s3}/data", f"{s3}/out"
    calls: dict[str, Callable[[], Any]] = {
        "prepare input": lambda: das.prepare(log, output=elsewhere),
        "prepare pattern": lambda: das.prepare(f"{held}/*", output=elsewhere),
        "prepare output": lambda: das.prepare(f"{s3}/log.csv", output=out),
        "fit data": lambda: das.fit(held, "ease", output=elsewhere),
        "fit output": lambda: das.fit(data, "ease", output=out),
        "evaluate model": lambda: das.evaluate(data, held),
        "evaluate output": lambda: das.evaluate(data, f"{s3}/ease", output=out),
        "predict users": lambda: das.predict(data, f"{s3}/ease", users=f"{held}/file", output=elsewhere),
        "predict output": lambda: das.predict(data, f"{s3}/ease", output=out),
        "sample output": lambda: das.sample(data, "random", budget=[0.5], output=out),
        "distill output": lambda: das.distill(data, "distill_cf", output=out),
        "distill teachers": lambda: das.distill(data, "farzi", output=elsewhere, teachers_at=out),
        "export output": lambda: das.export(data, output=out),
        "compare samples": lambda: das.compare(data, [held], models=["ease", "mf"], output=elsewhere),
        "sweep output": lambda: das.sweep(data, methods=["random"], budgets=["0.5"], models=["ease", "mf"], output=out),
        "recommend sweep": lambda: das.recommend(data, sweep=held),
        "genie sweeps": lambda: das.genie_train([held], output=elsewhere),
        "quickstart output": lambda: das.quickstart("ml-100k", output=out),
    }
    said = {name: refusal(call) for name, call in calls.items()}
    return {"said": said, "left": sorted(path.name for path in Path(folder).iterdir())}


def remote(s3: str) -> dict[str, Any]:
    """Verbs on S3 alone, one of them with a worker on each node."""
    data = das.prepare(f"{s3}/log.csv", output=f"{s3}/data")
    das.fit(data, "mf", workers=2, set={"epochs": 2}, output=f"{s3}/mf")
    model = das.fit(data, "ease", output=f"{s3}/ease")
    return {"hr@10": das.evaluate(data, model).metrics["hr@10"]}


if __name__ == "__main__":
    address, what, *words = sys.argv[1:]
    das.connect(address)
    print(json.dumps({"local": local, "s3": remote}[what](*words)))
