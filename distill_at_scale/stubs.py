"""Writes the stubs by which type checkers and editors see the package: ``python -m distill_at_scale.stubs``.

At run time names are imported when they are asked for, and settings are fields of pydantic models; the stubs say both
in plain Python: `__init__.pyi` with the verbs, and one for each namespace of classes. A test compares them with what
this makes.
"""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from distill_at_scale.registry import MODELS
from distill_at_scale.signatures import default_of, order_of, plain_type
from distill_at_scale.validation import bare, choices_of

PACKAGE = "distill_at_scale"
das: Any = importlib.import_module(PACKAGE)
HEAD = f"# Made by `python -m {PACKAGE}.stubs` of the settings; a test compares it.\n"
# What a setting takes beside its own type, by the name of the setting.
_ADDRESSES = ("data", "genie", "input", "output", "samples", "storage", "sweep", "sweeps", "teachers_at")
_OBJECTS = {"model": "Recommender", "sampler": "SamplerMethod", "method": "DistillerMethod"}


def stubs() -> dict[str, str]:
    """File, below the package → its content."""
    return {
        "__init__.pyi": _package(),
        "models/__init__.pyi": _models(),
        "samplers/__init__.pyi": _methods("samplers", "SamplerMethod"),
        "distillers.pyi": _methods("distillers", "DistillerMethod"),
    }


def main() -> None:
    """Writes the stubs beside their modules."""
    for file, content in stubs().items():
        path = Path(__file__).parent / file
        path.write_text(content)
        print(path)


def _package() -> str:
    imports, verbs = [], []
    returned: dict[str, set[str]] = {}
    for name in das.__all__:
        if name in das._NAMESPACES:
            continue
        home, found = das._HOMES.get(name, f"pipelines.{name}"), getattr(das, name)
        if not hasattr(found, "settings"):
            imports.append(f"from {PACKAGE}.{home} import {name} as {name}")
            continue
        returns = str(inspect.signature(found).return_annotation)
        for word in _words(returns):
            defined = getattr(importlib.import_module(f"{PACKAGE}.{home}"), word, None)
            own = isinstance(defined, type) and defined.__module__.startswith(PACKAGE)
            if own and word not in das.__all__:
                returned.setdefault(str(getattr(defined, "__module__", "")), set()).add(word)
        verbs.append(_verb(name, found, returns))
        returned.setdefault(found.settings.__module__, set()).add(found.settings.__name__)
    spaces = ", ".join(f"{name} as {name}" for name in das._NAMESPACES)
    lines = [
        "from collections.abc import Sequence\nfrom os import PathLike",
        "from typing import Any, Literal, Protocol, overload\n",
        f"from {PACKAGE} import {spaces}",
        *sorted({*imports, *(f"from {home} import {', '.join(sorted(of))}" for home, of in returned.items())}),
        f"from {PACKAGE}.methods import DistillerMethod, SamplerMethod",
        f"from {PACKAGE}.models.base import Recommender",
        "\n__version__: str\n",
        "class HasAddress(Protocol):",
        '    """A Dataset, a SyntheticDataset, or a result of a verb."""\n',
        "    uri: str\n",
        "Address = str | PathLike[str] | HasAddress",
        *verbs,
    ]
    every = ", ".join(f'"{name}"' for name in das.__all__)
    return f"{HEAD}\n" + "\n".join(lines) + f"\n__all__ = [{every}]\n"


def _verb(name: str, function: Any, returns: str) -> str:
    """Both ways of calling a verb."""
    settings: type[BaseModel] = function.settings
    positional = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    taken = _parameters(settings, positional, objects=function.objects)
    text = textwrap.indent(f'"""{inspect.getdoc(function)}\n"""', "    ")
    return (
        f"\n@overload\ndef {name}(\n{taken}) -> {returns}:\n{text}\n"
        f"@overload\ndef {name}(config: {settings.__name__}, /, **changes: Any) -> {returns}: ...\n"
    )


