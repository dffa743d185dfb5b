"""The catalogue and ``fetch``: a real web server on loopback and a real archive, but no public host."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import io
import json
import os
import socket
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from distill_at_scale.data import catalog, storage
from distill_at_scale.data.catalog import LOGS, LogSource, PublicLog, find_log
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines import fetch as fetch_module
from distill_at_scale.pipelines.fetch import fetch

ROWS = "".join(f"{user}\t{user % 7}\t{user % 5 + 1}\t{881250949 + user}\n" for user in range(1000))
OPTIONS = {"format": "csv", "delimiter": "\t", "columns": ["user_id", "item_id", "rating", "timestamp"]}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def archive(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name.replace("__", "/"), content)
    return out.getvalue()


GOOD = archive(toy__u_data=ROWS.encode(), toy__readme=b"hello")


class Web:
    """A web server on loopback; ``files`` is what it serves, ``asked`` what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.claimed_extra = 0
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                content = web.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content) + web.claimed_extra))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    yield web
    web.server.shutdown()
    web.server.server_close()


@pytest.fixture
def toy(web: Web, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PublicLog]:
    """Puts a log of 1,000 rows into the catalogue; keyword arguments change its sources."""

    def add(*changes: dict[str, Any]) -> PublicLog:
        base = LogSource(
            name="the original",
            location=web.url + "/toy.zip",
            file="u_data",
            options=OPTIONS,
            member="toy/u_data",
            sha256=digest(GOOD),
            limit=1 << 20,
        )
        sources = tuple(dataclasses.replace(base, **change) for change in changes or ({},))
        log = PublicLog("toy", "a toy", 1000, "https://example.org/toy", "do as you like", sources)
        monkeypatch.setattr(catalog, "LOGS", {**LOGS, "toy": log})
        return log

    web.files["/toy.zip"] = GOOD
    return add


def test_every_entry_of_the_catalogue_is_whole() -> None:
    assert set(LOGS) == {"ml-100k", "ml-1m", "ml-20m", "amazon-beauty"}
    for name, log in LOGS.items():
        assert log.name == name
        assert log.rows > 0
        assert len(log.licence) > 40
        assert len({source.name for source in log.sources}) == len(log.sources) >= 2
        for source in log.sources:
            assert source.location.startswith("https://") or source.wheel
            assert "/" not in source.file
            for checksum in (source.sha256, source.member_sha256):
                assert checksum is None or (len(checksum) == 64 and int(checksum, 16))
            assert source.checked or log.rows, "without a checksum the number of rows must be known"
    assert all(source.checked for name in ("ml-100k", "ml-1m", "ml-20m") for source in LOGS[name].sources)


def test_the_reading_hints_are_options_of_prepare() -> None:
    from distill_at_scale.data.readers import LogOptions

    for log in LOGS.values():
        for source in log.sources:
            LogOptions(input=["x"], **source.options)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(DasError, match=r"'ml-2m' is not in the catalogue.*ml-100k, ml-1m, ml-20m, amazon-beauty"):
        find_log("ml-2m")


