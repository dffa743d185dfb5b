"""Typer's commands, whose help shows no type beside options that take no value, such as --help."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


def _without_types(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters


class Command(TyperCommand):
    """A verb."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Returns the parameters, with --help."""
        return _without_types(super().get_params(ctx))


class Group(TyperGroup):
    """Verbs."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Returns the parameters, with --help and those of completion."""
        return _without_types(super().get_params(ctx))
