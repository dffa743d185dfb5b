"""`das`: one command a verb. The options are the fields of the verb's model in `config`, so nothing is said twice.

Parses, calls, shows; what a verb does is in `pipelines`. A DasError ends it with its sentence and exit code 1.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import distill_at_scale
from distill_at_scale import config, report, signals
from distill_at_scale.errors import DasError
from distill_at_scale.settings import load


@dataclass(frozen=True)
class _Verb:
    """How a verb is parsed and shown."""

    model: type[BaseModel]
    show: Callable[[Any], None]
    as_json: Callable[[Any], dict[str, Any]]
    positional: str | None = None
    keep: Callable[[Any], None] | None = None
    """writes what only a face makes of the result, as figures"""


def _dump(result: BaseModel) -> dict[str, Any]:
    return result.model_dump(mode="json")


_VERBS = {
    "quickstart": _Verb(config.QuickstartConfig, report.show_quickstart, _dump, keep=report.keep_quickstart),
    "fetch": _Verb(config.FetchConfig, report.show_fetched, report.fetched_json, "name"),
    "prepare": _Verb(config.PrepareConfig, report.show_dataset, lambda dataset: dataset.summary()),
    "inspect": _Verb(config.InspectConfig, report.show_dataset, lambda dataset: dataset.summary(), "data"),
    "fit": _Verb(config.FitConfig, report.show_fit, _dump),
    "evaluate": _Verb(config.EvaluateConfig, report.show_evaluation, _dump),
    "sample": _Verb(config.SampleConfig, report.show_samples, _dump),
    "distill": _Verb(config.DistillConfig, report.show_distilled, _dump),
    "export": _Verb(config.ExportConfig, report.show_export, _dump),
    "compare": _Verb(config.CompareConfig, report.show_comparison, _dump, keep=report.keep_comparison),
    "sweep": _Verb(config.SweepConfig, report.show_sweep, _dump),
    "report": _Verb(config.ReportConfig, report.show_report, _dump, keep=report.keep_report),
    "recommend": _Verb(config.RecommendConfig, report.show_recommendation, _dump),
    "genie train": _Verb(config.GenieTrainConfig, report.show_genie, _dump),
    "doctor": _Verb(config.DoctorConfig, report.show_checks, report.checks_json),
}


def _call(name: str, settings: BaseModel) -> Any:
    """Runs a verb; its pipeline is imported only now, since Ray and torch take seconds."""
    module = importlib.import_module(f"distill_at_scale.pipelines.{name.split()[0]}")
    function = getattr(module, name.replace(" ", "_"))
    return function(settings)


def _run(name: str, verb: _Verb, given: dict[str, Any], file: str | None, as_json: bool) -> None:
    try:
        result = _call(name, load(verb.model, file, given))
        if verb.keep:
            verb.keep(result)
    except DasError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        if as_json:
            print(json.dumps({"error": str(error)}), flush=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(signals.CODE) from None
    content = verb.as_json(result)
    if as_json:
        print(json.dumps(content), flush=True)
    else:
        verb.show(result)
    if content.get("ok") is False:
        raise typer.Exit(1)


def _command(name: str, verb: _Verb) -> Callable[..., None]:
    """A function whose signature typer reads: one parameter a field, then --config and --json."""
    fields = verb.model.model_fields

    def command(**given: Any) -> None:
        file, as_json = given.pop("config"), given.pop("json")
        settings = {key: _value(fields[key], value) for key, value in given.items() if value not in (None, [], ())}
        _run(name, verb, settings, file, as_json)

    parameters = [_parameter(key, field, key == verb.positional) for key, field in fields.items()]
    config_help = "YAML file with these settings; options on the command line win"
    json_help = "print the result as one JSON object on the last line of standard output"
    parameters.append(_keyword("config", str | None, typer.Option("--config", help=config_help, metavar="FILE"), None))
    parameters.append(_keyword("json", bool, typer.Option("--json", help=json_help), False))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = inspect.getdoc(verb.model)
    return command


def _keyword(name: str, kind: Any, option: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, option], default=default)


def _parameter(name: str, field: FieldInfo, positional: bool) -> inspect.Parameter:
    kind, default = _shell_type(field), field.get_default(call_default_factory=True)
    shown = False if default in (None, [], {}) or field.is_required() else str(default)
    options: dict[str, Any] = {"help": _help(field), "show_default": False if default is False else shown}
    if positional:
        return _keyword(name, kind, typer.Argument(**options), None)
    flag = "--" + name.replace("_", "-")
    if kind == bool | None:
        return _keyword(name, kind, typer.Option(flag, **options), None)
    metavar = {list[str] | None: "VALUE…", list[int] | None: "N…"}.get(kind)
    if _is_mapping(field):
        metavar = "KEY=VALUE…"
    if typing.get_origin(_bare(field)) is Literal:
        metavar = "|".join(typing.get_args(_bare(field)))
    return _keyword(name, kind, typer.Option(flag, metavar=metavar, **options), None)


def _help(field: FieldInfo) -> str:
    text = " ".join((field.description or "").split())
    return f"{text} (required)" if field.is_required() else text


def _bare(field: FieldInfo) -> Any:
    """A field's type without its None."""
    kind = field.annotation
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    return kind


