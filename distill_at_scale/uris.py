"""Addresses of files: parsing, joining, and redaction of credentials.

Credentials belong in the environment. Addresses with a user name or password are refused as settings (:func:`check`).
All code that shows an address, or a text with addresses, uses :func:`redact` or :func:`redact_text`.
"""

from __future__ import annotations

import os
import re
from typing import Any

SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*)://")
_LAST_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*$")
_LOCAL = ("file", "local")
# Azure writes container@account, which is not a secret.
_CONTAINERS = ("abfs", "abfss", "wasb", "wasbs")
# A port after the host. Buckets have none: there, a colon before the first slash is a mistake or a password.
_PORT = re.compile(r"^[^/?#@:]*:\d{1,5}([/?#]|$)")
_IN_TEXT = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S+")
_KEY = re.compile(r"[A-Za-z][\w.~%+-]*(?==)")
_AFTER = "'\")]}>,."
HIDDEN = "…"


def scheme_of(uri: str) -> str | None:
    """Returns ``s3`` for ``s3://bucket``; None for a plain path."""
    found = SCHEME.match(uri)
    return found.group(1).lower() if found else None


def is_local(uri: str) -> bool:
    """Returns whether ``uri`` is on this machine's file system."""
    return scheme_of(uri) in (None, *_LOCAL)


def local_path(uri: str) -> str:
    """Returns the absolute path of a local ``uri``."""
    return os.path.abspath(os.path.expanduser(re.sub(r"^(file|local)://", "", uri, flags=re.IGNORECASE)))


def join(uri: str, *parts: str) -> str:
    """Appends path parts to ``uri``."""
    return "/".join([uri.rstrip("/") or "/", *parts])


def has_userinfo(uri: str) -> bool:
    """Returns whether an address contains a user name or password, including passwords with a slash or an @.

    ``http://host:8080/a@b`` has none: digits after the host are a port.
    """
    head, mark, rest = uri.partition("://")
    if not mark:
        return False
    scheme = _scheme_before(head)
    ported = scheme not in ("s3", "s3a", "s3n", "gs", "gcs") and _PORT.match(rest) is not None
    return (not ported and _looks_like_userinfo(scheme, rest)) or has_userinfo(rest)


def redact(uri: str) -> str:
    """Returns ``uri`` without the user:password part and without the values of its query.

    Ambiguous addresses are redacted too much rather than too little.
    """
    if "://" not in uri:
        return uri
    head, mark, rest = _without_userinfo(uri).partition("://")
    return head + mark + (rest if _scheme_before(head) in _LOCAL else _without_query(_scheme_before(head), rest))


def redact_text(text: str) -> str:
    """Applies :func:`redact` to all addresses in a text."""
    if "://" not in text:
        return text
    return _IN_TEXT.sub(_redact_found, text)


def redacted(value: Any) -> Any:
    """Applies :func:`redact` to all strings in a JSON-like tree."""
    if isinstance(value, dict):
        return {key: redacted(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(one) for one in value]
    return redact(value) if isinstance(value, str) else value


def check(uri: str) -> None:
    """Refuses an address that contains credentials.

    Raises:
        ValueError: The address contains credentials; the message does not show them.
    """
    if not is_local(uri) and has_userinfo(uri):
        raise ValueError(
            f"{redact(uri)} was given with a user name or password in the address; remove it and set credentials in "
            "the environment (for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"
        )


def _scheme_before(head: str) -> str:
    found = _LAST_SCHEME.search(head)
    return found.group().lower() if found else ""


def _looks_like_userinfo(scheme: str, rest: str) -> bool:
    first = rest.split("/", 1)[0]
    if scheme in _LOCAL or "@" not in rest:
        return False
    if scheme in _CONTAINERS and ":" not in first.split("@")[0]:
        return False
    # In user:pass/word@host, the part before the first slash is not a host.
    return ":" in first or "@" in re.split(r"[?#]", first)[0]


def _without_userinfo(uri: str) -> str:
    head, mark, rest = uri.partition("://")
    if not mark:
        return uri
    if _looks_like_userinfo(_scheme_before(head), rest):
        rest = rest.rpartition("@")[2]
    return head + mark + _without_userinfo(rest)


def _without_query(scheme: str, rest: str) -> str:
    web = scheme in ("http", "https")
    for found in re.finditer(r"[?#]" if web else r"\?", rest):
        query = rest[found.end() :]
        if not web and not _KEY.match(query):  # the ? of a pattern
            continue
        keys = [_KEY.match(part) for part in query.split("&")]
        return rest[: found.end()] + "&".join(f"{key.group()}={HIDDEN}" if key else HIDDEN for key in keys)
    return rest


def _redact_found(found: re.Match[str]) -> str:
    whole = found.group()
    uri = whole.rstrip(_AFTER)
    return redact(uri) + whole[len(uri) :]


_ARCHIVE = r".*\.(?:zip|tar|tgz|tbz2?|txz|tzst|tar\.(?:gz|gzip|bz2|xz|zst|zstd|lz4))"
_MEMBER = re.compile(rf"({_ARCHIVE})!/(.+)", re.IGNORECASE | re.DOTALL)


def is_archive(uri: str) -> bool:
    """Returns whether a file is named as a .zip or .tar archive is."""
    return re.fullmatch(_ARCHIVE, uri, re.IGNORECASE | re.DOTALL) is not None and not is_member(uri)


def is_member(uri: str) -> bool:
    """Returns whether this is the address of a member of an archive: ``ARCHIVE!/MEMBER``."""
    return split_member(uri) is not None


def split_member(uri: str) -> tuple[str, str] | None:
    """Splits the address of a member into those of its archive and within it; None for other addresses."""
    match = _MEMBER.fullmatch(uri)
    return None if match is None else (match[1], match[2])


def file_of_member(uri: str) -> str:
    """Returns the archive of a member; other addresses as they are."""
    found = split_member(uri)
    return uri if found is None else found[0]
