# Made by `python -m distill_at_scale.stubs` of the settings; a test compares it.

from typing import Any, Literal

from distill_at_scale.methods import SamplerMethod
from distill_at_scale.registry import Registry
from distill_at_scale.samplers.sampler import Sampler

SAMPLERS: Registry[Sampler]

def find_sampler(name: str) -> Sampler: ...

class Centrality(SamplerMethod):
    """The sampler centrality: keeps a part of a dataset's train rows, as `das sample --sampler centrality` does.

    Args:
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        seed: int = 0,
    ) -> None: ...


class Density(SamplerMethod):
    """The sampler density: keeps a part of a dataset's train rows, as `das sample --sampler density` does.

    Args:
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        seed: int = 0,
    ) -> None: ...


class ForestFire(SamplerMethod):
    """The sampler forest_fire: keeps a part of a dataset's train rows, as `das sample --sampler forest_fire` does.

    Args:
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        seed: int = 0,
    ) -> None: ...


class HeadUsers(SamplerMethod):
    """The sampler head_users: keeps a part of a dataset's train rows, as `das sample --sampler head_users` does.

    Args:
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        seed: int = 0,
    ) -> None: ...


class Random(SamplerMethod):
    """The sampler random: keeps a part of a dataset's train rows, as `das sample --sampler random` does.

    Args:
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        seed: int = 0,
    ) -> None: ...


class RandomUsers(SamplerMethod):
    """The sampler random_users: keeps a part of a dataset's train rows, as `das sample --sampler random_users` does.

    Args:
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        seed: int = 0,
    ) -> None: ...


class RandomWalk(SamplerMethod):
    """The sampler random_walk: keeps a part of a dataset's train rows, as `das sample --sampler random_walk` does.

    Args:
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        seed: int = 0,
    ) -> None: ...


class Sensitivity(SamplerMethod):
    """The sampler sensitivity: keeps a part of a dataset's train rows, as `das sample --sampler sensitivity` does.

    Args:
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        seed: int = 0,
    ) -> None: ...


class SensitivityUsers(SamplerMethod):
    """The sampler sensitivity_users: keeps a part of a dataset's train rows, as `das sample --sampler sensitivity_users` does.

    Args:
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        seed: int = 0,
    ) -> None: ...


class Stratified(SamplerMethod):
    """The sampler stratified: keeps a part of a dataset's train rows, as `das sample --sampler stratified` does.

    Args:
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        seed: int = 0,
    ) -> None: ...


class SvpBias(SamplerMethod):
    """The sampler svp_bias: keeps a part of a dataset's train rows, as `das sample --sampler svp_bias` does.

    Args:
        objective: Definition of a hard row for the proxy of svp_*: its rank among unseen items (implicit; also
            for sequential use), or the squared error of its rating (explicit). Default: 'implicit'.
        proxy_epochs: Passes over the train rows by the proxy of svp_*; a row's score is the mean over them.
            Default: 50.
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        objective: Literal['explicit', 'implicit'] = 'implicit',
        proxy_epochs: int = 50,
        seed: int = 0,
    ) -> None: ...


class SvpBiasProp(SamplerMethod):
    """The sampler svp_bias_prop: keeps a part of a dataset's train rows, as `das sample --sampler svp_bias_prop` does.

    Args:
        objective: Definition of a hard row for the proxy of svp_*: its rank among unseen items (implicit; also
            for sequential use), or the squared error of its rating (explicit). Default: 'implicit'.
        proxy_epochs: Passes over the train rows by the proxy of svp_*; a row's score is the mean over them.
            Default: 50.
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        objective: Literal['explicit', 'implicit'] = 'implicit',
        proxy_epochs: int = 50,
        seed: int = 0,
    ) -> None: ...


