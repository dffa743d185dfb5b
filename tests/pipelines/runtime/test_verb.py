"""Verbs take configs, settings by position or name, and objects for addresses; their signatures are their settings."""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import scipy.sparse as sp
from pydantic import Field

import distill_at_scale as das
from distill_at_scale import logs
from distill_at_scale.cli.verbs import VERBS
from distill_at_scale.config.values import Verb
from distill_at_scale.errors import SettingError
from distill_at_scale.pipelines.runtime import progress
from distill_at_scale.pipelines.runtime.verb import verb


class ToyConfig(Verb):
    """Settings of a toy."""

    data: str
    """Dataset to use."""
    model: str = "ease"
    """Model to use."""
    samples: list[str] = Field(default_factory=list)
    """Small datasets."""
    seed: int = 0
    """Random seed."""


@verb(ToyConfig, "data", "model", objects=("model",))
def toy(config: ToyConfig, model: Any = None) -> tuple[ToyConfig, Any]:
    """Does nothing.

    Raises:
        DasError: never.
    """
    progress.say("a note")
    return config, model


@dataclass
class At:
    """Something with an address."""

    uri: str


@dataclass
class Several:
    samples: list[At]


def test_settings_come_by_position_by_name_or_in_a_config() -> None:
    expected = ToyConfig(data="d", model="m", seed=3)
    for config, _ in (
        toy("d", "m", seed=3),
        toy(data="d", model="m", seed=3),
        toy(ToyConfig(data="d", model="m", seed=3)),
        toy(ToyConfig(data="d", model="m"), seed=3),
        toy(At("d"), Path("m"), seed=3),
    ):
        assert config == expected


@pytest.mark.parametrize("given", [[At("a"), "b"], {0.5: At("a"), 0.1: At("b")}, Several([At("a"), At("b")])])
def test_lists_take_objects_mappings_and_results(given: Any) -> None:
    assert toy("d", samples=given)[0].samples == ["a", "b"]
    assert toy("d", samples=[given, "c"])[0].samples == ["a", "b", "c"]
    assert toy("d", samples="a")[0].samples == ["a"]


def test_a_model_in_memory_reaches_the_verb() -> None:
    model = das.models.Popularity().fit(sp.csr_array([[1.0]]))
    config, held = toy("d", model)
    assert held is model
    assert config.model == "popularity (in memory)"


@pytest.mark.parametrize(
    ("args", "given", "sentence"),
    [
        (("d", "m", "x"), {}, "toy: only data, model can be given by position; name the others"),
        (("d",), {"data": "e"}, "toy: data is given twice, by position and by name."),
        ((7,), {}, "setting 'data': 7 is not text"),
        ((object(),), {}, "toy: data takes an address or an object that has one, not a object."),
        (("d",), {"sed": 1}, "seed"),
        ((), {}, "data"),
        ((das.models.Popularity(),), {}, "toy: data takes an address; save the model there first"),
    ],
)
def test_wrong_calls_are_sentences(args: tuple[Any, ...], given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingError, match=sentence):
        toy(*args, **given)


def test_signature_and_docstring_are_the_settings() -> None:
    assert str(inspect.signature(toy)).startswith(
        "(data: str, model: str = 'ease', *, samples: list[str] = [], seed: int = 0) ->"
    )
    assert inspect.getdoc(toy) == (
        "Does nothing.\n\nArgs:\n    data: Dataset to use.\n    model: Model to use. Default: 'ease'.\n"
        "    samples: Small datasets. Default: [].\n    seed: Random seed. Default: 0.\n\nRaises:\n    DasError: never."
    )


@pytest.mark.parametrize("name", [name for name in VERBS if name not in ("report", "settings")])
def test_every_verb_shows_all_its_settings(name: str) -> None:
    function, settings = getattr(das, name.replace(" ", "_")), VERBS[name].model
    parameters = inspect.signature(function).parameters
    assert set(parameters) == set(settings.model_fields)
    documented = inspect.getdoc(function) or ""
    assert all(f"\n    {field}: " in documented for field in settings.model_fields)


def test_notes_are_shown_where_no_logging_is_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    toy("d")
    assert capsys.readouterr().err == "a note\n"
    assert logs.PACKAGE.handlers == []
    logs.PACKAGE.addHandler(silent := logging.NullHandler())
    try:
        toy("d")
    finally:
        logs.PACKAGE.removeHandler(silent)
    assert capsys.readouterr().err == ""


def test_the_programs_own_logging_gets_what_it_asks_for(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        toy("d")
    assert caplog.messages == ["a note"]
    assert capsys.readouterr().err == ""
    caplog.clear()
    # Set up for warnings only: notes appear on standard error, warnings once, where the program wants them.
    with logs.shown_by_default():
        logs.PACKAGE.info("a note")
        logs.PACKAGE.warning("beware")
    assert caplog.messages == ["beware"]
    assert capsys.readouterr().err == "a note\n"
