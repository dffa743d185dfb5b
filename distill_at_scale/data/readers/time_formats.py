"""Finds the ``strptime`` formats that fit a log's first times.

A format is used unasked only where the year comes first, so that day and month cannot be confused. All others are
suggestions: formats made of the first text's pieces, in every order of day and month, that fit the other texts too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl

from distill_at_scale.data.times import format_to_ns, is_format, is_likely

_LONGEST: Final = 100
_MOST_SUGGESTED: Final = 4
_CLEAR: Final = (
    *(
        f"{date}{time}"
        for date in ("%Y-%m-%d", "%Y/%m/%d")
        for time in ("", " %H", "T%H", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", "T%H:%M:%S", "T%H:%M:%S.%f")
    ),
    "%Y-%m-%d %I:%M:%S %p",
    "%Y%m%dT%H%M%S%z",
    "%Y%m%dT%H%M%SZ",
    "%Y%m%d%H%M%SZ",
    "%Y%m%d-%H",
    "%Y%m%dT%H%M%S",
    "%Y%m%d %H:%M:%S",
)
_DAY_OF_YEAR: Final = re.compile("[12][0-9]{3}-[0-3][0-9]{2}")
# An offset follows a clock; elsewhere, its digits are those of a date.
_OFFSET: Final = re.compile(
    r"(?:(?<=:[0-9]{2})|(?<=T[0-9]{4})|(?<=T[0-9]{6})|(?<=[.,][0-9]{3})|(?<=[.,][0-9]{6})|(?<=[.,][0-9]{9})|(?<=[0-9] )"
    r"|(?<=GMT)|(?<=UTC))[+-][0-9]{2}:?[0-9]{2}(?![0-9:-])"
)
# After an offset, the name of its zone is skipped, since it changes with summer time.
_ZONE_AFTER: Final = ((r"( ?)\([^()]*\)", r"\1(%Z)"), (r"\[[^\[\]]*\]", "[%Z]"), (r" [A-Z]{2,5}", " %Z"))
# Weeks, quarters, and halves of the day that %p does not read: as literal text they would lose what they say.
_UNKNOWN: Final = re.compile(r"%|[QW][0-9]|\b[AaPp]\.[Mm]")
_HALF: Final = re.compile(r"(?<=[0-9 ])[AaPp][Mm]\b")
_FRACTION: Final = r"(?:([.,:])[0-9]{1,9})?"
_CLOCKS: Final = (
    re.compile(rf"(?<![0-9])[0-9]{{1,2}}(:)[0-5][0-9](?:(:)[0-5][0-9]{_FRACTION})?(?![0-9])"),
    re.compile(rf"(?<=[0-9][ T_-])[0-9]{{2}}([.-])[0-5][0-9](\1)[0-5][0-9]{_FRACTION}(?= ?(%p|%z)?$)"),
)
_WORD: Final = re.compile(r"(?<![%A-Za-z])[A-Za-z]+")
_NUMBER: Final = re.compile(r"[0-9]+")
_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
# Digits of a date in a row, by their number.
_DIGITS: Final[dict[int, tuple[str, ...]]] = {
    6: ("%Y%m", "%y%m%d", "%d%m%y", "%m%d%y"),
    7: ("%Y%j",),
    8: ("%Y%m%d", "%y%m%d%H", "%d%m%Y", "%m%d%Y"),
    10: ("%Y%m%d%H", "%y%m%d%H%M"),
    12: ("%Y%m%d%H%M", "%y%m%d%H%M%S"),
    14: ("%Y%m%d%H%M%S",),
    17: ("%Y%m%d%H%M%S%f",),
}
# The name of a zone at the end, in front of the year (as `date` writes it), or of a city in brackets.
_ZONE: Final = re.compile(
    r"(?<=[0-9MmT)\]]) ?(?:(?<= )([A-Z]{2,5}[0-9A-Z]{0,4}|[a-z]{2,4}t|(?:[A-Z][a-z]+ )+Time)"
    r"|\[?([A-Z][A-Za-z]+(?:/[A-Za-z0-9_+-]+)+)\]?|\(([^()]*)\))$"
    r"| ([A-Z]{3,5}) (?:19|20)[0-9]{2}$"
)
_UTC: Final = ("UTC", "GMT", "Z", "AM", "PM")


def fits(texts: Sequence[str], format: str) -> bool:
    """Returns whether at least 90 % of the texts match a format, with a plausible median time."""
    if any(len(text) > _LONGEST for text in texts[:10]):
        return False
    ns = format_to_ns(pl.Series(texts, dtype=pl.String), format).drop_nulls()
    return len(ns) >= 0.9 * len(texts) and is_likely(float(ns.median()) / 1e6)  # type: ignore[arg-type]


def clear_format(texts: Sequence[str]) -> str | None:
    """Returns the format that fits the texts if their year comes first; None if there is none."""
    if all(map(_DAY_OF_YEAR.fullmatch, texts)):
        return "%Y-%j" if fits(texts, "%Y-%j") else None
    return next((format for format in _CLEAR if fits(texts, format)), None)


def possible_formats(texts: Sequence[str]) -> list[str]:
    """Returns formats that fit the texts, some perhaps with day and month confused; empty if there are none."""
    # The first text may be the only one whose day has one digit, or whose fraction is not written.
    tried = dict.fromkeys(format for text in (texts[0], max(texts, key=len)) for format in _formats(text))
    return [format for format in tried if is_format(format) and fits(texts, format)][:_MOST_SUGGESTED]


def zones(texts: Sequence[str]) -> list[str]:
    """Returns the names of zones, other than UTC, with which the texts end and that no offset explains."""
    found: dict[str, None] = {}
    for text in texts:
        match = _ZONE.search(text)
        name = next((group for group in match.groups() if group), "") if match else ""
        if name and name.upper() not in _UTC and name[:3].lower() not in _MONTHS and not _OFFSET.search(text):
            found.setdefault(name)
    return list(found)


def _formats(text: str) -> Iterator[str]:
    """Yields the formats that the pieces of a text allow."""
    if len(text) > _LONGEST or _UNKNOWN.search(text):
        return
    text = " ".join(text.split())
    offset = _OFFSET.search(text)
    if offset:
        rest = text[offset.end() :]
        pattern, code = next((one for one in _ZONE_AFTER if re.fullmatch(one[0], rest)), ("$", ""))
        text = f"{text[: offset.start()]}%z{re.sub(pattern, code, rest)}"
    text, halves = _HALF.subn("%p", text)
    clock = next((match for pattern in _CLOCKS if (match := pattern.search(text))), None)
    if clock:
        code = ("%I" if halves else "%H") + clock[1] + "%M"
        code += (clock[2] + "%S" if clock[2] else "") + (clock[3] + "%f" if clock[3] else "")
        text = text[: clock.start()] + code + text[clock.end() :]
    text = _WORD.sub(_named, text)
    lengths = [len(number) for number in _NUMBER.findall(text)]
    first, *others = _NUMBER.split(text)
    for codes in _orders(lengths, named="%b" in text or "%B" in text):
        yield first + "".join(code + other for code, other in zip(codes, others))


def _named(word: re.Match[str]) -> str:
    """Returns the code of a weekday or month; other words stay as they are."""
    short = word[0][:3].lower()
    if short in _WEEKDAYS and (len(word[0]) == 3 or word[0].lower().endswith("day")):
        return "%a" if len(word[0]) == 3 else "%A"
    if short in _MONTHS:
        return "%b" if len(word[0]) == 3 else "%B"
    return word[0]


def _orders(lengths: Sequence[int], named: bool) -> Iterator[tuple[str, ...]]:
    """Yields the codes of a date that numbers of some lengths, in digits, may stand for."""
    if len(lengths) == 1 and not named:
        yield from ((format,) for format in _DIGITS.get(lengths[0], ()))
    if len(lengths) == 2 and lengths[1] in (4, 6) and not named:
        yield from ((format, "%H%M%S"[: lengths[1]]) for format in _DIGITS.get(lengths[0], ()))
    # Nobody writes the day between the year and the month. A month of two digits and a year of two might be anything.
    for order in (
        ("dY", "Yd", "Y", "dy", "yd", "y") if named else ("Ymd", "mdY", "dmY", "Ym", "mY", "mdy", "dmy", "ymd")
    ):
        if len(order) == len(lengths) and all(n == 4 if c == "Y" else n <= 2 for c, n in zip(order, lengths)):
            yield tuple(f"%{code}" for code in order)
