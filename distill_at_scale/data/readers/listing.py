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
from distill_at_scale.uris import is_archive

# First names within archives of office documents and of PyTorch.
_OTHER_ZIPS: Final = ("[Content_Types]", "_rels/", "docProps/", "xl/", "archive/data.pkl")
_GLOB: Final = re.compile(r"[*?\[]")
# What programs leave beside data, and what is nobody's log; other hidden files may be one.
_MARKERS: Final = re.compile(
    r"_SUCCESS|_metadata|_common_metadata|_(committed|started)_.*|\..*\.crc|\.DS_Store|\._.*|\.gitignore|\.gitkeep|\.gitattributes"
)
# Folders of drafts, of table formats and of checkpoints.
_OTHERS: Final = re.compile(r"_delta_log|_temporary|_work|_spark_metadata|__MACOSX|\..*")
# Descriptions, licences and checksums, which lie beside published logs.
_BESIDES: Final = re.compile(
    r"(readme|licen[cs]e|changelog|copying|citation)([._-].*)?|(sha\d*|md5)sums?(\.txt)?|.*\.(md|rst|html?|pdf|md5|sha1|sha256)",
    re.IGNORECASE,
)


def list_inputs(inputs: Sequence[str]) -> tuple[list[storage.FileInfo], list[Notice]]:
    """Lists the files of all inputs, in order and each once, excluding markers such as _SUCCESS.

    For a table with a transaction log (Delta Lake), only the files that the log lists are included; the others are
    reported as a notice.

    Raises:
        DasError: An input matches no file, or is a table whose log cannot be read.
    """
    files: dict[str, storage.FileInfo] = {}
    roots: dict[str, str] = {}
    listed: list[str] = []
    hidden: list[storage.FileInfo] = []
    besides: list[storage.FileInfo] = []
    for given in inputs:
        uri = storage.normalise(given)
        # In a web address, ? begins the query.
        pattern = _GLOB.search(uri) is not None and not uri.startswith(("http://", "https://"))
        try:
            everything = [storage.member_info(uri)] if storage.is_member(uri) else storage.list_files(uri)
            roots |= lakes.find_roots(file.uri for file in everything)
            _refuse_dataset(uri, everything)
            matches = [file for file in everything if not _hidden(file.uri, uri)]
            described = [
                file for file in matches if file.uri != uri and _BESIDES.fullmatch(file.uri.rsplit("/", 1)[-1])
            ]
            if 0 < len(described) < len(matches):
                besides += described
                matches = [file for file in matches if file not in described]
            hidden += [file for file in everything if _hidden(file.uri, uri) and not _marker(file.uri, uri)]
            if [file.uri for file in matches] != [uri]:
                listed.append(uri)
            if not matches and pattern:
                # A pattern may also match folders, such as logs/day=*.
                matches = storage.glob(uri) or storage.glob(uri + "/**")
                matches = [file for file in matches if not _hidden(file.uri, os.path.dirname(_GLOB.split(uri)[0]))]
        except FileNotFoundError:
            matches = []
        if not matches:
            what = "no file matches" if pattern else "no such file or folder, or the folder is empty"
            if hidden:
                what = f"it holds only files that are skipped, such as {storage.redact(hidden[0].uri)}: names that "
                what += "begin with . or _ are those of drafts and markers; name the files themselves"
                raise DasError(f"{storage.redact(uri)}: {what}.")
            raise DasError(f"{storage.redact(uri)}: {what} (--input {storage.redact(given)}); correct the path.")
        files.update((file.uri, file) for file in matches)
    files, inside = _with_members(files)
    all_files = list(files.values())
    live, noticed = lakes.live_files(all_files, roots | lakes.ask_for_roots(all_files, listed), listed)
    hidden = [file for file in hidden if file.uri not in files]
    if hidden:
        what = "skipped: the name begins with . or _, as those of drafts and markers do (a file that is named is read)"
        noticed = [*noticed, Notice(what=what, count=len(hidden), unit="file", example=storage.redact(hidden[0].uri))]
    besides = [file for file in besides if file.uri not in files]
    if besides:
        what = "skipped: the name is that of a description, licence or checksum (a file that is named is read)"
        noticed = [*noticed, Notice(what=what, count=len(besides), unit="file", example=storage.redact(besides[0].uri))]
    return live, [*noticed, *inside]


