"""Models, samplers and distillers from outside the package: by spec and by entry point, and what is said where not."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_kit import Das
from dataset_kit import write_dataset
from plugins_kit import COUNT, DAMPENED, FIRST, HALF, MEANS, OLDEST, PACKAGE, entry_points, forget
from prepare_kit import inline_prepare, random_rows, write_logs

import distill_at_scale as package
from distill_at_scale import cli, registry
from distill_at_scale.cli import verbs
from distill_at_scale.cli.submitted import settings_of_job
from distill_at_scale.config import CompareConfig, DistillConfig, SubmitConfig
from distill_at_scale.data.interactions import Interactions
from distill_at_scale.errors import PluginError, SettingError
from distill_at_scale.evaluation import evaluate
from distill_at_scale.models import create_model, find_model, load_model
from distill_at_scale.models.warming import _log
from distill_at_scale.pipelines.distill import distiller_of
from distill_at_scale.pipelines.runtime import own_settings, plugins
from distill_at_scale.pipelines.submit import command_of
from distill_at_scale.registry import DISTILLERS, EVERYTHING, METHODS, MODELS, SAMPLERS, file_name, is_spec
from distill_at_scale.samplers import find_sampler

pytestmark = pytest.mark.usefixtures("outside")


def rows() -> Interactions:
    items = np.array([0, 1, 0, 2], dtype=np.int32)
    return Interactions(np.arange(2), np.array([0, 2, 4]), items, n_items=3)


def test_by_spec() -> None:
    assert find_model(DAMPENED).name == "dampened"
    assert find_sampler(OLDEST).timestamps
    assert METHODS.find(OLDEST) is SAMPLERS
    assert own_settings.by_owner({f"{DAMPENED}.power": 2}, EVERYTHING, "") == {DAMPENED: {"power": 2}}
    assert create_model(DAMPENED, {"power": 1.0}).fit(rows()).score(rows())[0].tolist() == [2.0, 1.0, 1.0]
    assert registry.used() == [DAMPENED, OLDEST]
    assert next(iter(MODELS)) == "popularity"
    assert DAMPENED not in list(MODELS)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nowhere.to:Be", "'nowhere.to:Be': module 'nowhere' is missing; install it, or put its folder on PYTHONPATH"),
        ("outside.nowhere:Be", "module 'outside.nowhere' is missing"),
        ("outside.model:Dampend", r"outside\.model has no 'Dampend'\. Did you mean 'Dampened'\?"),
        # What it imports is not meant.
        ("outside.model:Interaction", r"outside\.model has no 'Interaction'\.$"),
        ("outside.model:Unfinished", "is not a model: it lacks .*Config.*_score, .*memory_needed"),
        (
            "outside.model:DampenedConfig",
            r"does not extend distill_at_scale\.models\.base\.Recommender, and lacks .*_fit",
        ),
        ("outside.sampler:OLDEST", "is not a model: it is not a class"),
        ("__main__:Mine", "is in __main__, which workers cannot import; move it into its own module"),
    ],
)
def test_what_is_no_model_is_said(spec: str, says: str) -> None:
    with pytest.raises(PluginError, match=says):
        find_model(spec)
    assert spec not in MODELS


def test_a_distiller_by_spec() -> None:
    assert METHODS.find(MEANS) is DISTILLERS
    assert DISTILLERS[MEANS].size() == "users"
    assert own_settings.by_owner({f"{MEANS}.scale": 2}, EVERYTHING, "") == {MEANS: {"scale": 2}}
    with pytest.raises(SettingError, match="users is given by the budgets"):
        own_settings.by_owner({f"{MEANS}.users": 2}, EVERYTHING, "")
    with pytest.raises(PluginError, match=r"is not a distiller: it lacks Config\.users, Config\.seed, Config\.metric"):
        DISTILLERS.find("outside.distiller:Sizeless")
    with pytest.raises(PluginError, match=r"is not a distiller: it lacks rounds \(which searched needs\), trial \("):
        DISTILLERS.find("outside.distiller:Searchable")
    with pytest.raises(SettingError, match=rf"--length is not of {MEANS}, which takes --users; leave it out"):
        distiller_of(DistillConfig(data="-", output="-", method=MEANS, length=3))
    with pytest.raises(SettingError, match=rf"{MEANS}: setting 'scale': 0 must be above 0"):
        distiller_of(DistillConfig(data="-", output="-", method=MEANS, set={"scale": 0}))


def test_a_module_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "failing.py").write_text("raise RuntimeError('out of order')")
    (tmp_path / "needing.py").write_text("import not_installed_anywhere")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match="failing cannot be imported: RuntimeError: out of order"):
        find_model("failing:Model")
    with pytest.raises(PluginError, match="'not_installed_anywhere', which needing imports, is not installed"):
        find_model("needing:Model")


def test_what_is_no_method_is_said(das: Das) -> None:
    with pytest.raises(PluginError, match="is not a sampler"):
        find_sampler(DAMPENED)
    said = das("sweep", "--data", "d", "--output", "o", "--methods", f"random,{DAMPENED}")
    assert said.code == 2
    assert said.error.startswith(f"--methods '{DAMPENED}' is not a sampler or distiller (as a sampler: it is not")


def test_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, das: Das) -> None:
    entry_points(tmp_path, monkeypatch, models={"dampened": DAMPENED}, samplers={"oldest": OLDEST})
    assert "dampened" in MODELS
    assert MODELS.find("Dampened").name == "dampened"
    assert "oldest" in list(METHODS)
    assert "power" in das("settings", "dampened").out
    assert "oldest" in das("settings").out
    assert "dampened" in das("fit", "--data", "d", "--output", "o", "--model", "damp").error


def test_a_built_in_name_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="distill_at_scale")
    entry_points(tmp_path, monkeypatch, models={"ease": DAMPENED, "broken": "outside.model"})
    assert MODELS["ease"].name == "ease"
    assert "dampened" not in list(MODELS)
    assert f"ease = {DAMPENED} of the group distill_at_scale.models is ignored: the built-in model" in caplog.text
    assert "broken = outside.model of the group" in caplog.text


def test_the_folder_where_das_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside.py").write_text("from outside.model import Dampened as Mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert find_model("beside:Mine").name == "dampened"


# -- metrics and split rules ---------------------------------------------------------------------------------------


def test_a_metric_by_spec_is_chosen_by() -> None:
    train, validation = _log()
    found = {
        metric: create_model("ease", {"metric": metric}).fit(train, validation).selection
        for metric in ("hr@10", f"{HALF}@10")
    }
    half, whole = found[f"{HALF}@10"], found["hr@10"]
    assert half is not None
    assert whole is not None
    assert half.chosen == whole.chosen
    assert [2 * point.metric for point in half.points] == pytest.approx([point.metric for point in whole.points])


def test_a_metric_by_entry_point_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry_points(tmp_path, monkeypatch, metrics={"half": HALF})
    train, validation = _log()
    model = create_model("popularity").fit(train)
    measured = evaluate(model.score, train, validation, train.item_counts(), train.n_rows).metrics
    assert measured["half@10"] == measured["hr@10"] / 2
    config = CompareConfig(data="-", samples=["-"], models=["ease", "mf"], output="-", metrics=["half@10"])
    assert config.metrics == ["half@10"]
    assert create_model("mf", {"metric": "half@5"}).config.model_dump()["metric"] == "half@5"


@pytest.mark.parametrize(
    ("model", "metric", "says"),
    [
        ("ease", "ndgc@10", r"'ndgc@10' is not a metric to choose by; .*ndcg@K.*auc\. Did you mean 'ndcg'\?"),
        ("ease", "ndcg@0", "'ndcg@0' is not a metric"),
        ("ease", "mse", "'mse' is not a metric"),
        ("mf", "psp@10", "'psp@10' weighs items, and cannot be chosen by here"),
        ("mf", "auc", "'auc' is not a metric"),
        ("mf", f"{OLDEST}@10", "is not a metric: it is not an instance of"),
        ("mf", "outside.metric:Half@10", r"outside\.metric has no 'Half'"),
    ],
)
def test_what_is_no_metric_is_said(model: str, metric: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        create_model(model, {"metric": metric})


@pytest.mark.parametrize("by", ["spec", "entry point"])
def test_a_split_rule(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = FIRST
    if by == "entry point":
        split = "first"
        entry_points(tmp_path, monkeypatch, splits={"first": FIRST})
    logs = write_logs(tmp_path / "log", random_rows(5, 900, 60, 30), 1)
    data = inline_prepare(input=logs, output=str(tmp_path / "data"), shards=2, split=split)
    assert data.manifest.split_rule == {"name": split}
    assert data.manifest.splits["test"] == data.manifest.splits["validation"] == data.n_users
    train, test = (data.interactions(name) for name in ("train", "test"))
    assert train.timestamps is not None
    assert test.timestamps is not None
    filled = train.counts > 0
    assert (test.timestamps[filled] <= train.timestamps[train.offsets[:-1][filled]]).all()
    assert data.manifest.tied is not None


def test_what_is_no_split_rule_is_said(das: Das) -> None:
    said = das("prepare", "--input", "i", "--output", "o", "--split", HALF)
    assert said.code == 2
    assert said.error.startswith(
        f"--split '{HALF}' is not a split rule: it is not an instance of distill_at_scale.data"
    )
    assert (
        "is not one of leave_2, 20_percent_hist"
        in das("prepare", "--input", "i", "--output", "o", "--split", "x").error
    )


# -- verbs ---------------------------------------------------------------------------------------------------------


def two_users(folder: Path) -> str:
    write_dataset(folder, [[(0, 0, 1.0, 1, 0), (1, 1, 1.0, 2, 0)]], [2], 3, item_space="")
    return str(folder)


@pytest.fixture
def verbs_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verbs that a test adds are gone after it."""
    for name in (COUNT, "count", "gone", "odd"):
        monkeypatch.setitem(verbs.VERBS, name, None)
        monkeypatch.delitem(verbs.VERBS, name)