def _models() -> str:
    module = importlib.import_module(f"{PACKAGE}.models")
    lines = [
        "from collections.abc import Collection, Mapping\nfrom typing import Any, Literal\n",
        f"from {PACKAGE}.models.base import ModelConfig as ModelConfig, Recommender as Recommender",
        f"from {PACKAGE}.registry import Registry\n",
        "MODELS: Registry[type[Recommender]]\n",
    ]
    for name in module.__all__:
        found = getattr(module, name)
        if inspect.isfunction(found):
            lines.append(f"def {name}{_plain(inspect.signature(found))}: ...")
    for title, name in MODELS.attributes().items():
        found = MODELS[name]
        lines.append(f"\nfrom {found.__module__} import {title} as _{title}\n")
        first = "        config: ModelConfig | None = None,\n"
        lines.append(
            _class(title, f"_{title}", found.__doc__ or "", _parameters(found.Config, (), None, "    ", first))
        )
    return f"{HEAD}\n" + "\n".join(lines)


def _methods(kind: str, base: str) -> str:
    module = importlib.import_module(f"{PACKAGE}.{kind}")
    lines = ["from typing import Any, Literal\n", f"from {PACKAGE}.methods import {base}"]
    if kind == "samplers":
        lines += [f"from {PACKAGE}.registry import Registry", f"from {PACKAGE}.samplers.sampler import Sampler\n"]
        lines += ["SAMPLERS: Registry[Sampler]\n", "def find_sampler(name: str) -> Sampler: ..."]
    for title in dir(module):
        found = getattr(module, title)
        if isinstance(found, type) and hasattr(found, "takes"):
            settings = getattr(found, "Config", None) or importlib.import_module(f"{PACKAGE}.config").SampleConfig
            lines.append(_class(title, base, found.__doc__ or "", _parameters(settings, (), found.takes, "    ")))
    return f"{HEAD}\n" + "\n".join(lines)


def _class(title: str, base: str, about: str, parameters: str) -> str:
    text = textwrap.indent(f'"""{about.strip()}\n"""', "    ")
    return f"\nclass {title}({base}):\n{text}\n    def __init__(\n        self,\n{parameters}    ) -> None: ...\n"


def _parameters(
    settings: type[BaseModel],
    positional: Collection[str],
    only: Collection[str] | None = None,
    indent: str = "",
    first: str = "",
    objects: Collection[str] = (),
) -> str:
    lines = [first] if first else []
    for name in order_of(settings, tuple(positional), only):
        field = settings.model_fields[name]
        if name not in positional and not any("*," in line for line in lines):
            lines.append(f"    {indent}*,\n")
        default = "" if field.is_required() else f" = {default_of(field)!r}"
        lines.append(f"    {indent}{name}: {_type(name, field, objects)}{default},\n")
    return "".join(lines)


def _type(name: str, field: FieldInfo, objects: Collection[str]) -> str:
    """A setting's type, and what is taken for it; ``objects`` may be in memory only."""
    shown = _shown(plain_type(field.annotation))
    optional = " | None" if shown.endswith("| None") else ""
    if name in _ADDRESSES:
        several = " | Sequence[Address]" if typing.get_origin(bare(field)) is list else ""
        return f"Address{several}{optional}"
    if name in _OBJECTS and bare(field) is str:
        if choices_of(field):
            return f"str | {_OBJECTS[name]}{optional}"
        return f"Address | {_OBJECTS[name]}{optional}" if name in objects else f"Address{optional}"
    if typing.get_origin(bare(field)) is list:
        inner = _shown(plain_type(typing.get_args(bare(field))[0]))
        one = "str | float" if inner == "str" and name in ("budget", "budgets") else f"{inner}"
        return f"{one} | Sequence[{one}]{optional}"
    return shown


def _shown(kind: Any) -> str:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " | ".join(_shown(one) for one in typing.get_args(kind))
    return "None" if kind is type(None) else inspect.formatannotation(kind).replace("typing.", "")


def _plain(signature: inspect.Signature) -> str:
    """A signature whose annotations are text, as ``from __future__ import annotations`` leaves them."""
    return str(signature).replace("'", "")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


if __name__ == "__main__":
    main()
