"""Wrong calls: exit code 2, one sentence that names the options and what was probably meant, and nothing started."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from cli_kit import Das

from distill_at_scale.cli.verbs import VERBS
from distill_at_scale.config import FetchConfig
from distill_at_scale.pipelines.planning.verbs import PLANS

D = ("--data", "d", "--output", "o")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        # Verbs and options.
        ("prepar", r"Unknown verb 'prepar'\. Did you mean 'das prepare'\?"),
        ("SWEEP --data d", r"Did you mean 'das sweep'\?"),
        ("train", r"Did you mean 'das genie train'\?"),
        ("genie trian", r"Unknown verb 'genie trian'\. Did you mean 'das genie train'\?"),
        ("xyzzy", "The verbs are quickstart, fetch, "),
        ("fit --modle ease", r"das fit has no option --modle\. Did you mean --model\?"),
        ("sweep --budget 0.1", r"has no option --budget\. Did you mean --budgets\?"),
        ("--verison", r"das has no option --verison\. Did you mean --version\?"),
        ("--quiet fit", "Options follow their verb, as in das fit --quiet"),
        ("sample --set proxy_epochs=5", r"^das sample has no option --set\.$"),
        ("fit --data", "--data needs a value"),
        ("fit --data --model ease", "^--data needs a value"),
        ("inspect a b", "Unexpected argument: b"),
        # What is missing is named at once, and what is wrong beside it.
        ("prepare", "^--input and --output are missing"),
        ("fit", r"^--data, --model and --output are missing\.$"),
        ("fit --data d --output o", r"^--model is missing \(model to fit\)"),
        ("fetch", r"^NAME is missing \(dataset of the catalogue"),
        ("fit --model eese --workers 0", "^--data and --output are missing.*--model 'eese'.*--workers 0 must be at le"),
        # Values.
        ("prepare --input a --output o --split leave_3", r"--split 'leave_3' is not one of .*Did you mean 'leave_2'\?"),
        ("prepare --input a --output o --max-bad-share 2", r"^--max-bad-share 2 must be at most 1\.$"),
        ("prepare --input a --output o --seed soon", r"^--seed 'soon' is not a whole number\.$"),
        ("prepare --input a --output o --min-rating nan", "^--min-rating 'nan' is not finite|--min-rating nan is not"),
        ("prepare --input a --output o --map user_id", r"^--map 'user_id' is not of the form KEY=VALUE\.$"),
        (
            "prepare --input a --output o --validation-share .6 --test-share .5",
            r"^--validation-share and --test-share together must be below 1\.$",
        ),
        ("fit --model EASY --data d --output o", r"Did you mean 'ease'\?"),
        ("fit --model infinite --data d --output o", r"Did you mean 'infinite_ae'\?"),
        ("sample --sampler randon --budget .1 --data d --output o", r"--sampler 'randon'.*Did you mean 'random'\?"),
        ("sample --sampler random --budget 2 --data d --output o", "^--budget 2 is not a share of the train rows"),
        ("sample --sampler random --budget .1,x --data d --output o", "^--budget 'x' is not a number"),
        ("distill --method distil_cf --data d --output o", r"Did you mean 'distill_cf'\?"),
        ("distill --method farzi --student mf --data d --output o", "--student 'mf' is not one of sasrec, gru4rec"),
        ("sweep --methods random,skech --data d --output o", r"--methods 'skech'.*Did you mean 'sketch'\?"),
        ("sweep --models ease --data d --output o", "--models ease holds too few values; give at least two"),
        ("sweep --time-budget soon --data d --output o", "--time-budget 'soon' is not a duration; write it as 90s"),
        ("compare --models ease,mf --samples s --metrics ndcg@1O --data d --output o", r"Did you mean 'ndcg@10'\?"),
        ("evaluate --data d --model m --ks 5,ten", "^--ks 'ten' is not a whole number"),
        ("evaluate --data d --model m --ks 0", "^--ks 0 must be at least 1"),
        ("predict --data d --model m --output o --k 0", r"^--k 0 must be at least 1\.$"),
        ("predict --data d --model m --output o --history test", r"--history 'test' is not one of all, train\+valid"),
        ("predict --data d --model m --output o --users 0", "^--users 0 asks for no list; give at least 1, or --simil"),
        ("predict --data d --modle m", r"das predict has no option --modle\. Did you mean --model\?"),
        ("predict", r"^--data, --model and --output are missing\.$"),
        ("export --data d --output o --splits train,tset", "--splits 'tset' is not one of train, validation, test"),
        ("export --data d --output o --format parket", r"Did you mean 'parquet'\?"),
        ("genie train --sweeps s --output o --kinds tree", r"Did you mean 'trees'\?"),
        ("fetch ml-100", r"^NAME 'ml-100' is not one of .*Did you mean 'ml-100k'\?"),
        ("settings eese", r"Did you mean 'ease'\?"),
        ("recommend --data d --sweep s --genie g", "--sweep and --genie were both given"),
        ("fit --config nowhere.yaml", "nowhere.yaml: no such configuration file"),
        # What --set says, of models and methods alike.
        ("fit --model ease --set lamb=3 --data d --output o", r"ease: unknown setting 'lamb'; .* Did you mean 'lam'\?"),
        ("fit --model mf --set epochs=0 --data d --output o", "mf: setting 'epochs': 0 must be at least 1"),
        ("fit --model mf --set epochs --data d --output o", "--set 'epochs' is not of the form KEY=VALUE"),
        ("fit --model ease --workers 2 --data d --output o", "ease is solved in closed form by one worker"),
        ("fit --model mf --data d --output o --workers 3:2", "--workers '3:2' .*; write 2:3"),
        ("fit --model mf --data d --output o --workers 0:2", "--workers 0 of 0:2 must be at least 1"),
        ("fit --model mf --data d --output o --workers a:b", "--workers 'a:b' is not a number of workers"),
        ("fit --model ease --data d --output o --workers 1:2", "ease is solved in closed form by one worker"),
        ("fit --model infinite_ae --data d --output o --workers 1:2", "the same workers throughout; set --workers 2"),
        ("distill --method sketch --set steps=5 --data d --output o", "sketch: unknown setting 'steps'"),
        ("distill --method farzi --set windw=5 --data d --output o", r"farzi: .* Did you mean 'window'\?"),
        ("distill --method farzi --users 5 --data d --output o", "--users is not of farzi, which takes --sequences"),
    ],
)  # fmt: skip
def test_wrong_calls(das: Das, arguments: str, says: str) -> None:
    said = das(*arguments.split())
    assert said.code == 2
    assert re.search(says, said.error), said.error
    assert said.err.splitlines()[1:] == [said.err.splitlines()[-1]], "one sentence, and where help is"
    assert "--help` for help." in said.err
    assert "Input should be" not in said.err, "pydantic's own words"
    assert said.out == ""


@pytest.mark.parametrize(
    "arguments",
    ["prepar", "genie trian", "fit --modle x", "fit --data", "fit --set x", "fit --model eese", "fit --set a"],
)
def test_wrong_calls_for_programs(das: Das, arguments: str) -> None:
    said = das(*arguments.split(), "--json")
    assert (said.code, said.json) == (2, {"error": said.error})


def test_what_is_not_a_wrong_call_is_1(das: Das, tmp_path: Path) -> None:
    for arguments in (
        ("inspect", "/nowhere"),
        ("fit", "--model", "ease", "--data", "/nowhere", "--output", "o"),
        ("report", "--sweep", "/nowhere", "--output", str(tmp_path / "r.html")),
        ("prepare", "--input", "/nowhere", "--output", str(tmp_path / "o")),
    ):
        said = das(*arguments, "--json")
        assert (said.code, said.json) == (1, {"error": said.error})
        assert "--help" not in said.err


def test_a_file_calls_settings_by_name(das: Das, tmp_path: Path) -> None:
    file = tmp_path / "fit.yaml"
    file.write_text("data: d\nmodel: eese\nworkers: 0\n")
    said = das("fit", "--config", str(file), "--gpu")
    assert said.code == 2
    assert said.error.startswith(
        f"--output is missing (folder or storage URI for the fitted model). {file}: setting 'mo"
    )
    assert f"{file}: setting 'workers': 0 must be at least 1." in said.error
    # What the option says wins, and is called by it.
    assert "--workers -1 must be at least 1." in das("fit", "--config", str(file), "--workers=-1").error


def test_a_bug_keeps_its_traceback(das: Das, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str, settings: object) -> None:
        raise TypeError("no such thing")

    monkeypatch.setattr("distill_at_scale.cli.run", broken)
    said = das("inspect", "x", "--json")
    assert said.code == 1
    assert "Traceback" in said.err
    assert said.json == {"error": "TypeError: no such thing"}


def test_names_in_any_case() -> None:
    parsed = FetchConfig.model_validate({"name": "ML-100K"})
    assert parsed.name == "ml-100k"
    for verb, field, given, stored in (
        ("fit", "model", "EASE", "ease"),
        ("sample", "sampler", "SVP-MF", "svp_mf"),
        ("distill", "method", "Farzi", "farzi"),
        ("sweep", "methods", "Random,ALL", ["random", "all"]),
        ("sweep", "models", ["Ease", "MF,SASRec"], ["ease", "mf", "sasrec"]),
        ("compare", "metrics", "NDCG@10,auc", ["ndcg@10", "auc"]),
        ("prepare", "split", "LEAVE-2", "leave_2"),
        ("prepare", "duplicates", "First", "first"),
        ("prepare", "columns", "user_id,item_id", ["user_id", "item_id"]),
        ("prepare", "columns", None, None),
        ("evaluate", "ks", ["5,10", "20"], [5, 10, 20]),
        ("evaluate", "ks", 5, [5]),
    ):
        model = VERBS[verb].model
        required = {name: "x" for name, of in model.model_fields.items() if of.is_required()}
        lists = {name: ["x"] for name in ("input", "samples") if name in required}
        names = {"model": "mf", "sampler": "random", "budget": "0.1", "models": "ease,mf"}
        asked = {**required, **lists, **{k: v for k, v in names.items() if k in required and verb != "evaluate"}}
        assert getattr(model.model_validate({**asked, field: given}), field) == stored


@pytest.mark.parametrize("verb", ["", "genie", *VERBS])
def test_help_fits_a_terminal(das: Das, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In 80 columns, the texts have at least half of the width, and options without a value show no type."""
    monkeypatch.setenv("COLUMNS", "80")
    shown = das(*verb.split(), "--help").out.splitlines()
    assert max(map(len, shown)) <= 80
    assert not [line for line in shown if "<bool>" in line or "<boolean>" in line]
    help_line = next(line for line in shown if "--help" in line and "-h" in line)
    assert help_line.index("Show this") <= 48


def test_help_breaks_all_paragraphs_alike_and_names_values_of_lists(das: Das, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.strip() for line in das("forget", "--help").out.splitlines()]
    start = next(k for k, line in enumerate(lines) if line.startswith("A dataset or sample is written"))
    paragraph = lines[start : lines.index("", start)]
    # Every line but the last is as full as the next word allows.
    assert all(len(line) + 1 + len(after.split()[0]) > 77 for line, after in itertools.pairwise(paragraph)), paragraph
    assert re.search(r"--splits +VALUE…", das("export", "--help").out)
    assert re.search(r"--ks +N…", das("evaluate", "--help").out)


def test_only_verbs_that_can_be_planned_offer_a_plan(das: Das) -> None:
    assert [name for name, verb in VERBS.items() if verb.plans] == sorted(PLANS, key=list(VERBS).index)
    for name, offered in (("fit", True), ("doctor", False), ("genie train", False)):
        shown = das(*name.split(), "--help").out
        assert ("--plan-nodes" in shown) == ("--price" in shown) == offered
    assert "--plan is of prepare, " in das("doctor", "--plan").err
