"""Every random stream of the package has a name of its own: streams that share one make the same draws."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from distill_at_scale.data import hashing

PACKAGE = Path(hashing.__file__).parents[1]
SEEDED = {"default_rng", "manual_seed", "manual_seed_all", "RandomState", "SeedSequence", "Philox", "PCG64", "combine"}
# Solvers that draw their own start; a run is repeatable only when it is given.
STARTED = {"svds": "v0", "eigsh": "v0", "eigs": "v0"}
FOREIGN = re.compile(r"^(np|numpy)\.random\.(?!default_rng|Generator)|^random\.|^torch\.seed$")
# (file, call): why no name is needed.
EXCEPTIONS = {
    (
        "learning_curves/forecast.py",
        "combine(measured.shares, measured.quality, calibration.prior, measured.of_resampled_users(), slopes)",
    ): "weighs forms of curves, draws nothing",
    ("pipelines/runtime/tasks.py", "combine(item.sources, item.target)"): "writes files together, draws nothing",
}


@dataclass
class Found:
    """What a source has of random streams."""

    names: list[str] = field(default_factory=list)
    nameless: list[str] = field(default_factory=list)


def is_stream(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("hashing.stream", "stream")


def known(tree: ast.AST) -> set[str]:
    """Names of the variables and parameters of a function that hold a stream."""
    found = {
        arg.arg
        for node in ast.walk(tree)
        if isinstance(node, ast.arguments)
        for arg in (*node.posonlyargs, *node.args, *node.kwonlyargs)
        if arg.annotation is not None and ast.unparse(arg.annotation) in ("hashing.Stream", "Stream")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                several = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                for name, value in zip(target.elts, node.value.elts) if several else [(target, node.value)]:
                    if is_stream(value):
                        found.add(ast.unparse(name))
    return found


def functions(tree: ast.Module) -> Iterator[ast.AST]:
    """Outermost functions and methods, and what stands outside of them."""
    rest: list[ast.stmt] = []
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        for one in inner:
            if isinstance(one, ast.FunctionDef):
                yield one
            else:
                rest.append(one)
    yield ast.Module(rest, [])


def search(source: str, path: str = "") -> Found:
    found, parts = Found(), list(functions(ast.parse(source)))
    of_module = known(parts[-1])
    for function in parts:
        streams = known(function) | of_module
        for node in ast.walk(function):
            if not isinstance(node, ast.Call):
                continue
            called, where = ast.unparse(node.func), f"{path}: {ast.unparse(node)}"
            if is_stream(node):
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found.names.append(first.value)
                else:
                    found.nameless.append(f"{where} (the name must be written out)")
            elif FOREIGN.search(called):
                found.nameless.append(where)
            elif called.split(".")[-1] in STARTED:
                if STARTED[called.split(".")[-1]] not in {keyword.arg for keyword in node.keywords}:
                    found.nameless.append(where)
            elif called.split(".")[-1] in SEEDED and (path, ast.unparse(node)) not in EXCEPTIONS:
                named = node.args and (is_stream(node.args[0]) or ast.unparse(node.args[0]) in streams)
                if not named:
                    found.nameless.append(where)
    return found


def whole_package() -> Found:
    total = Found()
    for path in sorted(PACKAGE.rglob("*.py")):
        here = search(path.read_text(), path.relative_to(PACKAGE).as_posix())
        total.names += here.names
        total.nameless += here.nameless
    return total


def test_no_name_occurs_twice():
    names = whole_package().names
    assert len(names) > 60
    assert sorted(names) == sorted(set(names))
    assert not [name for name in names if not re.fullmatch(r"[a-z0-9_]+/[a-z0-9_ ]+", name)]


def test_no_generator_is_seeded_without_a_name():
    assert whole_package().nameless == []


def test_what_the_search_finds():
    bad = """
import numpy as np, random, torch
def one(seed):
    rng = np.random.default_rng([seed, 3])
    hashing.combine(seed, users)
    torch.manual_seed(seed)
    np.random.shuffle(rng)
    random.random()
    hashing.stream(f"a/{seed}", seed)
    svds(matrix, k=3)
    return torch.Generator().manual_seed(seed)
class Two:
    def draw(self):
        begin = self.seed
        return hashing.combine(begin, 1)
"""
    assert len(search(bad).nameless) == 9
    good = """
OF_ALL = hashing.stream("e/f")
def one(seed, begin: hashing.Stream):
    hashing.combine(OF_ALL, 1)
    own = hashing.stream("a/b", seed, 1)
    svds(matrix, v0=start)
    return np.random.default_rng(own), hashing.combine(begin, 1), torch.manual_seed(hashing.stream("c/d"))
"""
    assert search(good) == Found(["a/b", "c/d", "e/f"])


def test_streams_differ_by_name_seed_and_place():
    units = np.arange(20_000, dtype=np.uint64)
    streams = [
        hashing.stream("a/b", 1),
        hashing.stream("a/c", 1),
        hashing.stream("a/b", 2),
        hashing.stream("a/b", 1, 0),
        hashing.stream("a/b", 1, 1),
    ]
    assert hashing.stream("a/b", 1) == streams[0]
    assert len(set(streams)) == len(streams)
    assert all(0 <= begin < 1 << 63 for begin in streams)
    draws = [(hashing.combine(begin, units) >> np.uint64(11)).astype(float) * 2.0**-53 for begin in streams]
    # Correlations of independent draws are within 5 / √20,000.
    others = np.abs(np.corrcoef(draws) - np.eye(len(streams)))
    assert others.max() < 5 / np.sqrt(len(units))