def _is_mapping(field: FieldInfo) -> bool:
    return typing.get_origin(_bare(field)) is dict


def _shell_type(field: FieldInfo) -> Any:
    """What typer parses; None, the default of all, means that the option was not given."""
    kind = _bare(field)
    if typing.get_origin(kind) is dict:
        return list[str] | None
    if typing.get_origin(kind) is Literal:
        return str | None
    return kind | None


def _value(field: FieldInfo, value: Any) -> Any:
    if not _is_mapping(field):
        return value
    of_text = typing.get_args(_bare(field))[1] is str
    pairs = {}
    for pair in value:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f"'{pair}' is not of the form KEY=VALUE")
        try:
            pairs[key] = text if of_text else yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise typer.BadParameter(f"'{pair}': the value is not valid YAML") from error
    return pairs


def _spread(arguments: Sequence[str], verb: _Verb) -> list[str]:
    """`--input A B C` as `--input A --input B --input C`, for the options that take several values."""
    lists = {
        "--" + name.replace("_", "-")
        for name, field in verb.model.model_fields.items()
        if typing.get_origin(_bare(field)) in (list, dict)
    }
    spread: list[str] = []
    current: str | None = None
    first = False
    for argument in arguments:
        if argument.startswith("--"):
            current, first = (argument if argument in lists else None), True
            spread.append(argument)
        elif current and not first:
            spread += [current, argument]
        else:
            spread.append(argument)
            first = False
    return spread


app = typer.Typer(
    name="das",
    help="Recommender logs become tiny datasets that train models as well as the full log does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        print(distill_at_scale.__version__)
        raise typer.Exit()


_GROUPS = {"genie": typer.Typer(help="A Data-Genie of your own.", no_args_is_help=True)}
"""What the verbs of two words begin with."""

for _group, _sub in _GROUPS.items():
    app.add_typer(_sub, name=_group)

for _name, _verb in _VERBS.items():
    *_before, _word = _name.split()
    (_GROUPS[_before[0]] if _before else app).command(_word)(_command(_name, _verb))


def main(verb: str | None = None) -> None:
    """Entry point of `das`, and, with ``verb``, of `jobs/<verb>.py`."""
    arguments = sys.argv[1:] if verb is None else [*verb.split(), *sys.argv[1:]]
    for words in (1, 2):
        if (name := " ".join(arguments[:words])) in _VERBS:
            arguments = [*name.split(), *_spread(arguments[words:], _VERBS[name])]
            break
    with signals.ending():
        app(arguments)


if __name__ == "__main__":
    main()
