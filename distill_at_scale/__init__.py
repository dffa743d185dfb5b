"""distill_at_scale: shrinks recommender logs to small datasets, and measures how much model quality they keep.

    import distill_at_scale as das

    data = das.prepare(input=["s3://bucket/log/"], output="s3://bucket/data", split="leave_2")
    model = das.fit(data=data.uri, model="ease", output="s3://bucket/ease")
    print(das.evaluate(data=data.uri, model=model.uri).metrics)

Every verb of the command line is a function here and takes the same settings (see `distill_at_scale.config`).
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Modules of the names that are not verbs in a module of the same name. Type checkers read __init__.pyi, which
# `python -m distill_at_scale.stubs` generates from `__all__`.
_HOMES = {
    "DasError": "errors",
    "Dataset": "data.dataset",
    "SyntheticDataset": "distillation.synthetic",
    "connect": "pipelines.runtime.session",
    "genie_train": "pipelines.genie",
    "load_model": "models",
    "write_report": "report.html",
}

__all__ = [
    "DasError",
    "Dataset",
    "SyntheticDataset",
    "attribute",
    "compare",
    "connect",
    "distill",
    "distillers",
    "doctor",
    "evaluate",
    "expand",
    "export",
    "fetch",
    "fit",
    "forecast",
    "forget",
    "genie_train",
    "inspect",
    "load_model",
    "models",
    "predict",
    "prepare",
    "quickstart",
    "recommend",
    "sample",
    "samplers",
    "submit",
    "sweep",
    "tune",
    "write_report",
]


_NAMESPACES = {"distillers": "distillation.distillers", "models": "models", "samplers": "samplers"}
"""Modules that offer classes by name."""


def __getattr__(name: str) -> Any:
    # Imported on first use: Ray and torch take seconds, and the core must be importable without Ray.
    if name in _NAMESPACES:
        return importlib.import_module(f"distill_at_scale.{_NAMESPACES[name]}")
    if name not in __all__:
        raise AttributeError(f"module 'distill_at_scale' has no attribute '{name}'")
    return getattr(importlib.import_module(f"distill_at_scale.{_HOMES.get(name, f'pipelines.{name}')}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
