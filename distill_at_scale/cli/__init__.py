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
from functools import partial
from typing import Annotated, Any

import typer

import distill_at_scale
from distill_at_scale import signals
from distill_at_scale.cli import completion, logs, options, output, planning, submitted, usage
from distill_at_scale.cli.flags import Command, Group
from distill_at_scale.cli.verbs import GROUPS, PLAN, VERBS, Verb, load_outside, run
from distill_at_scale.errors import DasError, SettingError
from distill_at_scale.finite_json import dumps
from distill_at_scale.settings import load
from distill_at_scale.uris import redact_text

_LOG = logging.getLogger(__name__)
_CONTEXT = {"help_option_names": ["-h", "--help"]}


def _run(name: str, verb: Verb, given: dict[str, Any]) -> None:
    as_json: bool = given["json"]
    try:
        speak = signals.last_words(lambda sentence: _failed(sentence, as_json))
        with logs.shown(given["quiet"], given["verbose"], given["log_file"]), speak:
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
        settings = options.settings_of(verb, given)
        if verb.rest:
            settings |= submitted.settings_of_job(_parsed, given)
        config = load(verb.model, given["config"], settings, options.OptionWords(verb))
        _LOG.debug("das %s: %s", name, config)
        if planning.asked(given):
            verb, result = PLAN, planning.planned(name, config, given)
        else:
            result = run(name, config)
        if verb.keep:
            verb.keep(result)
        content = verb.as_json(result)
        shown = output.print_line(dumps(content)) if as_json else output.printed(lambda: verb.show(result))
        failed = content.get("exit_code") or int(content.get("ok") is False)
        return int(failed) if shown else 1
    except DasError as error:
        _failed(str(error), as_json)
        if not isinstance(error, SettingError):
            return 1
        usage.hint(name)
        return 2
    except _HelpShown:
        return 0
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


def _command(verb: Verb, call: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
    """Returns a function with the signature that typer reads: one parameter per field, then the common options."""

    def command(**given: Any) -> None:
        call(given)

    parameters = options.parameters(verb)
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    # Ends of lines are kept in all paragraphs but the first, and would break those that a narrow terminal breaks again.
    paragraphs = (inspect.getdoc(verb.model) or "").split("\n\n")
    command.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return command


class _HelpShown(Exception):
    """The help of a verb that was to be submitted has been printed."""


def _parsed(name: str, verb: Verb, arguments: Sequence[str]) -> dict[str, Any]:
    """Returns what typer makes of a verb's options, without running it.

    Raises:
        SettingError: An option is unknown or has no value.
    """
    found: dict[str, Any] = {}
    one = typer.Typer(pretty_exceptions_enable=False, context_settings=_CONTEXT, add_completion=False)
    one.command(cls=Command)(_command(verb, found.update))
    try:
        if wrong := usage.without_value(arguments, name):
            raise SettingError(wrong)
        one(list(arguments), standalone_mode=False, prog_name=f"das submit {name}")
    except usage.UsageError as error:
        raise SettingError(usage.sentence_of(error, name)) from error
    if not found:
        raise _HelpShown
    return found


def _top(version: Annotated[bool, typer.Option("--version", metavar="", help="Print the version.")] = False) -> None:
    if version:
        print(distill_at_scale.__version__)
        raise typer.Exit()


def application() -> typer.Typer:
    """Builds the command line application with all verbs."""
    made = typer.Typer(
        name="das",
        cls=Group,
        help="Shrinks recommender logs to small datasets, and measures how much model quality they keep.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings=_CONTEXT,
    )
    made.callback(invoke_without_command=True)(_top)
    groups = {word: typer.Typer(help=text, cls=Group, no_args_is_help=True) for word, text in GROUPS.items()}
    for word, group in groups.items():
        made.add_typer(group, name=word)
    for name, verb in VERBS.items():
        *before, word = name.split()
        # The options of a verb that is run by another one follow it.
        context = {"allow_interspersed_args": False} if verb.rest else None
        command = _command(verb, partial(_run, name, verb))
        (groups[before[0]] if before else made).command(word, cls=Command, context_settings=context)(command)
    return made


def main(verb: str | None = None) -> None:
    """Entry point of `das` and, with ``verb``, of `jobs/<verb>.py`."""
    arguments = sys.argv[1:] if verb is None else [*verb.split(), *sys.argv[1:]]
    left_out = load_outside(next(iter(arguments), None))
    if completion.ASKED in os.environ:
        completion.prepare(lambda words: _spread(words)[0])
    arguments, name = _spread(arguments)
    with signals.ending():
        sys.exit(usage.called(application(), arguments, name, left_out))


def _spread(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Returns the arguments in the form that typer parses, and the verb with which they begin, if any."""
    name = next((name for words in (1, 2) if (name := " ".join(arguments[:words])) in VERBS), None)
    if name is None:
        return list(arguments), None
    n = len(name.split())
    rest = list(arguments[n:]) if VERBS[name].rest else options.spread(arguments[n:], VERBS[name])
    return [*arguments[:n], *rest], name
