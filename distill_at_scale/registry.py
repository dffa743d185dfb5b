"""What can be named on the command line, and where each thing lives: models, samplers and distillers, one table each.

A thing's module, and torch with most of them, is imported when the thing is asked for: help texts, completion and most
processes of a cluster need only the names. A new one is a file of its own and a line here.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from distill_at_scale.errors import SettingError
from distill_at_scale.validation import did_you_mean, same_name

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Name -> thing, imported at its first use.

    Args:
        kind: what the things are, for messages.
        homes: name -> ``module:attribute``, the module without the package's name.
    """

    def __init__(self, kind: str, homes: Mapping[str, str]) -> None:
        self.kind, self._homes = kind, homes

    def __getitem__(self, name: str) -> T:
        module, _, attribute = self._homes[name].partition(":")
        found: T = getattr(importlib.import_module(f"distill_at_scale.{module}"), attribute)
        return found

    # Mapping's own would import a thing to see whether it is there.
    def __contains__(self, name: object) -> bool:
        return name in self._homes

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)

    def find(self, name: str) -> T:
        """The thing that ``name`` means, in any case.

        Raises:
            SettingError: for an unknown name, listing the known ones.
        """
        known = same_name(name, self)
        if known is None:
            near = did_you_mean(name, self)
            raise SettingError(f"There is no {self.kind} '{name}'; the {self.kind}s are {', '.join(self)}.{near}")
        return self[known]


# Each lies in the module of its name.
MODELS: Registry[Any] = Registry(
    "model",
    {
        "popularity": "models.popularity:Popularity",
        "ease": "models.ease:Ease",
        "svd_ae": "models.svd_ae:SvdAE",
        "infinite_ae": "models.infinite_ae:InfiniteAE",
        "bias": "models.bias:Bias",
        "mf": "models.mf:MF",
        "neumf": "models.neumf:NeuMF",
        "mvae": "models.mvae:MVAE",
        "svae": "models.svae:SVAE",
        "sasrec": "models.sasrec:SASRec",
        "gru4rec": "models.gru4rec:GRU4Rec",
        "lightgcn": "models.lightgcn:LightGCN",
    },
)

SAMPLERS: Registry[Any] = Registry(
    "sampler",
    {
        "random": "samplers.row_wise:RANDOM",
        "stratified": "samplers.row_wise:STRATIFIED",
        "temporal": "samplers.row_wise:TEMPORAL",
        "random_users": "samplers.user_wise:RANDOM_USERS",
        "head_users": "samplers.user_wise:HEAD_USERS",
        "centrality": "samplers.graph.centrality:CENTRALITY",
        "random_walk": "samplers.graph.random_walk:RANDOM_WALK",
        "forest_fire": "samplers.graph.forest_fire:FOREST_FIRE",
        "svp_bias": "samplers.svp.variants:SVP_BIAS",
        "svp_bias_prop": "samplers.svp.variants:SVP_BIAS_PROP",
        "svp_bias_users": "samplers.svp.variants:SVP_BIAS_USERS",
        "svp_bias_users_prop": "samplers.svp.variants:SVP_BIAS_USERS_PROP",
        "svp_mf": "samplers.svp.variants:SVP_MF",
        "svp_mf_prop": "samplers.svp.variants:SVP_MF_PROP",
        "svp_mf_users": "samplers.svp.variants:SVP_MF_USERS",
        "svp_mf_users_prop": "samplers.svp.variants:SVP_MF_USERS_PROP",
        "density": "samplers.embedding.density:DENSITY",
        "sensitivity": "samplers.embedding.sensitivity:SENSITIVITY",
        "sensitivity_users": "samplers.embedding.sensitivity:SENSITIVITY_USERS",
    },
)

DISTILLERS: Registry[Any] = Registry(
    "distiller",
    {
        "sketch": "distillation.sketch:SketchConfig",
        "distill_cf": "distillation.distill_cf_config:DistillCFConfig",
        "farzi": "distillation.farzi.config:FarziConfig",
    },
)
"""name -> its settings"""

METHODS = (*SAMPLERS, *DISTILLERS)
"""all that makes small datasets"""


def names() -> dict[str, Registry[Any]]:
    """Every name of a table, and the table."""
    return {name: table for table in (MODELS, SAMPLERS, DISTILLERS) for name in table}