def _with_members(
    files: dict[str, storage.FileInfo],
) -> tuple[dict[str, storage.FileInfo], list[Notice]]:
    """Puts in the place of each archive its members that may be logs.

    Raises:
        DasError: An archive has none, holds a table with a transaction log, or cannot be read member by member.
    """
    found: dict[str, storage.FileInfo] = {}
    taken: list[storage.FileInfo] = []
    left: list[storage.FileInfo] = []
    others = 0
    for uri, file in files.items():
        if not is_archive(uri) or not file.size:
            found[uri] = file
            continue
        held = storage.members(file)
        names = [member.uri.removeprefix(f"{uri}!/") for member in held.files]
        if any(name.startswith(_OTHER_ZIPS) or name.endswith(".npy") for name in names):
            found[uri] = file  # an office document or arrays, which are refused by that name
            continue
        place = storage.redact(uri)
        if lakes.find_roots(member.uri for member in held.files):
            raise DasError(f"{place} holds a table with a transaction log; unpack it, and pass its folder.")
        mine = [member for member, name in zip(held.files, names) if not _beside(name)]
        if not mine:
            raise DasError(f"{place}: the archive holds no file that may be a log; pass the log itself.")
        left += [member for member in held.files if member not in mine]
        others += held.others
        taken += mine
        found.update((member.uri, member) for member in mine)
    noticed = []
    if taken:
        what = "read as members of an archive (one alone is read with --input ARCHIVE!/MEMBER)"
        noticed.append(Notice(what=what, count=len(taken), unit="file", example=storage.redact(taken[0].uri)))
    if left:
        what = "skipped: a member of an archive whose name is that of a draft, description, licence or checksum"
        noticed.append(Notice(what=what, count=len(left), unit="file", example=storage.redact(left[0].uri)))
    if others:
        what = "skipped: a link or device in an archive"
        noticed.append(Notice(what=what, count=others, unit="file"))
    return found, noticed


def _beside(name: str) -> bool:
    """Whether the name of a member is that of a draft, description, licence or checksum."""
    return _BESIDES.fullmatch(name.rsplit("/", 1)[-1]) is not None or _hidden(name, "")


def _refuse_dataset(uri: str, files: Sequence[storage.FileInfo]) -> None:
    """Refuses a folder that holds a Dataset: its rows are numbered and cannot be read as a log."""
    names = {file.uri.removeprefix(f"{uri}/") for file in files}
    if {"manifest.json", "items.parquet"} <= names and any(name.startswith("shards/") for name in names):
        raise DasError(
            f"{storage.redact(uri)}: this is a dataset, not a log; verbs take it as --data, and a log to prepare again "
            f"is the one that it was made of (`das inspect` names it)."
        )


def _marker(uri: str, folder: str) -> bool:
    """Whether a hidden file is one that programs leave beside data, which nobody misses."""
    parts = [part for part in uri.split("/") if part]
    *folders, name = parts[sum(1 for part in folder.split("/") if part) :] or [""]
    return bool(_MARKERS.fullmatch(name)) or any(_OTHERS.fullmatch(part) for part in folders)


def _hidden(uri: str, folder: str) -> bool:
    """Returns whether a file below ``folder`` is a marker or draft such as _SUCCESS or .part.crc."""
    parts = [part for part in uri.split("/") if part]
    above = sum(1 for part in folder.split("/") if part)
    return any(part.startswith((".", "_")) for part in parts[above:])
