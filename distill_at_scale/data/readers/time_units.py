"""Detects the unit of a log's times from the first values of every file; an ambiguous unit is an error."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from distill_at_scale.data.ids import marks_none
from distill_at_scale.data.noticed import Notice
from distill_at_scale.data.readers.time_formats import clear_format, fits, possible_formats, zones
from distill_at_scale.data.times import (
    NAMES,
    UNITS,
    TimeRule,
    format_to_ns,
    is_likely,
    iso_to_ns,
    show_day,
    show_time,
    to_the_month,
)
from distill_at_scale.errors import DasError

_FLOAT: Final = re.compile(r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")
_ZONE: Final = re.compile(r"(Z|z| ?UTC| ?GMT|[+-][0-9]{2}(:?[0-9]{2})?)$")
# At most one of these units is plausible for a given number; a number of days may be anything.
_CERTAIN: Final = ("s", "ms", "us", "ns")
_ASKED: Final = ("excel", "days", "ticks")
# Numbers of these lengths may be dates: few integers are valid dates, so other counts rarely match.
_DIGITS: Final = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S", 17: "%Y%m%d%H%M%S%f"}
_HOURS: Final = "%Y%m%d%H"
_IGNORE: Final = "ignore it with --map timestamp= (empty)"
_EXPONENT: Final = re.compile(r"([0-9]+\.?[0-9]*)[eE]\+?[0-9]+")
_CLOCK: Final = re.compile(r"[0-2]?[0-9]:[0-5][0-9](:[0-5][0-9]([.,][0-9]+)?)?( ?[AaPp][Mm])?")
# Other counts of time, named where no unit is plausible: name, milliseconds of one, its value in 1970, least value.
_OTHER_COUNTS: Final = (
    ("minutes since 1970", 60_000.0, 0.0, 0.0),
    ("hours since 1970", 3_600_000.0, 0.0, 0.0),
    ("MATLAB's days", 86_400_000.0, 719_529.0, 0.0),
    ("Julian days", 86_400_000.0, 2_440_587.5, 0.0),
    ("modified Julian days", 86_400_000.0, 40_587.0, 0.0),
    ("Windows' file times", 1e-4, 116_444_736_000_000_000.0, 0.0),
    ("microseconds since 1601, as Chrome counts", 1e-3, 11_644_473_600_000_000.0, 0.0),
    ("seconds since 2001, as Apple counts", 1000.0, -978_307_200.0, 1e8),
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
            return TimeRule(rule.unit, format, checked=True), _months(files, rule)
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
    if not rules:
        _refuse_marks(files)
    rule = next(iter(rules), TimeRule("s", None, checked=True))
    noticed = []
    if rule.unit == "format":
        example = next(present[0] for times in files if not times.typed and (present := _present(times)))
        what = f"the times are read with the format {rule.format}, which matches all first values"
        noticed.append(Notice(what=what, count=len(files), unit="file", example=example))
    return rule, [*noticed, *_months(files, rule), *_zones(files, rule), *_rounded(files)]


def _refuse_marks(files: Sequence[Times]) -> None:
    """Rejects a column whose first values are all marks of missing ones.

    Raises:
        DasError: Names the column and a mark.
    """
    for times in files:
        mark = next((text for value in times.values if value is not None and (text := str(value).strip())), None)
        if mark is not None and not times.typed:
            raise DasError(
                f"{times.source}: the first times in column '{times.column}' are all missing ({mark}); name another "
                f"column with --map timestamp=COLUMN, or {_IGNORE}."
            )


def _months(files: Sequence[Times], rule: TimeRule) -> list[Notice]:
    """Reports times that are months."""
    if not to_the_month(rule.format or ""):
        return []
    what = "the times are months, each read as its first day, so that the rows of a month tie"
    return [Notice(what=what, count=len(files), unit="file", example=files[0].source)]


def _rounded(files: Sequence[Times]) -> list[Notice]:
    """Reports times written with an exponent and few digits, such as 1.6E+09, whose last digits are lost."""
    texts = [str(value).strip() for times in files if not times.typed for value in times.values if value is not None]
    odd = [text for text in texts if (match := _EXPONENT.fullmatch(text)) and len(match[1].replace(".", "")) < 10]
    if not odd:
        return []
    what = "among the first times, written with an exponent: the last digits are lost, so that neighbours tie"
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
        what = "among the first times, without a zone, though others have one; taken as UTC"
        notices.append(Notice(what=what, count=len(without), unit="value", example=without[0]))
    if len(by_zone) > 1:
        usual = max(by_zone, key=lambda zone: len(by_zone[zone]))
        others = [text for zone, texts in by_zone.items() if zone != usual for text in texts]
        what = f"among the first times, with another zone than most ({usual}); all times are converted to UTC"
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
    present = _present(times)
    if not present:
        return None
    numbers = [text for text in present if _FLOAT.fullmatch(text)]
    if 2 * len(numbers) > len(present):
        return _number(numbers, times)
    return _text(present, times)


def _present(times: Times) -> list[str]:
    """Returns the values that are neither empty nor marks of missing ones; whole floats without their point."""
    texts = (str(value).strip() for value in times.values if value is not None)
    return [text.removesuffix(".0") for text in texts if text and not marks_none(text)]


def _number(texts: list[str], times: Times) -> TimeRule:
    dated = _DIGITS.get(len(texts[0]))
    if dated and fits(texts, dated):
        return TimeRule("format", dated, checked=True)
    middle = statistics.median(map(float, texts))
    likely = {unit: ms for unit in UNITS if is_likely(ms := _ms(middle, unit))}
    certain = [unit for unit in _CERTAIN if unit in likely]
    if certain and fits(texts, _HOURS):
        raise DasError(
            f"{times.source}: the times in column '{times.column}' ({texts[0]} …) may be {NAMES[certain[0]]} or digits "
            f"of dates; set --time-unit {certain[0]} or --time-format {_HOURS}."
        )
    if certain == ["ns"]:
        _refuse_snowflakes(texts, times)
    if certain:
        return TimeRule(certain[0], None, checked=True)
    start = f"{times.source}: the unit of the times in column '{times.column}' ({texts[0]} …) is ambiguous"
    if likely:
        choices = " or ".join(
            f"--time-unit {unit} ({NAMES[unit]}: {show_day(likely[unit])})" for unit in _ASKED if unit in likely
        )
        raise DasError(f"{start}; set {choices}, or another --time-unit.")
    dates = possible_formats(texts)
    if dates:
        choices = " or ".join(f"--time-format {format}" for format in dates)
        raise DasError(
            f"{start}: they may be the digits of dates; set {choices}, or another --time-unit, or {_IGNORE}."
        )
    convert = "and name that column with --map timestamp=COLUMN, or keep only their order with --time-unit s"
    if 20 * sum(map(_is_day, texts)) >= 19 * len(texts):
        raise DasError(
            f"{start}: they may be months and days (MMDD); write dates with their year (20140503) {convert}."
        )
    if all(re.fullmatch("(19|20)[0-9]{2}", text) for text in texts):
        raise DasError(f"{start}: they may be years; write whole dates {convert}.")
    for name, length, in_1970, least in _OTHER_COUNTS:
        if middle >= least and is_likely(ms := (middle - in_1970) * length):
            raise DasError(f"{start}: they may be {name} ({show_day(ms)}); convert them to seconds {convert}.")
    seconds = show_time(_ms(middle, "s"))
    raise DasError(
        f"{start}: read as seconds they lie around {seconds}, and in no unit between 1995 and 2035; if that is right, "
        f"set --time-unit (such as --time-unit s), or {_IGNORE}."
    )


def _is_day(text: str) -> bool:
    """Returns whether a number may be a month and a day without a year: 503 or 0503."""
    if not text.isdecimal() or len(text) not in (3, 4):
        return False
    month, day = divmod(int(text), 100)
    return 1 <= month <= 12 and 1 <= day <= 31


# Ids of tweets and the like: milliseconds since November 2010, then 10 bits of a machine and 12 of a counter.
_SNOWFLAKE_START: Final = 1_288_834_974_657
_COUNTER: Final = 4096
_LOW_COUNT: Final = 256
_LEAST_IDS: Final = 4


def _refuse_snowflakes(texts: list[str], times: Times) -> None:
    """Rejects numbers that would be nanoseconds, but whose last bits count from 0, as those of ids do.

    Raises:
        DasError: Names the column and both readings.
    """
    numbers = [int(text) for text in texts if text.isdecimal()]
    # Nanoseconds that end in three zeros are of a coarser clock; their last bits mean nothing.
    if len(numbers) < _LEAST_IDS or 10 * sum(n % 1000 == 0 for n in numbers) > len(numbers):
        return
    if 10 * sum(n % _COUNTER < _LOW_COUNT for n in numbers) < 9 * len(numbers):
        return
    middle = statistics.median(numbers)
    written = (int(middle) >> 22) + _SNOWFLAKE_START
    raise DasError(
        f"{times.source}: the numbers in column '{times.column}' ({texts[0]} …) may be ids made of times (snowflakes, "
        f"of {show_day(written)}) or nanoseconds (of {show_day(middle / 1e6)}); set --time-unit ns, or write "
        f"(id >> 22) + {_SNOWFLAKE_START} into a column of milliseconds and name it with --map timestamp=COLUMN."
    )


def _text(present: list[str], times: Times) -> TimeRule:
    dates = iso_to_ns(pl.Series(present))
    is_iso = 2 * (len(present) - dates.null_count()) > len(present)
    # Days and months without leading zeros are ISO 8601 in a part of the year only.
    clear = clear_format(present) if not is_iso or 10 * dates.null_count() > len(present) else None
    if clear:
        return TimeRule("format", clear, checked=True)
    if is_iso:
        middle = float(dates.drop_nulls().median()) / 1e6  # type: ignore[arg-type]
        if not is_likely(middle):
            raise DasError(
                f"{times.source}: the times in column '{times.column}' ({present[0][:40]} …) lie outside 1995 to 2035; "
                f"if that is right, set --time-unit iso."
            )
        return TimeRule("iso", None, checked=True)
    odd = next(text for text in present if not _FLOAT.fullmatch(text))
    column = f"{times.source}: the column '{times.column}' ({odd[:40]} …) holds"
    if all(map(_CLOCK.fullmatch, present)):
        raise DasError(
            f"{column} times of day without their dates; write date and time into one column, name the column of "
            f"dates with --map timestamp=COLUMN, or {_IGNORE}."
        )
    choices = " or ".join(f'--time-format "{format}"' for format in possible_formats(present))
    named = zones(present)
    if named:
        fix = f"as if they were UTC with {choices}, which keeps their order" if choices else ""
        raise DasError(
            f"{column} times with the names of zones ({', '.join(named[:3])}), which tell no offset for certain; write "
            f"them in UTC or with their offsets (+01:00), "
            + (f"read them {fix}, or {_IGNORE}." if fix else f"or {_IGNORE}.")
        )
    start = f"{column} neither numbers nor ISO 8601 times"
    if choices:
        raise DasError(f"{start}; read it with {choices}, or {_IGNORE}.")
    raise DasError(
        f"{start}; give its format with --time-format (such as --time-format '%d/%m/%Y %H:%M'), "
        f"name another with --map timestamp=COLUMN, or {_IGNORE}."
    )


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
