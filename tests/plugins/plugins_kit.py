"""A package from outside: where it is, and forgetting that it was ever used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from distill_at_scale import lookup, registry

PACKAGE = Path(__file__).parent / "package"
DAMPENED, OLDEST, MEANS = "outside.model:Dampened", "outside.sampler:OLDEST", "outside.distiller:Means"
HALF, FIRST = "outside.metric:HALF", "outside.split:FIRST"
COUNT = "outside.verb:COUNT"
LOGFMT, AVRO = "outside.log_format:LOGFMT", "outside.log_format:AVRO"


def forget() -> None:
    """As a process that has not been told of any plugin."""
    for table in registry.EXTENSIBLE.tables:
        table._resolved.clear()
        vars(table).pop("_entries", None)
    lookup._used.clear()
    for module in [name for name in sys.modules if name.split(".")[0] == "outside"]:
        del sys.modules[module]


def entry_points(folder: Path, monkeypatch: pytest.MonkeyPatch, **groups: dict[str, str]) -> None:
    """Installs a distribution with entry points, as far as metadata go."""
    info = folder / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    lines = [
        f"[distill_at_scale.{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in groups.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(folder))
    forget()
