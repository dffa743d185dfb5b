"""The verbs of `das`: the settings of each, the function that runs it, and the function that prints its result.

A new verb needs a model of its settings in `config`, a file in `pipelines`, and one line here; one line in the
package's `__init__` also makes it a function of the Python API. A verb of another package is a :class:`Verb` with a
full ``home``, named by an entry point::

    COUNT = Verb(CountConfig, home="mypackage.verbs:count")

    [project.entry-points."distill_at_scale.verbs"]
    count = "mypackage.verbs:COUNT"

Then it is `das count`; without an entry point it is `das mypackage.verbs:COUNT`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from distill_at_scale import config
from distill_at_scale.errors import PluginError
from distill_at_scale.registry import OUTSIDE_VERBS, is_spec


def _dump(result: BaseModel) -> dict[str, Any]:
    return result.model_dump(mode="json")


def _summary(dataset: Any) -> dict[str, Any]:
    return dict(dataset.summary())


def _report(name: str) -> Callable[[Any], Any]:
    """Returns a function of `report`, which is imported on the first call, since figures and tables load slowly."""

    def call(result: Any) -> Any:
        return getattr(importlib.import_module("distill_at_scale.report"), name)(result)

    return call


_show_result = _report("show_result")


@dataclass(frozen=True)
class Verb:
    """How a verb is parsed, run and shown.

    Attributes:
        model: Model of its settings.
        show: Prints the result for people; default: one line per field.
        as_json: Converts the result for ``--json``.
        positional: Setting that may be given without an option.
        keep: Writes files that are made from the result only on the command line, such as figures.
        home: ``module:function`` in `pipelines`, or a full ``package.module:function``; default: both have the verb's
            name.
        rest: Whether another verb's options may follow the positional setting.
        plans: Whether the help lists ``--plan``.
    """

    model: type[BaseModel]
    show: Callable[[Any], None] = _show_result
    as_json: Callable[[Any], dict[str, Any]] = _dump
    positional: str | None = None
    keep: Callable[[Any], None] | None = None
    home: str | None = None
    rest: bool = False
    plans: bool = False


VERBS = {
    "quickstart": Verb(config.QuickstartConfig, _report("show_quickstart"), keep=_report("keep_quickstart")),
    "fetch": Verb(config.FetchConfig, _report("show_fetched"), _report("fetched_json"), "name"),
    "prepare": Verb(config.PrepareConfig, _report("show_dataset"), _summary, plans=True),
    "inspect": Verb(config.InspectConfig, _report("show_inspected"), _summary, "data"),
    "fit": Verb(config.FitConfig, _report("show_fit"), plans=True),
    "evaluate": Verb(config.EvaluateConfig, _report("show_evaluation"), plans=True),
    "predict": Verb(config.PredictConfig, _report("show_predictions"), plans=True),
    "sample": Verb(config.SampleConfig, _report("show_samples"), plans=True),
    "attribute": Verb(config.AttributeConfig, _report("show_attributed"), plans=True),
    "distill": Verb(config.DistillConfig, _report("show_distilled"), plans=True),
    "forget": Verb(config.ForgetConfig, _report("show_forgotten"), plans=True),
    "export": Verb(config.ExportConfig, _report("show_export"), plans=True),
    "expand": Verb(config.ExpandConfig, _report("show_expansion"), plans=True),
    "compare": Verb(config.CompareConfig, _report("show_comparison"), keep=_report("keep_comparison"), plans=True),
    "sweep": Verb(config.SweepConfig, _report("show_sweep"), plans=True),
    "forecast": Verb(config.ForecastConfig, _report("show_forecast"), keep=_report("keep_forecast"), plans=True),
    "tune": Verb(config.TuneConfig, _report("show_tuned"), keep=_report("keep_tuned"), plans=True),
    "report": Verb(config.ReportConfig, _report("show_report"), keep=_report("keep_report")),
    "recommend": Verb(config.RecommendConfig, _report("show_recommendation"), plans=True),
    "genie train": Verb(config.GenieTrainConfig, _report("show_genie"), home="genie:genie_train"),
    "settings": Verb(config.SettingsConfig, _report("show_settings"), positional="name", home="settings:list_settings"),
    "submit": Verb(config.SubmitConfig, _report("show_job"), positional="verb", rest=True),
    "doctor": Verb(config.DoctorConfig, _report("show_checks"), _report("checks_json")),
}
"""The verbs of das; :func:`load_outside` adds those of other packages."""

PLAN = Verb(BaseModel, _report("show_plan"))
"""How the plan of any verb is shown."""

GROUPS = {"genie": "Commands for training your own Data-Genie."}
"""First words of two-word verbs, and their help."""

_OWN = {*VERBS, *GROUPS}


def load_outside(word: str | None) -> dict[str, str]:
    """Adds verbs of other packages to :data:`VERBS`: the one with which a call begins, or all if it begins with none.

    Nothing is imported for a verb of das, so that a package that cannot be imported stops only its own verbs.

    Args:
        word: First word of the call: a verb, or ``package.module:OBJECT``; None: the call has none.

    Returns:
        Name of each verb that cannot be used -> the reason, as a sentence.
    """
    if word in _OWN:
        return {}
    found: dict[str, str] = {}
    for name in [word] if word is not None and (is_spec(word) or word in OUTSIDE_VERBS) else OUTSIDE_VERBS:
        if name in _OWN:
            found[name] = "das has one of that name."
            continue
        try:
            VERBS[name] = OUTSIDE_VERBS.find(name)
        except PluginError as error:
            found[name] = str(error)
    return found


def run(name: str, settings: BaseModel) -> Any:
    """Runs a verb; its pipeline is imported here, since Ray and torch take seconds to import."""
    module, _, function = (VERBS[name].home or f"{name}:{name}").partition(":")
    place = module if "." in module else f"distill_at_scale.pipelines.{module}"
    return getattr(importlib.import_module(place), function)(settings)
