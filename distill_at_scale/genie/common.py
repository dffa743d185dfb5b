"""On which models are the cells of a sweep compared? On those that their methods have in common.

A distiller's small data may serve two models, a sampler's every one. Means over different sets of models say as much of
the sets as of the methods.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from typing import TypeVar

Cell = TypeVar("Cell")
Method = TypeVar("Method")


def common_models(models: Mapping[Cell, Set[str]], methods: Mapping[Cell, str]) -> dict[Cell, tuple[str, ...]]:
    """On which models each cell is compared with others: those with the same models here are compared with each other.

    A method serves the models that were fitted in more than half of its cells; the others failed, or cannot learn from
    what it makes. Cells are compared on the models that all methods serve, so that a model that some method does not
    serve changes nothing (:func:`classes`). A cell that lacks one of these, as a trial of it failed, stands for its own
    models alone.

    Args:
        models: Models of each cell that were fitted on both its small data and all data; cells without any are
            excluded.
        methods: Method of each cell.

    Returns:
        for each cell with models their names, in order.
    """
    shared = classes(served(models, methods))
    return {
        cell: compared if compared and set(compared) <= has else tuple(sorted(has))
        for cell, has in models.items()
        if has
        for compared in [shared.get(methods[cell], ())]
    }


def served(models: Mapping[Cell, Set[str]], methods: Mapping[Cell, str]) -> dict[str, set[str]]:
    """The models that each method serves: those of more than half of its cells."""
    cells = Counter(methods[cell] for cell in models)
    fitted = Counter((methods[cell], model) for cell, has in models.items() for model in has)
    return {
        method: {model for (of, model), count in fitted.items() if of == method and 2 * count > n}
        for method, n in cells.items()
    }


def classes(serves: Mapping[Method, Set[str]]) -> dict[Method, tuple[str, ...]]:
    """On which models each method is compared: those that all have in common.

    Where there is none, there are classes of methods: the most methods that share a model are compared on all that they
    share, and so on with the methods that are left.

    Args:
        serves: models of each method; methods without any are left out.
    """
    left = {method: set(has) for method, has in serves.items() if has}
    found: dict[Method, tuple[str, ...]] = {}
    while left:
        counts = Counter(model for has in left.values() for model in has)
        # Of models that as many methods have, the first by name.
        most = min(counts, key=lambda model: (-counts[model], model))
        together = [method for method, has in left.items() if most in has]
        shared = tuple(sorted(set.intersection(*(left[method] for method in together))))
        for method in together:
            found[method] = shared
            del left[method]
    return found


def main_models(compared: Mapping[Method, tuple[str, ...]]) -> tuple[str, ...]:
    """Those on which most methods are compared; of classes that are as large, the one with more models."""
    counts = Counter(compared.values())
    return min(counts, key=lambda models: (-counts[models], -len(models), models), default=())
