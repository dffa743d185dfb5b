"""Shell completion: typer completes; this module brings the words into the form that typer parses.

A shell calls `das` with ``_DAS_COMPLETE`` set, and passes the words so far in variables. Completion imports nothing
large: names come from `registry`, options from `config`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, MutableMapping, Sequence

ASKED = "_DAS_COMPLETE"
"""Environment variable by which a shell requests completion."""


def prepare(spread: Callable[[Sequence[str]], list[str]], environment: MutableMapping[str, str] = os.environ) -> None:
    """Repeats each option in front of each of its values, since typer accepts one value per option.

    Args:
        spread: Function that does this for a list of arguments.
        environment: Environment with the words so far, which are replaced.
    """
    if "bash" in environment.get(ASKED, ""):
        words, at = _split(environment.get("COMP_WORDS", "")), int(environment.get("COMP_CWORD", 0))
        given, incomplete = _spread(spread, words[1:at], words[at] if at < len(words) else "")
        environment["COMP_WORDS"] = shlex.join([words[0] if words else "das", *given, incomplete])
        environment["COMP_CWORD"] = str(len(given) + 1)
    elif text := environment.get("_TYPER_COMPLETE_ARGS"):
        words = _split(text)
        incomplete = "" if text.endswith(" ") or len(words) < 2 else words.pop()
        given, incomplete = _spread(spread, words[1:], incomplete)
        environment["_TYPER_COMPLETE_ARGS"] = shlex.join([words[0], *given]) + " " + incomplete


def _spread(
    spread: Callable[[Sequence[str]], list[str]], given: Sequence[str], incomplete: str
) -> tuple[list[str], str]:
    *before, last = spread([*given, incomplete])
    return before, last


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quote that is still open
        return text.split()
