"""distill_at_scale: recommender logs become tiny datasets that train models as well as the full log does.

    import distill_at_scale as das

    data = das.prepare(input=["s3://bucket/log/"], output="s3://bucket/data", split="leave_2")
    model = das.fit(data=data.uri, model="ease", output="s3://bucket/ease")
    print(das.evaluate(data=data.uri, model=model.uri).metrics)

Every verb of the command line is a function here and takes the same settings (see `distill_at_scale.config`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from distill_at_scale import models
    from distill_at_scale.data.dataset import Dataset
    from distill_at_scale.distillation.synthetic import SyntheticDataset
    from distill_at_scale.errors import DasError
    from distill_at_scale.models import load_model
    from distill_at_scale.pipelines.compare import compare
    from distill_at_scale.pipelines.distill import distill
    from distill_at_scale.pipelines.doctor import doctor
    from distill_at_scale.pipelines.evaluate import evaluate
    from distill_at_scale.pipelines.export import export
    from distill_at_scale.pipelines.fetch import fetch
    from distill_at_scale.pipelines.fit import fit
    from distill_at_scale.pipelines.genie import genie_train
    from distill_at_scale.pipelines.inspect import inspect
    from distill_at_scale.pipelines.predict import predict
    from distill_at_scale.pipelines.prepare import prepare
    from distill_at_scale.pipelines.quickstart import quickstart
    from distill_at_scale.pipelines.recommend import recommend
    from distill_at_scale.pipelines.runtime.session import connect
    from distill_at_scale.pipelines.sample import sample
    from distill_at_scale.pipelines.sweep import sweep
    from distill_at_scale.report.html import write_report

# Where names are that are not a verb in the module of its name.
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
    "compare",
    "connect",
    "distill",
    "doctor",
    "evaluate",
    "export",
    "fetch",
    "fit",
    "genie_train",
    "inspect",
    "load_model",
    "models",
    "predict",
    "prepare",
    "quickstart",
    "recommend",
    "sample",
    "sweep",
    "write_report",
]


_NAMESPACES = ("models",)
"""Subpackages of classes by name."""


def __getattr__(name: str) -> Any:
    # Loaded at first use: Ray and torch take seconds, and the core must be importable without Ray.
    if name in _NAMESPACES:
        return importlib.import_module(f"distill_at_scale.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'distill_at_scale' has no attribute '{name}'")
    return getattr(importlib.import_module(f"distill_at_scale.{_HOMES.get(name, f'pipelines.{name}')}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
