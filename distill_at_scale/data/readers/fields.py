"""Matches a log's columns to the canonical ones: by the user's ``--map``, else by well-known names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from distill_at_scale.data.columns import Columns
from distill_at_scale.errors import DasError, SettingError

_ALIASES: Final = {
    Columns.USER_ID: ("userid", "user", "uid", "visitorid", "customerid", "reviewerid", "memberid"),
    Columns.ITEM_ID: (
        "itemid",
        "item",
        "iid",
        "movieid",
        "productid",
        "asin",
        "parentasin",
        "articleid",
        "bookid",
        "trackid",
        "songid",
    ),
    Columns.RATING: ("rating", "ratings", "score", "stars", "overall"),
    Columns.TIMESTAMP: (
        "timestamp",
        "time",
        "ts",
        "datetime",
        "unixreviewtime",
        "eventtime",
        "createdat",
    ),
    Columns.SPLIT: ("split",),
}
# Tried in this order if no well-known name above matches: a time is finer than its date.
_TIMES: Final = (
    re.compile(
        r"(event|unix|server|request|click|log|action|visit|session|interaction|created|local|utc|epoch)?"
        r"(time|timestamp|ts)(ms|us|ns|s|sec|seconds|millis|utc)?"
    ),
    re.compile("date|(event|review|click|order|purchase|transaction)(date|dt)|tdat"),
)
# Pieces of JSON or of a log line, such as {"user", are no names.
_NAME: Final = re.compile(r"""["']?[^"'{}\[\]<>:;,|=]*["']?""")
# Names that may be those of ids although nothing is read by them unasked.
_LIKELY: Final = {
    Columns.USER_ID: re.compile(
        ".*(user|customer|visitor|member|person|account|client|player|household|session|profile)(id|key|name|no|uuid)?"
    ),
    Columns.ITEM_ID: re.compile(
        "(?!.*(user|customer|visitor|member|person|session|review|order|basket|event|transaction|category|cat|tag|row"
        "|device|store|seller|shop)s?_?id$)(.*[a-z])?id(clean)?|.*(isbn|sku|stockcode|itemcode|productcode|course|product|item)"
    ),
}
_MOST_LIKELY: Final = 4
# Names of columns that a message lists.
_MOST_SHOWN: Final = 40
REQUIRED: Final = (Columns.USER_ID, Columns.ITEM_ID)
"""Columns that every log must have."""


def check_map(mapping: dict[str, str]) -> None:
    """Rejects a ``--map`` that names unknown canonical columns or drops an id.

    Raises:
        SettingError: Names the entry and the valid values.
    """
    for name, source in mapping.items():
        if name not in Columns.LOG:
            known = ", ".join(Columns.LOG)
            raise SettingError(f"--map {name}={source}: unknown column '{name}'; the left side is one of {known}.")
        if not source and name in REQUIRED:
            raise SettingError(f"--map {name}=: {name} is required and cannot be ignored; name its column.")


def known_names(names: Sequence[str], mapping: dict[str, str]) -> int:
    """Counts the mapped or well-known names among ``names``, which distinguishes a header from data."""
    wanted = set(mapping.values())
    aliases = {alias for group in _ALIASES.values() for alias in group}
    dates = _TIMES[-1]
    return sum(name in wanted or _plain(name) in aliases or bool(dates.fullmatch(_plain(name))) for name in names)


def has_ids(names: Sequence[str], mapping: dict[str, str]) -> bool:
    """Returns whether the columns of a file include a user and an item, mapped or with a well-known name."""
    known = {known_as(name) for name in names} | {canonical for canonical, name in mapping.items() if name in names}
    return known >= set(REQUIRED)


def aliases(canonical: str) -> tuple[str, ...]:
    """Returns the well-known names of a column, in lower case and without punctuation."""
    return _ALIASES[canonical]


def known_as(name: str) -> str | None:
    """Returns the canonical column for a well-known name, or None."""
    return next((canonical for canonical, names in _ALIASES.items() if _plain(name) in names), None)


def resolve(
    names: Sequence[str],
    mapping: dict[str, str],
    want_split: bool,
    source: str,
    folders: Sequence[str] = (),
    remedy: str | None = None,
) -> dict[str, str]:
    """Maps canonical names to the file's own names.

    Args:
        names: Columns of the file.
        mapping: The user's ``--map``.
        want_split: Whether ``split`` is read, and hence required.
        source: File name for error messages.
        folders: Columns from the names of partition folders, used where the file itself has no match.
        remedy: What to do about a missing column, as the end of a sentence. Default: the ``--map`` to use.

    Raises:
        DasError: A required column is missing or ambiguous; the message lists the columns and the ``--map`` to use.
    """
    resolved: dict[str, str] = {}
    missing: list[str] = []
    listed = shown_names(names) + (f" and, in its folders' names, {', '.join(folders)}" if folders else "")
    for canonical in Columns.LOG:
        if canonical == Columns.SPLIT and not want_split:
            continue
        if canonical in mapping:
            wanted = mapping[canonical]
            if not wanted:
                continue
            if wanted not in names and wanted not in folders:
                raise DasError(
                    f"{source}: unknown column '{wanted}' (from --map {canonical}={wanted}); "
                    f"the file has the columns {listed}."
                )
            candidates = [wanted]
        else:
            taken = set(mapping.values()) | set(resolved.values())
            candidates = [name for name in dict.fromkeys(names) if name == canonical and name not in taken]
            for several in (names, folders):
                free = [name for name in dict.fromkeys(several) if name not in taken]
                candidates = candidates or [name for name in free if _plain(name) in _ALIASES[canonical]]
                if canonical == Columns.TIMESTAMP:
                    for pattern in _TIMES:
                        candidates = candidates or [name for name in free if pattern.fullmatch(_plain(name))]
        if len(candidates) > 1:
            choices = " or ".join(f"--map {canonical}={name}" for name in candidates)
            raise DasError(f"{source}: several columns could be {canonical}; say which with {choices}.")
        if candidates:
            if list(names).count(candidates[0]) > 1:
                raise DasError(f"{source}: the column '{candidates[0]}' occurs twice; rename one of them.")
            resolved[canonical] = candidates[0]
        elif canonical in REQUIRED or canonical == Columns.SPLIT:
            missing.append(canonical)
    if missing:
        usual = f"name the right {'ones' if len(missing) > 1 else 'one'} with --map "
        usual += " ".join(f"{canonical}=COLUMN" for canonical in missing)
        usual += perhaps([name for name in names if name not in resolved.values()], missing)
        usual += ", or choose another --split" if Columns.SPLIT in missing else ""
        raise DasError(
            f"{source}: no column for {' and '.join(missing)}; the file has the columns {listed}: {remedy or usual}."
        )
    return resolved


def perhaps(names: Sequence[str], missing: Sequence[str] = REQUIRED) -> str:
    """Returns the columns that may be the missing ids by their names, in brackets; empty if there are none."""
    found: list[str] = []
    for canonical in (name for name in REQUIRED if name in missing):
        own = [name for name in names if any(_plain(part) in _ALIASES[canonical] for part in name.split("."))]
        found += own or [name for name in names if _LIKELY[canonical].fullmatch(_plain(_last(name)))]
    return f" (perhaps {', '.join(dict.fromkeys(found))})" if 0 < len(set(found)) <= _MOST_LIKELY else ""


def _last(name: str) -> str:
    """Returns the last part of a path, without MongoDB's types: ``_source.user_id``, ``user_id.$numberLong``."""
    parts = [part for part in name.split(".") if part and not part.startswith("$")]
    return parts[-1] if parts else name


def shown_names(names: Sequence[str]) -> str:
    """Returns the names of a file's columns for messages; of many, the first."""
    more = f" and {len(names) - _MOST_SHOWN:,} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(name or "''" for name in names[:_MOST_SHOWN]) + more


def _plain(name: str) -> str:
    """Returns a name in lower case without punctuation; empty for text that no program writes as a name."""
    return re.sub(r"[^a-z0-9]", "", name.lower()) if _NAME.fullmatch(name) else ""
