"""Readers for raw logs on any storage, in the usual formats; they yield batches of validated rows.

The driver calls :func:`plan_log` once, which lists the files and reads only their heads. Workers call
:func:`read_fragment` on the fragments, in any order and independently.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from distill_at_scale.data.readers.options import LogOptions

if TYPE_CHECKING:
    from distill_at_scale.data.readers.plan import plan_log
    from distill_at_scale.data.readers.read import read_fragment
    from distill_at_scale.data.readers.schema import Batch, Fragment, LogEstimate, LogSchema, ReadAs

# The command line's help and completion need only the options; the readers import Polars and Arrow.
_HOMES = {
    "plan_log": "plan",
    "read_fragment": "read",
    **dict.fromkeys(("Batch", "Fragment", "LogEstimate", "LogSchema", "ReadAs"), "schema"),
}

__all__ = ["Batch", "Fragment", "LogEstimate", "LogOptions", "LogSchema", "ReadAs", "plan_log", "read_fragment"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
