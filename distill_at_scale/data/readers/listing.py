"""The files behind a log's inputs: files, folders and patterns on any storage."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

from distill_at_scale.data import storage
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers import lakes
from distill_at_scale.errors import DasError

_GLOB: Final = re.compile(r"[*?\[]")


def list_inputs(inputs: Sequence[str]) -> tuple[list[storage.FileInfo], list[Notice]]:
    """The files of all inputs, in their order and each once; markers such as _SUCCESS are left out.

    Of a table that keeps a log of its files (Delta Lake) only those are taken that the log names; what is left out
    is noticed.

    Raises:
        DasError: an input has no file, or is a table whose log cannot be read here.
    """
    files: dict[str, storage.FileInfo] = {}
    roots: dict[str, str] = {}
    listed: list[str] = []
    for given in inputs:
        uri = storage.normalise(given)
        # The ? of a web address begins its query.
        pattern = _GLOB.search(uri) is not None and not uri.startswith(("http://", "https://"))
        try:
            everything = storage.list_files(uri)
            roots |= lakes.find_roots(file.uri for file in everything)
            found = [file for file in everything if not _hidden(file.uri, uri)]
            if [file.uri for file in found] != [uri]:
                listed.append(uri)
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
    all_files = list(files.values())
    return lakes.live_files(all_files, roots | lakes.ask_for_roots(all_files, listed), listed)


def _hidden(uri: str, folder: str) -> bool:
    """Whether a file below ``folder`` is a marker or draft such as _SUCCESS or .part.crc."""
    parts = [part for part in uri.split("/") if part]
    above = sum(1 for part in folder.split("/") if part)
    return any(part.startswith((".", "_")) for part in parts[above:])
