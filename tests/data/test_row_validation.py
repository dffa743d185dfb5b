"""Rows are judged as a slow, plain-Python reading of the rules judges them, one at a time."""

import math
import re
import struct
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill_at_scale.data.row_validation import BAD_SCHEMA, validate_rows
from distill_at_scale.data.times import END_OF_TIME_MS, TimeRule, iso_to_ns

NS = 1_000_000_000
IDS = {"user_id": "int64", "item_id": "string"}


def judge_int(text):
    if text is None or not re.fullmatch(r"-?[0-9]+", text.strip(" \t")):
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None


def judge_id(text):
    """007, +7 and -0 are not 7, 7 and 0: they are no integers as programs print them."""
    value = judge_int(text)
    return value if value is not None and str(value) == text else None


def judge_string(text):
    return text if text and len(text.encode()) <= 1024 and not {"\n", "\r"} & set(text) and text != r"\N" else None


def parse_float(text):
    if text is None or not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text.strip(" \t")):
        return None
    return float(text)


def judge_rating(text):
    value = parse_float(text)
    if value is None or math.isinf(value):
        return None
    try:
        return struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return None


def judge_time(text, unit):
    """Nanoseconds since 1970 UTC."""
    if unit == "iso":
        try:
            moment = datetime.fromisoformat(text)
        except (ValueError, TypeError):
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        passed = moment - datetime(1970, 1, 1, tzinfo=UTC)
        ns = (passed.days * 86_400 + passed.seconds) * NS + passed.microseconds * 1000
    else:
        per_unit = {"s": NS, "ms": 1_000_000, "us": 1_000, "ns": 1}[unit]
        value = judge_int(text)
        whole = value is not None
        value = value if whole else parse_float(text)
        if value is None or math.isinf(value) or value < 0:
            return None
        if whole:
            ns = value * per_unit
        elif unit in ("s", "ms"):
            ns = round(value * (per_unit // 1000)) * 1000 if value < 1e18 else END_OF_TIME_MS * 1_000_000
        else:
            ns = math.floor(value) * per_unit
    return int(ns) if 0 <= ns < END_OF_TIME_MS * 1_000_000 else None


def judge_split(text):
    names = {"train": 0, "validation": 1, "valid": 1, "val": 1, "test": 2}
    text = (text or "").strip().lower()
    return int(text) if text in ("-1", "0", "1", "2") else names.get(text)


NUMBERS = st.one_of(
    st.integers(-(2**65), 2**65).map(str),
    st.integers(0, 5_000_000_000).map(str),
    st.floats(0, 5e9).map(lambda x: f"{x:.3f}"),
    st.sampled_from(
        ["", "0", "-0", "007", "+7", " 7 ", "\t7", "0x1F", "1.", ".5", "1e3", "1e400", "nan", "NaN", "inf", "-inf",
         "NA", "null", "1_0", "-", "٣", "1 2", "4102444799", "4102444800", "9223372036854775808"]
    ),
)  # fmt: skip
MOMENTS = st.one_of(
    st.datetimes(datetime(1960, 1, 1), datetime(2110, 1, 1)).map(lambda t: t.isoformat(timespec="milliseconds")),
    st.datetimes(datetime(1960, 1, 1), datetime(2110, 1, 1)).map(lambda t: t.isoformat(" ", "seconds")),
    st.sampled_from(
        ["2020-02-30", "2020-02-29", "2021-02-29", "2020-01-01", "2020-01-01T10:00Z", "2020-01-01T10:00:00+05:30",
         "2020-01-01T10:00:00-0800", "2020-01-01 10:00:00.5+02", "2020-13-01", "2020-01-01T25:00:00Z", "x", "",
         "2020-01-01T10:00:61Z", "2020-01-01T0٣:00:00", "2020-01-01T10:00:0٣Z", "1970-01-01T01:00:00+02:00", "12345"]
    ),
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=5), st.sampled_from(["", r"\N", "a\rb", "é" * 512, "é" * 513, "a\nb", "7", "日本語"])
)
SPLITS = st.sampled_from(["-1", "0", "1", "2", "3", "train", "Test", "VALID", "val", "validation", "dev", "", " test "])


def optional(strategy):
    return st.one_of(strategy, st.none()) if strategy is not None else st.none()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    rows=st.lists(
        st.tuples(optional(NUMBERS), optional(TEXTS), optional(NUMBERS), st.tuples(NUMBERS, MOMENTS), optional(SPLITS)),
        max_size=12,
    ),
    unit=st.sampled_from(["s", "ms", "us", "ns", "iso"]),
)
def test_agrees_with_the_rules_read_one_row_at_a_time(rows, unit):
    names = ["user_id", "item_id", "rating", "timestamp", "split"]
    rows = [(u, i, r, times[unit == "iso"], s) for u, i, r, times, s in rows]
    raw = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    good, bad = validate_rows(raw, IDS, TimeRule(unit), "log.csv", 10)
    expected_good, expected_bad = [], []
    for number, (u, i, r, t, s) in enumerate(rows, start=10):
        judged = (judge_id(u), judge_string(i), judge_rating(r), judge_time(t, unit), judge_split(s))
        if None in judged:
            culprit = names[judged.index(None)]
            expected_bad.append((culprit, "log.csv", number, u, i, r, t, s, None))
        else:
            expected_good.append(judged)
    assert good.schema == pl.Schema(
        {"user_id": pl.Int64, "item_id": pl.String, "rating": pl.Float32, "timestamp": pl.Int64, "split": pl.Int8}
    )
    assert good.rows() == expected_good
    assert bad.schema == pl.Schema(BAD_SCHEMA)
    found = [(reason.split()[0], *rest) for reason, *rest in bad.rows()]
    assert found == expected_bad


