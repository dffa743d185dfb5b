"""Distillers as objects, on top of the verb `distill`.

    synthetic = das.distillers.DistillCF(users=100).distill(dataset)                 # SyntheticDataset

Classes are generated from `registry` on first use. Their results equal those of the verb with the same settings.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from pydantic import BaseModel

from distill_at_scale.data.dataset import Dataset
from distill_at_scale.data.temporary import temporary_folder
from distill_at_scale.distillation.synthetic import SyntheticDataset
from distill_at_scale.registry import DISTILLERS, VERB_SETTINGS, VERBS
from distill_at_scale.settings import parse
from distill_at_scale.signatures import Method, method_class, name_of_class


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
            output: Folder or storage URI. Default: a temporary folder, of this machine, removed when the process ends.
            running: Other settings of the verb `distill`: workers, gpu, address, checkpoint_every, overwrite …

        Raises:
            SettingError: A setting is wrong.
            DasError: As for `distill`: more users than there are, too little memory, or an existing output.
        """
        output = temporary_folder("synthetic") if output is None else os.fspath(output)
        made = VERBS["distill"](data, self, output=output, **running)
        return SyntheticDataset.open(made.uri)


def distiller_names() -> dict[str, str]:
    """Class → name of each distiller: ``DistillCF`` → ``distill_cf``."""
    return {attribute.removesuffix("Distiller"): name for attribute, name in DISTILLERS.attributes().items()}


def distiller_class(name: str) -> type[DistillerMethod]:
    """Returns the class of a distiller.

    Raises:
        AttributeError: No distiller has that class name.
    """
    distiller = name_of_class(name, "distillers", distiller_names())
    settings: type[BaseModel] = DISTILLERS[distiller].Config
    about = f"The distiller {distiller}: makes a synthetic dataset, as `das distill --method {distiller}` does."
    made = method_class(DistillerMethod, name, distiller, settings, tuple(settings.model_fields), about)
    made.Config = settings
    return made
