"""Bad input, end to end: one clear sentence, nothing lost silently, nothing of anybody else's touched."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prepare_kit import checksums, inline_prepare, paths_below, read_back

import distill_at_scale as das
from distill_at_scale import config
from distill_at_scale.data.dataset import Dataset
from distill_at_scale.errors import DasError
from distill_at_scale.pipelines.runtime import task_answers, tasks
from distill_at_scale.settings import load

T = 1_600_000_000
HEADER = "user_id,item_id,rating,timestamp\n"
GOOD = "".join(f"{u},{i},{(u + i) % 5 + 1},{1_600_000_000 + 10 * u + i}\n" for u in range(40) for i in range(5))


def cli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "distill_at_scale.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def refused(match: str, prepare: Any = das.prepare, **asked: Any) -> str:
    with pytest.raises(DasError, match=match) as error:
        prepare(**asked)
    assert "\n" not in str(error.value)
    return str(error.value)


def log(folder: Path, text: str | bytes, name: str = "log.csv") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


# -- files that cannot be read --------------------------------------------------------------------------------


def damaged(kind: str) -> tuple[str, bytes]:
    packed = gzip.compress((HEADER + GOOD).encode())
    sink = io.BytesIO()
    pl.DataFrame({"user_id": range(5000), "item_id": range(5000)}).write_parquet(sink)
    return {
        "empty": ("log.csv", b""),
        "header only": ("log.csv", HEADER.encode()),
        "wrong column": ("log.csv", b"person,item_id\n1,2\n"),
        "garbage": ("log.csv", bytes(range(256)) * 40),
        "truncated gzip": ("log.csv.gz", packed[: len(packed) // 2]),
        "truncated Parquet": ("log.parquet", sink.getvalue()[:-200]),
        "no Parquet": ("log.parquet", GOOD.encode()),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("empty", "all input files are empty"),
        ("header only", "no rows in the input"),
        ("wrong column", "no column for user_id; the file has the columns person, item_id: .*--map user_id=COLUMN"),
        ("garbage", "the file is binary"),
        ("truncated gzip", "gzip stream is truncated or damaged"),
        ("truncated Parquet", "not a complete Parquet file"),
        ("no Parquet", "not a Parquet file"),
    ],
)
def test_unreadable_files(tmp_path: Path, kind: str, said: str) -> None:
    """Refused before anything is written."""
    name, content = damaged(kind)
    path = log(tmp_path, content, name)
    assert path in refused(said, input=[path], output=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_gzip_cut_behind_its_head(ray_session: None, tmp_path: Path) -> None:
    """The head is whole, so that only a worker finds out; the sentence comes back from there as one."""
    body = "".join(f"{k * 7919 % 5003},{k * 104_729 % 1_299_709},{k % 5},{1_600_000_000 + k}\n" for k in range(60_000))
    packed = gzip.compress((HEADER + body).encode())
    path = log(tmp_path, packed[: len(packed) * 9 // 10], "log.csv.gz")
    said = refused("gzip stream is truncated or damaged", input=[path], output=str(tmp_path / "out"))
    assert path in said
    with pytest.raises(DasError, match="is not a dataset: a run has not finished there"):
        Dataset.open(str(tmp_path / "out"))
    # The mended file is another input: the place is taken up again from the start.
    log(tmp_path, packed, "log.csv.gz")
    das.prepare(input=[path], output=str(tmp_path / "out"), split="20_percent_hist", max_bad_share=0)
    assert not (tmp_path / "out" / "_work").exists()


def test_a_sentence_from_a_single_task(ray_session: None) -> None:
    """Ray would put the worker's whole traceback into the error's text."""

    def fail() -> None:
        raise DasError("the storage refused.")

    with pytest.raises(DasError) as error:
        task_answers.take(tasks.load(fail))
    assert str(error.value) == "the storage refused."


# -- rows that cannot be taken --------------------------------------------------------------------------------

BAD = [
    ("1,2,nan,1600000000", "rating is not finite"),
    ("1,2,-inf,1600000000", "rating is not finite"),
    ("1,2,good,1600000000", "rating is not a number"),
    (",2,3,1600000000", "user_id is missing"),
    ("1,,3,1600000000", "item_id is missing"),
    ("1,2,3,-5", "timestamp is before 1970"),
    ("1,2,3,99999999999", "timestamp is after the year 2100"),
    ("1,2,3,soon", "timestamp is not a number"),
    ("x,2,3,1600000000", "user_id is not an integer"),
    ("1,9223372036854775808,3,1600000000", "item_id is outside -2^63 to 2^63 - 1"),
    ("1,2,3", "line has 3 fields instead of 4"),
    ("1,2,3,4,5", "line has 5 fields instead of 4"),
]


def test_bad_rows_are_kept_with_their_reasons(ray_session: None, tmp_path: Path) -> None:
    bad = "".join(line + "\n" for line, _ in BAD)
    paths = [log(tmp_path, HEADER + GOOD), log(tmp_path, HEADER + GOOD + bad, "other.csv")]
    asked = {"input": paths, "output": str(tmp_path / "out"), "shards": 2, "id_type": "int"}
    said = refused("12 of 412 rows are bad .*more than --max-bad-share 0.01 allows", **asked)
    assert "2 rating is not finite" in said
    assert f"look at them in {tmp_path / 'out' / 'quarantine'}" in said
    assert (tmp_path / "out" / "quarantine").exists()

    data = das.prepare(**asked, max_bad_share=0.05)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["reused_parts"] == 2
    quarantine = data.manifest.quarantine
    assert quarantine.rows == len(BAD)
    assert sum(quarantine.reasons.values()) == len(BAD)
    assert data.manifest.source["rows"] == 412
    found = pl.concat([pl.read_parquet(tmp_path / "out" / file) for file in quarantine.files])
    assert set(found["source"]) == {paths[1]}
    by_row = dict(found.select("row", "reason").rows())
    for k, (_, reason) in enumerate(BAD):
        assert by_row[202 + k].startswith(reason)
    clean = inline_prepare(input=[paths[0]], output=str(tmp_path / "clean"), shards=2)
    assert checksums(clean) == checksums(data)


def test_all_rows_bad(tmp_path: Path) -> None:
    path = log(tmp_path, HEADER + "1,2,nan,1600000000\n1,2,inf,1600000000\n")
    asked = {"input": [path], "output": str(tmp_path / "out")}
    refused(r"2 of 2 rows are bad .* \(the first: rating 'NaN', row 2 of .*log\.csv\)", inline_prepare, **asked)
    refused(r"or ignore the column with --map rating= \(empty\)", inline_prepare, **asked)
    refused("no good rows in the input .*2 rows, all bad", inline_prepare, **asked, max_bad_share=1)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_odd_ids_survive(tmp_path: Path, suffix: str) -> None:
    """Unicode, quotes, commas, ids of a thousand bytes, numbers that are text: all come out as they went in."""
    ids = ["é" * 512, "日本", "😀", 'a"b', "x,y", "it's", "007", "7", "7.0", "NaN", "null", "\\", "a\tb"]
    rows = [(user, item, 1.0, 1_600_000_000 + k, None) for user in ids for k, item in enumerate(ids)]
    frame = pl.DataFrame([row[:4] for row in rows], schema=["user_id", "item_id", "rating", "timestamp"], orient="row")
    path = tmp_path / f"log{suffix}"
    getattr(frame, {".csv": "write_csv", ".parquet": "write_parquet", ".jsonl": "write_ndjson"}[suffix])(path)
    data = inline_prepare(input=[str(path)], output=str(tmp_path / "out"), shards=3, max_bad_share=0)
    assert data.items()["item_id"].to_list() == sorted(ids, key=str.encode)
    assert sorted(user for k in range(len(data.shards)) for user in data.users(k)["user_id"]) == sorted(ids)


def test_ids_that_mix_integers_and_strings(tmp_path: Path) -> None:
    lines = [{"user_id": u, "item_id": i, "timestamp": 1_600_000_000 + i} for u in (1, "1", "a") for i in range(4)]
    path = log(tmp_path, "".join(json.dumps(line) + "\n" for line in lines), "log.jsonl")
    data = inline_prepare(input=[path], output=str(tmp_path / "out"), shards=1)
    assert data.users(0)["user_id"].to_list() == ["1", "a"]
    assert data.manifest.dropped["duplicates"] == 4


def test_ten_megabytes_of_one_user(tmp_path: Path) -> None:
    n = 400_000
    log_ = pl.DataFrame({"user_id": pl.repeat(5, n, eager=True), "item_id": range(n), "timestamp": range(T + n, T, -1)})
    log_.write_csv(tmp_path / "log.csv")
    assert (tmp_path / "log.csv").stat().st_size > 6_000_000
    log_.head(3).with_columns(user_id=pl.lit(6)).write_csv(tmp_path / "small.csv")
    inputs = [str(tmp_path / "log.csv"), str(tmp_path / "small.csv")]
    data = inline_prepare(input=inputs, output=str(tmp_path / "out"), shards=8, time_unit="s")
    assert (data.n_users, data.n_items, data.n_rows) == (2, n, n + 3)
    assert len(data.shards) <= 2
    items = data.interactions("test").items
    assert 0 in items


@pytest.mark.parametrize(
    ("rows", "asked", "left"),
    [
        ([(-(2**63), 2**63 - 1, T + t) for t in range(3)], {"duplicates": "all"}, (1, 1, 3)),
        ([(0, i, T) for i in range(3)] + [(1, 9, T)], {}, (1, 3, 3)),
        ([(u, u * 10 + i, T) for u in range(3) for i in range(3)], {}, (3, 9, 9)),
        ([(1, i, T + i) for i in range(10)], {"split": "temporal"}, (1, 10, 10)),
    ],
    ids=["int64 extremes", "a user with one row", "items of one user each, all times equal", "one user"],
)
def test_small_logs(tmp_path: Path, rows: list, asked: dict, left: tuple) -> None:
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    frame.write_parquet(tmp_path / "log.parquet")
    data = inline_prepare(input=[str(tmp_path / "log.parquet")], output=str(tmp_path / "out"), shards=8, **asked)
    assert (data.n_users, data.n_items, data.n_rows) == left
    assert len(data.shards) <= data.n_users
    assert read_back(data.uri)["dropped"]["min_item"] == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"min_user": 6}, r"no rows are left: of 200 rows 0 were bad, .* 200 went to --min-user 6, --min-item 1"),
        ({"min_item": 41}, r"200 went to --min-user 1, --min-item 41"),
        ({"min_rating": 9.0}, r"200 below --min-rating"),
        (
            {"split": "temporal", "validation_share": 0.5, "test_share": 0.4999},
            r"--split temporal leaves no train rows",
        ),
    ],
)
def test_nothing_left_says_what_took_it(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    refused(said, inline_prepare, input=[log(tmp_path, HEADER + GOOD)], output=str(tmp_path / "out"), **asked)
    # Asked for less, the same place serves at once.
    inline_prepare(input=[str(tmp_path / "log.csv")], output=str(tmp_path / "out"))
    assert not (tmp_path / "out" / "_work").exists()


def test_one_row(tmp_path: Path) -> None:
    path = log(tmp_path, HEADER + "1,2,3,1600000000\n")
    said = refused("no rows are left", inline_prepare, input=[path], output=str(tmp_path / "out"))
    assert "--split leave_2 (at least 3 rows a user)" in said


def test_needed_columns(tmp_path: Path) -> None:
    path = log(tmp_path, "user_id,item_id\n1,2\n")
    asked = {"input": [path], "output": str(tmp_path / "out")}
    refused("--split leave_2 goes by time, but the log has no timestamp", **asked)
    refused("no column for split", **asked, split="column")
    refused("--min-rating is set, but the log has no rating", **asked, split="20_percent_hist", min_rating=3)


def test_folder_with_other_files(tmp_path: Path) -> None:
    for name in ("_SUCCESS", ".hidden.csv", "_logs/x.csv"):
        log(tmp_path / "log", "not,a log\n1,2\n", name)
    log(tmp_path / "log", b"", "empty.csv")
    for k in range(2):
        log(tmp_path / "log", HEADER + GOOD, f"day={k}/part-0.csv")
    data = inline_prepare(input=[str(tmp_path / "log")], output=str(tmp_path / "out"))
    assert data.manifest.source["files"] == 2
    assert data.manifest.source["skipped"] == [[str(tmp_path / "log" / "empty.csv"), "the file is empty"]]
    log(tmp_path / "log", "# What this is\n\nLogs of a shop.\n", "README.md")
    data = inline_prepare(input=[str(tmp_path / "log")], output=str(tmp_path / "out2"))
    assert data.manifest.source["files"] == 2
    assert any("description, licence or checksum" in notice.what for notice in data.manifest.noticed)


# -- the place that is written to -----------------------------------------------------------------------------


def test_an_existing_dataset_is_replaced_only_when_told(tmp_path: Path) -> None:
    path, out = log(tmp_path, HEADER + GOOD), tmp_path / "out"
    first = checksums(inline_prepare(input=[path], output=str(out), shards=4))
    refused("holds a dataset already; .*--overwrite", inline_prepare, input=[path], output=str(out), shards=4)
    # Input that cannot be read does not cost the dataset that is there.
    refused("no such file", inline_prepare, input=[str(tmp_path / "no")], output=str(out), overwrite=True)
    assert checksums(Dataset.open(str(out))) == first
    second = inline_prepare(input=[path], output=str(out), shards=1, overwrite=True)
    assert checksums(second) != first
    assert [p for p in sorted(paths_below(out)) if p.startswith("shards/")] == ["shards/part-00000.parquet"]


def test_a_finished_dataset_of_another_run_is_safe_while_its_work_is_there(tmp_path: Path) -> None:
    """Killed between manifest and tidying up, a dataset is one: another job must not take its place unasked."""
    path, out = log(tmp_path, HEADER + GOOD), str(tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill_at_scale.pipelines.runtime.output_folder.remove_work", lambda output: None)
        first = checksums(inline_prepare(input=[path], output=out))
    refused("holds a dataset already", inline_prepare, input=[path], output=out, shards=2)
    assert checksums(Dataset.open(out)) == first
    inline_prepare(input=[path], output=out, shards=2, overwrite=True)
    assert not (tmp_path / "out" / "_work").exists()


@pytest.mark.parametrize("foreign", ["notes.txt", "shards/mine.csv", "users/part-00000.parquet", "_work/x", ".keep"])
def test_others_files_are_never_touched(tmp_path: Path, foreign: str) -> None:
    path, out = log(tmp_path, HEADER + GOOD), tmp_path / "out"
    theirs = Path(log(out, "precious", foreign))
    for overwrite in (False, True):
        said = refused("holds other files", input=[path], output=str(out), overwrite=overwrite)
        assert foreign in said
        assert theirs.read_text() == "precious"
    assert paths_below(out) == {foreign, *([foreign.split("/")[0]] if "/" in foreign else [])}


def test_others_files_in_a_dataset_stay(tmp_path: Path) -> None:
    path, out = log(tmp_path, HEADER + GOOD), tmp_path / "out"
    inline_prepare(input=[path], output=str(out))
    theirs = Path(log(out, "precious", "shards/notes.txt"))
    refused(r"holds other files \(.*shards/notes\.txt\)", input=[path], output=str(out), overwrite=True)
    assert theirs.read_text() == "precious"
    Dataset.open(str(out)).verify()


def test_output_inside_the_input(tmp_path: Path) -> None:
    log(tmp_path / "log", HEADER + GOOD)
    for output in ("log/out", "log"):
        refused("lies in the input", input=[str(tmp_path / "log")], output=str(tmp_path / output))
    inline_prepare(input=[str(tmp_path / "log")], output=str(tmp_path / "log-prepared"))


# -- settings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"inputs": ["x"]}, "unknown setting 'inputs'; the settings are: .*input"),
        ({}, "'input' and 'output' are missing"),
        ({"input": ["x"], "output": "y", "min_user": "many"}, "setting 'min_user': 'many' is not a whole number"),
        ({"input": ["x"], "output": "y", "min_user": 0}, "setting 'min_user': 0 must be at least 1"),
        ({"input": [], "output": "y"}, "setting 'input': .*give at least one"),
        ({"input": ["x"], "output": "y", "split": "random"}, "setting 'split': 'random' is not one of leave_2, "),
        ({"input": ["x"], "output": "y", "min_rating": float("nan")}, "setting 'min_rating': nan is not finite"),
        ({"input": ["x"], "output": "y", "seed": 2**64}, "setting 'seed': .*must be below"),
        ({"input": ["x"], "output": "y", "test_share": 0.95}, "together must be below 1"),
        ({"input": ["x"], "output": "y", "map": {"user": "x"}}, "unknown column 'user'"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], said: str) -> None:
    refused(said, **settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("input: [x\noutput: y", "c.yaml: not valid YAML"),
        ("- input", "c.yaml: a mapping of settings is expected"),
        ("input: [x]\noutput: y\nshard: 3", "c.yaml: unknown setting 'shard'"),
        ("input: [x]\noutput: y\nshards: three", "c.yaml: setting 'shards': 'three' is not a whole number"),
        ("\x00", "c.yaml: not valid YAML"),
        ("1: 2", "c.yaml: "),
        (None, "c.yaml/c.yaml: the configuration file cannot be read: Not a directory"),
    ],
)
def test_wrong_config_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(text or "")
    with pytest.raises(DasError, match=said) as error:
        load(config.PrepareConfig, "c.yaml" if text else "c.yaml/c.yaml")
    assert "\n" not in str(error.value)


def test_on_the_command_line(tmp_path: Path) -> None:
    """Exit code 1, one line of error, and with --json the same as the last line of stdout."""
    log(tmp_path, "person,item_id\n1,2\n")
    done = cli(tmp_path, "prepare", "--input", "log.csv", "--output", "out", "--json")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors == done.stderr.splitlines()
    assert json.loads(done.stdout.splitlines()[-1]) == {"error": errors[0].removeprefix("error: ")}
    assert "no column for user_id" in errors[0]


def test_a_run_that_stops_on_the_command_line(
    tmp_path: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a task of the command's own Ray found out comes as the one line, beside progress and no traceback."""
    monkeypatch.setenv("RAY_TMPDIR", str(run_folder / "cli"))
    log(tmp_path, HEADER + GOOD + "1,2,nan,1600000000\n" * 50)
    done = cli(tmp_path, "prepare", "--input", "log.csv", "--output", "out", "--json")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "50 of 250 rows are bad (50 rating is not finite), more than --max-bad-share 0.01 allows" in errors[0]
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"error": errors[0].removeprefix("error: ")}


def test_inspect_names_what_was_tampered_with(tmp_path: Path) -> None:
    inline_prepare(input=[log(tmp_path, HEADER + GOOD)], output=str(tmp_path / "out"))
    done = cli(tmp_path, "inspect", "out", "--verify")
    assert (done.returncode, done.stderr) == (0, f"{tmp_path}/out: all files match their checksums.\n")
    shard = tmp_path / "out" / "shards" / "part-00000.parquet"
    content = bytearray(shard.read_bytes())
    content[40] ^= 255
    shard.write_bytes(content)
    das.inspect(data=str(tmp_path / "out"))
    done = cli(tmp_path, "inspect", "out", "--verify")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {shard} differs from its checksum; prepare the dataset again.\n"
