"""Calls verbs through Ray Client: python client_verbs.py ray://HOST:PORT FOLDER [all]

What came back is one line of JSON on standard output; the verbs' notes go to standard error as they come.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import polars as pl

import distill_at_scale as das


def refusal(call: Any) -> list[str] | None:
    """Class and sentence of the error that a call raises."""
    try:
        call()
    except das.DasError as error:
        return [type(error).__name__, str(error)]
    return None


def main(address: str, folder: str, *more: str) -> None:
    das.connect(address)
    data = das.prepare(f"{folder}/log.csv", output=f"{folder}/data")
    samples = das.sample(data, "random_users", budget=[0.5], output=f"{folder}/samples")
    found: dict[str, Any] = {
        "rows": data.n_rows,
        "samples": samples.to_frame()["rows"].to_list(),
        "refused": refusal(lambda: das.sample(data, "random_users", budget=[0.5], output=f"{folder}/samples")),
    }
    if more:
        frame = das.Dataset.from_frame(pl.read_csv(f"{folder}/log.csv"), output=f"{folder}/from-frame")
        model = das.models.Ease(lam=10.0).fit(data)
        found |= {
            "same rows": frame.manifest.fingerprint == data.manifest.fingerprint,
            "in memory": das.evaluate(data, model).metrics["hr@10"],
            "to ray": refusal(lambda: data.to_ray("train")),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
