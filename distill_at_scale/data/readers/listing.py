"""The files behind a log's inputs: files, folders and patterns on any storage."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

from distill_at_scale.data import storage
from distill_at_scale.errors import DasError

_GLOB: Final = re.compile(r"[*?\[]")


def list_inputs(inputs: Sequence[str]) -> list[storage.FileInfo]:
    """The files of all inputs, in their order and each once; markers such as _SUCCESS are left out.

    Raises:
        DasError: an input has no file.
    """
    files: dict[str, storage.FileInfo] = {}
    for given in inputs:
        uri = storage.normalise(given)
        # The ? of a web address begins its query.
        pattern = _GLOB.search(uri) is not None and not uri.startswith(("http://", "https://"))
        try:
            found = [file for file in storage.list_files(uri) if not _hidden(file.uri, uri)]
            if not found and pattern:
                # A pattern may also name folders, such as logs/day=*.
                found = storage.glob(uri) or storage.glob(uri + "/**")
                found = [file for file in found if not _hidden(file.uri, os.path.dirname(_GLOB.split(uri)[0]))]
        except FileNotFoundError:
            found = []
        if not found:
            what = "no file matches" if pattern else "there is no such file or folder, or the folder is empty"
            raise DasError(f"{storage.redact(uri)}: {what} (--input {storage.redact(given)}); correct the path.")
        files.update((file.uri, file) for file in found)
    return list(files.values())


def _hidden(uri: str, folder: str) -> bool:
    """Whether a file below ``folder`` is a marker or draft such as _SUCCESS or .part.crc."""
    parts = [part for part in uri.split("/") if part]
    above = sum(1 for part in folder.split("/") if part)
    return any(part.startswith((".", "_")) for part in parts[above:])
