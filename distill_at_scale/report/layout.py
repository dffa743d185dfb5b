"""Text on standard output. Lines are neither wrapped nor truncated, so that paths and commands can be copied.

The terminal wraps long lines itself and copies them whole. Colours appear on terminals only, not in files.
"""

from __future__ import annotations

import shlex
from collections.abc import Container, Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_GAP = "  "
_ANSI_C = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\", "'": "\\'"}


def show(*things: Text | str) -> None:
    """Prints each argument on its own lines; strings are printed literally, without rich markup."""
    console = Console(highlight=False)
    for thing in things:
        console.print(Text(thing) if isinstance(thing, str) else thing, soft_wrap=True)


def facts(title: str, rows: Iterable[tuple[str, Any]]) -> Text:
    """Returns a title, and one line for each name and its value."""
    named = [(name, str(value)) for name, value in rows]
    width = max((cell_len(name) for name, _ in named), default=0)
    lines = [Text(title, style="italic")]
    for name, value in named:
        # The lines of a multi-line value are aligned.
        value = value.strip("\n").replace("\n", "\n" + " " * width + _GAP)
        lines.append(Text.assemble((_pad(name, width, right=False), "dim"), _GAP, value))
    return Text("\n").join(lines)


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]], words: Container[int] = (0,)) -> Text:
    """Returns a table of natural width; columns are right-aligned, except those with an index in ``words``.

    Put columns of long text, such as paths, last, where they do not shift the others.
    """
    cells = [list(columns), *(list(row) for row in rows)]
    widths = [max(cell_len(cell) for cell in column) for column in zip(*cells)]
    lines = [
        _GAP.join(_pad(cell, width, k not in words) for k, (cell, width) in enumerate(zip(line, widths))).rstrip()
        for line in cells
    ]
    return Text("\n").join([Text(lines[0], style="dim"), *map(Text, lines[1:])])


def command(*words: str) -> str:
    """Returns the words as a command line, quoted for a shell."""
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    # A pasted tab would trigger completion.
    if any(ord(letter) < 32 for letter in word):
        return "$'" + "".join(_ANSI_C.get(c) or (c if ord(c) >= 32 else f"\\x{ord(c):02x}") for c in word) + "'"
    return shlex.quote(word)


def _pad(text: str, width: int, right: bool) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if right else text + blanks
