"""`das submit VERB …`: the verb's options are checked here, and become settings that mean the same elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distill_at_scale import cli
from distill_at_scale.cli.submitted import settings_of_job
from distill_at_scale.cli.verbs import VERBS
from distill_at_scale.config.submit import JOB_VERBS
from distill_at_scale.errors import SettingError


def given(*words: str, config: str | None = None) -> dict[str, Any]:
    verb, *rest = words or [None]
    return settings_of_job(cli._parsed, {"verb": verb, "rest": rest, "config": config})


def test_every_verb_can_run_as_a_job_but_those_of_this_process() -> None:
    assert set(JOB_VERBS) == set(VERBS) - {"submit", "settings"}


def test_options_become_settings_with_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = given("prepare", "--input", "a.csv", "s3://b/c.csv", "--output", "out", "--split", "temporal", "--json")
    assert job == {
        "verb": "prepare",
        "settings": {
            "input": [str(tmp_path / "a.csv"), "s3://b/c.csv"],
            "output": f"{tmp_path}/out",
            "split": "temporal",
        },
        "flags": ["json"],
    }
    job = given("fit", "--data", "s3://b/data", "--model", "ease", "--output", "s3://b/ease", "--set", "lam=5")
    assert job["settings"] == {"data": "s3://b/data", "model": "ease", "output": "s3://b/ease", "set": {"lam": 5}}
    job = given("predict", "--data", "d", "--model", "m", "--output", "o", "--users", "100")
    assert job["settings"]["users"] == "100"
    assert job["settings"]["model"] == str(tmp_path / "m")
    assert given("genie", "train", "--sweeps", "s", "--output", "o")["verb"] == "genie train"


def test_a_file_of_settings_travels_as_settings(tmp_path: Path) -> None:
    (tmp_path / "prepare.yaml").write_text("input: [/logs]\noutput: /data\nseed: 3\n")
    job = given("prepare", "--config", str(tmp_path / "prepare.yaml"), "--seed", "4")
    assert job["settings"] == {"input": ["/logs"], "output": "/data", "seed": "4"}
    (tmp_path / "submit.yaml").write_text("verb: inspect\nsettings: {data: /data}\n")
    job = given(config=str(tmp_path / "submit.yaml"))
    assert job == {"verb": "inspect", "settings": {"data": "/data"}}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "A verb is missing"),
        (["perpare"], "The verb 'perpare' is not one of"),
        (["settings", "ease"], "The verb 'settings' is not one of"),
        (["prepare", "--input", "a"], "--output is missing"),
        (["prepare", "--inptu", "a"], "has no option --inptu. Did you mean --input?"),
        (["prepare", "--input", "--output", "o"], "--input needs a value."),
        (["prepare", "--input", "a", "--output", "o", "--shards", "many"], "--shards"),
        (["inspect", "d", "--log-file", "f"], "give das submit --log-file before the verb"),
        (["evaluate", "--data", "d", "--model", "m", "--address", "auto"], "give das submit --address before the verb"),
        (["inspect", "s3://key:secret@bucket/d"], "credentials"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_submitted(words: list[str], sentence: str) -> None:
    with pytest.raises(SettingError) as raised:
        given(*words)
    assert sentence in str(raised.value)
    assert "secret" not in str(raised.value)


def test_the_command_line_tells_the_options_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those before the verb are of submit, those behind it of the verb; nobody listens at port 1."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["das", "submit", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    for separator in ([], ["--"]):
        code, said = run("--address", "http://127.0.0.1:1/", *separator, "inspect", "s3://b/data", "--quiet")
        assert code == 1
        assert said.startswith("error: No Ray dashboard answers at http://127.0.0.1:1 (")
        assert len(said.splitlines()) == 1
    code, said = run("--address", "ray://host:10001", "inspect", "d")
    assert code == 2
    assert "is not the address of a dashboard, such as http://HOST:8265" in said
    assert run("inspect", "--help")[0] == 0
