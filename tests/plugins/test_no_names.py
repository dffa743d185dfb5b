"""No file compares the name of a model, sampler, distiller, split rule or log format: classes say what differs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill_at_scale.registry import EVERYTHING, FORMATS, SPLIT_RULES

PACKAGE = Path(__file__).resolve().parents[2] / "distill_at_scale"
NAMES = {*EVERYTHING, *SPLIT_RULES}
# Here things know themselves, and their own variants.
SPARED = ("registry.py", "distillation")


# Elsewhere parquet and csv are formats of exports.
READERS = "data/readers/"


def compared(source: str, names: set[str] = NAMES) -> Iterator[tuple[int, str]]:
    """(line, name) of what a source compares with names, by operators, in `match` and as keys of a lookup."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare | ast.MatchValue):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value in names:
                    yield node.lineno, part.value


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file.relative_to(PACKAGE).parts[0] not in SPARED]


def test_nothing_compares_names() -> None:
    places = {str(file.relative_to(PACKAGE)): file for file in FILES}
    found = [
        f"{place}:{line}: {name}"
        for place, file in places.items()
        for line, name in compared(file.read_text(), {*NAMES, *FORMATS} if place.startswith(READERS) else NAMES)
    ]
    assert found == []


@pytest.mark.parametrize(
    "source", ["m == 'farzi'", "'ease' != m", "m in ('mf', 'x')", "match m:\n    case 'sketch':\n        pass"]
)
def test_comparisons_are_found(source: str) -> None:
    assert len(list(compared(source))) == 1