def clean_one(name, values, id_types=IDS, unit="s"):
    """Good values and reasons of one column beside sound others."""
    raw = pl.DataFrame({"user_id": range(len(values)), "item_id": ["i"] * len(values)}).with_columns(
        pl.Series(name, values)
    )
    good, bad = validate_rows(raw, id_types, TimeRule(unit), "log")
    assert good.height + bad.height == len(values)
    return good[name].to_list(), bad["reason"].to_list()


def test_reasons_name_the_column_and_the_mend():
    fix = "(--id-type string reads ids as text)"
    assert clean_one("user_id", ["1", "x", "9223372036854775808", "", None]) == (
        [1],
        [
            f"user_id is not an integer {fix}",
            f"user_id is outside -2^63 to 2^63 - 1 {fix}",
            "user_id is missing",
            "user_id is missing",
        ],
    )
    other_way = f"user_id is an integer written in another way, such as 007, +7 or ' 7' {fix}"
    assert clean_one("user_id", ["7", "007", "+7", " 7", "-0", "NULL", r"\N"]) == (
        [7],
        [
            *[other_way] * 4,
            "user_id is missing (written as NULL, NA or the like)",
            r"user_id is missing (written as \N)",
        ],
    )
    assert clean_one("item_id", ["NULL", r"\N"]) == (["NULL"], [r"item_id is missing (written as \N)"])
    assert clean_one("item_id", ["ok", "x" * 1025, "a\nb", ""]) == (
        ["ok"],
        ["item_id is longer than 1,024 bytes", "item_id holds a line end", "item_id is missing"],
    )
    assert clean_one("rating", [1.5, math.nan, math.inf, None]) == (
        [1.5],
        ["rating is not finite", "rating is not finite", "rating is missing"],
    )
    assert clean_one("rating", ["x", "-inf"])[1] == ["rating is not a number", "rating is not finite"]
    assert clean_one("timestamp", [-1, 4_102_444_800, 4_102_444_799, None]) == (
        [4_102_444_799 * NS],
        ["timestamp is before 1970", "timestamp is after the year 2100", "timestamp is missing"],
    )
    assert clean_one("timestamp", ["soon"])[1] == ["timestamp is not a number (--time-unit names the unit)"]
    assert clean_one("timestamp", ["soon", "1960-01-01"], unit="iso")[1] == [
        "timestamp is not an ISO 8601 time (--time-format names another format)",
        "timestamp is before 1970",
    ]
    assert clean_one("timestamp", [5], unit="iso")[1] == [
        "timestamp is not an ISO 8601 time (--time-format names another format)"
    ]
    assert clean_one("split", [0, 3])[1] == ["split is none of -1, 0, 1, 2, train, validation, test"]


def test_ids_of_every_number_type():
    wide = pl.Series([1, 2**63], dtype=pl.UInt64)
    said = ["user_id is outside -2^63 to 2^63 - 1 (--id-type string reads ids as text)"]
    assert clean_one("user_id", wide) == ([1], said)
    assert clean_one("user_id", pl.Series([1, 250], dtype=pl.UInt8))[0] == [1, 250]
    assert clean_one("user_id", [1.0, 1.5, math.nan, 2.0**60])[0] == [1]
    decimals = pl.Series(["7.00", "7.50"]).cast(pl.Decimal(10, 2))
    assert clean_one("user_id", decimals)[0] == [7]
    strings = {"user_id": "string", "item_id": "string"}
    assert clean_one("user_id", wide, strings)[0] == ["1", str(2**63)]
    assert clean_one("user_id", [1.0, 1.5], strings) == (["1"], ["user_id is not a whole number"])
    assert clean_one("user_id", decimals, strings)[0] == ["7", "7.50"]


