"""The command line: options made of the config models, errors as one sentence, results as tables or JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from distill_at_scale import cli, config
from distill_at_scale.cli import options
from distill_at_scale.cli.verbs import VERBS
from distill_at_scale.errors import SettingError
from distill_at_scale.settings import load


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["das", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_setting_is_an_option_with_help(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(monkeypatch, *verb.split(), "--help") == 0
    shown = capsys.readouterr().out
    entry = VERBS[verb]
    for name, field in entry.model.model_fields.items():
        assert field.description, f"{verb}.{name} has no docstring"
        if name != entry.positional:
            assert options.flag(name) in shown
    assert {"--config", "--json"} <= set(re.findall(r"--[a-z-]+", shown))


def test_several_values_after_one_option() -> None:
    spread = options.spread(["--input", "a", "b", "--map", "x=1", "y=2", "--output", "o"], VERBS["prepare"])
    assert spread == ["--input", "a", "--input", "b", "--map", "x=1", "--map", "y=2", "--output", "o"]


def test_a_missing_setting_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "prepare", "--input", "nowhere", "--json") == 2
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "error: --output is missing (folder or storage URI of the new dataset).",
        "Run `das prepare --help` for help.",
    ]
    assert "output" in json.loads(out.splitlines()[-1])["error"]


def test_options_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "prepare.yaml"
    file.write_text("input: [log]\noutput: there\nseed: 3\n")
    loaded = load(config.PrepareConfig, str(file), {"seed": 4})
    assert (loaded.input, loaded.output, loaded.seed) == (["log"], "there", 4)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("inptu: [log]\noutput: x\n", "unknown setting 'inptu'"),
        ("- a\n- b\n", "a mapping of settings is expected"),
        ("a: [\n", "not valid YAML"),
        ("input: [log]\noutput: x\nshards: many\n", "setting 'shards'"),
        ("input: [log]\noutput: x\nsplit: leave_3\n", "setting 'split'"),
        ("input: [log]\noutput: x\nvalidation_share: 0.6\ntest_share: 0.5\n", "together must be below 1"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    file = tmp_path / "prepare.yaml"
    file.write_text(content)
    with pytest.raises(SettingError) as raised:
        load(config.PrepareConfig, str(file))
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_settings_of_models_keep_their_types() -> None:
    given = options.settings_of(VERBS["fit"], {"set": ["lam=5", "device=cpu"]})
    assert given == {"set": {"lam": 5, "device": "cpu"}}
    given = options.settings_of(VERBS["prepare"], {"map": ["user_id=1", "rating="]})
    assert given == {"map": {"user_id": "1", "rating": ""}}


def test_help_names_every_model_and_sampler() -> None:
    from distill_at_scale.models import MODELS
    from distill_at_scale.samplers import SAMPLERS

    for model, name, known in ((config.FitConfig, "model", MODELS), (config.SampleConfig, "sampler", SAMPLERS)):
        assert set(known) <= set(re.findall(r"\w+", model.model_fields[name].description or ""))


def test_inspect_of_nothing_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(monkeypatch, "inspect", "/nowhere/at/all")
    assert code == 1
    assert capsys.readouterr().err.startswith("error: /nowhere/at/all does not exist")
