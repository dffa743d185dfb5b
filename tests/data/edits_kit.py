"""JSON edited by hand: a field changed, dropped, repeated, or exchanged with another."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Iterator
from typing import Any


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where everything in a JSON value is that can be edited."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))


def edited(content: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Something else."""
    found = copy.deepcopy(content)
    while found == content:
        *above, last = rng.choice([path for path in leaves(found) if path])
        home: Any = functools.reduce(lambda value, key: value[key], above, found)
        match rng.choice(("change", "drop", "repeat", "exchange")):
            case "drop":
                del home[last]
            case "repeat" if isinstance(home, list):
                home.insert(last, copy.deepcopy(home[last]))
            case "exchange":
                other = rng.choice(list(home) if isinstance(home, dict) else range(len(home)))
                home[last], home[other] = home[other], home[last]
            case _:
                value = home[last]
                changes = [None, "", [], {}, 0, 1]
                if isinstance(value, bool):
                    changes = [not value]
                elif isinstance(value, int | float):
                    changes = [value + 1, value - 1, -value, 2 * value, value + 0.5, str(value)]
                elif isinstance(value, str):
                    changes = [value + "0", value[:-1], value[::-1]]
                home[last] = rng.choice(changes)
    return found