@pytest.mark.usefixtures("verbs_as_before")
@pytest.mark.parametrize("by", ["spec", "entry point"])
def test_a_verb(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, das: Das) -> None:
    name, data = COUNT, two_users(tmp_path / "data")
    if by == "entry point":
        name = "count"
        entry_points(tmp_path, monkeypatch, verbs={"count": COUNT})
    said = das(name, data, "--factor", "3")
    assert said.code == 0, said.err
    assert said.out.split()[-2:] == ["users", "6"]
    assert das(name, data, "--json").json == {"users": 2}
    assert das(name, "--facto", "2").error == f"das {name} has no option --facto. Did you mean --factor?"
    assert (
        das(name, "--data", data).error
        == f"das {name} has no option --data; give DATA without it, as in das {name} DATA."
    )
    assert "Factor of the count." in das(name, "--help").out
    job = settings_of_job(cli._parsed, {"verb": name, "rest": [data, "--json"], "config": None})
    assert job == {"verb": name, "settings": {"data": data}, "flags": ["json"]}
    # The cluster needs the code, which travels, but no entry point.
    assert command_of(SubmitConfig(**job))[3:] == [COUNT, "--config", "settings.yaml", "--json"]
    assert plugins.folders() == [str(PACKAGE / "outside")]
    assert plugins._missing([*registry.used()]) is None


