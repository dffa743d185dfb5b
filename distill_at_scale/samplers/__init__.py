"""Access to the samplers by name, and as classes; `registry` lists them.

small = das.samplers.RandomUsers(seed=0).sample(dataset, budgets=[0.5, 0.1])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distill_at_scale.registry import SAMPLERS as _SAMPLERS
from distill_at_scale.registry import Registry

# Help texts and completion import this package without the code that reads rows.
if TYPE_CHECKING:
    from distill_at_scale.samplers.sampler import Sampler

SAMPLERS: Registry[Sampler] = _SAMPLERS


def find_sampler(name: str) -> Sampler:
    """Returns the sampler with this name, the one at ``package.module:OBJECT``, or ``column=NAME``.

    Raises:
        SettingError: The name is unknown (the message lists the known ones), or the object is missing or not a sampler.
    """
    from distill_at_scale.samplers import column

    return column.column_sampler(name) if name.startswith(column.PREFIX) else SAMPLERS.find(name)


__all__ = ["SAMPLERS", "find_sampler"]


def __getattr__(name: str) -> Any:
    # Also asked for modules that are about to be imported, for which the classes must not be loaded.
    if not name[:1].isupper():
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from distill_at_scale.samplers.method import sampler_class

    return sampler_class(name)


def __dir__() -> list[str]:
    from distill_at_scale.samplers.method import sampler_names

    return [*__all__, *sampler_names()]
