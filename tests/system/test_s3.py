"""Storage on a real S3 server: what is written is read, and each thing that can go wrong gives one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import botocore.exceptions
import botocore.session
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from servers import S3Server, free_ports

from distill_at_scale.data import recorded, storage
from distill_at_scale.data.readers import LogOptions, plan_log, read_fragment
from distill_at_scale.errors import DasError, StorageError
from distill_at_scale.pipelines.runtime import output_folder


@pytest.fixture
def fresh_clients() -> None:
    """fsspec keeps clients for the process: tests that change the environment need new ones."""
    type(storage.filesystem("s3://bucket")[0]).clear_instance_cache()


def one_sentence(error: pytest.ExceptionInfo[DasError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 300
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in text
    return text


def test_what_is_written_is_listed_and_read(s3_folder: str) -> None:
    content = os.urandom(100_000)
    storage.write_bytes(storage.join(s3_folder, "a", "one.bin"), content)
    storage.write_json(storage.join(s3_folder, "b.json"), {"rows": 3})

    assert storage.read_bytes(storage.join(s3_folder, "a", "one.bin")) == content
    assert storage.read_json(storage.join(s3_folder, "b.json")) == {"rows": 3}
    listed = storage.list_files(s3_folder)
    assert [f.uri.removeprefix(s3_folder) for f in listed] == ["/a/one.bin", "/b.json"]
    assert listed[0].size == len(content)
    assert [f.uri for f in storage.glob(storage.join(s3_folder, "*.json"))] == [listed[1].uri]
    assert storage.is_folder(storage.join(s3_folder, "a"))
    assert not storage.exists(storage.join(s3_folder, "c"))
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(storage.join(s3_folder, "c"))


def test_a_new_version_is_seen_at_once(s3_folder: str) -> None:
    uri = storage.join(s3_folder, "x")
    storage.write_bytes(uri, b"1")
    before = storage.list_files(s3_folder)
    storage.write_bytes(uri, b"2")
    after = storage.list_files(s3_folder)
    assert before[0].version != after[0].version
    storage.remove(s3_folder)
    assert storage.list_files(s3_folder) == []


def test_parquet_columns_are_read_from_s3(s3_folder: str) -> None:
    uri = storage.join(s3_folder, "t.parquet")
    with storage.open_output(uri) as file:
        pq.write_table(pa.table({"user": list(range(1000)), "item": [7] * 1000}), file)
    with storage.open_input(uri) as source:
        assert pq.read_table(source, columns=["user"])["user"].to_pylist() == list(range(1000))


def test_a_write_that_fails_leaves_nothing(s3_folder: str) -> None:
    uri = storage.join(s3_folder, "big.bin")

    def write_and_fail() -> None:
        with storage.open_output(uri) as file:
            for _ in range(3):
                file.write(bytes(6 << 20))
            raise RuntimeError("the writer fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        write_and_fail()
    assert storage.list_files(s3_folder) == []


def test_a_conditional_put_is_a_commit_marker(s3: S3Server) -> None:
    client = botocore.session.Session().create_client("s3")
    client.put_object(Bucket=s3.bucket, Key="commit/marker", Body=b"first", IfNoneMatch="*")
    with pytest.raises(botocore.exceptions.ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=s3.bucket, Key="commit/marker", Body=b"second", IfNoneMatch="*")
    assert storage.read_bytes(s3.uri("commit", "marker")) == b"first"


@pytest.mark.parametrize("act", ["read", "write", "list"])
@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_a_wrong_key_is_one_sentence(
    s3_folder: str, act: str, variable: str, monkeypatch: pytest.MonkeyPatch, fresh_clients: None
) -> None:
    storage.write_bytes(storage.join(s3_folder, "x"), b"1")
    monkeypatch.setenv(variable, "wrong")
    type(storage.filesystem("s3://bucket")[0]).clear_instance_cache()
    with pytest.raises(DasError) as error:
        attempt(act, s3_folder)
    text = one_sentence(error)
    assert "access denied" in text
    assert "AWS_ACCESS_KEY_ID" in text
    monkeypatch.undo()
    type(storage.filesystem("s3://bucket")[0]).clear_instance_cache()


@pytest.mark.parametrize("act", ["read", "write", "list"])
def test_a_missing_bucket_is_one_sentence(s3: S3Server, act: str) -> None:
    with pytest.raises(DasError) as error:
        attempt(act, "s3://no-such-bucket/folder")
    assert "bucket does not exist" in one_sentence(error)


@pytest.mark.parametrize("act", ["read", "write", "list"])
def test_a_server_that_is_not_there_is_one_sentence(
    act: str, monkeypatch: pytest.MonkeyPatch, fresh_clients: None
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    # The default four retries back off for some twenty seconds; how often it asks is not what is tested.
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(DasError) as error:
        attempt(act, "s3://das-test/folder")
    assert "cannot be reached" in one_sentence(error)
    monkeypatch.undo()
    type(storage.filesystem("s3://bucket")[0]).clear_instance_cache()


WRITE_TWICE = """
import sys
from distill_at_scale.data import storage
from distill_at_scale.errors import DasError
try:
    storage.write_bytes(sys.argv[1], b"1")
    with storage.open_output(sys.argv[1]) as file:
        file.write(bytes(int(sys.argv[2])))
        print("written", flush=True)
        sys.stdin.readline()
        file.write(bytes(int(sys.argv[2])))
