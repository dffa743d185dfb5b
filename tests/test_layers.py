"""The house's rules about imports, read from the sources: rings point inward, and Ray lives in pipelines/ only."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = "distill_at_scale"

# Which parts of the package each part may import; what is FREE is so to all, a part may import itself.
FREE = {
    "errors",
    "extras",
    "facts",
    "finite_json",
    "logs",
    "lookup",
    "registry",
    "signatures",
    "uris",
    "validation",
}
MAY_IMPORT: dict[str, set[str]] = {
    "finite_json": set(),
    "uris": set(),
    "errors": set(),
    "extras": set(),
    "signals": set(),
    "validation": set(),
    # They know where things live, and import them when they are asked for.
    "lookup": set(),
    "registry": set(),
    "data": set(),
    "evaluation": {"data"},
    "models": {"data", "evaluation"},
    "samplers": {"data", "evaluation", "models"},
    "distillation": {"data", "evaluation", "models", "settings"},
    "genie": {"data", "evaluation", "models", "samplers", "distillation"},
    "learning_curves": {"data", "evaluation"},
    "logs": set(),
    "signatures": set(),
    "facts": set(),
    "config": {"data", "evaluation", "models", "samplers", "distillation", "genie"},
    "settings": {"data"},
    "pipelines": {
        "config",
        "settings",
        "signals",
        "data",
        "evaluation",
        "models",
        "samplers",
        "distillation",
        "genie",
        "learning_curves",
    },
    "report": {"config", "data", "evaluation", "pipelines"},
    "cli": {"config", "data", "settings", "signals", "pipelines", "report"},
    # `import distill_at_scale as das` offers the verbs and the things that they return.
    "__init__": {"config", "data", "distillation", "models", "pipelines", "report", "samplers"},
    "__main__": {"cli", "signals"},
    # What type checkers read is made of all that `__init__` offers.
    "stubs": {"__init__"},
}
RAY_USERS = {"pipelines"}


def part_of(file: Path) -> str:
    first = file.relative_to(REPOSITORY / PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(source: str, package: list[str]) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of all imports, those inside functions and under TYPE_CHECKING included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{stem}.{alias.name}") for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("__import__", "importlib.import_module", "import_module")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno, str(node.args[0].value)


def broken_rules(part: str, source: str, package: list[str]) -> list[str]:
    """What a source of ``part`` imports and must not."""
    found = []
    for line, name in imports(source, package):
        names = name.split(".")
        if names[0] == "ray" and part not in RAY_USERS:
            found.append(f"line {line}: Ray belongs into pipelines/ only")
        if names[0] != PACKAGE or len(names) < 2:
            continue
        other = names[1]
        if other not in MAY_IMPORT:
            # `from distill_at_scale import something`: a name that the face offers.
            other = "__init__"
        if other not in {part, *FREE, *MAY_IMPORT[part]}:
            found.append(f"line {line}: {part} must not import {name}")
    return found


# Rooms of pipelines/, from the ground up: each may import itself and those before it. Verbs stand above them all, but
# for those that a sweep or a plan calls, which stand on the rooms before `sweeps`.
ROOMS = ("runtime", "training", "distilling", "preparing", "sampling", "sweeps", "planning", "workflows")
VERBS = {
    "__init__",
    "attribute",
    "compare",
    "distill",
    "doctor",
    "evaluate",
    "expand",
    "export",
    "fetch",
    "fit",
    "forecast",
    "forget",
    "genie",
    "inspect",
    "predict",
    "prepare",
    "quickstart",
    "recommend",
    "report",
    "sample",
    "settings",
    "submit",
    "sweep",
    "tune",
}

SOURCES = sorted((REPOSITORY / PACKAGE).rglob("*.py"))


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: str(f.relative_to(REPOSITORY)))
def test_imports_point_inward(file: Path) -> None:
    part = part_of(file)
    assert part in MAY_IMPORT, f"{file}: a new part of the package; give it its place in MAY_IMPORT"
    package = list(file.relative_to(REPOSITORY).parent.parts)
    assert broken_rules(part, file.read_text(), package) == []


def test_pipelines_have_verbs_at_the_top_and_rooms_below() -> None:
    folder = REPOSITORY / PACKAGE / "pipelines"
    assert {file.stem for file in folder.glob("*.py")} == VERBS
    assert {file.parent.name for file in folder.glob("*/*.py")} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_of_pipelines_stand_on_each_other(room: str) -> None:
    allowed = ROOMS[: ROOMS.index(room) + 1]
    for file in sorted((REPOSITORY / PACKAGE / "pipelines" / room).glob("*.py")):
        for line, name in imports(file.read_text(), [PACKAGE, "pipelines", room]):
            names = name.split(".")
            if names[:2] == [PACKAGE, "pipelines"] and len(names) > 2:
                verb = room in ("sweeps", "planning", "workflows") and names[2] in VERBS
                assert verb or names[2] in allowed, f"{file}, line {line}: {room} must not import {name}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports inside functions and for types count: a circle of any kind means that two files are one."""
    modules = {".".join(file.relative_to(REPOSITORY).with_suffix("").parts): file for file in SOURCES}
    arrows: dict[str, set[str]] = {}
    for module, file in modules.items():
        package = module.split(".")[:-1]
        found = {name if name in modules else name.rpartition(".")[0] for _, name in imports(file.read_text(), package)}
        arrows[module] = {name for name in found if name in modules and name != module}
    while leaves := [module for module, targets in arrows.items() if not targets & arrows.keys()]:
        for module in leaves:
            del arrows[module]
    assert not arrows


