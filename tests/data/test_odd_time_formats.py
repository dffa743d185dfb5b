"""Times in text: a format is used unasked where nothing can be confused, and suggested as a whole otherwise."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError
from readers_kit import read_log, read_noticed

from distill_at_scale.data.readers import LogOptions, plan_log
from distill_at_scale.data.readers.time_formats import clear_format, possible_formats, zones
from distill_at_scale.data.times import format_to_ns
from distill_at_scale.errors import DasError

FIRST = datetime(2014, 5, 3, 22, 4, 5, tzinfo=UTC)
MOMENTS = [FIRST + timedelta(days=17 * k, minutes=13 * k) for k in range(12)]


def write(folder: Path, times: list[str]) -> str:
    path = folder / "log.csv"
    rows = "".join(f'u{k % 4},i{k},"{time}"\n' for k, time in enumerate(times))
    path.write_text("user_id,item_id,timestamp\n" + rows)
    return str(path)


def refusal(folder: Path, times: list[str], **options: Any) -> str:
    with pytest.raises(DasError) as caught:
        plan_log(LogOptions(input=[write(folder, times)], **options))
    message = str(caught.value)
    assert "\n" not in message
    assert "'timestamp'" in message
    assert "--map timestamp=" in message
    return message


WRITTEN = [
    "%a, %d %b %Y %H:%M:%S %z",
    "%d %b %Y %H:%M:%S %z",
    "%A, %d-%b-%y %H:%M:%S GMT",
    "%a %b %d %H:%M:%S %Y",
    "%d/%m/%y %I:%M %p",
    "%m/%d/%Y, %I:%M:%S %p",
    "%d.%m.%Y %H:%M",
    "%b %d, %Y at %I:%M %p",
    "%Y_%m_%d",
    "%Y-%m-%d-%H-%M-%S",
    "%d-%b-%y %I.%M.%S.%f %p",
    "%B %Y",
    "%m/%Y",
    "%Y%m",
    "%d%m%Y",
    "%Y年%m月%d日 %H:%M",
    "[%d/%b/%Y:%H:%M:%S %z]",
    "%Y%m%dT%H%M%S%z",
    "%Y-%m-%dT%H:%M:%S%z[%Z]",
    "%a %b %d %Y %H:%M:%S GMT%z (%Z)",
]


@pytest.mark.parametrize("format", WRITTEN)
def test_formats_are_found_again(format: str) -> None:
    """One of the formats that are suggested gives the times that Python's strftime wrote."""
    texts = [moment.strftime(format) for moment in MOMENTS]
    # Python's strptime, the slow twin, reads names of zones only that it knows.
    expected = [datetime.strptime(text, format).replace(tzinfo=UTC) for text in texts]
    found = [clear_format(texts) or "", *possible_formats(texts)]
    read = [format_to_ns(pl.Series(texts), one).to_list() for one in found if one]
    assert [int(moment.timestamp()) * 10**9 for moment in expected] in read, found
    for one in found:
        LogOptions(input=["x"], time_format=one or None)


ASKED = {
    "Sat May 03 2014 10:00:00 GMT+0200 (CEST)": '--time-format "%a %b %d %Y %H:%M:%S GMT%z (%Z)"',
    "Sat May 03 2014 10:00:00 GMT+0200 (Central European Summer Time)": '"%a %b %d %Y %H:%M:%S GMT%z (%Z)"',
    "Sat, 3 May 2014 10:00:00 +0200": '--time-format "%a, %d %b %Y %H:%M:%S %z"',
    "3 May 2014 10:00:00 -0700": '--time-format "%d %b %Y %H:%M:%S %z"',
    "2014-05-03T10:00:00+02:00[Europe/Berlin]": '--time-format "%Y-%m-%dT%H:%M:%S%z[%Z]"',
    "2014-05-03T10:00:00.000-0700[America/Los_Angeles]": '--time-format "%Y-%m-%dT%H:%M:%S.%f%z[%Z]"',
    "20140503-10:00:00": '--time-format "%Y%m%d-%H:%M:%S"',
    "2014-05-03 10:00:00 a.m.": "such as --time-format ",
    "2014-05": '--time-format "%Y-%m"',
    "May-14": '--time-format "%b-%y"',
    "201405": "--time-format %Y%m",
    "2014123": "--time-format %Y%j",
    "5/3/14 10:00": '"%m/%d/%y %H:%M" or --time-format "%d/%m/%y %H:%M"',
    "0503": "months and days (MMDD)",
    "503": "keep only their order with --time-unit s",
    "2014": "they may be years",
    "388642": "hours since 1970 (2014-05-03)",
    "23318520": "minutes since 1970 (2014-05-03)",
    "735722.41": "MATLAB's days (2014-05-03)",
    "130435992000000000": "Windows' file times (2014-05-03)",
    "NULL": "are all missing (NULL)",
    "2014-W18-6": "--time-format",
    "3 days ago": "--time-format",
}


@pytest.mark.parametrize("written", ASKED)
def test_what_is_asked_for_names_column_example_and_option(tmp_path: Path, written: str) -> None:
    message = refusal(tmp_path, [written] * 9)
    assert ASKED[written] in message
    assert written[:40] in message


@pytest.mark.parametrize("written", [text for text, says in ASKED.items() if "%" in says])
def test_the_format_that_is_suggested_reads_the_times(tmp_path: Path, written: str) -> None:
    suggested = re.findall(r'--time-format (?:"([^"]*)"|(\S+?)[,.;])', refusal(tmp_path, [written] * 9))
    format = next(filter(None, suggested[0]))
    good, bad, said = read_noticed(write(tmp_path, [written] * 9), time_format=format)
    assert (good.height, bad.height) == (9, 0)
    day = 1 if re.search("^(2014-05|May-14|201405)$", written) else 3
    assert datetime.fromtimestamp(good["timestamp"][0] / 1000, UTC).date() == datetime(2014, 5, day).date()
    assert ("rows of a month tie" in said) == (day == 1)


