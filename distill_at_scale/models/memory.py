"""Free memory, and the rejection of work that would not fit."""

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
    """Returns the bytes this process can still allocate: the machine's free memory, or less in a limited container."""
    free = int(psutil.virtual_memory().available)
    for limit_file, use_file in _CGROUP_FILES:
        try:
            limit, use = Path(limit_file).read_text().strip(), Path(use_file).read_text().strip()
        except OSError:
            continue
        if limit.isdigit():
            # The page cache counts as used although it can be freed, so this estimate is conservative.
            free = min(free, max(int(limit) - int(use), 0))
        break
    return free


def require_memory(what: str, needed: int, available: int | None, fix: str) -> None:
    """Rejects ``what`` if it needs more bytes than are available.

    Args:
        what: Subject of the sentence, e.g. ``"ease with 100,000 items"``.
        needed: Peak bytes.
        available: Bytes available (default: :func:`available_memory`).
        fix: Remedy, as the end of a sentence.

    Raises:
        NotEnoughMemoryError: ``needed`` exceeds ``available``.
    """
    free = available_memory() if available is None else available
    if needed > free:
        raise NotEnoughMemoryError(f"{what} needs about {_gib(needed)} of memory, but {_gib(free)} are free; {fix}.")


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:,.1f} GiB"
