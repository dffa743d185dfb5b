"""Trees: flattens and rebuilds nested dicts, lists, tuples and dataclasses of tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from distill_at_scale.errors import DasError

Tree = Any
"""A leaf (a tensor or anything else), or a dict, list, tuple (named ones too) or dataclass of trees."""


def flatten(tree: Tree) -> tuple[list[Any], Callable[[Sequence[Any]], Tree]]:
    """Returns the leaves, in the order of the tree, and a function that builds such a tree from other leaves."""
    leaves: list[Any] = []
    build = _take_apart(tree, leaves)

    def rebuild(others: Sequence[Any]) -> Tree:
        return build(iter(others))

    return leaves, rebuild


def _take_apart(tree: Tree, leaves: list[Any]) -> Callable[[Any], Tree]:
    if isinstance(tree, dict):
        parts = {key: _take_apart(value, leaves) for key, value in tree.items()}
        return lambda others: {key: build(others) for key, build in parts.items()}
    if isinstance(tree, (list, tuple)):
        builds = [_take_apart(value, leaves) for value in tree]
        kind: Callable[[list[Any]], Tree] = getattr(type(tree), "_make", type(tree))
        return lambda others: kind([build(others) for build in builds])
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {field.name: _take_apart(getattr(tree, field.name), leaves) for field in dataclasses.fields(tree)}
        return lambda others: dataclasses.replace(tree, **{name: build(others) for name, build in fields.items()})
    leaves.append(tree)
    return next


def as_vector(tree: Tree) -> tuple[torch.Tensor, Callable[[torch.Tensor], Tree]]:
    """Returns all tensors of a tree as one vector, and a function that returns such a tree as views of another vector.

    Raises:
        DasError: Leaves are not floating-point tensors, or not all of one dtype and device.
    """
    leaves, rebuild = flatten(tree)
    if not leaves or not all(isinstance(leaf, torch.Tensor) and leaf.is_floating_point() for leaf in leaves):
        raise DasError(
            "The parameters must be a tree of floating-point tensors; pass counters and flags with the data."
        )
    kinds = {(leaf.dtype, leaf.device) for leaf in leaves}
    if len(kinds) > 1:
        found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
        raise DasError(f"The parameters are of several kinds ({found}); convert them to one dtype and device.")
    sizes, shapes = [leaf.numel() for leaf in leaves], [leaf.shape for leaf in leaves]

    def views(vector: torch.Tensor) -> Tree:
        return rebuild([part.view(shape) for part, shape in zip(vector.split(sizes), shapes)])

    return torch.cat([leaf.reshape(-1) for leaf in leaves]), views
