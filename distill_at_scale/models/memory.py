"""How much memory is free here, and refusing work that would not fit before the system kills it."""

from __future__ import annotations

from pathlib import Path

import psutil

from distill_at_scale.errors import NotEnoughMemoryError

_CGROUP_FILES = (
    # version 2: limit, use; version 1: limit, use
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available_memory() -> int:
    """Bytes this process can still take: what the machine has free, or less where a container limits it."""
    free = int(psutil.virtual_memory().available)
    for limit_file, use_file in _CGROUP_FILES:
        try:
            limit, use = Path(limit_file).read_text().strip(), Path(use_file).read_text().strip()
        except OSError:
            continue
        if limit.isdigit():
            # Page cache counts as used there although it gives way, so this errs on the safe side.
            free = min(free, max(int(limit) - int(use), 0))
        break
    return free


def require_memory(what: str, needed: int, available: int | None, mend: str) -> None:
    """Refuses ``what`` when it needs more bytes than there are.

    Args:
        what: subject of the sentence, e.g. ``"ease with 100,000 items"``.
        needed: bytes at the peak.
        available: bytes; by default those of :func:`available_memory`.
        mend: what to do instead.

    Raises:
        NotEnoughMemoryError: when ``needed`` exceeds ``available``.
    """
    free = available_memory() if available is None else available
    if needed > free:
        raise NotEnoughMemoryError(f"{what} needs about {_gib(needed)} of memory, but {_gib(free)} are free; {mend}.")


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:,.1f} GiB"
