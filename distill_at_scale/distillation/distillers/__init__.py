"""The distillers, a file each, and as classes; `registry` lists them.

das.distillers.DistillCF(users=100).distill(dataset)
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # Also asked for modules that are about to be imported, for which the classes must not be loaded.
    if not name[:1].isupper():
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from distill_at_scale.distillation.method import distiller_class

    return distiller_class(name)


def __dir__() -> list[str]:
    from distill_at_scale.distillation.method import distiller_names

    return list(distiller_names())
