"""However a file is cut into fragments and blocks, its rows stay the same, each in one fragment, in order."""

import gzip
import json

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from readers_kit import read_all

from distill_at_scale.data import storage
from distill_at_scale.data.readers import Fragment, LogOptions, LogSchema, plan_log, read_fragment, tables
from distill_at_scale.data.readers.quoting import Quoting
from distill_at_scale.data.readers.text import blocks, whole_lines

# Fields that the fast way and the tolerant way of each parser must judge alike, wherever a block happens to end.
FIELDS = st.one_of(
    st.integers(0, 10**12).map(str),
    st.sampled_from(["007", " 7", "+7", "0x1F", "", "x", "nan", "1.5", "1e3", "-1", "9223372036854775808", "é", "7 7"]),
)
TABLES = st.lists(st.lists(FIELDS, min_size=3, max_size=4), min_size=1, max_size=40)


def slow_rows(lines):
    """One line at a time, each a file of its own to the reader: no neighbour can change its verdict."""
    goods, bads = [], []
    schema = LogSchema(
        columns={"user_id": "u", "item_id": "i", "rating": "r", "timestamp": "t"},
        id_types={"user_id": "int64", "item_id": "string"},
        time_unit="s",
        text_types={"timestamp": "int"},
    )
    uri = "memory://cuts/line.csv"
    for number, line in enumerate(lines, start=2):
        storage.write_bytes(uri, line.encode())
        fragment = fragment_of(uri, 0, None, number)
        good, bad = read_all(schema, [fragment])
        goods.append(good)
        bads.append(bad.with_columns(source=pl.lit("memory://cuts/log.csv")))
    return schema, pl.concat(goods), pl.concat(bads)


def fragment_of(uri, start, end, first_row):
    return Fragment(
        uri=uri, format="csv", rows=1, bytes=1, start=start, end=end, first_row=first_row,
        names=("u", "i", "r", "t"), delimiter=",",
    )  # fmt: skip


def facts(bad):
    """What of a bad row may not depend on who parsed it: an empty number may be null or empty text."""
    return sorted(bad.select("reason", pl.col("user_id", "item_id", "line").fill_null("")).rows())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    table=TABLES,
    newline=st.sampled_from(["\n", "\r\n"]),
    ended=st.booleans(),
    cuts=st.lists(st.integers(1, 400), max_size=6),
)
def test_byte_ranges_and_neighbours_never_change_a_row(table, newline, ended, cuts):
    # A short time first: a last line with a shorter one than all before, and no end, would be one that was cut off.
    lines = ["1,1,1,1", *(",".join(fields) for fields in table)]
    header = "u,i,r,t" + newline
    content = header + newline.join(lines) + (newline if ended else "")
    uri = "memory://cuts/log.csv"
    schema, good, bad = slow_rows([line for line in lines if line])
    storage.write_bytes(uri, content.encode())
    size = len(content.encode())
    edges = sorted({len(header), *(len(header) + cut for cut in cuts if len(header) + cut < size)})
    ends = [*edges[1:], None]
    fragments = [fragment_of(uri, start, end, 2 if start == len(header) else None) for start, end in zip(edges, ends)]
    cut_good, cut_bad = read_all(schema, fragments)
    whole_good, whole_bad = read_all(schema, [fragment_of(uri, len(header), None, 2)])
    assert cut_good.equals(whole_good)
    assert whole_good.equals(good)
    assert facts(cut_bad) == facts(whole_bad) == facts(bad)
    assert sorted(whole_bad["row"].to_list()) == sorted(bad["row"].to_list())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    lines=st.lists(st.text('ab"é', max_size=12), max_size=30),
    edges=st.lists(st.integers(1, 300), max_size=5),
    size=st.integers(1, 40),
    quoted=st.booleans(),
)
def test_blocks_hold_every_byte_once_and_end_with_a_line(lines, edges, size, quoted):
    content = "\n".join(lines).encode()
    uri = "memory://cuts/blocks.txt"
    storage.write_bytes(uri, content)
    starts = sorted({0, *(edge for edge in edges if edge < len(content))})
    schema = LogSchema(columns={}, id_types={})
    found = b""
    for start, end in zip(starts, [*starts[1:], None]):
        fragment = Fragment(
            uri=uri, format="csv", rows=1, bytes=1, start=start, end=end, first_row=None if start else 1
        )
        expected = found.count(b"\n") + 1
        whole = Quoting.of(fragment, schema).end if quoted else whole_lines
        for block in blocks(fragment, whole, size):
            assert block.line == (None if start else expected)
            expected += block.data.count(b"\n")
            found += block.data
            assert block.data.endswith(b"\n") or found == content
            assert block.unfinished == (not block.data.endswith(b"\n"))
    assert found == content


