"""Plain words: docstrings, comments and messages of the package avoid a few idiosyncratic phrases."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "distill_at_scale"
FILES = sorted(PACKAGE.rglob("*.py"))
PHRASES = re.compile(
    r"\b(is no|anew|so many|whoever|vouches for|no numbers any more|of equals|what became of)\b", re.IGNORECASE
)


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of every string; the literal parts of an f-string are one text."""
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            texts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
            yield node.lineno, "".join(map(str, texts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


def comments(source: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every comment."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def attribute_docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of the strings below attributes, and of the entries of ``Attributes:`` and ``Args:``."""
    for node in ast.walk(tree):
        for statement in getattr(node, "body", []) if isinstance(node, ast.Module | ast.ClassDef) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield statement.lineno, str(statement.value.value)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for entry in re.finditer(r"^ +[\w, *]+: (of .*)$", ast.get_docstring(node) or "", re.MULTILINE):
                yield node.body[0].lineno, entry[1]


def test_texts_are_found():
    source = '''"""Module."""\nx = 1  # comment\n"""of x"""\ny = f"there {x} is no {x}"\n'''
    tree = ast.parse(source)
    assert (4, "there … is no …") in list(strings(tree))
    assert list(comments(source)) == [(2, "# comment")]
    assert (3, "of x") in list(attribute_docstrings(tree))
    entries = ast.parse('def f(x):\n    """Does.\n\n    Args:\n        x: of the shard.\n    """\n')
    assert [text for _, text in attribute_docstrings(entries)] == ["of the shard."]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_plain_words(file):
    source = file.read_text()
    tree = ast.parse(source)
    said = [*strings(tree), *comments(source)]
    assert [(line, text) for line, text in said if PHRASES.search(" ".join(text.split()))] == []
    of = [(line, text) for line, text in attribute_docstrings(tree) if re.match(r"of\b", text.strip(), re.IGNORECASE)]
    assert of == []
