"""Samplers and distillers as objects, on top of the verbs.

    small = das.samplers.RandomUsers(seed=0).sample(dataset, budgets=[0.5, 0.1])     # {0.5: Dataset, 0.1: Dataset}
    synthetic = das.distillers.DistillCF(users=100).distill(dataset)                 # SyntheticDataset

Classes are generated from `registry` on first use. Their results equal those of the verbs with the same settings.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.temporary import temporary_folder
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.errors import SettingError
from distill_at_scale.registry import DISTILLERS, SAMPLERS, VERB_SETTINGS, VERBS
from distill_at_scale.settings import parse
from distill_at_scale.signatures import settings_section, signature_of
from distill_at_scale.validation import did_you_mean


class Method:
    """A method that makes a dataset smaller, with its settings.

    Attributes:
        settings: The given settings.
    """

    name: ClassVar[str]
    takes: ClassVar[tuple[str, ...]]
    """Names of the settings."""

    def __init__(self, **settings: Any) -> None:
        """Takes the settings as keywords.

        Raises:
            SettingError: A setting is unknown.
        """
        if unknown := [key for key in settings if key not in self.takes]:
            raise SettingError(
                f"{type(self).__name__} has no setting '{unknown[0]}'; its settings are {', '.join(self.takes)}."
                f"{did_you_mean(unknown[0], self.takes)}"
            )
        self.settings = settings

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.settings.items())})"

    def as_settings(self) -> dict[str, Any]:
        """Returns the verb's settings that correspond to this object."""
        raise NotImplementedError


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


class DistillerMethod(Method):
    """A distiller; its settings are validated on construction."""

    Config: ClassVar[type[BaseModel]]

    def __init__(self, **settings: Any) -> None:
        """Takes the settings as keywords.

        Raises:
            SettingError: A setting is unknown or wrong.
        """
        super().__init__(**settings)
        parse(type(self).__name__, self.Config, settings)

    def as_settings(self) -> dict[str, Any]:
        # Some of its settings are also settings of the verb; the others are passed by `set`.
        shared = VERB_SETTINGS["distill"].model_fields
        own = {key: value for key, value in self.settings.items() if key not in shared}
        return {
            "method": self.name,
            **{key: value for key, value in self.settings.items() if key in shared},
            **({"set": own} if own else {}),
        }

    def distill(
        self, data: Dataset | str, output: str | os.PathLike[str] | None = None, **running: Any
    ) -> SyntheticDataset:
        """Learns a few synthetic users or sequences on which models can be trained instead of all real ones.

            das.models.Ease().fit(das.distillers.Sketch(users=100).distill(dataset))

        Args:
            data: Dataset to distill.
            output: Folder or storage URI. Default: a temporary folder, as for :meth:`SamplerMethod.sample`.
            running: Other settings of the verb `distill`: workers, gpu, address, checkpoint_every, overwrite …

        Raises:
            SettingError: A setting is wrong.
            DasError: As for `distill`: more users than there are, too little memory, or an existing output.
        """
        output = temporary_folder("synthetic") if output is None else os.fspath(output)
        made = VERBS["distill"](data, self, output=output, **running)
        return SyntheticDataset.open(made.uri)


def sampler_names() -> dict[str, str]:
    """Class → name of each sampler: ``SvpMfProp`` → ``svp_mf_prop``."""
    return {name.replace("-", "_").title().replace("_", ""): name for name in SAMPLERS}


def distiller_names() -> dict[str, str]:
    """Class → name of each distiller: ``DistillCF`` → ``distill_cf``."""
    return {attribute.removesuffix("Distiller"): name for attribute, name in DISTILLERS.attributes().items()}


def sampler_class(name: str) -> type[SamplerMethod]:
    """Returns the class of a sampler.

    Raises:
        AttributeError: No sampler has that class name.
    """
    sampler = _find(name, "samplers", sampler_names())
    settings: type[BaseModel] = VERB_SETTINGS["sample"]
    takes = ("seed", "objective", "proxy_epochs") if SAMPLERS[sampler].proxy else ("seed",)
    about = f"The sampler {sampler}: samples a dataset's train rows, as `das sample --sampler {sampler}` does."
    return _made(SamplerMethod, name, sampler, settings, takes, about)


def distiller_class(name: str) -> type[DistillerMethod]:
    """Returns the class of a distiller.

    Raises:
        AttributeError: No distiller has that class name.
    """
    distiller = _find(name, "distillers", distiller_names())
    settings: type[BaseModel] = DISTILLERS[distiller].Config
    about = f"The distiller {distiller}: makes a synthetic dataset, as `das distill --method {distiller}` does."
    made = _made(DistillerMethod, name, distiller, settings, tuple(settings.model_fields), about)
    made.Config = settings
    return made


def _find(name: str, kind: str, names: Mapping[str, str]) -> str:
    if name not in names:
        known = "" if name.startswith("_") else f"; the {kind} are {', '.join(names)}."
        raise AttributeError(f"module 'distill_at_scale.{kind}' has no attribute '{name}'{known}")
    return names[name]


def _made(
    base: type[Any], title: str, name: str, settings: type[BaseModel], takes: tuple[str, ...], about: str
) -> type[Any]:
    made = type(title, (base,), {"name": name, "takes": takes, "__doc__": about, "__module__": base.__module__})
    made.__signature__ = signature_of(settings, only=takes)  # type: ignore[attr-defined]
    made.__doc__ = f"{about}\n\nArgs:\n{settings_section(settings, only=takes)}"
    return made