@pytest.mark.parametrize(
    "file", sorted((REPOSITORY / "jobs").rglob("*.py")), ids=lambda f: str(f.relative_to(REPOSITORY))
)
def test_jobs_hold_no_logic(file: Path) -> None:
    """A job may import the command line, configs, pipelines and reports; benchmarks and checks what they measure."""
    allowed = {"cli", "config", "errors", "pipelines", "report", "settings", "signals"}
    if file.name.startswith(("bench", "check", "measure")):
        allowed |= set(MAY_IMPORT)
    for line, name in imports(file.read_text(), []):
        names = name.split(".")
        if names[0] == PACKAGE and len(names) > 1 and names[1] in MAY_IMPORT:
            assert names[1] in allowed, f"{file}, line {line}: jobs must not import {name}"


@pytest.mark.parametrize(
    ("modules", "spared"),
    [
        (
            (
                "data.storage",
                "data.catalog",
                "models.sasrec",
                "samplers.sampler",
                "distillation.synthetic",
                "genie.model",
            ),
            "ray",
        ),
        # A process on the cluster imports what its task's module does; only some tasks need torch, which takes longer.
        (
            (
                "cli",
                "models.ease",
                "pipelines.prepare",
                "pipelines.sample",
                "pipelines.fit",
                "pipelines.sweep",
                "pipelines.recommend",
                "pipelines.forget",
                "pipelines.inspect",
            ),
            "torch",
        ),
    ],
    ids=["the core without Ray", "pipelines without torch"],
)
def test_what_is_not_imported(modules: tuple[str, ...], spared: str) -> None:
    """In a process of its own: no back door brings in what is not needed."""
    import subprocess

    script = "".join(
        f"import {PACKAGE}.{name}\nassert {spared!r} not in sys.modules, '{name} imports {spared}'\n"
        for name in modules
    )
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{script}"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("part", "line", "complaint"),
    [
        ("data", "import ray", "Ray"),
        ("models", "from ray.data import Dataset", "Ray"),
        ("data", "def f():\n    import ray.train as t", "Ray"),
        ("data", "from distill_at_scale.models import ease", "data must not import"),
        ("data", "from ..models import ease", "data must not import"),
        ("data", "from .. import pipelines", "data must not import"),
        ("evaluation", "import distill_at_scale.models.ease", "evaluation must not import"),
        ("models", "from distill_at_scale.distillation import farzi", "models must not import"),
        ("samplers", "from distill_at_scale.distillation import farzi", "samplers must not import"),
        ("pipelines", "from distill_at_scale.cli import app", "pipelines must not import"),
        ("pipelines", "from distill_at_scale import prepare", "pipelines must not import"),
        ("cli", "from distill_at_scale.models import ease", "cli must not import"),
        ("data", "import importlib\nimportlib.import_module('ray')", "Ray"),
    ],
)
def test_the_rules_catch_what_breaks_them(part: str, line: str, complaint: str) -> None:
    (found,) = broken_rules(part, line, [PACKAGE, part])
    assert complaint in found


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("pipelines", "import ray"),
        ("data", "import raytracer"),
        ("models", "from distill_at_scale.data.columns import USER"),
        ("genie", "from distill_at_scale.samplers import svp"),
        ("data", "from .storage import join"),
        ("data", "from distill_at_scale.errors import DasError"),
    ],
)
def test_the_rules_let_pass_what_keeps_them(part: str, line: str) -> None:
    assert broken_rules(part, line, [PACKAGE, part]) == []
