"""`das`: one command per verb. The options are generated from the fields of the verb's model in `config`.

This package parses, calls and prints; the verbs themselves are in `pipelines`. The exit code is 0 on success, 2 for a
usage error (unknown verb or option, missing or wrong setting), 130 when interrupted, and 1 for any other error; with
--json the last line of standard output is then ``{"error": …}``.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

import distill_at_scale
from distill_at_scale import signals
from distill_at_scale.cli import completion, logs, options, output, usage
from distill_at_scale.cli.verbs import GROUPS, VERBS, Verb, run
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.finite_json import dumps
from distill_at_scale.settings import load
from distill_at_scale.uris import redact_text

_LOG = logging.getLogger(__name__)


def _run(name: str, verb: Verb, given: dict[str, Any]) -> None:
    as_json: bool = given["json"]
    try:
        with logs.shown(given["quiet"], given["verbose"], given["log_file"]):
            code = _perform(name, verb, given, as_json)
    except SettingError as error:
        # The log file could not be opened, so the message goes to standard error only.
        code = usage.refuse(str(error), as_json, name)
    raise typer.Exit(code)


def _perform(name: str, verb: Verb, given: dict[str, Any], as_json: bool) -> int:
    """Runs a verb and prints its result.

    Returns:
        The exit code.
    """
    try:
        config = load(verb.model, given["config"], options.settings_of(verb, given), options.OptionWords(verb))
        _LOG.debug("das %s: %s", name, config)
        result = run(name, config)
        if verb.keep:
            verb.keep(result)
        content = verb.as_json(result)
        shown = output.print_line(dumps(content)) if as_json else output.printed(lambda: verb.show(result))
        return 0 if shown and content.get("ok") is not False else 1
    except DasError as error:
        _failed(str(error), as_json)
        if not isinstance(error, SettingError):
            return 1
        usage.hint(name)
        return 2
    except KeyboardInterrupt:
        # signals.ending prints the same message on standard error.
        if as_json:
            output.print_line(dumps({"error": signals.MESSAGE}))
        return signals.CODE
    except Exception as error:
        # An unexpected exception is a bug, so the traceback is shown.
        _LOG.exception("das %s failed", name)
        if as_json:
            output.print_line(dumps({"error": redact_text(f"{type(error).__name__}: {error}")}))
        return 1


def _failed(sentence: str, as_json: bool) -> None:
    _LOG.error("%s", sentence)
    _LOG.debug("The error was raised here:", exc_info=True)
    if as_json:
        output.print_line(dumps({"error": sentence}))


def _command(name: str, verb: Verb) -> Callable[..., None]:
    """Returns a function with the signature that typer reads: one parameter per field, then the common options."""

    def command(**given: Any) -> None:
        _run(name, verb, given)

    parameters = options.parameters(verb)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = inspect.getdoc(verb.model)
    return command


def _top(version: Annotated[bool, typer.Option("--version", metavar="", help="Print the version.")] = False) -> None:
    if version:
        print(distill_at_scale.__version__)
        raise typer.Exit()


def application() -> typer.Typer:
    """Builds the command line application with all verbs."""
    made = typer.Typer(
        name="das",
        help="Shrinks recommender logs to small datasets, and measures how much model quality they keep.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback(invoke_without_command=True)(_top)
    groups = {word: typer.Typer(help=text, no_args_is_help=True) for word, text in GROUPS.items()}
    for word, group in groups.items():
        made.add_typer(group, name=word)
    for name, verb in VERBS.items():
        *before, word = name.split()
        (groups[before[0]] if before else made).command(word)(_command(name, verb))
    return made


app = application()


def main(verb: str | None = None) -> None:
    """Entry point of `das` and, with ``verb``, of `jobs/<verb>.py`."""
    arguments = sys.argv[1:] if verb is None else [*verb.split(), *sys.argv[1:]]
    if completion.ASKED in os.environ:
        completion.prepare(lambda words: _spread(words)[0])
    arguments, name = _spread(arguments)
    with signals.ending():
        sys.exit(usage.called(app, arguments, name))


def _spread(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Returns the arguments in the form that typer parses, and the verb with which they begin, if any."""
    name = next((name for words in (1, 2) if (name := " ".join(arguments[:words])) in VERBS), None)
    if name is None:
        return list(arguments), None
    n = len(name.split())
    return [*arguments[:n], *options.spread(arguments[n:], VERBS[name])], name
