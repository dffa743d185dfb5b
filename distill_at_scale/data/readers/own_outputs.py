"""What the verbs of this project write beside a log's files: how the run went, and what it wrote.

`das export` and `das expand` write logs, which can be prepared again; `das predict` writes lists, which cannot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from distill_at_scale.data import storage
from distill_at_scale.errors import DasError

_RUN: Final = "run.json"
_RUN_START: Final = re.compile(rb'\s*\{\s*"verb": "[a-z_]+",\s*"config": \{')
_MANIFEST_START: Final = re.compile(rb'\s*\{\s*"format": "distill_at_scale/([a-z_]+)"')
_CROISSANT: Final = "croissant.json"
_PREDICTIONS: Final = "predictions"
_LISTS: Final = ("/predictions/", "/similar_items/")
# Long enough for the first entries.
_START_BYTES: Final = 256


def descriptions(files: Sequence[storage.FileInfo]) -> dict[str, str]:
    """Returns which files only describe what a verb wrote: URI → kind of the output, such as ``export``.

    A JSON file is one of them if it lies beside the record of a run and begins as such files do, whatever its name:
    logs may be named export.json, too. A file alone is one if it begins so.
    """
    if len(files) == 1:
        only = files[0]
        start = _start(only) if only.uri.endswith(".json") else b""
        manifest = _MANIFEST_START.match(start)
        if manifest or (only.uri.endswith(f"/{_RUN}") and _RUN_START.match(start)):
            return {only.uri: manifest[1].decode() if manifest else ""}
        return {}
    folders = {_folder(file.uri): file for file in files if file.uri.endswith(f"/{_RUN}")}
    own: dict[str, str] = {}
    for folder, run in folders.items():
        if not _RUN_START.match(_start(run)):
            continue
        beside = [file for file in files if file is not run and _folder(file.uri) == folder]
        beside = [file for file in beside if file.uri.endswith(".json")]
        begins = {file.uri: _MANIFEST_START.match(_start(file)) for file in beside}
        kinds = {uri: match[1].decode() for uri, match in begins.items() if match is not None}
        if not kinds:
            continue
        kind = next(iter(kinds.values()))
        own |= {run.uri: kind, **kinds}
        if f"{folder}{_CROISSANT}" in begins:
            own[f"{folder}{_CROISSANT}"] = kind
    return own


def refuse_other_outputs(uri: str, files: Sequence[storage.FileInfo], own: Mapping[str, str]) -> None:
    """Refuses a folder that `das predict` wrote, whose scores would be read as ratings, and a description that is named
    itself.

    Args:
        uri: Input, a file or folder.
        files: The files of it that hold rows.
        own: Descriptions found so far, from :func:`descriptions`.

    Raises:
        DasError: Names the input, and what to pass instead.
    """
    named = any(kind == _PREDICTIONS and _folder(name) == f"{uri}/" for name, kind in own.items())
    if named or any(map(_holds_lists, {_folder(file.uri) for file in files})):
        raise DasError(
            f"{storage.redact(uri)}: these are the recommendations of `das predict`, not a log; pass the log itself, "
            f"or a dataset that `das export` wrote as one."
        )
    if uri in own:
        raise DasError(
            f"{storage.redact(uri)}: this file describes what a verb such as `das export` wrote, and has no rows; pass "
            f"its folder, {storage.redact(_folder(uri))}."
        )


def _holds_lists(folder: str) -> bool:
    """Whether a folder, with the slash that ends it, is the one in which `das predict` puts the files of lists."""
    if not folder.endswith(_LISTS):
        return False
    try:
        (described,) = storage.list_files(f"{_folder(folder[:-1])}{_PREDICTIONS}.json")
    except (FileNotFoundError, ValueError):
        return False
    match = _MANIFEST_START.match(_start(described))
    return match is not None and match[1].decode() == _PREDICTIONS


def _folder(uri: str) -> str:
    """Returns the folder of a file, with the slash that ends it."""
    return uri[: uri.rfind("/") + 1]


def _start(file: storage.FileInfo) -> bytes:
    try:
        return storage.read_range(file.uri, 0, min(file.size, _START_BYTES))
    except FileNotFoundError:
        return b""
