"""Times whose unit is certain are read; all others are asked for, and single odd ones are bad."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from pydantic import ValidationError
from readers_kit import read_all, read_noticed

from distill_at_scale.data.readers import LogOptions, plan_log, read_fragment
from distill_at_scale.errors import DasError

S = 1_600_000_000  # 2020-09-13 12:26:40


def read(*paths, **options):
    schema, fragments, estimate = plan_log(LogOptions(input=[str(path) for path in paths], **options))
    good, bad = read_all(schema, fragments)
    return good, bad, "\n".join(map(str, estimate.noticed))


def write(path, times, column="timestamp", more=""):
    lines = [f"{k % 7},{k},{time}{more}" for k, time in enumerate(times)]
    path.write_text(f"user_id,item_id,{column}{',x' if more else ''}\n" + "\n".join(lines) + "\n")
    return path


def refusal(*paths, **options):
    with pytest.raises(DasError) as caught:
        read(*paths, **options)
    assert "\n" not in str(caught.value)
    assert str(paths[0]) in str(caught.value)
    return str(caught.value)


def ms(*moment):
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1000)


CERTAIN = {
    "20220408": ms(2022, 4, 8),
    "20220408.0": ms(2022, 4, 8),
    "201412060203": ms(2014, 12, 6, 2, 3),
    "20141206020304": ms(2014, 12, 6, 2, 3, 4),
    "2014-12-06 02": ms(2014, 12, 6, 2),
    "2014-12-06T02": ms(2014, 12, 6, 2),
    "2014/12/06 02:03:04": ms(2014, 12, 6, 2, 3, 4),
    "2014/12/6": ms(2014, 12, 6),
    "20141206T020304Z": ms(2014, 12, 6, 2, 3, 4),
}


@pytest.mark.parametrize("written", CERTAIN)
@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_dates_in_digits_are_read_and_noticed(tmp_path, written, ending):
    path = tmp_path / f"log.{ending}"
    if ending == "csv":
        write(path, [written] * 9)
    else:
        value = float(written) if written.endswith(".0") else int(written) if written.isdigit() else written
        frame = pl.DataFrame({"user_id": [1, 2], "item_id": [3, 4], "timestamp": [value] * 2})
        frame.write_parquet(path) if ending == "parquet" else frame.write_ndjson(path)
    good, bad, noticed = read(path)
    assert bad.height == 0
    assert set(good["timestamp"]) == {CERTAIN[written]}
    assert "the times are read with the format %Y" in noticed


ASKED = {
    "637355968170000000": "--time-unit ticks (.NET ticks: 2020-09-13)",
    "44087.5": "--time-unit excel (Excel's days: 2020-09-13)",
    "18518": "--time-unit days (days since 1970: 2020-09-13)",
    "2033120602": "--time-format %Y%m%d%H",
    "13244500000000000": "microseconds since 1601, as Chrome counts (2020-09-13)",
    "5": "--time-unit s",
    "0": "--time-unit s",
    "132445000000000000": "--time-unit",
    "12/06/2014 02:03": '--time-format "%m/%d/%Y %H:%M" or --time-format "%d/%m/%Y %H:%M"',
    "25.12.2014": '--time-format "%d.%m.%Y"',
    "Tue Apr 03 18:00:09 +0000 2012": '--time-format "%a %b %d %H:%M:%S %z %Y"',
    "03/Apr/2012:18:00:09 +0000": '--time-format "%d/%b/%Y:%H:%M:%S %z"',
    "11/11/2019 9:05:58 AM": '"%m/%d/%Y %I:%M:%S %p"',
    "soon": "--time-format",
    "1823-05-01": "--time-unit iso",
}


@pytest.mark.parametrize("written", ASKED)
def test_what_is_not_certain_is_asked_for(tmp_path, written):
    message = refusal(write(tmp_path / "log.csv", [written] * 9))
    assert ASKED[written] in message
    assert written[:20] in message


GIVEN = [
    ("637355968170000000", {"time_unit": "ticks"}, ms(2020, 9, 13, 12, 26, 57)),
    ("44087.5", {"time_unit": "excel"}, ms(2020, 9, 13, 12)),
    ("44087", {"time_unit": "excel"}, ms(2020, 9, 13)),
    ("18518", {"time_unit": "days"}, ms(2020, 9, 13)),
    ("5", {"time_unit": "s"}, 5000),
    ("25.12.2014", {"time_format": "%d.%m.%Y"}, ms(2014, 12, 25)),
    ("01022020", {"time_format": "%d%m%Y"}, ms(2020, 2, 1)),
    ("Tue Apr 03 18:00:09 +0200 2012", {"time_format": "%a %b %d %H:%M:%S %z %Y"}, ms(2012, 4, 3, 16, 0, 9)),
    ("06.12.2014 02", {"time_format": "%d.%m.%Y %H"}, ms(2014, 12, 6, 2)),
    ("2014-12-06 02:03:04.5", {"time_format": "%Y-%m-%d %H:%M:%S.%f"}, ms(2014, 12, 6, 2, 3, 4, 500_000)),
    ("2014-12-06T02:03:04Z", {"time_format": "%Y-%m-%dT%H:%M:%S%z"}, ms(2014, 12, 6, 2, 3, 4)),
    ("1823-05-01", {"time_unit": "iso"}, None),
]


@pytest.mark.parametrize(("written", "options", "expected"), GIVEN)
def test_what_the_user_says_is_read(tmp_path, written, options, expected):
    good, bad, noticed = read(write(tmp_path / "log.csv", [written] * 9), **options)
    assert (good.height, bad.height) == ((0, 9) if expected is None else (9, 0))
    assert set(good["timestamp"]) == (set() if expected is None else {expected})
    assert ("the times lie around" in noticed) == (written in ("5", "1823-05-01"))


def test_formats_are_checked():
    for wrong in ("%Q", "%H:%M", "%Y", "%d %b", "plain", ""):
        with pytest.raises(ValidationError, match="cannot be read as a date"):
            LogOptions(input=["x"], time_format=wrong)
    with pytest.raises(ValidationError, match="exclude each other"):
        LogOptions(input=["x"], time_format="%Y-%m-%d", time_unit="s")


def test_rows_of_another_unit_are_bad(tmp_path):
    times = [1000 * (S + k) for k in range(3000)] + [S + k for k in range(20)] + [16, 0, 160_000_000]
    good, bad, _ = read(write(tmp_path / "log.csv", times))
    assert (good.height, bad.height) == (3000, 23)
    reasons = dict(bad["reason"].value_counts().rows())
    assert reasons == {
        "timestamp is in another unit than the others (too small or too large by a factor of 1,000 or more)": 20,
        "timestamp is before 1990 (cut off, not set, or in another unit)": 3,
    }
    good, bad, _ = read(write(tmp_path / "log.csv", [S + k for k in range(3000)] + [1000 * S, 10**6 * S, 10**9 * S]))
    assert (good.height, bad.height) == (3000, 3)
    assert bad["reason"].str.starts_with("timestamp is in another unit").all()


def test_a_file_mostly_of_another_unit_stops_the_job(tmp_path):
    write(tmp_path / "a.csv", [S + k for k in range(3000)])
    # The head of the file fits, the rest does not.
    late = write(tmp_path / "b.csv", [S + k for k in range(1200)] + [1000 * (S + k) for k in range(3000)])
    with pytest.raises(DasError, match=r"b\.csv: 3,000 of 4,200 times .* when read as seconds.*in another unit"):
        read(tmp_path)
    late.unlink()
    write(tmp_path / "b.csv", [1000 * (S + k) for k in range(30)])
    with pytest.raises(DasError, match=r"b\.csv: its timestamps look like milliseconds, those of .*a\.csv like sec"):
        read(tmp_path)


@pytest.mark.parametrize("place", [3, 11, 19])
def test_every_parquet_file_is_looked_at(tmp_path, place):
    for k in range(20):
        times = [(1000 if k == place else 1) * (S + j) for j in range(50)]
        frame = pl.DataFrame({"user_id": range(50), "item_id": range(50), "timestamp": times})
        frame.write_parquet(tmp_path / f"part-{k:02d}.parquet")
    with pytest.raises(DasError, match=rf"part-{place:02d}\.parquet: its timestamps look like milliseconds"):
        read(tmp_path)


def test_a_typed_column_of_a_mistaken_unit_is_refused(tmp_path):
    path = tmp_path / "log.parquet"
    frame = pl.DataFrame({"user_id": [1, 2], "item_id": [3, 4], "timestamp": [S, S + 1]})
    frame.with_columns(pl.col("timestamp").cast(pl.Datetime("us"))).write_parquet(path)
    assert "1970-01-01 00:26:40" in refusal(path)
    assert read(path, time_unit="iso")[0]["timestamp"].to_list() == [S // 1000, S // 1000]
    late = [datetime(2020, 1, 1) + timedelta(days=k) for k in range(2)]
    frame.with_columns(pl.Series("timestamp", late)).write_parquet(path)
    assert read(path)[0].height == 2


def test_a_unit_that_is_given_still_makes_odd_rows_bad(tmp_path):
    good, bad, noticed = read(write(tmp_path / "log.csv", [S + k for k in range(300)] + [16]), time_unit="s")
    assert (good.height, bad.height, noticed) == (300, 1, "")


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ("date,hourmin,time_ms", "time_ms"),
        ("date,event_timestamp", "event_timestamp"),
        ("day_of_week,date", "date"),
        ("timestamp,time_ms", "timestamp"),
        ("ts,date,play_time_ms", "ts"),
    ],
)
def test_a_time_is_taken_before_a_date(tmp_path, columns, chosen):
    path = tmp_path / "log.csv"
    values = ",".join("20220408" if name == "date" else str(S) for name in columns.split(","))
    path.write_text(f"user_id,item_id,{columns}\n" + f"1,2,{values}\n" * 5)
    assert plan_log(LogOptions(input=[str(path)]))[0].columns["timestamp"] == chosen


def test_two_times_are_asked_for(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(f"user_id,item_id,request_time,click_time\n1,2,{S},{S}\n")
    assert "--map timestamp=request_time or --map timestamp=click_time" in refusal(path)


@pytest.mark.parametrize(
    ("first", "late", "says"),
    [
        ("Z", "", "500 rows: timestamp has no zone, though the first ones have one (Z), and is taken as UTC"),
        ("", "+09:00", "500 rows: timestamp has another zone than the first ones (none, taken as UTC)"),
        ("+09:00", "Z", "500 rows: timestamp has another zone than the first ones (+09:00); it is converted to UTC"),
        ("Z", "Z", ""),
        ("", "", ""),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_zones_that_change_after_the_first_rows_are_noticed(tmp_path, first, late, says, ending):
    times = [f"2020-09-13T12:{k % 60:02}:00{first if k < 1200 else late}" for k in range(1700)]
    frame = pl.DataFrame({"user_id": range(1700), "item_id": range(1700), "timestamp": times})
    path = tmp_path / f"log.{ending}"
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[ending](path)
    schema, fragments, _ = plan_log(LogOptions(input=[str(path)]))
    said = [str(n) for fragment in fragments for batch in read_fragment(fragment, schema) for n in batch.noticed]
    assert len(said) == bool(says)
    assert says in "".join(said)


def test_several_zones_among_the_first_times_are_noticed(tmp_path):
    path = tmp_path / "log.csv"
    zones = ["Z", "+09:00", "+09:00"]
    path.write_text("user_id,item_id,ts\n" + "".join(f"{k},{k},2020-09-13T12:00:00{z}\n" for k, z in enumerate(zones)))
    good, _, said = read_noticed(path)
    assert good["timestamp"].n_unique() == 2
    assert "1 value: among the first times, with another zone than most (+09:00); all times are" in said