@pytest.mark.usefixtures("verbs_as_before")
def test_verbs_that_cannot_be_used_are_told_of_where_they_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, das: Das
) -> None:
    data = two_users(tmp_path / "data")
    named = {"count": COUNT, "inspect": COUNT, "gone": "outside.verb:NOWHERE", "odd": MEANS}
    entry_points(tmp_path, monkeypatch, verbs=named)
    assert das("inspect", data, "--json").err == ""
    assert registry.used() == [], "a verb of das imports no other package"
    assert das("count", data, "--json").err == ""
    gone = "'outside.verb:NOWHERE': outside.verb has no 'NOWHERE'."
    said = das("gone", "--json")
    assert said.code == 2
    assert said.error == f"The verb 'gone' of another package cannot be used: {gone}"
    said = das("--help")
    assert said.code == 0
    assert "Counts the users of a dataset." in said.out
    assert said.err.splitlines() == [
        f"The verb 'gone' of another package is left out: {gone}",
        "The verb 'inspect' of another package is left out: das has one of that name.",
        f"The verb 'odd' of another package is left out: '{MEANS}' is not a verb: it is not an instance of "
        "distill_at_scale.cli.verbs.Verb.",
    ]
    assert das("cuont").error == "Unknown verb 'cuont'. Did you mean 'das count'?"
    with pytest.raises(SettingError, match=r"outside\.verb has no 'NOWHERE'"):
        settings_of_job(cli._parsed, {"verb": "gone", "rest": [], "config": None})