@pytest.mark.parametrize("kind", ["csv", "jsonl", "sequences", "movielens"])
def test_planned_ranges_of_every_text_format(tmp_path, kind):
    rows = [(u, i % 97, 1 + i % 5, 1_500_000_000 + i) for i, u in enumerate(range(1000, 3000))]
    if kind == "csv":
        text = "user,item,rating,time\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    elif kind == "jsonl":
        text = "".join(json.dumps(dict(zip(("user", "item", "rating", "time"), row))) + "\n" for row in rows)
    elif kind == "movielens":
        text = "".join("::".join(map(str, row)) + "\n" for row in rows)
    else:
        text = "".join(" ".join(map(str, range(u, u + 2 + u % 7))) + "\n" for u, *_ in rows)
    path = tmp_path / "log"
    path.write_text(text)
    options = LogOptions(input=[str(path)])
    schema, whole, estimate = plan_log(options)
    good, bad = read_all(schema, whole)
    assert len(whole) == 1
    assert bad.height == 0
    assert abs(estimate.rows - good.height) < 0.1 * good.height
    for fragment_bytes in (100, 1000, 9999):
        same, fragments, estimate = plan_log(options, fragment_bytes=fragment_bytes)
        assert same == schema
        assert len(fragments) > 2
        assert read_all(schema, fragments)[0].equals(good)
        assert estimate.bytes == len(text)
        assert sum(fragment.rows for fragment in fragments) == estimate.rows
    # Each fragment by itself, in any order: workers share nothing.
    pieces = [read_all(schema, [fragment])[0] for fragment in reversed(fragments)]
    assert pl.concat(pieces[::-1]).equals(good)


def test_packed_and_quoted_text_is_not_cut(tmp_path):
    text = "user,item\n" + "1,2\n" * 5000
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "b.csv").write_text(text.replace("1,2", '"1",2', 1))
    _, fragments, _ = plan_log(LogOptions(input=[str(tmp_path)]), fragment_bytes=100)
    assert len(fragments) == 2
    assert all(fragment.first_row == 2 for fragment in fragments)


def test_quoted_fields_with_line_ends_survive_every_block_size(tmp_path, monkeypatch):
    from distill_at_scale.data.readers.delimited_formats import CSV

    path = tmp_path / "log.csv"
    rows = [(f"u{i}", f"i{i % 7}", i % 5, 'said "no"\nthen, left' * (i % 3)) for i in range(200)]
    pl.DataFrame(rows, schema=["user", "item", "rating", "review"], orient="row").write_csv(path)
    schema, fragments, _ = plan_log(LogOptions(input=[str(path)]))
    for size in (16, 100, 1000, 1 << 20):
        monkeypatch.setattr(type(CSV), "block_bytes", size)
        good, bad = read_all(schema, fragments)
        assert good.rows() == [row[:3] for row in rows]
        assert bad.height == 0


def test_runs_of_row_groups(tmp_path, monkeypatch):
    path = tmp_path / "log.parquet"
    frame = pl.DataFrame({"user_id": range(1000), "item_id": [str(i) for i in range(1000)]})
    frame = frame.with_columns(rating=pl.when(pl.col("user_id") % 100 == 99).then(float("nan")).otherwise(1.0))
    frame.write_parquet(path, row_group_size=70)
    expected = frame.with_columns(pl.col("rating").cast(pl.Float32)).filter(pl.col("rating").is_not_nan())
    for most, batch in ((1, 1000), (70, 30), (150, 1000), (10_000, 64)):
        monkeypatch.setattr(tables, "FRAGMENT_ROWS", most)
        monkeypatch.setattr(tables, "BATCH_ROWS", batch)
        schema, fragments, estimate = plan_log(LogOptions(input=[str(path)]))
        good, bad = read_all(schema, fragments)
        assert good.equals(expected)
        assert bad["row"].to_list() == list(range(100, 1001, 100))
        groups = [group for fragment in fragments for group in fragment.row_groups]
        assert groups == list(range(pq.read_metadata(path).num_row_groups))
        assert all(fragment.rows <= max(most, 70) for fragment in fragments)
        assert sum(fragment.rows for fragment in fragments) == estimate.rows == 1000


def test_a_large_row_group_comes_in_batches(tmp_path, monkeypatch):
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user_id": range(1000), "item_id": range(1000)}).write_parquet(path)
    monkeypatch.setattr(tables, "BATCH_ROWS", 300)
    schema, fragments, _ = plan_log(LogOptions(input=[str(path)]))
    assert [batch.rows for batch in read_fragment(fragments[0], schema)] == [300, 300, 300, 100]
