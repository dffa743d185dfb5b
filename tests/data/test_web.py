"""Logs on a web server: one file an address, whether or not the server serves parts of it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import polars as pl
import pytest
from readers_kit import read_log

from distill_at_scale.data import storage
from distill_at_scale.data.readers import LogOptions, plan_log, read_fragment
from distill_at_scale.errors import DasError, StorageError

LOG = b"user_id,item_id,timestamp\n" + b"".join(b"%d,%d,%d\n" % (k, k % 7, 1_500_000_000 + k) for k in range(2000))


class _Handler(BaseHTTPRequestHandler):
    files: dict[str, bytes]
    parts: bool

    def _answer(self, body: bool) -> None:
        path, _, query = self.path.partition("?")
        content = self.files.get(path)
        if path == "/denied.csv" or (path == "/signed.csv" and query != "X-Amz-Signature=hunter2"):
            self.send_error(403)
            return
        if content is None:
            self.send_error(404)
            return
        start, end = 0, len(content)
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if self.parts else None
        if found:
            start, end = int(found[1]), min(int(found[2]) + 1, end)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", f'"{hash(content)}"')
        self.end_headers()
        if body:
            self.wfile.write(content[start:end])

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *args) -> None:
        pass


@pytest.fixture(params=[True, False], ids=["serves parts", "whole files"])
def server(request) -> Iterator[tuple[str, dict[str, bytes]]]:
    files = {"/log.csv": LOG, "/signed.csv": LOG}
    handler = type("Handler", (_Handler,), {"files": files, "parts": request.param})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", files
        running.shutdown()


def test_a_log_is_read(server, tmp_path) -> None:
    url, files = server
    good, bad = read_log(f"{url}/log.csv")
    assert (good.height, bad.height) == (2000, 0)
    pl.read_csv(LOG).write_parquet(tmp_path / "log.parquet")
    files["/log.parquet"] = (tmp_path / "log.parquet").read_bytes()
    assert read_log(f"{url}/log.parquet")[0].height == 2000


def test_fragments_of_a_log_are_read_and_a_change_is_noticed(server) -> None:
    url, files = server
    schema, fragments, _ = plan_log(LogOptions(input=[f"{url}/log.csv"]), fragment_bytes=10_000)
    assert len(fragments) > 2
    assert sum(batch.good.height for one in fragments for batch in read_fragment(one, schema)) == 2000
    files["/log.csv"] = LOG[:-30]
    with pytest.raises(StorageError, match=r"log\.csv changed while it was being read; run the command again\.$"):
        list(read_fragment(fragments[-1], schema))


def test_a_signed_address_is_read_and_its_signature_not_shown(server) -> None:
    url, files = server
    signed = f"{url}/signed.csv?X-Amz-Signature=hunter2"
    files["/signed.csv"] = LOG + b"broken\n"
    good, bad = read_log(signed)
    assert good.height == 2000
    assert f"{url}/signed.csv?X-Amz-Signature=…" in bad.row(0)
    assert "hunter2" not in str(bad.rows())


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("nothing.csv", "no such file"),
        ("denied.csv", "access denied by the storage"),
        ("signed.csv?X-Amz-Signature=hunter3", "access denied by the storage"),
    ],
)
def test_what_is_not_served(server, path: str, sentence: str) -> None:
    with pytest.raises(DasError, match=sentence) as told:
        read_log(f"{server[0]}/{path}")
    assert "hunter" not in str(told.value)
    assert str(told.value).startswith(server[0])


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(StorageError, match="the storage server cannot be reached"):
        read_log("http://127.0.0.1:9/log.csv?token=hunter2")
    assert storage.list_files("memory://nothing/here") == []
