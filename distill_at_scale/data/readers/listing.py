"""The files behind a log's inputs: files, folders and patterns on any storage."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from fnmatch import fnmatchcase
from glob import escape as glob_escape
from typing import Final

from distill_at_scale.data import storage
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers import lakes
from distill_at_scale.data.readers.own_outputs import descriptions, refuse_other_outputs
from distill_at_scale.errors import DasError
from distill_at_scale.uris import is_archive, split_member

# First names within archives of office documents and of PyTorch.
_OTHER_ZIPS: Final = ("[Content_Types]", "_rels/", "docProps/", "xl/", "archive/data.pkl")
# Names of members shown in a message.
_MOST_SHOWN: Final = 5
_GLOB: Final = re.compile(r"[*?\[]")
# What programs leave beside data, and what is nobody's log; other hidden files may be one.
_MARKERS: Final = re.compile(
    r"_SUCCESS|_metadata|_common_metadata|_(committed|started)_.*|\..*\.crc|\.DS_Store|\._.*|\.gitignore|\.gitkeep|\.gitattributes"
)
# Folders of drafts, of table formats and of checkpoints.
_OTHERS: Final = re.compile(r"_delta_log|_temporary|_work|_spark_metadata|__MACOSX|\..*")
# Descriptions, licences, checksums, scripts and pictures, which lie beside published logs.
_BESIDES: Final = re.compile(
    r"(.*[._-])?(readme|licen[cs]e|changelog|copying|citation)([._-].*)?|.*\.(py|pl|sh|ipynb|js|java|png|jpe?g|gif|svg)|(sha\d*|md5)sums?(\.txt)?|(.*[._-])?manifest(\.json)?|.*\.(csv|txt|tsv)\.metadata|thumbs\.db|desktop\.ini|.*\.(md|rst|html?|pdf|md5|sha1|sha256)",
    re.IGNORECASE,
)

_OWN: Final = "skipped: it describes what a verb such as `das export` wrote, and has no rows"


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
    own: dict[str, str] = {}
    inside: list[Notice] = []
    for given in inputs:
        uri = storage.normalise(given)
        # In a web address, ? begins the query.
        pattern = _GLOB.search(uri) is not None and not uri.startswith(("http://", "https://"))
        if storage.is_member(uri):
            members, told = _members_of(uri)
            files.update((member.uri, member) for member in members)
            inside += told
            continue
        try:
            everything = storage.list_files(uri)
            roots |= lakes.find_roots(file.uri for file in everything)
            _refuse_dataset(uri, everything)
            matches = [file for file in everything if not _hidden(file.uri, uri)]
            matches = _rows_of(matches, own)
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
                matches = _rows_of(storage.glob(uri), own) or _rows_of(storage.glob(uri + "/**"), own)
                matches = [file for file in matches if not _hidden(file.uri, os.path.dirname(_GLOB.split(uri)[0]))]
        except FileNotFoundError:
            matches = []
        refuse_other_outputs(uri, matches, own)
        if not matches:
            what = "no file matches" if pattern else "no such file or folder, or the folder is empty"
            if hidden:
                what = f"it holds only files that are skipped, such as {storage.redact(hidden[0].uri)}: names that "
                what += "begin with . or _ are those of drafts and markers; name the files themselves"
                raise DasError(f"{storage.redact(uri)}: {what}.")
            raise DasError(f"{storage.redact(uri)}: {what} (--input {storage.redact(given)}); correct the path.")
        files.update((file.uri, file) for file in matches)
    _refuse_archives(list(files.values()))
    all_files = list(files.values())
    live, noticed = lakes.live_files(all_files, roots | lakes.ask_for_roots(all_files, listed), listed)
    hidden = [file for file in hidden if file.uri not in files]
    if hidden:
        what = "skipped: the name begins with . or _, as those of drafts and markers do (a file that is named is read)"
        noticed = [*noticed, Notice(what=what, count=len(hidden), unit="file", example=storage.redact(hidden[0].uri))]
    left = [uri for uri in own if uri not in files]
    if left:
        noticed = [*noticed, Notice(what=_OWN, count=len(left), unit="file", example=storage.redact(left[0]))]
    besides = [file for file in besides if file.uri not in files]
    if besides:
        what = "skipped: the name is that of a description, licence or checksum, or the like (name it to read it)"
        noticed = [*noticed, Notice(what=what, count=len(besides), unit="file", example=storage.redact(besides[0].uri))]
    return live, [*noticed, *inside]


def _rows_of(files: list[storage.FileInfo], own: dict[str, str]) -> list[storage.FileInfo]:
    """Returns the files without those that only describe an output of this project, which are added to ``own``."""
    own |= descriptions(files)
    return [file for file in files if file.uri not in own]


def _members_of(uri: str) -> tuple[list[storage.FileInfo], list[Notice]]:
    """Lists the members that an address names, ``ARCHIVE!/MEMBER`` or a pattern such as ``ARCHIVE!/*``.

    Raises:
        DasError: There is none, the archive cannot be read member by member, or what the pattern matches is a table
            with a transaction log.
    """
    archive, pattern = split_member(uri) or ("", "")
    place = storage.redact(archive)
    try:
        held = storage.members(storage.stat(archive))
    except FileNotFoundError:
        raise DasError(f"{place}: no such file; correct the path.") from None
    exact = [member for member in held.files if member.uri == uri]
    if exact:
        return exact, []
    matches = [member for member in held.files if fnmatchcase(member.uri, f"{glob_escape(archive)}!/{pattern}")]
    if not matches:
        advice = _advice(archive, _logs_in(archive, held.files), held.files)
        raise DasError(f"{place}: the archive has no member {pattern}; {advice}")
    _refuse_table(archive, matches)
    own: dict[str, str] = {}
    matches = _rows_of(matches, own)
    noticed = []
    if own:
        noticed.append(Notice(what=_OWN, count=len(own), unit="file", example=storage.redact(next(iter(own)))))
    mine = [member for member in matches if not _beside(_name_in(archive, member))] or matches
    if len(mine) < len(matches):
        what = "skipped: a member of an archive whose name is that of a draft, description, licence or checksum"
        left = [member for member in matches if member not in mine]
        noticed.append(Notice(what=what, count=len(left), unit="file", example=storage.redact(left[0].uri)))
    if held.others:
        noticed.append(Notice(what="skipped: a link or device in an archive", count=held.others, unit="file"))
    return mine, noticed


def _refuse_archives(files: Sequence[storage.FileInfo]) -> None:
    """Refuses archives that are given whole, since they often hold several tables: names their members.

    Raises:
        DasError: One of the files is an archive.
    """
    for file in files:
        if not is_archive(file.uri) or not file.size:
            continue
        held = storage.members(file).files
        names = [_name_in(file.uri, member) for member in held]
        if any(name.startswith(_OTHER_ZIPS) or name.endswith(".npy") for name in names):
            continue  # an office document or arrays, which are refused by that name
        _refuse_table(file.uri, held)
        raise DasError(f"{storage.redact(file.uri)} is an archive; {_advice(file.uri, _logs_in(file.uri, held), held)}")


def _logs_in(archive: str, members: Sequence[storage.FileInfo]) -> list[str]:
    """Returns the names of the members that may be logs."""
    return [name for name in (_name_in(archive, member) for member in members) if not _beside(name)]


def _advice(archive: str, names: Sequence[str], members: Sequence[storage.FileInfo]) -> str:
    """Says how the members of an archive are read; the log is usually the largest."""
    if not names:
        return "it holds no file that may be a log; pass the log itself."
    place = storage.redact(archive)
    sizes = {_name_in(archive, member): member.size for member in members}
    one = shlex.quote(f"{place}!/{max(names, key=lambda name: sizes[name])}")
    if len(names) == 1:
        return f"read the file in it with --input {one}, or unpack it."
    shown = ", ".join(names[:_MOST_SHOWN]) + (", …" if len(names) > _MOST_SHOWN else "")
    every = shlex.quote(f"{place}!/*")
    return f"of its {len(names):,} files ({shown}) read one with --input {one}, all with --input {every}, or unpack it."


def _refuse_table(archive: str, members: Sequence[storage.FileInfo]) -> None:
    """Refuses members of an archive that are a table with a transaction log."""
    if lakes.find_roots(member.uri for member in members):
        place = storage.redact(archive)
        raise DasError(f"{place} holds a table with a transaction log; unpack it, and pass its folder.")


def _name_in(archive: str, member: storage.FileInfo) -> str:
    return member.uri.removeprefix(f"{archive}!/")


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