CLEAR = {
    "2014-05-03 10:00:00 GMT": 10,
    "2014-5-3 10:00": 10,
    "2014-5-3": 0,
    "2014/05/03T10:00:00": 10,
    "2014-05-03 10:00:00 PM": 22,
    "20140503T100000+0200": 8,
    "20140503100000123": 10,
    "2014-123": 0,
}


@pytest.mark.parametrize("written", CLEAR)
def test_what_cannot_be_confused_is_read(tmp_path: Path, written: str) -> None:
    good, bad = read_log(write(tmp_path, [written] * 9))
    assert bad.height == 0
    moment = datetime.fromtimestamp(good["timestamp"][0] // 1000, UTC)
    assert moment == datetime(2014, 5, 3, CLEAR[written], tzinfo=UTC)


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["2014-05-03 10:00 PST"], ["PST"]),
        (["2014-05-03 10:00:00 Europe/Berlin"], ["Europe/Berlin"]),
        (["2014-01-03 10:00 EST", "2014-05-03 10:00 EDT"], ["EST", "EDT"]),
        (["Sat May  3 10:00:00 PDT 2014"], ["PDT"]),
        (["2014-05-03 10:00:00 pst"], ["pst"]),
        (["2014-05-03 10:00:00 Pacific Standard Time"], ["Pacific Standard Time"]),
        (["2014-05-03 10:00 UTC", "2014-05-03 10:00 PM", "Sat May 03 2014 10:00:00 GMT+0200 (CEST)", "3 MAY 2014"], []),
    ],
)
def test_names_of_zones_tell_no_offset(tmp_path: Path, texts: list[str], names: list[str]) -> None:
    assert zones(texts) == names
    if names:
        message = refusal(tmp_path, texts * 9)
        assert f"names of zones ({', '.join(names)})" in message
        # One name can stand in the format; several cannot.
        assert ("which keeps their order" in message) == (len(names) == 1)
        assert (f'{names[0]}"' in message or f"{names[0]} %Y" in message) == (len(names) == 1)


def test_a_zone_without_its_offset_is_no_format() -> None:
    with pytest.raises(ValidationError, match=r"names of zones \(%Z\) tell no offset"):
        LogOptions(input=["x"], time_format="%Y-%m-%d %H:%M %Z")


@pytest.mark.parametrize(
    ("text", "format", "ns"),
    [
        ("2014-05-03 10:00:00,5", "%Y-%m-%d %H:%M:%S,%f", 500_000_000),
        ("2014-05-03 10:00:00.123", "%Y-%m-%d %H:%M:%S.%f", 123_000_000),
        ("20140503100000123", "%Y%m%d%H%M%S%f", 123_000_000),
        ("2014-05-03 10:00:00:123456", "%Y-%m-%d %H:%M:%S:%f", 123_456_000),
    ],
)
def test_fractions_are_of_a_second(text: str, format: str, ns: int) -> None:
    """As Python reads %f, whatever stands in front of it."""
    moment = datetime.strptime(text, format).replace(tzinfo=UTC)
    assert moment.microsecond * 1000 == ns
    assert format_to_ns(pl.Series([text]), format).to_list() == [
        int(moment.replace(microsecond=0).timestamp()) * 10**9 + ns
    ]


def snowflake(ms: int, counter: int) -> int:
    return (ms - 1_288_834_974_657 << 22) | (5 << 12) | counter


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_ids_of_tweets_are_no_nanoseconds(tmp_path: Path, ending: str) -> None:
    ids = [snowflake(1_600_000_000_000 + 977 * k, k % 3) for k in range(40)]
    frame = pl.DataFrame({"user_id": range(40), "item_id": range(40), "timestamp": ids})
    path = tmp_path / f"log.{ending}"
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[ending](path)
    with pytest.raises(
        DasError, match=r"snowflakes, of 2020-09-13\) or nanoseconds \(of 2011-05-11\); set --time-unit ns"
    ):
        plan_log(LogOptions(input=[str(path)]))
    assert read_log(str(path), time_unit="ns")[0]["timestamp"][0] == ids[0] // 10**6


@pytest.mark.parametrize("step", [1_234_567_891, 10**9, 1000, 60 * 10**9, 86_400 * 10**9])
def test_nanoseconds_are_no_ids_of_tweets(tmp_path: Path, step: int) -> None:
    path = write(tmp_path, [str(step * (1_600_000_000_123_456_789 // step + k)) for k in range(40)])
    assert read_log(path)[0]["timestamp"].is_between(1_599_000_000_000, 1_610_000_000_000).all()


def test_dates_without_leading_zeros_are_one_format(tmp_path: Path) -> None:
    """In a part of the year such dates are ISO 8601 too; the others would be bad rows."""
    times = [f"2014-{month}-{day}" for month in (10, 11, 12) for day in range(1, 29)]
    good, bad = read_log(write(tmp_path, times))
    assert (good.height, bad.height) == (len(times), 0)


def test_marks_of_missing_times_decide_no_unit(tmp_path: Path) -> None:
    times = [str(1_600_000_000 + k) if k % 3 == 0 else "NULL" for k in range(40)]
    good, bad = read_log(write(tmp_path, times))
    assert (good.height, bad.height) == (14, 26)
    assert set(bad["reason"]) == {"timestamp is missing (written as NULL, NA or the like)"}
