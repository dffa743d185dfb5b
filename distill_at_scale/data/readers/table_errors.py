"""Refusals of tables with a transaction log; each tells how else to get their current rows."""

from __future__ import annotations

from typing import Final

from distill_at_scale.data import storage
from distill_at_scale.errors import DasError
from distill_at_scale.extras import install

_NAMES: Final = {"delta": "Delta", "iceberg": "Iceberg", "hudi": "Hudi"}
_PARTS: Final = {"delta": "log", "iceberg": "metadata"}


def name_of(kind: str) -> str:
    """Returns the name of a kind of table, as messages write it."""
    return _NAMES[kind]


def unsupported(root: str, kind: str) -> DasError:
    """A kind of table that cannot be read at all."""
    return DasError(f"{_opening(root, kind)}; {_plain_parquet(root, kind)}.")


def no_reader(root: str, kind: str) -> DasError:
    """A table whose reader is an extra that is not installed."""
    return DasError(
        f"{_opening(root, kind)}; install the reader of its {_PARTS[kind]} with `{install(kind)}`, or "
        f"{_plain_parquet(root, kind)}."
    )


def unreadable(root: str, kind: str, error: Exception) -> DasError:
    """A table whose log is damaged, or out of reach."""
    reason = str(error).split("\n")[0]
    return DasError(
        f"{storage.redact(root)}: the {_PARTS[kind]} of the {_NAMES[kind]} table cannot be read ({reason}); write its "
        "current rows as plain Parquet."
    )


def uses(root: str, kind: str, what: str) -> DasError:
    """A table that uses what the reader does not support."""
    return DasError(
        f"{storage.redact(root)}: the {_NAMES[kind]} table uses {what}, which this reader does not support; "
        f"{_plain_parquet(root, kind)}."
    )


def _opening(root: str, kind: str) -> str:
    article = "an" if kind == "iceberg" else "a"
    return (
        f"{storage.redact(root)}: this is {article} {_NAMES[kind]} table, whose folder also holds deleted and "
        "rewritten rows"
    )


def _plain_parquet(root: str, kind: str) -> str:
    load = f"spark.read.format('{kind}').load('{storage.redact(root)}').write.parquet(...)"
    return f"write its current rows as plain Parquet, e.g. with Spark's {load}"
