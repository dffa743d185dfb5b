"""The samplers, by name; which there are is in `registry`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill_at_scale.registry import SAMPLERS as _SAMPLERS
from distill_at_scale.registry import Registry

# Help texts and completion import this package, and need no rows.
if TYPE_CHECKING:
    from distill_at_scale.samplers.sampler import Sampler

SAMPLERS: Registry[Sampler] = _SAMPLERS


def find_sampler(name: str) -> Sampler:
    """The sampler of that name, or ``package.module:OBJECT``.

    Raises:
        SettingError: for an unknown name, listing the known ones; an object that is not there, or is not a sampler.
    """
    return SAMPLERS.find(name)


__all__ = ["SAMPLERS", "find_sampler"]
