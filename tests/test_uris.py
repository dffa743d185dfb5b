"""Addresses show no secrets, whatever is in them, and those with credentials are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_at_scale import uris
from distill_at_scale.errors import DasError

SCHEMES = ["s3", "s3a", "gs", "https", "http", "hdfs", "sftp", "mysql+pymysql", "postgresql", "az"]
HOSTS = ["bucket", "db.example.org", "host"]
# A password may hold anything but blanks; the marks show what of it leaked.
MARK = "hunter2"
noise = st.text(st.sampled_from("abcXYZ019/@:?#%&=+!$'()*,;._~-"), max_size=8)
passwords = st.builds(lambda left, right: left + MARK + right, noise, noise)
users = st.text(st.sampled_from("abcXYZ019%+._~-"), min_size=1, max_size=8)


@given(st.sampled_from(SCHEMES), users, passwords, st.sampled_from(HOSTS), st.sampled_from(["", "/", "/a/b.csv"]))
def test_no_password_is_shown(scheme: str, user: str, password: str, host: str, path: str) -> None:
    uri = f"{scheme}://{user}:{password}@{host}{path}"
    for shown in (
        uris.redact(uri),
        uris.redact(f"simplecache::{uri}"),
        uris.redact_text(f"GET {uri}: refused"),
        str(DasError(f"{uri}: refused")),
        str(DasError("could not read", uri)),
    ):
        assert MARK not in shown
    assert uris.redact(uri).endswith(host + path)


@given(st.sampled_from(SCHEMES), passwords, st.sampled_from(HOSTS), st.sampled_from(["", "/a/b.csv"]))
def test_addresses_with_credentials_are_refused(scheme: str, password: str, host: str, path: str) -> None:
    for uri in (f"{scheme}://KEY:{password}@{host}{path}", f"{scheme}://{MARK}@{host}{path}"):
        if scheme not in ("s3", "s3a", "gs") and uris._PORT.match(uri.split("://")[1]):
            continue  # taken for a port; shown without it all the same
        assert uris.has_userinfo(uri)
        with pytest.raises(ValueError, match="remove it and set credentials in the environment") as told:
            uris.check(uri)
        assert MARK not in str(told.value)


@given(st.sampled_from(["https", "http", "s3", "gs"]), st.lists(st.tuples(users, passwords), min_size=1, max_size=4))
def test_no_value_of_a_query_is_shown(scheme: str, pairs: list[tuple[str, str]]) -> None:
    query = "&".join(f"X{name}={value}" for name, value in pairs)
    for shown in (uris.redact(f"{scheme}://host/log.csv?{query}"), uris.redact_text(f"'{scheme}://host/a?{query}' no")):
        assert MARK not in shown
        assert shown.lstrip("'").startswith(f"{scheme}://host/")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://KEY:ab/cd@bucket/log", "s3://bucket/log"),
        ("mysql+pymysql://u:p/w@h/db", "mysql+pymysql://h/db"),
        ("https://u:p@ss@h/x", "https://h/x"),
        (
            "https://h/x.csv?X-Amz-Date=1&X-Amz-Signature=abc/+=",
            "https://h/x.csv?X-Amz-Date=…&X-Amz-Signature=…",
        ),
        ("https://h/x?token", "https://h/x?…"),
        ("https://h/x#access_token=a", "https://h/x#access_token=…"),
        ("https://h/x?next=https://u:p@h/", "https://h/x?next=…"),
        ("simplecache::https://TOKEN@h/x", "simplecache::https://h/x"),
    ],
)
def test_what_is_left_out(uri: str, shown: str) -> None:
    assert uris.redact(uri) == shown
    assert uris.redact_text(f"({uri}), gone.") == f"({shown}), gone."


@pytest.mark.parametrize(
    "uri",
    [
        "data/u@x:1/log?a=b.csv",
        "/home/u:v@x/log.csv",
        "file:///home/a@b/log.csv?x=1",
        "s3://bucket/mail=a@b.c/part-?.parquet",
        "s3://bucket/day=10:00/a@b",
        "s3://bucket/day=?/hour=*/x.csv",
        "http://host:8080/a@b",
        "abfss://container@account.dfs.core.windows.net/log",
        "http://127.0.0.1:5000",
    ],
)
def test_what_is_no_secret_is_taken(uri: str) -> None:
    uris.check(uri)
    if "8080" not in uri:  # in doubt too much is hidden
        assert uris.redact(uri) == uri
        assert uris.redact_text(uri) == uri


def test_trees_are_redacted() -> None:
    assert uris.redacted({"input": ["s3://K:S@b/x", 3], "of": {"uri": "https://h/x?a=b"}}) == {
        "input": ["s3://b/x", 3],
        "of": {"uri": "https://h/x?a=…"},
    }
