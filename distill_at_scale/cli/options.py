"""Options generated from a verb's settings: names, help, values and completion."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any

import typer
import yaml
from pydantic.fields import FieldInfo

from distill_at_scale.cli import planning
from distill_at_scale.cli.verbs import Verb
from distill_at_scale.errors import SettingError
from distill_at_scale.signatures import WHERE
from distill_at_scale.validation import bare, choices_of, did_you_mean, has_choices

COMMON = {
    "config": ("--config", "FILE", "YAML file with these settings; options on the command line win."),
    "plan": ("--plan", None, "Show what the verb would take (tasks, memory, disk, time) and start nothing."),
    "plan_nodes": ("--plan-nodes", "NxCPUSxGIB", "Nodes to plan for, such as 8x16x64. Default: this machine."),
    "price": ("--price", "NUMBER", "Price of a node for an hour, for --plan."),
    "json": ("--json", None, "Print the result as one JSON object, on the last line of standard output."),
    "quiet": ("--quiet/-q", None, "Show no progress and no notes, only warnings, errors and the result."),
    "verbose": ("--verbose/-v", None, "Show debugging messages too."),
    "log_file": ("--log-file", "FILE", "Append every message to this file, with its time; errors with traceback."),
}
"""Common options of all verbs: flags, metavar, help."""
REST = "rest"
"""Parameter with the arguments that follow the positional setting of a verb that runs another one."""
SHORT = ("-q", "-v", "-h")
_WIDEST = 15
_PANEL = "Options of every verb"


def flag(setting: str) -> str:
    """Returns the option of a setting; from_ stands for --from, which Python keeps for itself."""
    return "--" + setting.rstrip("_").replace("_", "-")


class OptionWords:
    """Names of settings in messages, for settings given as options."""

    def __init__(self, verb: Verb) -> None:
        self._positional = verb.positional

    def name(self, field: str) -> str:
        return field.upper() if field == self._positional else flag(field)

    def value(self, field: str, given: str) -> str:
        return f"{self.name(field)} {given}"

    def unknown(self, field: str, known: Collection[str]) -> str:
        return f"Unknown option {flag(field)}.{did_you_mean(field, known, flag)}"


def takes_several(field: FieldInfo) -> bool:
    """Returns whether an option takes several values."""
    return typing.get_origin(bare(field)) in (list, dict)


def _is_mapping(field: FieldInfo) -> bool:
    return typing.get_origin(bare(field)) is dict


def parameters(verb: Verb) -> list[inspect.Parameter]:
    """Returns the parameters that typer reads: one per setting, then the common ones. The default None means that the
    option was not given."""
    # Required settings come first; last come the settings that say where a verb runs, which all verbs have.
    fields = sorted(verb.model.model_fields.items(), key=lambda of: (not of[1].is_required(), of[0] in WHERE))
    found = [_parameter(key, field, key == verb.positional) for key, field in fields]
    for name, (flags, metavar, text) in COMMON.items():
        kind = bool if metavar is None else str | None
        # The help of verbs without a plan does not offer one; the error for --plan names the verbs that have it.
        hidden = name in planning.OPTIONS and not verb.plans
        option = typer.Option(
            *flags.split("/"), help=text, metavar=metavar or "", rich_help_panel=_PANEL, hidden=hidden
        )
        found.append(_keyword(name, kind, option, False if metavar is None else None))
    if verb.rest:
        text = "Options of that verb."
        found.append(_keyword(REST, list[str] | None, typer.Argument(metavar="OPTIONS…", help=text), None))
    return found


def _keyword(name: str, kind: Any, option: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, option], default=default)


def _parameter(name: str, field: FieldInfo, positional: bool) -> inspect.Parameter:
    options: dict[str, Any] = {"help": _help(field), "show_default": False}
    if has_choices(field):
        options["autocompletion"] = _completer(field)
    if positional:
        return _keyword(name, str | None, typer.Argument(metavar=name.upper(), **options), None)
    if bare(field) is bool:
        return _keyword(name, bool | None, typer.Option(flag(name), metavar="", **options), None)
    # Values are converted together with all settings, so that one message lists everything that is wrong.
    kind = list[str] | None if takes_several(field) else str | None
    return _keyword(name, kind, typer.Option(flag(name), metavar=_metavar(field), **options), None)


def _help(field: FieldInfo) -> str:
    text, default = " ".join((field.description or "").split()), field.get_default(call_default_factory=True)
    if field.is_required():
        return f"{text} (required)"
    if default in (None, [], {}) or default is False:
        return text
    return f"{text} Default: {','.join(map(str, default)) if isinstance(default, list) else default}."


def _metavar(field: FieldInfo) -> str:
    kind = bare(field)
    if _is_mapping(field):
        return "KEY=VALUE…"
    if typing.get_origin(kind) is list:
        return "N…" if _of_numbers(field) else "VALUE…"
    if typing.get_origin(kind) is typing.Literal:
        choices = "|".join(typing.get_args(kind))
        # In 80 columns, a wider one would leave a few words a line to all the texts beside it, which name the choices.
        return choices if len(choices) <= _WIDEST else "NAME"
    return {int: "N", float: "NUMBER", int | str: "N|N:N"}.get(kind, "NAME" if has_choices(field) else "TEXT")


def _of_numbers(field: FieldInfo) -> bool:
    inner = typing.get_args(bare(field))[-1]
    return (typing.get_args(inner)[0] if typing.get_origin(inner) is Annotated else inner) in (int, float)


def _completer(field: FieldInfo) -> Callable[[str], list[str]]:
    several = takes_several(field)

    def complete(incomplete: str) -> list[str]:
        # In a comma-separated list, the last value is being typed.
        done, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        taken = done.split(",")
        # Names are looked up on demand, since plugins require a scan of the installed packages' metadata.
        return [
            f"{done}{comma}{name}" for name in choices_of(field) or [] if name.startswith(last) and name not in taken
        ]

    return complete


# -- parsed values -------------------------------------------------------------------------------------------


def spread(arguments: Sequence[str], verb: Verb) -> list[str]:
    """Rewrites `--input A B C` as `--input A --input B --input C` for options that take several values."""
    lists = {flag(name) for name, field in verb.model.model_fields.items() if takes_several(field)}
    found: list[str] = []
    current: str | None = None
    first = False
    for argument in arguments:
        if argument.startswith("--") or argument in SHORT:
            option, equals, _ = argument.partition("=")
            current, first = (option if option in lists else None), not equals
            found.append(argument)
        elif current and not first:
            found += [current, argument]
        else:
            found.append(argument)
            first = False
    return found


def settings_of(verb: Verb, given: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings that were given among the parsed options; KEY=VALUE pairs become dicts.

    Raises:
        SettingError: A pair is not of the form KEY=VALUE.
    """
    fields = verb.model.model_fields
    found = {key: value for key, value in given.items() if key in fields and value not in (None, [], ())}
    return {
        key: _mapping(key, fields[key], value) if _is_mapping(fields[key]) else value for key, value in found.items()
    }


# A comma that begins another pair, as in epochs=5,dim=8; not the one in user_id=a,b.
_PAIR = re.compile(r",(?=[A-Za-z_][\w.]*=)")


def _mapping(name: str, field: FieldInfo, pairs: Sequence[str]) -> dict[str, Any]:
    values = typing.get_args(bare(field))[1]
    of_text, of_lists = values is str, typing.get_origin(values) is list
    found: dict[str, Any] = {}
    for pair in (one for several in pairs for one in _PAIR.split(several)):
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise SettingError(f"{flag(name)} '{pair}' is not of the form KEY=VALUE.")
        try:
            if of_lists:
                found.setdefault(key, []).extend(part.strip() for part in text.split(","))
            else:
                found[key] = text if of_text else yaml.safe_load(text)
        except yaml.YAMLError:
            raise SettingError(f"{flag(name)} '{pair}': the value is not valid YAML; put text in quotes.") from None
    return found