def test_the_face_has_all_verbs() -> None:
    shown = {name for name, one in verbs.VERBS.items() if one.home is None} - {"report"}
    assert shown <= set(package.__all__), "a verb of the command line is a function too"
    assert all(callable(getattr(package, name)) for name in shown)


# -- saved models: a file that names code is not trusted -----------------------------------------------------------


def saved(folder: Path) -> str:
    create_model(DAMPENED).fit(rows()).save(str(folder))
    return str(folder)


def test_a_saved_model_loads_where_its_class_was_named(tmp_path: Path) -> None:
    uri = saved(tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["class"] == DAMPENED
    assert load_model(uri).name == "dampened"


def test_a_saved_model_imports_nothing_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = saved(tmp_path / "model")
    expected = load_model(uri).score(rows())
    forget()
    with pytest.raises(PluginError, match=rf"of the class '{DAMPENED}', and loading it runs that code; allow it by"):
        load_model(uri)
    assert "outside.model" not in sys.modules
    assert np.array_equal(load_model(uri, allow=[DAMPENED]).score(rows()), expected)
    forget()
    monkeypatch.setenv(registry.ALLOWED, "other, outside")
    assert np.array_equal(load_model(uri).score(rows()), expected)
    forget()
    monkeypatch.setenv(registry.ALLOWED, "out")
    with pytest.raises(PluginError):
        load_model(uri)
    entry_points(tmp_path, monkeypatch, models={"dampened": DAMPENED})
    assert np.array_equal(load_model(uri).score(rows()), expected)


def test_evaluate_refuses_before_it_starts(tmp_path: Path, das: Das) -> None:
    uri = saved(tmp_path / "model")
    write_dataset(tmp_path / "data", [[(0, 0, 1.0, 1, 0), (0, 1, 1.0, 2, 2)]], [1], 3, item_space="")
    forget()
    said = das("evaluate", "--data", str(tmp_path / "data"), "--model", uri)
    assert said.code == 2
    assert f"allow it by DAS_PLUGINS={DAMPENED}" in said.error


def test_a_name_from_a_file_imports_nothing() -> None:
    assert DAMPENED not in MODELS
    assert DAMPENED not in METHODS
    assert MODELS.get(DAMPENED) is None
    assert "outside.model" not in sys.modules


def test_specs_as_file_names() -> None:
    assert is_spec("a.b:C")
    assert not is_spec("s3://a/b")
    assert not is_spec("a b:C")
    assert file_name("a.b:C") == "a.b.C"
    assert file_name("svp_mf") == "svp_mf"
    with pytest.raises(SettingError, match="Unknown model 'a:b:c'"):
        find_model("a:b:c")
