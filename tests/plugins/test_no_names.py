"""No file compares the name of a model, sampler, distiller or split rule: classes say what differs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill_at_scale.registry import EVERYTHING, SPLIT_RULES

PACKAGE = Path(__file__).resolve().parents[2] / "distill_at_scale"
NAMES = {*EVERYTHING, *SPLIT_RULES}
# Here things know themselves, and their own variants.
SPARED = ("registry.py", "distillation")


def compared(source: str) -> Iterator[tuple[int, str]]:
    """(line, name) of what a source compares with names, by operators, in `match` and as keys of a lookup."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare | ast.MatchValue):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value in NAMES:
                    yield node.lineno, part.value


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file.relative_to(PACKAGE).parts[0] not in SPARED]


def test_nothing_compares_names() -> None:
    found = [
        f"{file.relative_to(PACKAGE)}:{line}: {name}" for file in FILES for line, name in compared(file.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "source", ["m == 'farzi'", "'ease' != m", "m in ('mf', 'x')", "match m:\n    case 'sketch':\n        pass"]
)
def test_comparisons_are_found(source: str) -> None:
    assert len(list(compared(source))) == 1
