"""Formats beside plain text and Parquet: read, or refused with the line that converts them."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import re
import sqlite3
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
from readers_kit import read_all, read_log, read_noticed

from distill_at_scale.data.readers import LogOptions, plan_log, tables
from distill_at_scale.errors import DasError

CSV = b"user_id,item_id,rating,timestamp\n" + b"".join(
    b"%d,%d,%d,%d\n" % (u, 10 * u + k, k, 1_600_000_000 + u * 60 + k) for u in range(1, 9) for k in range(1, 5)
)


TIME = 1_600_000_000


def refusal(path, **options):
    with pytest.raises(DasError) as caught:
        read_log(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


@pytest.mark.parametrize("ending", ["bz2", "xz", "lz4"])
def test_packed_text_is_read(tmp_path, ending):
    if ending == "xz":
        packed = lzma.compress(CSV)
    else:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, ending) as stream:
            stream.write(CSV)
        packed = sink.getvalue().to_pybytes()
    path = tmp_path / f"log.csv.{ending}"
    path.write_bytes(packed)
    good, bad = read_log(path)
    assert (good.height, bad.height) == (32, 0)
    path.write_bytes(packed[: len(packed) // 2])
    assert "truncated" in refusal(path)


def test_packed_text_in_several_streams(tmp_path):
    for name, pack in {"log.csv.bz2": bz2.compress, "log.csv.xz": lzma.compress}.items():
        (tmp_path / name).write_bytes(pack(CSV) + pack(CSV.split(b"\n", 1)[1]))
        assert read_log(tmp_path / name)[0].height == 64


def zipped(name, content):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(name, content)
    return sink.getvalue()


def tarred(packing):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=f"w:{packing}") as archive:
        member = tarfile.TarInfo("ml/ratings.csv")
        member.size = len(CSV)
        archive.addfile(member, io.BytesIO(CSV))
    return sink.getvalue()


def saved(write):
    sink = io.BytesIO()
    write(sink)
    return sink.getvalue()


FRAME = pl.DataFrame({"user_id": [1, 2], "item_id": [3, 4]})
FOREIGN = {
    "zip.log": (zipped("ml-25m/ratings.csv", CSV), ["zip archive", "ml-25m/ratings.csv", "`unzip zip.log`"]),
    "log.xlsx": (zipped("[Content_Types].xml", "<x/>"), ["Excel", "read_excel('log.xlsx')"]),
    "log.npz": (saved(lambda sink: np.savez(sink, user=[1])), ["NumPy archive", "np.load('log.npz')"]),
    "log.npy": (saved(lambda sink: np.save(sink, [1])), ["NumPy array", "np.load('log.npy')"]),
    "log.pt": (zipped("archive/data.pkl", b"x"), ["PyTorch", "torch.load"]),
    "tar.log": (tarred(""), ["tar archive", "ml/ratings.csv", "`tar -xf tar.log`"]),
    "tar-gz.log": (tarred("gz"), ["tar archive", "ml/ratings.csv", "`tar -xf tar-gz.log`"]),
    "tar-xz.log": (tarred("xz"), ["tar archive", "`tar -xf tar-xz.log`"]),
    "tar-bz2.log": (tarred("bz2"), ["tar archive", "`tar -xf tar-bz2.log`"]),
    "log.pkl": (pickle.dumps({"user": [1]}), ["pickle", "read_pickle('log.pkl')"]),
    "log.pkl.gz": (gzip.compress(pickle.dumps({"user": [1]})), ["pickle", "unpack it"]),
    "log.parquet.gz": (
        gzip.compress(saved(lambda sink: FRAME.write_parquet(sink))),
        ["holds a table", "unpack it, then pass the table itself"],
    ),
    "log.avro": (saved(lambda sink: FRAME.write_avro(sink)), ["Avro", "read_avro('log.avro')"]),
    "log.feather": (
        saved(lambda sink: pyarrow.feather.write_feather(FRAME.to_arrow(), sink, version=1)),
        ["Feather file of version 1", "read_table('log.feather')"],
    ),
    "log.h5": (b"\x89HDF\r\n\x1a\n" + bytes(64), ["HDF5", "read_hdf('log.h5')"]),
    "log.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(64), ["Excel", "read_excel"]),
    "log.duckdb": (bytes(8) + b"DUCK" + bytes(64), ["DuckDB", "duckdb log.duckdb"]),
    "log.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(64), ["7z archive", "7z x log.7z"]),
    "log.rds": (gzip.compress(b"X\n\x00\x00\x00\x03" + bytes(64)), ["R data", "readRDS('log.rds')"]),
    "log.csv": (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", ["HTML page", "download"]),
    "error.csv": (
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        ["XML", "error message from the storage"],
    ),
    "ratings.parquet": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        ["Git LFS pointer", "`git lfs pull`"],
    ),
    "annexed.csv": (b"/annex/objects/SHA256E-s12345--4d7a.csv\n", ["git-annex", "`git annex get annexed.csv`"]),
    "log.csv.dvc": (b"outs:\n- md5: 4d7a\n  size: 123\n", ["DVC", "`dvc pull log.csv.dvc`"]),
    "utf16.csv": (CSV.decode().encode("utf-16-le"), ["UTF-16", "iconv"]),
    "unknown.bin": (bytes(range(256)) * 4, ["binary", "Parquet, CSV or JSON lines"]),
    "array.json": (json.dumps([{"user": 1}]).encode(), ["JSON array", "jq"]),
    "steam.json": (b"{u'username': u'x', 'item_id': 3}\n" * 9, ["Python dictionaries", "ast.literal_eval"]),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_file_is_named_with_its_fix(tmp_path, name):
    content, wanted = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    for part in wanted:
        assert part in message, message


def test_sqlite_is_named_with_its_fix(tmp_path):
    connection = sqlite3.connect(tmp_path / "log.db")
    connection.execute("create table ratings (user, item)")
    connection.commit()
    connection.close()
    assert "sqlite3 -header -csv log.db" in refusal(tmp_path / "log.db")


@pytest.mark.parametrize("line", ["avro", "npz", "steam"])
def test_the_line_that_converts_works(tmp_path, line):
    """The commands in the messages are run as they stand."""
    name = {"avro": "log.avro", "npz": "log.npz", "steam": "FILE.json"}[line]
    content = {
        "avro": FOREIGN["log.avro"][0],
        "npz": saved(lambda sink: np.savez(sink, user_id=[1, 2], item_id=[3, 4])),
        "steam": b"{u'user_id': 1, u'item_id': 3}\n{u'user_id': 2, u'item_id': 4}\n",
    }[line]
    (tmp_path / name).write_bytes(content)
    command = re.search(r"`python (.*?)`", refusal(tmp_path / name)).group(1)
    subprocess.run(f'"{sys.executable}" {command}', shell=True, cwd=tmp_path, check=True)
    made = next(path for path in tmp_path.iterdir() if path.name != name)
    assert read_log(made)[0].rows() == [(1, 3), (2, 4)]


# Tables beside Parquet


def write_ipc(table, path, rows):
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)


def write_stream(table, path, rows):
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)


TABLES = {
    "log.arrow": lambda table, path: write_ipc(table, path, 700),
    "log.feather": lambda table, path: pyarrow.feather.write_feather(table, path, "zstd", chunksize=700),
    "log.arrows": lambda table, path: write_stream(table, path, 700),
    "log.orc": lambda table, path: pyarrow.orc.write_table(table, path, stripe_size=1 << 16),
    "log": lambda table, path: write_ipc(table, path, 10_000),
}


@pytest.mark.parametrize("name", TABLES)
def test_arrow_and_orc_are_read(tmp_path, monkeypatch, name):
    n = 10_000
    table = pa.table(
        {
            "unread": pa.array(["x" * 20] * n),
            "item_id": pa.array([f"i{k % 97}" for k in range(n)]).dictionary_encode(),
            "user_id": pa.array(range(n), pa.int32()),
            "ts": pa.array([TIME + k for k in range(n)], pa.int64()),
        }
    )
    if name == "log.orc":
        table = table.set_column(1, "item_id", table["item_id"].combine_chunks().dictionary_decode())
    TABLES[name](table, tmp_path / name)
    good, bad = read_log(tmp_path / name)
    assert bad.height == 0
    assert good["user_id"].to_list() == list(range(n))
    assert good["item_id"].to_list() == [f"i{k % 97}" for k in range(n)]
    assert good["timestamp"].to_list() == [1000 * (TIME + k) for k in range(n)]
    # Cut into several fragments and batches, it is the same.
    monkeypatch.setattr(tables, "FRAGMENT_ROWS", 2000)
    monkeypatch.setattr(tables, "BATCH_ROWS", 300)
    schema, fragments, _ = plan_log(LogOptions(input=[str(tmp_path / name)]))
    if name in ("log.arrow", "log.feather"):
        assert len(fragments) > 3
    assert read_all(schema, fragments)[0].equals(good)


@pytest.mark.parametrize("name", ["log.arrow", "log.arrows", "log.orc"])
def test_cut_off_tables_are_refused(tmp_path, name):
    table = pa.table({"user_id": range(5000), "item_id": range(5000)})
    TABLES[name](table, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    refusal(tmp_path / name)


# Lists and fields inside columns


def test_lists_give_a_row_for_each_value(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 60, 300)
    frame = pl.DataFrame(
        {
            "uid": range(300),
            "item_id": [[f"i{k}" for k in range(n)] for n in lengths],
            "timestamp": [[TIME + k for k in range(n)] for n in lengths],
        }
    )
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=70)
    expected = [(u, f"i{k}", 1000 * (TIME + k)) for u, n in enumerate(lengths) for k in range(n)]
    options = {"map": {"user_id": "uid"}}
    good, bad, noticed = read_noticed(tmp_path, **options)
    assert good.rows() == expected
    assert bad.height == 0
    assert "column 'item_id' holds lists; each of their values is read as a separate row" in noticed
    monkeypatch.setattr(tables, "BATCH_ROWS", 50)
    monkeypatch.setattr(tables, "FRAGMENT_ROWS", 2000)
    schema, fragments, estimate = plan_log(LogOptions(input=[str(tmp_path)], **options))
    assert len(fragments) > 1
    assert not estimate.exact
    assert 0.5 < estimate.rows / len(expected) < 2
    assert read_all(schema, fragments)[0].rows() == expected


def test_uneven_and_empty_lists_are_bad(tmp_path):
    frame = pl.DataFrame(
        {"user_id": [1, 2, 3, 4], "item_id": [[5, 6], [7], [], None], "timestamp": [[TIME, TIME + 1], [], [], None]},
        schema_overrides={"item_id": pl.List(pl.Int64), "timestamp": pl.List(pl.Int64)},
    )
    frame.write_parquet(tmp_path / "a.parquet")
    good, bad = read_log(tmp_path)
    assert good.rows() == [(1, 5, 1000 * TIME), (1, 6, 1000 * TIME + 1000)]
    assert bad.select("row", "user_id", "reason").rows() == [
        (2, "2", "the lists of item_id and timestamp have different lengths"),
        (3, "3", "item_id is an empty list"),
        (4, "4", "item_id is an empty list"),
    ]
    pl.DataFrame({"user_id": [1], "item_id": [[[1]]]}).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DasError, match="lists of lists"):
        read_log(tmp_path)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.orc"])
def test_fields_inside_columns_are_found_by_their_path(tmp_path, name):
    rows = [
        {"event": {"user": {"id": "u1"}}, "items": [{"item_id": 5, "ts": TIME}, {"item_id": 6, "ts": TIME + 1}]},
        {"event": {"user": {"id": "u2"}}, "items": [{"item_id": 7, "ts": TIME + 2}]},
    ]
    table = pa.Table.from_pylist(rows)
    {"a.parquet": pq.write_table, "a.arrow": lambda t, p: write_ipc(t, p, 10), "a.orc": pyarrow.orc.write_table}[name](
        table, tmp_path / name
    )
    mapping = {"user_id": "event.user.id", "item_id": "items.item_id", "timestamp": "items.ts"}
    good, _ = read_log(tmp_path, map=mapping)
    assert good.rows() == [("u1", 5, 1000 * TIME), ("u1", 6, 1000 * TIME + 1000), ("u2", 7, 1000 * TIME + 2000)]
    message = refusal(tmp_path / name)
    assert "event.user.id, items.item_id, items.ts" in message


def test_a_column_may_have_dots_in_its_name(tmp_path):
    pl.DataFrame({"user.id": [1], "item.id": [2]}).write_parquet(tmp_path / "a.parquet")
    assert read_log(tmp_path, map={"user_id": "user.id", "item_id": "item.id"})[0].rows() == [(1, 2)]


def test_mixed_formats_are_noticed(tmp_path):
    frame = pl.DataFrame({"user_id": [1], "item_id": [2]})
    frame.write_parquet(tmp_path / "a.parquet")
    frame.write_parquet(tmp_path / "b.parquet")
    frame.write_csv(tmp_path / "c.csv")
    good, _, noticed = read_noticed(tmp_path)
    assert good.height == 3
    assert "1 file: format csv, beside 2 with the format parquet" in noticed
    assert "c.csv" in noticed
