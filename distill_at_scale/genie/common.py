"""Selects the models on which the cells of a sweep are compared: those that all methods support.

A distiller's small data may support two models, a sampler's all of them. Means over different sets of models reflect
the sets as much as the methods.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from typing import TypeVar

Cell = TypeVar("Cell")
Method = TypeVar("Method")


def common_models(models: Mapping[Cell, Set[str]], methods: Mapping[Cell, str]) -> dict[Cell, tuple[str, ...]]:
    """Returns the models on which each cell is compared; cells with the same models are comparable with each other.

    A method supports the models that were fitted in more than half of its cells; the others failed, or cannot be
    trained on its small data. Cells are compared on the models that all methods support, so a model that one method
    does not support has no effect (:func:`classes`). A cell that lacks one of these models because a trial failed is
    compared on its own models only.

    Args:
        models: Models of each cell that were fitted on both its small data and all data; cells without any are
            excluded.
        methods: Method of each cell.

    Returns:
        Sorted model names of each cell that has any.
    """
    shared = classes(served(models, methods))
    return {
        cell: compared if compared and set(compared) <= has else tuple(sorted(has))
        for cell, has in models.items()
        if has
        for compared in [shared.get(methods[cell], ())]
    }


def served(models: Mapping[Cell, Set[str]], methods: Mapping[Cell, str]) -> dict[str, set[str]]:
    """Returns the models that each method supports: those fitted in more than half of its cells that have any; a budget
    at which nothing could be made says nothing of models."""
    cells = Counter(methods[cell] for cell, has in models.items() if has)
    fitted = Counter((methods[cell], model) for cell, has in models.items() for model in has)
    return {
        method: {model for (of, model), count in fitted.items() if of == method and 2 * count > n}
        for method, n in cells.items()
    }


def classes(serves: Mapping[Method, Set[str]]) -> dict[Method, tuple[str, ...]]:
    """Returns the models on which each method is compared: those that all methods support.

    If no model is supported by all, the methods form classes: the largest group of methods that share a model is
    compared on all models that it shares; the remaining methods are grouped likewise.

    Args:
        serves: Models that each method supports; methods without any are excluded.
    """
    left = {method: set(has) for method, has in serves.items() if has}
    found: dict[Method, tuple[str, ...]] = {}
    while left:
        counts = Counter(model for has in left.values() for model in has)
        # Ties go to the first model by name.
        most = min(counts, key=lambda model: (-counts[model], model))
        together = [method for method, has in left.items() if most in has]
        shared = tuple(sorted(set.intersection(*(left[method] for method in together))))
        for method in together:
            found[method] = shared
            del left[method]
    return found


def main_models(compared: Mapping[Method, tuple[str, ...]]) -> tuple[str, ...]:
    """Returns the models on which most methods are compared; among classes of equal size, the one with more models."""
    counts = Counter(compared.values())
    return min(counts, key=lambda models: (-counts[models], -len(models), models), default=())
