"""Usage errors: one sentence on standard error, and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise

import typer

from distill_at_scale.cli import output
from distill_at_scale.cli.options import COMMON, SHORT, flag
from distill_at_scale.cli.verbs import GROUPS, VERBS
from distill_at_scale.finite_json import dumps
from distill_at_scale.uris import redact_text
from distill_at_scale.validation import bare, closest, did_you_mean

# Some releases of typer bundle click, others import it; in both cases this is click's UsageError.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def called(app: typer.Typer, arguments: Sequence[str], verb: str | None, left_out: Mapping[str, str]) -> int:
    """Calls the application.

    Args:
        app: Application.
        arguments: Command line without the program's name.
        verb: Verb with which the arguments begin, if any.
        left_out: Verbs of other packages that cannot be used, with the reasons; the help tells of them.

    Returns:
        The exit code.
    """
    sentence = _wrong_verb(arguments, left_out) if verb is None else without_value(arguments, verb)
    if sentence is not None:
        return refuse(sentence, "--json" in arguments, verb)
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            for name, reason in left_out.items():
                print(f"The verb '{name}' of another package is left out: {reason}", file=sys.stderr)
        return int(app(list(arguments), standalone_mode=False, prog_name="das") or 0)
    except typer.Abort:
        return 130
    except OSError as error:
        # Errors of verbs are caught earlier; here the help could not be written.
        output.refuse(error)
        return 1
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            # The help has been printed.
            return 2
        return refuse(sentence_of(error, verb), "--json" in arguments, verb)


def hint(verb: str | None) -> None:
    """Prints how to list the options."""
    print(f"Run `das {f'{verb} ' if verb else ''}--help` for help.", file=sys.stderr, flush=True)


def refuse(sentence: str, as_json: bool, verb: str | None) -> int:
    """Prints a usage error; returns the exit code."""
    sentence = redact_text(sentence)
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    hint(verb)
    if as_json:
        output.print_line(dumps({"error": sentence}))
    return 2


def _wrong_verb(arguments: Sequence[str], left_out: Mapping[str, str]) -> str | None:
    """Returns a message if the call begins with a verb that is unknown or cannot be used, else None."""
    word = next(iter(arguments), "-")
    if word.startswith("-"):
        return None
    if word in left_out:
        return f"The verb '{word}' of another package cannot be used: {left_out[word]}"
    if word not in GROUPS:
        near = closest(word, VERBS) or next((name for name in VERBS if word.casefold() in name.split()), None)
        meant = f" Did you mean 'das {near}'?" if near else f" The verbs are {', '.join(VERBS)}."
        return f"Unknown verb '{word}'.{meant}"
    rest = [name.split()[1] for name in VERBS if name.startswith(f"{word} ")]
    given = next((argument for argument in arguments[1:] if not argument.startswith("-")), None)
    if given is None:
        return None
    return f"Unknown verb '{word} {given}'. Did you mean 'das {word} {closest(given, rest) or rest[0]}'?"


def without_value(arguments: Sequence[str], verb: str) -> str | None:
    """Returns a message if an option takes the place of another's value, as in `--data --output o`, else None."""
    fields = VERBS[verb].model.model_fields
    flags = {flag(name) for name, field in fields.items() if bare(field) is bool}
    flags |= {flag(name) for name, (_, metavar, _) in COMMON.items() if metavar is None}
    known = {*map(flag, fields), *map(flag, COMMON), "--help", *SHORT}
    for one, following in pairwise(arguments):
        if one.startswith("--") and one in known - flags - {"--help"} and following in known:
            return f"{one} needs a value."
    return None


def sentence_of(error: Exception, verb: str | None) -> str:
    """Returns typer's usage error as one sentence."""
    option = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption":
        own = VERBS[verb].positional if verb else None
        known = [*VERBS[verb].model.model_fields, *COMMON] if verb else ["version", "show_completion"]
        if own and option == flag(own):
            return f"das {verb} has no option {option}; give {own.upper()} without it, as in das {verb} {own.upper()}."
        known = [name for name in known if name != own]
        # Compared without the leading hyphens, which all options share.
        near = did_you_mean(str(option).lstrip("-"), [*known, "help"], flag)
        if not verb and option in (*map(flag, COMMON), *SHORT):
            near = f" Options follow their verb, as in das fit {option}."
        command = getattr(getattr(error, "ctx", None), "command_path", "das")
        return f"{command} has no option {option}.{near}"
    if option is not None:
        return f"{option} needs a value."
    text = getattr(error, "message", None) or str(error)
    if text.startswith("Got unexpected extra argument"):
        extra = text[text.rindex("(") + 1 :].rstrip(").")
        return f"Unexpected argument: {extra}. Values follow their option, as in --output FOLDER."
    return text