except DasError as error:
    print(error)
    sys.exit(1)
"""


@pytest.mark.parametrize(
    ("patience", "size"),
    [("1", 1), (None, 1), pytest.param(None, 60 << 20, marks=pytest.mark.slow)],
    ids=["too long", "for a while", "in an upload of several parts"],
)
def test_a_server_that_goes_away_in_the_middle_is_waited_for(run_folder: Path, patience: str | None, size: int) -> None:
    """In a process of its own: it writes one part, the server is stopped, and comes back or does not."""
    env = {**os.environ, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_ports(1)[0]}", "AWS_MAX_ATTEMPTS": "1"}
    server = S3Server(
        run_folder / f"s3-leaving-{patience}-{size}", {k: v for k, v in env.items() if k.startswith("AWS_")}
    )
    server.start()
    try:
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITE_TWICE, server.uri("half.bin"), str(size)],
            env={**env, **({"DAS_STORAGE_PATIENCE": patience} if patience else {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stderr is not None
        assert writer.stdout.readline() == "written\n"
        server.stop()
        writer.stdin.write("go on\n")
        writer.stdin.flush()
        assert "does not answer" in writer.stderr.readline()
        if patience is None:
            server.start()
        said, complained = writer.communicate(timeout=120)
    finally:
        server.stop()
    if patience is None:
        assert writer.returncode == 0, said + complained
        assert "answers again after" in complained
    else:
        assert writer.returncode == 1, complained
        assert "cannot be reached" in said
        assert said.count("\n") == 1


def attempt(act: str, folder: str) -> None:
    if act == "read":
        storage.read_bytes(storage.join(folder, "x"))
    elif act == "write":
        storage.write_bytes(storage.join(folder, "x"), b"1")
    else:
        storage.list_files(folder)


def test_a_log_that_changes_is_refused(s3_folder: str) -> None:
    """By its ETag: before a fragment is read, and by If-Match while it is."""
    lines = b"".join(b"%d,%d,%d\n" % (k, k % 7, 1_500_000_000 + k) for k in range(200_000))
    uri = storage.join(s3_folder, "log.csv")
    storage.write_bytes(uri, b"user_id,item_id,timestamp\n" + lines)
    schema, fragments, _ = plan_log(LogOptions(input=[uri]), fragment_bytes=1 << 20)
    assert len(fragments) > 2
    assert sum(batch.good.height for one in fragments for batch in read_fragment(one, schema)) == 200_000
    (whole,) = plan_log(LogOptions(input=[uri]))[1]
    reading = read_fragment(whole, schema)
    assert next(reading).good.height
    # As many bytes, and within the same second.
    storage.write_bytes(uri, b"user_id,item_id,timestamp\n" + lines[::-1].replace(b"\n", b"", 1) + b"\n")
    for rest in (reading, read_fragment(fragments[0], schema), read_fragment(fragments[-1], schema)):
        with pytest.raises(StorageError, match=r"log\.csv changed while it was being read; run the command again\.$"):
            list(rest)
    storage.remove(uri)
    with pytest.raises(StorageError, match=r"log\.csv: the file no longer exists; run the command again\.$"):
        list(read_fragment(fragments[0], schema))


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_what_is_denied_is_not_taken_for_none(
    s3_folder: str, variable: str, monkeypatch: pytest.MonkeyPatch, fresh_clients: None
) -> None:
    plan = storage.join(s3_folder, "_work", "plan.json")
    assert output_folder.planned(plan) is None
    recorded.write_json(plan, {"digest": "d"})
    assert output_folder.planned(plan) == "d"
    monkeypatch.setenv(variable, "wrong")
    type(storage.filesystem("s3://bucket")[0]).clear_instance_cache()
    for look in (output_folder.planned, storage.exists, storage.is_folder, storage.check_writable):
        with pytest.raises(StorageError) as error:
            look(plan)
        assert "access denied" in one_sentence(error)
    monkeypatch.undo()
    type(storage.filesystem("s3://bucket")[0]).clear_instance_cache()


def test_an_output_is_probed_without_a_trace(s3_folder: str) -> None:
    storage.check_writable(storage.join(s3_folder, "a", "manifest.json"))
    assert storage.list_files(s3_folder) == []
    with pytest.raises(StorageError, match="the bucket does not exist"):
        storage.check_writable("s3://no-such-bucket-here/manifest.json")
