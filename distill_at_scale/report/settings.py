"""Tables of the settings of models, samplers and distillers on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distill_at_scale.report.layout import facts, grid, show

if TYPE_CHECKING:
    from distill_at_scale.pipelines.settings import SettingsList


def show_settings(result: SettingsList) -> None:
    """Prints name, default, meaning and type of each setting, or all names of models, samplers and distillers."""
    if result.name is None:
        show(facts("das settings NAME", [(kind, ", ".join(names)) for kind, names in result.names.items()]))
        return
    if not result.settings:
        show(f"The {result.kind} {result.name} has no settings of its own; budget and seed are options of das sample.")
        return
    rows = [
        [one.name, "(required)" if one.required else _value(one.default), f"{one.meaning} ({one.type})"]
        for one in result.settings
    ]
    given = sorted({one.given_by for one in result.settings if not one.given_by.startswith("--set")})
    show(f"{result.kind} {result.name}", grid(["setting", "default", "meaning"], rows, words={0, 1, 2}), "")
    if len(given) < len(result.settings):
        show(f"Set them with --set NAME=VALUE; in a sweep or comparison with --set {result.name}.NAME=VALUE.")
    if given:
        show(f"These have their own options: {', '.join(given)}.")


def _value(default: Any) -> str:
    if default is None:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, list | tuple):
        return "[" + ", ".join(map(str, default)) + "]"
    return str(default) if default != "" else "''"
