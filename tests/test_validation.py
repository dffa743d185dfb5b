"""What pydantic finds wrong, as sentences; names as people type them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from distill_at_scale import errors, validation
from distill_at_scale.cli import options
from distill_at_scale.cli.verbs import VERBS
from distill_at_scale.errors import BudgetError, DasError, SettingError, rebuilt
from distill_at_scale.registry import MODELS


class Thing(BaseModel):
    """Settings of all kinds."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    place: str
    """Where it lies; anywhere."""
    name: Annotated[str, validation.OneOf(lambda: ("alpha", "beta"))] = "alpha"
    many: list[Annotated[int, Field(gt=0)]] = Field([1], min_length=1)
    either: float | Literal["auto"] = "auto"
    flag: bool = False
    letter: str | None = Field(None, min_length=1, max_length=1)
    mapping: dict[str, int] = Field(default_factory=dict)


def said(**given: Any) -> str:
    """What is wrong with settings."""
    with pytest.raises(ValidationError) as raised:
        Thing.model_validate(given)
    return validation.explain(raised.value, Thing)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "'place' is missing (where it lies)."),
        (
            {"plaec": "x"},
            "unknown setting 'plaec'; the settings are: either, flag, letter, many, map",
        ),
        ({"place": 3}, "setting 'place': 3 is not text."),
        ({"place": "x", "name": "betta"}, "setting 'name': 'betta' is not one of alpha, beta. Did you mean 'beta'?"),
        ({"place": "x", "many": []}, "setting 'many': [] holds too few values; give at least one."),
        ({"place": "x", "many": [1, 0]}, "setting 'many': 0 must be above 0."),
        ({"place": "x", "many": 3}, "setting 'many': 3 is not a list."),
        ({"place": "x", "either": "soon"}, "setting 'either': 'soon' is not a number."),
        ({"place": "x", "flag": "perhaps"}, "setting 'flag': 'perhaps' is neither true nor false."),
        ({"place": "x", "letter": "ab"}, "setting 'letter': 'ab' must have one character."),
        ({"place": "x", "mapping": {"a": "b"}}, "setting 'mapping': 'b' is not a whole number."),
        ({"place": "x", "mapping": "s3://key:secret@host/x"}, "is not a mapping of names to values."),
    ],
)
def test_sentences(given: dict[str, Any], sentence: str) -> None:
    found = said(**given)
    assert sentence in found
    assert "secret" not in found


def test_all_at_once() -> None:
    assert said(name="x", flag=7) == (
        "'place' is missing (where it lies). setting 'name': 'x' is not one of alpha, beta. "
        "setting 'flag': 7 is neither true nor false."
    )


def test_names_as_they_are_typed() -> None:
    names = ["ease", "svd_ae", "infinite_ae", "mf"]
    for given, meant in (("EASE", "ease"), ("Svd-AE", "svd_ae"), (" mf ", "mf"), ("eas", None)):
        assert validation.same_name(given, names) == meant
    for given, near in (("eas", "ease"), ("SVDAE", "svd_ae"), ("infinite", "infinite_ae"), ("xyz", None)):
        assert validation.closest(given, names) == near
    assert MODELS.find("EASE") is MODELS["ease"]
    with pytest.raises(SettingError, match=r"Unknown model 'eas'; the models are .* Did you mean 'ease'\?"):
        MODELS.find("eas")


def test_pairs_at_commas() -> None:
    for given, pairs in (
        (["epochs=5,dim=8"], {"epochs": 5, "dim": 8}),
        (["mf.epochs=5,ease.lam=2.5", "x=1"], {"mf.epochs": 5, "ease.lam": 2.5, "x": 1}),
        (["grid=[1, 2]"], {"grid": [1, 2]}),
    ):
        assert options.settings_of(VERBS["fit"], {"set": given}) == {"set": pairs}
    # A column's name may hold a comma.
    assert options.settings_of(VERBS["prepare"], {"map": ["user_id=a,b"]}) == {"map": {"user_id": "a,b"}}


def test_errors_of_other_processes() -> None:
    for kind in (SettingError, errors.DamagedFileError, errors.ClusterError, DasError):
        found = rebuilt(kind.__name__, "it failed")
        assert (type(found), str(found)) == (kind, "it failed")
    assert type(rebuilt("ErrorOfAnotherRelease", "x")) is DasError
    # Its sentence is composed of what did not come along.
    assert str(rebuilt(BudgetError.__name__, "x")) == "x"
