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
import pytest
from readers_kit import read_log

from distill_at_scale.errors import DasError

CSV = b"user_id,item_id,rating,timestamp\n" + b"".join(
    b"%d,%d,%d,%d\n" % (u, 10 * u + k, k, 1_600_000_000 + u * 60 + k) for u in range(1, 9) for k in range(1, 5)
)


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
    assert "cut off" in refusal(path)


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
    "log.zip": (zipped("ml-25m/ratings.csv", CSV), ["zip archive", "ml-25m/ratings.csv", "`unzip log.zip`"]),
    "log.xlsx": (zipped("[Content_Types].xml", "<x/>"), ["Excel", "read_excel('log.xlsx')"]),
    "log.npz": (saved(lambda sink: np.savez(sink, user=[1])), ["NumPy archive", "np.load('log.npz')"]),
    "log.npy": (saved(lambda sink: np.save(sink, [1])), ["NumPy array", "np.load('log.npy')"]),
    "log.pt": (zipped("archive/data.pkl", b"x"), ["PyTorch", "torch.load"]),
    "log.tar": (tarred(""), ["tar archive", "ml/ratings.csv", "`tar -xf log.tar`"]),
    "log.tar.gz": (tarred("gz"), ["tar archive", "ml/ratings.csv", "`tar -xf log.tar.gz`"]),
    "log.tar.xz": (tarred("xz"), ["tar archive", "`tar -xf log.tar.xz`"]),
    "log.tar.bz2": (tarred("bz2"), ["tar archive", "`tar -xf log.tar.bz2`"]),
    "log.pkl": (pickle.dumps({"user": [1]}), ["pickle", "read_pickle('log.pkl')"]),
    "log.pkl.gz": (gzip.compress(pickle.dumps({"user": [1]})), ["pickle", "unpack it"]),
    "log.parquet.gz": (
        gzip.compress(saved(lambda sink: FRAME.write_parquet(sink))),
        ["holds a table", "unpack it, then give the table"],
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
    "error.csv": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', ["XML", "storage's error"]),
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