class SvpBiasUsers(SamplerMethod):
    """The sampler svp_bias_users: keeps a part of a dataset's train rows, as `das sample --sampler svp_bias_users` does.

    Args:
        objective: Definition of a hard row for the proxy of svp_*: its rank among unseen items (implicit; also
            for sequential use), or the squared error of its rating (explicit). Default: 'implicit'.
        proxy_epochs: Passes over the train rows by the proxy of svp_*; a row's score is the mean over them.
            Default: 50.
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        objective: Literal['explicit', 'implicit'] = 'implicit',
        proxy_epochs: int = 50,
        seed: int = 0,
    ) -> None: ...


class SvpBiasUsersProp(SamplerMethod):
    """The sampler svp_bias_users_prop: keeps a part of a dataset's train rows, as `das sample --sampler svp_bias_users_prop` does.

    Args:
        objective: Definition of a hard row for the proxy of svp_*: its rank among unseen items (implicit; also
            for sequential use), or the squared error of its rating (explicit). Default: 'implicit'.
        proxy_epochs: Passes over the train rows by the proxy of svp_*; a row's score is the mean over them.
            Default: 50.
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        objective: Literal['explicit', 'implicit'] = 'implicit',
        proxy_epochs: int = 50,
        seed: int = 0,
    ) -> None: ...


class SvpMf(SamplerMethod):
    """The sampler svp_mf: keeps a part of a dataset's train rows, as `das sample --sampler svp_mf` does.

    Args:
        objective: Definition of a hard row for the proxy of svp_*: its rank among unseen items (implicit; also
            for sequential use), or the squared error of its rating (explicit). Default: 'implicit'.
        proxy_epochs: Passes over the train rows by the proxy of svp_*; a row's score is the mean over them.
            Default: 50.
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        objective: Literal['explicit', 'implicit'] = 'implicit',
        proxy_epochs: int = 50,
        seed: int = 0,
    ) -> None: ...


class SvpMfProp(SamplerMethod):
    """The sampler svp_mf_prop: keeps a part of a dataset's train rows, as `das sample --sampler svp_mf_prop` does.

    Args:
        objective: Definition of a hard row for the proxy of svp_*: its rank among unseen items (implicit; also
            for sequential use), or the squared error of its rating (explicit). Default: 'implicit'.
        proxy_epochs: Passes over the train rows by the proxy of svp_*; a row's score is the mean over them.
            Default: 50.
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        objective: Literal['explicit', 'implicit'] = 'implicit',
        proxy_epochs: int = 50,
        seed: int = 0,
    ) -> None: ...


class SvpMfUsers(SamplerMethod):
    """The sampler svp_mf_users: keeps a part of a dataset's train rows, as `das sample --sampler svp_mf_users` does.

    Args:
        objective: Definition of a hard row for the proxy of svp_*: its rank among unseen items (implicit; also
            for sequential use), or the squared error of its rating (explicit). Default: 'implicit'.
        proxy_epochs: Passes over the train rows by the proxy of svp_*; a row's score is the mean over them.
            Default: 50.
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        objective: Literal['explicit', 'implicit'] = 'implicit',
        proxy_epochs: int = 50,
        seed: int = 0,
    ) -> None: ...


class SvpMfUsersProp(SamplerMethod):
    """The sampler svp_mf_users_prop: keeps a part of a dataset's train rows, as `das sample --sampler svp_mf_users_prop` does.

    Args:
        objective: Definition of a hard row for the proxy of svp_*: its rank among unseen items (implicit; also
            for sequential use), or the squared error of its rating (explicit). Default: 'implicit'.
        proxy_epochs: Passes over the train rows by the proxy of svp_*; a row's score is the mean over them.
            Default: 50.
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        objective: Literal['explicit', 'implicit'] = 'implicit',
        proxy_epochs: int = 50,
        seed: int = 0,
    ) -> None: ...


class Temporal(SamplerMethod):
    """The sampler temporal: keeps a part of a dataset's train rows, as `das sample --sampler temporal` does.

    Args:
        seed: Random seed. Default: 0.
    """
    def __init__(
        self,
        *,
        seed: int = 0,
    ) -> None: ...
