"""Detects the format of a file: by its first bytes, by its name, or by its first lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from distill_at_scale.data import storage
from distill_at_scale.data.readers.layout import Head
from distill_at_scale.data.readers.log_format import LogFormat, ending
from distill_at_scale.data.readers.options import LogOptions
from distill_at_scale.data.readers.recognise import refuse_foreign
from distill_at_scale.data.readers.table_format import TableFormat
from distill_at_scale.data.readers.text_format import TextFormat, first_lines
from distill_at_scale.errors import DasError
from distill_at_scale.registry import FORMATS


def detect(file: storage.FileInfo, start: bytes, options: LogOptions) -> Head | None:
    """Reads the head of a file in the format of ``options`` or the one detected; None if the file has no rows.

    Formats from outside the package are asked first, then tables, then text.

    Args:
        file: The file.
        start: Its first bytes, as stored.
        options: Reader options.

    Raises:
        DasError: The format is not supported, or the file is damaged or not of the named format.
    """
    name = options.format
    if name != "auto" and not FORMATS.is_built_in(name):
        return _named(FORMATS.find(name).head(file, start, options), name)
    if name == "auto":
        for outside, one in _formats(built_in=False):
            if one.recognises(file, start):
                return _named(one.head(file, start, options), outside)
    uri = storage.redact(file.uri)
    refuse_foreign(uri, start)
    if start.startswith(b"PARE"):
        raise DasError(f"{uri}: the Parquet file is encrypted; decrypt it first.")
    if name != "auto":
        format: LogFormat = FORMATS.find(name)
        return format.head(file, start, options)
    for _, one in _formats(built_in=True):
        if isinstance(one, TableFormat) and one.recognises(file, start):
            return one.head(file, start, options)
    return _text(file, start, options)


def _text(file: storage.FileInfo, start: bytes, options: LogOptions) -> Head | None:
    read = first_lines(file, start)
    if read is None:
        return None
    head, lines = read
    texts = [format for _, format in _formats(built_in=True) if isinstance(format, TextFormat)]
    suffix = ending(file.uri)
    for format in texts:
        if format.begins(head, lines):
            return format.layout(head, lines, options)
    for format in texts:
        if suffix in format.endings:
            return format.layout(head, lines, options)
    return next(format for format in texts if format.fits(head, lines, options)).layout(head, lines, options)


def _formats(built_in: bool) -> Iterator[tuple[str, LogFormat]]:
    return ((name, FORMATS[name]) for name in FORMATS if FORMATS.is_built_in(name) == built_in)


def _named(head: Head | None, name: str) -> Head | None:
    """The head of a format from outside, under the name by which workers find the format."""
    return None if head is None else dataclasses.replace(head, format=name)
