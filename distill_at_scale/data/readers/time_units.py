"""The unit of a log's times, told by the first values of every file: certain, or asked for."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.times import NAMES, UNITS, TimeRule, format_to_ns, is_likely, iso_to_ns, show_day, show_time
from distill_at_scale.errors import DasError

_FLOAT: Final = re.compile(r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")
_ZONE: Final = re.compile(r"(Z|z| ?UTC| ?GMT|[+-][0-9]{2}(:?[0-9]{2})?)$")
# No two of these can be plausible at once; of the others a number of days may be anything.
_CERTAIN: Final = ("s", "ms", "us", "ns")
_ASKED: Final = ("excel", "days", "ticks")
# Digits in this order are dates; so few numbers are, that other counts hardly ever look like them.
_DIGITS: Final = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_HOURS: Final = "%Y%m%d%H"
# The year comes first, so month and day cannot be taken for each other.
_CLEAR: Final = (
    "%Y-%m-%d %H",
    "%Y-%m-%dT%H",
    "%Y/%m/%d",
    "%Y/%m/%d %H",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M:%S.%f",
    "%Y%m%dT%H%M%SZ",
    "%Y%m%dT%H%M%S",
    "%Y%m%d %H:%M:%S",
)
# Told to the user, who knows which it is.
_SUGGESTED: Final = (
    "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S %Y",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S GMT",
    "[%d/%b/%Y:%H:%M:%S %z]",
    "%d/%b/%Y:%H:%M:%S %z",
    *(
        f"{date}{time}"
        for date in ("%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y", "%d.%m.%Y", "%m/%d/%y", "%d/%m/%y", "%d.%m.%y")
        for time in ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
    ),
    *(
        f"{date}{time}"
        for date in (
            "%b %d, %Y",
            "%B %d, %Y",
            "%d %b %Y",
            "%d %B %Y",
            "%d-%b-%Y",
            "%m %d, %Y",
            "%Y.%m.%d",
            "%Y年%m月%d日",
        )
        for time in ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %I:%M %p")
    ),
)


@dataclass(frozen=True)
class Times:
    """The first times of a file.

    Attributes:
        values: numbers or text; of ``typed`` ones milliseconds.
        typed: whether they carry their own unit.
        source: the file, for messages.
        column: where they stand.
    """

    values: Sequence[Any]
    typed: bool
    source: str
    column: str


def find_rule(files: Sequence[Times], unit: str, format: str | None) -> tuple[TimeRule, list[Notice]]:
    """How the times of all files are read.

    Args:
        files: the first times of each.
        unit: what the user says, or ``auto``.
        format: likewise, for text.

    Raises:
        DasError: no unit is certain, or files differ in it; names the file and the option that says it.
    """
    if unit != "auto" or format is not None:
        rule = TimeRule("format" if format else unit, format)
        odd = [(times, middle) for times in files if (middle := _middle(times, rule)) and not is_likely(middle)]
        if not odd:
            return TimeRule(rule.unit, format, checked=True), []
        times, middle = odd[0]
        what = f"the times lie about {show_day(middle)}, read as the settings say; none is taken for wrong"
        return rule, [Notice(what=what, count=len(odd), unit="file", example=times.source)]
    rules: dict[TimeRule, Times] = {}
    for times in files:
        found = _guess(times)
        if found is not None:
            rules.setdefault(found, times)
    if len(rules) > 1:
        (first, here), (second, there) = list(rules.items())[:2]
        raise DasError(
            f"{there.source}: its timestamps look like {describe(second)}, those of {here.source} like "
            f"{describe(first)}; read them apart, or say which with --time-unit."
        )
    rule = next(iter(rules), TimeRule("s", None, checked=True))
    noticed = []
    if rule.unit == "format":
        example = next(str(times.values[0]) for times in files if not times.typed and times.values)
        what = f"the times are read by the format {rule.format}, which all the first ones fit"
        noticed.append(Notice(what=what, count=len(files), unit="file", example=example))
    return rule, [*noticed, *_zones(files, rule)]


def _zones(files: Sequence[Times], rule: TimeRule) -> list[Notice]:
    """ISO times without a zone among such with one, or in files of their own: hours may lie between them."""
    if rule.unit != "iso":
        return []
    texts = [(str(value), times) for times in files if not times.typed for value in times.values if value is not None]
    without = [(text, times) for text, times in texts if not _ZONE.search(text.strip())]
    if not without or len(without) == len(texts):
        return []
    what = "among the first times has no zone, though others have one, and is taken as UTC"
    return [Notice(what=what, count=len(without), unit="value", example=without[0][0])]


def describe(rule: TimeRule) -> str:
    """How people call a unit or format."""
    return f"the format {rule.format}" if rule.unit == "format" else NAMES[rule.unit]


def _guess(times: Times) -> TimeRule | None:
    """The rule for one file; None where it has no value that tells."""
    if times.typed:
        _check_typed(times)
        return None
    present = [str(value).strip() for value in times.values if value is not None and str(value).strip()]
    if not present:
        return None
    numbers = [text for text in present if _FLOAT.fullmatch(text)]
    if 2 * len(numbers) > len(present):
        return _number(numbers, times)
    return _text(present, times)


def _number(texts: list[str], times: Times) -> TimeRule:
    dated = _DIGITS.get(len(texts[0].split(".")[0]))
    if dated and _fits(texts, dated):
        return TimeRule("format", dated, checked=True)
    middle = statistics.median(map(float, texts))
    likely = {unit: ms for unit in UNITS if is_likely(ms := _ms(middle, unit))}
    certain = [unit for unit in _CERTAIN if unit in likely]
    if certain and _fits(texts, _HOURS):
        raise DasError(
            f"{times.source}: the times in column '{times.column}' ({texts[0]} …) may be {NAMES[certain[0]]} or digits "
            f"of dates; say --time-unit {certain[0]} or --time-format {_HOURS}."
        )
    if certain:
        return TimeRule(certain[0], None, checked=True)
    start = f"{times.source}: the unit of the times in column '{times.column}' ({texts[0]} …) is not certain"
    if likely:
        choices = " or ".join(
            f"--time-unit {unit} ({NAMES[unit]}: {show_day(likely[unit])})" for unit in _ASKED if unit in likely
        )
        raise DasError(f"{start}; say {choices}, or another with --time-unit.")
    seconds = show_time(_ms(middle, "s"))
    raise DasError(
        f"{start}: read as seconds they lie about {seconds}, and in no unit between 1995 and 2035; if they are meant, "
        f"say so with --time-unit (such as --time-unit s), or leave them out with --map timestamp= (empty)."
    )


def _text(present: list[str], times: Times) -> TimeRule:
    series = pl.Series(present)
    dates = iso_to_ns(series)
    if 2 * (len(present) - dates.null_count()) > len(present):
        middle = float(dates.drop_nulls().median()) / 1e6  # type: ignore[arg-type]
        if not is_likely(middle):
            raise DasError(
                f"{times.source}: the times in column '{times.column}' ({present[0][:40]} …) lie about "
                f"{show_day(middle)}, outside 1995 to 2035; if they are meant, say so with --time-unit iso."
            )
        return TimeRule("iso", None, checked=True)
    clear = next((format for format in _CLEAR if _fits(present, format)), None)
    if clear:
        return TimeRule("format", clear, checked=True)
    known = [format for format in _SUGGESTED if _fits(present, format)]
    odd = next(text for text in present if not _FLOAT.fullmatch(text))
    start = f"{times.source}: the column '{times.column}' ({odd[:40]} …) holds neither numbers nor ISO 8601 times"
    if known:
        choices = " or ".join(f'--time-format "{format}"' for format in known[:4])
        raise DasError(f"{start}; read it with {choices}, or ignore it with --map timestamp= (empty).")
    raise DasError(
        f"{start}; say how it is written with --time-format (as in --time-format '%d/%m/%Y %H:%M'), "
        f"name another with --map timestamp=COLUMN, or ignore it with --map timestamp= (empty)."
    )


def _fits(texts: Sequence[str], format: str) -> bool:
    """Whether nearly all texts, and their median, are likely times of a format."""
    if any(len(text) > 64 for text in texts[:10]):
        return False
    ns = format_to_ns(pl.Series([text.removesuffix(".0") for text in texts]), format).drop_nulls()
    return len(ns) >= 0.9 * len(texts) and is_likely(float(ns.median()) / 1e6)  # type: ignore[arg-type]


def _check_typed(times: Times) -> None:
    values = [float(value) for value in times.values if value is not None]
    if values and not is_likely(middle := statistics.median(values)):
        raise DasError(
            f"{times.source}: the times in column '{times.column}' lie about {show_time(middle)}, outside 1995 to "
            f"2035; their unit was probably mistaken when the file was written (seconds for nanoseconds?). If they "
            f"are meant, say so with --time-unit iso."
        )


def _middle(times: Times, rule: TimeRule) -> float | None:
    """The median of a file's first times, in milliseconds; None where none can be read."""
    texts = [str(value).strip() for value in times.values if value is not None]
    if times.typed:
        return statistics.median(map(float, texts)) if texts else None
    if rule.unit in UNITS:
        numbers = [float(text) for text in texts if _FLOAT.fullmatch(text)]
        return _ms(statistics.median(numbers), rule.unit) if numbers else None
    series = pl.Series(texts, dtype=pl.String)
    ns = (iso_to_ns(series) if rule.unit == "iso" else format_to_ns(series, rule.format or "")).drop_nulls()
    return float(ns.median()) / 1e6 if len(ns) else None  # type: ignore[arg-type]


def _ms(value: float, unit: str) -> float:
    length, start = UNITS[unit]
    return (value - start) * length / 1e6
