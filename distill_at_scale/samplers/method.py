"""Samplers as objects, on top of the verb `sample`.

    small = das.samplers.RandomUsers(seed=0).sample(dataset, budgets=[0.5, 0.1])     # {0.5: Dataset, 0.1: Dataset}

Classes are generated from `registry` on first use. Their results equal those of the verb with the same settings.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.temporary import temporary_folder
from distill_at_scale.registry import SAMPLERS, VERB_SETTINGS, VERBS
from distill_at_scale.signatures import Method, method_class, name_of_class


class SamplerMethod(Method):
    """A sampler."""

    def as_settings(self) -> dict[str, Any]:
        return {"sampler": self.name, **self.settings}

    def sample(
        self,
        data: Dataset | str,
        budgets: float | Sequence[float],
        output: str | os.PathLike[str] | None = None,
        **running: Any,
    ) -> dict[float, Dataset]:
        """Samples the train rows: one Dataset for each budget, with the parent's validation and test rows.

        Args:
            data: Dataset to sample from.
            budgets: Shares of the train rows to keep, above 0 and at most 1.
            output: Folder or storage URI. Default: a temporary folder on this machine, removed when the process ends;
                a cluster of several machines needs shared storage.
            running: Other settings of the verb `sample`: workers, gpu, address, overwrite.

        Returns:
            Budget → Dataset, the largest budget first.

        Raises:
            SettingError: A setting or budget is wrong.
            DasError: As for `sample`: a budget leaves no rows, or the output exists.
        """
        output = temporary_folder("samples") if output is None else os.fspath(output)
        shares = [budgets] if isinstance(budgets, int | float) else list(budgets)
        made = VERBS["sample"](data, self, budget=shares, output=output, **running)
        return {record.budget: Dataset.open(record.uri) for record in made.samples}


def sampler_names() -> dict[str, str]:
    """Class → name of each sampler: ``SvpMfProp`` → ``svp_mf_prop``."""
    return {name.replace("-", "_").title().replace("_", ""): name for name in SAMPLERS}


def sampler_class(name: str) -> type[SamplerMethod]:
    """Returns the class of a sampler.

    Raises:
        AttributeError: No sampler has that class name.
    """
    sampler = name_of_class(name, "samplers", sampler_names())
    settings: type[BaseModel] = VERB_SETTINGS["sample"]
    takes = ("seed", "objective", "proxy_epochs") if SAMPLERS[sampler].proxy else ("seed",)
    about = f"The sampler {sampler}: samples a dataset's train rows, as `das sample --sampler {sampler}` does."
    return method_class(SamplerMethod, name, sampler, settings, takes, about)
