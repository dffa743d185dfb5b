"""Members of .zip and .tar archives are read by their addresses; archives given whole are refused with these."""

import bz2
import gzip
import io
import lzma
import os
import shlex
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from readers_kit import read_all

from distill_at_scale.data import archives, storage
from distill_at_scale.data.readers import LogOptions, plan_log
from distill_at_scale.errors import DamagedFileError, DasError, StorageError

FIRST, SECOND = b"user_id,item_id\n1,2\n3,4\n", b"user_id,item_id\n5,6\n"
FILES = {
    "log/a.csv": FIRST,
    "log/b.csv.gz": gzip.compress(SECOND),
    "log/README.txt": b"Read me.\n",
    "__MACOSX/._a": b"x",
}
ROWS = [(1, 2), (3, 4), (5, 6)]


def zipped(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes], pack: Callable[[bytes], bytes] = bytes) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    path.write_bytes(pack(buffer.getvalue()))
    return path


def archive(folder: Path, kind: str, files: dict[str, bytes]) -> Path:
    path = folder / f"logs.{kind}"
    if kind == "zip":
        return zipped(path, files)
    packers = {"tar": bytes, "tgz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}
    return tarred(path, files, packers[kind])


def plan(*given: Path | str, **options: int):
    return plan_log(LogOptions(input=[str(one) for one in given]), **options)


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz", "tar.bz2", "tar.xz"])
def test_members_are_read_as_files(tmp_path: Path, kind: str) -> None:
    path = archive(tmp_path, kind, FILES)
    schema, fragments, estimate = plan(f"{path}!/*", fragment_bytes=8)
    assert read_all(schema, fragments)[0].rows() == ROWS
    assert [fragment.uri for fragment in fragments] == [f"{path}!/log/a.csv", f"{path}!/log/b.csv.gz"]
    assert str(estimate.noticed[0]).startswith("2 files: skipped: a member of an archive whose")
    # One member by its address, and patterns.
    for member, rows in (("log/b.csv.gz", ROWS[2:]), ("*.csv", ROWS[:2]), ("log/[ab]*", ROWS)):
        schema, fragments, _ = plan(f"{path}!/{member}")
        assert read_all(schema, fragments)[0].rows() == rows
    for nothing in ("log/none.csv", "*.parquet"):
        with pytest.raises(DasError, match=r"the archive has no member .*; of its 2 files \(log/a.csv, log/b.csv.gz\)"):
            plan(f"{path}!/{nothing}")
    with pytest.raises(DasError, match="no such file"):
        plan(f"{tmp_path}/none.{kind}!/a.csv")


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_whole_archives_are_refused_with_what_to_write(tmp_path: Path, kind: str) -> None:
    path = archive(tmp_path, kind, FILES)
    for given in (path, tmp_path, tmp_path / f"*.{kind}"):
        with pytest.raises(DasError) as refusal:
            plan(given)
        assert f"{path} is an archive; of its 2 files (log/a.csv, log/b.csv.gz) read one with" in str(refusal.value)
        # What it says is what works, in a shell.
        advised = shlex.split(str(refusal.value))
        for at in (at for at, word in enumerate(advised) if word == "--input"):
            assert plan(advised[at + 1].rstrip(","))[2].files in (1, 2)
    path = archive(tmp_path, kind, {"my log.csv": FIRST})
    with pytest.raises(DasError, match=r"read the file in it with --input '.*!/my log\.csv', or unpack it\."):
        plan(path)
    with pytest.raises(DasError, match="holds no file that may be a log"):
        plan(archive(tmp_path, kind, {"README.md": b"x"}))
    with pytest.raises(DasError, match="holds no file that may be a log"):
        plan(archive(tmp_path, kind, {}))


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_tables_in_archives(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    pl.DataFrame({"user_id": range(500), "item_id": range(500)}).write_parquet(buffer)
    path = archive(tmp_path, kind, {"a.csv": FIRST, "log.parquet": buffer.getvalue()})
    schema, fragments, _ = plan(f"{path}!/log.parquet")
    assert read_all(schema, fragments)[0].height == 500
    monkeypatch.setattr(archives, "_MOST_TABLE", 10)
    if kind == "tar":
        assert plan(f"{path}!/*")[2].files == 2
    else:
        with pytest.raises(DasError, match="in a compressed archive is not read in place; unpack the archive"):
            plan(f"{path}!/log.parquet")


def test_stored_members_are_read_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_TABLE", 10)
    buffer = io.BytesIO()
    pl.DataFrame({"user_id": [1], "item_id": [2]}).write_parquet(buffer)
    path = zipped(tmp_path / "logs.zip", {"log.parquet": buffer.getvalue()}, zipfile.ZIP_STORED)
    schema, fragments, _ = plan(f"{path}!/*")
    assert read_all(schema, fragments)[0].rows() == [(1, 2)]


def test_a_changed_archive_stops_the_reading(tmp_path: Path) -> None:
    path = zipped(tmp_path / "logs.zip", {"a.csv": FIRST})
    schema, fragments, _ = plan(f"{path}!/*")
    zipped(path, {"a.csv": FIRST, "b.csv": SECOND})
    os.utime(path, ns=(1, 1))
    with pytest.raises(StorageError, match="changed while it was being read"):
        read_all(schema, fragments)


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = zipped(tmp_path / "inner.zip", {"a.csv": FIRST}).read_bytes()
    with pytest.raises(DasError, match=r"logs.zip holds another archive, more/inner.zip; unpack it"):
        plan(zipped(tmp_path / "logs.zip", {"a.csv": FIRST, "more/inner.zip": inner}))
    with pytest.raises(DasError, match="holds a table with a transaction log"):
        plan(zipped(tmp_path / "logs.zip", {"t/_delta_log/0.json": b"{}", "t/a.parquet": b"PAR1"}))
    with pytest.raises(DasError, match="an Excel workbook"):
        plan(zipped(tmp_path / "logs.zip", {"[Content_Types].xml": b"<x/>", "xl/a.xml": b"<x/>"}))
    twice = tarred(tmp_path / "logs.tar", {"a.csv": FIRST})
    with tarfile.open(twice, "a") as again:
        info = tarfile.TarInfo("a.csv")
        again.addfile(info, io.BytesIO())
    with pytest.raises(DasError, match=r"holds two members named a\.csv"):
        plan(twice)
    encrypted = bytearray(zipped(tmp_path / "logs.zip", {"a.csv": FIRST}).read_bytes())
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(magic) + at] |= 1
    (tmp_path / "logs.zip").write_bytes(encrypted)
    with pytest.raises(DasError, match=r"logs\.zip: the archive is encrypted; unpack it with its password"):
        plan(tmp_path / "logs.zip")
    monkeypatch.setattr(archives, "_MOST_UNPACKED", 1000)
    for kind in ("zip", "tgz"):
        with pytest.raises(DasError, match="unpacks to more than 500 times"):
            plan(archive(tmp_path, kind, {"a.csv": bytes(2_000_000)}))
    monkeypatch.setattr(archives, "_MOST_IN_STREAM", 1)
    with pytest.raises(DasError, match="has more than 1 members"):
        plan(archive(tmp_path, "tgz", {"a.csv": FIRST, "b.csv": SECOND}))


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz", "tar.xz"])
def test_every_cut_and_flip_is_refused_or_harmless(tmp_path: Path, kind: str) -> None:
    content = b"user_id,item_id\n" + b"".join(b"%d,%d\n" % (u, 7 * u % 31) for u in range(60))
    path = archive(tmp_path, kind, {"a.csv": content})
    whole = path.read_bytes()
    schema, fragments, _ = plan(f"{path}!/a.csv")
    expected = read_all(schema, fragments)[0].rows()
    for size in range(1, len(whole) - 1, max(1, len(whole) // 40)):
        path.write_bytes(whole[:size])
        try:
            schema, fragments, _ = plan(f"{path}!/a.csv")
            assert read_all(schema, fragments)[0].rows() == expected
        except DasError:
            pass
    if kind == "tar":
        return  # a plain .tar has no checksum of its content
    for at in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        try:
            schema, fragments, _ = plan(f"{path}!/a.csv")
            assert read_all(schema, fragments)[0].rows() == expected
        except DasError:
            pass


def test_links_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tarred(tmp_path / "logs.tar", {"a.csv": FIRST})
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("link.csv")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    schema, fragments, estimate = plan(f"{path}!/*")
    assert read_all(schema, fragments)[0].rows() == ROWS[:2]
    assert any("1 file: skipped: a link or device" in str(notice) for notice in estimate.noticed)


def test_addresses_of_members() -> None:
    assert storage.is_member("s3://bucket/a.tar.gz!/x/y.csv")
    assert not storage.is_member("/data/a.csv!/b")
    with pytest.raises(DamagedFileError, match="the archive is damaged or truncated"), archives._explained("a.zip"):
        raise zipfile.BadZipFile("no")
