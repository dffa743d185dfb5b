"""Memory that a worker's process keeps for its next arrays, rather than give it back to the system."""

from __future__ import annotations

import ctypes
import functools
import sys

# As malloc.h of glibc numbers them.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


@functools.cache
def keep_memory() -> None:
    """Has this process keep what NumPy frees, up to 256 MiB, for its next arrays.

    glibc would give it back to the system and request it again, page by page: a fifth of the CPU of a pass over
    shards. An array of 32 MiB or more still goes back by itself. Elsewhere than on glibc nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)