def test_it_is_brought_verified_and_reused(
    toy: Callable[..., PublicLog], web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy()
    result = fetch("toy", output=str(tmp_path / "new" / "folder"))
    assert storage.read_bytes(result.uris[0]).decode() == ROWS
    assert (result.source, result.verified, result.reused) == ("the original", True, False)
    assert result.sha256 == digest(ROWS.encode())
    assert result.options == OPTIONS
    said = capsys.readouterr()
    assert "served by the original" in said.err
    assert "do as you like" in said.err
    assert said.out == ""

    again = fetch("toy", output=str(tmp_path / "new" / "folder"))
    assert again == dataclasses.replace(result, reused=True)
    assert web.asked == ["/toy.zip"]


def test_a_copy_that_has_changed_is_fetched_again(
    toy: Callable[..., PublicLog], web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy()
    uri = fetch("toy", output=str(tmp_path)).uris[0]
    Path(uri).write_text(ROWS[:-1] + "0\n")
    assert fetch("toy", output=str(tmp_path)).reused is False
    assert Path(uri).read_text() == ROWS
    assert "has changed since it was fetched" in capsys.readouterr().err


def test_the_default_place_is_das_home(
    toy: Callable[..., PublicLog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy()
    monkeypatch.setenv("DAS_HOME", str(tmp_path))
    assert fetch("toy").uris == [str(tmp_path / "logs" / "toy" / "u_data")]
    monkeypatch.delenv("DAS_HOME")
    assert fetch_module.default_home() == os.path.expanduser("~/.cache/distill_at_scale")


def test_it_is_written_to_other_storage(toy: Callable[..., PublicLog]) -> None:
    toy()
    result = fetch("toy", output="memory://logs/toy")
    assert result.uris == ["memory://logs/toy/u_data"]
    assert storage.read_bytes(result.uris[0]).decode() == ROWS
    assert fetch("toy", output="memory://logs/toy").reused


def test_the_next_source_serves_and_the_failures_are_told(
    toy: Callable[..., PublicLog], web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        closed = held.getsockname()[1]
    toy(
        {"name": "nobody", "location": f"http://127.0.0.1:{closed}/toy.zip"},
        {"name": "lost", "location": web.url + "/lost.zip"},
        {},
    )
    result = fetch("toy", output=str(tmp_path))
    assert result.source == "the original"
    assert list(result.failed) == ["nobody", "lost"]
    assert "cannot be reached" in result.failed["nobody"]
    assert "404" in result.failed["lost"]
    said = capsys.readouterr().err
    assert said.index("nobody failed") < said.index("lost failed") < said.index("served by the original")


def refused(toy: Callable[..., PublicLog], folder: Path, **change: Any) -> str:
    """The reason for which the only source is refused; nothing may be left in the folder."""
    log = toy(change)
    with pytest.raises(DasError) as error:
        fetch("toy", output=str(folder))
    assert list(folder.iterdir()) == []
    text = str(error.value)
    assert "\n" not in text
    assert f"Download {log.sources[0].location}" in text
    assert f"put toy.zip into {folder}" in text
    return text


def test_another_archive_than_the_published_one_is_refused(
    toy: Callable[..., PublicLog], web: Web, tmp_path: Path
) -> None:
    web.files["/toy.zip"] = archive(toy__u_data=ROWS.encode(), toy__readme=b"hullo")
    assert "SHA-256" in refused(toy, tmp_path)


def test_another_log_than_the_pinned_one_is_refused(toy: Callable[..., PublicLog], tmp_path: Path) -> None:
    assert "SHA-256" in refused(toy, tmp_path, sha256=None, member_sha256=digest(b"other"))


def test_without_a_checksum_the_rows_are_counted(
    toy: Callable[..., PublicLog], web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    web.files["/toy.zip"] = archive(toy__u_data=ROWS.encode() + b"1\t1\t1\t1\n")
    assert "1,001 rows where 1,000 are published" in refused(toy, tmp_path, sha256=None)
    web.files["/toy.zip"] = archive(toy__u_data=b"header\n" + ROWS.encode().rstrip(b"\n"))
    toy({"sha256": None, "header_lines": 1})
    result = fetch("toy", output=str(tmp_path))
    assert result.verified is False
    assert "nobody publishes a checksum" in capsys.readouterr().err
    assert fetch("toy", output=str(tmp_path)).verified is False


def test_a_log_that_is_too_large_is_refused(toy: Callable[..., PublicLog], web: Web, tmp_path: Path) -> None:
    assert "larger than" in refused(toy, tmp_path, limit=1000)
    bomb = archive(toy__u_data=bytes(3 << 20))
    assert len(bomb) < 10_000
    web.files["/toy.zip"] = bomb
    assert "larger than the 1 MiB" in refused(toy, tmp_path, sha256=digest(bomb))


def test_a_broken_connection_is_told(toy: Callable[..., PublicLog], web: Web, tmp_path: Path) -> None:
    web.claimed_extra = 5000
    assert "the connection broke" in refused(toy, tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no zip at all", "the archive cannot be read"),
        (GOOD[:-30], "the archive cannot be read"),
        (archive(other=b""), "the archive holds no toy/u_data"),
        # Only the one member that is asked for is ever written, and never to a path out of the archive.
        (archive(**{"..__..__escaped": b"x"}), "the archive holds no toy/u_data"),
    ],
)
def test_an_archive_that_does_not_hold_it(
    toy: Callable[..., PublicLog], web: Web, tmp_path: Path, content: bytes, reason: str
) -> None:
    web.files["/toy.zip"] = content
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    assert reason in refused(toy, folder, sha256=digest(content))
    assert not list(tmp_path.rglob("escaped"))


def test_an_archive_put_there_by_hand_is_taken(toy: Callable[..., PublicLog], web: Web, tmp_path: Path) -> None:
    toy()
    (tmp_path / "toy.zip").write_bytes(GOOD)
    result = fetch("toy", output=str(tmp_path))
    assert "by hand" in result.source
    assert result.verified
    assert Path(result.uris[0]).read_text() == ROWS
    assert web.asked == []


def test_a_log_put_there_by_hand_is_taken(toy: Callable[..., PublicLog], web: Web, tmp_path: Path) -> None:
    toy({"location": web.url + "/u_data", "member": None, "sha256": digest(ROWS.encode())})
    (tmp_path / "u_data").write_text(ROWS)
    assert "by hand" in fetch("toy", output=str(tmp_path)).source
    assert web.asked == []


def test_a_wheel_is_brought_by_pip(
    toy: Callable[..., PublicLog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip itself, with a folder for a registry."""
    links = tmp_path / "links"
    links.mkdir()
    name = "toy_log-1.0.dist-info/"
    with zipfile.ZipFile(links / "toy_log-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toy_log/u.data", ROWS)
        wheel.writestr(name + "METADATA", "Metadata-Version: 2.1\nName: toy-log\nVersion: 1.0\n")
        wheel.writestr(name + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(name + "RECORD", "")
    if fetch_module.find_pip() is None:
        pytest.skip("pip not found")
    for key, value in {"NO_INDEX": "1", "FIND_LINKS": str(links), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv("PIP_" + key, value)
    base = {"wheel": True, "member": "toy_log/u.data", "sha256": None, "member_sha256": digest(ROWS.encode())}
    toy({**base, "name": "missing", "location": "toy-log==2.0"}, {**base, "location": "toy-log==1.0"})
    result = fetch("toy", output=str(tmp_path / "out"))
    assert Path(result.uris[0]).read_text() == ROWS
    assert result.verified
    assert "pip could not download toy-log==2.0" in result.failed["missing"]


def test_an_environment_without_pip_is_told_how_to_get_it(
    toy: Callable[..., PublicLog], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What an environment made by uv looks like: no module pip, and none on the path.
    monkeypatch.setitem(sys.modules, "pip", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    toy({"wheel": True, "location": "toy-log==1.0"})
    with pytest.raises(DasError, match=r"pip is not installed in this environment.*uv pip install pip"):
        fetch("toy", output=str(tmp_path / "out"))


def test_the_note_beside_the_log_says_where_it_came_from(toy: Callable[..., PublicLog], tmp_path: Path) -> None:
    toy()
    fetch("toy", output=str(tmp_path))
    note = json.loads((tmp_path / "u_data.source.json").read_text())
    assert note["source"] == "the original"
    assert note["licence"] == "do as you like"
    assert note["sha256"] == digest(ROWS.encode())


def test_the_real_ml_100k(shared_data: Path) -> None:
    """The pinned digest is that of the file which is known to be the log."""
    file = shared_data / "ml-100k.inter"
    if not file.exists():
        pytest.skip(f"{file} not found")
    (wheel,) = [source for source in LOGS["ml-100k"].sources if source.wheel]
    assert storage.sha256(str(file)) == wheel.member_sha256
    assert len(file.read_bytes().splitlines()) - wheel.header_lines == LOGS["ml-100k"].rows
