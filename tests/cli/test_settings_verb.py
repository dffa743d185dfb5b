"""`das settings`: every model, sampler and distiller says what it can be told, without Ray."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cli_kit import Das

from distill_at_scale.errors import SettingError
from distill_at_scale.pipelines import settings
from distill_at_scale.pipelines.runtime import own_settings
from distill_at_scale.registry import DISTILLERS, METHODS, MODELS, SAMPLERS


@pytest.mark.parametrize("name", [*MODELS, *METHODS])
def test_every_setting_has_a_meaning(name: str) -> None:
    listed = settings.list_settings(name=name.upper())
    assert listed.name == name
    assert {one.name for one in listed.settings} == set(own_settings.model_of(name).model_fields)
    for one in listed.settings:
        assert one.meaning, f"{name}.{one.name} has no docstring"
        assert one.type
        assert "<class" not in one.type
        assert "typing." not in one.type


def test_the_tables_agree() -> None:
    for name, model in MODELS.items():
        assert model.name == name
    for name, sampler in SAMPLERS.items():
        assert sampler.name == name
    assert set(settings.list_settings().names["distillers"]) == set(DISTILLERS)


def test_shown(das: Das) -> None:
    said = das("settings", "MF")
    assert said.code == 0
    assert "epochs" in said.out
    assert "whole number, at least 1" in said.out
    assert "--set mf.NAME=VALUE" in said.out
    found = das("settings", "svp_bias", "--json").json
    assert {one["name"]: one["default"] for one in found["settings"]}["proxy_epochs"] == 50
    assert "no settings of its own" in das("settings", "random").out
    assert "infinite_ae" in das("settings").out


def test_without_ray() -> None:
    script = """
import sys
from distill_at_scale.pipelines.settings import list_settings
for name in (None, "ease", "svp_mf"):
    list_settings(name=name)
print([name for name in ("ray", "torch") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"mf.epochs": 5.5}, "mf: setting 'epochs': 5.5 is not a whole number"),
        ({"distill_cf.steps": 0}, "distill_cf: setting 'steps': 0 must be at least 1"),
        ({"distill_cf.users": 5}, "distill_cf: users is given by the budgets"),
        ({"farzi.seed": 5}, "farzi: seed is given by the seeds"),
        ({"farzi.student": "mf"}, "farzi: setting 'student': 'mf' is not one of sasrec, gru4rec"),
        ({"svp_bias.proxy_epochs": "many"}, "svp_bias: setting 'proxy_epochs': 'many' is not a whole number"),
        ({"svp_bias.proxy_epoch": 1}, r"svp_bias: unknown setting 'proxy_epoch'.*Did you mean 'proxy_epochs'\?"),
        ({"random.share": 1}, "random: unknown setting 'share'; the settings are: none"),
        ({"eese.lam": 1}, r"--set eese\.lam: name what it is a setting of.*Did you mean 'ease'\?"),
        ({"lam": 1}, "--set lam: name what it is a setting of, as ease.lam=1"),
    ],
)
def test_settings_of_many_are_checked(given: dict[str, object], says: str) -> None:
    with pytest.raises(SettingError, match=says):
        own_settings.by_owner(given, (*MODELS, *METHODS), "ease.lam=1")


def test_settings_by_owner() -> None:
    found = own_settings.by_owner({"MF.epochs": 5, "mf.dim": 8, "svp_mf.gpu": True}, (*MODELS, *METHODS), "")
    assert found == {"mf": {"epochs": 5, "dim": 8}, "svp_mf": {"gpu": True}}
