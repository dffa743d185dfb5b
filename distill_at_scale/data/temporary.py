"""Folders that live as long as the process, for what a user asked for without saying where to put it."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from distill_at_scale.data import storage

_made: list[str] = []


def temporary_folder(name: str) -> str:
    """A path below a new folder of this machine, which is removed when this process ends.

    Args:
        name: Name of the future content; the last part of the path, which does not exist yet.
    """
    folder = tempfile.mkdtemp(prefix="distill-at-scale-")
    if not _made:
        atexit.register(_remove, os.getpid())
    _made.append(folder)
    return storage.join(folder, name)


def _remove(owner: int) -> None:
    # A forked child has the list too, but not what is on it.
    if os.getpid() == owner:
        for folder in _made:
            shutil.rmtree(folder, ignore_errors=True)
