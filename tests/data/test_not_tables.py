"""Files that are nearly logs: what they are is said, with what makes a log of them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import polars as pl
import pytest
from readers_kit import read_noticed

from distill_at_scale.data.readers import LogOptions, plan_log
from distill_at_scale.errors import DasError

NAMES = "user_id,item_id,rating,timestamp"
ROWS = [f"{k % 4},{k},{k % 5 + 1},{1_600_000_000 + k}" for k in range(12)]
LOG = "\n".join([NAMES, *ROWS]) + "\n"


def old_tar() -> bytes:
    """A tar archive without the magic number, as before POSIX."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo("log.csv")
        member.size = len(LOG)
        archive.addfile(member, io.BytesIO(LOG.encode()))
    data = bytearray(packed.getvalue())
    data[257:265] = bytes(8)
    data[148:156] = b"        "
    data[148:156] = b"%06o\x00 " % sum(data[:512])
    return bytes(data)


DRAWN = "\n".join(row.replace(",", " | ") for row in ROWS)
REFUSED = {
    "twice.csv.gz": (gzip.compress(gzip.compress(LOG.encode())), "compressed twice (gzip within gzip); .* `gzip -dc <"),
    "xz.csv.gz": (gzip.compress(lzma.compress(LOG.encode())), r"compressed twice \(xz within gzip\)"),
    "bz2.csv.gz": (gzip.compress(bz2.compress(LOG.encode())), r"compressed twice \(bz2 within gzip\)"),
    "log.lzma": (lzma.compress(LOG.encode(), lzma.FORMAT_ALONE), "by LZMA .*`xz --format=lzma -dc log.lzma > log`"),
    "log.csv.z": (zlib.compress(LOG.encode() * 9), "compressed by zlib, without a gzip header; .*zlib.decompress"),
    "log.csv.br": (
        b"\x1b\x00\x00\xf8" + bytes(range(64)),
        r"compressed by Brotli; unpack it with `brotli -d log\.csv\.br`",
    ),
    "tar.log": (old_tar(), r"a tar archive \(its first member: log.csv\)"),
    "zeros.csv": (LOG.encode() + bytes(64), "the text ends in zero bytes, as after a crash"),
    "bytes.csv": (b"\x02\x01!\x04" + bytes(64), "the file is binary, not text, of an unknown format"),
    "log32.csv": (LOG.encode("utf-32"), "UTF-32 text; convert it with `iconv -f UTF-32 -t UTF-8"),
    "psql.txt": (
        f" user_id | item_id \n---------+-----\n{DRAWN}\n",
        r"drawn for the eye, .*\(psql: \\copy … csv header",
    ),
    "log.markdown": (f"| user_id | item_id |\n|---|---|\n| {DRAWN} |\n", "drawn for the eye"),
    "combined.txt": (
        "1:\n5,3,2005-09-06\n6,4,2005-09-06\n2:\n5,1,2005-09-06\n",
        "Netflix Prize .*--columns item_id user_id",
    ),
    "r.csv": ("\n".join([NAMES, *(f'"{k + 1}",{row}' for k, row in enumerate(ROWS))]), "--columns row user_id item_id"),
    "wide.csv": (LOG.replace(NAMES, NAMES + ",note"), "names 5 columns .*, but the lines below it have 4 fields"),
    "commas.json": (
        '{"user_id": 1, "item_id": 2},\n' * 3,
        r"the lines end in commas, .* `sed 's/,\[\[:space:\]\]\*\$//'",
    ),
    "seq.jsonl": ('\x1e{"user_id": 1, "item_id": 2}\n' * 3, "a record separator stands before each object"),
    "zeros inside.csv": (LOG.replace("3,3,", "3\x00,3,"), r"holds zero bytes \(the first in line 5\).*tr -d"),
    "log16.csv": (LOG.encode("utf-16-be"), "UTF-16 text; convert it with `iconv -f UTF-16BE -t UTF-8 log16.csv"),
    "rating.mat": (b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n", "MATLAB file .an HDF5 file inside"),
    "log.msgpack": (b"\x83\xa7user_id\x07\xa7item_id\x08\xa1r\x05" * 20, "the file is MessagePack; write it as"),
    "log.bson": (b"\x28\x00\x00\x00\x10user_id\x00\x01\x00\x00\x00" * 9, "MongoDB; convert it with `bsondump log.bson"),
    "title.csv": (f"Ratings of 2020,,,\n,,,\n{LOG}", r"seem to stand below .* in line 3; .*`tail -n \+3 FILE"),
    "mysql.sql": (f"-- MySQL dump\n--\nINSERT INTO `r` VALUES ({ROWS[0]});\n", "a dump of a database, with SQL"),
    "app.log": ('2020-01-01 INFO {"user_id": 1, "item_id": 2}\n' * 3, r"behind other text .*`sed 's/\^\[\^\{\]\*//'"),
    "probe.txt": ("1:\n5\n6\n2:\n5\n", "Netflix Prize .*--columns item_id user_id\\.$"),
    "qualifying.txt": ("1:\n5,2005-09-06\n6,2005-09-06\n", "--columns item_id user_id timestamp\\.$"),
    "spmf.txt": (
        "7 -1 8 9 -1 -2\n8 -1 -2\n9 -1 7 -1 8 -1 -2\n5 -1 -2\n",
        "as in files of SPMF, and no line has its user",
    ),
    "foods.txt": (
        "".join(f"product/productId: B{k}\nreview/userId: A{k}\nreview/score: 5.0\n\n" for k in range(4)),
        "as in the reviews of SNAP; .*--columns productId userId score",
    ),
    "ratings.arff": (
        "@relation r\n\n@attribute u numeric\n\n@data\n" + "\n".join(ROWS) + "\n",
        r"the first 3 lines are a comment.*`tail -n \+6 FILE",
    ),
    "train.ffm": ("1 0:5:1 1:7:1\n0 0:6:1 1:7:1\n1 0:6:1 1:8:1\n", "as in FFM files"),
    "train.libfm": ("4 5:1 107:1\n3 6:1 107:1\n4 6:1 108:1\n", "as in LIBFM files"),
    "users.svm": ("7 1:4 2:5\n9 2:1 3:2 4:1\n8 1:4 3:1\n", "with the label as the user"),
    "jester.csv": (
        "".join(
            "12,99," + ",".join(f"{u * k / 7:.2f}" if k % 2 else "99" for k in range(1, 12)) + "\n" for u in range(5)
        ),
        r"looks like a matrix.*, without a header; .*without the 99 of missing ratings",
    ),
    "gaps.csv": ("".join(f"{u},,3" + ",,3" * 5 + "\n" for u in range(5)), "looks like a matrix.*without a header"),
    "features.csv": (
        "user_id,item_id,features\n" + "".join(f"{k},{k},{','.join(['0.5'] * 30)}\n" for k in range(9)),
        "lines below it have 32 fields; .*or keep the first of them, with `cut -d ',' -f 1-3 FILE > ROWS`",
    ),
    "critics.json": (
        '{"Lisa": {"i1": 2.5, "i2": 3}, "Gene": {"i1": 3}, "Mick": {"i2": 4}}',
        "an object for each key .Lisa …., as of a user's ratings by item",
    ),
    "nested.json": ('{"data": {"ratings": [{"user_id": 1, "item_id": 2}]}}', r"in the array 'data\.ratings'"),
    "split.json": ('{"columns": ["user_id", "item_id"], "index": [0], "data": [[1, 2]]}', "orient='split'"),
    "slice.jsonl": (
        '{"pid": 1, "tracks": [{"pos": 0, "track_uri": "t:1"}, {"pos": 1, "track_uri": "t:2"}]}\n' * 3,
        r"the field 'tracks' of each object holds rows of its own.*`jq -c 'del\(\.tracks\) \+ \.tracks\[\]'",
    ),
    "ends.csv": (
        f"{NAMES}\n" + "".join(f"{row},\n" for row in ROWS),
        "each line ends in a delimiter: --columns user_id item_id rating timestamp unused",
    ),
    "counted.dat": ("7 1 2 3 4 5 6 8\n" * 3, "begins with the number of its items"),
    "lists.json": ('{"1": [5, 6], "2": [7], "3": [5]}', r"a list for each key .*`jq -r 'to_entries\[\]"),
    "frame.json": ('{"user_id": {"0": 1, "1": 2}, "item_id": {"0": 5, "1": 6}}', "the columns of a table, as pandas"),
    "matrix.csv": (
        "userId," + ",".join(map(str, range(1, 13))) + "\n" + "".join(f"{u}" + ",,3" * 6 + "\n" for u in range(5)),
        r"looks like a matrix.*unpivot\(index='user_id'",
    ),
    "rows.jsonl": ("[1, 2, 3]\n" * 3, "each line is a JSON array, .*`jq -r @csv"),
}


def follow(error: DasError, folder: Path, name: str, to: str) -> Path:
    """The file that the command in an error's message makes of another."""
    command = str(error).split("`")[1]
    for placeholder in ("FILE.jsonl", "FILE.csv", "ROWS.csv", "ROWS"):
        command = command.replace(placeholder, to)
    command = re.sub(r"\bFILE(\.json)?\b", name, command)
    subprocess.run(command.replace("python -c", f"{sys.executable} -c"), shell=True, cwd=folder, check=True)
    return folder / to


@pytest.mark.parametrize(
    ("name", "columns", "rows"),
    [
        ("title.csv", None, 12),
        ("app.log", None, 3),
        ("lists.json", ["user_id", "item_id"], 4),
        ("matrix.csv", None, 30),
        ("probe.txt", ["item_id", "user_id"], 3),
        ("qualifying.txt", ["item_id", "user_id", "timestamp"], 2),
        ("spmf.txt", None, 8),
        ("foods.txt", ["productId", "userId", "score"], 4),
        ("ratings.arff", NAMES.split(","), 12),
        ("jester.csv", None, 35),
        ("critics.json", ["user_id", "item_id", "rating"], 4),
        ("gaps.csv", None, 35),
        ("train.ffm", ["user_id", "item_id", "rating"], 6),
        ("train.libfm", ["user_id", "item_id", "rating"], 3),
        ("users.svm", ["user_id", "item_id", "rating"], 7),
    ],
)
def test_the_command_that_is_printed_makes_a_log(
    tmp_path: Path, name: str, columns: list[str] | None, rows: int
) -> None:
    content = REFUSED[name][0]
    assert isinstance(content, str)
    (tmp_path / name).write_text(content)
    with pytest.raises(DasError) as refused:
        plan_log(LogOptions(input=[str(tmp_path / name)]))
    made = follow(refused.value, tmp_path, name, {"app.log": "made.jsonl", "spmf.txt": "made"}.get(name, "made.csv"))
    good, bad, _ = read_noticed(made, columns=columns)
    assert (good.height, bad.height) == (rows, 0)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_nearly_a_log_is_named_with_its_fix(tmp_path: Path, name: str) -> None:
    content, says = REFUSED[name]
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(
        DasError, match=says.replace("(gzip within", r"\(gzip within").replace("gzip);", r"gzip\);")
    ) as error:
        plan_log(LogOptions(input=[str(tmp_path / name)]))
    assert "\n" not in str(error.value)
    assert name in str(error.value)


def test_row_names_are_read_as_a_column(tmp_path: Path) -> None:
    """With the names that the refusal suggests, no row is lost and the short header is none."""
    path = tmp_path / "r.csv"
    path.write_bytes(str(REFUSED["r.csv"][0]).encode())
    good, bad, said = read_noticed(path, columns=["row", *NAMES.split(",")])
    assert (good.height, bad.height) == (12, 0)
    assert "the first line names the columns, though --columns names them too" in said


@pytest.mark.parametrize("name", ["", "Unnamed: 0", '""'])
@pytest.mark.parametrize("start", [0, 1])
def test_a_column_that_numbers_the_rows_is_noticed(tmp_path: Path, name: str, start: int) -> None:
    path = tmp_path / "log.csv"
    path.write_text("\n".join([f"{name},{NAMES}", *(f"{k + start},{row}" for k, row in enumerate(ROWS))]) + "\n")
    good, _, said = read_noticed(path)
    assert good["user_id"].to_list() == [k % 4 for k in range(12)]
    assert "numbers the rows, as R and pandas write it, and is not read" in said
    path.write_text("\n".join([f"{name},{NAMES}", *(f"{7 * k},{row}" for k, row in enumerate(ROWS))]) + "\n")
    assert read_noticed(path)[2] == ""


def test_a_header_that_comes_again_in_other_letters(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\na,b\nUser_ID,ITEM_ID\nc,d\n")
    good, bad, _ = read_noticed(path)
    assert (good["user_id"].to_list(), bad.height) == (["a", "c"], 0)


def test_loops_of_links_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.csv").write_text(LOG)
    for link, target, says in (
        ("sub/up", "..", "sub/up: this link points to a folder above it, a loop without end; remove it"),
        ("self.csv", "self.csv", "self.csv: this link points to itself"),
    ):
        os.symlink(target, folder / link)
        with pytest.raises(DasError, match=says):
            plan_log(LogOptions(input=[str(folder)]))
        (folder / link).unlink()
    # A link to a sibling folder does not make a loop.
    os.symlink("sub", folder / "other")
    assert plan_log(LogOptions(input=[str(folder)]))[2].files == 2


def test_descriptions_and_checksums_beside_a_log_are_passed_over_aloud(tmp_path: Path) -> None:
    for name, text in {"a.csv": LOG, "README.txt": "The log.\nAsk Ann.\n", "a.csv.md5": "0123  a.csv\n"}.items():
        (tmp_path / name).write_text(text)
    good, _, said = read_noticed(tmp_path)
    assert good.height == 12
    assert "2 files: skipped: the name is that of a description, licence or checksum" in said
    with pytest.raises(DasError, match=r"README\.txt"):
        plan_log(LogOptions(input=[str(tmp_path / "README.txt")]))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_one_kind_of_event_in_the_first_rows_is_noticed_where_more_follow(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"log.{ending}"
    frame = pl.DataFrame({"user_id": range(1500), "item_id": range(1500), "event": ["view"] * 1400 + ["buy"] * 100})
    frame.write_csv(path) if ending == "csv" else frame.write_parquet(path)
    assert "column 'event' is 'view' in the first rows, but is not read" in read_noticed(path)[2]
    frame = frame.head(900)
    frame.write_csv(path) if ending == "csv" else frame.write_parquet(path)
    assert read_noticed(path)[2] == ""
