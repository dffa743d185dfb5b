"""Number formats: percent, CPU time, bytes, rounds of training. None becomes a dash."""

from __future__ import annotations

NOTHING = "–"


def percent(share: float | None, digits: int = 1) -> str:
    """Formats a fraction as ``97.2 %``."""
    return NOTHING if share is None else f"{100 * share:.{digits}f} %"


def budget(share: float) -> str:
    """Formats a budget without trailing zeros: ``10 %``, ``0.5 %``."""
    return f"{100 * share:.4g} %"


def interval(low: float | None, high: float | None, users_only: bool = False) -> str:
    """Formats two fractions as ``95.1 to 98.9 %``, with ``, users only`` for intervals over users only."""
    if low is None or high is None:
        return NOTHING
    return f"{100 * low:.1f} to {100 * high:.1f} %{', users only' if users_only else ''}"


def plain(value: float | None, digits: int = 2) -> str:
    """Formats a number with a fixed number of decimals and a typographic minus."""
    return NOTHING if value is None else f"{value:.{digits}f}".replace("-", "−")


def cpu(seconds: float | None) -> str:
    """Formats CPU time in seconds, minutes or hours."""
    if seconds is None:
        return NOTHING
    if 0 < seconds < 0.01:
        return "< 0.01 s"
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:,.3g} h"


def size(n_bytes: float | None) -> str:
    """Formats bytes in decimal units, which give round tick labels."""
    if n_bytes is None:
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.0f} TB"


def rounds(count: float | None) -> str:
    """Formats the number of rounds of training until making a small dataset pays off; None: it never does."""
    if count is None:
        return "never"
    if 0 < count < 0.01:
        return "< 0.01"
    return f"{count:.2g}" if count < 10 else f"{count:,.0f}"
