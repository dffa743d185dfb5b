"""How facts are said: counts with their nouns, bytes; names and values as an HTML table, for notebooks."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any


def count_of(n: float, noun: str) -> str:
    """Returns a count with its noun, such as ``1 shard`` or ``1,200 shards``."""
    return f"{n:,.12g} {noun}{'' if n == 1 else 's'}"


def byte_size(n_bytes: float) -> str:
    """Formats a number of bytes, for example as ``1.5 MiB``."""
    value = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def time_span(seconds: float) -> str:
    """Formats seconds for a reader who decides whether to wait, for example as ``4.2 min`` or ``300 years``."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    for unit, in_seconds, most in (("min", 60, 120), ("h", 3600, 96), ("days", 86400, 730)):
        if seconds < most * in_seconds:
            return f"{seconds / in_seconds:.3g} {unit}"
    years = float(f"{seconds / (365 * 86400):.3g}")
    return f"{years:,.12g} years"


def facts_html(title: str, facts: Iterable[tuple[str, Any]]) -> str:
    """Returns a small HTML table of names and values with a title."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in facts
    )
    return f"<div><b>{html.escape(title)}</b><table>{rows}</table></div>"
