"""Detects the unit of a log's times from the first values of every file; an ambiguous unit is an error."""

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
# At most one of these units is plausible for a given number; a number of days may be anything.
_CERTAIN: Final = ("s", "ms", "us", "ns")
_ASKED: Final = ("excel", "days", "ticks")
# Numbers of these lengths may be dates: few integers are valid dates, so other counts rarely match.
_DIGITS: Final = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_HOURS: Final = "%Y%m%d%H"
# Digits of dates in other orders, asked for where no unit is plausible.
_OTHER_DIGITS: Final = {8: ("%y%m%d%H", "%d%m%Y", "%m%d%Y"), 6: ("%y%m%d", "%d%m%y", "%m%d%y"), 10: ("%y%m%d%H%M",)}
_EXPONENT: Final = re.compile(r"([0-9]+\.?[0-9]*)[eE]\+?[0-9]+")
_CLOCK: Final = re.compile(r"[0-2]?[0-9]:[0-5][0-9](:[0-5][0-9]([.,][0-9]+)?)?( ?[AaPp][Mm])?")
# The year comes first, so day and month cannot be confused.
_CLEAR: Final = (
    "%Y-%m-%d %H",
    "%Y-%m-%dT%H",
    "%Y/%m/%d",
    "%Y/%m/%d %H",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M:%S.%f",
    "%Y%m%dT%H%M%SZ",
    "%Y%m%d%H%M%SZ",
    "%Y%m%d-%H",
    "%Y-%j",
    "%Y%m%dT%H%M%S",
    "%Y%m%d %H:%M:%S",
)
# Formats suggested to the user, who knows which is right.
_SUGGESTED: Final = (
    "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S %Y",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S GMT",
    "[%d/%b/%Y:%H:%M:%S %z]",
    "%d/%b/%Y:%H:%M:%S %z",
    "%d-%b-%y %I.%M.%S.%f %p",
    "%d-%b-%y",
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
        values: Numbers or text; milliseconds if ``typed``.
        typed: Whether the times carry their own unit.
        source: File name for messages.
        column: Name of the column.
    """

    values: Sequence[Any]
    typed: bool
    source: str
    column: str


def find_rule(files: Sequence[Times], unit: str, format: str | None) -> tuple[TimeRule, list[Notice]]:
    """Determines how the times of all files are read.

    Args:
        files: First times of each file.
        unit: The user's ``time_unit``.
        format: The user's ``time_format``.

    Raises:
        DasError: The unit is ambiguous or differs between files; names the file and the option that decides.
    """
    if unit != "auto" or format is not None:
        rule = TimeRule("format" if format else unit, format)
        odd = [(times, middle) for times in files if (middle := _middle(times, rule)) and not is_likely(middle)]
        if not odd:
            return TimeRule(rule.unit, format, checked=True), []
        times, middle = odd[0]
        what = f"the times lie around {show_day(middle)} with the given unit; none is rejected for it"
        return rule, [Notice(what=what, count=len(odd), unit="file", example=times.source)]
    rules: dict[TimeRule, Times] = {}
    for times in files:
        guess = _guess(times)
        if guess is not None:
            rules.setdefault(guess, times)
    if len(rules) > 1:
        (first, first_times), (second, second_times) = list(rules.items())[:2]
        raise DasError(
            f"{second_times.source}: its timestamps look like {describe(second)}, those of {first_times.source} like "
            f"{describe(first)}; read them separately, or set --time-unit."
        )
    rule = next(iter(rules), TimeRule("s", None, checked=True))
    noticed = []
    if rule.unit == "format":
        example = next(str(times.values[0]) for times in files if not times.typed and times.values)
        what = f"the times are read with the format {rule.format}, which matches all first values"
        noticed.append(Notice(what=what, count=len(files), unit="file", example=example))
    return rule, [*noticed, *_zones(files, rule), *_rounded(files)]


def _rounded(files: Sequence[Times]) -> list[Notice]:
    """Reports times written with an exponent and few digits, such as 1.6E+09, whose last digits are lost."""
    texts = [str(value).strip() for times in files if not times.typed for value in times.values if value is not None]
    odd = [text for text in texts if (match := _EXPONENT.fullmatch(text)) and len(match[1].replace(".", "")) < 10]
    if not odd:
        return []
    what = "among the first times is written with an exponent and has lost its last digits, so that neighbours tie"
    return [Notice(what=what, count=len(odd), unit="value", example=odd[0])]


def common_zone(files: Sequence[Times], rule: TimeRule) -> str | None:
    """Returns the zone of the first ISO 8601 times (empty without one); None if they have several, or no text."""
    zones = {zone for zone, _ in _zoned(files)} if rule.unit == "iso" else set()
    return zones.pop() if len(zones) == 1 else None


def _zoned(files: Sequence[Times]) -> list[tuple[str, str]]:
    """Returns (zone, text) of the first times that are text; the zone is empty without one."""
    texts = [str(value).strip() for times in files if not times.typed for value in times.values if value is not None]
    return [(match[0].strip() if (match := _ZONE.search(text)) else "", text) for text in texts if ":" in text]


def _zones(files: Sequence[Times], rule: TimeRule) -> list[Notice]:
    """Reports ISO times of several zones, or some without one: hours may lie between them."""
    if rule.unit != "iso":
        return []
    by_zone: dict[str, list[str]] = {}
    for zone, text in _zoned(files):
        by_zone.setdefault(zone.upper(), []).append(text)
    without = by_zone.pop("", [])
    notices = []
    if without and by_zone:
        what = "among the first times has no zone, though others have one, and is taken as UTC"
        notices.append(Notice(what=what, count=len(without), unit="value", example=without[0]))
    if len(by_zone) > 1:
        usual = max(by_zone, key=lambda zone: len(by_zone[zone]))
        others = [text for zone, texts in by_zone.items() if zone != usual for text in texts]
        what = f"among the first times has another zone than most ({usual}); all are converted to UTC"
        notices.append(Notice(what=what, count=len(others), unit="value", example=others[0]))
    return notices


def describe(rule: TimeRule) -> str:
    """Returns the name of a unit or format for messages."""
    return f"the format {rule.format}" if rule.unit == "format" else NAMES[rule.unit]


def _guess(times: Times) -> TimeRule | None:
    """Returns the rule for one file; None if it has no conclusive value."""
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
            f"of dates; set --time-unit {certain[0]} or --time-format {_HOURS}."
        )
    if certain:
        return TimeRule(certain[0], None, checked=True)
    start = f"{times.source}: the unit of the times in column '{times.column}' ({texts[0]} …) is ambiguous"
    if likely:
        choices = " or ".join(
            f"--time-unit {unit} ({NAMES[unit]}: {show_day(likely[unit])})" for unit in _ASKED if unit in likely
        )
        raise DasError(f"{start}; set {choices}, or another --time-unit.")
    dates = [format for format in _OTHER_DIGITS.get(len(texts[0]), ()) if _fits(texts, format)]
    if dates:
        choices = " or ".join(f"--time-format {format}" for format in dates)
        raise DasError(f"{start}: they may be the digits of dates; set {choices}, or another --time-unit.")
    seconds = show_time(_ms(middle, "s"))
    raise DasError(
        f"{start}: read as seconds they lie around {seconds}, and in no unit between 1995 and 2035; if that is right, "
        f"set --time-unit (such as --time-unit s), or ignore them with --map timestamp= (empty)."
    )


def _text(present: list[str], times: Times) -> TimeRule:
    series = pl.Series(present)
    dates = iso_to_ns(series)
    if 2 * (len(present) - dates.null_count()) > len(present):
        middle = float(dates.drop_nulls().median()) / 1e6  # type: ignore[arg-type]
        if not is_likely(middle):
            raise DasError(
                f"{times.source}: the times in column '{times.column}' ({present[0][:40]} …) lie around "
                f"{show_day(middle)}, outside 1995 to 2035; if that is right, set --time-unit iso."
            )
        return TimeRule("iso", None, checked=True)
    clear = next((format for format in _CLEAR if _fits(present, format)), None)
    if clear:
        return TimeRule("format", clear, checked=True)
    known = [format for format in _SUGGESTED if _fits(present, format)]
    odd = next(text for text in present if not _FLOAT.fullmatch(text))
    start = f"{times.source}: the column '{times.column}' ({odd[:40]} …) holds neither numbers nor ISO 8601 times"
    if all(map(_CLOCK.fullmatch, present)):
        raise DasError(
            f"{times.source}: the column '{times.column}' ({odd[:40]} …) holds times of day without their dates; write "
            f"date and time into one column, name the column of dates with --map timestamp=COLUMN, or ignore it with "
            f"--map timestamp= (empty)."
        )
    if known:
        choices = " or ".join(f'--time-format "{format}"' for format in known[:4])
        raise DasError(f"{start}; read it with {choices}, or ignore it with --map timestamp= (empty).")
    raise DasError(
        f"{start}; give its format with --time-format (such as --time-format '%d/%m/%Y %H:%M'), "
        f"name another with --map timestamp=COLUMN, or ignore it with --map timestamp= (empty)."
    )


def _fits(texts: Sequence[str], format: str) -> bool:
    """Returns whether at least 90 % of the texts match a format, with a plausible median time."""
    if any(len(text) > 64 for text in texts[:10]):
        return False
    ns = format_to_ns(pl.Series([text.removesuffix(".0") for text in texts]), format).drop_nulls()
    return len(ns) >= 0.9 * len(texts) and is_likely(float(ns.median()) / 1e6)  # type: ignore[arg-type]


def _check_typed(times: Times) -> None:
    values = [float(value) for value in times.values if value is not None]
    if values and not is_likely(middle := statistics.median(values)):
        raise DasError(
            f"{times.source}: the times in column '{times.column}' lie around {show_time(middle)}, outside 1995 to "
            f"2035; their unit was probably confused when the file was written (seconds for nanoseconds?). If that "
            f"is right, set --time-unit iso."
        )


def _middle(times: Times, rule: TimeRule) -> float | None:
    """Returns the median of a file's first times, in milliseconds; None if none can be read."""
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
