"""Storage: listings are fresh, failures are sentences, and what cannot be written is refused before the work."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from distill_at_scale.data import storage
from distill_at_scale.data.filesystems import same_version
from distill_at_scale.errors import DamagedFileError, SettingError, StorageError
from distill_at_scale.finite_json import dumps


class Cached(LocalFileSystem):
    """Disk that remembers its listings, as clients of most object stores do."""

    protocol = "cached"
    local_file = False

    @classmethod
    def _strip_protocol(cls, path):
        return LocalFileSystem._strip_protocol(path.removeprefix("cached://"))

    def unstrip_protocol(self, name):
        return f"cached://{name}"

    def ls(self, path, detail=False, **kwargs):
        path = self._strip_protocol(path)
        try:
            found = self.dircache[path]
        except KeyError:
            found = self.dircache[path] = super().ls(path, detail=True)
        return found if detail else [one["name"] for one in found]


class Denied(AbstractFileSystem):
    """A storage that lets nobody in."""

    protocol = "denied"

    def _refuse(self, *args, **kwargs):
        raise PermissionError("Forbidden")

    info = ls = _open = cat_file = pipe_file = _refuse


class NeedsMore(AbstractFileSystem):
    """A client that takes arguments that no address has, as github:// and smb:// do."""

    protocol = "needsmore"

    def __init__(self, org, **kwargs):
        super().__init__(**kwargs)


@pytest.fixture(autouse=True)
def schemes() -> None:
    for kind in (Cached, Denied, NeedsMore):
        fsspec.register_implementation(kind.protocol, kind, clobber=True)


@pytest.mark.parametrize("scheme", ["cached", "memory", "file"])
def test_a_listing_shows_what_was_written_since(scheme: str, tmp_path: Path) -> None:
    folder = f"{scheme}://{tmp_path}/log"
    outside = fsspec.filesystem("memory" if scheme == "memory" else "file")
    for k in range(3):
        outside.makedirs(f"{tmp_path}/log", exist_ok=True)
        outside.pipe_file(f"{tmp_path}/log/{k}.csv", b"a" * (k + 1))
        assert [file.size for file in storage.list_files(folder)] == list(range(1, k + 2))
        assert len(storage.glob(f"{folder}/*.csv")) == k + 1
        assert storage.exists(f"{folder}/{k}.csv")
    outside.rm_file(f"{tmp_path}/log/1.csv")
    assert len(storage.list_files(folder)) == 2
    assert storage.is_folder(folder)
    assert not storage.is_folder(f"{folder}/0.csv")
    assert storage.list_files(f"{folder}/0.csv")[0].size == 1
    assert storage.list_files(f"{folder}/nothing") == []


def test_a_version_changes_with_time_or_size(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_bytes(b"1,2\n")
    before = storage.stat(str(log))
    assert storage.list_files(str(tmp_path)) == [before]
    os.utime(log, ns=(1, os.stat(log).st_mtime_ns + 1))
    later = storage.stat(str(log))
    assert later.version != before.version
    log.write_bytes(b"1,2\n3,4\n")
    os.utime(log, ns=(1, int(later.version.split("mtime=")[1])))
    assert storage.stat(str(log)).version != later.version


def test_versions_are_compared_by_what_both_tell() -> None:
    assert same_version("size=3\nETag=a\nmtime=5", "size=3\nETag=a\nmtime=6")
    assert not same_version("size=3\nETag=a", "size=3\nETag=b")
    assert not same_version("size=3\nETag=a", "size=4\nETag=a")
    assert same_version("size=3\nETag=a", "size=3\nmtime=6")


def test_denied_is_not_missing() -> None:
    for look in (storage.exists, storage.is_folder, storage.list_files, storage.read_bytes, storage.check_writable):
        with pytest.raises(StorageError, match=r"^denied://x/y: access denied by the storage; check the credentials"):
            look("denied://x/y")


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("needsmore://x/y", "storage scheme 'needsmore' cannot be used here: .*org"),
        ("nonsense://x/y", "storage scheme 'nonsense' cannot be used here: "),
        ("gcs://bucket/y", "storage scheme 'gcs' cannot be used here: .*gcsfs"),
        ("smb://server/y", "storage scheme 'smb' cannot be used here: "),
        ("s3://KEY:se/cret@bucket/y", "^s3://bucket/y was given with a user name or password in the address"),
    ],
)
def test_schemes_that_cannot_be_used(uri: str, sentence: str) -> None:
    for use in (storage.exists, storage.read_bytes, storage.list_files, storage.check_writable):
        with pytest.raises((StorageError, SettingError), match=sentence) as told:
            use(uri)
        assert "se/cret" not in str(told.value)


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b'{"a": \xff}', b""])
def test_json_that_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"a\.json: not valid JSON"):
        storage.read_json(f"{tmp_path}/a.json")


def test_what_is_no_number_becomes_null(tmp_path: Path) -> None:
    content = {"a": [float("nan"), np.float64("inf"), -float("inf"), 1.5], "b": (1, {"c": float("nan")}), "d": True}
    plain = {"a": [None, None, None, 1.5], "b": [1, {"c": None}], "d": True}
    storage.write_json(f"{tmp_path}/a.json", content)
    assert storage.read_json(f"{tmp_path}/a.json") == plain == json.loads(dumps(content))


# -- outputs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def a_file(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "file").write_text("x")
    yield f"{tmp_path}/file"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("{file}/deep/manifest.json", r"file is a file, so no folder can be created there"),
        ("{folder}", "is a folder, but the output is a file"),
        ("/proc/das/manifest.json", r"/proc/das/manifest\.json cannot be written: "),
        ("{folder}/" + "x" * 300 + "/manifest.json", "File name too long"),
        ("http://127.0.0.1:1/manifest.json", "a web server is read-only"),
    ],
)
def test_what_cannot_be_written_is_refused(uri: str, sentence: str, a_file: str) -> None:
    with pytest.raises(StorageError, match=sentence):
        storage.check_writable(uri.format(file=a_file, folder=os.path.dirname(a_file)))


def test_what_can_be_written_leaves_no_trace(tmp_path: Path) -> None:
    for uri in (f"{tmp_path}/a/b/c.json", f"memory://{tmp_path}/a/b.json"):
        storage.check_writable(uri)
        assert storage.list_files(uri.rpartition("/")[0]) == []
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "c.json").write_text("kept")
    storage.check_writable(f"{tmp_path}/c.json")
    assert (tmp_path / "c.json").read_text() == "kept"