def test_arrow_times_keep_their_own_unit_and_zone():
    moment = datetime(2020, 1, 1, 12, tzinfo=UTC)
    ns = int(moment.timestamp()) * NS
    for unit in ("ms", "us", "ns"):
        times = pl.Series([moment]).dt.cast_time_unit(unit).dt.convert_time_zone("Asia/Tokyo")
        assert clean_one("timestamp", times, unit="iso")[0] == [ns]
    assert clean_one("timestamp", [moment.date()])[0] == [ns - 12 * 3600 * NS]
    assert clean_one("timestamp", [datetime(1969, 12, 31)])[1] == ["timestamp is before 1970"]
    assert clean_one("timestamp", [datetime(2100, 1, 1)])[1] == ["timestamp is after the year 2100"]


def test_times_beyond_the_calendar_are_bad_and_keep_their_number():
    raw = pl.DataFrame({"user_id": [1, 2, 3], "item_id": ["a", "b", "c"]}).with_columns(
        timestamp=pl.Series([2**62, -(2**62), 10**15]).cast(pl.Datetime("ms", "Europe/Berlin"))
    )
    good, bad = validate_rows(raw, IDS, TimeRule("s"), "log")
    assert good.height == 0
    assert bad["timestamp"].to_list()[:2] == [str(2**62), str(-(2**62))]
    assert bad["reason"].to_list() == [
        "timestamp is after the year 2100",
        "timestamp is before 1970",
        "timestamp is after the year 2100",
    ]


def test_float_seconds_keep_the_microseconds_that_were_written():
    assert clean_one("timestamp", [881250949.0, 881250949.123, 1600000000.123456])[0] == [
        881250949 * NS,
        881250949_123_000_000,
        1600000000_123_456_000,
    ]


def test_what_lies_below_a_millisecond_stays():
    for unit, value in (("us", 1_600_000_000_123_456), ("ns", 1_600_000_000_123_456_789)):
        assert clean_one("timestamp", [value], unit=unit)[0] == [value * (1000 if unit == "us" else 1)]
    assert clean_one("timestamp", ["2020-01-01T00:00:00.123456789Z"], unit="iso")[0] == [1577836800_123_456_789]
    assert clean_one("timestamp", ["1500-01-01", "9999-01-01"], unit="iso")[1] == [
        "timestamp is before 1970",
        "timestamp is after the year 2100",
    ]


def test_the_fast_shapes_of_iso_times_agree_with_the_general_pattern():
    texts = ["2020-02-29T23:59:59Z", "1999-12-31T00:00:00Z", "2021-02-29T00:00:00Z"]
    alone = iso_to_ns(pl.Series(texts)).to_list()
    beside = iso_to_ns(pl.Series([*texts, "2020-01-01"])).to_list()[:3]
    assert alone == beside == [1583020799 * NS, 946598400 * NS, None]


def test_quarantined_text_is_cut_short():
    raw = pl.DataFrame({"user_id": ["x" * 5000], "item_id": ["i"]})
    _, bad = validate_rows(raw, IDS, TimeRule("s"), "log")
    assert bad["user_id"].str.len_chars().to_list() == [1000]
    assert bad["row"].to_list() == [None]


@pytest.mark.parametrize("n", [0, 3])
def test_valid_rows_come_back_whole(n):
    raw = pl.DataFrame(
        {"user_id": pl.Series(range(n), dtype=pl.Int64), "item_id": pl.Series(["a"] * n, dtype=pl.String)}
    )
    good, bad = validate_rows(raw, IDS, TimeRule("s"), "log")
    assert good.equals(raw)
    assert bad.height == 0
    assert bad.schema == pl.Schema(BAD_SCHEMA)


def test_floats_that_cannot_tell_two_ids_apart_are_bad():
    narrow = pl.Series([7.0, 2.0**24 - 1, 2.0**24], dtype=pl.Float32)
    assert clean_one("user_id", narrow) == (
        [7, 2**24 - 1],
        ["user_id is too large to be exact as a float; write the column as integers or text"],
    )
    assert clean_one("user_id", [2.0**53 - 1, 2.0**53])[0] == [2**53 - 1]
