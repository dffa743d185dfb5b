"""The distillers as classes: ``das.distillers.DistillCF(users=100).distill(dataset)``; `registry` lists their names."""

from __future__ import annotations

from typing import Any

from distill_at_scale.methods import distiller_class, distiller_names


def __getattr__(name: str) -> Any:
    return distiller_class(name)


def __dir__() -> list[str]:
    return list(distiller_names())
